//! What a pass does after its doubts are resolved: copies, flags, removals, proofs.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use super::account::Shared;
use super::board::{Board, rfc3339};
use super::book::Pair;
use super::copy::{self, Copying, Desk, Failure, Job, Outcome, Terms};
use super::pass::{Absence, Look, Pass, at_source, at_target};
use super::plan;
use super::trouble::is_about_content;
use crate::checkpoint::{Edit, FolderId, Intended, Known, Link, Origin, Orphan, Phase};
use crate::config::{Deletions, Enrollment, ReadBack};
use crate::imap::Error;
use crate::journal::{Entry, Event};
use crate::words::{Digests, Flags, InternalDate, Message, Side, Uid};

/// So many messages refused in a row, none stored between, are believed to be the messages' fault.
const REFUSED_IN_A_ROW_MAX: u32 = 10;

impl Pass<'_> {
    /// Copies what is wanted and not blocked. True if it was interrupted.
    pub async fn copy(&mut self, looks: &mut [Look]) -> Result<bool, Failure> {
        let mut batch_cap = self.book.learned.pace.messages;
        let mut retried = HashSet::new();
        loop {
            let jobs = self.jobs(looks);
            if jobs.is_empty() {
                return Ok(false);
            }
            let outcome = self.copy_once(&jobs, batch_cap).await?;
            let refused = self.refused_batches(&jobs, looks, &outcome)?;
            self.undelivered(&jobs, looks, &outcome.undelivered, &mut retried).await?;
            self.refresh(looks, &jobs).await?;
            if let Some(failure) = outcome.failure {
                self.blame(&jobs, looks, outcome.writing, &failure).await?;
                return Err(failure);
            }
            self.book.learned.pace.succeeded();
            if outcome.interrupted {
                return Ok(true);
            }
            batch_cap = match refused {
                Some(smallest) => (smallest / 2).max(1),
                None => self.book.learned.pace.messages,
            };
        }
    }

    /// What is to be copied now, folder by folder.
    fn jobs(&self, looks: &[Look]) -> Vec<Job> {
        let mut jobs = Vec::new();
        for look in looks {
            let pair = &self.book.pairs[look.pair];
            let Some(target) = pair.record.target_seen else { continue };
            let may = |want: &&Message| !look.all_blocked && !look.blocked.contains(&want.uid);
            let messages: Vec<Message> = look.wants.iter().filter(may).cloned().collect();
            if messages.is_empty() {
                continue;
            }
            jobs.push(Job {
                folder: look.folder,
                source: pair.source.clone(),
                source_uid_validity: look.seen.uid_validity,
                target: pair.target.clone(),
                target_uid_validity: target.uid_validity,
                target_uid_next: target.uid_next,
                permanent: pair.permanent.clone(),
                messages,
            });
        }
        jobs
    }

    async fn copy_once(&mut self, jobs: &[Job], batch_cap: usize) -> Result<Outcome, Failure> {
        let target = self.target.session().await?;
        let multi = target.capabilities().has("MULTIAPPEND");
        let pace = self.book.learned.pace;
        let desk = Clerk {
            phase: self.book.record.phase,
            board: self.board,
            pairs: &self.book.pairs,
            shared: self.shared,
            enrollment: self.enrollment,
        };
        let copying = Copying {
            store: &self.shared.store,
            writer: self.writer,
            terms: Terms {
                batch_messages_max: if multi { batch_cap } else { 1 },
                batch_bytes_max: pace.bytes,
                singly: self.book.learned.bodies_singly,
                synchronising: pace.synchronising,
            },
            desk: &desk,
            interrupt: self.interrupt,
        };
        let outcome = copy::copy(self.source, target, jobs, &copying).await;
        if outcome.failure.is_some() {
            self.target.abandon();
        }
        // What was queued shows in reads only after this.
        self.writer.commit(Vec::new()).await?;
        Ok(outcome)
    }

    /// Batches refused for their content: a single message is listed, a larger batch is tried
    /// again in halves. Returns the size of the smallest that is to be halved.
    fn refused_batches(
        &mut self,
        jobs: &[Job],
        looks: &mut [Look],
        outcome: &Outcome,
    ) -> Result<Option<usize>, Failure> {
        let mut smallest: Option<usize> = None;
        for refused in &outcome.refused {
            if !is_about_content(refused.code.as_ref(), &refused.text) {
                let (code, text) = (refused.code.clone(), refused.text.clone());
                return Err(at_target(Error::No { command: "APPEND", code, text }));
            }
            if let [single] = refused.messages.as_slice() {
                self.count_refusal(&refused.text)?;
                self.refuse(jobs, looks, (refused.job, single.source_uid), true, &refused.text);
            } else {
                let size = refused.messages.len();
                smallest = Some(smallest.map_or(size, |smallest| smallest.min(size)));
            }
        }
        Ok(smallest)
    }

    /// A target that refuses one message after the other does not mean the messages: after a few
    /// it is the account's trouble, and none of the rest is listed.
    fn count_refusal(&mut self, text: &str) -> Result<(), Failure> {
        self.book.learned.refused_in_a_row += 1;
        if self.book.learned.refused_in_a_row <= REFUSED_IN_A_ROW_MAX {
            return Ok(());
        }
        Err(at_target(Error::No { command: "APPEND", code: None, text: text.to_owned() }))
    }

    /// Lists a message as refused, in the server's words.
    fn refuse(
        &mut self,
        jobs: &[Job],
        looks: &mut [Look],
        (job, uid): (usize, Uid),
        by_target: bool,
        text: &str,
    ) {
        let folder = jobs[job].folder;
        let Some(look) = looks.iter_mut().find(|look| look.folder == folder) else { return };
        let tries = match look.known.get(&uid) {
            Some(Known::Refused { tries, .. }) => tries + 1,
            _ => 1,
        };
        let last_try = self.shared.clock.now();
        let text: String = text.chars().take(512).collect();
        look.wants.retain(|want| want.uid != uid);
        look.refusals
            .push((uid, Known::Refused { by_target, text: text.clone(), tries, last_try }));
        let side = if by_target { Side::Target } else { Side::Source };
        if tries == 1 {
            let shown = self.book.pairs[look.pair].shown().to_owned();
            let entry = Entry::new(Event::MessageRefused, format!("by the {side}: {text}"));
            self.emit(entry.folder(&shown).source_uid(uid));
        }
    }

    /// Takes over what the copy committed.
    async fn refresh(&mut self, looks: &mut [Look], jobs: &[Job]) -> Result<(), Failure> {
        for job in jobs {
            let look = looks.iter_mut().find(|look| look.folder == job.folder);
            let look = look.expect("jobs are made of looks");
            let refusals = std::mem::take(&mut look.refusals);
            if !refusals.is_empty() {
                let put = |(uid, known)| Edit::PutKnown(look.folder, uid, known);
                self.writer.commit(refusals.into_iter().map(put).collect()).await?;
            }
            look.known = self.shared.store.known(look.folder)?.into_iter().collect();
            look.intents = self.shared.store.intents(look.folder)?;
            let pair = &mut self.book.pairs[look.pair];
            let linked = |uid: &Uid| match look.known.get(uid) {
                Some(Known::Linked(link)) => Some(link.target_uid),
                _ => None,
            };
            let stored: Vec<Option<Uid>> =
                job.messages.iter().filter_map(|message| linked(&message.uid)).collect();
            let last = stored.iter().max().copied().flatten();
            let all_told = stored.iter().all(Option::is_some);
            pair.expect_more(stored.len(), last.filter(|_| all_told));
            if !stored.is_empty() {
                self.book.learned.refused_in_a_row = 0;
            }
            for want in look.wants.extract_if(.., |want| linked(&want.uid).is_some()) {
                // Keywords that had to wait for PERMANENTFLAGS follow as a change of flags.
                if let Some(Known::Linked(link)) = look.known.get(&want.uid)
                    && link.flags.system() == want.flags.system()
                    && link.flags != want.flags
                {
                    look.flags.push((want.uid, want.flags));
                }
            }
        }
        Ok(())
    }

    /// A connection ended in mid-copy: smaller batches next time, and if even a single message
    /// sent with a synchronising literal drew a refusal, it is the culprit.
    async fn blame(
        &mut self,
        jobs: &[Job],
        looks: &mut [Look],
        writing: Option<(usize, Uid)>,
        failure: &Failure,
    ) -> Result<(), Failure> {
        if let Failure::Imap(Side::Source, Error::BodyBeforeUid) = failure {
            self.book.learned.bodies_singly = true;
            return Ok(());
        }
        let text = match failure {
            Failure::Imap(Side::Target, Error::Bad { text, .. }) => Some(text),
            Failure::Imap(Side::Target, Error::No { code, text, .. })
                if is_about_content(code.as_ref(), text) =>
            {
                Some(text)
            }
            _ => None,
        };
        let alone = self.book.learned.pace.synchronising;
        if let (Some(text), Some(culprit), true) = (text, writing, alone)
            && self.count_refusal(text).is_ok()
        {
            self.refuse(jobs, looks, culprit, true, &text.clone());
            self.refresh(looks, jobs).await?;
        }
        self.book.learned.pace.cut();
        Ok(())
    }

    /// Messages the source did not deliver are asked for once more at once; then those that are
    /// still there are listed, and tried again later.
    async fn undelivered(
        &mut self,
        jobs: &[Job],
        looks: &mut [Look],
        undelivered: &[(usize, Uid, String)],
        retried: &mut HashSet<(FolderId, Uid)>,
    ) -> Result<(), Failure> {
        for (job, uid, words) in undelivered {
            let folder = jobs[*job].folder;
            let Some(look) = looks.iter_mut().find(|look| look.folder == folder) else { continue };
            if retried.insert((folder, *uid)) {
                continue;
            }
            look.unfinished = true;
            self.examine(look.pair).await?;
            let present = self.source.list_uids().await.map_err(at_source)?;
            if present.contains(uid) {
                self.due_at(
                    Instant::now() + Duration::from_secs(plan::UNDELIVERED_RETRY_SECS as u64),
                );
                self.refuse(jobs, looks, (*job, *uid), false, words);
            } else {
                look.wants.retain(|want| want.uid != *uid);
            }
        }
        Ok(())
    }

    /// Applies changed flags to copies, as differences from what was last written.
    pub async fn apply_flags(&mut self, look: &mut Look) -> Result<(), Failure> {
        let changes = std::mem::take(&mut look.flags);
        if changes.is_empty() || !self.may_change() {
            return Ok(());
        }
        let name = self.book.pairs[look.pair].target.clone();
        let links: Vec<(Uid, &Link)> = changes
            .iter()
            .filter_map(|(uid, _)| match look.known.get(uid) {
                Some(Known::Linked(link)) => Some((*uid, link)),
                _ => None,
            })
            .collect();
        let sure = self.target.verify(&name, &links).await?;
        let selected = self.target.session().await?.selected().cloned();
        let permanent = selected.map(|selected| selected.permanent_flags).unwrap_or_default();
        let untouched = self.untouched(look, &links).await?;
        let mut groups: BTreeMap<String, (Flags, Flags, Vec<Uid>)> = BTreeMap::new();
        let mut edits = Vec::new();
        let mut done = Vec::new();
        for (uid, flags) in changes {
            let Some(Known::Linked(link)) = look.known.get_mut(&uid) else { continue };
            if !sure.contains(&uid) {
                look.unfinished = true;
                self.book.pairs[look.pair].look_at_target = true;
                continue;
            }
            if untouched.contains(&uid) {
                let added = flags.minus(&link.flags).retain(|name| permanent.admits(name));
                let removed = link.flags.minus(&flags).retain(|name| permanent.admits(name));
                let key = format!("{added:?} {removed:?}");
                let group = groups.entry(key).or_insert((added, removed, Vec::new()));
                group.2.extend(link.target_uid);
                done.push((uid, link.target_uid));
            }
            link.flags = flags;
            edits.push(Edit::PutKnown(look.folder, uid, Known::Linked(link.clone())));
        }
        for (added, removed, uids) in groups.values() {
            self.target.store(uids, added, removed).await?;
        }
        self.writer.commit(edits).await?;
        let shown = self.book.pairs[look.pair].shown().to_owned();
        if !done.is_empty() {
            let text = format!("flags of {} messages follow the source", done.len());
            self.emit(Entry::new(Event::FlagsChanged, text).folder(&shown).priority(6));
        }
        Ok(())
    }

    /// After the cutover the owner may already work at the target: only copies whose flags are as
    /// last written still follow the source. Before it, all do.
    async fn untouched(
        &mut self,
        look: &Look,
        links: &[(Uid, &Link)],
    ) -> Result<HashSet<Uid>, Failure> {
        let listing = match &look.listing {
            Some(listing) if self.phase() >= Phase::Draining => listing,
            _ => return Ok(links.iter().map(|(uid, _)| *uid).collect()),
        };
        let permanent = self.book.pairs[look.pair].permanent.clone().unwrap_or_default();
        let as_written = links.iter().filter(|(_, link)| {
            let now = link.target_uid.and_then(|uid| listing.get(&uid));
            let kept = link.flags.retain(|name| permanent.admits(name));
            now.is_some_and(|now| now.flags == kept)
        });
        Ok(as_written.map(|(uid, _)| *uid).collect())
    }

    /// Copies that are gone from the target although nobody removed their message: copied again
    /// once, and said. From the seal on the target is its owner's: what they removed stays so.
    pub async fn apply_vanished(&mut self, look: &mut Look) -> Result<(), Failure> {
        let folder = look.folder;
        let vanished: HashSet<Uid> = std::mem::take(&mut look.vanished).into_iter().collect();
        if look.listing.is_some() {
            self.book.learned.vanished.retain(|(of, uid)| *of != folder || vanished.contains(uid));
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
            if !self.book.learned.vanished.missing((folder, uid), false, Instant::now()) {
                self.book.pairs[look.pair].look_at_target = true;
                continue;
            }
            self.book.learned.vanished.settled((folder, uid));
            look.known.remove(&uid);
            edits.push(self.copy_again(look, uid));
        }
        self.writer.commit(edits).await?;
        Ok(())
    }

    /// Forgets the link, so that the next pass copies the message; the second time it is listed.
    fn copy_again(&mut self, look: &mut Look, uid: Uid) -> Edit {
        let once = self.book.learned.recopied.insert((look.folder, uid));
        let text = if once { "copied again" } else { "vanished again; not copied a third time" };
        let shown = self.book.pairs[look.pair].shown().to_owned();
        self.emit(Entry::new(Event::CopyVanished, text).folder(&shown).source_uid(uid));
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
        let now = Instant::now();
        for look in looks.iter_mut() {
            self.still_missing(look, now);
        }
        if !self.may_change() {
            return Ok(());
        }
        let gone: usize = looks.iter().map(|look| self.counted(look)).sum();
        let linked: u64 = self.book.pairs.iter().map(|pair| pair.counts.linked).sum();
        let of_account = plan::is_mass_deletion(gone, linked as usize);
        let of_folder = looks.iter().any(|look| {
            plan::is_mass_deletion(self.counted(look), plan::links(&look.known).count())
        });
        let mirror = self.enrollment.migration.sync.deletions == Deletions::Mirror;
        if mirror && (of_account || of_folder) && !self.book.learned.removals_approved {
            self.suspend_removals(gone).await?;
        }
        for look in looks.iter_mut() {
            self.remove_gone(look).await?;
        }
        Ok(())
    }

    /// How many of the folder's removals count towards a mass deletion.
    fn counted(&self, look: &Look) -> usize {
        if self.book.pairs[look.pair].record.exempt { 0 } else { look.gone.len() }
    }

    /// Sorts what is missing into gone and suspected.
    fn still_missing(&mut self, look: &mut Look, now: Instant) {
        let folder = look.folder;
        let missing: HashSet<Uid> = look.missing.iter().copied().collect();
        self.book.learned.missing.retain(|(of, uid)| *of != folder || missing.contains(uid));
        let told = look.absence == Absence::Certain
            || self.told.as_ref().is_some_and(|(name, news)| {
                *name == self.book.pairs[look.pair].source
                    && (news.expunged as usize + news.vanished.len()) >= missing.len()
            });
        for uid in std::mem::take(&mut look.missing) {
            if look.absence != Absence::Suspected
                && self.book.learned.missing.missing((folder, uid), told, now)
            {
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

    async fn remove_gone(&mut self, look: &mut Look) -> Result<(), Failure> {
        let gone = std::mem::take(&mut look.gone);
        if gone.is_empty() {
            return Ok(());
        }
        if self.book.record.removals_suspended {
            // They stay known, and are found missing again once somebody has approved.
            return Ok(());
        }
        let mirror = self.enrollment.migration.sync.deletions == Deletions::Mirror;
        let removable = mirror && self.target.can_remove().await?;
        if mirror && !removable && !self.book.learned.said_no_removals {
            self.book.learned.said_no_removals = true;
            let text = "the target has no UIDPLUS: deletions at the source are not mirrored";
            self.emit(Entry::new(Event::RemovalsLapsed, text));
        }
        let name = self.book.pairs[look.pair].target.clone();
        let links: Vec<(Uid, &Link)> = gone
            .iter()
            .filter_map(|uid| match look.known.get(uid) {
                Some(Known::Linked(link)) if removable && self.is_ours(link) => Some((*uid, link)),
                _ => None,
            })
            .collect();
        let mut sure = HashSet::new();
        if !links.is_empty() {
            sure = self.target.verify(&name, &links).await?;
            let untouched = self.untouched(look, &links).await?;
            sure.retain(|uid| untouched.contains(uid));
            let removed = links.iter().filter(|(uid, _)| sure.contains(uid));
            let uids: Vec<Uid> = removed.filter_map(|(_, link)| link.target_uid).collect();
            if !uids.is_empty() {
                self.target.remove(&name, &uids).await?;
                self.book.pairs[look.pair].expect_fewer(uids.len());
            }
        }
        let mut edits = Vec::new();
        let shown = self.book.pairs[look.pair].shown().to_owned();
        for uid in gone {
            self.book.learned.missing.settled((look.folder, uid));
            edits.push(Edit::DropKnown(look.folder, uid));
            let Some(Known::Linked(link)) = look.known.remove(&uid) else { continue };
            if sure.contains(&uid) {
                let entry = Entry::new(Event::MessageRemoved, "removed, as at the source");
                self.emit(entry.folder(&shown).source_uid(uid).target_uid(link.target_uid));
            } else if let Some(target_uid) = link.target_uid {
                edits.push(Edit::PutOrphan(look.folder, Orphan { target_uid, link }));
            }
        }
        self.writer.commit(edits).await?;
        Ok(())
    }

    /// Downloads copies worth a doubt and compares them.
    pub async fn read_back(&mut self, look: &mut Look) -> Result<(), Failure> {
        let how = self.enrollment.migration.sync.read_back;
        let due = |link: &Link| {
            let asked = match how {
                ReadBack::All => true,
                ReadBack::Suspect => link.suspect || looks_altered(look, link),
                ReadBack::Off => false,
            };
            asked && !link.verified && link.altered.is_none() && link.origin == Origin::Copied
        };
        let doubted = plan::links(&look.known).filter(|(_, link)| due(link));
        let links: Vec<(Uid, Uid)> =
            doubted.filter_map(|(uid, link)| Some((uid, link.target_uid?))).collect();
        if links.is_empty() {
            return Ok(());
        }
        let uids: Vec<Uid> = links.iter().map(|(_, target_uid)| *target_uid).collect();
        let digests = self.target_digests(look.pair, &uids).await?;
        let mut edits = Vec::new();
        for (uid, target_uid) in links {
            let Some(found) = digests.get(&target_uid) else { continue };
            let seen = look.listing.as_ref().and_then(|listing| listing.get(&target_uid));
            let seen = seen.map(|message| message.instant);
            let Some(Known::Linked(link)) = look.known.get_mut(&uid) else { continue };
            link.altered = alteration(link, found, seen);
            link.verified = link.altered.is_none();
            edits.push(Edit::PutKnown(look.folder, uid, Known::Linked(link.clone())));
            if let Some(text) = &link.altered {
                let shown = self.book.pairs[look.pair].shown();
                let entry = Entry::new(Event::MessageAltered, format!("by the target: {text}"));
                self.emit(entry.folder(shown).source_uid(uid).target_uid(Some(target_uid)));
            }
        }
        self.writer.commit(edits).await?;
        Ok(())
    }
}

/// Does the target's listing show another size or instant than the link's?
fn looks_altered(look: &Look, link: &Link) -> bool {
    let listing = look.listing.as_ref();
    let seen = link.target_uid.and_then(|uid| listing?.get(&uid));
    seen.is_some_and(|seen| seen.size != link.size || seen.instant != link.instant)
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

/// Tells the status board and the journal what the pipeline stored.
struct Clerk<'a> {
    phase: Phase,
    board: &'a Board,
    pairs: &'a [Pair],
    shared: &'a Shared,
    enrollment: &'a Enrollment,
}

impl Desk for Clerk<'_> {
    fn stored(&self, job: &Job, message: &Intended, target_uid: Option<Uid>) {
        let at = self.pairs.iter().position(|pair| pair.record.id == job.folder);
        let Some(at) = at else { return };
        if let Some(progress) = self.board.copied(at, message.size) {
            let entry = Entry::new(Event::CopyProgress, progress);
            let entry = entry.account(&self.enrollment.address);
            self.shared.journal.emit(entry.migration(&self.enrollment.migration.name));
        }
        // The first copy logs a line a folder, not a line a message.
        if self.phase < Phase::Following || !self.pairs[at].record.first_copy_completed {
            return;
        }
        let entry = Entry::new(Event::MessageCopied, "copied")
            .account(&self.enrollment.address)
            .migration(&self.enrollment.migration.name)
            .folder(self.pairs[at].shown())
            .source_uid(message.source_uid)
            .target_uid(target_uid)
            .bytes(message.size);
        self.shared.journal.emit(entry);
    }

    fn now(&self) -> i64 {
        self.shared.clock.now()
    }
}
