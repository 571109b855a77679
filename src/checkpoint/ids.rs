//! Numbers for new records, taken from the store in blocks.
//!
//! The end of a block is put before the first of its numbers is given out. It is not synced: the
//! log has an order, so any record that carries the number is durable only after it. A crash
//! leaves out the rest of a block and repeats nothing that was stored.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::disk::Disk;
use super::encoding::{decode, encode};
use super::keys;

pub(super) struct Ids {
    pub(super) accounts: Counter,
    pub(super) folders: Counter,
    pub(super) intents: Counter,
}

pub(super) struct Counter {
    key: &'static [u8],
    block: u64,
    free: Mutex<Free>,
}

struct Free {
    /// Not yet given out.
    numbers: Range<u64>,
    /// At which opening of the disk their end was put: at a later one that may be gone.
    put_at: Option<u64>,
}

impl Ids {
    pub(super) fn read(disk: &Disk) -> io::Result<Ids> {
        let number = |key: &[u8]| keys::last_number_u32(key).map(u64::from);
        Ok(Ids {
            accounts: Counter::read(disk, keys::ACCOUNT_IDS, 64, keys::ACCOUNTS, number)?,
            folders: Counter::read(disk, keys::FOLDER_IDS, 256, keys::FOLDER_ACCOUNTS, number)?,
            intents: {
                let number = keys::last_number_u64;
                Counter::read(disk, keys::INTENT_IDS, 4_096, keys::INTENT_FOLDERS, number)?
            },
        })
    }
}

impl Counter {
    /// Begins after the last block, and after any number found in use, whatever the counter says.
    fn read(
        disk: &Disk,
        key: &'static [u8],
        block: u64,
        used: &[u8],
        number: impl Fn(&[u8]) -> Option<u64>,
    ) -> io::Result<Counter> {
        let put = disk.get(key)?.map(|value| decode::<u64>(&value)).transpose()?;
        let last = disk.last_key(used)?.and_then(|key| number(&key));
        let begin = put.unwrap_or(1).max(last.map_or(1, |last| last + 1));
        let free = Free { numbers: begin..begin, put_at: None };
        Ok(Counter { key, block, free: Mutex::new(free) })
    }

    pub(super) fn next(&self, disk: &Disk) -> io::Result<u64> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let opening = Some(disk.openings());
        if free.numbers.is_empty() || free.put_at != opening {
            let end = free.numbers.start + self.block;
            disk.put(self.key, encode(&end))?;
            *free = Free { numbers: free.numbers.start..end, put_at: opening };
        }
        free.numbers.next().ok_or_else(|| io::Error::other("checkpoint: no numbers left"))
    }
}
