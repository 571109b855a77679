//! Pairs messages that need a copy with copies that nothing explains: pure and count-preserving.
//!
//! Size and instant choose who is worth comparing; the bytes (SHA-256) decide; instant and flags
//! choose among equals. Where only what servers are known to alter differs, the pair is adopted as
//! *altered*.

use std::collections::{BTreeSet, HashMap};

use crate::words::{Digests, Flags, InternalDate, Sha256};

/// A message without a copy, or a copy without a message, as far as it is known.
#[derive(Clone, Debug)]
pub struct Candidate<K> {
    pub key: K,
    pub size: u64,
    pub instant: InternalDate,
    pub flags: Flags,
    pub digests: Option<Known>,
}

/// What is known of a candidate's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// It was downloaded.
    All(Digests),
    /// The checkpoint remembers it.
    Exact(Sha256),
}

impl Known {
    pub fn sha256(&self) -> Sha256 {
        match self {
            Known::All(digests) => digests.sha256,
            Known::Exact(sha256) => *sha256,
        }
    }
}

/// A message and the copy that is its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair<W, H> {
    pub want: W,
    pub have: H,
    /// The copy's bytes differ as servers are known to alter them.
    pub altered: bool,
}

/// What has to be downloaded before more can be said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Questions<W, H> {
    pub wants: Vec<W>,
    pub haves: Vec<H>,
}

impl<W, H> Questions<W, H> {
    pub fn is_empty(&self) -> bool {
        self.wants.is_empty() && self.haves.is_empty()
    }
}

/// Whose bytes must be known before [`pairs`] can decide: every candidate that has a partner of
/// the same size or the same instant on the other side.
pub fn questions<W: Copy, H: Copy>(
    wants: &[Candidate<W>],
    haves: &[Candidate<H>],
) -> Questions<W, H> {
    let want_keys = Keys::of(wants);
    let have_keys = Keys::of(haves);
    let unknown_wants = wants.iter().filter(|want| want.digests.is_none() && have_keys.fit(want));
    let unknown_haves = haves.iter().filter(|have| have.digests.is_none() && want_keys.fit(have));
    Questions {
        wants: unknown_wants.map(|want| want.key).collect(),
        haves: unknown_haves.map(|have| have.key).collect(),
    }
}

/// Sizes and instants of one side.
struct Keys {
    sizes: BTreeSet<u64>,
    instants: BTreeSet<InternalDate>,
}

impl Keys {
    fn of<K>(candidates: &[Candidate<K>]) -> Keys {
        Keys {
            sizes: candidates.iter().map(|candidate| candidate.size).collect(),
            instants: candidates.iter().map(|candidate| candidate.instant).collect(),
        }
    }

    fn fit<K>(&self, candidate: &Candidate<K>) -> bool {
        self.sizes.contains(&candidate.size) || self.instants.contains(&candidate.instant)
    }
}

/// Pairs wants with haves, each at most once: equal bytes first (equal instants and flags before
/// others, in order), then bytes that differ as servers alter them. Candidates without digests pair with
/// nothing.
pub fn pairs<W: Copy, H: Copy>(wants: &[Candidate<W>], haves: &[Candidate<H>]) -> Vec<Pair<W, H>> {
    let mut round = Round {
        want_free: vec![true; wants.len()],
        have_free: vec![true; haves.len()],
        pairs: Vec::new(),
    };
    let exact = |known: &Known| Some((0, known.sha256().0));
    let loose = |known: &Known| match known {
        Known::All(digests) => Some((1, digests.loose.0)),
        Known::Exact(_) => None,
    };
    for alike in [Alike::InstantAndFlags, Alike::Instant, Alike::Bytes] {
        round.pair(wants, haves, exact, alike, false);
    }
    for alike in [Alike::InstantAndFlags, Alike::Instant, Alike::Bytes] {
        round.pair(wants, haves, loose, alike, true);
    }
    round.pairs
}

/// What has to be equal besides the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alike {
    InstantAndFlags,
    Instant,
    Bytes,
}

struct Round<W, H> {
    want_free: Vec<bool>,
    have_free: Vec<bool>,
    pairs: Vec<Pair<W, H>>,
}

type Print = (u8, [u8; 32]);

impl<W: Copy, H: Copy> Round<W, H> {
    fn pair(
        &mut self,
        wants: &[Candidate<W>],
        haves: &[Candidate<H>],
        print: impl Fn(&Known) -> Option<Print>,
        alike: Alike,
        altered: bool,
    ) {
        let mut waiting: HashMap<_, Vec<usize>> = HashMap::new();
        // Reversed, so that popping takes the lowest first.
        for (at, have) in haves.iter().enumerate().rev() {
            if self.have_free[at]
                && let Some(key) = key(have, &print, alike)
            {
                waiting.entry(key).or_default().push(at);
            }
        }
        for (at, want) in wants.iter().enumerate() {
            let Some(key) = key(want, &print, alike) else { continue };
            if !self.want_free[at] {
                continue;
            }
            let Some(have) = waiting.get_mut(&key).and_then(Vec::pop) else { continue };
            (self.want_free[at], self.have_free[have]) = (false, false);
            self.pairs.push(Pair { want: want.key, have: haves[have].key, altered });
        }
    }
}

/// What two candidates must share to be paired.
fn key<K>(
    candidate: &Candidate<K>,
    print: impl Fn(&Known) -> Option<Print>,
    alike: Alike,
) -> Option<(Print, Option<InternalDate>, Option<&Flags>)> {
    let print = print(candidate.digests.as_ref()?)?;
    let instant = (alike != Alike::Bytes).then_some(candidate.instant);
    let flags = (alike == Alike::InstantAndFlags).then_some(&candidate.flags);
    Some((print, instant, flags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{HeaderDigest, LooseDigest};

    /// `A1@5` is bytes `A`, altered form `1` (0: not altered), at instant 5; `A1@5!` is flagged.
    fn candidates(text: &str) -> Vec<Candidate<usize>> {
        let words = text.split_whitespace().enumerate();
        words
            .map(|(key, word)| {
                let octets = word.as_bytes();
                let digests = Digests {
                    size: 1,
                    sha256: Sha256([octets[0].wrapping_add(octets[1]); 32]),
                    header: HeaderDigest([octets[0]; 16]),
                    loose: LooseDigest([octets[0]; 32]),
                    suspect: false,
                };
                let instant = word[3..].trim_end_matches('!').parse().unwrap();
                let flagged = word.ends_with('!').then_some("\\Flagged");
                Candidate {
                    key,
                    size: 1,
                    instant: InternalDate(instant),
                    flags: Flags::of_names(flagged),
                    digests: Some(Known::All(digests)),
                }
            })
            .collect()
    }

    fn check(wants: &str, haves: &str, expected: &str) {
        let mut found: Vec<String> = pairs(&candidates(wants), &candidates(haves))
            .iter()
            .map(|pair| {
                format!("{}={}{}", pair.want, pair.have, if pair.altered { "~" } else { "" })
            })
            .collect();
        found.sort();
        assert_eq!(found.join(" "), expected, "{wants} | {haves}");
    }

    #[test]
    fn pairing_preserves_counts() {
        check("", "A0@1", "");
        check("A0@1", "A0@1", "0=0");
        check("A0@1 A0@1 A0@1", "A0@1 A0@1", "0=0 1=1");
        check("A0@1", "A0@1 A0@1", "0=0");
        check("A0@1 B0@1", "B0@1", "1=0");
    }

    #[test]
    fn equal_instants_choose_among_equal_bytes() {
        check("A0@1 A0@2", "A0@2 A0@1", "0=1 1=0");
        check("A0@1 A0@2", "A0@2", "1=0");
        check("A0@1", "A0@9", "0=0");
    }

    #[test]
    fn equal_flags_choose_among_equal_instants() {
        check("A0@1! A0@1", "A0@1 A0@1!", "0=1 1=0");
        check("A0@1! A0@1", "A0@1", "1=0");
        check("A0@1!", "A0@1", "0=0");
        check("A0@1 A0@2!", "A0@2 A0@1!", "0=1 1=0");
    }

    #[test]
    fn altered_copies_are_taken_last() {
        check("A0@1", "A1@1", "0=0~");
        check("A0@1", "A1@1 A0@2", "0=1");
        check("A0@1 A0@1", "A1@1 A0@1", "0=1 1=0~");
    }

    #[test]
    fn only_plausible_partners_are_downloaded() {
        let unknown = |key, size, instant| Candidate {
            key,
            size,
            instant: InternalDate(instant),
            flags: Flags::default(),
            digests: None,
        };
        let wants = [unknown(1, 10, 100), unknown(2, 20, 200), unknown(3, 30, 300)];
        let haves = [unknown(7, 10, 999), unknown(8, 99, 200), unknown(9, 98, 998)];
        let asked = questions(&wants, &haves);
        assert_eq!((asked.wants, asked.haves), (vec![1, 2], vec![7, 8]));
        assert!(pairs(&wants, &haves).is_empty(), "nothing is known, nothing is paired");
    }
}
