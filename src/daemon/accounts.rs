//! The tasks of all accounts: started spread out, ordered about, stopped, and kept from each
//! other's panics. Knows nothing of sockets, signals or configuration.

mod endings;

pub use endings::REMOVED_FOR;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use self::endings::{Endings, is_over};
use super::expiry;
use super::process::last_words;
use crate::config::Enrollment;
use crate::journal::{Entry, Event, Journal, shown};
use crate::status::{AccountStatus, Reason};
use crate::sync::account::{Order, StatusCell};

/// Lives one account's life: [`crate::sync::account::run`] with what the daemon shares.
pub type Live = Box<
    dyn Fn(
            Arc<Enrollment>,
            mpsc::Receiver<Order>,
            StatusCell,
        ) -> Pin<Box<dyn Future<Output = ()> + Send>>
        + Send,
>;

/// How long a task may take to stop cleanly when its enrollment is removed.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Orders that wait for a task. A task reads them at every turn, so this is never full for long.
const ORDERS_MAX: usize = 64;

pub struct Accounts {
    live: Live,
    journal: Journal,
    accounts: BTreeMap<String, Account>,
    tasks: JoinSet<()>,
    addresses: HashMap<Id, String>,
    /// Addresses whose task has still to be started.
    waiting: VecDeque<String>,
    /// Tasks that were asked to stop, and until when they may take: in this order.
    stopping: VecDeque<(Instant, AbortHandle)>,
    endings: Endings,
}

struct Account {
    enrollment: Arc<Enrollment>,
    status: StatusCell,
    life: Life,
    /// It was over before this daemon started: its end is no news.
    over_before: bool,
    /// Told when it starts: thousands at once would be more than the journal can take.
    announcements: Vec<Entry>,
    /// Warnings given that its password expires.
    expiry_warnings: usize,
}

enum Life {
    /// In `waiting`.
    Waiting,
    Running {
        orders: mpsc::Sender<Order>,
        task: AbortHandle,
    },
    /// Its orders are closed. When it ends it is started anew (`again`) or forgotten.
    Stopping {
        again: bool,
    },
    /// Completed or closed.
    Over,
    /// Panicked: held until somebody retries it or replaces its enrollment.
    Fallen,
}

/// Why an order was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Untaken {
    Unknown,
    Over,
    Busy,
}

impl Accounts {
    pub fn new(live: Live, journal: Journal) -> Accounts {
        Accounts {
            live,
            journal,
            accounts: BTreeMap::new(),
            tasks: JoinSet::new(),
            addresses: HashMap::new(),
            waiting: VecDeque::new(),
            stopping: VecDeque::new(),
            endings: Endings::default(),
        }
    }

    /// Takes an account in; they are started in this order by [`Accounts::start_some`], and
    /// the announcements are told then.
    pub fn accept(
        &mut self,
        enrollment: Arc<Enrollment>,
        status: AccountStatus,
        announcements: Vec<Entry>,
    ) {
        let over_before = is_over(&status.phase);
        let address = enrollment.address.clone();
        self.endings.came_back(&address);
        if let Some(account) = self.accounts.get_mut(&address) {
            // Removed and dropped again before its task had ended, or said twice.
            match &mut account.life {
                Life::Stopping { again } => {
                    *again = true;
                    account.enrollment = enrollment;
                    account.announcements = announcements;
                }
                _ => self.replace(enrollment),
            }
            return;
        }
        let status = StatusCell::new(status.into());
        let life = Life::Waiting;
        self.waiting.push_back(address.clone());
        let expiry_warnings = 0;
        let account =
            Account { enrollment, status, life, over_before, announcements, expiry_warnings };
        self.accounts.insert(address, account);
    }

    /// Starts at most `count` of those that wait; says whether more do.
    pub fn start_some(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let Some(address) = self.waiting.pop_front() else { break };
            self.start(&address);
        }
        !self.waiting.is_empty()
    }

    fn start(&mut self, address: &str) {
        self.start_with(address, None);
    }

    /// Starts its task, which finds that order as it begins.
    fn start_with(&mut self, address: &str, order: Option<Order>) {
        let Some(account) = self.accounts.get_mut(address) else { return };
        if matches!(account.life, Life::Fallen) {
            let mut status = account.status.lock().unwrap_or_else(PoisonError::into_inner);
            "ok".clone_into(&mut status.condition);
            status.reasons.clear();
            status.reason = None;
        }
        for announcement in std::mem::take(&mut account.announcements) {
            self.journal.emit(announcement);
        }
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        if let Some(order) = order {
            let _ = orders.try_send(order);
        }
        let life = (self.live)(account.enrollment.clone(), inbox, account.status.clone());
        let task = self.tasks.spawn(life);
        self.addresses.insert(task.id(), address.to_owned());
        account.life = Life::Running { orders, task };
    }

    /// A new version of an enrollment takes effect at once.
    pub fn replace(&mut self, enrollment: Arc<Enrollment>) {
        let address = enrollment.address.clone();
        let Some(account) = self.accounts.get_mut(&address) else { return };
        if account.enrollment.source_expires != enrollment.source_expires {
            account.expiry_warnings = 0;
        }
        account.enrollment = enrollment.clone();
        match &mut account.life {
            Life::Running { orders, task } => {
                if orders.try_send(Order::Replace(enrollment)).is_err() {
                    // A task that reads no orders is started anew with the new enrollment.
                    self.stopping.push_back((Instant::now() + STOP_WITHIN, task.clone()));
                    account.life = Life::Stopping { again: true };
                }
            }
            // What had completed may have more to do under another migration.
            Life::Over | Life::Fallen => self.start(&address),
            Life::Waiting | Life::Stopping { .. } => {}
        }
    }

    /// Stops the account's task; its status is gone at once.
    pub fn remove(&mut self, address: &str) {
        let Some(account) = self.accounts.get_mut(address) else { return };
        self.endings.removed(account, Instant::now());
        match &mut account.life {
            Life::Running { task, .. } => {
                self.stopping.push_back((Instant::now() + STOP_WITHIN, task.clone()));
                // Dropping the orders asks it to stop.
                account.life = Life::Stopping { again: false };
            }
            Life::Stopping { again } => *again = false,
            Life::Waiting | Life::Over | Life::Fallen => {
                self.waiting.retain(|waiting| waiting != address);
                self.accounts.remove(address);
            }
        }
    }

    pub fn order(&mut self, address: &str, order: Order) -> Result<(), Untaken> {
        let account = self.accounts.get_mut(address).ok_or(Untaken::Unknown)?;
        match &mut account.life {
            Life::Running { orders, .. } => orders.try_send(order).map_err(|_| Untaken::Busy),
            // It tries as soon as it starts.
            Life::Waiting if matches!(order, Order::Retry) => Ok(()),
            Life::Fallen if matches!(order, Order::Retry) => {
                self.start(address);
                Ok(())
            }
            Life::Waiting | Life::Fallen => {
                self.waiting.retain(|waiting| waiting != address);
                self.start(address);
                self.order(address, order)
            }
            Life::Over if matches!(order, Order::ApproveCompleted) => {
                self.start_with(address, Some(order));
                Ok(())
            }
            Life::Over => Err(Untaken::Over),
            Life::Stopping { again: true } => Err(Untaken::Busy),
            Life::Stopping { again: false } => Err(Untaken::Unknown),
        }
    }

    /// Wakes everybody; returns how many.
    pub fn retry_all(&mut self) -> usize {
        let addresses: Vec<String> = self.accounts.keys().cloned().collect();
        let woken = addresses.iter().filter(|address| self.order(address, Order::Retry).is_ok());
        woken.count()
    }

    /// What `status` shows: of all accounts but those that are being forgotten.
    pub fn cells(&self) -> Vec<StatusCell> {
        let kept = |account: &&Account| !matches!(account.life, Life::Stopping { again: false });
        self.accounts.values().filter(kept).map(|account| account.status.clone()).collect()
    }

    /// Is the account past its seal?
    pub fn is_sealed(&self, address: &str) -> bool {
        let phase = self.accounts.get(address).map(|account| phase_of(&account.status));
        phase.is_some_and(|phase| ["archiving", "completed", "closed"].contains(&&*phase))
    }

    pub fn contains(&self, address: &str) -> bool {
        self.accounts.contains_key(address)
    }

    /// Accounts of a migration.
    pub fn count_of(&self, migration: &str) -> usize {
        let of_it = |account: &&Account| account.enrollment.migration.name == migration;
        self.accounts.values().filter(of_it).count()
    }

    /// Phases of all accounts once every one is over; `None` before, and with no account at all.
    pub fn all_over(&self) -> Option<Vec<String>> {
        let over = |account: &Account| match account.life {
            Life::Over => Some(phase_of(&account.status)),
            _ => None,
        };
        let phases: Option<Vec<String>> = self.accounts.values().map(over).collect();
        phases.filter(|phases| !phases.is_empty())
    }

    /// Waits for a task to end and draws the consequences. Pends while none runs. Safe to cancel.
    pub async fn next_end(&mut self) {
        match self.tasks.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((task, ()))) => self.ended(task, None),
            Some(Err(error)) => self.ended(error.id(), Some(error)),
        }
    }

    /// The enrollment an account lives by.
    pub fn enrollment(&self, address: &str) -> Option<&Arc<Enrollment>> {
        self.accounts.get(address).map(|account| &account.enrollment)
    }

    /// Enrollments of all accounts, by address.
    pub fn enrollments(&self) -> impl Iterator<Item = &Arc<Enrollment>> {
        self.accounts.values().map(|account| &account.enrollment)
    }

    /// So many copies of the account were proved by now.
    pub fn show_verified(&mut self, address: &str, proved: u64) {
        if let Some(account) = self.accounts.get(address) {
            let mut status = account.status.lock().unwrap_or_else(PoisonError::into_inner);
            status.messages.verified = Some(proved);
        }
    }

    /// Warns of passwords that expire soon. Call it now and then.
    pub fn warn_of_expiry(&mut self, now: Timestamp) {
        let moving = |account: &&mut Account| !matches!(account.life, Life::Over);
        for account in self.accounts.values_mut().filter(moving) {
            let warning = expiry::warn(&account.enrollment, &mut account.expiry_warnings, now);
            if let Some(warning) = warning {
                self.journal.emit(warning);
            }
        }
    }

    /// Aborts tasks that did not stop in time. Call it now and then.
    pub fn abort_overdue(&mut self, now: Instant) {
        while let Some((_, task)) = self.stopping.pop_front_if(|(deadline, _)| *deadline <= now) {
            // Nothing, where it has ended.
            task.abort();
        }
    }

    /// Closes all orders and waits for the tasks, at most `patience`; then aborts what is left.
    pub async fn stop(&mut self, patience: Duration) {
        self.waiting.clear();
        for account in self.accounts.values_mut() {
            // Dropping the sender is the order to stop.
            account.life = Life::Over;
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(patience, all).await;
        self.tasks.shutdown().await;
    }

    fn ended(&mut self, task: Id, error: Option<JoinError>) {
        let words = last_words(task);
        let Some(address) = self.addresses.remove(&task) else { return };
        let Some(account) = self.accounts.get_mut(&address) else { return };
        match (&account.life, error) {
            (Life::Stopping { again: true }, _) => self.start(&address),
            (Life::Stopping { again: false }, _) => {
                self.accounts.remove(&address);
            }
            (_, Some(error)) if error.is_panic() => {
                self.fall(&address, words.unwrap_or_else(|| payload_of(error)));
            }
            (_, _) => match phase_of(&account.status).as_str() {
                "completed" | "closed" => {
                    account.life = Life::Over;
                    if !account.over_before {
                        self.endings.note(&account.enrollment.migration.name);
                    }
                }
                phase => {
                    let words = format!("the account's task ended in phase {phase}");
                    self.fall(&address, words);
                }
            },
        }
    }

    /// Holds an account whose task failed; the others do not notice.
    fn fall(&mut self, address: &str, words: String) {
        let Some(account) = self.accounts.get_mut(address) else { return };
        account.life = Life::Fallen;
        let reason = Reason {
            code: "internal_error".to_owned(),
            side: None,
            message: shown(&words),
            hint: format!("report this fault; then: pecsync retry {address}"),
            since: Timestamp::now().to_string(),
            next_try: None,
        };
        {
            // The task may have died with the lock in its hand: what it left is good enough.
            let mut status = account.status.lock().unwrap_or_else(PoisonError::into_inner);
            "held".clone_into(&mut status.condition);
            status.reasons.insert(0, reason.clone());
            status.reason = Some(reason);
        }
        account.status.clear_poison();
        let migration = &account.enrollment.migration.name;
        let about = |event, text: String| {
            let entry = Entry::new(event, text).account(address).migration(migration);
            self.journal.emit(entry.reason("internal_error"));
        };
        about(Event::InternalError, words);
        about(Event::AccountHeld, format!("held by an internal error: pecsync retry {address}"));
    }

    /// Says of each migration whose last account has ended or was removed that it is over, and not
    /// again at the next start. `is_held` tells migrations with accounts that are held by their
    /// files and so are not here. Call it now and then, and when an account has ended.
    pub fn tell_completed_migrations(
        &mut self,
        now: Timestamp,
        at: Instant,
        is_held: impl Fn(&str) -> bool,
    ) {
        for migration in self.endings.news() {
            let of_it = |account: &&Account| {
                account.enrollment.migration.name == migration && !account.is_going()
            };
            let of_it: Vec<&Account> = self.accounts.values().filter(of_it).collect();
            let summary = self.endings.summary(&migration, &of_it, now, at);
            if let Some(text) = summary.filter(|_| !is_held(&migration)) {
                let entry = Entry::new(Event::MigrationCompleted, text);
                self.journal.emit(entry.migration(&migration));
                self.endings.told(&migration);
            }
        }
    }
}

impl Account {
    /// Has it completed, or was it closed?
    fn is_over(&self) -> bool {
        matches!(self.life, Life::Over) && is_over(&phase_of(&self.status))
    }

    /// Is its task still to end although it is not enrolled any more?
    fn is_going(&self) -> bool {
        matches!(self.life, Life::Stopping { again: false })
    }
}

/// What a panic said, where the hook did not keep it with its place.
fn payload_of(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else { return "panic".to_owned() };
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(words), _) => shown(words),
        (_, Some(words)) => shown(words),
        _ => "panic".to_owned(),
    }
}

fn phase_of(status: &StatusCell) -> String {
    status.lock().unwrap_or_else(PoisonError::into_inner).phase.clone()
}

#[cfg(test)]
pub mod tests;
