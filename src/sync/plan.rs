//! Compares one folder's source, target and checkpoint: what is new, changed, missing, foreign.
//!
//! Pure. A listing that is not complete never makes anything missing.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::{Known, Link};
use crate::imap::Changes;
use crate::words::{Flags, Message, Uid};

/// What a look at the source's folder brought.
#[derive(Clone, Debug)]
pub struct SourceLook {
    /// All messages, or only those from some UID on.
    pub messages: Vec<Message>,
    /// Of other messages, where they may have changed.
    pub changes: Changes,
    /// All UIDs there are, where that was asked.
    pub present: Option<BTreeSet<Uid>>,
}

/// How the source differs from what is known of it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct SourceDiff {
    /// Not linked, not refused for good.
    pub new: Vec<Message>,
    /// Linked, with flags that differ from those last written.
    pub flags: Vec<(Uid, Flags)>,
    /// Known and no longer there.
    pub missing: Vec<Uid>,
    /// Those among them that the server says vanished (QRESYNC).
    pub told: BTreeSet<Uid>,
}

/// How often a refused message is tried.
pub const REFUSED_TRIES_MAX: u32 = 3;

/// What to add to a copy and what to take from it, so that it has `flags`: the difference from
/// what was last written, and whatever is unsure.
pub fn flag_changes(link: &Link, flags: &Flags) -> (Flags, Flags) {
    let (added, removed) = (flags.minus(&link.flags), link.flags.minus(flags));
    let Some(unsure) = &link.unsure else { return (added, removed) };
    let out = unsure.minus(flags);
    (added.with(&unsure.minus(&out)), removed.with(&out))
}

/// What changed at the source. `now`, in Unix seconds, and `apart_secs` only pace tries of refused
/// messages.
pub fn source_diff(
    known: &BTreeMap<Uid, Known>,
    look: &SourceLook,
    now: i64,
    apart_secs: i64,
) -> SourceDiff {
    let mut diff = SourceDiff::default();
    for message in &look.messages {
        match known.get(&message.uid) {
            None => diff.new.push(message.clone()),
            Some(Known::Refused { tries, last_try, .. }) => {
                if *tries < REFUSED_TRIES_MAX && (now - last_try).abs() >= apart_secs {
                    diff.new.push(message.clone());
                }
            }
            Some(Known::Linked(link)) => {
                if link.flags != message.flags || link.unsure.is_some() {
                    diff.flags.push((message.uid, message.flags.clone()));
                }
            }
        }
    }
    for (uid, flags) in &look.changes.flags {
        if let Some(Known::Linked(link)) = known.get(uid)
            && (link.flags != *flags || link.unsure.is_some())
        {
            diff.flags.push((*uid, flags.clone()));
        }
    }
    if let Some(present) = &look.present {
        diff.missing.extend(known.keys().filter(|uid| !present.contains(uid)));
        // A server that calls gone what it lists is not believed about the rest, either.
        if !present.iter().any(|uid| look.changes.has_vanished(*uid)) {
            let told = diff.missing.iter().filter(|uid| look.changes.has_vanished(**uid));
            diff.told = told.copied().collect();
        }
    }
    diff
}

/// Known UIDs under which another message may lie by now: linked ones whose size or date is no
/// longer the link's, and from the first of them on the refused ones.
pub fn renumbered(known: &BTreeMap<Uid, Known>, messages: &[Message]) -> Vec<Uid> {
    let mut renumbered = Vec::new();
    for message in messages {
        let other = match known.get(&message.uid) {
            None => false,
            Some(Known::Linked(link)) => {
                (link.size, link.instant) != (message.size, message.instant)
            }
            Some(Known::Refused { .. }) => !renumbered.is_empty(),
        };
        renumbered.extend(other.then_some(message.uid));
    }
    renumbered
}

/// How the target's folder differs from what the links say of it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct TargetDiff {
    /// At the target, explained by no link.
    pub unexplained: Vec<Message>,
    /// Linked source UIDs whose copy is not there.
    pub vanished: Vec<Uid>,
    /// Linked source UIDs whose copy's UID is not known.
    pub unpaired: Vec<Uid>,
}

/// Compares a complete listing of the target's folder with the links into it. `orphans` are
/// target UIDs that the checkpoint knows without a message, `others` those explained by other
/// source folders that share this target.
pub fn target_diff(
    known: &BTreeMap<Uid, Known>,
    orphans: &BTreeSet<Uid>,
    others: &BTreeSet<Uid>,
    listing: &[Message],
) -> TargetDiff {
    let present: BTreeSet<Uid> = listing.iter().map(|message| message.uid).collect();
    let mut explained = orphans.clone();
    let mut diff = TargetDiff::default();
    for (uid, link) in links(known) {
        match link.target_uid {
            None => diff.unpaired.push(uid),
            Some(target_uid) => {
                explained.insert(target_uid);
                if !present.contains(&target_uid) {
                    diff.vanished.push(uid);
                }
            }
        }
    }
    let foreign =
        |message: &&Message| !explained.contains(&message.uid) && !others.contains(&message.uid);
    diff.unexplained = listing.iter().filter(foreign).cloned().collect();
    diff
}

/// Was it refused, and not often enough to be believed?
pub fn is_to_be_tried(known: &Known) -> bool {
    matches!(known, Known::Refused { tries, .. } if *tries < REFUSED_TRIES_MAX)
}

/// Was something about it begun and not ended?
pub fn is_open(known: &Known) -> bool {
    let unsure = matches!(known, Known::Linked(link) if link.unsure.is_some());
    unsure || is_to_be_tried(known)
}

/// The links among what is known.
pub fn links(known: &BTreeMap<Uid, Known>) -> impl Iterator<Item = (Uid, &Link)> {
    known.iter().filter_map(|(uid, known)| match known {
        Known::Linked(link) => Some((*uid, link)),
        Known::Refused { .. } => None,
    })
}

/// Would the removals be a mass deletion: more than half of a folder of ten or more?
pub fn is_mass_deletion(removed: usize, linked_before: usize) -> bool {
    linked_before >= 10 && removed * 2 > linked_before
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::checkpoint::{Origin, Proof};
    use crate::words::{HeaderDigest, InternalDate, Sha256};

    pub fn uid(number: u32) -> Uid {
        Uid::new(number).expect("not 0")
    }

    pub fn message(number: u32, flags: &str) -> Message {
        Message {
            uid: uid(number),
            flags: Flags::of_names(flags.split_whitespace()),
            instant: InternalDate(1000),
            size: 10,
        }
    }

    pub fn link(target: Option<u32>, flags: &str) -> Link {
        Link {
            target_uid: target.map(uid),
            origin: Origin::Copied,
            size: 10,
            instant: InternalDate(1000),
            header: HeaderDigest([0; 16]),
            sha256: Sha256([0; 32]),
            flags: Flags::of_names(flags.split_whitespace()),
            unsure: None,
            proof: Proof::Listed,
            suspect: false,
            altered: None,
        }
    }

    fn known(text: &str) -> BTreeMap<Uid, Known> {
        let words = text.split_whitespace();
        words
            .map(|word| match word.split_once('=') {
                Some((source, "refused")) => {
                    let refused = Known::Refused {
                        by_target: true,
                        text: String::new(),
                        tries: 1,
                        last_try: 0,
                    };
                    (uid(source.parse().unwrap()), refused)
                }
                Some((source, target)) => {
                    let link = link(target.parse().ok(), "");
                    (uid(source.parse().unwrap()), Known::Linked(link))
                }
                None => panic!("{word}"),
            })
            .collect()
    }

    fn uids(messages: &[Message]) -> Vec<u32> {
        messages.iter().map(|message| message.uid.get()).collect()
    }

    #[test]
    fn source_side() {
        let look = SourceLook {
            messages: vec![message(1, "\\Seen"), message(3, ""), message(4, "")],
            changes: Changes {
                flags: vec![(uid(5), Flags::of_names(["x"]))],
                vanished: vec![(2, 2), (7, 4_000_000_000)],
            },
            present: Some([1, 3, 4, 5].map(uid).into()),
        };
        let diff = source_diff(&known("1=11 2=12 4=refused 5=15"), &look, 59, 60);
        assert_eq!(uids(&diff.new), [3]);
        assert_eq!(diff.flags.iter().map(|(uid, _)| uid.get()).collect::<Vec<_>>(), [1, 5]);
        assert_eq!(diff.missing, [uid(2)]);
        assert_eq!(diff.told, [uid(2)].into());
        let mut liar = look.clone();
        liar.changes.vanished.push((3, 3));
        let diff = source_diff(&known("1=11 2=12"), &liar, 59, 60);
        assert_eq!(diff.missing, [uid(2)]);
        assert_eq!(diff.told, [].into(), "3 vanished, they say, and is there");
        let diff = source_diff(&known("4=refused"), &look, 60, 60);
        assert_eq!(uids(&diff.new), [1, 3, 4], "a refused one is tried again, later");
        let look = SourceLook { present: None, ..look };
        assert_eq!(source_diff(&known("2=12"), &look, 0, 60).missing, [], "not asked, not missing");
    }

    #[test]
    fn another_message_under_a_known_uid() {
        let check = |known_as: &str, messages: &[Message], expected: &[u32]| {
            let found = renumbered(&known(known_as), messages);
            let found: Vec<u32> = found.into_iter().map(Uid::get).collect();
            assert_eq!(found, expected, "{known_as}");
        };
        let longer = |number| Message { size: 11, ..message(number, "") };
        let later = |number| Message { instant: InternalDate(1001), ..message(number, "") };
        check("1=11 2=12", &[message(1, "\\Seen"), message(2, ""), longer(3)], &[]);
        check("1=11 2=12 3=?", &[longer(1), message(2, ""), later(3)], &[1, 3]);
        check("1=refused 2=12 3=refused", &[longer(1), later(2), message(3, "")], &[2, 3]);
    }

    #[test]
    fn target_side() {
        let listing = [message(11, ""), message(13, ""), message(14, ""), message(15, "")];
        let diff = target_diff(
            &known("1=11 2=12 3=?"),
            &BTreeSet::from([uid(13)]),
            &BTreeSet::from([uid(14)]),
            &listing,
        );
        assert_eq!(uids(&diff.unexplained), [15]);
        assert_eq!((diff.vanished, diff.unpaired), (vec![uid(2)], vec![uid(3)]));
    }

    #[test]
    fn mass_deletion_needs_ten_and_more_than_half() {
        let cases = [(9, 9, false), (5, 10, false), (6, 10, true), (10, 10, true)];
        for (removed, before, expected) in cases {
            assert_eq!(is_mass_deletion(removed, before), expected, "{removed} of {before}");
        }
    }

    #[test]
    fn unsure_flags_are_written_again_whatever_was_written_last() {
        let flags = |text: &str| Flags::of_names(text.split_whitespace());
        for (written, unsure, wanted, added, removed) in [
            ("\\Seen", None, "\\Seen", "", ""),
            ("\\Seen", None, "\\Flagged", "\\Flagged", "\\Seen"),
            ("\\Seen", Some("\\Seen"), "\\Seen", "\\Seen", ""),
            ("\\Seen", Some("\\Seen \\Flagged"), "\\Seen", "\\Seen", "\\Flagged"),
            ("", Some("\\Seen"), "\\Flagged", "\\Flagged", "\\Seen"),
            ("$Label1", Some("$Label1"), "$label1 \\Seen", "\\Seen $Label1", ""),
        ] {
            let mut link = link(Some(1), written);
            link.unsure = unsure.map(flags).map(Box::new);
            let changes = flag_changes(&link, &flags(wanted));
            assert_eq!(changes, (flags(added), flags(removed)), "{written} {unsure:?} {wanted}");
        }
    }

    #[test]
    fn a_link_with_unsure_flags_is_looked_at_though_its_flags_are_the_same() {
        let mut known = known("1=11 2=12");
        if let Some(Known::Linked(link)) = known.get_mut(&uid(2)) {
            link.unsure = Some(Box::new(Flags::of_names(["\\Seen"])));
        }
        let look = SourceLook {
            messages: vec![message(1, ""), message(2, "")],
            changes: Changes::default(),
            present: None,
        };
        let diff = source_diff(&known, &look, 0, 60);
        assert_eq!(diff.flags, [(uid(2), Flags::default())]);
        assert!(!is_open(&known[&uid(1)]) && is_open(&known[&uid(2)]));
    }
}
