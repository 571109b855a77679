//! Copies what a pass found wanting, and deals with what servers refuse.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use super::board::Board;
use super::book::Pair;
use super::clock::Instant;
use super::copy::{self, Copying, Desk, Failure, Job, Outcome, Terms};
use super::pass::{Look, Pass, at_source, at_target};
use super::plan;
use super::shared::Shared;
use super::source::{Holding, name_there};
use super::trouble::{self, Blame};
use crate::checkpoint::{Edit, FolderId, Intended, Known, Phase};
use crate::config::Enrollment;
use crate::imap::Error;
use crate::journal::{Entry, Event};
use crate::words::{Message, Side, Uid};

/// So many messages refused in a row for an unclear reason, none stored between: it is not the
/// messages' fault.
const REFUSED_IN_A_ROW_MAX: usize = 3;

/// Never set: what came in while a first copy runs is copied to its end.
static UNINTERRUPTED: AtomicBool = AtomicBool::new(false);

impl Pass<'_> {
    /// Copies what is wanted and not blocked. True if it was interrupted.
    pub async fn copy(&mut self, looks: &mut [Look]) -> Result<bool, Failure> {
        for holding in [Holding::Own, Holding::Archive] {
            if self.copy_from(holding, looks).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One of the account's stores after the other: a copy reads from one connection.
    async fn copy_from(&mut self, holding: Holding, looks: &mut [Look]) -> Result<bool, Failure> {
        let mut batch_cap = self.book.learned.pace.messages;
        let mut retried = HashSet::new();
        loop {
            let jobs = self.jobs(holding, looks);
            if jobs.is_empty() {
                return Ok(false);
            }
            let outcome = self.copy_once(holding, &jobs, batch_cap).await?;
            let refused = self.refused_batches(&jobs, looks, &outcome);
            self.undelivered(&jobs, looks, &outcome.undelivered, &mut retried).await?;
            self.refresh(looks, &jobs).await?;
            if let Some(failure) = outcome.failure {
                self.blame(&jobs, looks, outcome.writing, &failure).await?;
                return Err(failure);
            }
            let refused = refused?;
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
    fn jobs(&self, holding: Holding, looks: &[Look]) -> Vec<Job> {
        let mut jobs = Vec::new();
        for look in looks.iter().filter(|look| !look.troubled && !look.all_blocked) {
            let pair = &self.book.pairs[look.pair];
            let Some(target) = pair.record.target_seen else { continue };
            if Holding::of(&pair.source) != holding {
                continue;
            }
            let messages: Vec<Message> = look.not_in_doubt().cloned().collect();
            if messages.is_empty() {
                continue;
            }
            jobs.push(Job {
                folder: look.folder,
                source: name_there(&pair.source),
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

    async fn copy_once(
        &mut self,
        holding: Holding,
        jobs: &[Job],
        batch_cap: usize,
    ) -> Result<Outcome, Failure> {
        self.book.learned.bodies_unwanted = false;
        // A source that a pass left in the middle of something is not read from further.
        let target = self.target.appender().await?;
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
                empty_cancels: multi,
            },
            throttle: &self.shared.throttle,
            desk: &desk,
            interrupt: if self.fresh_from.is_some() { &UNINTERRUPTED } else { self.interrupt },
        };
        let source = self.source.turn_to(holding).map_err(at_source)?;
        if !copy::comes_ahead(source, jobs, copying.terms.singly) {
            source.drop_bodies().await.map_err(at_source)?;
        }
        let outcome = copy::copy(source, target, jobs, &copying).await;
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
            let blame = trouble::blame(refused.code.as_ref(), &refused.text);
            let error = || {
                let (code, text) = (refused.code.clone(), refused.text.clone());
                at_target(Error::No { command: "APPEND", code, text })
            };
            if blame == Blame::Elsewhere {
                return Err(error());
            }
            if let [single] = refused.messages.as_slice() {
                let place = (refused.job, single.source_uid);
                if !self.is_believed(blame, (jobs[place.0].folder, place.1)) {
                    return Err(error());
                }
                self.refuse(jobs, looks, place, Some(blame), &refused.text);
            } else {
                let size = refused.messages.len();
                smallest = Some(smallest.map_or(size, |smallest| smallest.min(size)));
            }
        }
        Ok(smallest)
    }

    /// A target that refuses one message after the other for unclear reasons does not mean the
    /// messages: then it is the account's trouble, and none of the rest is listed.
    fn is_believed(&mut self, blame: Blame, message: (FolderId, Uid)) -> bool {
        let in_a_row = &mut self.book.learned.refused_in_a_row;
        blame == Blame::Message || {
            in_a_row.insert(message);
            in_a_row.len() < REFUSED_IN_A_ROW_MAX
        }
    }

    /// Lists a message as refused, in the server's words: by the target, with what it blamed, or
    /// by the source (`None`).
    fn refuse(
        &mut self,
        jobs: &[Job],
        looks: &mut [Look],
        (job, uid): (usize, Uid),
        by_target: Option<Blame>,
        text: &str,
    ) {
        let folder = jobs[job].folder;
        let Some(look) = looks.iter_mut().find(|look| look.folder == folder) else { return };
        let before = match look.known.get(&uid) {
            Some(Known::Refused { tries, .. }) => *tries,
            _ => 0,
        };
        let certain = by_target == Some(Blame::Message);
        let tries = if certain { plan::REFUSED_TRIES_MAX } else { before + 1 };
        let known = Known::Refused {
            by_target: by_target.is_some(),
            text: text.chars().take(512).collect(),
            tries,
            last_try: self.shared.clock.now(),
        };
        look.wants.remove(&uid);
        look.refusals.push((uid, known));
        if tries < plan::REFUSED_TRIES_MAX {
            // Not believed yet: it is tried again before anything is sealed.
            self.due_at(Instant::now() + self.shared.apart);
        } else {
            let side = if by_target.is_some() { Side::Target } else { Side::Source };
            let shown = self.book.pairs[look.pair].shown();
            let entry = Entry::new(Event::MessageRefused, format!("by the {side}: {text}"));
            self.emit(entry.folder(shown).source_uid(uid));
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
            let linked = |uid: &Uid| match look.known.get(uid) {
                Some(Known::Linked(link)) => Some(link),
                _ => None,
            };
            let stored: Vec<Option<Uid>> = job
                .messages
                .iter()
                .filter_map(|message| linked(&message.uid).map(|link| link.target_uid))
                .collect();
            let last = stored.iter().max().copied().flatten();
            let all_told = stored.iter().all(Option::is_some);
            self.book.pairs[look.pair].expect_more(stored.len(), last.filter(|_| all_told));
            if !stored.is_empty() {
                self.book.learned.refused_in_a_row.clear();
            }
            for (uid, want) in look.wants.extract_if(.., |uid, _| linked(uid).is_some()) {
                // Keywords that had to wait for PERMANENTFLAGS follow as a change of flags.
                let link = linked(&uid).expect("filtered by it");
                let same_system = link.flags.system() == want.flags.system();
                if same_system && link.flags != want.flags {
                    look.flags.push((uid, want.flags));
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
        let (blame, text) = match failure {
            Failure::Imap(Side::Source, Error::BodyBeforeUid) => {
                self.book.learned.bodies_singly = true;
                return Ok(());
            }
            Failure::Imap(Side::Target, Error::Bad { text, .. }) => {
                let throttled = trouble::is_throttled(text);
                (if throttled { Blame::Elsewhere } else { Blame::Perhaps }, text)
            }
            Failure::Imap(Side::Target, Error::No { code, text, .. }) => {
                (trouble::blame(code.as_ref(), text), text)
            }
            Failure::Imap(_, Error::Closed { .. } | Error::TimedOut(_)) => {
                self.book.learned.pace.cut();
                return Ok(());
            }
            _ => return Ok(()),
        };
        if blame == Blame::Elsewhere {
            return Ok(());
        }
        if let Some(culprit) = writing.filter(|_| self.book.learned.pace.synchronising)
            && self.is_believed(blame, (jobs[culprit.0].folder, culprit.1))
        {
            self.refuse(jobs, looks, culprit, Some(blame), text);
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
        let mut present: Option<(FolderId, HashSet<Uid>)> = None;
        for (job, uid, words) in undelivered {
            let folder = jobs[*job].folder;
            let Some(look) = looks.iter_mut().find(|look| look.folder == folder) else { continue };
            if retried.insert((folder, *uid)) {
                continue;
            }
            look.unfinished = true;
            if present.as_ref().is_none_or(|(of, _)| *of != folder) {
                self.examine(look.pair).await?;
                let uids = self.source.list_uids().await.map_err(at_source)?;
                present = Some((folder, uids.into_iter().collect()));
            }
            if present.as_ref().is_some_and(|(_, uids)| uids.contains(uid)) {
                self.refuse(jobs, looks, (*job, *uid), None, words);
            } else {
                look.wants.remove(uid);
            }
        }
        Ok(())
    }
}

/// Tells the status board and the journal what the pipeline stored.
struct Clerk<'a> {
    phase: Phase,
    board: &'a Board,
    pairs: &'a [Pair],
    shared: &'a Shared,
    enrollment: &'a Enrollment,
}

impl Clerk<'_> {
    fn emit(&self, entry: Entry) {
        let entry = entry.account(&self.enrollment.address);
        self.shared.journal.emit(entry.migration(&self.enrollment.migration.name));
    }
}

impl Desk for Clerk<'_> {
    fn stored(&self, job: &Job, message: &Intended, target_uid: Option<Uid>) {
        let at = self.pairs.iter().position(|pair| pair.record.id == job.folder);
        let Some(at) = at else { return };
        if let Some(progress) = self.board.copied(at, message.size) {
            self.emit(Entry::new(Event::CopyProgress, progress));
        }
        // The first copy logs a line a folder, not a line a message.
        if self.phase < Phase::Following || !self.pairs[at].record.first_copy_completed {
            return;
        }
        let entry = Entry::new(Event::MessageCopied, "copied").folder(self.pairs[at].shown());
        let entry = entry.source_uid(message.source_uid).target_uid(target_uid);
        self.emit(entry.bytes(message.size));
    }

    fn now(&self) -> i64 {
        self.shared.clock.now()
    }
}
