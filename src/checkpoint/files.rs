//! Octets by key in files. The only file that says `sled`.
//!
//! What sled 0.34 leaves open is closed here: its `flush` is `sync_file_range`, so the data file
//! is synced through a descriptor of our own; it does not sync the files of its `blobs`; it
//! panics on some damage, so every call is guarded; and a directory deleted under it goes on
//! taking writes, which is noticed.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::staged::Changes;

/// Cache of pages. By itself no cap on memory: see [`Files::forget_other_pages`].
const CACHE_BYTES: u64 = 16 << 20;

/// A stored value.
pub(super) type Value = sled::IVec;

/// The open store's files.
pub(super) struct Files {
    tree: sled::Db,
    /// `<dir>/db`, to sync what sled wrote.
    data: File,
    blobs: PathBuf,
    synced_blobs: Mutex<HashSet<OsString>>,
}

/// Why a directory could not be opened.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Another process has it open.
    Locked,
    /// What is on the disk is damaged: another one may be begun.
    Damaged(String),
    /// The disk or its rights are in the way: what is there may be in order.
    Failed(io::Error),
}

impl Files {
    pub(super) fn open(dir: &Path) -> Result<Files, Refusal> {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES);
        let config = config.mode(sled::Mode::LowSpace);
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let tree = match opened {
            Ok(Ok(tree)) => tree,
            Ok(Err(error)) => return Err(refusal(error)),
            Err(_) => return Err(Refusal::Damaged("sled panicked while it opened".into())),
        };
        let data = File::open(dir.join("db")).map_err(Refusal::Failed)?;
        Ok(Files { tree, data, blobs: dir.join("blobs"), synced_blobs: Mutex::default() })
    }

    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<Value>> {
        guarded(|| Ok(self.tree.get(key)?))
    }

    /// Calls `each` with every key that begins with `prefix`, ascending, and its value.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        guarded(|| {
            for entry in self.tree.scan_prefix(prefix) {
                let (key, value) = entry?;
                each(&key, &value)?;
                self.forget_other_pages(&key)?;
            }
            Ok(())
        })
    }

    /// Each of the cache's 256 parts evicts only after every 64th access to it, so that reading
    /// much, each page once, keeps everything: five million links took 290 MB. A few accesses
    /// more to every value, some ten of which share a page, and it is 60 MB.
    fn forget_other_pages(&self, key: &[u8]) -> io::Result<()> {
        (0..6).try_for_each(|_| self.tree.get(key).map(drop)).map_err(io::Error::from)
    }

    /// The highest key that begins with `prefix`.
    pub(super) fn last_key(&self, prefix: &[u8]) -> io::Result<Option<Value>> {
        guarded(|| {
            let last = self.tree.scan_prefix(prefix).next_back().transpose()?;
            Ok(last.map(|(key, _)| key))
        })
    }

    /// Puts one value, which is durable when anything written later is: the log has an order.
    pub(super) fn put(&self, key: &[u8], value: Vec<u8>) -> io::Result<()> {
        guarded(|| Ok(self.tree.insert(key, value).map(drop)?))
    }

    /// All the changes or none; `None` removes.
    pub(super) fn apply(&self, changes: Changes) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        guarded(|| Ok(self.tree.apply_batch(batch)?))
    }

    /// Makes durable what was applied.
    pub(super) fn sync(&self) -> io::Result<()> {
        guarded(|| Ok(self.tree.flush().map(drop)?))?;
        self.sync_blobs()?;
        self.data.sync_data()?;
        if self.data.metadata()?.nlink() == 0 {
            return Err(io::Error::other("the checkpoint was deleted while it was in use"));
        }
        Ok(())
    }

    /// Pages above 128 KiB go to files of their own. They do not occur with the records and
    /// chunks of ordinary mailboxes, so this reads an empty directory.
    fn sync_blobs(&self) -> io::Result<()> {
        let mut synced = self.synced_blobs.lock().unwrap_or_else(PoisonError::into_inner);
        let present = names_in(&self.blobs)?;
        let new: Vec<_> = present.difference(&synced).cloned().collect();
        for name in &new {
            sync_if_there(&self.blobs.join(name))?;
        }
        if !new.is_empty() {
            File::open(&self.blobs)?.sync_all()?;
        }
        *synced = present;
        Ok(())
    }
}

/// Runs a call of sled, whose panics become errors.
fn guarded<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let outcome = catch_unwind(AssertUnwindSafe(call));
    let panicked = || io::Error::new(ErrorKind::InvalidData, "sled panicked");
    let outcome = outcome.unwrap_or_else(|_| Err(panicked()));
    outcome.map_err(|error| io::Error::new(kind(&error), format!("checkpoint: {error}")))
}

/// A full quota is a full disk to whoever mends it.
fn kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
        kind => kind,
    }
}

fn refusal(error: sled::Error) -> Refusal {
    use ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    match error {
        // sled keeps neither the kind nor the errno of a failed lock.
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
            Refusal::Locked
        }
        sled::Error::Io(error) => match error.kind() {
            // A missing or a short file.
            NotFound | UnexpectedEof | InvalidData => Refusal::Damaged(error.to_string()),
            _ => Refusal::Failed(error),
        },
        damage => Refusal::Damaged(damage.to_string()),
    }
}

fn names_in(dir: &Path) -> io::Result<HashSet<OsString>> {
    dir.read_dir()?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

/// sled removes a blob as soon as its page has moved.
fn sync_if_there(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
