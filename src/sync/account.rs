//! One account's life, from its enrollment to its seal: the task that the supervisor starts.
//!
//! It begins at the checkpoint (`opening`), works in sessions (`follow`), waits for time
//! and orders between them, and ends errors (`failures`).

mod failures;
mod opening;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::board::{Board, contact_status, owners_password_from};
use super::book::{Book, Learned};
use super::connect::{credentials_digest, place};
use super::copy::Failure;
use super::follow::{Following, Over};
use super::proof;
use super::trouble::{Remedy, Trouble};
use super::verify;
use crate::checkpoint::{AccountRecord, CompletedAccount, FolderId, Writer};
use crate::config::{self, Enrollment};
use crate::journal::Entry;
use crate::words::{Side, Uid};

use self::failures::Suspect;
pub use self::failures::refused_before;
use self::opening::Gate;
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

/// The wall clock is looked at this often while an account waits.
const CLOCK_EVERY: Duration = Duration::from_secs(5);

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
        suspect: Suspect::default(),
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
    /// The condition and the reason code the journal was last told.
    told: Option<(&'static str, &'static str)>,
    approved: Approved,
    suspect: Suspect,
    /// Another cutover was given while it lived.
    cutover_moved: bool,
    /// What was learned of its archive, or with its password, means nothing any more.
    other_archive: bool,
    /// What the last session learned.
    learned: Option<Box<Learned>>,
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
            Box::pin(self.ordered(Some(order))).await;
        }
        loop {
            // Boxed, whatever is rare: the task of a quiet account keeps no room for it.
            let mut book = match Box::pin(self.open_book()).await {
                Ok(Some(book)) => book,
                Ok(None) => return,
                Err(Gate::Held(trouble, until)) => {
                    if Box::pin(self.hold(trouble, until)).await == Flow::Stop {
                        return;
                    }
                    if until.is_some() {
                        Box::pin(self.forgive()).await;
                    }
                    continue;
                }
                Err(Gate::Paused) => {
                    if Box::pin(self.pause()).await == Flow::Stop {
                        return;
                    }
                    continue;
                }
                Err(Gate::Failed(error)) => {
                    let failed = Box::pin(self.failed(Failure::Store(error), None));
                    if failed.await == Flow::Stop {
                        return;
                    }
                    continue;
                }
            };
            let ended = self.session(&mut book).await;
            self.learned = Some(Box::new(std::mem::take(&mut book.learned)));
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
                    if Box::pin(self.failed(failure, Some(&mut book))).await == Flow::Stop {
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
            (learned.archive, learned.deferred) = Default::default();
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
        status.owners_password_from = owners_password_from(enrollment);
        status.cutover = enrollment.cutover.map(|cutover| cutover.to_string());
        if status.phase.is_empty() {
            "enrolled".clone_into(&mut status.phase);
        }
        "ok".clone_into(&mut status.condition);
        "polled".clone_into(&mut status.mode);
        if keeps { "kept" } else { "mirrored" }.clone_into(&mut status.removals);
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
        Box::pin(self.carry(&control)).await;
        if control.well.load(Ordering::Relaxed) {
            (self.told, self.attempts, self.suspect) = (None, 0, Suspect::default());
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
                order = self.orders.recv() => return Box::pin(self.ordered(order)).await,
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

fn stop(control: &Control) {
    control.stop.store(true, Ordering::Relaxed);
    control.interrupt.store(true, Ordering::Relaxed);
    control.wake.notify_one();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the future of such a call takes in memory.
    fn size_of_future<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand of them wait for news: what is rare and large is boxed.
    #[test]
    fn the_task_of_a_quiet_account_is_small() {
        let life = size_of_future(|life: Life| life.live());
        assert!(life <= 2048, "{life} octets");
        type Session = (Following<'static>, &'static mut Book);
        let session = size_of_future(|(following, book): Session| following.run(book));
        assert!(session <= 3072, "{session} octets");
    }
}
