//! Files read with a bound, and what their permissions say; the exact commands that mend them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use zeroize::Zeroizing;

use super::problem::{Problem, Wrong, quoted};

/// What was read of a file; wiped when dropped, since it may hold passwords.
pub(super) struct Text {
    pub text: Zeroizing<String>,
    /// Anybody on the machine can read it.
    pub others_read: bool,
    /// The user it belongs to.
    pub owner: u32,
}

impl Text {
    /// As if read from a file that nobody else can read.
    pub fn private(text: &str) -> Text {
        Text { text: Zeroizing::new(text.to_owned()), others_read: false, owner: 0 }
    }
}

/// Why a file could not be read, with its place where there is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Unreadable {
    pub line: usize,
    pub column: usize,
    pub wrong: Wrong,
}

impl Unreadable {
    pub fn problem(&self, file: &Path) -> Problem {
        let Wrong { message, hint } = self.wrong.clone();
        Problem { file: file.to_owned(), line: self.line, column: self.column, message, hint }
    }
}

impl From<Wrong> for Unreadable {
    fn from(wrong: Wrong) -> Unreadable {
        Unreadable { line: 0, column: 0, wrong }
    }
}

/// As [`Text`], in whatever encoding.
pub(super) struct Octets {
    pub octets: Zeroizing<Vec<u8>>,
    pub others_read: bool,
    pub owner: u32,
}

/// Reads a regular file of at most `octets_max` as UTF-8. `Ok(None)` where it has just vanished.
pub(super) fn read_text(
    path: &Path,
    octets_max: u64,
    follow_links: bool,
) -> Result<Option<Text>, Unreadable> {
    let Some(Octets { octets, others_read, owner }) = read_octets(path, octets_max, follow_links)?
    else {
        return Ok(None);
    };
    Ok(Some(Text { text: utf8(octets)?, others_read, owner }))
}

/// [`read_text`] in whatever encoding.
pub(super) fn read_octets(
    path: &Path,
    octets_max: u64,
    follow_links: bool,
) -> Result<Option<Octets>, Unreadable> {
    let file = match open(path, follow_links) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return vanished(path),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(a_link(path).into()),
        Err(error) => return Err(cannot_read(path, &error).into()),
    };
    let facts = file.metadata().map_err(|error| cannot_read(path, &error))?;
    if !facts.is_file() {
        return Err(Wrong::new("not a regular file", "put a file of text there").into());
    }
    let octets =
        read_bounded(file, facts.len(), octets_max).map_err(|error| cannot_read(path, &error))?;
    let octets = octets.ok_or_else(|| too_long(octets_max))?;
    Ok(Some(Octets { octets, others_read: facts.mode() & 0o004 != 0, owner: facts.uid() }))
}

/// Without waiting, should somebody have put a FIFO there.
fn open(path: &Path, follow_links: bool) -> io::Result<File> {
    let no_follow = if follow_links { 0 } else { libc::O_NOFOLLOW };
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | no_follow).open(path)
}

/// A file that is gone is gone; a link that leads nowhere is somebody's mistake.
fn vanished(path: &Path) -> Result<Option<Octets>, Unreadable> {
    match path.symlink_metadata() {
        Ok(_) => Err(Wrong::new("a symbolic link that leads nowhere", "mend or remove it").into()),
        Err(_) => Ok(None),
    }
}

fn read_bounded(
    file: File,
    octets: u64,
    octets_max: u64,
) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // One allocation that fits: a buffer that grows leaves copies of what it held behind.
    let room = octets.min(octets_max) as usize + 1;
    let mut octets = Zeroizing::new(Vec::with_capacity(room));
    file.take(octets_max + 1).read_to_end(&mut octets)?;
    Ok((octets.len() as u64 <= octets_max).then_some(octets))
}

fn too_long(octets_max: u64) -> Wrong {
    let message = format!("longer than {} KiB", octets_max >> 10);
    Wrong::new(message, "is it the right file?")
}

fn utf8(mut octets: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, Unreadable> {
    match String::from_utf8(std::mem::take(&mut *octets)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let octets = Zeroizing::new(error.into_bytes());
            let line_start = memchr::memrchr(b'\n', &octets[..valid]).map_or(0, |end| end + 1);
            let line = memchr::memchr_iter(b'\n', &octets[..valid]).count() + 1;
            let column = String::from_utf8_lossy(&octets[line_start..valid]).chars().count() + 1;
            let wrong = Wrong::new("not UTF-8", "save the file as UTF-8");
            Err(Unreadable { line, column, wrong })
        }
    }
}

fn a_link(path: &Path) -> Wrong {
    let message = format!("{} is a symbolic link", path.display());
    Wrong::new(message, "put the file itself there, or name the file it leads to")
}

/// With the command that lets the daemon in, where permissions are the reason.
pub(super) fn cannot_read(path: &Path, error: &io::Error) -> Wrong {
    let message = format!("cannot be read: {}", plain(error));
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let (file, mode) = (shell_word(path), if path.is_dir() { "750" } else { "640" });
            format!("chown root:pecsync {file} && chmod {mode} {file}")
        }
        io::ErrorKind::NotFound => "create it, or correct its name".to_owned(),
        _ => String::new(),
    };
    Wrong::new(message, hint)
}

fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::NotFound => "no such file".to_owned(),
        _ => error.to_string(),
    }
}

/// A secret that anybody on the machine can read is one no more.
pub(super) fn others_read(path: &Path, what: &str) -> Wrong {
    let message = format!("{what} that everybody on this machine can read");
    Wrong::new(message, format!("chmod o-rwx {}", shell_word(path)))
}

/// A path as a shell takes it.
pub(super) fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:=".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A path written in a file: relative to that file's directory.
pub(super) fn beside(dir: &Path, written: &str) -> Result<PathBuf, Wrong> {
    if written.is_empty() {
        return Err(Wrong::new("an empty path", "write a path, or leave the key out"));
    }
    if written.contains(char::is_control) {
        let message = format!("{} is not a path", quoted(written));
        return Err(Wrong::new(message, "is a quote missing?"));
    }
    Ok(dir.join(written))
}

/// A path to a secret: it may not climb out of its directory.
pub(super) fn beside_without_climbing(dir: &Path, written: &str) -> Result<PathBuf, Wrong> {
    let path = beside(dir, written)?;
    if Path::new(written).components().any(|part| part == Component::ParentDir) {
        let message = format!("{} climbs out of its directory", quoted(written));
        return Err(Wrong::new(message, "name the file without \"..\""));
    }
    Ok(path)
}

/// The first symbolic link on the way from `dir` (which may be one) down to a file below it.
pub(super) fn link_below(dir: &Path, path: &Path) -> Option<Wrong> {
    let below = path.strip_prefix(dir).ok()?;
    let mut step = dir.to_owned();
    for part in below.components() {
        step.push(part);
        if step.symlink_metadata().is_ok_and(|facts| facts.is_symlink()) {
            return Some(a_link(&step));
        }
    }
    None
}

/// Names that editors and copy programs use for what is not finished, and hidden ones.
pub(super) fn is_ignored(name: &str) -> bool {
    name.starts_with('.') || [".swp", ".tmp", "~"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_command() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let wrong = cannot_read(Path::new("/etc/pecsync/conf.d/a.toml"), &denied);
        assert_eq!(
            wrong.to_string(),
            "cannot be read: permission denied; chown root:pecsync /etc/pecsync/conf.d/a.toml \
             && chmod 640 /etc/pecsync/conf.d/a.toml"
        );
        assert!(cannot_read(Path::new("/tmp"), &denied).hint.ends_with("chmod 750 /tmp"));
    }

    #[test]
    fn shell_words() {
        #[track_caller]
        fn check(path: &str, expected: &str) {
            assert_eq!(shell_word(Path::new(path)), expected);
        }
        check("/etc/a.toml", "/etc/a.toml");
        check("a b", "'a b'");
        check("it's", r"'it'\''s'");
        check("$(rm)", "'$(rm)'");
        check("", "''");
    }

    #[test]
    fn ignored_names() {
        for name in [".a.toml", "a.toml~", ".a.toml.swp", "a.swp", "a.toml.tmp", "..data"] {
            assert!(is_ignored(name), "{name}");
        }
        assert!(!is_ignored("a.toml"));
    }
}
