//! One digest over all messages of an account, which standard tools can recompute.
//!
//! Each message is a line `SHA-256 TAB size TAB instant TAB folder`, a refused one `- TAB - TAB -
//! TAB folder`; the lines are sorted as octets, and the digest is SHA-256 over all of them, each
//! with its LF. It says what was moved, not how: UIDs, copies and proofs are not in it, so it
//! stays the same from the seal on.

use sha2::{Digest, Sha256 as Sha2};

/// Lines in memory at once. A larger account is read several times, each time for a part of the
/// SHA-256s there are.
const LINES_MAX: u64 = 250_000;

/// What is sorted: a line in brief.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub sha256: [u8; 32],
    pub size: u64,
    pub instant: i64,
    pub folder: u32,
}

/// Takes the lines of one part after the other.
pub(super) struct Parts<'a> {
    names: &'a [&'a str],
    hasher: Sha2,
    parts: usize,
}

impl<'a> Parts<'a> {
    /// For so many messages in folders of these names. `refused` is how many of each folder's
    /// were refused.
    pub fn new(messages: u64, names: &'a [&'a str], refused: &[u64]) -> Parts<'a> {
        let mut hasher = Sha2::new();
        let mut lines: Vec<String> = Vec::new();
        for (name, refused) in names.iter().zip(refused) {
            let line = format!("-\t-\t-\t{name}\n");
            lines.extend((0..*refused).map(|_| line.clone()));
        }
        // A minus comes before all hexadecimal digits.
        lines.sort_unstable();
        lines.iter().for_each(|line| hasher.update(line));
        let parts = usize::try_from(messages / LINES_MAX).unwrap_or(usize::MAX).min(255) + 1;
        Parts { names, hasher, parts }
    }

    pub fn count(&self) -> usize {
        self.parts
    }

    /// To which part a message belongs: the parts are in the order of the lines.
    pub fn part_of(&self, sha256: &[u8; 32]) -> usize {
        usize::from(sha256[0]) * self.parts / 256
    }

    /// All lines of the next part, in any order.
    pub fn take(&mut self, mut lines: Vec<Line>) {
        lines.sort_unstable_by(|a, b| {
            a.sha256.cmp(&b.sha256).then_with(|| self.rest(a).cmp(&self.rest(b)))
        });
        for line in &lines {
            let sha256 = crate::words::Sha256(line.sha256);
            self.hasher.update(format!("{sha256}\t{}", self.rest(line)));
        }
    }

    fn rest(&self, line: &Line) -> String {
        let name = self.names.get(line.folder as usize).copied().unwrap_or_default();
        format!("{}\t{}\t{name}\n", line.size, super::gather::rfc3339(line.instant))
    }

    pub fn finish(self) -> String {
        crate::words::Sha256(self.hasher.finalize().into()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(octet: u8, size: u64, instant: i64, folder: u32) -> Line {
        Line { sha256: [octet; 32], size, instant, folder }
    }

    /// The same by sorting text, as somebody with other tools would.
    fn by_hand(mut lines: Vec<String>) -> String {
        lines.sort();
        crate::words::Sha256(Sha2::digest(lines.concat()).into()).to_string()
    }

    #[test]
    fn it_is_the_digest_of_sorted_lines() {
        let names = ["INBOX", "a b", "a"];
        let mut parts = Parts::new(5, &names, &[1, 0, 2]);
        assert_eq!(parts.count(), 1);
        parts.take(vec![
            line(0xff, 9, 1, 1),
            line(0x0a, 10, 0, 2),
            line(0x0a, 10, 0, 1),
            line(0x0a, 10, -1, 0),
            line(0x0a, 9, 3, 0),
        ]);
        let sha = |octet: &str| octet.repeat(32);
        let expected = by_hand(vec![
            "-\t-\t-\tINBOX\n".into(),
            "-\t-\t-\ta\n".into(),
            "-\t-\t-\ta\n".into(),
            format!("{}\t9\t1970-01-01T00:00:01Z\ta b\n", sha("ff")),
            format!("{}\t10\t1970-01-01T00:00:00Z\ta\n", sha("0a")),
            format!("{}\t10\t1970-01-01T00:00:00Z\ta b\n", sha("0a")),
            format!("{}\t10\t1969-12-31T23:59:59Z\tINBOX\n", sha("0a")),
            format!("{}\t9\t1970-01-01T00:00:03Z\tINBOX\n", sha("0a")),
        ]);
        assert_eq!(parts.finish(), expected);
    }

    #[test]
    fn parts_come_in_order_and_make_no_difference() {
        let lines: Vec<Line> = (0..=255).rev().map(|octet| line(octet, 1, 2, 0)).collect();
        let mut whole = Parts::new(0, &["x"], &[0]);
        whole.take(lines.clone());
        let mut parts = Parts::new(LINES_MAX * 6, &["x"], &[0]);
        assert_eq!(parts.count(), 7);
        for part in 0..parts.count() {
            let of_part = lines.iter().filter(|line| parts.part_of(&line.sha256) == part);
            let of_part: Vec<Line> = of_part.copied().collect();
            assert!(!of_part.is_empty());
            parts.take(of_part);
        }
        assert_eq!(parts.finish(), whole.finish());
        assert_eq!(Parts::new(u64::MAX, &[], &[]).count(), 256);
    }
}
