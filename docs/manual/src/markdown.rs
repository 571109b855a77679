//! The Markdown of `docs/` as roff, for man(7): headings, paragraphs, tables, lists, code. Anything
//! else in it is an error of the generator, not silence.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use roff::{Inline, Roff, bold, italic, roman};

/// From a heading of this text down to the next of its level or above; without the heading.
pub fn chapter<'m>(manual: &'m str, heading: &str) -> &'m str {
    let (level, title) = heading.split_once(' ').expect("hashes and a title");
    let start = manual.find(&format!("\n{level} {title}\n"));
    let start = start.unwrap_or_else(|| panic!("the manual has no {heading}"));
    let body = &manual[start + heading.len() + 2..];
    let next = body.match_indices("\n#").map(|(at, _)| at + 1).find(|at| {
        let hashes = body[*at..].bytes().take_while(|octet| *octet == b'#').count();
        hashes <= level.len() && !inside_code(&body[..*at])
    });
    &body[..next.unwrap_or(body.len())]
}

/// A `#` there is a comment.
fn inside_code(text: &str) -> bool {
    text.lines().filter(|line| line.starts_with("```")).count() % 2 == 1
}

/// Appends what stands below a section's heading; headings in it become subsections.
pub fn append(page: &mut Roff, markdown: &str) {
    let mut writer = Writer {
        page,
        line: Vec::new(),
        weight: Weight::Plain,
        table: Table::default(),
        number: None,
        headed: true,
    };
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        writer.take(event);
    }
}

/// A heading as an argument of .SH or .SS, in which a quote would end it.
pub fn heading(page: &mut Roff, request: &str, title: &str) {
    let title = title.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    page.control(request, [title.as_str()]);
}

/// Lines as they are.
pub fn verbatim(page: &mut Roff, text: &str) {
    page.control("RS", ["4"]).control("nf", []);
    for line in text.trim_end().lines() {
        // An empty line is a new paragraph to some.
        match line {
            "" => page.control("sp", []),
            line => page.text([roman(line)]),
        };
    }
    page.control("fi", []).control("RE", []);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    Plain,
    Bold,
    Italic,
}

#[derive(Default)]
struct Table {
    heads: Vec<String>,
    cells: Vec<Vec<Inline>>,
}

struct Writer<'p> {
    page: &'p mut Roff,
    /// What stands since the last break.
    line: Vec<Inline>,
    weight: Weight,
    table: Table,
    /// Of the next item of a list that is numbered.
    number: Option<u64>,
    /// Nothing stands below the last heading yet.
    headed: bool,
}

impl Writer<'_> {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(Tag::Paragraph) => {
                // A heading has begun one.
                if !std::mem::take(&mut self.headed) {
                    self.page.control("PP", []);
                }
            }
            Event::End(TagEnd::Paragraph) => self.end_line(),
            Event::End(TagEnd::Heading(_)) => {
                let title = plain(&std::mem::take(&mut self.line));
                heading(self.page, "SS", &title);
                self.headed = true;
            }
            Event::Start(Tag::List(first)) => self.number = first,
            Event::Start(Tag::Item) => {
                match &mut self.number {
                    None => self.page.control("IP", ["\\(bu", "2"]),
                    Some(number) => {
                        *number += 1;
                        self.page.control("IP", [&*format!("{}.", *number - 1), "4"])
                    }
                };
                // It may hold paragraphs, of which it has begun the first.
                self.headed = true;
            }
            Event::End(TagEnd::Item) => {
                self.end_line();
                self.headed = false;
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_))) => {}
            Event::End(TagEnd::CodeBlock) => {
                let text = plain(&std::mem::take(&mut self.line));
                verbatim(self.page, &text);
                self.headed = false;
            }
            Event::End(TagEnd::TableCell) => self.table.cells.push(std::mem::take(&mut self.line)),
            Event::End(TagEnd::TableHead) => {
                self.table.heads = self.table.cells.drain(..).map(|cell| plain(&cell)).collect();
            }
            Event::End(TagEnd::TableRow) => self.end_row(),
            Event::Start(Tag::Strong) => self.weight = Weight::Bold,
            Event::Start(Tag::Emphasis) => self.weight = Weight::Italic,
            Event::End(TagEnd::Strong | TagEnd::Emphasis) => self.weight = Weight::Plain,
            Event::Text(text) => self.line.push(match self.weight {
                Weight::Plain => roman(&*text),
                Weight::Bold => bold(&*text),
                Weight::Italic => italic(&*text),
            }),
            Event::Code(text) => self.line.push(bold(&*text)),
            Event::SoftBreak => self.line.push(roman("\n")),
            Event::Start(
                Tag::Heading { .. }
                | Tag::Link { .. }
                | Tag::Table(_)
                | Tag::TableHead
                | Tag::TableRow
                | Tag::TableCell,
            )
            | Event::End(TagEnd::Link | TagEnd::List(_) | TagEnd::Table) => {}
            other => panic!("the generator does not know {other:?}"),
        }
    }

    fn end_line(&mut self) {
        if !self.line.is_empty() {
            self.page.text(std::mem::take(&mut self.line));
        }
    }

    /// A row is an entry of a list: the first cell with those between, and the last one below.
    fn end_row(&mut self) {
        let mut cells = self.table.cells.drain(..);
        let mut tag = cells.next().expect("a first cell");
        let body = cells.next_back().expect("a last cell");
        for (head, cell) in self.table.heads.iter().skip(1).zip(cells) {
            if !["", "–"].contains(&plain(&cell).as_str()) {
                tag.push(roman(format!("   ({head}: ")));
                tag.extend(cell);
                tag.push(roman(")"));
            }
        }
        self.page.control("TP", []).text(tag);
        self.page.text(body);
        self.headed = false;
    }
}

fn plain(line: &[Inline]) -> String {
    let texts = line.iter().map(|inline| match inline {
        Inline::Roman(text) | Inline::Italic(text) | Inline::Bold(text) => text.as_str(),
        Inline::LineBreak => "\n",
    });
    texts.collect()
}
