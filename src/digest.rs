//! Digests a message as it streams past: exact, of the header, and loose.

use sha2::{Digest, Sha256 as Sha2};

use crate::words::{Digests, HeaderDigest, LooseDigest, Sha256};

/// Fed with the octets of one message in any slicing, tells its [`Digests`].
///
/// The loose digests fold what servers are known to alter: CR, LF and CRLF count as LF, NUL as
/// 0x80 (Dovecot). The header ends with the first empty line, or with the message.
pub struct Digester {
    exact: Sha2,
    loose: Option<Sha2>,
    header: Option<Sha2>,
    header_digest: Option<HeaderDigest>,
    size: u64,
    last_was_cr: bool,
    line_is_empty: bool,
    suspect: bool,
}

impl Digester {
    /// Everything, the loose digest of the body too.
    pub fn new() -> Digester {
        Digester {
            exact: Sha2::new(),
            loose: Some(Sha2::new()),
            header: Some(Sha2::new()),
            header_digest: None,
            size: 0,
            last_was_cr: false,
            line_is_empty: true,
            suspect: false,
        }
    }

    pub fn update(&mut self, octets: &[u8]) {
        self.exact.update(octets);
        self.size += octets.len() as u64;
        let mut rest = octets;
        while !rest.is_empty() {
            rest = self.fold(rest);
        }
    }

    /// Digests one run of ordinary octets and the odd octet after it; returns what is left.
    fn fold<'a>(&mut self, octets: &'a [u8]) -> &'a [u8] {
        let run = memchr::memchr3(b'\r', b'\n', 0, octets).unwrap_or(octets.len());
        let (ordinary, rest) = octets.split_at(run);
        if !ordinary.is_empty() {
            self.end_bare_cr();
            self.line_is_empty = false;
            if self.header.is_some() && !ordinary.is_ascii() {
                self.suspect = true;
            }
            self.feed(ordinary);
        }
        let Some((&odd, rest)) = rest.split_first() else { return rest };
        match odd {
            b'\r' => {
                self.end_bare_cr();
                self.last_was_cr = true;
            }
            b'\n' => {
                self.suspect |= !self.last_was_cr;
                self.last_was_cr = false;
                self.end_line();
            }
            _ => {
                self.end_bare_cr();
                self.suspect = true;
                self.line_is_empty = false;
                self.feed(&[0x80]);
            }
        }
        rest
    }

    fn end_bare_cr(&mut self) {
        if std::mem::take(&mut self.last_was_cr) {
            self.suspect = true;
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        self.feed(b"\n");
        if std::mem::replace(&mut self.line_is_empty, true) {
            self.end_header();
        }
    }

    fn end_header(&mut self) {
        if let Some(header) = self.header.take() {
            self.header_digest = Some(truncated(header));
        }
    }

    fn feed(&mut self, folded: &[u8]) {
        if let Some(loose) = &mut self.loose {
            loose.update(folded);
        }
        if let Some(header) = &mut self.header {
            header.update(folded);
        }
    }

    pub fn finish(mut self) -> Digests {
        self.end_bare_cr();
        self.suspect |= self.header.is_some();
        self.end_header();
        Digests {
            size: self.size,
            sha256: Sha256(self.exact.finalize().into()),
            header: self.header_digest.expect("ended above"),
            loose: LooseDigest(self.loose.take().expect("never taken before").finalize().into()),
            suspect: self.suspect,
        }
    }
}

impl Default for Digester {
    fn default() -> Digester {
        Digester::new()
    }
}

fn truncated(hasher: Sha2) -> HeaderDigest {
    let whole: [u8; 32] = hasher.finalize().into();
    HeaderDigest(whole[..16].try_into().expect("16 of 32 octets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(message: &[u8]) -> Digests {
        let mut whole = Digester::new();
        whole.update(message);
        let mut octets = Digester::new();
        message.iter().for_each(|octet| octets.update(&[*octet]));
        let whole = whole.finish();
        assert_eq!(whole, octets.finish(), "slicing must not matter");
        whole
    }

    #[test]
    fn header_ends_at_the_first_empty_line() {
        let a = digests(b"A: 1\r\nB: 2\r\n\r\nbody\r\n");
        let b = digests(b"A: 1\r\nB: 2\r\n\r\nother\r\n\r\n");
        assert_eq!(a.header, b.header);
        assert_ne!(a.sha256, b.sha256);
        assert_ne!(a.loose, b.loose);
        assert!(!a.suspect);
    }

    #[test]
    fn what_servers_alter_changes_the_exact_digest_only() {
        let original = digests(b"A: \0\r\n\r\nbare\rcr\nlf\0");
        let altered = digests(b"A: \x80\r\n\r\nbare\r\ncr\r\nlf\x80");
        assert_eq!((original.header, original.loose), (altered.header, altered.loose));
        assert_ne!(original.sha256, altered.sha256);
        assert!(original.suspect);
    }

    #[test]
    fn odd_messages_are_suspect() {
        for odd in [&b"x"[..], b"", b"A: b\r\n", b"A: \xe8\r\n\r\n", b"A: b\r\n\r\nx\r", b"\n"] {
            assert!(digests(odd).suspect, "{odd:?}");
        }
        assert!(!digests(b"A: b\r\n\r\n\xe8 no newline at the end").suspect);
    }

    #[test]
    fn exact_digest_is_plain_sha256() {
        assert_eq!(
            digests(b"abc").sha256.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
