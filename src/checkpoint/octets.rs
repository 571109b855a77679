//! Numbers, texts and digests ↔ octets: what every record's encoding is made of.
//!
//! Numbers are LEB128 varints, signed ones zigzagged; texts carry their length. Reading never
//! panics and never trusts a length: what does not fit is [`unreadable`].

use std::io;

/// The error of a record that cannot be decoded, naming the part.
pub(super) fn unreadable(part: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("checkpoint: unreadable {part}"))
}

/// Builds a record.
pub(super) trait Put {
    fn put_number(&mut self, number: u64);
    fn put_signed(&mut self, number: i64);
    fn put_octets(&mut self, octets: &[u8]);
}

impl Put for Vec<u8> {
    fn put_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.push(number as u8);
    }

    fn put_signed(&mut self, number: i64) {
        self.put_number(((number << 1) ^ (number >> 63)) as u64);
    }

    fn put_octets(&mut self, octets: &[u8]) {
        self.put_number(octets.len() as u64);
        self.extend_from_slice(octets);
    }
}

/// Reads a record from its first octet to its last.
pub(super) struct Octets<'a> {
    rest: &'a [u8],
}

impl<'a> Octets<'a> {
    pub(super) fn of(octets: &'a [u8]) -> Octets<'a> {
        Octets { rest: octets }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn octet(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn number(&mut self) -> io::Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let octet = self.octet()?;
            let bits = u64::from(octet & 0x7f);
            if bits.leading_zeros() < shift {
                break;
            }
            number |= bits << shift;
            if octet & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(unreadable("number"))
    }

    pub(super) fn small(&mut self) -> io::Result<u32> {
        u32::try_from(self.number()?).map_err(|_| unreadable("number"))
    }

    pub(super) fn signed(&mut self) -> io::Result<i64> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// Octets behind their length.
    pub(super) fn counted(&mut self) -> io::Result<&'a [u8]> {
        let length = usize::try_from(self.number()?).map_err(|_| unreadable("length"))?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> io::Result<&'a str> {
        std::str::from_utf8(self.counted()?).map_err(|_| unreadable("text"))
    }

    /// Exactly `N` raw octets: a digest.
    pub(super) fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| unreadable("digest"))
    }

    /// Nothing may follow the last part of a record.
    pub(super) fn end(&self) -> io::Result<()> {
        if self.is_empty() { Ok(()) } else { Err(unreadable("end of a record")) }
    }

    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| unreadable("record: it is cut"))?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(number: u64, signed: i64, octets: Vec<u8>) {
            let mut record = Vec::new();
            record.put_number(number);
            record.put_signed(signed);
            record.put_octets(&octets);
            let mut reader = Octets::of(&record);
            prop_assert_eq!(reader.number().unwrap(), number);
            prop_assert_eq!(reader.signed().unwrap(), signed);
            prop_assert_eq!(reader.counted().unwrap(), &octets[..]);
            prop_assert!(reader.end().is_ok());
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let too_long = [0xff; 11];
        let over_64_bits = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        for octets in [&too_long[..], &over_64_bits, &[0x80], &[]] {
            assert!(Octets::of(octets).number().is_err(), "{octets:x?}");
        }
        assert!(Octets::of(&[5, b'a']).counted().is_err());
        assert!(Octets::of(&[1, 0xff]).text().is_err());
        assert!(Octets::of(&[0xff, 0xff, 0xff, 0xff, 0x7f]).small().is_err());
    }
}
