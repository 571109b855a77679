//! Where a world happens: both accounts, the log, and the plan being carried out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::judge::Print;
use super::model::{Account, Message};
use super::plan::{Crash, Event, Lie, Memory, Moment, Plan, Reply, Side};
use super::product::Snapshot;
use super::traits::Traits;

pub struct Stage {
    pub source: Half,
    pub target: Half,
    began: Instant,
    log: Mutex<Vec<String>>,
    plan: Mutex<Plan>,
    /// What the product or a server did that must never happen.
    violations: Mutex<Vec<String>>,
    alive: AtomicBool,
    product: Mutex<Option<(AbortHandle, PathBuf)>>,
    death: Mutex<Option<Death>>,
    /// The state directory before each effect, where some crash asks for an older one.
    snapshots: Mutex<Vec<Snapshot>>,
    /// Effects since the last crash, and in all.
    effects: Mutex<(usize, usize)>,
    /// What was taken away at the source, by folder as users see it.
    removed: Mutex<BTreeMap<(String, Print), usize>>,
    /// Effects that are to come, each at a number of commands.
    late: Mutex<Vec<(usize, LateEffect)>>,
    /// A login was refused, which was only made up.
    login_refused: AtomicBool,
}

type LateEffect = Box<dyn FnOnce(&Stage) + Send>;

/// Late effects happen after so long, however few commands come.
const LATE_AT_MOST: Duration = Duration::from_millis(500);

/// One side: its account and its counts.
pub struct Half {
    pub traits: Traits,
    account: Mutex<Account>,
    pub changed: watch::Sender<u64>,
    commands: Mutex<usize>,
    /// Octets in and out.
    octets: Mutex<(u64, u64)>,
}

/// The product died, and with what memory it is to live again.
pub struct Death {
    pub memory: Memory,
    pub snapshot: Option<Snapshot>,
}

/// What becomes of an effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Happens,
    /// It never happens, and the connection ends.
    Dropped,
    /// It happens after the connection has ended, when so many commands have come.
    Late(usize),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Half {
    fn new(traits: Traits, first_validity: u32) -> Half {
        Half {
            account: Mutex::new(Account::new(first_validity, traits.uids)),
            traits,
            changed: watch::Sender::new(0),
            commands: Mutex::new(0),
            octets: Mutex::new((0, 0)),
        }
    }

    /// Reads or changes the account, and wakes who idles.
    pub fn with<T>(&self, act: impl FnOnce(&mut Account) -> T) -> T {
        let outcome = act(&mut lock(&self.account));
        self.changed.send_modify(|version| *version += 1);
        outcome
    }

    pub fn account(&self) -> Account {
        lock(&self.account).clone()
    }

    /// For looking only.
    pub fn look<T>(&self, look: impl FnOnce(&Account) -> T) -> T {
        look(&lock(&self.account))
    }
}

impl Stage {
    pub fn new(source: Traits, target: Traits, plan: Plan) -> Arc<Stage> {
        Arc::new(Stage {
            source: Half::new(source, 100),
            target: Half::new(target, 100),
            began: Instant::now(),
            log: Mutex::default(),
            plan: Mutex::new(plan),
            violations: Mutex::default(),
            alive: AtomicBool::new(false),
            product: Mutex::default(),
            death: Mutex::default(),
            snapshots: Mutex::default(),
            effects: Mutex::default(),
            removed: Mutex::default(),
            late: Mutex::default(),
            login_refused: AtomicBool::new(false),
        })
    }

    pub fn half(&self, side: Side) -> &Half {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    pub fn log(&self, line: impl AsRef<str>) {
        let line: String = line.as_ref().chars().take(300).collect();
        let line = line.replace(['\r', '\n'], "|");
        lock(&self.log).push(format!("{:9.3} {line}", self.began.elapsed().as_secs_f64()));
    }

    pub fn logged(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    pub fn violate(&self, what: impl AsRef<str>) {
        self.log(format!("VIOLATION {}", what.as_ref()));
        lock(&self.violations).push(what.as_ref().to_owned());
    }

    pub fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    pub fn removed(&self) -> BTreeMap<(String, Print), usize> {
        lock(&self.removed).clone()
    }

    /// The product lives, as this task with this state directory.
    pub fn born(&self, task: AbortHandle, state: PathBuf) {
        *lock(&self.product) = Some((task, state));
        self.alive.store(true, Ordering::Relaxed);
    }

    pub fn take_death(&self) -> Option<Death> {
        lock(&self.death).take()
    }

    pub fn login_refused(&self) -> bool {
        self.login_refused.load(Ordering::Relaxed)
    }

    pub fn effects(&self) -> usize {
        lock(&self.effects).1
    }

    pub fn commands(&self, side: Side) -> usize {
        *lock(&self.half(side).commands)
    }

    pub fn octets(&self, side: Side) -> (u64, u64) {
        *lock(&self.half(side).octets)
    }

    /// Crashes that are still to come.
    pub fn crashes_left(&self) -> usize {
        lock(&self.plan).crashes.len()
    }

    /// Takes an event that was planned for a command that has not come.
    pub fn next_event(&self) -> Option<Event> {
        let mut plan = lock(&self.plan);
        let key = *plan.events.keys().next()?;
        let events = plan.events.get_mut(&key)?;
        let event = (!events.is_empty()).then(|| events.remove(0));
        if events.is_empty() {
            plan.events.remove(&key);
        }
        event
    }

    /// How many of the octets pass before the plan cuts the connection.
    pub fn octets_pass(&self, side: Side, inbound: bool, count: usize) -> usize {
        let mut octets = lock(&self.half(side).octets);
        let passed = if inbound { &mut octets.0 } else { &mut octets.1 };
        let before = *passed;
        let mut plan = lock(&self.plan);
        let within = |octet: u64| (before..before + count as u64).contains(&octet);
        let at = plan
            .cuts
            .iter()
            .position(|cut| cut.side == side && cut.inbound == inbound && within(cut.octet));
        let allowed = at.map_or(count, |at| (plan.cuts.remove(at).octet - before) as usize);
        *passed += allowed as u64;
        drop(plan);
        if allowed < count {
            let direction = if inbound { "from" } else { "to" };
            self.log(format!("{side:?}: cut at octet {passed} {direction} the product"));
        }
        allowed
    }

    /// A command has come: what happens just before it, and what is answered instead of it.
    pub fn command_comes(&self, side: Side, connection: usize, text: &str) -> Option<Reply> {
        let number = {
            let mut commands = lock(&self.half(side).commands);
            *commands += 1;
            *commands - 1
        };
        let shown =
            if text.contains("AUTHENTICATE") || text.contains("LOGIN") { "…" } else { text };
        self.log(format!("{side:?}#{connection} {number}: {shown}"));
        if side == Side::Target {
            self.come_late(number);
        }
        let events = lock(&self.plan).events.remove(&(side, number));
        for event in events.into_iter().flatten() {
            self.happen(event);
        }
        let reply = lock(&self.plan).replies.remove(&(side, number));
        if let Some(reply) = reply {
            self.log(format!("{side:?}: {number} is answered with {reply:?}"));
            self.login_refused.fetch_or(shown == "…", Ordering::Relaxed);
        }
        reply
    }

    /// An effect is about to happen at the target.
    pub fn before_effect(&self, what: &str) -> (usize, Fate) {
        let (number, total) = {
            let mut effects = lock(&self.effects);
            if !self.alive.load(Ordering::Relaxed) {
                return (usize::MAX, Fate::Happens);
            }
            effects.0 += 1;
            effects.1 += 1;
            (effects.0 - 1, effects.1 - 1)
        };
        self.log(format!("effect {total} ({number}): {what}"));
        self.keep_snapshot();
        let late = lock(&self.plan).late.remove(&total).filter(|_| what.starts_with("APPEND"));
        if let Some(late) = late {
            self.log(format!("effect {total} comes {late} commands after its connection died"));
            return (number, Fate::Late(late));
        }
        let crash =
            self.crash_at(number, |moment| matches!(moment, Moment::Before | Moment::Late(_)));
        match crash {
            // A change of flags that comes late undoes a later one, by nobody's fault.
            Some(Moment::Late(_)) if what.starts_with("UID STORE") && !what.contains("Deleted") => {
                (number, Fate::Dropped)
            }
            Some(Moment::Late(late)) => (number, Fate::Late(late)),
            Some(_) => (number, Fate::Dropped),
            None => (number, Fate::Happens),
        }
    }

    /// Has the effect happen when so many more commands have come to the target.
    pub fn delay(self: &Arc<Stage>, commands: usize, effect: LateEffect) {
        let at = self.commands(Side::Target) + commands;
        lock(&self.late).push((at, effect));
        let stage = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LATE_AT_MOST).await;
            stage.come_late(at);
        });
    }

    fn come_late(&self, commands: usize) {
        let due: Vec<_> = lock(&self.late).extract_if(.., |(at, _)| *at <= commands).collect();
        due.into_iter().for_each(|(_, effect)| effect(self));
    }

    /// It has happened; is the product dead before the answer?
    pub fn after_effect(&self, number: usize) -> bool {
        self.crash_at(number, |moment| moment == Moment::Done).is_some()
    }

    /// Its answer was sent.
    pub fn after_answer(self: &Arc<Stage>, number: usize) {
        self.crash_at(number, |moment| moment == Moment::Answered);
        let crash = lock(&self.plan).crashes.first().copied();
        if let Some(Crash { effect, moment: Moment::Later(millis), .. }) = crash
            && effect == number
        {
            let stage = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                stage.crash_at(number, |moment| matches!(moment, Moment::Later(_)));
            });
        }
    }

    fn keep_snapshot(&self) {
        let wanted = |crash: &Crash| matches!(crash.memory, Memory::Older(_));
        if lock(&self.plan).crashes.iter().any(wanted)
            && let Some((_, state)) = &*lock(&self.product)
        {
            lock(&self.snapshots).push(Snapshot::of(state));
        }
    }

    fn crash_at(&self, effect: usize, fits: impl Fn(Moment) -> bool) -> Option<Moment> {
        let crash = {
            let mut plan = lock(&self.plan);
            let crash = *plan.crashes.first()?;
            if crash.effect != effect || !fits(crash.moment) {
                return None;
            }
            plan.crashes.remove(0)
        };
        self.kill(crash.memory);
        Some(crash.moment)
    }

    /// kill -9: the task never runs again, and its files are as they are now.
    pub fn kill(&self, memory: Memory) {
        let Some((task, state)) = lock(&self.product).take() else { return };
        task.abort();
        self.alive.store(false, Ordering::Relaxed);
        let snapshots = lock(&self.snapshots);
        let snapshot = match memory {
            Memory::Kept => Some(Snapshot::of(&state)),
            Memory::Flushed | Memory::Deleted => None,
            // The newest one was taken just before this very effect.
            Memory::Older(back) => snapshots.iter().rev().nth(back).or(snapshots.first()).cloned(),
        };
        self.log(format!("the product dies; its checkpoint is {memory:?}"));
        *lock(&self.death) = Some(Death { memory, snapshot });
        lock(&self.effects).0 = 0;
    }

    pub fn lie(&self, number: usize) -> Option<Lie> {
        lock(&self.plan).lies.remove(&number)
    }

    /// Messages were taken away at the source: their copies may have to stay.
    pub fn note_removed(&self, folder: &str, messages: &[Message]) {
        let mut removed = lock(&self.removed);
        for message in messages {
            *removed.entry((folder.to_owned(), Print::of(message))).or_default() += 1;
        }
    }
}
