//! Source folders that a configured rename copies to one target folder: what lies there may be
//! the copy of any one's message.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;

use super::adopt::{self, Candidate};
use super::copy::Failure;
use super::pass::{Look, Pass};
use super::resolve::of_link;
use crate::checkpoint::Known;
use crate::words::{InternalDate, Message, Sha256, Uid};

/// What names a message before its bytes are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outline(pub u64, pub InternalDate);

impl Outline {
    pub fn of(message: &Message) -> Outline {
        Outline(message.size, message.instant)
    }
}

/// What the other source folders with the same target have there, or may have.
#[derive(Default, Debug)]
pub struct Neighbours {
    /// Target UIDs of theirs.
    pub explained: BTreeSet<Uid>,
    /// Copies of theirs whose UID the target did not tell.
    pub unpaired: Vec<Candidate<Uid>>,
    /// What they sent, and have no copy of yet.
    in_doubt: Vec<(Sha256, InternalDate)>,
}

impl Neighbours {
    /// Bytes and instants of copies that may be theirs although nothing explains them.
    pub fn claims(&self) -> impl Iterator<Item = (Sha256, InternalDate)> {
        let of = |link: &Candidate<Uid>| Some((link.digests?.sha256(), link.instant));
        self.unpaired.iter().filter_map(of).chain(self.in_doubt.iter().copied())
    }
}

impl Pass<'_> {
    /// Those of the pair with that index.
    pub fn neighbours_of(&self, at: usize) -> Result<Neighbours, Failure> {
        let mut beside = Neighbours::default();
        for other in self.beside(at) {
            let folder = self.book.pairs[other].record.id;
            // UIDs of a folder that was renumbered since mean nothing.
            let validity =
                |at: usize| self.book.pairs[at].record.target_seen.map(|seen| seen.uid_validity);
            let same = validity(at).is_none() || validity(other) == validity(at);
            let mut linked = HashSet::new();
            for (uid, known) in self.shared.store.known(folder)? {
                let Known::Linked(link) = known else { continue };
                linked.insert(uid);
                match link.target_uid {
                    Some(target_uid) if same => drop(beside.explained.insert(target_uid)),
                    _ => beside.unpaired.push(of_link(uid, &link)),
                }
            }
            if same {
                let orphans = self.shared.store.orphans(folder)?;
                beside.explained.extend(orphans.iter().map(|orphan| orphan.target_uid));
            }
            for intent in self.shared.store.intents(folder)? {
                let open = intent.messages.iter().filter(|it| !linked.contains(&it.source_uid));
                beside.in_doubt.extend(open.map(|it| (it.sha256, it.instant)));
            }
        }
        Ok(beside)
    }

    /// Messages of the neighbours that wait for a copy; `None` where not all of them are known.
    pub fn wanted_beside(&self, looks: &[Look], at: usize) -> Option<Vec<Outline>> {
        let mut wanted = Vec::new();
        for other in self.beside(looks[at].pair) {
            match looks.iter().find(|look| look.pair == other) {
                Some(look) if look.complete => {
                    wanted.extend(look.wants.values().chain(&look.withheld).map(Outline::of));
                }
                None if !self.book.pairs[other].unfinished => {}
                _ => return None,
            }
        }
        Some(wanted)
    }

    fn beside(&self, at: usize) -> impl Iterator<Item = usize> {
        let pairs = &self.book.pairs;
        (0..pairs.len())
            .filter(move |other| *other != at && pairs[*other].target == pairs[at].target)
    }
}

/// Takes away what `others` have: as many as they have of the same bytes.
pub fn set_aside<K: Copy + Eq + Hash>(
    haves: &mut Vec<Candidate<K>>,
    others: &[Candidate<Uid>],
    may_be: impl Fn(&K) -> bool,
) {
    if others.is_empty() {
        return;
    }
    let theirs: Vec<Candidate<K>> =
        haves.iter().filter(|have| may_be(&have.key)).cloned().collect();
    let theirs: HashSet<K> = adopt::pairs(others, &theirs).iter().map(|pair| pair.have).collect();
    haves.retain(|have| !theirs.contains(&have.key));
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::uid;
    use super::*;
    use crate::words::Flags;

    fn candidate(key: u32, octet: u8) -> Candidate<Uid> {
        Candidate {
            key: uid(key),
            size: 1,
            instant: InternalDate(0),
            flags: Flags::default(),
            digests: Some(adopt::Known::Exact(Sha256([octet; 32]))),
        }
    }

    #[test]
    fn as_many_are_set_aside_as_others_have() {
        let mut haves = vec![candidate(1, 7), candidate(2, 7), candidate(3, 8)];
        set_aside(&mut haves, &[candidate(90, 7), candidate(91, 9)], |_| true);
        let left: Vec<u32> = haves.iter().map(|have| have.key.get()).collect();
        assert_eq!(left, [2, 3]);
        set_aside(&mut haves, &[candidate(90, 8)], |key| *key != uid(3));
        assert_eq!(haves.len(), 2, "what may not be theirs stays");
    }
}
