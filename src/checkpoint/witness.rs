//! Tells a store that lost its end from one that never had it.
//!
//! A log cut short looks to sled like one whose last writes did not happen: it opens, older than
//! what was acknowledged. So every batch counts itself in the store, and the count of the last
//! durable one stands in a small file beside it. The file is not synced and may lag; it never
//! leads. A store that counts less than it is damaged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::disk::Disk;
use super::encoding::{decode, encode};
use super::keys::{self, Key};

pub(super) struct Witness {
    file: File,
    /// Batches that are durable.
    batches: u64,
}

impl Witness {
    /// An `InvalidData` error where batches are missing.
    pub(super) fn open(dir: &Path, disk: &Disk) -> io::Result<Witness> {
        let batches = disk.get(keys::BATCHES)?.map(|value| decode(&value)).transpose()?;
        let batches = batches.unwrap_or(0);
        let path = dir.join("batches");
        let witnessed = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        if witnessed.is_some_and(|witnessed: u64| witnessed > batches) {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!(
                    "checkpoint: {batches} batches, but {} were written",
                    witnessed.unwrap_or(0)
                ),
            ));
        }
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(path)?;
        Ok(Witness { file, batches })
    }

    /// What the next batch has to say of itself.
    pub(super) fn next(&self) -> (Key, Vec<u8>) {
        (keys::BATCHES.to_vec(), encode(&(self.batches + 1)))
    }

    /// That batch is durable.
    pub(super) fn confirm(&mut self) -> io::Result<()> {
        self.batches += 1;
        self.file.write_all_at(format!("{:020}\n", self.batches).as_bytes(), 0)
    }
}
