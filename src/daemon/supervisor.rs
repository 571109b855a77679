//! The supervisor: one loop that hears signals, orders, changes of conf.d and ends of tasks, and
//! acts on them. It never waits for a server, a file or a client.
//!
//! What a new configuration changes is in `changes`, what operators order in `orders`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::accounts::{Accounts, REMOVED_FOR};
use super::board::Board;
use super::control::{Command, Reply};
use super::decrees::Decrees;
use super::forget::Forgetting;
use super::hooks::{self, Hooks};
use super::notify::{Notifier, watchdog_interval};
use super::proofs::Proofs;
use super::protocol::exit;
use super::reading::{self, Reading};
use super::remaining::Remaining;
use super::signals::{Signal, Signals};
use crate::checkpoint::AccountRecord;
use crate::config::watcher::Watcher;
use crate::config::{Settings, Snapshot};
use crate::journal::{Entry, Event, Journal};
use crate::status::{MigrationStatus, RejectedFile};
use crate::sync::account::Shared;
use crate::sync::clock::clock_suspect;

const TICK: Duration = Duration::from_millis(250);
/// Tasks started a tick: thousands are spread over seconds, and budgets spread their logins.
pub(super) const STARTS_A_TICK: usize = 50;
/// How often passwords are looked at, whether they expire soon.
const EXPIRY_EVERY: Duration = Duration::from_secs(60);
/// What hooks get of it; the daemon that ends because all is done has more time for them.
const HOOKS_WITHIN: Duration = Duration::from_millis(500);
/// How often it is looked at what remains of cutovers.
const REMAINING_EVERY: Duration = Duration::from_secs(10);
/// What stopping may take: systemd and impatient operators wait ten seconds.
const STOP_WITHIN: Duration = Duration::from_secs(8);

pub struct Supervisor {
    pub(super) config: PathBuf,
    pub(super) settings: Arc<Settings>,
    pub(super) shared: Arc<Shared>,
    pub(super) board: Arc<Board>,
    pub(super) accounts: Accounts,
    /// A task ended since the last tick.
    some_ended: bool,
    pub(super) decrees: Decrees,
    pub(super) hooks: Hooks,
    /// The one in use: another in the settings waits for a restart.
    pub(super) state_dir: PathBuf,
    pub(super) snapshot: Snapshot,
    pub(super) rejected: Vec<RejectedFile>,
    /// Who should enroll and has not.
    pub(super) missing: Vec<String>,
    /// What `status` shows of migrations, as of the last reading or decree.
    pub(super) migrations: Arc<Vec<MigrationStatus>>,
    /// Migrations that cut over, by name.
    remaining: HashMap<String, Remaining>,
    remaining_checked_at: Option<Instant>,
    /// What the checkpoint knew at the last reading.
    pub(super) records: Vec<AccountRecord>,
    pub(super) notifier: Notifier,
    /// Told once, when conf.d has been read for the first time.
    pub(super) ready: Option<oneshot::Sender<()>>,
    reading: Option<Underway>,
    pub(super) wanted: Wanted,
    pub(super) proofs: Proofs,
    pub(super) forgetting: Forgetting,
    watchdog: Option<(Duration, Instant)>,
    /// `None`: to be looked at with the next tick.
    pub(super) expiry_checked_at: Option<Instant>,
}

/// What the next reading is to do. Asked for while one is under way, which may have missed it.
#[derive(Default)]
pub(super) struct Wanted {
    /// Settings and migrations too.
    pub settings: bool,
    pub conf_dir: bool,
    /// Who waits for the end of it.
    pub waiters: Vec<oneshot::Sender<Reply>>,
}

struct Underway {
    task: JoinHandle<Reading>,
    waiters: Vec<oneshot::Sender<Reply>>,
}

impl Supervisor {
    /// `ready` hears when conf.d has been read for the first time.
    pub fn new(
        config: PathBuf,
        settings: Arc<Settings>,
        shared: Arc<Shared>,
        board: Arc<Board>,
        accounts: Accounts,
        decrees: Decrees,
        ready: oneshot::Sender<()>,
    ) -> Supervisor {
        let known = board.clone();
        let contacts = Box::new(move |address: &str| known.contact(address));
        let wanted = settings.hooks.clone();
        let hooks = Hooks::start(&shared.journal, wanted, contacts, hooks::TERMS);
        Supervisor {
            state_dir: settings.daemon.state_dir.clone(),
            config,
            settings,
            shared,
            board,
            accounts,
            some_ended: false,
            decrees,
            hooks,
            snapshot: Snapshot::default(),
            rejected: Vec::new(),
            missing: Vec::new(),
            migrations: Arc::default(),
            remaining: HashMap::new(),
            remaining_checked_at: None,
            records: Vec::new(),
            notifier: Notifier::new(),
            ready: Some(ready),
            reading: None,
            wanted: Wanted::default(),
            proofs: Proofs::new(),
            forgetting: Forgetting::new(),
            watchdog: watchdog_interval().map(|every| (every, Instant::now())),
            expiry_checked_at: None,
        }
    }

    /// Runs until a signal says stop, or all is done; returns the exit code.
    pub async fn run(mut self, mut signals: Signals, mut commands: mpsc::Receiver<Command>) -> u8 {
        // The watch begins before the first reading: nothing falls between them.
        let mut watch = Watch::new(self.settings.daemon.conf_dir.clone(), &self.shared.journal);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (code, patience) = loop {
            self.read_if_wanted();
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => break (exit::FINE, HOOKS_WITHIN),
                    Signal::Reload => self.wanted.settings = true,
                    Signal::ReportStatus => self.report_status(),
                },
                Some(command) = commands.recv() => self.obey(command),
                () = watch.changed.notified() => self.wanted.conf_dir = true,
                reading = finished(&mut self.reading) => {
                    let watched = self.settings.daemon.conf_dir.clone();
                    let waiters = self.reading.take().map(|underway| underway.waiters);
                    let answer = self.take_in(reading);
                    for waiter in waiters.into_iter().flatten() {
                        let _ = waiter.send(Reply::Answer(answer.clone()));
                    }
                    if watched != self.settings.daemon.conf_dir {
                        let conf_dir = self.settings.daemon.conf_dir.clone();
                        watch = Watch::new(conf_dir, &self.shared.journal);
                    }
                }
                () = self.accounts.next_end() => self.some_ended = true,
                Some(verified) = self.proofs.verified.recv() => self.take_verified(verified),
                Some(step) = self.forgetting.steps.recv() => self.go_on_forgetting(step),
                _ = tick.tick() => {
                    self.tick();
                    if let Some(code) = self.all_done() {
                        // Who was removed a moment ago does not come back to a daemon that ends.
                        self.tell_completed_migrations(Instant::now() + REMOVED_FOR);
                        break (code, hooks::TERMS.time_limit);
                    }
                }
            }
        };
        self.stop(signals, patience).await;
        code
    }

    fn read_if_wanted(&mut self) {
        if self.reading.is_some() || !(self.wanted.settings || self.wanted.conf_dir) {
            return;
        }
        let Wanted { settings, waiters, .. } = std::mem::take(&mut self.wanted);
        if settings {
            self.notifier.reloading();
        }
        let order = reading::Order {
            config: settings.then(|| self.config.clone()),
            settings: self.settings.clone(),
            snapshot: self.snapshot.clone(),
            store: self.shared.store.clone(),
        };
        let task = tokio::task::spawn_blocking(move || reading::read(order));
        self.reading = Some(Underway { task, waiters });
    }

    fn tick(&mut self) {
        // Of all that ended since the last tick at once: what follows looks at every account.
        if std::mem::take(&mut self.some_ended) {
            self.post();
            self.tell_completed_migrations(Instant::now());
        }
        self.watch_the_clock();
        self.limit_bandwidth();
        self.accounts.start_some(STARTS_A_TICK);
        self.accounts.abort_overdue(Instant::now());
        if self.notifier.status_is_due() {
            self.notifier.status(&self.board.counts().to_string());
        }
        if self.expiry_checked_at.is_none_or(|at| at.elapsed() >= EXPIRY_EVERY) {
            self.expiry_checked_at = Some(Instant::now());
            self.accounts.warn_of_expiry(Timestamp::now());
        }
        if self.remaining_checked_at.is_none_or(|at| at.elapsed() >= REMAINING_EVERY) {
            self.remaining_checked_at = Some(Instant::now());
            self.tell_what_remains();
            self.tell_completed_migrations(Instant::now());
        }
        self.guard();
    }

    /// A jump is told whoever noticed it, and also where no account is connected.
    fn watch_the_clock(&self) {
        self.shared.clock.read();
        if let Some(jumped) = self.shared.clock.take_jump() {
            self.emit(clock_suspect(jumped));
        }
    }

    /// What the schedule allows at this hour; and measures what is used.
    fn limit_bandwidth(&self) {
        let limit = self.settings.limits.schedule.at(self.wall_clock());
        self.shared.throttle.set_limit(limit);
        let _ = self.shared.throttle.rates();
    }

    /// Now and then, while accounts cut over.
    fn tell_what_remains(&mut self) {
        let (at, now) = (self.wall_clock(), Instant::now());
        let tallies = self.board.tallies(at);
        self.remaining.retain(|name, _| tallies.contains_key(name));
        for (name, tally) in tallies {
            let remaining = self.remaining.entry(name.clone()).or_default();
            if remaining.is_due(tally.remaining, now) {
                let entry = Entry::new(Event::CutoverProgress, tally.progress());
                self.emit(entry.migration(&name));
            }
        }
    }

    fn tell_completed_migrations(&mut self, at: Instant) {
        let (now, board) = (self.wall_clock(), &self.board);
        let is_held = |migration: &str| board.holds_by_files(migration);
        self.accounts.tell_completed_migrations(now, at, is_held);
    }

    pub(super) fn wall_clock(&self) -> Timestamp {
        Timestamp::from_second(self.shared.clock.now()).unwrap_or_else(|_| Timestamp::now())
    }

    /// Feeds the watchdog while this loop turns and the store answers. An error is an answer: a
    /// full disk is not mended by killing the daemon.
    fn guard(&mut self) {
        let Some((every, asked_at)) = &mut self.watchdog else { return };
        if asked_at.elapsed() < *every {
            return;
        }
        *asked_at = Instant::now();
        let (store, patience) = (self.shared.store.clone(), *every * 2);
        let messages = self.notifier.messages();
        tokio::spawn(async move {
            if timeout(patience, store.alive()).await.is_ok() {
                messages.feed_watchdog();
            }
        });
    }

    /// With `exit_when_completed`: 0 once all accounts have completed, 1 if some are closed or
    /// were never accounts because their file is bad.
    fn all_done(&self) -> Option<u8> {
        let busy = self.ready.is_some() || self.reading.is_some();
        if !self.settings.daemon.exit_when_completed || busy {
            return None;
        }
        let phases = self.accounts.all_over()?;
        let held_by_its_file = self.board.held_by_their_files() > 0;
        let all = phases.iter().all(|phase| phase == "completed") && self.rejected.is_empty();
        (!held_by_its_file).then_some(if all { exit::FINE } else { exit::NO })
    }

    /// SIGUSR1: the state in a line, and a line for each account that needs somebody.
    fn report_status(&self) {
        const LISTED_MAX: usize = 100;
        let status = self.board.status();
        self.emit(Entry::new(Event::StatusReported, self.board.counts().to_string()));
        let troubled = status.accounts.iter().filter(|account| account.reason.is_some());
        for account in troubled.take(LISTED_MAX) {
            let Some(reason) = &account.reason else { continue };
            let text = format!("{} {}: {}", account.phase, account.condition, reason.message);
            let entry = Entry::new(Event::StatusReported, text).account(&account.address);
            self.emit(entry.migration(&account.migration).reason(&reason.code));
        }
    }

    /// Hooks that still wait or run get so much time.
    async fn stop(mut self, mut signals: Signals, patience: Duration) {
        self.notifier.stopping();
        let text = format!("stopping: {}", self.board.counts());
        self.emit(Entry::new(Event::DaemonStopping, text));
        // A second signal ends the patience.
        tokio::select! {
            () = self.accounts.stop(STOP_WITHIN) => {}
            () = async { while signals.next().await != Signal::Stop {} } => {}
        }
        // Whatever was committed lazily is durable when this returns.
        let _ = timeout(Duration::from_secs(1), self.shared.store.alive()).await;
        let hooks = self.hooks;
        let _ = tokio::task::spawn_blocking(move || hooks.finish(patience)).await;
    }

    pub(super) fn emit(&self, entry: Entry) {
        self.shared.journal.emit(entry);
    }
}

/// The watcher on a task of its own, for looking at a slow directory takes longer than a tick.
struct Watch {
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Says at once that there is something to read.
    fn new(conf_dir: PathBuf, journal: &Journal) -> Watch {
        let changed = Arc::new(Notify::new());
        let (news, journal) = (changed.clone(), journal.clone());
        let task = tokio::spawn(async move {
            let mut watcher = Watcher::new(conf_dir).await;
            loop {
                news.notify_one();
                if let Some(why) = watcher.take_failure() {
                    let text = format!("conf.d is read every few seconds instead: {why}");
                    journal.emit(Entry::new(Event::ConfigurationWarning, text));
                }
                watcher.changed().await;
            }
        });
        Watch { changed, task }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for the reading that is under way, for ever where none is. `None`: it panicked. Safe to
/// cancel; the reading stays.
async fn finished(underway: &mut Option<Underway>) -> Option<Reading> {
    match underway {
        Some(underway) => (&mut underway.task).await.ok(),
        None => std::future::pending().await,
    }
}
