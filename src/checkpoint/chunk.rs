//! One value with the records of up to 32 neighbouring UIDs: a version, then slot after slot.

use std::collections::BTreeMap;
use std::io;

use super::encoding::VERSION;
use super::keys::CHUNK_UIDS;
use super::octets::{Octets, Put, unreadable};

/// A chunk being changed. The records are already encoded.
#[derive(Default)]
pub(super) struct Chunk {
    slots: BTreeMap<u8, Vec<u8>>,
}

impl Chunk {
    pub(super) fn decode(octets: &[u8]) -> io::Result<Chunk> {
        let slots = slots(octets)?;
        Ok(Chunk { slots: slots.into_iter().map(|(slot, record)| (slot, record.into())).collect() })
    }

    /// `None` where nothing is left to store.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let length: usize = self.slots.values().map(|record| record.len() + 3).sum();
        let mut octets = Vec::with_capacity(length + 1);
        octets.push(VERSION);
        for (slot, record) in &self.slots {
            octets.push(*slot);
            octets.put_octets(record);
        }
        (!self.slots.is_empty()).then_some(octets)
    }

    pub(super) fn get(&self, slot: u8) -> Option<&[u8]> {
        self.slots.get(&slot).map(Vec::as_slice)
    }

    pub(super) fn set(&mut self, slot: u8, record: Option<Vec<u8>>) {
        match record {
            Some(record) => self.slots.insert(slot, record),
            None => self.slots.remove(&slot),
        };
    }
}

/// The records of a chunk, by ascending slot.
pub(super) fn slots(octets: &[u8]) -> io::Result<Vec<(u8, &[u8])>> {
    let mut reader = Octets::of(octets);
    if reader.octet()? != VERSION {
        return Err(unreadable("version of a chunk"));
    }
    let mut slots: Vec<(u8, &[u8])> = Vec::new();
    while !reader.is_empty() {
        let slot = reader.octet()?;
        let ascends = slots.last().is_none_or(|(before, _)| *before < slot);
        if !ascends || u32::from(slot) >= CHUNK_UIDS {
            return Err(unreadable("slot of a chunk"));
        }
        slots.push((slot, reader.counted()?));
    }
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_in_order() {
        let mut chunk = Chunk::default();
        for slot in [31, 0, 17] {
            chunk.set(slot, Some(vec![slot; 200]));
        }
        chunk.set(17, None);
        let octets = chunk.encode().unwrap();
        let expected = [(0, &[0; 200][..]), (31, &[31; 200][..])];
        assert_eq!(slots(&octets).unwrap(), expected);
        assert_eq!(Chunk::decode(&octets).unwrap().encode().unwrap(), octets);
    }

    #[test]
    fn an_emptied_chunk_is_nothing() {
        let mut chunk = Chunk::default();
        chunk.set(1, Some(vec![1]));
        chunk.set(1, None);
        assert_eq!(chunk.encode(), None);
    }

    #[test]
    fn what_we_did_not_write_is_an_error() {
        let wrong: [&[u8]; 6] =
            [&[], &[9], &[VERSION, 32, 0], &[VERSION, 1, 0, 1, 0], &[VERSION, 1], &[VERSION, 1, 5]];
        for octets in wrong {
            assert!(slots(octets).is_err(), "{octets:x?}");
        }
    }
}
