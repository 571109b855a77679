//! Which link explains which message of a place.

use super::{Place, Stop, Verification};
use crate::checkpoint::Known;
use crate::imap::WholeSeen;
use crate::words::{Sha256, Uid};

#[derive(Default)]
pub(super) struct Index {
    /// Target UID, folder, source UID; ascending.
    pub(super) by_uid: Vec<(Uid, u32, Uid)>,
    /// Links that go by their bytes: nobody told their copy's UID, or it means nothing any more.
    pub(super) by_bytes: Vec<ByBytes>,
    /// Copies that are ours although their message is not known; ascending.
    kept: Vec<Uid>,
    /// Bytes of APPENDs in doubt, with the lowest UID they may have.
    in_doubt: Vec<(Sha256, u32)>,
}

pub(super) struct ByBytes {
    sha256: Sha256,
    pub(super) folder: u32,
    pub(super) source_uid: Uid,
    pub(super) found: bool,
}

impl Index {
    pub(super) fn of_uid(&self, uid: Uid) -> Option<(usize, Uid)> {
        let at = self.by_uid.binary_search_by_key(&uid, |(uid, _, _)| *uid).ok()?;
        let (_, folder, source_uid) = self.by_uid[at];
        Some((folder as usize, source_uid))
    }

    /// A link with these bytes that no message explains yet.
    pub(super) fn take_bytes(&mut self, sha256: Sha256) -> Option<(usize, Uid)> {
        let first = self.by_bytes.partition_point(|one| one.sha256 < sha256);
        let same = self.by_bytes[first..].iter_mut().take_while(|one| one.sha256 == sha256);
        let free = same.into_iter().find(|one| !one.found)?;
        free.found = true;
        Some((free.folder as usize, free.source_uid))
    }

    pub(super) fn explains(&self, seen: &WholeSeen) -> bool {
        let doubted = |(sha256, from): &(Sha256, u32)| {
            *sha256 == seen.digests.sha256 && seen.uid.get() >= *from
        };
        self.kept.binary_search(&seen.uid).is_ok() || self.in_doubt.iter().any(doubted)
    }
}

impl Verification<'_> {
    pub(super) fn index(&self, place: &Place, renumbered: bool) -> Result<Index, Stop> {
        let mut index = Index::default();
        for at in &place.folders {
            let folder = self.folders[*at].id;
            let number = u32::try_from(*at).unwrap_or(u32::MAX);
            self.shared.store.visit_known(folder, |source_uid, known| {
                let Known::Linked(link) = known else { return };
                match link.target_uid.filter(|_| !renumbered) {
                    Some(uid) => index.by_uid.push((uid, number, source_uid)),
                    None => index.by_bytes.push(ByBytes {
                        sha256: link.sha256,
                        folder: number,
                        source_uid,
                        found: false,
                    }),
                }
            })?;
            let orphans = self.shared.store.orphans(folder)?;
            index.kept.extend(orphans.iter().map(|orphan| orphan.target_uid));
            for intent in self.shared.store.intents(folder)? {
                let from = intent.target_uid_next;
                index.in_doubt.extend(intent.messages.iter().map(|one| (one.sha256, from)));
            }
        }
        index.by_uid.sort_unstable();
        index.by_bytes.sort_unstable_by_key(|one| (one.sha256, one.folder, one.source_uid));
        index.kept.sort_unstable();
        Ok(index)
    }
}
