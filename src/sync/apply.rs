//! What a pass does to copies after its doubts are resolved: flags, removals, proofs.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::board::rfc3339;
use super::book::Pair;
use super::clock::Instant;
use super::copy::Failure;
use super::orphans::{is_unpaired, kept};
use super::pass::{Absence, Look, Pass, Scope};
use super::plan;
use super::target::Verified;
use super::trouble;
use crate::checkpoint::{Edit, Known, Link, Origin, Phase, Proof};
use crate::config::{Deletions, ReadBack};
use crate::imap::{Change, Error};
use crate::journal::{Entry, Event};
use crate::words::{Digests, Flags, InternalDate, Message, SystemFlags, Uid};

impl Pass<'_> {
    /// Applies changed flags to copies, as differences from what was last written.
    pub async fn apply_flags(&mut self, look: &mut Look) -> Result<(), Failure> {
        let changes = std::mem::take(&mut look.flags);
        if changes.is_empty() || !self.may_change() {
            return Ok(());
        }
        let name = self.book.pairs[look.pair].target.clone();
        let links = self.links_of(look, changes.iter().map(|(uid, _)| *uid));
        let ours: Vec<(Uid, Link)> =
            links.into_iter().filter(|(_, link)| self.follows_flags(link)).collect();
        let verified = self.target.verify(&name, &ours).await?;
        self.lose_strangers(look, &verified).await?;
        let absent: HashSet<Uid> = verified.absent.iter().copied().collect();
        if let Some(selected) = self.target.session().await?.selected() {
            self.book.pairs[look.pair].permanent = Some(selected.permanent_flags.clone());
        }
        let permanent = self.book.pairs[look.pair].permanent.clone().unwrap_or_default();
        let mut groups: BTreeMap<String, (Flags, Flags, Vec<Uid>)> = BTreeMap::new();
        let (mut before, mut edits) = (Vec::new(), Vec::new());
        let mut followed = 0;
        for (uid, flags) in changes {
            let may_touch = match look.known.get(&uid) {
                Some(Known::Linked(link)) => self.may_touch(&verified, look.pair, uid, link),
                _ => continue,
            };
            let Some(Known::Linked(link)) = look.known.get_mut(&uid) else { continue };
            if link.target_uid.is_none() {
                // The target did not tell where the copy is: it is found first.
                self.book.pairs[look.pair].look_at_target = true;
            }
            if absent.contains(&uid) || link.target_uid.is_none() {
                look.unfinished = true;
                continue;
            }
            if may_touch {
                let admitted = |flags: Flags| flags.retain(|name| permanent.admits(name));
                let (added, removed) = plan::flag_changes(link, &flags);
                let (added, removed) = (admitted(added), admitted(removed));
                // Durable before the first STORE: of one that is cut short nobody knows what it
                // did, and the source may have gone back to what was written before.
                let doubted = Link { unsure: Some(Box::new(added.with(&removed))), ..link.clone() };
                before.push(Edit::PutKnown(look.folder, uid, Known::Linked(doubted)));
                let key = format!("{added:?} {removed:?}");
                let group = groups.entry(key).or_insert((added, removed, Vec::new()));
                group.2.extend(link.target_uid);
                followed += 1;
            }
            (link.flags, link.unsure) = (flags, None);
            edits.push(Edit::PutKnown(look.folder, uid, Known::Linked(link.clone())));
        }
        self.book.pairs[look.pair].unfinished |= !before.is_empty();
        self.writer.commit(before).await?;
        for (added, removed, uids) in groups.values() {
            self.store_flags(uids, added, removed).await?;
        }
        self.writer.commit(edits).await?;
        if followed > 0 {
            let text = format!("flags of {followed} messages follow the source");
            let shown = self.book.pairs[look.pair].shown();
            self.emit(Entry::new(Event::FlagsChanged, text).folder(shown));
        }
        Ok(())
    }

    /// Stores flags. A target that refuses keywords, and does so again, gets the system flags
    /// alone; one refusal may be about anything.
    async fn store_flags(
        &mut self,
        uids: &[Uid],
        added: &Flags,
        removed: &Flags,
    ) -> Result<(), Failure> {
        for (change, flags) in [(Change::Add, added), (Change::Remove, removed)] {
            let system = flags.retain(|name| SystemFlags::of_name(name).is_some());
            let mut stored = self.target.store(uids, change, flags).await;
            for tried in [flags, &system] {
                if system != *flags && is_refused(&stored) {
                    stored = self.target.store(uids, change, tried).await;
                }
            }
            stored?;
        }
        Ok(())
    }

    /// The links of these source UIDs.
    fn links_of(&self, look: &Look, uids: impl Iterator<Item = Uid>) -> Vec<(Uid, Link)> {
        let linked = uids.filter_map(|uid| match look.known.get(&uid) {
            Some(Known::Linked(link)) => Some((uid, link.clone())),
            _ => None,
        });
        linked.collect()
    }

    /// May a copy be changed that was just seen? After the cutover the owner may already work at
    /// the target: then only copies whose flags are as last written.
    pub fn may_touch(&self, verified: &Verified, pair: usize, uid: Uid, link: &Link) -> bool {
        let Some(flags) = verified.sure.get(&uid) else { return false };
        if self.phase() < Phase::Draining {
            return true;
        }
        let permanent = self.book.pairs[pair].permanent.as_ref();
        let kept = link.flags.retain(|name| permanent.is_none_or(|it| it.admits(name)));
        match &link.unsure {
            Some(unsure) => kept.minus(unsure) == flags.minus(unsure),
            None => kept == *flags,
        }
    }

    /// May it be removed? A removal of ours that was cut short has left it marked as deleted.
    pub(super) fn may_remove(
        &self,
        verified: &Verified,
        pair: usize,
        uid: Uid,
        link: &Link,
    ) -> bool {
        let mut marked = link.clone();
        marked.flags.insert("\\Deleted");
        self.may_touch(verified, pair, uid, link) || self.may_touch(verified, pair, uid, &marked)
    }

    /// Links whose UID belongs to another message find their copy again by content.
    pub async fn lose_strangers(
        &mut self,
        look: &mut Look,
        verified: &Verified,
    ) -> Result<(), Failure> {
        let mut edits = Vec::new();
        for uid in &verified.strange {
            if let Some(Known::Linked(link)) = look.known.get_mut(uid) {
                link.target_uid = None;
                edits.push(Edit::PutKnown(look.folder, *uid, Known::Linked(link.clone())));
            }
        }
        if !edits.is_empty() || !verified.absent.is_empty() {
            look.unfinished = true;
            self.book.pairs[look.pair].look_at_target = true;
        }
        self.writer.commit(edits).await?;
        Ok(())
    }

    /// Copies that are gone from the target although nobody removed their message: copied again
    /// once, and said. From the seal on the target is its owner's: what they removed stays so.
    pub async fn apply_vanished(&mut self, look: &mut Look) -> Result<(), Failure> {
        let folder = look.folder;
        let vanished: BTreeSet<Uid> = std::mem::take(&mut look.vanished).into_iter().collect();
        if look.listing.is_some() {
            let vanish = &mut self.book.learned.vanished;
            vanish.retain(|(of, uid)| *of != folder || vanished.contains(uid));
        }
        if !self.may_change() {
            return Ok(());
        }
        let mut edits = Vec::new();
        for uid in vanished {
            if look.missing.contains(&uid) {
                continue;
            }
            look.unfinished = true;
            self.book.pairs[look.pair].look_at_target = true;
            if self.book.learned.vanished.missing((folder, uid), false, self.begun, Instant::now())
            {
                self.book.learned.vanished.settled((folder, uid));
                look.known.remove(&uid);
                edits.push(self.copy_again(look, uid));
            }
        }
        self.writer.commit(edits).await?;
        Ok(())
    }

    /// Forgets the link, so that the next pass finds the copy elsewhere in the folder or copies
    /// the message; the second time it is listed.
    fn copy_again(&mut self, look: &mut Look, uid: Uid) -> Edit {
        let once = self.book.learned.recopied.insert((look.folder, uid));
        let text = if once { "copied again" } else { "vanished again; not copied a third time" };
        let shown = self.book.pairs[look.pair].shown();
        self.emit(Entry::new(Event::CopyVanished, text).folder(shown).source_uid(uid));
        self.again = true;
        if once {
            return Edit::DropKnown(look.folder, uid);
        }
        let known = Known::Refused {
            by_target: true,
            text: "the copy vanished from the target twice".to_owned(),
            tries: plan::REFUSED_TRIES_MAX,
            last_try: self.shared.clock.now(),
        };
        look.known.insert(uid, known.clone());
        Edit::PutKnown(look.folder, uid, known)
    }

    /// Removes copies of messages that are gone at the source, where that is wanted and allowed.
    pub async fn apply_removals(&mut self, looks: &mut [Look]) -> Result<(), Failure> {
        if !self.may_change() {
            return Ok(());
        }
        let now = Instant::now();
        // What may have moved and has no copy yet keeps the one it had.
        let open = looks.iter().flat_map(|look| look.wants.values().chain(&look.withheld));
        let open: HashSet<InternalDate> = open.map(|message| message.instant).collect();
        self.book.learned.deferred.kept = 0;
        // News of one folder says nothing of what waits in others; nor does a folder that the source
        // would not open say what has come into it. Nobody waits for that for ever.
        let troubled = &self.book.learned.folders_troubled;
        let is_refused =
            |pair: &Pair| troubled.has(pair.record.id) && !troubled.for_long(pair.record.id, now);
        let unseen = |(at, pair): (usize, &Pair)| {
            let asked = self.scope == Scope::Told || is_refused(pair);
            pair.unfinished && asked && !looks.iter().any(|look| look.pair == at)
        };
        let blind = self.book.pairs.iter().enumerate().any(unseen);
        let may_be_open = |known: Option<&Known>| match known {
            Some(Known::Linked(link)) => blind || open.contains(&link.instant),
            _ => false,
        };
        for look in looks.iter_mut() {
            self.still_missing(look, may_be_open, now);
        }
        self.find_surplus_orphans(looks, now)?;
        let gone: usize = looks.iter().map(|look| self.counted(look)).sum();
        // What lost its number had one until now.
        let linked: u64 = self.book.pairs.iter().map(|pair| pair.counts.linked).sum();
        let lost: usize = looks.iter().map(|look| look.surplus.len()).sum();
        let of_account = plan::is_mass_deletion(gone, linked as usize + lost);
        let of_folder = looks.iter().any(|look| {
            let copies = plan::links(&look.known).count() + look.surplus.len();
            plan::is_mass_deletion(self.counted(look), copies)
        });
        let mirror = self.enrollment.migration.sync.deletions == Deletions::Mirror;
        if mirror && (of_account || of_folder) && !self.book.learned.removals_approved {
            self.suspend_removals(gone).await?;
        }
        for look in looks.iter_mut() {
            let done = self.remove_gone(look).await;
            self.tolerate(look, done)?;
            let done = self.remove_surplus_orphans(look).await;
            self.tolerate(look, done)?;
        }
        Ok(())
    }

    /// How many of the folder's removals count towards a mass deletion.
    fn counted(&self, look: &Look) -> usize {
        let gone = look.gone.len() + look.surplus.values().filter(|moved| !**moved).count();
        if self.book.pairs[look.pair].record.exempt { 0 } else { gone }
    }

    /// Sorts what is missing into gone and suspected.
    fn still_missing(
        &mut self,
        look: &mut Look,
        may_be_open: impl Fn(Option<&Known>) -> bool,
        now: Instant,
    ) {
        let folder = look.folder;
        let missing = std::mem::take(&mut look.missing);
        if look.absence == Absence::Unknown {
            return;
        }
        let given_up = self.is_given_up();
        let mirrors = self.enrollment.migration.sync.deletions == Deletions::Mirror;
        // The last pass asks anyway.
        let asks = mirrors && !self.book.learned.archive.is_refused();
        let told_is_all = !self.has_archive();
        let evidence = &mut self.book.learned.missing;
        evidence.retain(|(of, uid)| *of != folder || missing.contains(uid));
        // What is told of this store says nothing of the other: there it may show later.
        let told = look.absence == Absence::Certain
            || told_is_all
                && self.told.as_ref().is_some_and(|(name, news)| {
                    *name == self.book.pairs[look.pair].source && news.explains(&missing)
                });
        for uid in missing {
            let gone = evidence.missing((folder, uid), told, self.begun, now);
            if !gone && told_is_all && look.told.contains(&uid) {
                evidence.told((folder, uid));
                self.again = true;
            }
            let known = look.known.get(&uid);
            let kept = match known {
                Some(Known::Linked(link)) => self.silent || self.kept.contains(&link.instant),
                _ => false,
            };
            let keeps = may_be_open(known);
            if gone && kept {
                // It may lie where nobody has looked. The seal does not wait for ever.
                self.book.learned.deferred.kept += usize::from(mirrors);
                look.asks_again |= asks && !given_up;
            } else if gone && !look.absence.may_come_back() && !keeps {
                look.gone.push(uid);
            } else {
                look.unfinished = true;
            }
        }
    }

    async fn suspend_removals(&mut self, gone: usize) -> Result<(), Failure> {
        if self.book.record.removals_suspended {
            return Ok(());
        }
        self.book.record.removals_suspended = true;
        self.writer.commit(vec![Edit::PutAccount(self.book.record.clone())]).await?;
        let text = format!(
            "{gone} messages vanished from the source at once: their copies stay until \
             `pecsync approve {} deletions`",
            self.enrollment.address
        );
        self.emit(Entry::new(Event::RemovalsSuspended, text).reason("mass_deletion"));
        Ok(())
    }

    /// While removals are suspended the gone ones stay known, and are found missing again once
    /// somebody has approved.
    async fn remove_gone(&mut self, look: &mut Look) -> Result<(), Failure> {
        let gone = std::mem::take(&mut look.gone);
        if gone.is_empty() || self.book.record.removals_suspended || look.troubled {
            return Ok(());
        }
        let name = self.book.pairs[look.pair].target.clone();
        let removable = self.removes().await?;
        let links = self.links_of(look, gone.iter().copied());
        let ours: Vec<(Uid, Link)> =
            links.into_iter().filter(|(_, link)| removable && self.is_ours(link)).collect();
        let verified = self.target.verify(&name, &ours).await?;
        let removed: BTreeMap<Uid, Uid> = ours
            .iter()
            .filter(|(uid, link)| self.may_remove(&verified, look.pair, *uid, link))
            .filter_map(|(uid, link)| Some((*uid, link.target_uid?)))
            .collect();
        if !removed.is_empty() {
            let uids: Vec<Uid> = removed.values().copied().collect();
            self.target.remove(&name, &uids).await?;
            self.book.pairs[look.pair].expect_fewer(uids.len());
        }
        let mut edits = Vec::new();
        let shown = self.book.pairs[look.pair].shown().to_owned();
        let now = Instant::now();
        for uid in gone {
            let place = (look.folder, uid);
            // A listing of the target may be half empty, too: what it lacks once is looked for
            // again before it is forgotten, and so is a copy whose UID the target did not tell.
            let unpaired = removable && look.known.get(&uid).is_some_and(is_unpaired);
            let missed = unpaired || verified.absent.contains(&uid);
            let looked = !unpaired || look.listing.is_some();
            if missed
                && !(looked && self.book.learned.vanished.missing(place, false, self.begun, now))
            {
                look.unfinished = true;
                self.book.pairs[look.pair].look_at_target |= unpaired;
                continue;
            }
            self.book.learned.vanished.settled(place);
            self.book.learned.missing.settled(place);
            edits.push(Edit::DropKnown(look.folder, uid));
            let Some(Known::Linked(link)) = look.known.remove(&uid) else { continue };
            if removed.contains_key(&uid) {
                let entry = Entry::new(Event::MessageRemoved, "removed, as at the source");
                self.emit(entry.folder(&shown).source_uid(uid).target_uid(link.target_uid));
            } else if let Some(target_uid) = link.target_uid
                && !verified.absent.contains(&uid)
                && !verified.strange.contains(&uid)
            {
                edits.push(Edit::PutOrphan(look.folder, kept(target_uid, link)));
            }
        }
        self.writer.commit(edits).await?;
        Ok(())
    }

    /// Are removals mirrored at all? Where the target cannot, that is said once.
    pub(super) async fn removes(&mut self) -> Result<bool, Failure> {
        if self.enrollment.migration.sync.deletions == Deletions::Keep {
            return Ok(false);
        }
        let can = self.target.can_remove().await?;
        if !can && !self.book.learned.said_no_removals {
            self.book.learned.said_no_removals = true;
            let text = "the target has no UIDPLUS: deletions at the source are not mirrored";
            self.emit(Entry::new(Event::RemovalsLapsed, text));
        }
        Ok(can)
    }

    /// Downloads copies worth a doubt and compares them. Where nothing is to be downloaded, what
    /// the target lists is compared all the same.
    pub async fn read_back(&mut self, look: &mut Look) -> Result<(), Failure> {
        if look.troubled {
            return Ok(());
        }
        let how = self.enrollment.migration.sync.read_back;
        let due = |link: &Link| {
            let asked = match how {
                ReadBack::All => true,
                ReadBack::Suspect => link.suspect || looks_altered(look, link),
                ReadBack::Off => looks_altered(look, link),
            };
            asked
                && link.proof == Proof::Listed
                && link.altered.is_none()
                && link.origin == Origin::Copied
        };
        let doubted = plan::links(&look.known).filter(|(_, link)| due(link));
        let links: Vec<(Uid, Uid)> =
            doubted.filter_map(|(uid, link)| Some((uid, link.target_uid?))).collect();
        if links.is_empty() {
            return Ok(());
        }
        let uids: Vec<Uid> = links.iter().map(|(_, target_uid)| *target_uid).collect();
        let digests = match how {
            ReadBack::Off => BTreeMap::new(),
            ReadBack::All | ReadBack::Suspect => self.target_digests(look.pair, &uids).await?,
        };
        let mut edits = Vec::new();
        let mut verified = Verified::default();
        for (uid, target_uid) in links {
            let seen = look.listing.as_ref().and_then(|listing| listing.get(&target_uid));
            let Some(Known::Linked(link)) = look.known.get_mut(&uid) else { continue };
            match judged(link, digests.get(&target_uid), seen, how) {
                Judged::Unread => continue,
                Judged::Other => {
                    verified.strange.push(uid);
                    continue;
                }
                Judged::Altered(text) => link.altered = Some(text),
                Judged::Equal => link.proof = Proof::ReadBack,
            }
            edits.push(Edit::PutKnown(look.folder, uid, Known::Linked(link.clone())));
            if let Some(text) = &link.altered {
                let shown = self.book.pairs[look.pair].shown();
                let entry = Entry::new(Event::MessageAltered, format!("by the target: {text}"));
                self.emit(entry.folder(shown).source_uid(uid).target_uid(Some(target_uid)));
            }
        }
        self.writer.commit(edits).await?;
        self.lose_strangers(look, &verified).await
    }
}

/// Does the target say *not this*, rather than *not now*?
fn is_refused(done: &Result<(), Failure>) -> bool {
    match done {
        Err(Failure::Imap(_, Error::No { code, text, .. })) => {
            trouble::is_of_folder(code.as_ref(), text)
        }
        _ => false,
    }
}

/// Does the target's listing show another size or instant than the link's?
fn looks_altered(look: &Look, link: &Link) -> bool {
    let listing = look.listing.as_ref();
    let seen = link.target_uid.and_then(|uid| listing?.get(&uid));
    seen.is_some_and(|seen| seen.size != link.size || seen.instant != link.instant)
}

/// What a copy turns out to be.
enum Judged {
    Equal,
    Altered(String),
    /// Another message. Servers alter bytes or a date; where nothing is left, the folder is one
    /// that happens to have this UIDVALIDITY.
    Other,
    /// Its bytes did not come.
    Unread,
}

/// By its bytes; where nothing is downloaded, by the target's listing.
fn judged(link: &Link, found: Option<&Digests>, seen: Option<&Message>, how: ReadBack) -> Judged {
    let redated = seen.is_some_and(|seen| seen.instant != link.instant);
    match (found, seen) {
        (Some(found), _) if redated && found.header != link.header => Judged::Other,
        (Some(found), _) => match alteration(link, found, seen.map(|seen| seen.instant)) {
            Some(text) => Judged::Altered(text),
            None => Judged::Equal,
        },
        (None, Some(seen)) if how == ReadBack::Off => match redated && seen.size != link.size {
            true => Judged::Other,
            false => Judged::Altered(listed_otherwise(link, seen)),
        },
        (None, _) => Judged::Unread,
    }
}

/// What differs between a message and how the target lists its copy.
fn listed_otherwise(link: &Link, seen: &Message) -> String {
    let (size, date) = (seen.size, rfc3339(seen.instant.0));
    let (before, dated) = (link.size, rfc3339(link.instant.0));
    format!("{before} octets of {dated} are listed as {size} octets of {date}")
}

/// What differs between a message and its copy.
fn alteration(link: &Link, found: &Digests, instant: Option<InternalDate>) -> Option<String> {
    if found.sha256 != link.sha256 {
        return Some(format!(
            "{} octets (SHA-256 {}) became {} octets (SHA-256 {})",
            link.size, link.sha256, found.size, found.sha256
        ));
    }
    let instant = instant.filter(|instant| *instant != link.instant)?;
    Some(format!("its date {} became {}", rfc3339(link.instant.0), rfc3339(instant.0)))
}
