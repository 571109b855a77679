//! Digests a message as it streams past: exact, of the header, and loose.

use sha2::{Digest, Sha256 as Sha2};

use crate::words::{Digests, HeaderDigest, LooseDigest, Sha256};

/// Fed with the octets of one message in any slicing, tells its [`Digests`].
///
/// The loose digest and the header's fold what servers are known to alter: line ends, which are
/// converted, dropped where a CR stands alone and added at the end (Courier); NUL, which becomes
/// 0x80 (Dovecot); what is not ASCII in a header, which becomes X (Cyrus). The header ends with the
/// first empty line, or with the message.
pub struct Digester {
    exact: Sha2,
    loose: Option<Sha2>,
    header: Option<Sha2>,
    header_digest: Option<HeaderDigest>,
    size: u64,
    last_was_cr: bool,
    line_is_empty: bool,
    /// A line of the header has ended and no other has begun.
    header_line_ended: bool,
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
            header_line_ended: false,
            suspect: false,
        }
    }

    /// All but the loose digest, at half the cost: see [`Digester::finish_exact`].
    pub fn exact() -> Digester {
        Digester { loose: None, ..Digester::new() }
    }

    pub fn update(&mut self, octets: &[u8]) {
        self.exact.update(octets);
        self.size += octets.len() as u64;
        let mut rest = octets;
        while !rest.is_empty() {
            if self.loose.is_none() && self.header.is_none() {
                return self.scan(rest);
            }
            rest = self.fold(rest);
        }
    }

    /// Only looks for what is suspect in a body: NUL, a CR without LF, an LF without CR.
    fn scan(&mut self, octets: &[u8]) {
        let (Some(first), Some(last)) = (octets.first(), octets.last()) else { return };
        let is_odd = |was_cr: bool, octet: u8| octet == 0 || was_cr != (octet == b'\n');
        let neighbours = octets.iter().zip(&octets[1..]);
        let odd = neighbours.fold(is_odd(self.last_was_cr, *first), |odd, (before, octet)| {
            odd | (*octet == 0) | ((*before == b'\r') != (*octet == b'\n'))
        });
        self.suspect |= odd;
        self.last_was_cr = *last == b'\r';
    }

    /// Digests one run of ordinary octets and the odd octet after it; returns what is left.
    fn fold<'a>(&mut self, octets: &'a [u8]) -> &'a [u8] {
        let run = memchr::memchr3(b'\r', b'\n', 0, octets).unwrap_or(octets.len());
        let (ordinary, rest) = octets.split_at(run);
        if !ordinary.is_empty() {
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
                self.suspect = true;
                self.feed(&[0x80]);
            }
        }
        rest
    }

    fn end_bare_cr(&mut self) {
        self.suspect |= std::mem::take(&mut self.last_was_cr);
    }

    fn end_line(&mut self) {
        if std::mem::replace(&mut self.line_is_empty, true) {
            self.end_header();
        }
        self.header_line_ended = true;
    }

    fn end_header(&mut self) {
        if let Some(header) = self.header.take() {
            self.header_digest = Some(truncated(header));
        }
    }

    /// The end of a line counts only now: the last one may be added or wanting.
    fn begin_header_line(&mut self) {
        if let Some(header) = &mut self.header
            && std::mem::take(&mut self.header_line_ended)
        {
            header.update(b"\n");
        }
    }

    /// Digests octets of one line.
    fn feed(&mut self, octets: &[u8]) {
        self.end_bare_cr();
        self.begin_header_line();
        self.line_is_empty = false;
        let munged: Vec<u8>;
        let mut folded = octets;
        if let Some(header) = &mut self.header {
            if !octets.is_ascii() {
                self.suspect = true;
                let munge = |octet: &u8| if octet.is_ascii() { *octet } else { b'X' };
                munged = octets.iter().map(munge).collect();
                folded = &munged;
            }
            header.update(folded);
        }
        if let Some(loose) = &mut self.loose {
            loose.update(folded);
        }
    }

    pub fn finish(mut self) -> Digests {
        let loose = self.loose.take().unwrap_or_default();
        let ExactDigests { size, header, sha256, suspect } = self.finish_exact();
        Digests { size, sha256, header, loose: LooseDigest(loose.finalize().into()), suspect }
    }

    pub fn finish_exact(mut self) -> ExactDigests {
        self.end_bare_cr();
        self.suspect |= self.header.is_some();
        self.end_header();
        ExactDigests {
            size: self.size,
            sha256: Sha256(self.exact.finalize().into()),
            header: self.header_digest.expect("ended above"),
            suspect: self.suspect,
        }
    }
}

/// [`Digests`] without the loose one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExactDigests {
    pub size: u64,
    pub header: HeaderDigest,
    pub sha256: Sha256,
    pub suspect: bool,
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
        for step in [1, 2, 3, 1000] {
            let mut exact = Digester::exact();
            message.chunks(step).for_each(|some| exact.update(some));
            let Digests { size, header, sha256, suspect, .. } = whole;
            let expected = ExactDigests { size, header, sha256, suspect };
            assert_eq!(exact.finish_exact(), expected, "in slices of {step}");
        }
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
        let check = |original: &[u8], altered: &[u8]| {
            let (original, altered) = (digests(original), digests(altered));
            assert_eq!((original.header, original.loose), (altered.header, altered.loose));
            assert_ne!(original.sha256, altered.sha256);
        };
        check(b"A: \0\r\n\r\nbare\rcr\nlf\0", b"A: \x80\r\n\r\nbare\r\ncr\r\nlf\x80");
        check(b"A: \xc3\xa8\r\n\r\n\xe8\r\n", b"A: XX\r\n\r\n\xe8\r\n");
        check(b"A: b\rc\r\n\r\nd\re\r\r\n", b"A: bc\r\n\r\nde\r\n");
        check(b"A: b\r\n\r\nc", b"A: b\r\n\r\nc\r\n");
        check(b"A: b", b"A: b\r\n");
        check(b"", b"\r\n");
    }

    #[test]
    fn what_no_server_alters_changes_every_digest() {
        let original = digests(b"A: b\r\nC: d\r\n\r\ne\r\n");
        for other in [&b"A: b\r\nC: D\r\n\r\ne\r\n"[..], b"A: b\r\n\r\nC: d\r\n\r\ne\r\n"] {
            assert_ne!(original.header, digests(other).header);
        }
        assert_ne!(original.loose, digests(b"A: b\r\nC: d\r\n\r\nE\r\n").loose);
        assert_ne!(digests(b"A: b\r\n\r\n\xe8").loose, digests(b"A: b\r\n\r\nX").loose);
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
