//! What is wrong with a file, said to the one who can mend it; and the sink that gathers all of
//! it while one file is read.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file of noise must not become a report of thousands of lines.
pub(super) const PROBLEMS_PER_FILE_MAX: usize = 20;

/// How much of a file's own words a message repeats.
const QUOTED_CHARS_MAX: usize = 80;

/// Something wrong with a file, for the one who can mend it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// As the operator would name it: relative to the configuration's directory where it is below.
    pub file: PathBuf,
    /// From 1; 0 where the problem is not in one place.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Problem {
    /// A problem of the file as a whole.
    pub(crate) fn of_file(file: &Path, wrong: Wrong) -> Problem {
        let Wrong { message, hint } = wrong;
        Problem { file: file.to_owned(), line: 0, column: 0, message, hint }
    }
}

/// `mario.toml:7:1: unknown key "pasword"; did you mean "password"?`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape_controls(f, &self.file.to_string_lossy())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        escape_controls(f, &self.message)?;
        if !self.hint.is_empty() {
            f.write_str("; ")?;
            escape_controls(f, &self.hint)?;
        }
        Ok(())
    }
}

fn escape_controls(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut chars = text.chars();
    chars.try_for_each(|c| match c.is_control() {
        true => write!(f, "{}", c.escape_default()),
        false => write!(f, "{c}"),
    })
}

/// A problem before it has a place: what is wrong with a value, and the remedy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    pub message: String,
    pub hint: String,
}

impl Wrong {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Wrong {
        Wrong { message: message.into(), hint: hint.into() }
    }
}

/// `message; hint`, as in [`Problem`].
impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hint.as_str() {
            "" => f.write_str(&self.message),
            hint => write!(f, "{}; {hint}", self.message),
        }
    }
}

/// Gathers the problems of one file while it is read.
pub(super) struct Sink<'t> {
    /// As the operator would name it.
    pub file: &'t Path,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    left_out: Cell<usize>,
}

impl<'t> Sink<'t> {
    pub fn new(file: &'t Path, text: &'t str) -> Sink<'t> {
        Sink {
            file,
            text,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            left_out: Cell::new(0),
        }
    }

    /// A problem with what stands at these octets.
    pub fn wrong(&self, at: &Range<usize>, wrong: Wrong) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < PROBLEMS_PER_FILE_MAX {
            problems.push(self.placed(at, wrong));
        } else {
            self.left_out.set(self.left_out.get() + 1);
        }
    }

    /// A problem of the file as a whole.
    pub fn wrong_file(&self, wrong: Wrong) {
        self.problems.borrow_mut().push(Problem::of_file(self.file, wrong));
    }

    /// Something the operator should know, that stops nothing.
    pub fn warn(&self, at: &Range<usize>, wrong: Wrong) {
        self.warnings.borrow_mut().push(self.placed(at, wrong));
    }

    pub fn is_empty(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// Whether a line already has a problem: what follows from a slip of syntax is noise.
    pub fn has_line_of(&self, at: &Range<usize>) -> bool {
        let (line, _) = position(self.text, at.start);
        self.problems.borrow().iter().any(|problem| problem.line == line)
    }

    pub fn placed(&self, at: &Range<usize>, Wrong { message, hint }: Wrong) -> Problem {
        let (line, column) = position(self.text, at.start);
        Problem { file: self.file.to_owned(), line, column, message, hint }
    }

    /// Problems and warnings, in the order of the file.
    pub fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        let (mut problems, mut warnings) = (self.problems.into_inner(), self.warnings.into_inner());
        problems.sort();
        warnings.sort();
        if self.left_out.get() > 0 {
            let message = format!("{} more problems are not shown", self.left_out.get());
            problems.push(Problem::of_file(self.file, Wrong::new(message, "")));
        }
        (problems, warnings)
    }
}

/// Line and column, in characters and from 1, of an offset in octets.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |end| end + 1);
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
    (line, column)
}

/// Somebody's own words within a message: cut, and harmless on a terminal. A quote that is not
/// closed makes the lines after it part of a value, and with them a password: the words end
/// where another key could begin.
pub(super) fn quoted(text: &str) -> String {
    let line_end = text.find(['\r', '\n']);
    let key = text.find('=').and_then(|equals| text[..equals].find(['"', '\'']));
    let long = text.char_indices().nth(QUOTED_CHARS_MAX).map(|(end, _)| end);
    match [line_end, key, long].into_iter().flatten().min() {
        Some(end) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The known word that was probably meant.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_lowercase();
    let ranked = known.into_iter().map(|known| (edits(&word, &known.to_lowercase()), known));
    let (distance, nearest) = ranked.min_by_key(|(distance, _)| *distance)?;
    (distance <= (nearest.chars().count() / 3).clamp(1, 3)).then_some(nearest)
}

/// Insertions, deletions, replacements and swaps of neighbours that lie between two words.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_1() {
        #[track_caller]
        fn check(text: &str, sought: &str, expected: (usize, usize)) {
            assert_eq!(position(text, text.find(sought).unwrap()), expected);
        }
        check("x", "x", (1, 1));
        check("a\nbx", "x", (2, 2));
        check("è = x", "x", (1, 5));
        check("a\r\n\r\n x", "x", (3, 2));
        assert_eq!(position("a\n", 99), (2, 1));
    }

    #[test]
    fn the_nearest_word_is_named_only_when_it_is_near() {
        #[track_caller]
        fn check(word: &str, expected: Option<&str>) {
            let known = ["password", "password_file", "user", "tls", "host"];
            assert_eq!(nearest(word, known), expected);
        }
        check("pasword", Some("password"));
        check("passwrod", Some("password"));
        check("Password", Some("password"));
        check("passwordfile", Some("password_file"));
        check("usr", Some("user"));
        check("ssl", Some("tls").filter(|_| edits("ssl", "tls") < 2));
        check("hostname", None);
        check("", None);
    }

    #[test]
    fn words_end_where_another_key_could_begin() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(quoted(text), expected);
        }
        check("L'archivio", "\"L'archivio\"");
        check("a\u{1b}[31m\u{202e}", r#""a\u{1b}[31m\u{202e}""#);
        check("x\npassword = 'hunter2'", "\"x\"…");
        check("x', password = 'hunter2'", "\"x\"…");
        check(&"è".repeat(81), &format!("\"{}\"…", "è".repeat(80)));
    }

    #[test]
    fn noise_is_cut() {
        let sink = Sink::new(Path::new("x.toml"), "");
        (0..50).for_each(|_| sink.wrong(&(0..0), Wrong::new("no", "")));
        let (problems, _) = sink.finish();
        assert_eq!(problems.len(), PROBLEMS_PER_FILE_MAX + 1);
        assert_eq!(problems.last().unwrap().to_string(), "x.toml: 30 more problems are not shown");
    }

    #[test]
    fn display_is_what_an_editor_jumps_to() {
        let problem = Problem {
            file: "a\u{1b}.toml".into(),
            line: 7,
            column: 1,
            message: "unknown key \"pasword\"".into(),
            hint: "did you mean \"password\"?".into(),
        };
        let shown = r#"a\u{1b}.toml:7:1: unknown key "pasword"; did you mean "password"?"#;
        assert_eq!(problem.to_string(), shown);
    }
}
