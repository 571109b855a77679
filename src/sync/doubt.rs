//! In doubt: an APPEND whose answer never came may still be stored. It is looked for at once,
//! not repeated before `in_doubt_wait`, looked for again; a late twin is removed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::adopt::{self, Candidate};
use super::clock::Instant;
use super::copy::{Failure, link_of};
use super::pass::{Look, Pass};
use super::plan;
use super::resolve::of_link;
use crate::checkpoint::{Edit, Intended, Intent, Known, Link, Proof};
use crate::imap::Selected;
use crate::journal::{Entry, Event};
use crate::words::{Digests, InternalDate, Message, Sha256, Uid};

/// A repeated APPEND is watched for late twins for so long.
const WATCHED: Duration = Duration::from_secs(600);

impl Pass<'_> {
    /// A folder that the checkpoint does not know may hold copies that an earlier life of ours is
    /// still getting stored, or more than a failing server shows: they are waited for before the
    /// first APPEND. A folder that never held anything is only watched, not waited for, where a
    /// late twin could be removed.
    pub async fn mark_fresh(&mut self, look: &mut Look) -> Result<Option<Selected>, Failure> {
        if !self.is_fresh(look) {
            return Ok(None);
        }
        let pair = &self.book.pairs[look.pair];
        let name = pair.target.clone();
        let selected = self.target.select(&name).await?;
        let virgin = selected.exists == 0 && selected.uid_next.is_none_or(|next| next <= 1);
        let can_remove = self.may_change() && self.target.can_remove().await?;
        let fresh = Intent {
            id: self.shared.store.new_intent_id()?,
            folder: look.folder,
            source_uid_validity: look.seen.uid_validity,
            target_uid_validity: selected.uid_validity,
            // Where nobody tells what comes next, nothing that is there may pass for late.
            target_uid_next: selected.uid_next.unwrap_or(if virgin { 1 } else { u32::MAX }),
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

    /// Settles every intent of the folder as far as it can be; the target was just listed.
    pub async fn resolve_intents(&mut self, look: &mut Look) -> Result<(), Failure> {
        let mut intents = std::mem::take(&mut look.intents);
        // What is named owns its copy before any other may call it a late twin.
        intents.sort_by_key(|intent| intent.messages.is_empty());
        let is_fresh = intents.iter().any(|intent| intent.messages.is_empty());
        for intent in intents {
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
        if self.is_comparable(look, &intent) {
            if !intent.messages.is_empty() {
                self.find_intended(look, &intent).await?;
            }
            self.remove_surplus(look, &intent).await?;
        }
        let watched = if intent.messages.is_empty() { self.in_doubt_wait() } else { WATCHED };
        let wait = self.left_to_wait(&intent, watched);
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
        let found = self.match_unexplained(look, &wants, intent.target_uid_next).await?;
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
    /// bytes of a message that has its copy already.
    async fn remove_surplus(&mut self, look: &mut Look, intent: &Intent) -> Result<(), Failure> {
        let ours: Vec<Candidate<Uid>> = if intent.messages.is_empty() {
            plan::links(&look.known).map(|(uid, link)| of_link(uid, link)).collect()
        } else {
            intent.messages.iter().map(of_intended).collect()
        };
        // A message that was not listed may own what seems a twin.
        if !look.complete {
            return Ok(());
        }
        let instants: HashSet<InternalDate> = ours.iter().map(|our| our.instant).collect();
        let late = look
            .unexplained
            .values()
            .filter(|message| message.uid.get() >= intent.target_uid_next)
            .filter(|message| instants.contains(&message.instant));
        let late: Vec<&Message> = late.collect();
        if late.is_empty() {
            return Ok(());
        }
        let firsts = plan::links(&look.known)
            .filter(|(_, link)| late.iter().any(|message| message.instant == link.instant));
        let firsts: Vec<(Uid, Link)> = firsts.map(|(uid, link)| (uid, link.clone())).collect();
        let late: Vec<Uid> = late.iter().map(|message| message.uid).collect();
        // All at once, for what is removed has to be seen in the same SELECT.
        let copies = firsts.iter().filter_map(|(_, link)| link.target_uid);
        let uids: Vec<Uid> = late.iter().copied().chain(copies).collect();
        let digests = self.target_digests(look.pair, &uids).await?;
        let unsure = self.lose_false_links(look, firsts, &digests).await?;
        let is_twin = |uid: &Uid, digests: &Digests| {
            let instant = look.unexplained.get(uid).map(|message| message.instant);
            let same = |known: adopt::Known| known.sha256() == digests.sha256;
            let mut ours = ours.iter().filter(|our| Some(our.instant) == instant);
            ours.any(|our| our.digests.is_some_and(same))
        };
        // A message that still waits for its copy owns it before it is a surplus. The source may
        // tell another size than it gives.
        let is_wanted = |uid: &Uid, digests: &Digests| {
            let instant = look.unexplained.get(uid).map(|message| message.instant);
            let owns = |want: &Message| want.size == digests.size || Some(want.instant) == instant;
            look.wants.values().any(owns)
        };
        let is_surplus = |uid: &Uid| {
            let found = digests.get(uid);
            found.is_some_and(|it| {
                is_twin(uid, it) && !is_wanted(uid, it) && !unsure.contains(&it.sha256)
            })
        };
        let surplus: Vec<Uid> = late.into_iter().filter(is_surplus).collect();
        self.drop_surplus(look, &surplus).await
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

fn of_intended(intended: &Intended) -> Candidate<Uid> {
    let digests = Some(adopt::Known::Exact(intended.sha256));
    let flags = intended.flags.clone();
    let (key, size, instant) = (intended.source_uid, intended.size, intended.instant);
    Candidate { key, size, instant, flags, digests }
}
