//! One account's life, from its enrollment to its seal: the task that the supervisor starts.
//!
//! Here errors end: they are understood ([`super::trouble`]), waited out or held, and told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::backoff;
use super::board::{Board, contact_status};
use super::book::{Book, Learned};
use super::connect::{
    credentials_digest, endpoint, jittered, place, refused, service_login, tell_service_refused,
    worked_digest,
};
use super::copy::{Failure, HostSays};
use super::follow::{self, Following, Over};
use super::hosts::Verdict;
use super::proof;
use super::trouble::{self, Blame, Remedy, Trouble};
use super::verify;
use crate::checkpoint::{
    self, AccountRecord, CompletedAccount, Edit, FolderId, Phase, Refused, StoreError, Writer,
    of_archived_name,
};
use crate::config::{self, Enrollment};
use crate::imap::Error;
use crate::journal::{Entry, Event};
use crate::words::{Side, Uid};

pub use super::board::StatusCell;
pub use super::shared::Shared;

/// What the supervisor may tell a running account.
#[derive(Clone, Debug)]
pub enum Order {
    /// Try now whatever is held or waiting; consents to nothing.
    Retry,
    ApproveDeletions,
    ApproveEndpoint,
    ApproveLate,
    ApproveCompleted,
    /// The account was verified beside its session: what was proved counts, and these messages,
    /// whose copies are missing, are copied again by the next pass (before the cutover).
    Verified(Vec<(FolderId, Uid)>),
    /// A new version of the enrollment (or of its migration): takes effect at once.
    Replace(Arc<Enrollment>),
}

/// How the task and the session it runs talk.
#[derive(Default)]
pub struct Control {
    /// End at the next safe point.
    pub interrupt: AtomicBool,
    /// End altogether, after that.
    pub stop: AtomicBool,
    /// New mail came to INBOX during a first copy: it goes ahead of the backlog.
    pub fresh: AtomicBool,
    /// Look now.
    pub wake: Notify,
    /// Somebody said so.
    pub asked: AtomicBool,
    /// An operator wants tried again what was refused.
    pub forgiven: AtomicBool,
    /// The operator consented to the removals that wait.
    pub removals_approved: AtomicBool,
    /// What a verification found missing; `None`: there was none.
    pub verified: Mutex<Option<Vec<(FolderId, Uid)>>>,
    /// A pass ended well: what was wrong before is over.
    pub well: AtomicBool,
}

/// How long a session gets to come to a safe point.
const SAFE_POINT_WITHIN: Duration = Duration::from_secs(4);
/// A password that has worked before is tried again after an hour, then six-hourly.
const SUSPECT_FIRST: Duration = Duration::from_secs(3600);
const SUSPECT_LATER: Duration = Duration::from_secs(6 * 3600);

/// So many sessions it takes at most to find a message that draws a refusal before its end.
const CULPRIT_FOUND_WITHIN: u32 = 12;

/// The wall clock is looked at this often while an account waits.
const CLOCK_EVERY: Duration = Duration::from_secs(5);

/// A host that refuses everybody is tried again no sooner.
const REFUSED_BY_HOST: Duration = Duration::from_secs(60);

/// Lives the account's life. Returns when it has completed or closed; dropping the future stops
/// it anywhere without harm (that is what kill -9 does, too). When `orders` closes it comes to a
/// clean stop within a few seconds: in-flight APPENDs are answered or left to their intents.
pub async fn run(
    shared: Arc<Shared>,
    enrollment: Arc<Enrollment>,
    orders: mpsc::Receiver<Order>,
    status: StatusCell,
) {
    let writer = shared.store.writer();
    let life = Life {
        shared,
        enrollment,
        orders,
        board: Board::new(status),
        writer,
        attempts: 0,
        told: None,
        approved: Approved::default(),
        suspect_tries: 0,
        cutover_moved: false,
        other_archive: false,
        learned: None,
    };
    // Boxed, so that the task of a quiet account is small.
    Box::pin(life.live()).await;
}

/// What the operator consented to since the task started.
#[derive(Default)]
struct Approved {
    endpoint: bool,
    late: bool,
    completed: bool,
    removals: bool,
}

struct Life {
    shared: Arc<Shared>,
    enrollment: Arc<Enrollment>,
    orders: mpsc::Receiver<Order>,
    board: Board,
    writer: Writer,
    /// Failures in a row.
    attempts: u32,
    /// The reason code the journal was last told.
    told: Option<&'static str>,
    approved: Approved,
    suspect_tries: u32,
    /// Another cutover was given while it lived.
    cutover_moved: bool,
    /// What was learned of its archive, or with its password, means nothing any more.
    other_archive: bool,
    /// What the last session learned.
    learned: Option<Learned>,
}

/// How a session ended.
enum Ended {
    Finished,
    /// Others wait for a connection: this account is looked at again after a while.
    Rested,
    Stopped,
    Replaced,
    Failed(Failure),
}

impl Life {
    async fn live(mut self) {
        self.show_enrollment();
        // What an operator said to an account that was over starts its task again.
        while let Ok(order) = self.orders.try_recv() {
            self.ordered(Some(order)).await;
        }
        loop {
            let mut book = match self.open_book().await {
                Ok(Some(book)) => book,
                Ok(None) => return,
                Err(Gate::Held(trouble, until)) => {
                    if self.hold(trouble, until).await == Flow::Stop {
                        return;
                    }
                    if until.is_some() {
                        self.forgive().await;
                    }
                    continue;
                }
                Err(Gate::Paused) => {
                    if self.pause().await == Flow::Stop {
                        return;
                    }
                    continue;
                }
                Err(Gate::Failed(error)) => {
                    if self.failed(Failure::Store(error), None).await == Flow::Stop {
                        return;
                    }
                    continue;
                }
            };
            let ended = self.session(&mut book).await;
            self.learned = Some(std::mem::take(&mut book.learned));
            match ended {
                Ended::Finished => return,
                Ended::Stopped => return,
                Ended::Rested => {
                    let pause = self.enrollment.migration.sync.sweep_interval;
                    if self.wait(Some(pause)).await == Flow::Stop {
                        return;
                    }
                }
                Ended::Replaced => self.show_enrollment(),
                Ended::Failed(failure) => {
                    if self.failed(failure, Some(&mut book)).await == Flow::Stop {
                        return;
                    }
                }
            }
        }
    }

    fn show_enrollment(&mut self) {
        if std::mem::take(&mut self.other_archive)
            && let Some(learned) = &mut self.learned
        {
            learned.archive = Default::default();
        }
        let enrollment = &self.enrollment;
        self.board.keeps = enrollment.migration.sync.deletions == config::Deletions::Keep;
        let keeps = self.board.keeps;
        let mut status = self.board.edit();
        status.address.clone_from(&enrollment.address);
        status.migration.clone_from(&enrollment.migration.name);
        status.contact = contact_status(&enrollment.contact);
        status.has_secrets = enrollment.has_secrets();
        status.enrolled_by = enrollment.file.display().to_string();
        status.cutover = enrollment.cutover.map(|cutover| cutover.to_string());
        if status.phase.is_empty() {
            "enrolled".clone_into(&mut status.phase);
        }
        "ok".clone_into(&mut status.condition);
        "polled".clone_into(&mut status.mode);
        if keeps { "kept" } else { "mirrored" }.clone_into(&mut status.removals);
    }

    /// Reads the checkpoint, or begins one. `None` if there is nothing left to do.
    async fn open_book(&mut self) -> Result<Option<Book>, Gate> {
        let done = self.shared.completed.get(&self.enrollment.address);
        let done = done.filter(|done| self.is_same_place(&done.source, &done.target));
        let reopened = done.as_ref().is_some_and(|done| self.is_reopened(done.completed_at));
        if done.is_some() && self.approved.completed {
            // From here on as for somebody new, also after a restart.
            self.shared.completed.reopen(&self.enrollment.address)?;
            self.approved.completed = false;
        } else if let Some(done) = done.filter(|_| !reopened) {
            self.board.show_phase(done.phase, done.sealed_at, done.completed_at);
            self.show_what_was_copied();
            self.board.well();
            self.prove().await;
            return Ok(None);
        }
        let record = match self.shared.store.account(&self.enrollment.address)? {
            Some(record) => {
                let record = self.known_account(record).await?;
                self.reenter(record).await?
            }
            None => self.new_account().await?,
        };
        let mut learned = self.learned.take().unwrap_or_else(|| Learned::new(self.shared.apart));
        learned.removals_approved |= std::mem::take(&mut self.approved.removals);
        let mut book =
            Book { record, pairs: Vec::new(), left_out: Vec::new(), surveyed: false, learned };
        if book.learned.removals_approved && book.record.removals_suspended {
            book.record.removals_suspended = false;
            self.writer.commit(vec![Edit::PutAccount(book.record.clone())]).await?;
        }
        follow::open_pairs(&self.shared, &mut book)?;
        self.leave_other_archives(&mut book).await?;
        let record = &book.record;
        self.board.show_phase(record.phase, record.sealed_at, record.source_seen_until);
        self.board.show_book(&book);
        if self.pass_phases(&mut book).await? {
            self.board.well();
            return Ok(None);
        }
        if self.enrollment.decree.paused {
            return Err(Gate::Paused);
        }
        if let Some(refused) = &book.record.refused_credentials
            && refused.digest == self.credentials_digest(at_side(refused.at_target))
        {
            let worked = book.record.worked_credentials == Some(self.worked_digest());
            let waited = self.shared.clock.now().saturating_sub(refused.since).max(0) as u64;
            let pause = SUSPECT_FIRST.saturating_sub(Duration::from_secs(waited));
            return Err(Gate::Held(refused_before(refused), worked.then_some(pause)));
        }
        Ok(Some(book))
    }

    /// Links into an archive that is not this account's any more would explain nothing there; those
    /// of one that is not named for now may be wanted again.
    async fn leave_other_archives(&self, book: &mut Book) -> Result<(), Gate> {
        let archive = self.enrollment.of_archive().map(|archive| place(&archive, Side::Source));
        let mut edits = Vec::new();
        book.pairs.retain(|pair| {
            let Some((at, _)) = of_archived_name(&pair.record.source_name) else { return true };
            if archive.as_ref().is_some_and(|archive| *archive != at) {
                edits.push(Edit::DropFolder(pair.record.id));
            }
            archive.as_ref() == Some(&at)
        });
        self.writer.commit(edits).await?;
        Ok(())
    }

    /// Counts of an account that is over, as far as its checkpoint is there.
    fn show_what_was_copied(&self) {
        let Ok(Some(record)) = self.shared.store.account(&self.enrollment.address) else { return };
        let learned = Learned::new(self.shared.apart);
        let (pairs, left_out) = (Vec::new(), Vec::new());
        let mut book = Book { record, pairs, left_out, surveyed: false, learned };
        if follow::open_pairs(&self.shared, &mut book).is_ok() {
            self.board.show_book(&book);
        }
    }

    /// Did an operator reopen the account after it had completed or closed?
    fn is_reopened(&self, completed_at: Option<i64>) -> bool {
        let reopened = self.enrollment.decree.reopened_at.map(|at| at.as_second());
        reopened.is_some_and(|at| completed_at.is_none_or(|completed| completed <= at))
    }

    /// The two ways back, each an operator's word: a reopened account returns from its end to
    /// append-only following, and one whose cutover was moved on from its last pass to following.
    async fn reenter(&mut self, mut record: AccountRecord) -> Result<AccountRecord, Gate> {
        let now = self.shared.clock.now();
        let ahead = self.enrollment.cutover.is_none_or(|cutover| now < cutover.as_second());
        let moved = std::mem::take(&mut self.cutover_moved);
        if record.phase >= Phase::Completed && self.is_reopened(record.completed_at) {
            self.shared.completed.reopen(&record.address)?;
            (record.phase, record.completed_at) = (Phase::Archiving, None);
            record.sealed_at.get_or_insert(now);
            let text = "followed again: what is missing is added, nothing else";
            self.emit(Entry::new(Event::AccountReopened, text));
        } else if record.phase == Phase::Draining && moved && ahead {
            let copied = record.first_copy_completed;
            record.phase = if copied { Phase::Following } else { Phase::Copying };
        } else {
            return Ok(record);
        }
        self.writer.commit(vec![Edit::PutAccount(record.clone())]).await?;
        Ok(record)
    }

    /// A new version of the enrollment takes effect.
    fn replace(&mut self, enrollment: Arc<Enrollment>) {
        self.cutover_moved |= self.enrollment.cutover != enrollment.cutover;
        let archive = |enrollment: &Enrollment| {
            let archive = enrollment.of_archive()?;
            let rules = archive.migration.folders.clone();
            let login = credentials_digest(&archive, Side::Source);
            Some((place(&archive, Side::Source), login, rules))
        };
        self.other_archive |= archive(&self.enrollment) != archive(&enrollment);
        self.enrollment = enrollment;
        self.attempts = 0;
    }

    /// Does nothing until somebody says so; the clock goes on.
    async fn pause(&mut self) -> Flow {
        let message = "an operator paused it".to_owned();
        let hint = "`pecsync resume ADDRESS`, or its migration or host.";
        let trouble =
            Trouble { code: "paused", side: None, message, hint, remedy: Remedy::Operator };
        let reason = self.board.reason_of(&trouble, None);
        self.board.unwell("paused", reason);
        self.board.rest();
        let flow = self.wait(None).await;
        self.board.well();
        flow
    }

    /// Writes the report that a completion cut short has left unwritten.
    async fn prove(&self) {
        if let Ok(Some(record)) = self.shared.store.account(&self.enrollment.address)
            && proof::is_wanted(&self.shared, &record)
        {
            proof::write(&self.shared, &record, []).await;
        }
    }

    /// The clock goes on for accounts that are held, too: their cutover comes, and their end. True
    /// once the life is over.
    async fn pass_phases(&self, book: &mut Book) -> Result<bool, Gate> {
        let control = Arc::new(Control::default());
        let following = Following {
            shared: &self.shared,
            enrollment: &self.enrollment,
            writer: &self.writer,
            board: &self.board,
            control: &control,
            recovering: false,
        };
        match following.advance(book, None).await {
            Ok(over) => Ok(over),
            Err(Failure::Store(error)) => Err(Gate::Failed(error)),
            Err(_) => unreachable!("phases pass without a server"),
        }
    }

    fn place(&self, side: Side) -> checkpoint::Place {
        place(&self.enrollment, side)
    }

    fn is_same_place(&self, source: &checkpoint::Place, target: &checkpoint::Place) -> bool {
        *source == self.place(Side::Source) && *target == self.place(Side::Target)
    }

    /// A checkpoint belongs to hosts and users: with others it is approved first, and its links
    /// are derived anew.
    async fn known_account(&mut self, mut record: AccountRecord) -> Result<AccountRecord, Gate> {
        if !self.is_same_place(&record.source, &record.target) {
            if !self.approved.endpoint {
                return Err(Gate::Held(
                    held(
                        "endpoint_changed",
                        "the source or the target is another host or user than before",
                        "`pecsync approve ADDRESS endpoint` if that is meant.",
                    ),
                    None,
                ));
            }
            self.approved.endpoint = false;
            let drop = Edit::DropAccount(record.id);
            self.writer.commit(vec![drop]).await?;
            return self.create_record(record.sealed_at).await;
        }
        let file = self.enrollment.file.display().to_string();
        if record.enrolled_by != file {
            record.enrolled_by = file;
            self.writer.commit(vec![Edit::PutAccount(record.clone())]).await?;
        }
        Ok(record)
    }

    /// An account without a checkpoint: new, or its state was lost. After the cutover the target
    /// is its owner's, so what was enrolled before it is not guessed.
    async fn new_account(&mut self) -> Result<AccountRecord, Gate> {
        let now = self.shared.clock.now();
        let opens = self.enrollment.migration.enroll_from.map(|from| from.as_second());
        if let Some(wait) = opens.and_then(|opens| u64::try_from(opens - now).ok())
            && wait > 0
        {
            let trouble = held(
                "window_not_open",
                "the migration takes enrollments only from enroll_from on",
                "Nothing: it begins by itself.",
            );
            return Err(Gate::Held(trouble, Some(Duration::from_secs(wait))));
        }
        let past = self.enrollment.cutover.filter(|cutover| now >= cutover.as_second());
        let late = past.is_some_and(|cutover| self.enrolled_after(cutover));
        if past.is_some() && !late && !self.approved.late {
            return Err(Gate::Held(
                held(
                    "state_lost",
                    "there is no checkpoint of this account, and its cutover is past",
                    "`pecsync approve ADDRESS late` copies what is missing, and only adds.",
                ),
                None,
            ));
        }
        self.create_record(past.map(|_| now)).await
    }

    /// Was the enrollment dropped after the cutover?
    fn enrolled_after(&self, cutover: Timestamp) -> bool {
        let written = std::fs::metadata(&self.enrollment.file).and_then(|file| file.modified());
        let written = written.ok().and_then(|written| Timestamp::try_from(written).ok());
        written.is_some_and(|written| written >= cutover)
    }

    /// After the cutover an account begins sealed: only missing messages are added.
    async fn create_record(&mut self, sealed_at: Option<i64>) -> Result<AccountRecord, Gate> {
        let record = AccountRecord {
            id: self.shared.store.new_account_id()?,
            address: self.enrollment.address.clone(),
            migration: self.enrollment.migration.name.clone(),
            enrolled_by: self.enrollment.file.display().to_string(),
            source: self.place(Side::Source),
            target: self.place(Side::Target),
            phase: if sealed_at.is_some() { Phase::Archiving } else { Phase::Enrolled },
            sealed_at,
            completed_at: None,
            source_seen_until: None,
            first_copy_completed: false,
            removals_suspended: false,
            refused_credentials: None,
            worked_credentials: None,
        };
        self.writer.commit(vec![Edit::PutAccount(record.clone())]).await?;
        Ok(record)
    }

    /// Runs one session and listens to orders meanwhile.
    async fn session(&mut self, book: &mut Book) -> Ended {
        let control = Arc::new(Control::default());
        let following = Following {
            shared: &self.shared,
            enrollment: &self.enrollment,
            writer: &self.writer,
            board: &self.board,
            control: &control,
            recovering: self.told.is_some(),
        };
        let mut session = Box::pin(following.run(book));
        let mut replaced = None;
        let mut patience: Option<Instant> = None;
        let result: Result<Over, Failure> = loop {
            let give_up = async {
                match patience {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                result = &mut session => break result,
                () = give_up => break Ok(Over::Stopped),
                order = self.orders.recv(), if patience.is_none() => match order {
                    None => {
                        stop(&control);
                        patience = Some(Instant::now() + SAFE_POINT_WITHIN);
                    }
                    Some(Order::Replace(enrollment)) => {
                        replaced = Some(enrollment);
                        stop(&control);
                        patience = Some(Instant::now() + SAFE_POINT_WITHIN);
                    }
                    Some(Order::Retry) => {
                        control.forgiven.store(true, Ordering::Relaxed);
                        control.wake.notify_one();
                    }
                    Some(Order::ApproveDeletions) => {
                        control.removals_approved.store(true, Ordering::Relaxed);
                        control.wake.notify_one();
                    }
                    Some(Order::Verified(missing)) => {
                        let mut verified = control.verified.lock().expect("no panic while held");
                        verified.get_or_insert_default().extend(missing);
                        control.wake.notify_one();
                    }
                    Some(_) => control.wake.notify_one(),
                },
            }
        };
        drop(session);
        self.carry(&control).await;
        if control.well.load(Ordering::Relaxed) {
            (self.told, self.attempts, self.suspect_tries) = (None, 0, 0);
        }
        if let Some(enrollment) = replaced {
            self.replace(enrollment);
            return Ended::Replaced;
        }
        match result {
            Ok(Over::Finished) => Ended::Finished,
            Ok(Over::Stopped) => Ended::Stopped,
            Ok(Over::Rested) => Ended::Rested,
            Err(_) if control.stop.load(Ordering::Relaxed) => Ended::Stopped,
            Err(failure) => Ended::Failed(failure),
        }
    }

    /// Orders that the session did not come to are the next one's.
    async fn carry(&mut self, control: &Control) {
        self.approved.removals |= control.removals_approved.swap(false, Ordering::Relaxed);
        if control.forgiven.swap(false, Ordering::Relaxed) {
            self.forgive().await;
        }
        let verified = control.verified.lock().expect("no panic while held").take();
        if let Some(missing) = verified {
            self.copy_again(missing).await;
        }
    }

    /// Understands a failure, tells it once, and waits.
    async fn failed(&mut self, failure: Failure, book: Option<&mut Book>) -> Flow {
        let trouble = trouble::trouble(&failure);
        self.attempts += 1;
        let own = backoff::delay(
            self.attempts,
            None,
            self.in_cutover_window(),
            self.shared.chance.next(),
        );
        let says = match failure {
            Failure::Connect(_, _, says) => says,
            _ => HostSays::Nothing,
        };
        let delay = match (trouble.remedy, says) {
            (Remedy::Credentials, says) => {
                let side = trouble.side.unwrap_or(Side::Source);
                if self.has_service_login(side) {
                    return self.service_refused(trouble, side).await;
                }
                if says == HostSays::Refused(Verdict::Host) {
                    let trouble = Trouble { code: "logins_refused_by_host", ..trouble };
                    return self.retry(trouble, own.max(REFUSED_BY_HOST)).await;
                }
                return self.refused(trouble, side, book).await;
            }
            (Remedy::Operator, _) => return self.hold(trouble, None).await,
            (_, HostSays::Wait(delay)) => delay,
            (Remedy::Throttle(hint), _) => {
                let side = trouble.side.unwrap_or(Side::Target);
                let host = endpoint(&self.enrollment, side).host;
                self.shared.hosts.host(&host).throttled(hint).max(own)
            }
            // The next session finds the culprit with smaller batches: no need to wait long.
            _ if is_refused_append(&failure) => own.min(Duration::from_millis(500)),
            _ => own,
        };
        if is_refused_append(&failure) && self.attempts < CULPRIT_FOUND_WITHIN {
            // Batches are halved until the culprit is alone: nothing to tell yet.
            return self.wait(Some(delay)).await;
        }
        self.retry(trouble, delay).await
    }

    /// Waits and tries again; the journal hears of it when the reason changes.
    async fn retry(&mut self, trouble: Trouble, delay: Duration) -> Flow {
        let next = self.shared.clock.now() + delay.as_secs() as i64;
        self.shared.retries.count(&self.enrollment.migration.name, trouble.code);
        let reason = self.board.reason_of(&trouble, Some(next));
        self.board.unwell("retrying", reason);
        self.board.rest();
        // A connection that is simply cut now and then is no news.
        let newsworthy = self.attempts > 1 || trouble.remedy != Remedy::Account;
        if self.told != Some(trouble.code) && newsworthy {
            self.told = Some(trouble.code);
            let text = format!("{}{}", told_side(&trouble), trouble.message);
            self.emit(Entry::new(Event::AccountRetrying, text).reason(trouble.code));
        }
        self.wait(Some(delay)).await
    }

    /// Holds the account until something changes, or until `until`.
    async fn hold(&mut self, trouble: Trouble, until: Option<Duration>) -> Flow {
        self.announce_hold(trouble, until);
        self.wait(until).await
    }

    fn announce_hold(&mut self, trouble: Trouble, until: Option<Duration>) {
        let next = until.map(|until| self.shared.clock.now() + until.as_secs() as i64);
        let reason = self.board.reason_of(&trouble, next);
        self.board.unwell("held", reason);
        self.board.rest();
        if self.told != Some(trouble.code) {
            self.told = Some(trouble.code);
            let text = format!("{}{} – {}", told_side(&trouble), trouble.message, trouble.hint);
            // Who is early needs nobody's help.
            let event = match trouble.code {
                "window_not_open" => Event::EnrollmentWaits,
                _ => Event::AccountHeld,
            };
            self.emit(Entry::new(event, text).reason(trouble.code));
        }
    }

    /// Waits for time to pass, an instant of the migration to come, or an order.
    async fn wait(&mut self, at_most: Option<Duration>) -> Flow {
        let begun = Instant::now();
        let instants = self.instants_ahead();
        loop {
            let left = at_most.map(|at_most| at_most.saturating_sub(begun.elapsed()));
            let now = self.shared.clock.now();
            if left.is_some_and(|left| left.is_zero()) || instants.iter().any(|at| now >= *at) {
                return Flow::Go;
            }
            let slice = left.unwrap_or(CLOCK_EVERY).min(CLOCK_EVERY);
            tokio::select! {
                biased;
                () = tokio::time::sleep(slice) => {}
                order = self.orders.recv() => return self.ordered(order).await,
            }
        }
    }

    /// The instants ahead at which an account changes whatever its servers say.
    fn instants_ahead(&self) -> Vec<i64> {
        let migration = &self.enrollment.migration;
        let cutover = self.enrollment.cutover.map(|cutover| cutover.as_second());
        let overdue = cutover.map(|at| at + migration.cutover_window.as_secs() as i64 + 1);
        let until = migration.source_until.map(|until| until.as_second());
        let now = self.shared.clock.now();
        [cutover, overdue, until].into_iter().flatten().filter(|at| *at > now).collect()
    }

    /// Acts on an order while no session runs.
    async fn ordered(&mut self, order: Option<Order>) -> Flow {
        match order {
            None => return Flow::Stop,
            Some(Order::Replace(enrollment)) => {
                self.replace(enrollment);
                self.show_enrollment();
            }
            Some(Order::Retry) => self.forgive().await,
            Some(Order::ApproveDeletions) => self.approved.removals = true,
            Some(Order::ApproveEndpoint) => self.approved.endpoint = true,
            Some(Order::ApproveLate) => self.approved.late = true,
            Some(Order::ApproveCompleted) => self.approved.completed = true,
            Some(Order::Verified(missing)) => self.copy_again(missing).await,
        }
        Flow::Go
    }

    /// Marks what a verification found missing, while no session runs.
    async fn copy_again(&mut self, missing: Vec<(FolderId, Uid)>) {
        let Ok(Some(record)) = self.shared.store.account(&self.enrollment.address) else { return };
        if !verify::may_repair(record.phase) {
            return;
        }
        // If it cannot be written, the next verification finds it missing again.
        if let Ok(edits) = verify::repair(&self.shared.store, record.id, &missing) {
            let _ = self.writer.commit(edits).await;
        }
    }

    /// An operator asked: refused credentials may be tried once more.
    async fn forgive(&mut self) {
        self.attempts = 0;
        if let Some(learned) = &mut self.learned {
            learned.archive.forgive();
        }
        let services = &self.shared.refused_services;
        let name = &self.enrollment.migration.name;
        services.lock().expect("no panic while held").retain(|(migration, _)| migration != name);
        if let Ok(Some(mut record)) = self.shared.store.account(&self.enrollment.address)
            && record.refused_credentials.take().is_some()
        {
            // If this cannot be written, the refusal stands, and the journal says why.
            let _ = self.writer.commit(vec![Edit::PutAccount(record)]).await;
        }
    }

    /// The account's own password was refused: it is not tried again until it changes, or, where
    /// it has worked before, much later.
    async fn refused(&mut self, trouble: Trouble, side: Side, book: Option<&mut Book>) -> Flow {
        let mut worked = false;
        if let Some(book) = book {
            worked = book.record.worked_credentials == Some(self.worked_digest());
            let now = self.shared.clock.now();
            book.record.refused_credentials = Some(refused(&self.enrollment, side, &trouble, now));
            if let Err(error) =
                self.writer.commit(vec![Edit::PutAccount(book.record.clone())]).await
            {
                let trouble = trouble::trouble(&Failure::Store(error));
                return self.retry(trouble, jittered(&self.shared, self.attempts)).await;
            }
        }
        let pause = match (worked, self.suspect_tries) {
            (false, _) => None,
            (true, 0) => Some(SUSPECT_FIRST),
            (true, _) if self.in_cutover_window() => Some(SUSPECT_FIRST),
            (true, _) => Some(SUSPECT_LATER),
        };
        self.suspect_tries += 1;
        self.announce_hold(trouble, pause);
        let host = self.shared.hosts.host(&endpoint(&self.enrollment, side).host);
        let address = self.enrollment.address.clone();
        tokio::select! {
            biased;
            flow = self.wait(pause) => {
                if flow == Flow::Stop {
                    return flow;
                }
                if pause.is_none() {
                    // Whatever was ordered, it was not time that passed: see `ordered`.
                    return flow;
                }
            }
            () = host.pardoned(&address) => {}
        }
        self.forgive().await;
        Flow::Go
    }

    fn in_cutover_window(&self) -> bool {
        let window = self.enrollment.migration.cutover_window.as_secs() as i64;
        let now = self.shared.clock.now();
        self.enrollment.cutover.is_some_and(|cutover| {
            let cutover = cutover.as_second();
            (cutover..cutover + window).contains(&now)
        })
    }

    async fn service_refused(&mut self, trouble: Trouble, side: Side) -> Flow {
        tell_service_refused(&self.shared, &self.enrollment, side, &trouble.message);
        self.told = Some("service_login_rejected");
        let hint = "Mend the migration's service_login and reload.";
        self.hold(Trouble { code: "service_login_rejected", hint, ..trouble }, None).await
    }

    fn has_service_login(&self, side: Side) -> bool {
        service_login(&self.enrollment, side).is_some()
    }

    /// Tells these credentials from others without keeping them.
    fn credentials_digest(&self, side: Side) -> [u8; 16] {
        credentials_digest(&self.enrollment, side)
    }

    fn worked_digest(&self) -> [u8; 16] {
        worked_digest(&self.enrollment)
    }

    fn emit(&self, entry: Entry) {
        let entry = entry.account(&self.enrollment.address);
        self.shared.journal.emit(entry.migration(&self.enrollment.migration.name));
    }
}

/// Does the life go on?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flow {
    Go,
    Stop,
}

/// Why an account may not start.
enum Gate {
    /// With the time after which it may try again, if there is one.
    Held(Trouble, Option<Duration>),
    /// By an operator.
    Paused,
    Failed(StoreError),
}

impl From<StoreError> for Gate {
    fn from(error: StoreError) -> Gate {
        Gate::Failed(error)
    }
}

/// Did the target refuse an APPEND for its content?
fn is_refused_append(failure: &Failure) -> bool {
    match failure {
        Failure::Imap(Side::Target, Error::No { command: "APPEND", code, text }) => {
            trouble::blame(code.as_ref(), text) != Blame::Elsewhere
        }
        Failure::Imap(Side::Target, Error::Bad { command: "APPEND", text }) => {
            !trouble::is_throttled(text)
        }
        _ => false,
    }
}

fn stop(control: &Control) {
    control.stop.store(true, Ordering::Relaxed);
    control.interrupt.store(true, Ordering::Relaxed);
    control.wake.notify_one();
}

fn held(code: &'static str, message: &str, hint: &'static str) -> Trouble {
    let message = message.to_owned();
    Trouble { code, side: None, message, hint, remedy: Remedy::Operator }
}

/// What the journal and status say of credentials refused in an earlier life.
pub fn refused_before(refused: &Refused) -> Trouble {
    let (code, words) = refused.text.split_once(": ").unwrap_or(("", &refused.text));
    let codes = ["credentials_expired", "second_factor_suspected", "imap_disabled"];
    let known = codes.into_iter().find(|known| *known == code);
    Trouble {
        code: known.unwrap_or("credentials_rejected"),
        side: Some(at_side(refused.at_target)),
        message: words.to_owned(),
        hint: "Ask the owner for the current password and drop the enrollment again.",
        remedy: Remedy::Credentials,
    }
}

fn told_side(trouble: &Trouble) -> String {
    trouble.side.map_or_else(String::new, |side| format!("{side}: "))
}

fn at_side(at_target: bool) -> Side {
    if at_target { Side::Target } else { Side::Source }
}

/// The record of a completed or closed account.
pub fn completed_account(record: &AccountRecord) -> CompletedAccount {
    CompletedAccount {
        address: record.address.clone(),
        source: record.source.clone(),
        target: record.target.clone(),
        phase: record.phase,
        sealed_at: record.sealed_at,
        completed_at: record.completed_at,
    }
}
