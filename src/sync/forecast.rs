//! What a pass would do with an account as it is seen: pure.
//!
//! A pass decides by bytes; here nothing is downloaded, so size and instant stand in for them.
//! What it would compare before it copies is counted on its own.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::plan::{self, SourceDiff, TargetDiff};
use crate::checkpoint::{Known, Link, Origin};
use crate::words::{InternalDate, Message, Uid};

/// One pair of folders, as it is seen.
pub struct Seen {
    pub name: String,
    pub target: String,
    /// The target's folder is not there yet.
    pub to_be_made: bool,
    pub known: BTreeMap<Uid, Known>,
    pub source: SourceDiff,
    pub on_target: TargetDiff,
    /// Trash or Junk: emptying them is no mass deletion.
    pub exempt: bool,
    /// Nothing but moved messages goes to it before the cutover.
    pub deferred: bool,
}

/// What holds for the account as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Flags, moves and removals are still applied: it is not sealed.
    pub may_change: bool,
    /// Deletions are mirrored.
    pub mirrors: bool,
    /// Removals wait for an approval.
    pub suspended: bool,
    pub target_is_ours: bool,
}

/// What would happen to one folder.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FolderPlan {
    pub name: String,
    /// Empty where it is not copied.
    pub target: String,
    /// `ok`, `new` (made at the target first), `excluded`, `deferred` or `held`.
    pub state: String,
    /// Of folders that are not `ok`, in words.
    pub why: String,
    /// Messages without a copy, of which none seems to be there.
    pub copy: Part,
    /// Messages without a copy, where one of that size is there and nothing explains it: it is
    /// compared, and adopted if it has the same bytes.
    pub compare: Part,
    /// Copies that vanished from the target and are made again.
    pub copy_again: Part,
    /// Copies whose flags change.
    pub flag: Part,
    /// Messages that came from another folder: their copies are moved here.
    pub moved_here: Part,
    /// Copies that are removed.
    pub remove: Part,
    /// Copies of messages that are gone and that stay all the same.
    pub keep: Part,
}

/// Messages of the source's folder: how many, their octets, which.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    pub messages: u64,
    pub bytes: u64,
    /// Source UIDs, as IMAP writes a set of them.
    pub uids: String,
}

/// What a message looks like before it is downloaded.
type Looks = (u64, InternalDate);

/// What a pass would do; the second value says whether it would suspend removals instead, since
/// so much is gone at once.
pub fn forecast(folders: &[Seen], terms: Terms) -> (Vec<FolderPlan>, bool) {
    let mut leaving = leaving(folders, terms);
    let mut arriving: Vec<Vec<&Message>> = Vec::new();
    let mut wanted: Vec<Vec<&Message>> = Vec::new();
    for folder in folders {
        let (moved, new): (Vec<&Message>, Vec<&Message>) = folder
            .source
            .new
            .iter()
            .partition(|message| leaving.take((message.size, message.instant)));
        arriving.push(moved);
        wanted.push(if folder.deferred { Vec::new() } else { new });
    }
    let gone: Vec<Vec<(Uid, &Link)>> = (0..folders.len()).map(|at| leaving.left(at)).collect();
    let suspended = terms.suspended || (terms.mirrors && is_too_much(folders, &gone));
    let plans = folders.iter().enumerate().map(|(at, folder)| {
        let (mut copy, mut compare) = (Parts::default(), Parts::default());
        let mut unexplained = Unexplained::of(&folder.on_target.unexplained);
        for message in &wanted[at] {
            let part = if unexplained.take(message) { &mut compare } else { &mut copy };
            part.add(message.uid, message.size);
        }
        let (mut remove, mut keep) = (Parts::default(), Parts::default());
        for (uid, link) in &gone[at] {
            let goes = terms.mirrors && !suspended && is_ours(link, terms);
            let part = if goes { &mut remove } else { &mut keep };
            part.add(*uid, link.size);
        }
        let (mut flag, mut again, mut moved) =
            (Parts::default(), Parts::default(), Parts::default());
        let linked = |uid: &Uid| match folder.known.get(uid) {
            Some(Known::Linked(link)) => Some((*uid, link)),
            _ => None,
        };
        if terms.may_change {
            let flagged = folder.source.flags.iter().filter_map(|(uid, _)| linked(uid));
            let follows = |link: &Link| is_ours(link, terms) || link.origin == Origin::Twin;
            flagged
                .filter(|(_, link)| follows(link))
                .for_each(|(uid, link)| flag.add(uid, link.size));
            let missing: HashSet<&Uid> = folder.source.missing.iter().collect();
            let vanished = folder.on_target.vanished.iter();
            vanished
                .filter(|uid| !missing.contains(uid))
                .filter_map(linked)
                .for_each(|(uid, link)| again.add(uid, link.size));
        }
        arriving[at].iter().for_each(|message| moved.add(message.uid, message.size));
        let state = match (folder.deferred, folder.to_be_made) {
            (true, _) => "deferred",
            (false, true) => "new",
            (false, false) => "ok",
        };
        FolderPlan {
            name: folder.name.clone(),
            target: folder.target.clone(),
            state: state.to_owned(),
            why: String::new(),
            copy: copy.part(),
            compare: compare.part(),
            copy_again: again.part(),
            flag: flag.part(),
            moved_here: moved.part(),
            remove: remove.part(),
            keep: keep.part(),
        }
    });
    let plans = plans.collect();
    (plans, suspended && gone.iter().any(|gone| !gone.is_empty()))
}

fn is_ours(link: &Link, terms: Terms) -> bool {
    (link.origin == Origin::Copied || terms.target_is_ours) && link.target_uid.is_some()
}

/// As a pass counts: of a folder, or of the account as a whole.
fn is_too_much(folders: &[Seen], gone: &[Vec<(Uid, &Link)>]) -> bool {
    let counted = |at: usize| if folders[at].exempt { 0 } else { gone[at].len() };
    let linked = |folder: &Seen| plan::links(&folder.known).count();
    let all: usize = (0..folders.len()).map(counted).sum();
    let of_folder = |at: usize| plan::is_mass_deletion(counted(at), linked(&folders[at]));
    plan::is_mass_deletion(all, folders.iter().map(linked).sum())
        || (0..folders.len()).any(of_folder)
}

/// Linked messages that are gone from their folder: moved elsewhere, or deleted.
struct Leaving<'f> {
    /// By folder, ascending UIDs.
    missing: Vec<BTreeMap<Uid, &'f Link>>,
    by_looks: HashMap<Looks, Vec<(usize, Uid)>>,
}

fn leaving(folders: &[Seen], terms: Terms) -> Leaving<'_> {
    let mut leaving = Leaving { missing: Vec::new(), by_looks: HashMap::new() };
    for (at, folder) in folders.iter().enumerate() {
        let mut missing = BTreeMap::new();
        for uid in folder.source.missing.iter().filter(|_| terms.may_change) {
            let Some(Known::Linked(link)) = folder.known.get(uid) else { continue };
            missing.insert(*uid, link);
            if is_ours(link, terms) {
                let same = leaving.by_looks.entry((link.size, link.instant)).or_default();
                same.push((at, *uid));
            }
        }
        leaving.missing.push(missing);
    }
    leaving
}

impl<'f> Leaving<'f> {
    /// One of them has turned up elsewhere.
    fn take(&mut self, looks: Looks) -> bool {
        let found = self.by_looks.get_mut(&looks).and_then(Vec::pop);
        let Some((at, uid)) = found else { return false };
        self.missing[at].remove(&uid).is_some()
    }

    fn left(&self, at: usize) -> Vec<(Uid, &'f Link)> {
        self.missing[at].iter().map(|(uid, link)| (*uid, *link)).collect()
    }
}

/// Messages of the target that nothing explains, by what is known of them.
struct Unexplained {
    by_looks: HashMap<Looks, usize>,
    by_size: HashMap<u64, usize>,
}

impl Unexplained {
    fn of(messages: &[Message]) -> Unexplained {
        let mut found = Unexplained { by_looks: HashMap::new(), by_size: HashMap::new() };
        for message in messages {
            *found.by_looks.entry((message.size, message.instant)).or_default() += 1;
            *found.by_size.entry(message.size).or_default() += 1;
        }
        found
    }

    /// One of that size, rather one of that instant too.
    fn take(&mut self, message: &Message) -> bool {
        let Some(of_size) = self.by_size.get_mut(&message.size).filter(|left| **left > 0) else {
            return false;
        };
        *of_size -= 1;
        if let Some(same) = self.by_looks.get_mut(&(message.size, message.instant)) {
            *same = same.saturating_sub(1);
        }
        true
    }
}

#[derive(Default)]
struct Parts {
    messages: u64,
    bytes: u64,
    uids: Vec<u32>,
}

impl Parts {
    fn add(&mut self, uid: Uid, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
        self.uids.push(uid.get());
    }

    fn part(mut self) -> Part {
        self.uids.sort_unstable();
        Part { messages: self.messages, bytes: self.bytes, uids: set_of(&self.uids) }
    }
}

/// `1:3,7` (RFC 9051, sequence-set) of ascending numbers.
fn set_of(uids: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for uid in uids {
        match ranges.last_mut() {
            Some((_, last)) if uid.checked_sub(1) == Some(*last) => *last = *uid,
            _ => ranges.push((*uid, *uid)),
        }
    }
    let texts = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}:{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{link, message, uid};
    use super::*;

    const TERMS: Terms =
        Terms { may_change: true, mirrors: true, suspended: false, target_is_ours: false };

    fn sized(number: u32, size: u64) -> Message {
        Message { size, ..message(number, "") }
    }

    /// Linked 1..=n, each of its own size.
    fn folder(name: &str, linked: u32) -> Seen {
        let known = (1..=linked).map(|number| {
            let link = Link { size: 100 + u64::from(number), ..link(Some(number), "") };
            (uid(number), Known::Linked(link))
        });
        Seen {
            name: name.to_owned(),
            target: name.to_owned(),
            to_be_made: false,
            known: known.collect(),
            source: SourceDiff::default(),
            on_target: TargetDiff::default(),
            exempt: false,
            deferred: false,
        }
    }

    /// `copy 5 compare 6`, the parts that are not empty.
    fn said(plan: &FolderPlan) -> String {
        let parts = [
            ("copy", &plan.copy),
            ("compare", &plan.compare),
            ("again", &plan.copy_again),
            ("flag", &plan.flag),
            ("moved", &plan.moved_here),
            ("remove", &plan.remove),
            ("keep", &plan.keep),
        ];
        let parts = parts.iter().filter(|(_, part)| part.messages > 0);
        parts.map(|(name, part)| format!("{name} {}", part.uids)).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check(folders: &[Seen], terms: Terms, expected: &[&str], suspends: bool) {
        let (plans, suspended) = forecast(folders, terms);
        let plans: Vec<String> = plans.iter().map(said).collect();
        assert_eq!(
            (plans, suspended),
            (expected.iter().map(|s| (*s).to_owned()).collect(), suspends)
        );
    }

    #[test]
    fn what_is_new_is_copied_unless_something_of_its_size_lies_there() {
        let mut inbox = folder("INBOX", 2);
        inbox.source.new = vec![sized(3, 7), sized(4, 7), sized(5, 8), sized(7, 9)];
        inbox.on_target.unexplained = vec![sized(90, 7), sized(91, 9)];
        inbox.on_target.vanished = vec![uid(2)];
        inbox.source.flags = vec![(uid(1), Default::default())];
        check(&[inbox], TERMS, &["copy 4:5 compare 3,7 again 2 flag 1"], false);
    }

    #[test]
    fn what_turns_up_elsewhere_is_moved_and_the_rest_is_removed() {
        let both = || {
            let (mut inbox, mut other) = (folder("INBOX", 9), folder("Clienti", 0));
            inbox.source.missing = vec![uid(3), uid(4)];
            other.source.new = vec![sized(1, 103), sized(2, 103)];
            [inbox, other]
        };
        check(&both(), TERMS, &["remove 4", "copy 2 moved 1"], false);
        check(&both(), Terms { mirrors: false, ..TERMS }, &["keep 4", "copy 2 moved 1"], false);
        check(&both(), Terms { suspended: true, ..TERMS }, &["keep 4", "copy 2 moved 1"], true);
        let sealed = Terms { may_change: false, ..TERMS };
        check(&both(), sealed, &["", "copy 1:2"], false);
    }

    #[test]
    fn a_mass_deletion_is_foreseen_but_not_in_the_trash() {
        let emptied = |exempt| {
            let mut inbox = Seen { exempt, ..folder("INBOX", 12) };
            inbox.source.missing = (1..=7).map(uid).collect();
            inbox
        };
        check(&[emptied(false)], TERMS, &["keep 1:7"], true);
        check(&[emptied(true), folder("Other", 9)], TERMS, &["remove 1:7", ""], false);
    }

    #[test]
    fn nobody_elses_copy_is_touched_and_a_deferred_folder_waits() {
        let mut inbox = folder("INBOX", 2);
        for known in inbox.known.values_mut() {
            let Known::Linked(link) = known else { continue };
            link.origin = Origin::Adopted;
        }
        inbox.source.missing = vec![uid(1)];
        inbox.source.flags = vec![(uid(2), Default::default())];
        let mut archive = Seen { deferred: true, ..folder("Archivio", 0) };
        archive.source.new = vec![sized(1, 101), sized(2, 5)];
        check(&[inbox, archive], TERMS, &["keep 1", ""], false);
    }

    #[test]
    fn sets_are_written_as_imap_does() {
        assert_eq!(set_of(&[1, 2, 3, 7, 9, 10, u32::MAX]), "1:3,7,9:10,4294967295");
        assert_eq!(set_of(&[]), "");
    }
}
