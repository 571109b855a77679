//! The pipeline of a copy: FETCH literals flow into APPEND literals, digested as they pass.
//!
//! Source windows are asked for ahead; target batches are answered while the next ones flow. A
//! batch's last CRLF waits for its durable intent, so no copy exists that a restart could not
//! find again. If the source dies inside a literal, the literal never ends and nothing is stored.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::hosts::Verdict;
use super::throttle::Throttle;
use crate::checkpoint::{
    Edit, FolderId, Intended, Intent, IntentId, Known, Link, Origin, Proof, Store, StoreError,
    Writer,
};
use crate::digest::Digester;
use crate::imap::{
    AppendAnswer, AppendAnswers, AppendWriter, Code, Error, Fetched, Fetching, PermanentFlags,
    Selected, Session, WireName,
};
use crate::words::{Flags, Message, Side, SystemFlags, Uid, UidValidity};

/// Messages of one folder to copy, in ascending order.
pub struct Job {
    pub folder: FolderId,
    pub source: WireName,
    pub source_uid_validity: UidValidity,
    pub target: WireName,
    pub target_uid_validity: UidValidity,
    /// No message of the target folder that is to come has a lower UID.
    pub target_uid_next: u32,
    /// Of the target folder, where known; keywords wait for it, system flags do not.
    pub permanent: Option<PermanentFlags>,
    pub messages: Vec<Message>,
}

/// How much goes at once.
#[derive(Clone, Debug)]
pub struct Terms {
    pub batch_messages_max: usize,
    pub batch_bytes_max: u64,
    /// Ask for one body at a time: the server tells the UID after it.
    pub singly: bool,
    /// A literal the server must ask for: the last try of a message that drew a BAD.
    pub synchronising: bool,
    /// An empty message is no message to the target but gives the batch up (RFC 3502, 6.3.11);
    /// Cyrus then reads what follows as commands.
    pub empty_cancels: bool,
}

const WINDOW_MESSAGES_MAX: usize = 128;
const WINDOW_BYTES_MAX: u64 = 8 << 20;
/// So much is asked for ahead, in so many commands at most: what a long line holds, and yet no
/// more than what news may have to wait for.
const AHEAD_BYTES_MAX: u64 = 8 << 20;
const STEPS_AHEAD_MAX: usize = 12;
/// At least two windows are asked for, whatever their size: one is read while the other comes.
const STEPS_AHEAD_MIN: usize = 2;
const BATCHES_IN_FLIGHT: usize = 16;
/// How long batches let go are waited for after the source has failed.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// Where results go while the pipeline runs.
pub trait Desk: Sync {
    /// A message is at the target.
    fn stored(&self, job: &Job, message: &Intended, target_uid: Option<Uid>);
    /// Unix seconds.
    fn now(&self) -> i64;
}

/// Everything a copy needs besides its connections.
pub struct Copying<'a, D> {
    pub store: &'a Store,
    pub writer: &'a Writer,
    pub terms: Terms,
    /// Bodies wait here where bandwidth is limited.
    pub throttle: &'a Throttle,
    pub desk: &'a D,
    /// Set to end early, at the next window: something more urgent came.
    pub interrupt: &'a AtomicBool,
}

/// What a copy leaves to be dealt with.
#[derive(Default, Debug)]
pub struct Outcome {
    pub failure: Option<Failure>,
    /// Batches refused with NO: (job, UIDs, code, text). Nothing of them is stored.
    pub refused: Vec<RefusedBatch>,
    /// Messages the source did not deliver, with its words where it had some.
    pub undelivered: Vec<(usize, Uid, String)>,
    /// The target's connection can take no further command.
    pub target_spent: bool,
    /// The source's connection can take no further command.
    pub source_spent: bool,
    pub interrupted: bool,
    /// The message that was being written when it ended.
    pub writing: Option<(usize, Uid)>,
}

#[derive(Debug)]
pub struct RefusedBatch {
    pub job: usize,
    pub messages: Vec<Intended>,
    pub code: Option<Code>,
    pub text: String,
}

/// What a host's budget makes of a failed connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostSays {
    /// Try again after that.
    Wait(Duration),
    /// The login was refused, and whose fault that is.
    Refused(Verdict),
    /// Nothing: it is the account's own affair.
    Nothing,
}

/// Why a copy or a pass could not go on.
#[derive(Debug)]
pub enum Failure {
    /// No session could be had; the host was told.
    Connect(Side, Error, HostSays),
    /// A session failed.
    Imap(Side, Error),
    Store(StoreError),
    /// A folder is no longer the one that was looked at.
    Changed,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

/// A batch that was let go, or is about to be.
struct Batch {
    number: u64,
    job: usize,
    intent: IntentId,
    messages: Vec<Intended>,
}

/// Batches in flight, shared by the writing and the reading half.
#[derive(Default)]
struct Flight {
    batches: Mutex<VecDeque<Batch>>,
    changed: Notify,
}

impl Flight {
    fn len(&self) -> usize {
        self.batches.lock().expect("no panic while held").len()
    }

    fn push(&self, batch: Batch) {
        self.batches.lock().expect("no panic while held").push_back(batch);
        self.changed.notify_waiters();
    }

    fn with<T>(&self, number: u64, ask: impl FnOnce(&Batch) -> T) -> Option<T> {
        let batches = self.batches.lock().expect("no panic while held");
        batches.iter().find(|batch| batch.number == number).map(ask)
    }

    fn take(&self, number: u64) -> Option<Batch> {
        let mut batches = self.batches.lock().expect("no panic while held");
        let at = batches.iter().position(|batch| batch.number == number)?;
        let batch = batches.remove(at);
        drop(batches);
        self.changed.notify_waiters();
        batch
    }

    async fn below(&self, limit: usize) {
        loop {
            let changed = self.changed.notified();
            if self.len() < limit {
                return;
            }
            changed.await;
        }
    }
}

/// Copies all jobs. Results are committed as they come; what is left is told.
pub async fn copy<D: Desk>(
    source: &mut Session,
    target: &mut Session,
    jobs: &[Job],
    copying: &Copying<'_, D>,
) -> Outcome {
    let flight = Flight::default();
    let selected = source.selected().map(|selected| selected.name.clone());
    let steps = match comes_ahead(source, jobs, copying.terms.singly) {
        true => VecDeque::from([Step::Window { job: 0, from: 0, to: jobs[0].messages.len() }]),
        false => steps(jobs, selected, copying.terms.singly),
    };
    let (writer, answers) = target.appending();
    let mut outcome = Outcome::default();
    let mut refused = Vec::new();
    let failure = {
        let mut pump = Pump {
            fetching: source.fetching(),
            writer,
            jobs,
            copying,
            flight: &flight,
            asked: VecDeque::new(),
            asked_once: false,
            steps,
            open: None,
            outcome: &mut outcome,
        };
        let pumping = pump.run();
        let collecting = collect(answers, jobs, copying, &flight, &mut refused);
        tokio::pin!(pumping, collecting);
        tokio::select! {
            biased;
            failed = &mut collecting => Some(failed),
            pumped = &mut pumping => {
                // Also after a failure: what was let go and is answered is not left in doubt.
                let patience = if pumped.is_ok() { Duration::MAX } else { LAST_ANSWERS_WITHIN };
                let failed = tokio::select! {
                    biased;
                    failed = &mut collecting => Some(failed),
                    () = flight.below(1) => None,
                    () = tokio::time::sleep(patience) => None,
                };
                pumped.err().or(failed)
            }
        }
    };
    outcome.failure = failure;
    if outcome.failure.is_some() {
        (outcome.source_spent, outcome.target_spent) = (true, true);
    }
    outcome.refused.extend(refused);
    outcome
}

/// What is asked of the source, in order.
#[derive(Clone, Debug)]
enum Step {
    Examine(usize),
    Window { job: usize, from: usize, to: usize },
}

/// Are all bodies on their way, asked for with their listing?
pub fn comes_ahead(source: &Session, jobs: &[Job], singly: bool) -> bool {
    let is_here = |job: &Job| source.selected().is_some_and(|here| here.name == job.source);
    source.has_bodies_ahead() && !singly && matches!(jobs, [job] if is_here(job))
}

fn steps(jobs: &[Job], selected: Option<WireName>, singly: bool) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    let mut current = selected;
    for (at, job) in jobs.iter().enumerate() {
        if current.as_ref() != Some(&job.source) {
            steps.push_back(Step::Examine(at));
            current = Some(job.source.clone());
        }
        let mut from = 0;
        while from < job.messages.len() {
            let to = if singly { from + 1 } else { window_end(&job.messages, from) };
            steps.push_back(Step::Window { job: at, from, to });
            from = to;
        }
    }
    steps
}

fn window_end(messages: &[Message], from: usize) -> usize {
    let mut bytes = 0;
    let mut to = from;
    while to < messages.len()
        && (to == from || (to - from < WINDOW_MESSAGES_MAX && bytes < WINDOW_BYTES_MAX))
    {
        bytes += messages[to].size;
        to += 1;
    }
    to
}

/// A batch being written.
struct Open {
    number: u64,
    job: usize,
    messages: Vec<Intended>,
    bytes: u64,
}

/// The half that reads the source and writes the target.
struct Pump<'a, 's, D> {
    fetching: Fetching<'s>,
    writer: AppendWriter<'s>,
    jobs: &'a [Job],
    copying: &'a Copying<'a, D>,
    flight: &'a Flight,
    steps: VecDeque<Step>,
    /// Asked and not yet answered, with the messages still to come.
    asked: VecDeque<(Step, BTreeSet<Uid>)>,
    asked_once: bool,
    open: Option<Open>,
    outcome: &'a mut Outcome,
}

impl<D: Desk> Pump<'_, '_, D> {
    async fn run(&mut self) -> Result<(), Failure> {
        let pumped = self.pump().await;
        if pumped.is_ok() {
            return self.close().await;
        }
        pumped
    }

    async fn pump(&mut self) -> Result<(), Failure> {
        loop {
            self.ask().await?;
            if self.asked.is_empty() {
                return Ok(());
            }
            match self.fetching.next().await.map_err(at_source)? {
                Fetched::Examined(selected) => self.examined(selected.map_err(at_source)?)?,
                Fetched::Body { message } => self.body(message).await?,
                Fetched::NoBody { uid } => {
                    if let Some(job) = self.expected(uid) {
                        let words = "the source has no body for it".to_owned();
                        self.outcome.undelivered.push((job, uid, words));
                    }
                }
                Fetched::WindowDone { refused } => self.window_done(refused),
            }
        }
    }

    /// Keeps the source busy, unless something more urgent came.
    async fn ask(&mut self) -> Result<(), Failure> {
        // At least one window goes, so that constant news cannot starve the backlog.
        let urgent = self.copying.interrupt.load(Ordering::Relaxed) && self.asked_once;
        if urgent && !self.steps.is_empty() {
            self.steps.clear();
            self.outcome.interrupted = true;
        }
        while self.has_room() {
            let Some(step) = self.steps.pop_front() else { return Ok(()) };
            let mut waited_for = BTreeSet::new();
            match step {
                Step::Examine(job) => {
                    self.fetching.examine(&self.jobs[job].source).await.map_err(at_source)?;
                }
                Step::Window { job, from, to } => {
                    let messages = &self.jobs[job].messages[from..to];
                    waited_for.extend(messages.iter().map(|message| message.uid));
                    if self.copying.terms.singly {
                        self.fetching.request_single(&messages[0]).await
                    } else {
                        let uids: Vec<Uid> = waited_for.iter().copied().collect();
                        match self.fetching.take_ahead(&uids) {
                            true => Ok(()),
                            false => self.fetching.request(&uids).await,
                        }
                    }
                    .map_err(at_source)?;
                }
            }
            self.asked_once |= matches!(step, Step::Window { .. });
            self.asked.push_back((step, waited_for));
        }
        Ok(())
    }

    /// May one more step be asked for?
    fn has_room(&self) -> bool {
        if self.copying.terms.singly {
            return self.asked.is_empty();
        }
        let bytes: u64 = self.asked.iter().map(|(step, _)| self.bytes_of(step)).sum();
        let asked = self.asked.len();
        asked < STEPS_AHEAD_MIN || (asked < STEPS_AHEAD_MAX && bytes < AHEAD_BYTES_MAX)
    }

    fn bytes_of(&self, step: &Step) -> u64 {
        match step {
            Step::Examine(_) => 0,
            Step::Window { job, from, to } => {
                self.jobs[*job].messages[*from..*to].iter().map(|message| message.size).sum()
            }
        }
    }

    fn examined(&mut self, selected: Selected) -> Result<(), Failure> {
        match self.asked.pop_front() {
            Some((Step::Examine(job), _))
                if self.jobs[job].source_uid_validity == selected.uid_validity
                    || selected.numbers_may_change() =>
            {
                Ok(())
            }
            _ => Err(Failure::Changed),
        }
    }

    /// The job a UID belongs to, if it was asked for and has not come yet. Dovecot works on
    /// pipelined FETCHes side by side: a body may belong to a later window, but not to a folder
    /// whose EXAMINE is still to be answered.
    fn expected(&mut self, uid: Uid) -> Option<usize> {
        for (step, waited_for) in &mut self.asked {
            let Step::Window { job, .. } = step else { return None };
            if waited_for.remove(&uid) {
                return Some(*job);
            }
        }
        None
    }

    fn window_done(&mut self, refused: Option<(Option<Code>, String)>) {
        let Some((Step::Window { job, .. }, waited_for)) = self.asked.pop_front() else { return };
        let words = match refused {
            Some((_, text)) => text,
            None => "the source did not deliver it".to_owned(),
        };
        for uid in waited_for {
            self.outcome.undelivered.push((job, uid, words.clone()));
        }
    }

    /// Relays one body, or swallows one that nobody asked for.
    async fn body(&mut self, message: Message) -> Result<(), Failure> {
        let Some(job) = self.expected(message.uid) else {
            while self.fetching.chunk().await.map_err(at_source)?.is_some() {}
            return Ok(());
        };
        if message.size == 0 && self.copying.terms.empty_cancels {
            while self.fetching.chunk().await.map_err(at_source)?.is_some() {}
            self.outcome.refused.push(refused_empty(job, &message));
            return Ok(());
        }
        self.make_room(job, message.size).await?;
        let (flags, mirrored) = stored_flags(&message.flags, self.jobs[job].permanent.as_ref());
        let synchronising = self.copying.terms.synchronising;
        self.outcome.writing = Some((job, message.uid));
        let item = self.writer.item(&flags, message.instant, message.size, synchronising);
        item.await.map_err(at_target)?;
        let mut digester = Digester::exact();
        while let Some(chunk) = self.fetching.chunk().await.map_err(at_source)? {
            digester.update(chunk);
            self.copying.throttle.pass(chunk.len()).await;
            self.writer.write(chunk).await.map_err(at_target)?;
        }
        let digests = digester.finish_exact();
        if digests.size != message.size {
            return Err(at_source(Error::Protocol("a literal of another length".into())));
        }
        let open = self.open.as_mut().expect("made by make_room");
        open.bytes += message.size;
        open.messages.push(Intended {
            source_uid: message.uid,
            size: message.size,
            instant: message.instant,
            header: digests.header,
            sha256: digests.sha256,
            flags: mirrored,
            suspect: digests.suspect,
        });
        Ok(())
    }

    /// Closes the open batch where the next message does not fit it, and opens one.
    async fn make_room(&mut self, job: usize, size: u64) -> Result<(), Failure> {
        let terms = &self.copying.terms;
        let full = self.open.as_ref().is_some_and(|open| {
            open.job != job
                || open.messages.len() >= terms.batch_messages_max
                || open.bytes + size > terms.batch_bytes_max
        });
        if full {
            self.close().await?;
        }
        if self.open.is_none() {
            let number = self.writer.begin(&self.jobs[job].target).await.map_err(at_target)?;
            self.open = Some(Open { number, job, messages: Vec::new(), bytes: 0 });
        }
        Ok(())
    }

    /// Lets the open batch go: everything but the last CRLF, then its intent, then the CRLF.
    async fn close(&mut self) -> Result<(), Failure> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let job = &self.jobs[open.job];
        self.writer.hold().await.map_err(at_target)?;
        let intent = Intent {
            id: self.copying.store.new_intent_id()?,
            folder: job.folder,
            source_uid_validity: job.source_uid_validity,
            target_uid_validity: job.target_uid_validity,
            target_uid_next: job.target_uid_next,
            written_at: self.copying.desk.now(),
            repeated: false,
            messages: open.messages.clone(),
        };
        let id = intent.id;
        self.copying.writer.commit(vec![Edit::PutIntent(intent)]).await?;
        self.flight.below(BATCHES_IN_FLIGHT).await;
        let Open { number, job, messages, .. } = open;
        self.flight.push(Batch { number, job, intent: id, messages });
        self.writer.commit().await.map_err(at_target)?;
        if self.copying.terms.synchronising {
            // One at a time where a culprit is looked for.
            self.flight.below(1).await;
        }
        Ok(())
    }
}

/// A message that is not even sent.
fn refused_empty(job: usize, message: &Message) -> RefusedBatch {
    let digests = Digester::new().finish();
    let intended = Intended {
        source_uid: message.uid,
        size: 0,
        instant: message.instant,
        header: digests.header,
        sha256: digests.sha256,
        flags: message.flags.clone(),
        suspect: digests.suspect,
    };
    let text = "an empty message cannot be appended".to_owned();
    RefusedBatch { job, messages: vec![intended], code: None, text }
}

/// Reads answers and commits links for ever; returns only on a failure.
async fn collect<D: Desk>(
    mut answers: AppendAnswers<'_>,
    jobs: &[Job],
    copying: &Copying<'_, D>,
    flight: &Flight,
    refused: &mut Vec<RefusedBatch>,
) -> Failure {
    loop {
        let answer = match answers.next().await {
            Ok(answer) => answer,
            Err(error) => return at_target(error),
        };
        let number = match &answer {
            AppendAnswer::Stored { batch, .. } | AppendAnswer::Refused { batch, .. } => *batch,
        };
        let Some(edits) = flight.with(number, |batch| settle(batch, &answer, jobs, copying)) else {
            return early(answer);
        };
        if let Err(failure) = copying.writer.commit_lazily(edits).await {
            return Failure::Store(failure);
        }
        // Only now: once nothing is in flight this future is dropped.
        let batch = flight.take(number).expect("found above; only this half takes");
        if let AppendAnswer::Refused { code, text, .. } = answer {
            refused.push(RefusedBatch { job: batch.job, messages: batch.messages, code, text });
        }
    }
}

/// An answer to a batch that was not let go yet: nothing of it is stored.
fn early(answer: AppendAnswer) -> Failure {
    at_target(match answer {
        AppendAnswer::Refused { code, text, .. } => Error::No { command: "APPEND", code, text },
        AppendAnswer::Stored { .. } => Error::Protocol("APPEND was answered too early".into()),
    })
}

/// The edits that follow from an answer; tells the desk what was stored.
fn settle<D: Desk>(
    batch: &Batch,
    answer: &AppendAnswer,
    jobs: &[Job],
    copying: &Copying<'_, D>,
) -> Vec<Edit> {
    let mut edits = vec![Edit::DropIntent(batch.intent)];
    let AppendAnswer::Stored { uids, .. } = answer else { return edits };
    let job = &jobs[batch.job];
    let uids = uids.as_ref().filter(|(validity, uids)| believable(job, batch, *validity, uids));
    for (at, message) in batch.messages.iter().enumerate() {
        let target_uid = uids.map(|(_, uids)| uids[at]);
        let link = link_of(message, target_uid);
        edits.push(Edit::PutKnown(job.folder, message.source_uid, Known::Linked(link)));
        copying.desk.stored(job, message, target_uid);
    }
    edits
}

/// APPENDUID pairs in order only where UIDVALIDITY, count and UIDNEXT fit.
fn believable(job: &Job, batch: &Batch, validity: UidValidity, uids: &[Uid]) -> bool {
    validity == job.target_uid_validity
        && uids.len() == batch.messages.len()
        && uids.first().is_none_or(|first| first.get() >= job.target_uid_next)
        && uids.is_sorted_by(|a, b| a < b)
}

/// The link of a message that was appended.
pub fn link_of(message: &Intended, target_uid: Option<Uid>) -> Link {
    Link {
        target_uid,
        origin: Origin::Copied,
        size: message.size,
        instant: message.instant,
        header: message.header,
        sha256: message.sha256,
        flags: message.flags.clone(),
        unsure: None,
        proof: Proof::Listed,
        suspect: message.suspect,
        altered: None,
    }
}

/// The flags to send, and those to remember as mirrored: what the target cannot keep counts as
/// mirrored, keywords not yet sent for want of PERMANENTFLAGS do not.
pub fn stored_flags(flags: &Flags, permanent: Option<&PermanentFlags>) -> (Flags, Flags) {
    match permanent {
        Some(permanent) => (flags.retain(|name| permanent.admits(name)), flags.clone()),
        None => {
            let system = flags.retain(|name| SystemFlags::of_name(name).is_some());
            (system.clone(), system)
        }
    }
}

fn at_source(error: Error) -> Failure {
    Failure::Imap(Side::Source, error)
}

fn at_target(error: Error) -> Failure {
    Failure::Imap(Side::Target, error)
}
