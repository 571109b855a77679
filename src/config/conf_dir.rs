//! The files of `conf.d`, read: `*.toml` and `*/*.toml`, each with a digest of all that decides
//! what it means. What is in them is for [`mod@super::reconcile`].

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::enrollment;
use super::files::{self, Text, Unreadable};
use super::portal;
use super::problem::Wrong;
use super::secrets;

const FILE_OCTETS_MAX: u64 = 64 << 10;

/// One file, or a directory that cannot be listed.
pub struct FileRead {
    /// Absolute if the directory's path is.
    pub path: PathBuf,
    /// Over the text, the permissions that matter and the password files it names.
    pub digest: [u8; 32],
    /// When its content was last written, as far as the file system knows.
    pub written: Option<Timestamp>,
    pub(super) content: Content,
}

pub(super) enum Content {
    Text(EnrollmentText),
    Unreadable(Unreadable),
    /// Of the files in it nothing is known: neither that they are there nor that they are gone.
    UnlistedDirectory(Wrong),
}

pub(super) struct EnrollmentText {
    pub text: Zeroizing<String>,
    pub others_read: bool,
    /// By what the file calls them.
    pub passwords: BTreeMap<String, Result<SecretString, Wrong>>,
}

/// Reads all enrollments, sorted by name. Blocking, for thousands of files: call it where that
/// harms nobody.
pub fn read_dir_files(dir: &Path) -> Vec<FileRead> {
    let mut reads = Vec::new();
    for entry in list(dir).unwrap_or_else(|error| unlisted(dir, &error, &mut reads)) {
        match (entry.is_dir(), is_enrollment(&entry)) {
            (true, _) if entry.ends_with(portal::DIRECTORY) => {
                read_inner(&entry, &mut reads, FileRead::of_portals);
            }
            (true, _) => read_inner(&entry, &mut reads, FileRead::of_path),
            (false, true) => reads.extend(FileRead::of_path(&entry)),
            (false, false) => {}
        }
    }
    reads.sort_by(|a, b| a.path.cmp(&b.path));
    reads
}

fn read_inner(dir: &Path, reads: &mut Vec<FileRead>, read: impl Fn(&Path) -> Option<FileRead>) {
    let entries = match list(dir) {
        // Removed since it was listed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        listed => listed.unwrap_or_else(|error| unlisted(dir, &error, reads)),
    };
    let files = entries.iter().filter(|entry| is_enrollment(entry) && !entry.is_dir());
    reads.extend(files.filter_map(|file| read(file)));
}

/// What a directory shows, hidden and unfinished files left out.
fn list(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !files::is_ignored(&entry.file_name().to_string_lossy()) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

fn unlisted(dir: &Path, error: &std::io::Error, reads: &mut Vec<FileRead>) -> Vec<PathBuf> {
    reads.push(FileRead::unlisted(dir, files::cannot_read(dir, error)));
    Vec::new()
}

fn is_enrollment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

impl FileRead {
    /// Reads a file; `None` if it has just vanished. Blocking.
    pub fn of_path(path: &Path) -> Option<FileRead> {
        match files::read_text(path, FILE_OCTETS_MAX, true) {
            Ok(None) => None,
            Ok(Some(Text { text, others_read, .. })) => {
                let written = written(path);
                Some(FileRead { written, ..FileRead::of(path, text, others_read) })
            }
            Err(unreadable) => Some(FileRead::unreadable(path, unreadable)),
        }
    }

    /// [`FileRead::of_path`] for what the portal wrote. It faces the world: a link or another
    /// user's file is not read, nor what a file names.
    fn of_portals(path: &Path) -> Option<FileRead> {
        let text = match files::read_text(path, portal::FILE_OCTETS_MAX, false) {
            Ok(text) => text?,
            Err(unreadable) => return Some(FileRead::unreadable(path, unreadable)),
        };
        let dir = path.parent().and_then(|dir| dir.metadata().ok());
        if dir.is_none_or(|dir| dir.uid() != text.owner) {
            let message = "a file that is not the portal's";
            let hint = "an administrator's file goes into conf.d itself";
            return Some(FileRead::unreadable(path, Wrong::new(message, hint).into()));
        }
        let Text { text, others_read, .. } = text;
        let passwords = BTreeMap::new();
        let digest = digest(&text, others_read, &passwords);
        let content = Content::Text(EnrollmentText { text, others_read, passwords });
        Some(FileRead { path: path.to_owned(), digest, written: written(path), content })
    }

    fn unreadable(path: &Path, unreadable: Unreadable) -> FileRead {
        let digest = Sha256::digest(format!("unreadable {unreadable:?}")).into();
        let content = Content::Unreadable(unreadable);
        FileRead { path: path.to_owned(), digest, written: None, content }
    }

    /// How many passwords it holds: plain, for whoever reads it to read; in files of their own;
    /// sealed.
    pub fn passwords(&self) -> [usize; 3] {
        match &self.content {
            Content::Text(content) => ["password", "password_file", "sealed_password"]
                .map(|key| enrollment::passwords_in(&content.text, key)),
            Content::Unreadable(_) | Content::UnlistedDirectory(_) => [0; 3],
        }
    }

    /// A file of this text that only the daemon can read, for tests and benches.
    pub fn of_text(path: &Path, text: &str) -> FileRead {
        FileRead::of(path, Zeroizing::new(text.to_owned()), false)
    }

    fn of(path: &Path, text: Zeroizing<String>, others_read: bool) -> FileRead {
        let dir = path.parent().unwrap_or(Path::new("."));
        let written = enrollment::password_files_in(&text).into_iter();
        let passwords: BTreeMap<_, _> = written
            .map(|written| {
                let password = secrets::password_file(dir, &written);
                (written, password)
            })
            .collect();
        let digest = digest(&text, others_read, &passwords);
        let content = Content::Text(EnrollmentText { text, others_read, passwords });
        FileRead { path: path.to_owned(), digest, written: None, content }
    }

    /// The same, written at that time; for tests.
    pub fn written_at(self, written: Timestamp) -> FileRead {
        FileRead { written: Some(written), ..self }
    }

    fn unlisted(dir: &Path, wrong: Wrong) -> FileRead {
        let digest = Sha256::digest(format!("unlisted {wrong}")).into();
        let content = Content::UnlistedDirectory(wrong);
        FileRead { path: dir.to_owned(), digest, written: None, content }
    }
}

fn written(path: &Path) -> Option<Timestamp> {
    let written = fs::metadata(path).and_then(|facts| facts.modified()).ok()?;
    Timestamp::try_from(written).ok()
}

fn digest(
    text: &str,
    others_read: bool,
    passwords: &BTreeMap<String, Result<SecretString, Wrong>>,
) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update([u8::from(others_read)]);
    digest.update(text.len().to_le_bytes());
    digest.update(text);
    for password in passwords.values() {
        match password {
            Ok(secret) => digest.update(secret.expose_secret()),
            Err(wrong) => digest.update(wrong.to_string()),
        }
        digest.update([0]);
    }
    digest.finalize().into()
}

/// Without its content, which may hold passwords.
impl fmt::Debug for FileRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRead").field("path", &self.path).finish_non_exhaustive()
    }
}
