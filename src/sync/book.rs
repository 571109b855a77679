//! What an account's task keeps in memory: its record, its folder pairs, and what is suspected.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::clock::Instant;
use super::gone::Evidence;
use super::{archive, deferred};
use crate::checkpoint::{AccountRecord, FolderId, FolderRecord, IntentId, Known, Origin, Proof};
use crate::imap::{PermanentFlags, WireName};
use crate::status::{FolderCounts, Reason};
use crate::words::Uid;

/// One account, open for work.
pub struct Book {
    pub record: AccountRecord,
    /// In copying order: INBOX first.
    pub pairs: Vec<Pair>,
    /// Folders that are not copied, with the reason.
    pub left_out: Vec<LeftOut>,
    /// LIST was asked in this session, so it is known whether folders are deferred.
    pub surveyed: bool,
    pub learned: Learned,
}

/// What outlives a session: suspicions, paces, and what was said already.
#[derive(Default)]
pub struct Learned {
    /// Source UIDs missing from their folder.
    pub missing: Evidence<(FolderId, Uid)>,
    /// Source UIDs whose copy is missing from the target.
    pub vanished: Evidence<(FolderId, Uid)>,
    /// Orphans missing from the target, by their UID there.
    pub orphans_missing: Evidence<(FolderId, Uid)>,
    /// Orphans that no message needs, by their UID there.
    pub orphans_left: Evidence<(FolderId, Uid)>,
    /// What may be a copy of ours at the target and could not be read, by its UID there.
    pub unread: Evidence<(FolderId, Uid)>,
    /// Messages that may have a copy and whose bytes the source did not give, by their UID there.
    pub withheld: Evidence<(FolderId, Uid)>,
    /// Source folders missing from LIST.
    pub folders_missing: Evidence<FolderId>,
    /// Source folders that the source would not open.
    pub folders_troubled: Evidence<FolderId>,
    /// Copied again after their copy vanished: not a second time.
    pub recopied: HashSet<(FolderId, Uid)>,
    pub pace: Pace,
    /// Of its archive, where that is a second store.
    pub archive: archive::Learned,
    /// When the last full pass of the sealed account began, if it left nothing to do but what has to
    /// wait.
    pub waits_since: Option<i64>,
    /// Of folders that wait for the cutover, its own included.
    pub deferred: deferred::Learned,
    /// The operator consented to the removals that wait.
    pub removals_approved: bool,
    /// The source sends BODY before UID: one body at a time.
    pub bodies_singly: bool,
    /// Bodies were asked for with a listing, and nothing has been copied since: as long as news is
    /// of what is not to be copied, no more come for nothing.
    pub bodies_unwanted: bool,
    /// Different messages refused one after the other, with none stored between.
    pub refused_in_a_row: HashSet<(FolderId, Uid)>,
    /// Connections that the source ended in IDLE before it was renewed, in a row.
    pub cut_in_idle: u32,
    /// IDLE is not tried again before.
    pub polls_until: Option<Instant>,
    /// A hash of what the servers offer, as it was told last.
    pub said_offers: Option<u64>,
    /// Trouble of a folder's own that was told, by its reason code.
    pub said_trouble: HashMap<FolderId, &'static str>,
    /// The server has no UIDPLUS, and that was said.
    pub said_no_removals: bool,
    /// That the cutover is overdue was said.
    pub said_overdue: bool,
    /// Since when intents have been in doubt, or watched for what comes late. In memory: after a
    /// restart the wait starts anew.
    pub doubted: HashMap<IntentId, Instant>,
    /// Intents in doubt that were told.
    pub said_in_doubt: HashSet<IntentId>,
}

impl Learned {
    /// Nothing yet. `apart` is how far apart two listings must be to make something gone.
    pub fn new(apart: Duration) -> Learned {
        Learned {
            missing: Evidence::new(apart),
            vanished: Evidence::new(apart),
            orphans_missing: Evidence::new(apart),
            orphans_left: Evidence::new(apart),
            unread: Evidence::new(apart),
            withheld: Evidence::new(apart),
            folders_missing: Evidence::new(apart),
            folders_troubled: Evidence::new(apart),
            ..Learned::default()
        }
    }

    /// The folder's source UIDs mean nothing any more.
    pub fn forget_folder(&mut self, folder: FolderId) {
        self.missing.retain(|(of, _)| *of != folder);
        self.vanished.retain(|(of, _)| *of != folder);
        self.withheld.retain(|(of, _)| *of != folder);
        self.orphans_left.retain(|(of, _)| *of != folder);
        self.recopied.retain(|(of, _)| *of != folder);
        self.refused_in_a_row.retain(|(of, _)| *of != folder);
    }
}

impl Book {
    /// Does any folder wait for the cutover?
    pub fn has_deferred(&self) -> bool {
        self.pairs.iter().any(|pair| pair.deferred)
            || self.left_out.iter().any(|left_out| left_out.state == "deferred")
    }

    pub fn pair_of(&self, folder: FolderId) -> Option<usize> {
        self.pairs.iter().position(|pair| pair.record.id == folder)
    }
}

/// A source folder and its target.
pub struct Pair {
    pub record: FolderRecord,
    pub source: WireName,
    pub target: WireName,
    /// Of the target folder, once it was selected.
    pub permanent: Option<PermanentFlags>,
    pub counts: Counts,
    /// The target's folder must be listed before anything is appended.
    pub look_at_target: bool,
    /// Something is left to do although the source's status has not changed.
    pub unfinished: bool,
    /// Nothing is appended to it before the cutover: only what was moved there is in it.
    pub deferred: bool,
    pub in_doubt: u64,
    /// The highest UID of the source's folder when it was first listed in this session.
    pub listed_to: Option<Uid>,
    pub trouble: Option<Reason>,
}

/// A folder that is not copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftOut {
    pub source: WireName,
    pub shown: String,
    /// `excluded`, `held` or `deferred`.
    pub state: &'static str,
    pub why: String,
    /// Where a deferred folder will go, also as users see it.
    pub target: Option<(WireName, String)>,
}

/// What is known of a folder, in numbers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    pub source: u64,
    pub linked: u64,
    pub adopted: u64,
    pub refused: u64,
    pub altered: u64,
    /// Proved by bytes that were read back.
    pub verified: u64,
    pub source_bytes: u64,
    pub linked_bytes: u64,
}

impl Counts {
    /// Counts what is known; the source's own figures are kept.
    pub fn recount(&mut self, known: &BTreeMap<Uid, Known>) {
        let source = (self.source, self.source_bytes);
        *self = Counts { source: source.0, source_bytes: source.1, ..Counts::default() };
        for known in known.values() {
            match known {
                Known::Refused { .. } => self.refused += 1,
                Known::Linked(link) => {
                    self.linked += 1;
                    self.linked_bytes += link.size;
                    self.adopted += u64::from(link.origin != Origin::Copied);
                    self.altered += u64::from(link.altered.is_some());
                    self.verified += u64::from(link.proof >= Proof::ReadBack);
                }
            }
        }
    }
}

impl Pair {
    /// The source folder's name as users see it.
    pub fn shown(&self) -> &str {
        &self.record.source_shown
    }

    /// Copies were removed from the target's folder by us.
    pub fn expect_fewer(&mut self, removed: usize) {
        if let Some(seen) = &mut self.record.target_seen {
            seen.messages = seen.messages.saturating_sub(removed as u32);
        }
    }

    /// Copies were appended by us, up to the UID named.
    pub fn expect_more(&mut self, appended: usize, last: Option<Uid>) {
        match (&mut self.record.target_seen, last) {
            (Some(seen), Some(last)) => {
                seen.messages += appended as u32;
                seen.uid_next = seen.uid_next.max(last.get().saturating_add(1));
            }
            // Without UIDs nothing can be expected: the next look lists the folder.
            _ if appended > 0 => self.look_at_target = true,
            _ => {}
        }
    }

    pub fn status(&self) -> FolderCounts {
        FolderCounts {
            name: self.record.source_shown.clone(),
            target: self.record.target_shown.clone(),
            source: Some(self.counts.source),
            copied: Some(self.counts.linked),
            refused: Some(self.counts.refused),
            state: match (&self.trouble, self.deferred) {
                (Some(_), _) => "held",
                (None, true) => "deferred",
                (None, false) => "ok",
            }
            .to_owned(),
            reason: self.trouble.clone(),
        }
    }
}

/// How large a batch may be: halved by each cut, doubled by each success, or a line that lives
/// for 3 MB never finishes 4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    pub messages: usize,
    pub bytes: u64,
    /// Even a single message drew a BAD: the next goes with a synchronising literal.
    pub synchronising: bool,
}

const BATCH_MESSAGES: usize = 100;
const BATCH_BYTES: u64 = 4 << 20;
const BATCH_BYTES_MIN: u64 = 64 << 10;

impl Default for Pace {
    fn default() -> Pace {
        Pace { messages: BATCH_MESSAGES, bytes: BATCH_BYTES, synchronising: false }
    }
}

impl Pace {
    pub fn cut(&mut self) {
        self.synchronising = self.messages == 1;
        self.messages = (self.messages / 2).max(1);
        self.bytes = (self.bytes / 2).max(BATCH_BYTES_MIN);
    }

    pub fn succeeded(&mut self) {
        self.synchronising = false;
        self.messages = (self.messages * 2).min(BATCH_MESSAGES);
        self.bytes = (self.bytes * 2).min(BATCH_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_falls_to_single_synchronising_and_recovers() {
        let mut pace = Pace::default();
        for _ in 0..6 {
            pace.cut();
        }
        assert_eq!((pace.messages, pace.synchronising), (1, false));
        pace.cut();
        assert_eq!((pace.messages, pace.bytes, pace.synchronising), (1, BATCH_BYTES_MIN, true));
        for _ in 0..8 {
            pace.succeeded();
        }
        assert_eq!(pace, Pace::default());
    }
}
