//! Records ↔ octets, versioned: the first octet of every value says how the rest is to be read.
//!
//! Hand-written and dense, for there are millions of links: some 60 octets each, 48 of them
//! digests. A field that is rare costs one bit where it is absent.

mod accounts;
mod messages;

use std::io;

use super::octets::{Octets, Put, unreadable};

/// Of every value in the store. A value with another one is unreadable, not guessed at.
pub(super) const VERSION: u8 = 1;

/// A record that is a value of its own.
pub(super) trait Record: Sized {
    fn put(&self, octets: &mut Vec<u8>);
    fn read(octets: &mut Octets) -> io::Result<Self>;
}

/// A value: the version, then the record.
pub(super) fn encode(record: &impl Record) -> Vec<u8> {
    let mut octets = vec![VERSION];
    record.put(&mut octets);
    octets
}

pub(super) fn decode<R: Record>(value: &[u8]) -> io::Result<R> {
    let mut octets = Octets::of(value);
    if octets.octet()? != VERSION {
        return Err(unreadable("version of a record"));
    }
    read_all(octets)
}

/// A record inside a chunk, whose version is the chunk's.
pub(super) fn encode_slot(record: &impl Record) -> Vec<u8> {
    let mut octets = Vec::with_capacity(64);
    record.put(&mut octets);
    octets
}

pub(super) fn decode_slot<R: Record>(octets: &[u8]) -> io::Result<R> {
    read_all(Octets::of(octets))
}

fn read_all<R: Record>(mut octets: Octets) -> io::Result<R> {
    let record = R::read(&mut octets)?;
    octets.end()?;
    Ok(record)
}

/// Counters and the numbers that an index leads to.
impl Record for u64 {
    fn put(&self, octets: &mut Vec<u8>) {
        octets.put_number(*self);
    }

    fn read(octets: &mut Octets) -> io::Result<u64> {
        octets.number()
    }
}

fn put_option<T>(octets: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    octets.push(bits([value.is_some()]));
    if let Some(value) = value {
        put(octets, value);
    }
}

fn read_option<'a, T>(
    octets: &mut Octets<'a>,
    read: impl FnOnce(&mut Octets<'a>) -> io::Result<T>,
) -> io::Result<Option<T>> {
    let [present] = read_bits(octets)?;
    if present { read(octets).map(Some) } else { Ok(None) }
}

/// Yes-and-no answers, the first in the lowest bit.
fn bits<const N: usize>(answers: [bool; N]) -> u8 {
    answers.iter().enumerate().fold(0, |octet, (place, answer)| octet | u8::from(*answer) << place)
}

fn read_bits<const N: usize>(octets: &mut Octets) -> io::Result<[bool; N]> {
    let octet = octets.octet()?;
    let answers = std::array::from_fn(|place| octet & 1 << place != 0);
    if bits(answers) == octet { Ok(answers) } else { Err(unreadable("answers")) }
}

#[cfg(test)]
mod tests;
