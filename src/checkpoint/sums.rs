//! Tells records that came back older, or not at all, from those that were committed.
//!
//! sled checks each page by itself, and takes a segment of its log whose head is gone for one that
//! was never written: older values come back, and nothing says so. So each batch also writes what
//! its records add up to: one sum for each folder's links and one for its orphans, because they
//! are read folder by folder, and one total over everything else, those sums included.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;

use sha2::{Digest, Sha256};

use super::disk::Disk;
use super::encoding::{Record, decode, encode};
use super::keys::{self, Key};
use super::octets::{Octets, Put, unreadable};
use super::staged::Changes;

/// What a set of records adds up to, whatever their order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Sum {
    /// Batches that changed it, so that two sums at different times are never the same.
    changes: u64,
    lanes: [u64; 2],
}

impl Sum {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        for (lane, share) in self.lanes.iter_mut().zip(share(key, value)) {
            *lane = lane.wrapping_add(share);
        }
    }

    fn subtract(&mut self, key: &[u8], value: &[u8]) {
        for (lane, share) in self.lanes.iter_mut().zip(share(key, value)) {
            *lane = lane.wrapping_sub(share);
        }
    }

    fn replace(&mut self, key: &[u8], before: Option<&[u8]>, value: Option<&[u8]>) {
        if let Some(before) = before {
            self.subtract(key, before);
        }
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    fn emptied(self) -> Sum {
        Sum { lanes: [0; 2], ..self }
    }

    fn changed(self) -> Sum {
        Sum { changes: self.changes + 1, ..self }
    }

    /// Are these the records that it was made of?
    pub(super) fn check(self, found: Sum) -> io::Result<()> {
        match self.lanes == found.lanes {
            true => Ok(()),
            false => Err(unreadable("records: some are missing, or older than others")),
        }
    }
}

fn share(key: &[u8], value: &[u8]) -> [u64; 2] {
    let mut digest = Sha256::new();
    digest.update((key.len() as u64).to_le_bytes());
    digest.update(key);
    digest.update(value);
    let digest = digest.finalize();
    std::array::from_fn(|lane| {
        let octets = &digest[8 * lane..8 * lane + 8];
        octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
    })
}

impl Record for Sum {
    fn put(&self, octets: &mut Vec<u8>) {
        let Sum { changes, lanes } = self;
        [*changes, lanes[0], lanes[1]].into_iter().for_each(|number| octets.put_number(number));
    }

    fn read(octets: &mut Octets) -> io::Result<Sum> {
        Ok(Sum { changes: octets.number()?, lanes: [octets.number()?, octets.number()?] })
    }
}

/// Adds to a batch what the records add up to after it. A batch that removes a folder's sum removes
/// all its chunks, too, and may begin new ones: what is left of damaged ones counts no longer.
pub(super) fn include(disk: &Disk, changes: &mut Changes) -> io::Result<()> {
    let mut of_links = BTreeMap::<Key, Sum>::new();
    for (key, value) in changes.iter() {
        let Some(of) = keys::links_sum(key) else { continue };
        let anew = changes.contains_key(&of);
        let before = if anew { None } else { disk.get(key)? };
        if before.as_deref() == value.as_deref() {
            continue;
        }
        let sum = match of_links.entry(of) {
            Entry::Occupied(sum) => sum.into_mut(),
            Entry::Vacant(place) => {
                let sum = read(disk, place.key())?;
                place.insert(if anew { sum.emptied() } else { sum })
            }
        };
        sum.replace(key, before.as_deref(), value.as_deref());
    }
    changes.extend(of_links.into_iter().map(|(key, sum)| (key, Some(encode(&sum.changed())))));
    let mut total = read(disk, keys::TOTAL)?;
    for (key, value) in changes.iter().filter(|(key, _)| keys::is_in_total(key)) {
        total.replace(key, disk.get(key)?.as_deref(), value.as_deref());
    }
    changes.insert(keys::TOTAL.to_vec(), Some(encode(&total.changed())));
    Ok(())
}

/// What was written at `key`; nothing yet adds up to nothing.
pub(super) fn read(disk: &Disk, key: &[u8]) -> io::Result<Sum> {
    Ok(disk.get(key)?.map(|value| decode(&value)).transpose()?.unwrap_or_default())
}

/// Is everything there but, perhaps, links and orphans?
pub(super) fn check_total(disk: &Disk) -> io::Result<()> {
    let mut found = Sum::default();
    for prefix in keys::ALL_BUT_LINKS {
        disk.scan(prefix, |key, value| {
            if keys::is_in_total(key) {
                found.add(key, value);
            }
            Ok(())
        })?;
    }
    // Where the links of new folders will go is not on a damaged page either.
    keys::ends().iter().try_for_each(|end| disk.get(end).map(drop))?;
    read(disk, keys::TOTAL)?.check(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_know_no_order_and_forget_what_is_taken_away() {
        let mut sums = [Sum::default(); 2];
        for (sum, order) in sums.iter_mut().zip([[b"1", b"2", b"3"], [b"3", b"1", b"2"]]) {
            order.iter().for_each(|key| sum.add(*key, b"value"));
        }
        sums[1].check(sums[0]).unwrap();
        sums[0].subtract(b"2", b"value");
        assert!(sums[1].check(sums[0]).is_err());
        sums[0].add(b"2", b"another");
        assert!(sums[1].check(sums[0]).is_err());
        // A key's end is not the beginning of its value.
        sums[0].subtract(b"2", b"another");
        sums[0].add(b"2v", b"alue");
        assert!(sums[1].check(sums[0]).is_err());
    }
}
