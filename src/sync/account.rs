//! One account's life, from its enrollment to its seal: the task that the supervisor starts.
//!
//! Here errors end: they are understood ([`super::trouble`]), waited out or held, and told.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc};
use tokio::time::Instant;

use super::backoff;
use super::board::Board;
use super::book::{Book, Learned};
use super::clock::Clock;
use super::copy::{Failure, HostSays};
use super::follow::{self, Following, Over};
use super::gone;
use super::hosts::{Hosts, Place, Verdict};
use super::trouble::{self, Blame, Remedy, Trouble};
use crate::checkpoint::{
    self, AccountRecord, Completed, CompletedAccount, Edit, Phase, Refused, Store, StoreError,
    Writer,
};
use crate::config::{self, Enrollment, Limits, ServiceStyle};
use crate::imap::{Dialler, Endpoint, Error, Login, Session, Tls};
use crate::journal::{Entry, Event, Journal};
use crate::words::Side;

pub use super::board::StatusCell;

/// What all accounts of a daemon share.
pub struct Shared {
    pub store: Store,
    /// Accounts that have completed, outside the store.
    pub completed: Completed,
    pub journal: Journal,
    pub hosts: Hosts,
    pub dialler: Dialler,
    pub clock: Clock,
    /// First copies that may run at once.
    pub copying: Semaphore,
    /// What listings may take in memory at once.
    pub memory: Memory,
    /// Connections that stand, by side.
    pub connections: Arc<OpenConnections>,
    /// Service logins that were refused, by migration and side: not tried again until reloaded.
    pub refused_services: Mutex<HashSet<(String, Side)>>,
    /// How far apart two listings must be for what both lack to be gone.
    pub apart: Duration,
}

impl Shared {
    pub fn new(store: Store, completed: Completed, journal: Journal, limits: &Limits) -> Shared {
        Shared {
            store,
            completed,
            hosts: Hosts::new(limits, journal.clone()),
            journal,
            dialler: Dialler::new(),
            clock: Clock::default(),
            copying: Semaphore::new(limits.accounts_copying),
            memory: Memory::new(limits.memory_bytes),
            connections: Arc::default(),
            refused_services: Mutex::default(),
            apart: gone::APART,
        }
    }
}

/// How many connections stand on each side.
#[derive(Default)]
pub struct OpenConnections {
    source: AtomicU32,
    target: AtomicU32,
}

impl OpenConnections {
    pub fn of(&self, side: Side) -> &AtomicU32 {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }
}

/// A place at a host with a connection in it; both end when it is dropped.
pub struct Berth {
    side: Side,
    open: Arc<OpenConnections>,
    _place: Place,
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.open.of(self.side).fetch_sub(1, Ordering::Relaxed);
    }
}

/// A budget of memory for listings, over all accounts.
pub struct Memory {
    permits: Semaphore,
    kib: u32,
}

/// What a listed message takes in memory, about: itself, its place in maps, its link.
const KIB_PER_MESSAGES: u64 = 3;

impl Memory {
    pub fn new(bytes: u64) -> Memory {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(1024, u32::MAX >> 4);
        Memory { permits: Semaphore::new(kib as usize), kib }
    }

    /// Waits until the listings of so many messages fit. One that fits never gets it all.
    pub async fn of_messages(&self, messages: u64) -> Option<SemaphorePermit<'_>> {
        let wanted = u32::try_from(messages.div_ceil(KIB_PER_MESSAGES)).unwrap_or(u32::MAX);
        self.permits.acquire_many(wanted.clamp(1, self.kib)).await.ok()
    }
}

/// What the supervisor may tell a running account.
#[derive(Clone, Debug)]
pub enum Order {
    /// Try now whatever is held or waiting; consents to nothing.
    Retry,
    ApproveDeletions,
    ApproveEndpoint,
    ApproveLate,
    ApproveCompleted,
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
    /// The operator consented to the removals that wait.
    pub removals_approved: AtomicBool,
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
        let enrollment = &self.enrollment;
        self.board.keeps = enrollment.migration.sync.deletions == config::Deletions::Keep;
        let keeps = self.board.keeps;
        let mut status = self.board.edit();
        status.address.clone_from(&enrollment.address);
        status.migration.clone_from(&enrollment.migration.name);
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
        if let Some(done) = done.filter(|_| !self.approved.completed) {
            self.board.show_phase(done.phase, done.sealed_at, done.completed_at);
            self.board.well();
            return Ok(None);
        }
        let record = match self.shared.store.account(&self.enrollment.address)? {
            Some(record) => self.known_account(record).await?,
            None => self.new_account().await?,
        };
        let mut learned = self.learned.take().unwrap_or_else(|| Learned::new(self.shared.apart));
        learned.removals_approved |= std::mem::take(&mut self.approved.removals);
        let mut book = Book { record, pairs: Vec::new(), left_out: Vec::new(), learned };
        if book.learned.removals_approved && book.record.removals_suspended {
            book.record.removals_suspended = false;
            self.writer.commit(vec![Edit::PutAccount(book.record.clone())]).await?;
        }
        follow::open_pairs(&self.shared, &mut book)?;
        let record = &book.record;
        self.board.show_phase(record.phase, record.sealed_at, record.source_seen_until);
        self.board.show_book(&book);
        if record.phase >= Phase::Completed {
            self.board.well();
            return Ok(None);
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

    fn place(&self, side: Side) -> checkpoint::Place {
        let (endpoint, user) = match side {
            Side::Source => (&self.enrollment.migration.source, &self.enrollment.source_user),
            Side::Target => (&self.enrollment.migration.target, &self.enrollment.target_user),
        };
        checkpoint::Place { host: endpoint.host.clone(), user: user.clone() }
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
                    Some(Order::ApproveDeletions) => {
                        control.removals_approved.store(true, Ordering::Relaxed);
                        control.wake.notify_one();
                    }
                    Some(_) => control.wake.notify_one(),
                },
            }
        };
        drop(session);
        if control.well.load(Ordering::Relaxed) {
            (self.told, self.attempts, self.suspect_tries) = (None, 0, 0);
        }
        if let Some(enrollment) = replaced {
            self.enrollment = enrollment;
            self.attempts = 0;
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

    /// Understands a failure, tells it once, and waits.
    async fn failed(&mut self, failure: Failure, book: Option<&mut Book>) -> Flow {
        let trouble = trouble::trouble(&failure);
        self.attempts += 1;
        let own = backoff::delay(self.attempts, None, self.in_cutover_window(), jitter());
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
            self.emit(Entry::new(Event::AccountHeld, text).reason(trouble.code));
        }
    }

    /// Waits for time to pass or an order to come.
    async fn wait(&mut self, at_most: Option<Duration>) -> Flow {
        let passed = async {
            match at_most {
                Some(at_most) => tokio::time::sleep(at_most).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = passed => Flow::Go,
            order = self.orders.recv() => self.ordered(order).await,
        }
    }

    /// Acts on an order while no session runs.
    async fn ordered(&mut self, order: Option<Order>) -> Flow {
        match order {
            None => return Flow::Stop,
            Some(Order::Replace(enrollment)) => {
                self.enrollment = enrollment;
                self.attempts = 0;
                self.show_enrollment();
            }
            Some(Order::Retry) => self.forgive().await,
            Some(Order::ApproveDeletions) => self.approved.removals = true,
            Some(Order::ApproveEndpoint) => self.approved.endpoint = true,
            Some(Order::ApproveLate) => self.approved.late = true,
            Some(Order::ApproveCompleted) => self.approved.completed = true,
        }
        Flow::Go
    }

    /// An operator asked: refused credentials may be tried once more.
    async fn forgive(&mut self) {
        self.attempts = 0;
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
        let digest = self.credentials_digest(side);
        let mut worked = false;
        if let Some(book) = book {
            worked = book.record.worked_credentials == Some(self.worked_digest());
            book.record.refused_credentials = Some(Refused {
                digest,
                at_target: side == Side::Target,
                since: self.shared.clock.now(),
                text: format!("{}: {}", trouble.code, crate::journal::shown(&trouble.message)),
            });
            if let Err(error) =
                self.writer.commit(vec![Edit::PutAccount(book.record.clone())]).await
            {
                let trouble = trouble::trouble(&Failure::Store(error));
                return self.retry(trouble, jittered(self.attempts)).await;
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
        let name = self.enrollment.migration.name.clone();
        let first = {
            let mut services = self.shared.refused_services.lock().expect("no panic while held");
            services.insert((name, side))
        };
        // The first account that meets it tells; the others only wait with it.
        if first {
            let text = format!("{side}: {}", trouble.message);
            let entry = Entry::new(Event::ServiceLoginRefused, text);
            let entry = entry.migration(&self.enrollment.migration.name);
            self.shared.journal.emit(entry.reason("service_login_rejected"));
        }
        self.told = Some("service_login_rejected");
        let hint = "Mend the migration's service_login and reload.";
        self.hold(Trouble { code: "service_login_rejected", hint, ..trouble }, None).await
    }

    fn has_service_login(&self, side: Side) -> bool {
        service_login(&self.enrollment, side).is_some()
    }

    /// Tells these credentials from others without keeping them.
    fn credentials_digest(&self, side: Side) -> [u8; 16] {
        digest_of(&login(&self.enrollment, side))
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
        Failure::Imap(Side::Target, Error::Bad { command: "APPEND", .. }) => true,
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
fn refused_before(refused: &Refused) -> Trouble {
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

/// Opens a session on one side, within the host's budget.
pub async fn connect(
    shared: &Shared,
    enrollment: &Enrollment,
    side: Side,
) -> Result<(Session, Berth), Failure> {
    let endpoint = endpoint(enrollment, side);
    let service = (enrollment.migration.name.clone(), side);
    let refused = |shared: &Shared| {
        shared.refused_services.lock().expect("no panic while held").contains(&service)
    };
    let host = shared.hosts.host(&endpoint.host);
    let urgent = enrollment
        .cutover
        .is_some_and(|cutover| (cutover.as_second() - shared.clock.now()).abs() < 600);
    let place = host.login(urgent).await;
    if service_login(enrollment, side).is_some() && refused(shared) {
        let text = "the migration's service login was refused before".to_owned();
        let error = Error::No { command: "LOGIN", code: None, text };
        return Err(Failure::Connect(side, error, HostSays::Nothing));
    }
    match shared.dialler.connect(&endpoint, &login(enrollment, side)).await {
        Ok(session) => {
            host.worked();
            let open = shared.connections.clone();
            open.of(side).fetch_add(1, Ordering::Relaxed);
            Ok((session, Berth { side, open, _place: place }))
        }
        Err(error) => {
            // Told while the place is held: during an outage it is the probe others wait for.
            let trouble = trouble::connecting(side, &error);
            let says = match trouble.remedy {
                Remedy::Host => HostSays::Wait(host.failed(&trouble.message)),
                Remedy::Throttle(hint) => HostSays::Wait(host.throttled(hint)),
                Remedy::Credentials if service_login(enrollment, side).is_none() => {
                    HostSays::Refused(host.refused(&enrollment.address))
                }
                _ => HostSays::Nothing,
            };
            drop(place);
            Err(Failure::Connect(side, error, says))
        }
    }
}

fn endpoint(enrollment: &Enrollment, side: Side) -> Endpoint {
    let endpoint = match side {
        Side::Source => &enrollment.migration.source,
        Side::Target => &enrollment.migration.target,
    };
    Endpoint {
        host: endpoint.host.clone(),
        port: endpoint.port,
        tls: match endpoint.tls {
            config::Tls::Implicit => Tls::Implicit,
            config::Tls::StartTls => Tls::StartTls,
            config::Tls::None => Tls::None,
        },
        ca_file: endpoint.ca_file.clone(),
    }
}

/// The service login that stands in for the account's own on that side.
fn service_login(enrollment: &Enrollment, side: Side) -> Option<&config::ServiceLogin> {
    match side {
        Side::Source if enrollment.source_password.is_none() => {
            enrollment.migration.source.service_login.as_ref()
        }
        Side::Target if enrollment.target_password.is_none() => {
            enrollment.migration.target.service_login.as_ref()
        }
        _ => None,
    }
}

fn login(enrollment: &Enrollment, side: Side) -> Login {
    let (user, password) = match side {
        Side::Source => (&enrollment.source_user, &enrollment.source_password),
        Side::Target => (&enrollment.target_user, &enrollment.target_password),
    };
    match (service_login(enrollment, side), password) {
        (Some(service), _) => match &service.style {
            ServiceStyle::Authzid => Login {
                user: service.user.clone(),
                password: service.password.clone(),
                authzid: Some(user.clone()),
            },
            ServiceStyle::Master { separator } => Login {
                user: format!("{user}{separator}{}", service.user),
                password: service.password.clone(),
                authzid: None,
            },
        },
        (None, password) => Login {
            user: user.clone(),
            // Configuration has seen to it that there is one.
            password: password.clone().unwrap_or_else(|| String::new().into()),
            authzid: None,
        },
    }
}

fn digest_of(login: &Login) -> [u8; 16] {
    use secrecy::ExposeSecret;
    use sha2::Digest;
    let mut hasher = sha2::Sha256::new();
    hasher.update(b"pecsync credentials\0");
    for part in [&login.user, login.authzid.as_deref().unwrap_or("")] {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    hasher.update(login.password.expose_secret().as_bytes());
    let whole: [u8; 32] = hasher.finalize().into();
    whole[..16].try_into().expect("16 of 32 octets")
}

/// Both sides' credentials, as they were when a session stood.
pub fn worked_digest(enrollment: &Enrollment) -> [u8; 16] {
    let source = digest_of(&login(enrollment, Side::Source));
    let target = digest_of(&login(enrollment, Side::Target));
    std::array::from_fn(|at| source[at] ^ target[at].rotate_left(1))
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

/// The wait after so many failures in a row, spread.
pub fn jittered(attempts: u32) -> Duration {
    backoff::delay(attempts, None, false, jitter())
}

/// Something between 0 and 1.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}
