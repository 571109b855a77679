//! In doubt: an APPEND whose answer never came may still be stored. It is looked for at once,
//! not repeated before `in_doubt_wait`, looked for again; a late twin is removed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::adopt::{self, Candidate};
use super::clock::Instant;
use super::copy::{Failure, link_of};
use super::neighbours::Outline;
use super::pass::{Look, Pass};
use super::plan;
use super::resolve::of_link;
use crate::checkpoint::{Edit, Intended, Intent, Known, Link, Orphan, Phase, Proof};
use crate::imap::Selected;
use crate::journal::{Entry, Event};
use crate::words::{Digests, InternalDate, Message, Sha256, Uid};

/// A repeated APPEND is watched for late twins for so long.
const WATCHED: Duration = Duration::from_secs(600);

impl Pass<'_> {
    /// A folder that the checkpoint does not know may hold copies that an earlier life of ours is
    /// still getting stored, or more than a failing server shows: they are waited for before the
    /// first APPEND. A folder that never held anything, and says so, is only watched, not waited
    /// for, where a late twin could be removed.
    pub async fn mark_fresh(&mut self, look: &mut Look) -> Result<Option<Selected>, Failure> {
        if !self.is_fresh(look) {
            return Ok(None);
        }
        let pair = &self.book.pairs[look.pair];
        let name = pair.target.clone();
        let selected = self.target.select(&name).await?;
        let virgin = selected.exists == 0 && selected.uid_next.is_some_and(|next| next <= 1);
        let can_remove = self.may_change() && self.target.can_remove().await?;
        let fresh = Intent {
            id: self.shared.store.new_intent_id()?,
            folder: look.folder,
            source_uid_validity: look.seen.uid_validity,
            target_uid_validity: selected.uid_validity,
            // Where nobody tells what comes next, nothing that is there may pass for late.
            target_uid_next: selected.uid_next.unwrap_or(u32::MAX),
            written_at: self.shared.clock.now(),
            repeated: virgin && can_remove,
            messages: Vec::new(),
        };
        self.writer.commit(vec![Edit::PutIntent(fresh.clone())]).await?;
        look.intents.push(fresh);
        Ok(Some(selected))
    }

    /// Was the target's folder never looked at?
    pub fn is_fresh(&self, look: &Look) -> bool {
        self.book.pairs[look.pair].record.target_seen.is_none() && look.intents.is_empty()
    }

    /// An intent of nothing in particular: something may still show at the target.
    pub fn fresh_intent(&self, at: usize) -> Result<Intent, Failure> {
        let record = &self.book.pairs[at].record;
        let target = record.target_seen.unwrap_or_default();
        Ok(Intent {
            id: self.shared.store.new_intent_id()?,
            folder: record.id,
            source_uid_validity: record.source_seen.unwrap_or_default().uid_validity,
            target_uid_validity: target.uid_validity,
            target_uid_next: target.uid_next,
            written_at: self.shared.clock.now(),
            repeated: false,
            messages: Vec::new(),
        })
    }

    /// Settles every intent of the folder as far as it can be; the target was just listed.
    pub async fn resolve_intents(&mut self, look: &mut Look) -> Result<(), Failure> {
        let mut intents = std::mem::take(&mut look.intents);
        // What is named owns its copy before any other may call it a late twin.
        intents.sort_by_key(|intent| intent.messages.is_empty());
        let is_fresh = intents.iter().any(|intent| intent.messages.is_empty());
        for intent in intents {
            let Some(intent) = self.find_strays(look, intent).await? else { continue };
            let kept = if intent.repeated {
                self.watch_repeated(look, intent).await?
            } else {
                self.resolve_intent(look, intent, is_fresh).await?
            };
            look.intents.extend(kept);
        }
        Ok(())
    }

    /// Are the UIDs of an intent still those of the folders?
    pub(super) fn is_comparable(&self, look: &Look, intent: &Intent) -> bool {
        let target = self.book.pairs[look.pair].record.target_seen.unwrap_or_default();
        let of_source = intent.source_uid_validity == look.seen.uid_validity;
        intent.target_uid_validity == target.uid_validity
            && (of_source || intent.messages.is_empty())
    }

    /// `is_fresh`: an earlier life, of which nothing is known, may have sent the same.
    async fn resolve_intent(
        &mut self,
        look: &mut Look,
        intent: Intent,
        is_fresh: bool,
    ) -> Result<Option<Intent>, Failure> {
        let named = !intent.messages.is_empty() && self.is_comparable(look, &intent);
        let left = if named { self.find_intended(look, &intent).await? } else { Vec::new() };
        if intent.messages.is_empty() && self.is_comparable(look, &intent) {
            self.remove_surplus(look, &intent).await?;
        }
        let wait = self.left_to_wait(&intent, self.in_doubt_wait());
        let found = named && left.is_empty();
        if !named && wait.is_zero() && self.may_stray(look, &intent) {
            return self.watch(intent).await.map(Some);
        }
        if found && !is_fresh || !named && wait.is_zero() {
            self.writer.commit(vec![Edit::DropIntent(intent.id)]).await?;
            return Ok(None);
        }
        if found || wait.is_zero() {
            // Looked for, waited for, looked for again: now it may be appended anew. Or its copies
            // are there, but may be that other life's, and its own still to come.
            return self.watch(intent).await.map(Some);
        }
        if named {
            self.say_in_doubt(look, &intent, left.len());
            look.blocked.extend(left);
        } else {
            look.all_blocked = true;
        }
        look.unfinished = true;
        self.due_at(Instant::now() + wait);
        Ok(Some(intent))
    }

    /// Does it name messages by numbers of the source that mean nothing any more, while the
    /// target's are still what they were?
    fn may_stray(&self, look: &Look, intent: &Intent) -> bool {
        let target = self.book.pairs[look.pair].record.target_seen.unwrap_or_default();
        !intent.messages.is_empty()
            && intent.source_uid_validity != look.seen.uid_validity
            && intent.target_uid_validity == target.uid_validity
    }

    /// What was sent under numbers that mean nothing any more is ours all the same: copies whose
    /// message has to be found anew. Returns what is left of the intent.
    async fn find_strays(
        &mut self,
        look: &mut Look,
        mut intent: Intent,
    ) -> Result<Option<Intent>, Failure> {
        if !self.may_stray(look, &intent) {
            return Ok(Some(intent));
        }
        let sent: Vec<Candidate<Uid>> = intent.messages.iter().map(of_intended).collect();
        let others = look.beside.unpaired.clone();
        let found = self.match_unexplained(look, &sent, intent.target_uid_next, &others).await?;
        if found.is_empty() {
            return Ok(Some(intent));
        }
        let mut edits = Vec::new();
        for intended in &intent.messages {
            let Some(target_uid) = found.get(&intended.source_uid).copied() else { continue };
            let mut link = Link { proof: Proof::ReadBack, ..link_of(intended, Some(target_uid)) };
            let copy = look.listing.as_ref().and_then(|listing| listing.get(&target_uid));
            // After the cutover its flags may be its owner's.
            if let Some(copy) = copy.filter(|_| self.phase() < Phase::Draining) {
                link.flags = copy.flags.clone();
            }
            look.orphans.insert(target_uid, link.clone());
            edits.push(Edit::PutOrphan(look.folder, Orphan { target_uid, link }));
        }
        intent.messages.retain(|intended| !found.contains_key(&intended.source_uid));
        // One that names nothing would be of a life of which nothing is known.
        let is_done = intent.messages.is_empty();
        edits.push(match is_done {
            true => Edit::DropIntent(intent.id),
            false => Edit::PutIntent(intent.clone()),
        });
        self.writer.commit(edits).await?;
        Ok((!is_done).then_some(intent))
    }

    async fn watch(&mut self, mut intent: Intent) -> Result<Intent, Failure> {
        (intent.repeated, intent.written_at) = (true, self.shared.clock.now());
        self.book.learned.doubted.insert(intent.id, Instant::now());
        self.writer.commit(vec![Edit::PutIntent(intent.clone())]).await?;
        Ok(intent)
    }

    /// Removes late twins of what was appended anew, until none is to be expected any more.
    async fn watch_repeated(
        &mut self,
        look: &mut Look,
        intent: Intent,
    ) -> Result<Option<Intent>, Failure> {
        let mut settled = true;
        if self.is_comparable(look, &intent) {
            if !intent.messages.is_empty() {
                self.find_intended(look, &intent).await?;
            }
            settled = self.remove_surplus(look, &intent).await?;
        }
        let watched = if intent.messages.is_empty() { self.in_doubt_wait() } else { WATCHED };
        let wait = self.left_to_wait(&intent, watched);
        let patience = self.left_to_wait(&intent, watched + WATCHED);
        if wait.is_zero() && !settled && !patience.is_zero() {
            // Nobody else would remove it. What cannot be settled for long stays as it is.
            look.unfinished = true;
            self.book.pairs[look.pair].look_at_target = true;
            return Ok(Some(intent));
        }
        if wait.is_zero() {
            self.writer.commit(vec![Edit::DropIntent(intent.id)]).await?;
            return Ok(None);
        }
        if intent.messages.is_empty() {
            self.book.pairs[look.pair].look_at_target = true;
            self.due_at(Instant::now() + wait);
        }
        Ok(Some(intent))
    }

    fn say_in_doubt(&mut self, look: &Look, intent: &Intent, left: usize) {
        if !self.book.learned.said_in_doubt.insert(intent.id) {
            return;
        }
        let shown = self.book.pairs[look.pair].shown();
        let text = format!(
            "the answer to an APPEND of {} messages was lost; {left} are not at the target yet \
             and wait before they are appended again",
            intent.messages.len()
        );
        self.emit(Entry::new(Event::AppendInDoubt, text).folder(shown));
    }

    /// Counted from when the intent was first looked at, or began to be watched: its connection
    /// was dead by then, while the intent itself may be much older, for a server may take as long
    /// as it likes until the connection is given up.
    fn left_to_wait(&mut self, intent: &Intent, wait: Duration) -> Duration {
        let since = self.book.learned.doubted.entry(intent.id).or_insert_with(Instant::now);
        wait.saturating_sub(since.elapsed())
    }

    /// Links the intended messages that are at the target; returns the source UIDs that are not.
    async fn find_intended(
        &mut self,
        look: &mut Look,
        intent: &Intent,
    ) -> Result<Vec<Uid>, Failure> {
        let unlinked = |intended: &&Intended| {
            !matches!(look.known.get(&intended.source_uid), Some(Known::Linked(_)))
        };
        let open: Vec<&Intended> = intent.messages.iter().filter(unlinked).collect();
        let wants: Vec<Candidate<Uid>> =
            open.iter().map(|intended| of_intended(intended)).collect();
        if wants.is_empty() {
            return Ok(Vec::new());
        }
        let others = look.beside.unpaired.clone();
        let from = intent.target_uid_next;
        let found = self.match_unexplained(look, &wants, from, &others).await?;
        let mut edits = Vec::new();
        let mut left = Vec::new();
        for intended in open {
            let uid = intended.source_uid;
            let Some(target_uid) = found.get(&uid) else {
                left.push(uid);
                continue;
            };
            let mut link = Link { proof: Proof::ReadBack, ..link_of(intended, Some(*target_uid)) };
            // It may be an older copy of the same bytes, and have other flags than were sent.
            if let Some(copy) = look.listing.as_ref().and_then(|listing| listing.get(target_uid)) {
                link.flags = copy.flags.clone();
            }
            look.known.insert(uid, Known::Linked(link.clone()));
            edits.push(Edit::PutKnown(look.folder, uid, Known::Linked(link)));
            match look.wants.remove(&uid) {
                Some(want) => look.flags.push((uid, want.flags)),
                // Its message may have left meanwhile, and then so must the copy.
                None => look.unfinished = true,
            }
        }
        self.writer.commit(edits).await?;
        Ok(left)
    }

    /// Late twins: copies with a UID the doubted APPEND could have had, with the instant and the
    /// bytes of a message that has its copy already. False: some may be, or not.
    async fn remove_surplus(&mut self, look: &mut Look, intent: &Intent) -> Result<bool, Failure> {
        let ours: Vec<Candidate<Uid>> = if intent.messages.is_empty() {
            plan::links(&look.known).map(|(uid, link)| of_link(uid, link)).collect()
        } else {
            intent.messages.iter().map(of_intended).collect()
        };
        // A message that was not listed may own what seems a twin.
        if !look.complete {
            return Ok(false);
        }
        let instants: HashSet<InternalDate> = ours.iter().map(|our| our.instant).collect();
        let late = look
            .unexplained
            .values()
            .filter(|message| message.uid.get() >= intent.target_uid_next)
            .filter(|message| instants.contains(&message.instant));
        let late: Vec<Message> = late.cloned().collect();
        if late.is_empty() {
            return Ok(true);
        }
        // Who hides one message may hide others.
        if !look.missing.is_empty() {
            return Ok(false);
        }
        let firsts = plan::links(&look.known)
            .filter(|(_, link)| late.iter().any(|message| message.instant == link.instant));
        let firsts: Vec<(Uid, Link)> = firsts.map(|(uid, link)| (uid, link.clone())).collect();
        // All at once, for what is removed has to be seen in the same SELECT.
        let copies = firsts.iter().filter_map(|(_, link)| link.target_uid);
        let uids: Vec<Uid> = late.iter().map(|message| message.uid).chain(copies).collect();
        let digests = self.target_digests(look.pair, &uids).await?;
        let unsure = self.lose_false_links(look, firsts, &digests).await?;
        // A message that still waits for its copy owns it before it is a surplus. The source may
        // tell another size than it gives.
        let wants = look.wants.values().chain(&look.withheld).map(Outline::of);
        let owners = Owners {
            wants: wants.chain(self.wanted_beside.iter().flatten().copied()).collect(),
            claims: look.beside.claims().collect(),
            unsure,
            all_known: self.wanted_beside.is_some(),
        };
        let twins = late_twins(&late, &digests, &ours, &owners);
        self.drop_surplus(look, &twins.surplus).await?;
        // What was listed and not given may be one.
        let all_given = late.iter().all(|message| digests.contains_key(&message.uid));
        Ok(all_given && !twins.doubtful)
    }

    /// Links that do not name a copy of their message find it anew: a target may lie about UIDs.
    /// Returns what they are of, for what seems its second copy may be the only one.
    async fn lose_false_links(
        &mut self,
        look: &mut Look,
        links: Vec<(Uid, Link)>,
        digests: &BTreeMap<Uid, Digests>,
    ) -> Result<BTreeSet<Sha256>, Failure> {
        let mut unsure = BTreeSet::new();
        let mut edits = Vec::new();
        for (uid, mut link) in links {
            let copy = link.target_uid.and_then(|target_uid| digests.get(&target_uid));
            if copy.is_some_and(|copy| copy.sha256 == link.sha256) {
                continue;
            }
            unsure.insert(link.sha256);
            if copy.is_some() && link.altered.is_none() {
                link.target_uid = None;
                look.known.insert(uid, Known::Linked(link.clone()));
                edits.push(Edit::PutKnown(look.folder, uid, Known::Linked(link)));
                look.unfinished = true;
                self.book.pairs[look.pair].look_at_target = true;
            }
        }
        self.writer.commit(edits).await?;
        Ok(unsure)
    }

    async fn drop_surplus(&mut self, look: &mut Look, surplus: &[Uid]) -> Result<(), Failure> {
        let removable = self.may_change() && self.target.can_remove().await?;
        let said = match removable {
            true => "a late second copy of ours is removed",
            false => "the target holds a second copy that we may not remove",
        };
        for uid in surplus {
            let shown = self.book.pairs[look.pair].shown();
            let entry = Entry::new(Event::DuplicateSuspected, said).folder(shown);
            self.emit(entry.target_uid(Some(*uid)));
            look.unexplained.remove(uid);
        }
        if removable && !surplus.is_empty() {
            let name = self.book.pairs[look.pair].target.clone();
            self.target.remove(&name, surplus).await?;
            self.book.pairs[look.pair].expect_fewer(surplus.len());
        }
        Ok(())
    }
}

/// Who may own a copy before it is called a surplus.
struct Owners {
    /// Messages without a copy, also of folders that are copied to the same one.
    wants: Vec<Outline>,
    /// What those folders have stored, or may have, without knowing where.
    claims: HashSet<(Sha256, InternalDate)>,
    /// Bytes whose first copy is not for sure there.
    unsure: BTreeSet<Sha256>,
    /// `wants` are all that there are.
    all_known: bool,
}

struct Twins {
    surplus: Vec<Uid>,
    /// Others may be surplus, too; it is not the time to say.
    doubtful: bool,
}

/// Which of the late copies are second copies of `ours`, and nobody else's.
fn late_twins(
    late: &[Message],
    digests: &BTreeMap<Uid, Digests>,
    ours: &[Candidate<Uid>],
    owners: &Owners,
) -> Twins {
    let is_twin = |message: &Message, sha256: Sha256| {
        let mut ours = ours.iter().filter(|our| our.instant == message.instant);
        ours.any(|our| our.digests.is_some_and(|known| known.sha256() == sha256))
    };
    let twins = late.iter().filter_map(|message| Some((message, digests.get(&message.uid)?)));
    let twins = twins.filter(|(message, digests)| is_twin(message, digests.sha256));
    let (surplus, doubtful): (Vec<_>, Vec<_>) = twins.partition(|(message, digests)| {
        let owns = |want: &Outline| want.0 == digests.size || want.1 == message.instant;
        owners.all_known
            && !owners.wants.iter().any(owns)
            && !owners.claims.contains(&(digests.sha256, message.instant))
            && !owners.unsure.contains(&digests.sha256)
    });
    let surplus = surplus.iter().map(|(message, _)| message.uid).collect();
    Twins { surplus, doubtful: !doubtful.is_empty() }
}

/// May the intent have made this copy, for a message that has none yet? One whose UIDs mean
/// nothing any more (it is not comparable) still tells that it was sent.
pub fn may_have_made(
    intent: &Intent,
    comparable: bool,
    known: &BTreeMap<Uid, Known>,
    copy: Uid,
    print: (Sha256, InternalDate),
) -> bool {
    let is_open = |uid: &Uid| !matches!(known.get(uid), Some(Known::Linked(_)));
    let mut open = intent.messages.iter().filter(|it| is_open(&it.source_uid));
    (!comparable || copy.get() >= intent.target_uid_next)
        && open.any(|it| (it.sha256, it.instant) == print)
}

/// What an intent says of a linked message.
pub fn intended(source_uid: Uid, link: &Link) -> Intended {
    Intended {
        source_uid,
        size: link.size,
        instant: link.instant,
        header: link.header,
        sha256: link.sha256,
        flags: link.flags.clone(),
        suspect: link.suspect,
    }
}

fn of_intended(intended: &Intended) -> Candidate<Uid> {
    let digests = Some(adopt::Known::Exact(intended.sha256));
    let flags = intended.flags.clone();
    let (key, size, instant) = (intended.source_uid, intended.size, intended.instant);
    Candidate { key, size, instant, flags, digests }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{link, uid};
    use super::*;
    use crate::checkpoint::{FolderId, IntentId};
    use crate::words::{Flags, HeaderDigest, LooseDigest, UidValidity};

    const A: Sha256 = Sha256([1; 32]);
    const B: Sha256 = Sha256([2; 32]);

    fn at(instant: i64) -> InternalDate {
        InternalDate(instant)
    }

    fn ours() -> Vec<Candidate<Uid>> {
        [(1, A, 10), (2, B, 20)]
            .map(|(key, sha256, instant)| Candidate {
                key: uid(key),
                size: 100,
                instant: at(instant),
                flags: Flags::default(),
                digests: Some(adopt::Known::Exact(sha256)),
            })
            .to_vec()
    }

    fn nobody() -> Owners {
        Owners {
            wants: Vec::new(),
            claims: HashSet::new(),
            unsure: BTreeSet::new(),
            all_known: true,
        }
    }

    /// What becomes of a late copy with these bytes and this instant: a surplus, a doubt, nothing.
    fn judged(sha256: Sha256, instant: i64, owners: &Owners) -> (usize, bool) {
        let (size, flags) = (100, Flags::default());
        let late = [Message { uid: uid(9), size, instant: at(instant), flags }];
        let digests = Digests {
            size,
            sha256,
            header: HeaderDigest([0; 16]),
            loose: LooseDigest([0; 32]),
            suspect: false,
        };
        let twins = late_twins(&late, &BTreeMap::from([(uid(9), digests)]), &ours(), owners);
        (twins.surplus.len(), twins.doubtful)
    }

    #[test]
    fn a_late_twin_has_bytes_and_instant_of_one_of_ours() {
        assert_eq!(judged(A, 10, &nobody()), (1, false));
        assert_eq!(judged(A, 20, &nobody()), (0, false), "the instant is another's");
        assert_eq!(judged(Sha256([3; 32]), 10, &nobody()), (0, false));
    }

    #[test]
    fn who_may_own_a_copy_owns_it_before_it_is_a_surplus() {
        let doubted = (0, true);
        let same_size = Owners { wants: vec![Outline(100, at(77))], ..nobody() };
        assert_eq!(judged(A, 10, &same_size), doubted);
        let same_instant = Owners { wants: vec![Outline(7, at(10))], ..nobody() };
        assert_eq!(judged(A, 10, &same_instant), doubted);
        let other = Owners { wants: vec![Outline(7, at(77))], ..nobody() };
        assert_eq!(judged(A, 10, &other), (1, false));
        let claimed = Owners { claims: HashSet::from([(A, at(10))]), ..nobody() };
        assert_eq!(judged(A, 10, &claimed), doubted);
        assert_eq!(judged(B, 20, &claimed), (1, false));
        let unsure = Owners { unsure: BTreeSet::from([A]), ..nobody() };
        assert_eq!(judged(A, 10, &unsure), doubted);
        assert_eq!(judged(A, 10, &Owners { all_known: false, ..nobody() }), doubted);
    }

    #[test]
    fn only_what_an_intent_may_have_made_becomes_ours() {
        let messages = vec![Intended {
            source_uid: uid(1),
            size: 100,
            instant: at(10),
            header: HeaderDigest([0; 16]),
            sha256: A,
            flags: Flags::default(),
            suspect: false,
        }];
        let intent = Intent {
            id: IntentId(1),
            folder: FolderId(1),
            source_uid_validity: UidValidity(1),
            target_uid_validity: UidValidity(1),
            target_uid_next: 5,
            written_at: 0,
            repeated: false,
            messages,
        };
        let made = |comparable, linked: bool, copy, print| {
            let known = linked.then(|| (uid(1), Known::Linked(link(Some(8), ""))));
            may_have_made(&intent, comparable, &known.into_iter().collect(), uid(copy), print)
        };
        assert!(made(true, false, 5, (A, at(10))));
        assert!(!made(true, false, 4, (A, at(10))), "it was there before");
        assert!(made(false, false, 4, (A, at(10))), "its UIDs mean nothing any more");
        assert!(!made(true, true, 5, (A, at(10))), "its message has its copy");
        assert!(!made(true, false, 5, (B, at(10))), "other bytes");
        assert!(!made(true, false, 5, (A, at(11))), "another instant");
    }
}
