//! HTML: one page that needs nothing else, for an office to read and to print.
//!
//! Nothing in it runs or is fetched: the policy forbids everything but its own style sheet, which
//! it names by its digest. Whatever comes from servers and users is escaped.

use std::io::{self, Write};

use super::text::verdict;
use super::words::Words;
use super::{Account, Lang, Message, Place, Row};

/// Beyond so many messages an account's page lists the exceptions only: browsers give up, and
/// JSON and CSV have them all.
const MESSAGES_MAX: u64 = 10_000;

const STYLE: &str = "body{font:16px/1.5 sans-serif;margin:2em auto;max-width:64em;padding:0 1em;color:#222}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}\
table{border-collapse:collapse;width:100%}\
th,td{border:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top;overflow-wrap:anywhere}\
th{background:#f2f2f2}td.n{text-align:right;white-space:nowrap}\
code{font:.85em monospace;overflow-wrap:anywhere}\
.good,.warn,.bad{padding:1em;border-left:.5em solid}\
.good{background:#e8f5e9;border-color:#2e7d32}\
.warn{background:#fff8e1;border-color:#f9a825}\
.bad{background:#ffebee;border-color:#c62828}\
@media print{details{display:none}}";

/// SHA-256 of [`STYLE`] in base64; a test recomputes it.
const STYLE_DIGEST: &str = "gjgmaZl9gOv3lz5SP5+Om5x/2xjV8SLGzzJjXuNfkR4=";

pub(super) struct Html {
    lang: Lang,
    words: &'static Words,
    account: Account,
    /// What is open and has to be closed.
    open: Open,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Exceptions,
    Folder,
}

impl Html {
    pub fn begin(out: &mut impl Write, lang: Lang) -> io::Result<Html> {
        let words = lang.words();
        write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             style-src 'sha256-{STYLE_DIGEST}'; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
            words.code, words.title,
        )?;
        Ok(Html { lang, words, account: Account::default(), open: Open::Nothing })
    }

    pub fn take(&mut self, out: &mut impl Write, row: Row) -> io::Result<()> {
        match row {
            Row::Account(account) => {
                (self.account, self.open) = (*account, Open::Nothing);
                self.head(out)
            }
            Row::Exception(message) => {
                if self.open == Open::Nothing {
                    self.open = Open::Exceptions;
                    self.table(out, true)?;
                }
                self.message(out, &message, true)
            }
            Row::Folder(at) if !self.lists_all() || self.is_empty(at) => Ok(()),
            Row::Message(_) if !self.lists_all() => Ok(()),
            Row::Folder(at) => self.folder(out, at),
            Row::Message(message) => self.message(out, &message, false),
            Row::End { changed } => self.end_account(out, changed),
        }
    }

    pub fn end(self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "</body>\n</html>")
    }

    fn lists_all(&self) -> bool {
        self.account.totals.known() <= MESSAGES_MAX
    }

    fn is_empty(&self, folder: usize) -> bool {
        let folder = self.account.folders.get(folder);
        folder.is_none_or(|folder| folder.totals.known() == 0)
    }

    fn head(&self, out: &mut impl Write) -> io::Result<()> {
        let (account, words) = (&self.account, self.words);
        writeln!(out, "<h1>{}</h1>", words.title)?;
        let class = match account.phase.as_str() {
            "closed" => "bad",
            "completed" | "archiving" if account.totals.refused + account.totals.altered == 0 => {
                "good"
            }
            _ => "warn",
        };
        writeln!(out, "<p class=\"{class}\">{}</p>\n<table>", verdict(account, words))?;
        let place = |place: &Place| {
            if place.user == account.address {
                escaped(&place.host)
            } else {
                format!("{}, {} {}", escaped(&place.host), words.user, escaped(&place.user))
            }
        };
        let time = |time: &Option<String>| {
            time.as_ref().map_or_else(|| "–".to_owned(), |time| escaped(&self.lang.time(time)))
        };
        for (name, value) in [
            (words.account, format!("<b>{}</b>", escaped(&account.address))),
            (words.migration, escaped(&account.migration)),
            (words.phase, escaped(self.lang.phase(&account.phase))),
            (words.source, place(&account.source)),
            (words.target, place(&account.target)),
            (words.sealed, time(&account.sealed_at)),
            (words.completed, time(&account.completed_at)),
            (words.source_seen_until, time(&account.source_seen_until)),
            (words.written, time(&Some(account.written_at.clone()))),
            (words.digest, format!("<code>{}</code>", escaped(&account.digest))),
        ] {
            writeln!(out, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>")?;
        }
        if let Some(archive) = &account.archive {
            let (name, value) = (words.archive, place(archive));
            writeln!(out, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>")?;
        }
        writeln!(out, "</table>")?;
        self.folders(out)?;
        writeln!(out, "<h2>{}</h2>", words.exceptions)?;
        if account.totals.refused + account.totals.altered == 0 {
            writeln!(out, "<p>{}</p>", words.no_exceptions)?;
        }
        Ok(())
    }

    fn folders(&self, out: &mut impl Write) -> io::Result<()> {
        let words = self.words;
        writeln!(out, "<h2>{}</h2>\n<table>\n<tr>", words.folders)?;
        for title in [
            words.folder,
            words.folder_at_target,
            words.at_source,
            words.with_copy,
            words.missing,
            words.many_refused,
            words.many_altered,
            words.bytes,
        ] {
            write!(out, "<th scope=\"col\">{title}</th>")?;
        }
        writeln!(out, "</tr>")?;
        let all = super::Folder {
            name: words.all.to_owned(),
            target: String::new(),
            totals: self.account.totals,
        };
        for folder in self.account.folders.iter().chain([&all]) {
            let totals = folder.totals;
            write!(
                out,
                "<tr><td>{}</td><td>{}</td>",
                escaped(&folder.name),
                escaped(&folder.target)
            )?;
            for number in [
                totals.source,
                Some(totals.linked()),
                totals.missing,
                Some(totals.refused),
                Some(totals.altered),
                Some(totals.bytes),
            ] {
                write!(out, "<td class=\"n\">{}</td>", self.lang.known(number))?;
            }
            writeln!(out, "</tr>")?;
        }
        writeln!(out, "</table>")?;
        if !self.account.left_out.is_empty() {
            writeln!(out, "<h2>{}</h2>\n<ul>", words.left_out)?;
            for left_out in &self.account.left_out {
                let (name, why) = (escaped(&left_out.name), escaped(&left_out.why));
                writeln!(out, "<li>{name} ({}) {why}</li>", escaped(&left_out.state))?;
            }
            writeln!(out, "</ul>")?;
        }
        Ok(())
    }

    fn table(&self, out: &mut impl Write, with_folder: bool) -> io::Result<()> {
        let words = self.words;
        write!(out, "<table>\n<tr>")?;
        let folder = with_folder.then_some(words.folder);
        for title in folder.into_iter().chain([
            words.source_uid,
            words.target_uid,
            words.size,
            words.instant,
            "SHA-256",
            words.state,
            words.proof,
            words.reason,
        ]) {
            write!(out, "<th scope=\"col\">{title}</th>")?;
        }
        writeln!(out, "</tr>")
    }

    fn message(
        &self,
        out: &mut impl Write,
        message: &Message,
        with_folder: bool,
    ) -> io::Result<()> {
        let known = |text: Option<String>| escaped(&text.unwrap_or_else(|| "–".to_owned()));
        write!(out, "<tr>")?;
        if with_folder {
            let name = self.account.folders.get(message.folder).map(|folder| folder.name.clone());
            write!(out, "<td>{}</td>", known(name))?;
        }
        writeln!(
            out,
            "<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td>\
             <td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            message.source_uid,
            known(message.target_uid.map(|uid| uid.to_string())),
            known(message.size.map(|size| self.lang.count(size))),
            known(message.instant.clone()),
            known(message.sha256.clone()),
            self.lang.state(message.state),
            self.lang.depth(message.proof),
            escaped(&self.lang.reason(message)),
        )
    }

    fn folder(&mut self, out: &mut impl Write, at: usize) -> io::Result<()> {
        self.close(out)?;
        if self.open != Open::Folder {
            writeln!(out, "<h2>{}</h2>", self.words.messages)?;
        }
        self.open = Open::Folder;
        let Some(folder) = self.account.folders.get(at) else { return Ok(()) };
        let count = self.lang.count(folder.totals.known());
        let name = escaped(&folder.name);
        writeln!(out, "<details>\n<summary>{name} ({count})</summary>")?;
        self.table(out, false)
    }

    fn close(&self, out: &mut impl Write) -> io::Result<()> {
        match self.open {
            Open::Nothing => Ok(()),
            Open::Exceptions => writeln!(out, "</table>"),
            Open::Folder => writeln!(out, "</table>\n</details>"),
        }
    }

    fn end_account(&mut self, out: &mut impl Write, changed: bool) -> io::Result<()> {
        self.close(out)?;
        self.open = Open::Nothing;
        let (words, totals) = (self.words, self.account.totals);
        if !self.lists_all() {
            writeln!(out, "<p>{}</p>", words.too_many)?;
        }
        let count = |number| self.lang.count(number);
        writeln!(
            out,
            "<h2>{}</h2>\n<p>{}</p>\n<p>{}: {}; {}: {}; {}: {}.</p>\n<p>{}</p>\n<p>{}</p>",
            words.proof,
            words.proof_note,
            words.listed,
            count(totals.listed),
            words.read_back,
            count(totals.read_back),
            words.verified,
            count(totals.verified),
            words.digest_note,
            words.not_moved,
        )?;
        if changed {
            writeln!(out, "<p class=\"bad\">{}</p>", words.changed)?;
        }
        writeln!(out, "<p><small>pecsync {}</small></p>\n<hr>", escaped(&self.account.version))
    }
}

/// Safe between tags and inside attributes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn nothing_that_is_escaped_is_markup() {
        let expected = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp;amp; &#39;";
        assert_eq!(escaped("<script>alert(\"1\")</script> &amp; '"), expected);
    }

    #[test]
    fn the_policy_names_the_style() {
        assert_eq!(base64(&Sha256::digest(STYLE)), STYLE_DIGEST, "put this one into STYLE_DIGEST");
    }

    fn base64(octets: &[u8]) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in octets.chunks(3) {
            let number = (0..3).fold(0usize, |number, place| {
                number << 8 | usize::from(group.get(place).copied().unwrap_or(0))
            });
            for place in 0..4 {
                let letter = LETTERS[number >> (18 - 6 * place) & 63];
                text.push(if place <= group.len() { char::from(letter) } else { '=' });
            }
        }
        text
    }
}
