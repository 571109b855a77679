//! Where a world happens: both accounts, the log, and the plan being carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pecsync::checkpoint::Image;
use pecsync::config::FolderRules;
use pecsync::sync::clock::Hands;
use pecsync::sync::folders::is_deferred;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::judge::{Flags, Print};
use super::mail::Random;
use super::model::{Account, Letter, Message};
use super::plan::{Crash, Event, Kill, Lie, Memory, Moment, Plan, Reply, Side, Weather, Welcome};
use super::session::millis_of;
use super::traits::Traits;

/// The wall clock when a world begins.
const BEGINNING: i64 = 1_770_000_000;
/// No command but APPEND and COPY comes later than this after the product's death.
const LATE_MILLIS_MAX: u64 = 400;

pub struct Stage {
    pub source: Half,
    pub target: Half,
    pub began: Instant,
    log: Mutex<Vec<String>>,
    plan: Mutex<Plan>,
    weather: [Weather; 2],
    pub seed: u64,
    /// As configured.
    rules: FolderRules,
    dice: Mutex<Random>,
    /// What the product or a server did that must never happen.
    violations: Mutex<Vec<String>>,
    alive: AtomicBool,
    product: Mutex<Option<(AbortHandle, Image)>>,
    death: Mutex<Option<Death>>,
    pub died: Notify,
    /// Effects since the last crash, and in all.
    effects: Mutex<(usize, usize)>,
    /// Awaits since the last crash, and in all.
    awaits: Mutex<(usize, usize)>,
    /// What was taken away at the source, by target folder as users see it.
    removed: Mutex<BTreeMap<(String, Print), usize>>,
    /// What was moved into folders that wait for the cutover.
    pub put_off: Mutex<BTreeSet<Print>>,
    /// Copies that the target has lost.
    pub vanished: Mutex<Vec<Print>>,
    /// Somebody else's messages at the target.
    strangers: Mutex<Vec<(String, Print, Flags)>>,
    /// A login was refused, which was only made up.
    login_refused: AtomicBool,
    /// By how much the wall clock was set.
    pub clock_set: AtomicI64,
    /// How long the machine was suspended: no timer ran meanwhile.
    pub suspended: AtomicI64,
}

/// One side: its account and its counts.
pub struct Half {
    pub traits: Traits,
    account: Mutex<Account>,
    pub changed: watch::Sender<u64>,
    commands: Mutex<usize>,
    connections: Mutex<usize>,
    /// Connections before this one are dead.
    pub frozen: AtomicUsize,
    /// Half of what is there is shown until then.
    pub failing: Mutex<Option<Instant>>,
    /// Half of that folder (wire name) is shown until then, and all else as it is.
    pub hiding: Mutex<Option<(String, Instant)>>,
    /// Octets in and out.
    octets: Mutex<(u64, u64)>,
}

/// The product died, and what it is to find.
pub struct Death {
    pub memory: Memory,
    pub image: Image,
}

/// What becomes of an effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Happens,
    /// It never happens, and the connection ends.
    Dropped,
    /// It happens so long after the connection has ended.
    Late {
        millis: u64,
        silent: bool,
    },
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
            connections: Mutex::new(0),
            frozen: AtomicUsize::new(0),
            failing: Mutex::default(),
            hiding: Mutex::default(),
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

    /// The storage fails.
    pub fn is_failing(&self) -> bool {
        lock(&self.failing).is_some_and(|until| Instant::now() < until)
    }

    pub fn is_hiding(&self, name: &str) -> bool {
        let hiding = lock(&self.hiding);
        hiding.as_ref().is_some_and(|(of, until)| of == name && Instant::now() < *until)
    }

    /// The storage fails, or has failed.
    pub fn has_failed(&self) -> bool {
        lock(&self.failing).is_some()
    }

    /// For looking only.
    pub fn look<T>(&self, look: impl FnOnce(&Account) -> T) -> T {
        look(&lock(&self.account))
    }
}

impl Stage {
    pub fn new(
        (source, target): (Traits, Traits),
        plan: Plan,
        rules: FolderRules,
        seed: u64,
    ) -> Arc<Stage> {
        Arc::new(Stage {
            source: Half::new(source, 100),
            target: Half::new(target, 100),
            began: Instant::now(),
            log: Mutex::default(),
            weather: plan.weather,
            plan: Mutex::new(plan),
            seed,
            rules,
            dice: Mutex::new(Random::seeded(seed)),
            violations: Mutex::default(),
            alive: AtomicBool::new(false),
            product: Mutex::default(),
            death: Mutex::default(),
            died: Notify::new(),
            effects: Mutex::default(),
            awaits: Mutex::default(),
            removed: Mutex::default(),
            put_off: Mutex::default(),
            vanished: Mutex::default(),
            strangers: Mutex::default(),
            login_refused: AtomicBool::new(false),
            clock_set: AtomicI64::new(0),
            suspended: AtomicI64::new(0),
        })
    }

    /// Does a source folder, by its wire name, wait for the cutover?
    pub fn waits(&self, wire: &str) -> bool {
        is_deferred(&self.rules, &self.source.traits.shown(wire))
    }

    /// The target folder, as users see it, of a source folder's wire name.
    pub fn goes_to(&self, wire: &str) -> String {
        self.target_of(self.source.traits.shown(wire))
    }

    fn target_of(&self, shown: String) -> String {
        let renamed = self.rules.rename.get(&shown).cloned();
        let twin = || self.source.traits.twin(&shown, &self.target.traits);
        renamed.or_else(twin).unwrap_or(shown)
    }

    /// What the clocks show.
    pub fn hands(&self) -> Hands {
        let suspended = self.suspended.load(Ordering::Relaxed);
        let boot = self.began.elapsed().as_secs() as i64 + suspended;
        Hands { wall: BEGINNING + boot + self.clock_set.load(Ordering::Relaxed), boot }
    }

    pub fn lasted(&self) -> Duration {
        self.began.elapsed()
    }

    fn weather(&self, side: Side) -> Weather {
        self.weather[side as usize]
    }

    /// How long the next answer takes.
    pub fn delay_of(&self, side: Side) -> Duration {
        match self.weather(side).delay_millis_max {
            0 => Duration::ZERO,
            most => millis_of(lock(&self.dice).below(most + 1)),
        }
    }

    /// How many octets the product gets at once.
    pub fn gulp_of(&self, side: Side) -> usize {
        match self.weather(side).gulp {
            0 => usize::MAX,
            most => 1 + lock(&self.dice).below(most as u64) as usize,
        }
    }

    /// Puts what has no order into another one.
    pub fn shuffle<T>(&self, side: Side, things: &mut [T]) {
        if !self.half(side).traits.shuffled {
            return;
        }
        let mut dice = lock(&self.dice);
        for at in (1..things.len()).rev() {
            things.swap(at, dice.below(at as u64 + 1) as usize);
        }
    }

    pub fn is_frozen(&self, side: Side, connection: usize) -> bool {
        connection < self.half(side).frozen.load(Ordering::Relaxed)
    }

    /// Numbers a connection, and says how it is received.
    pub fn connection_comes(&self, side: Side) -> (usize, Option<Welcome>) {
        let number = {
            let mut connections = lock(&self.half(side).connections);
            *connections += 1;
            *connections - 1
        };
        let welcome = lock(&self.plan).connections.remove(&(side, number));
        self.log(format!("{side:?}#{number} comes: {welcome:?}"));
        (number, welcome)
    }

    pub fn connections(&self, side: Side) -> usize {
        *lock(&self.half(side).connections)
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

    pub fn strangers(&self) -> Vec<(String, Print, Flags)> {
        lock(&self.strangers).clone()
    }

    /// Puts somebody else's message into the target's folder of that wire name.
    pub fn plant_stranger(&self, name: &str, letter: Letter) {
        let letter = Letter { foreign: true, ..letter };
        let print = Print::of_letter(&letter);
        lock(&self.strangers).push((name.to_owned(), print, letter.flags.clone()));
        self.target.with(|account| {
            account.create(name);
            account.append(name, vec![letter]);
        });
    }

    pub fn removed(&self) -> BTreeMap<(String, Print), usize> {
        lock(&self.removed).clone()
    }

    /// The product lives, as this task with this checkpoint.
    pub fn born(&self, task: AbortHandle, image: Image) {
        *lock(&self.product) = Some((task, image));
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

    pub fn awaits(&self) -> usize {
        lock(&self.awaits).1
    }

    pub fn commands(&self, side: Side) -> usize {
        *lock(&self.half(side).commands)
    }

    pub fn octets(&self, side: Side) -> (u64, u64) {
        *lock(&self.half(side).octets)
    }

    /// Crashes that are still to come.
    pub fn crashes_left(&self) -> usize {
        {
            let plan = lock(&self.plan);
            plan.crashes.len() + plan.kills.len()
        }
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
        let late = lock(&self.plan).late.remove(&total).filter(|_| what.starts_with("APPEND"));
        if let Some(late) = late {
            self.log(format!("effect {total} comes late: {late:?}"));
            return (number, Fate::Late { millis: late.millis, silent: late.silent });
        }
        let crash =
            self.crash_at(number, |moment| matches!(moment, Moment::Before | Moment::Late(_)));
        match crash {
            // A change of flags that comes late undoes a later one, by nobody's fault.
            Some(Moment::Late(_)) if what.starts_with("UID STORE") && !what.contains("Deleted") => {
                (number, Fate::Dropped)
            }
            Some(Moment::Late(millis)) => {
                let intended = what.starts_with("APPEND") || what.starts_with("UID COPY");
                let millis = if intended { millis } else { millis.min(LATE_MILLIS_MAX) };
                (number, Fate::Late { millis, silent: false })
            }
            Some(_) => (number, Fate::Dropped),
            None => (number, Fate::Happens),
        }
    }

    /// Has the effect happen so much later.
    pub fn delay(self: &Arc<Stage>, delay: Duration, effect: impl FnOnce(&Stage) + Send + 'static) {
        let stage = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            effect(&stage);
        });
    }

    /// The product is about to go on after an await, or (`at_once`) has begun one: does it die?
    pub fn dies_at_await(&self, at_once: bool) -> bool {
        let number = {
            let mut awaits = lock(&self.awaits);
            if at_once {
                awaits.0 += 1;
                awaits.1 += 1;
            }
            awaits.0.wrapping_sub(1)
        };
        let kill = {
            let mut plan = lock(&self.plan);
            let fits = |kill: &&Kill| kill.at == number && kill.at_once == at_once;
            let fits = plan.kills.first().filter(fits).is_some();
            fits.then(|| plan.kills.remove(0))
        };
        if let Some(kill) = kill {
            self.kill(kill.memory);
        }
        kill.is_some()
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
            self.delay(millis_of(millis), move |stage| {
                stage.crash_at(number, |moment| matches!(moment, Moment::Later(_)));
            });
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

    /// kill -9: the task never runs again, and its checkpoint is as it is now.
    pub fn kill(&self, memory: Memory) {
        let Some((task, image)) = lock(&self.product).take() else { return };
        task.abort();
        self.alive.store(false, Ordering::Relaxed);
        let image = match memory {
            Memory::Kept => image.before(0),
            Memory::Flushed => image,
            Memory::Older(commits) => image.before(commits),
            Memory::Deleted => Image::default(),
        };
        self.log(format!("the product dies; its checkpoint is {memory:?}"));
        *lock(&self.death) = Some(Death { memory, image });
        lock(&self.effects).0 = 0;
        lock(&self.awaits).0 = 0;
        self.died.notify_one();
    }

    pub fn lie(&self, number: usize) -> Option<Lie> {
        lock(&self.plan).lies.remove(&number)
    }

    /// Messages were taken away at the source: their copies may have to stay.
    pub fn note_removed(&self, folder: &str, messages: &[Message]) {
        let folder = self.target_of(folder.to_owned());
        let mut removed = lock(&self.removed);
        for message in messages {
            *removed.entry((folder.clone(), Print::of(message))).or_default() += 1;
        }
    }
}
