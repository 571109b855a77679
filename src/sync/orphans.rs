//! Copies of ours whose message has lost its number: its folder got a new UIDVALIDITY, or the
//! number means another message now. A message that still needs a copy finds its own among them
//! (`resolve`). What is left when nobody needs one any more was deleted or copied anew elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::book::Pair;
use super::clock::Instant;
use super::copy::Failure;
use super::doubt::intended;
use super::pass::{Absence, Look, Pass, Scope};
use super::plan::{self, SourceLook};
use crate::checkpoint::{
    Edit, FolderId, Intended, Intent, Known, Link, Origin, Orphan, Phase, Seen,
};
use crate::imap::Selected;
use crate::journal::{Entry, Event};
use crate::words::Uid;

impl Pass<'_> {
    /// Where a UID may mean another message than before, links of those that do are turned into
    /// copies whose messages must be found anew.
    pub(super) async fn settle_numbers(
        &mut self,
        at: usize,
        known: &mut BTreeMap<Uid, Known>,
        look: &SourceLook,
    ) -> Result<(), Failure> {
        if !self.source.selected().is_some_and(Selected::numbers_may_change) {
            return Ok(());
        }
        let folder = self.book.pairs[at].record.id;
        let mut edits = Vec::new();
        let mut is_lost = false;
        for uid in plan::renumbered(known, &look.messages) {
            edits.push(Edit::DropKnown(folder, uid));
            let known = known.remove(&uid);
            is_lost |= known.as_ref().is_some_and(is_unpaired);
            edits.extend(known.and_then(|known| into_orphan(folder, known)));
        }
        edits.extend(self.wait_for(at, is_lost)?);
        self.writer.commit(edits).await?;
        Ok(())
    }

    /// Copies whose UID nobody knows are lost with their links, and can only be found by content:
    /// they get the time to show that an APPEND in doubt has.
    fn wait_for(&self, at: usize, is_lost: bool) -> Result<Option<Edit>, Failure> {
        if !is_lost {
            return Ok(None);
        }
        Ok(Some(Edit::PutIntent(self.fresh_intent(at)?)))
    }

    /// That they are ours outlives their numbers.
    fn remember_unpaired(
        &self,
        at: usize,
        known: &[(Uid, Known)],
    ) -> Result<Option<Edit>, Failure> {
        let unpaired = known.iter().filter_map(|(uid, known)| match known {
            Known::Linked(link) if link.target_uid.is_none() => Some(intended(*uid, link)),
            _ => None,
        });
        let messages: Vec<Intended> = unpaired.collect();
        if messages.is_empty() {
            return Ok(None);
        }
        // Where each of them lies is not known.
        Ok(Some(Edit::PutIntent(Intent { target_uid_next: 1, messages, ..self.fresh_intent(at)? })))
    }

    /// A new UIDVALIDITY turns the folder's links into copies whose messages must be found anew.
    pub(super) async fn settle_validity(
        &mut self,
        at: usize,
        selected: &Selected,
    ) -> Result<(), Failure> {
        let pair = &mut self.book.pairs[at];
        let before = pair.record.source_seen.map(|seen| seen.uid_validity);
        let any_will_do =
            before.is_some() && self.source.selected().is_some_and(Selected::numbers_may_change);
        if before == Some(selected.uid_validity) || any_will_do {
            return Ok(());
        }
        let folder = pair.record.id;
        let mut edits = Vec::new();
        if before.is_some() {
            pair.look_at_target = true;
            let known = self.shared.store.known(folder)?;
            let is_lost = known.iter().any(|(_, known)| is_unpaired(known));
            edits.push(Edit::DropAllKnown(folder));
            edits.extend(self.remember_unpaired(at, &known)?);
            edits.extend(known.into_iter().filter_map(|(_, known)| into_orphan(folder, known)));
            edits.extend(self.wait_for(at, is_lost)?);
        }
        // Durable before the first link, so that links never meet another UIDVALIDITY.
        let pair = &mut self.book.pairs[at];
        let validity = selected.uid_validity;
        pair.record.source_seen = Some(Seen { uid_validity: validity, ..Seen::default() });
        pair.listed_to = None;
        edits.push(Edit::PutFolder(pair.record.clone()));
        let shown = pair.shown().to_owned();
        self.writer.commit(edits).await?;
        self.book.learned.forget_folder(folder);
        if before.is_some() {
            let said = "UIDVALIDITY changed at the source; messages are paired with their copies \
                        by content";
            self.emit(Entry::new(Event::UidvalidityChanged, said).folder(&shown));
        }
        Ok(())
    }

    /// Finds the orphans that two looks, a minute apart, found to be nobody's.
    pub(super) fn find_surplus_orphans(
        &mut self,
        looks: &mut [Look],
        now: Instant,
    ) -> Result<(), Failure> {
        let evidence = &mut self.book.learned.orphans_left;
        for look in looks.iter() {
            evidence.retain(|(of, uid)| *of != look.folder || look.orphans.contains_key(uid));
        }
        if !self.takes_surplus() || !self.has_all(looks) {
            return Ok(());
        }
        for look in looks.iter_mut().filter(|look| look.listing.is_some()) {
            let Look { folder, orphans, listing, .. } = look;
            let listing = listing.as_ref().expect("filtered");
            let is_surplus = |(uid, link): &(&Uid, &Link)| {
                link.origin == Origin::Copied && listing.contains_key(uid)
            };
            let surplus: BTreeSet<Uid> =
                orphans.iter().filter(is_surplus).map(|(uid, _)| *uid).collect();
            let evidence = &mut self.book.learned.orphans_left;
            evidence.retain(|(of, uid)| of != folder || surplus.contains(uid));
            for uid in surplus {
                match evidence.missing((*folder, uid), false, self.begun, now) {
                    true => drop(look.surplus.insert(uid, false)),
                    // The seal waits for the second look; until then the daily ones are enough.
                    false => look.unfinished |= self.book.record.phase == Phase::Draining,
                }
            }
        }
        self.mark_moved(looks)
    }

    /// Marks those whose message was moved, and copied anew: nothing of the owner's goes with them,
    /// so they count towards no mass deletion.
    fn mark_moved(&self, looks: &mut [Look]) -> Result<(), Failure> {
        let print = |link: &Link| (link.sha256, link.instant);
        let surplus = looks.iter().flat_map(|look| {
            look.surplus.keys().filter_map(|uid| Some(print(look.orphans.get(uid)?)))
        });
        let mut elsewhere: HashMap<_, usize> = surplus.map(|print| (print, 0)).collect();
        if elsewhere.is_empty() {
            return Ok(());
        }
        for pair in &self.book.pairs {
            self.shared.store.visit_known(pair.record.id, |_, known| {
                if let Known::Linked(link) = known
                    && let Some(found) = elsewhere.get_mut(&print(&link))
                {
                    *found += 1;
                }
            })?;
        }
        for look in looks {
            let Look { surplus, orphans, known, .. } = look;
            // A folder that shows nothing at all may be filled again.
            let is_empty = plan::links(known).next().is_none();
            for (uid, moved) in surplus.iter_mut().filter(|_| !is_empty) {
                let left = orphans.get(uid).and_then(|link| elsewhere.get_mut(&print(link)));
                if let Some(left) = left.filter(|left| **left > 0) {
                    *left -= 1;
                    *moved = true;
                }
            }
        }
        Ok(())
    }

    /// Are they to be removed before the folder is forgotten?
    pub(super) fn waits_for_orphans(&self, look: &Look) -> bool {
        self.may_change()
            && self.takes_surplus()
            && look.orphans.values().any(|link| link.origin == Origin::Copied)
    }

    /// What waits for the cutover, or is held, may have the message, and is not listed for that.
    fn takes_surplus(&self) -> bool {
        let is_held = self.book.left_out.iter().any(|left_out| left_out.state == "held");
        !is_held && !self.has_archive() && !self.book.has_deferred()
    }

    /// Does every message of the account have its copy, as far as all its folders show?
    fn has_all(&self, looks: &[Look]) -> bool {
        let seen: BTreeSet<usize> = looks.iter().map(|look| look.pair).collect();
        let unchanged = |(at, pair): (usize, &Pair)| {
            let is_quiet = !pair.unfinished && pair.trouble.is_none() && pair.counts.refused == 0;
            let is_done = self.scope == Scope::Changed && is_quiet;
            is_done || seen.contains(&at)
        };
        let is_settled = |look: &Look| {
            let is_open = |intent: &Intent| !intent.repeated && !intent.messages.is_empty();
            let in_doubt = !look.blocked.is_empty() || look.intents.iter().any(is_open);
            let hidden = matches!(look.absence, Absence::Suspected | Absence::Unknown);
            let shown = look.complete && !look.troubled && !hidden;
            // A message that one of the servers refuses may have its only copy among them.
            let has_refused =
                look.known.values().any(|known| matches!(known, Known::Refused { .. }));
            let is_wanted = has_refused || !look.wants.is_empty() || !look.withheld.is_empty();
            shown && !in_doubt && !is_wanted
        };
        self.scope != Scope::Told
            && self.fresh_from.is_none()
            && self.book.pairs.iter().enumerate().all(unchanged)
            && looks.iter().all(is_settled)
    }

    /// Removes them, each only after that very copy was seen. What the owner has changed since the
    /// cutover stays.
    pub(super) async fn remove_surplus_orphans(&mut self, look: &mut Look) -> Result<(), Failure> {
        let surplus = std::mem::take(&mut look.surplus);
        if surplus.is_empty() || self.book.record.removals_suspended || look.troubled {
            return Ok(());
        }
        let removable = self.removes().await?;
        let name = self.book.pairs[look.pair].target.clone();
        let copies = surplus.keys().filter_map(|uid| Some((*uid, look.orphans.get(uid)?.clone())));
        let copies: Vec<(Uid, Link)> = copies.collect();
        let verified = self.target.verify(&name, &copies).await?;
        let may_go = copies
            .iter()
            .filter(|(uid, link)| removable && self.may_remove(&verified, look.pair, *uid, link));
        let going: Vec<Uid> = may_go.map(|(uid, _)| *uid).collect();
        if !going.is_empty() {
            self.target.remove(&name, &going).await?;
            self.book.pairs[look.pair].expect_fewer(going.len());
        }
        let shown = self.book.pairs[look.pair].shown().to_owned();
        let mut edits = Vec::new();
        for (uid, link) in copies {
            if verified.absent.contains(&uid) {
                continue;
            }
            self.book.learned.orphans_left.settled((look.folder, uid));
            if going.contains(&uid) {
                let text = "removed: its message is not in this folder of the source any more";
                let entry = Entry::new(Event::MessageRemoved, text).folder(&shown);
                self.emit(entry.target_uid(Some(uid)));
            }
            look.orphans.remove(&uid);
            edits.push(match verified.sure.contains_key(&uid) && !going.contains(&uid) {
                true => Edit::PutOrphan(look.folder, kept(uid, link)),
                false => Edit::DropOrphan(look.folder, uid),
            });
        }
        self.writer.commit(edits).await?;
        Ok(())
    }
}

/// Is it a link whose copy the target did not tell?
pub fn is_unpaired(known: &Known) -> bool {
    matches!(known, Known::Linked(link) if link.target_uid.is_none())
}

/// What is left of a link whose source message is not known any more.
fn into_orphan(folder: FolderId, known: Known) -> Option<Edit> {
    match known {
        Known::Linked(link) => {
            let target_uid = link.target_uid?;
            Some(Edit::PutOrphan(folder, Orphan { target_uid, link }))
        }
        Known::Refused { .. } => None,
    }
}

/// A copy that stays although its message is gone: it is not ours to remove any more, also where
/// the message comes back.
pub fn kept(target_uid: Uid, link: Link) -> Orphan {
    let origin = if link.origin == Origin::Copied { Origin::Twin } else { link.origin };
    Orphan { target_uid, link: Link { origin, ..link } }
}
