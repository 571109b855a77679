//! Octets by key: in files, or in memory for tests that kill what writes them. Behind the same
//! handle the files can be opened again: after one failed write sled refuses all others until then.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::Files;
pub(super) use super::files::{Refusal, Value};
use super::memory::Image;
use super::staged::Changes;

/// The store. It is open but between [`Disk::close`] and [`Disk::take_over`].
pub(super) struct Disk {
    /// Empty for a store in memory.
    dir: PathBuf,
    room: Mutex<Option<Arc<Room>>>,
    openings: AtomicU64,
}

/// What is open. Who reads holds on to it, and with it to sled's lock.
enum Room {
    Files(Files),
    Memory(Image),
}

impl Disk {
    pub(super) fn open(dir: &Path) -> Result<Disk, Refusal> {
        Ok(Disk::of(dir.to_owned(), Room::Files(Files::open(dir)?)))
    }

    pub(super) fn in_memory(image: Image) -> Disk {
        Disk::of(PathBuf::new(), Room::Memory(image))
    }

    fn of(dir: PathBuf, room: Room) -> Disk {
        Disk { dir, room: Mutex::new(Some(Arc::new(room))), openings: AtomicU64::new(1) }
    }

    /// Lets go of the directory as soon as those who read have done so. Until it is open again
    /// every call fails.
    pub(super) fn close(&self) {
        // Dropped outside the lock: sled may take a while.
        let closed = self.slot().take();
        drop(closed);
    }

    /// Goes on with the same directory, opened anew and as it stands on the disk: what was applied
    /// and not made durable may be gone.
    pub(super) fn take_over(&self, opened: Disk) {
        self.openings.fetch_add(1, Ordering::Relaxed);
        *self.slot() = opened.room.into_inner().unwrap_or_else(PoisonError::into_inner);
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How often it was opened.
    pub(super) fn openings(&self) -> u64 {
        self.openings.load(Ordering::Relaxed)
    }

    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<Value>> {
        match &*self.room()? {
            Room::Files(files) => files.get(key),
            Room::Memory(image) => Ok(image.get(key)),
        }
    }

    /// Calls `each` with every key that begins with `prefix`, ascending, and its value.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match &*self.room()? {
            Room::Files(files) => files.scan(prefix, each),
            Room::Memory(image) => {
                image.scan(prefix).iter().try_for_each(|(key, value)| each(key, value))
            }
        }
    }

    /// The highest key that begins with `prefix`.
    pub(super) fn last_key(&self, prefix: &[u8]) -> io::Result<Option<Value>> {
        match &*self.room()? {
            Room::Files(files) => files.last_key(prefix),
            Room::Memory(image) => Ok(image.scan(prefix).pop().map(|(key, _)| key)),
        }
    }

    /// Puts one value, which is durable when anything written later is: the log has an order.
    pub(super) fn put(&self, key: &[u8], value: Vec<u8>) -> io::Result<()> {
        match &*self.room()? {
            Room::Files(files) => files.put(key, value),
            Room::Memory(image) => {
                image.apply([(key.to_vec(), Some(value))].into());
                Ok(())
            }
        }
    }

    /// All the changes or none; `None` removes.
    pub(super) fn apply(&self, changes: Changes) -> io::Result<()> {
        match &*self.room()? {
            Room::Files(files) => files.apply(changes),
            Room::Memory(image) => {
                image.apply(changes);
                Ok(())
            }
        }
    }

    /// Makes durable what was applied.
    pub(super) fn sync(&self) -> io::Result<()> {
        match &*self.room()? {
            Room::Files(files) => files.sync(),
            Room::Memory(image) => {
                image.sync();
                Ok(())
            }
        }
    }

    fn room(&self) -> io::Result<Arc<Room>> {
        let closed = || io::Error::new(ErrorKind::StorageFull, "checkpoint: closed, it was full");
        self.slot().clone().ok_or_else(closed)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Room>>> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
