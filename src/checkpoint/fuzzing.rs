//! What must hold whatever octets a damaged store gives back.

use std::fmt::Debug;

use super::chunk::{self, Chunk};
use super::completed;
use super::encoding::{Record, decode, decode_slot, encode, encode_slot};
use super::{AccountRecord, FolderRecord, Intent, Known, Link};

/// Every kind of record is tried on the same octets. What can be read is written as something
/// that is not longer and reads the same; what comes out of our own pen is written as it was.
pub fn records(octets: &[u8]) {
    check_value::<AccountRecord>(octets);
    check_value::<FolderRecord>(octets);
    check_value::<Intent>(octets);
    check_value::<u64>(octets);
    if let Ok(slots) = chunk::slots(octets) {
        for (_, slot) in &slots {
            check_slot::<Known>(slot);
            check_slot::<Link>(slot);
        }
        check_chunk(octets, slots.len());
    }
    check_completed(octets);
}

fn check_value<R: Record + PartialEq + Debug>(value: &[u8]) {
    let Ok(record) = decode::<R>(value) else { return };
    let written = encode(&record);
    assert!(written.len() <= value.len(), "{record:?}");
    let again = decode::<R>(&written).expect("what we wrote");
    assert_eq!(again, record);
    assert_eq!(encode(&again), written);
}

fn check_slot<R: Record + PartialEq + Debug>(slot: &[u8]) {
    let Ok(record) = decode_slot::<R>(slot) else { return };
    let written = encode_slot(&record);
    assert!(written.len() <= slot.len(), "{record:?}");
    let again = decode_slot::<R>(&written).expect("what we wrote");
    assert_eq!(again, record);
    assert_eq!(encode_slot(&again), written);
}

fn check_chunk(octets: &[u8], slots: usize) {
    let chunk = Chunk::decode(octets).expect("slots were read");
    match chunk.encode() {
        None => assert_eq!(slots, 0),
        Some(written) => {
            assert!(written.len() <= octets.len());
            let again = Chunk::decode(&written).expect("what we wrote");
            assert_eq!(again.encode(), Some(written));
        }
    }
}

/// A line of completed.jsonl.
fn check_completed(line: &[u8]) {
    let Some((account, reopened)) = completed::parse(line) else { return };
    let written = completed::Line::of(&account, reopened).expect("an account that was read");
    let written = serde_json::to_vec(&written).expect("a line is JSON");
    assert_eq!(completed::parse(&written), Some((account, reopened)));
}
