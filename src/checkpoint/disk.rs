//! Octets by key: in files, or in memory for tests that kill what writes them.

use std::io;

use super::files::Files;
use super::memory::Image;
use super::staged::Changes;

pub(super) use super::files::Value;

/// The open store.
pub(super) enum Disk {
    Files(Files),
    Memory(Image),
}

impl Disk {
    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<Value>> {
        match self {
            Disk::Files(files) => files.get(key),
            Disk::Memory(image) => Ok(image.get(key)),
        }
    }

    /// Calls `each` with every key that begins with `prefix`, ascending, and its value.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Disk::Files(files) => files.scan(prefix, each),
            Disk::Memory(image) => {
                image.scan(prefix).iter().try_for_each(|(key, value)| each(key, value))
            }
        }
    }

    /// The highest key that begins with `prefix`.
    pub(super) fn last_key(&self, prefix: &[u8]) -> io::Result<Option<Value>> {
        match self {
            Disk::Files(files) => files.last_key(prefix),
            Disk::Memory(image) => Ok(image.scan(prefix).pop().map(|(key, _)| key)),
        }
    }

    /// Puts one value, which is durable when anything written later is: the log has an order.
    pub(super) fn put(&self, key: &[u8], value: Vec<u8>) -> io::Result<()> {
        match self {
            Disk::Files(files) => files.put(key, value),
            Disk::Memory(image) => {
                image.apply([(key.to_vec(), Some(value))].into());
                Ok(())
            }
        }
    }

    /// All the changes or none; `None` removes.
    pub(super) fn apply(&self, changes: Changes) -> io::Result<()> {
        match self {
            Disk::Files(files) => files.apply(changes),
            Disk::Memory(image) => {
                image.apply(changes);
                Ok(())
            }
        }
    }

    /// Makes durable what was applied.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Disk::Files(files) => files.sync(),
            Disk::Memory(image) => {
                image.sync();
                Ok(())
            }
        }
    }
}
