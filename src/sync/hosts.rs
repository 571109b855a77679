//! Being a good guest: what all accounts of one host share – logins a second, connections,
//! sweeps, a common back-off, and the verdict whether a refusal is the user's or the host's.
//!
//! What is decided, `gate` and `health` decide; here it is waited for and told.

mod gate;
mod health;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use self::gate::{Gate, Line, Ticket, Turn};
pub use self::health::Failures;
use self::health::{At, Notice};
use super::chance::Chance;
use crate::config::{HostLimits, Limits};
use crate::journal::{Entry, Event, Journal};

/// All hosts, by name.
pub struct Hosts {
    inner: Mutex<Inner>,
    journal: Journal,
    chance: Chance,
}

struct Inner {
    limits: Limits,
    hosts: BTreeMap<String, Arc<Host>>,
}

/// One server's budget.
pub struct Host {
    name: String,
    /// What the gate counts time from.
    begin: Instant,
    state: Mutex<State>,
    /// Changes when refusals turn out to be the host's fault.
    pardons: watch::Sender<()>,
    chance: Chance,
    tell: Box<dyn Fn(Entry) + Send + Sync>,
}

struct State {
    gate: Gate,
    wakers: HashMap<Ticket, Arc<Notify>>,
}

/// A connection in use; gives its place back when dropped.
pub struct Place {
    host: Arc<Host>,
    ticket: Ticket,
}

/// What a host is like at an instant, for metrics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Figures {
    pub name: String,
    /// False from `host_down` to `host_recovered`.
    pub up: bool,
    /// Connections in use, and how many there may be.
    pub connections: usize,
    pub connections_max: usize,
    /// Who waits to log in.
    pub waiting: usize,
    pub failures: Failures,
}

/// Whose fault a refused login is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The refusal stands alone: hold the account.
    Account,
    /// More than 10 accounts and more than 2 % of the host's were refused within ten minutes:
    /// nobody is held, one probing login finds the end of it.
    Host,
}

impl Hosts {
    pub fn new(limits: &Limits, journal: Journal, chance: Chance) -> Hosts {
        let inner = Inner { limits: limits.clone(), hosts: BTreeMap::new() };
        Hosts { inner: Mutex::new(inner), journal, chance }
    }

    /// New limits from a reload. Connections beyond a lowered limit stay until they end.
    pub fn set_limits(&self, limits: &Limits) {
        let mut inner = self.inner();
        inner.limits = limits.clone();
        for (name, host) in &inner.hosts {
            host.set_limits(limits_of(limits, name));
        }
    }

    pub fn host(&self, name: &str) -> Arc<Host> {
        let name = name.to_ascii_lowercase();
        let mut inner = self.inner();
        if let Some(host) = inner.hosts.get(&name) {
            return host.clone();
        }
        let journal = self.journal.clone();
        let limits = limits_of(&inner.limits, &name);
        let tell = Box::new(move |entry| journal.emit(entry));
        let host = Host::new(&name, limits, self.chance.clone(), tell);
        inner.hosts.insert(name, host.clone());
        host
    }

    /// Forgets hosts that nobody uses and that `is_wanted` does not name: a mistyped one is not
    /// down for ever.
    pub fn retain(&self, is_wanted: impl Fn(&str) -> bool) {
        let mut inner = self.inner();
        inner.hosts.retain(|name, host| is_wanted(name) || Arc::strong_count(host) > 1);
    }

    /// Of every host, by name.
    pub fn figures(&self) -> Vec<Figures> {
        self.inner().hosts.values().map(|host| host.figures()).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names in tables are as the operator wrote them.
fn limits_of(limits: &Limits, name: &str) -> HostLimits {
    let mut tables = limits.hosts.iter();
    let own = tables.find(|(table, _)| table.eq_ignore_ascii_case(name));
    own.map_or(&limits.default, |(_, limits)| limits).clone()
}

impl Host {
    fn new(
        name: &str,
        limits: HostLimits,
        chance: Chance,
        tell: Box<dyn Fn(Entry) + Send + Sync>,
    ) -> Arc<Host> {
        let state = State { gate: Gate::new(limits), wakers: HashMap::new() };
        Arc::new(Host {
            name: name.to_owned(),
            begin: Instant::now(),
            state: Mutex::new(state),
            pardons: watch::Sender::new(()),
            chance,
            tell,
        })
    }

    /// Waits for a place, a login's turn and the end of a back-off. `urgent` goes first (an
    /// account near its cutover). Safe to cancel.
    ///
    /// While the host is in trouble the login may be its probe, and others wait until it has
    /// [`worked`](Host::worked), or its place is dropped after it [`failed`](Host::failed): keep
    /// the place until the outcome is told.
    pub async fn login(self: &Arc<Self>, urgent: bool) -> Place {
        let ticket = self.turn(Line::Logins, urgent).await;
        Place { host: self.clone(), ticket }
    }

    /// Waits for a sweep's turn. Safe to cancel.
    pub async fn sweep(&self) {
        self.turn(Line::Sweeps, false).await;
    }

    /// A login succeeded. Ends an outage, whatever its kind.
    pub fn worked(&self) {
        self.change(|gate, at| ((), gate.health.worked(at.now)));
    }

    /// A connection stands, its login has not been tried yet: ends an outage, but not one in
    /// which the host refuses logins or asks for less.
    pub fn answered(&self) {
        self.change(|gate, at| ((), gate.health.answered(at.now)));
    }

    /// The host did not answer (unreachable, cut, timed out before login). Doubles the shared
    /// back-off with jitter; the first of an outage is one `host_down` event. Returns when to
    /// try next.
    pub fn failed(&self, error: &str) -> Duration {
        self.change(|gate, at| gate.health.failed(at, error))
    }

    /// The host asked for less (`[THROTTLED]`, `[LIMIT]` at login, "Backoff Time"): obeyed,
    /// capped at ten minutes. Returns when to try next.
    pub fn throttled(&self, hint: Option<Duration>) -> Duration {
        self.change(|gate, at| gate.health.throttled(at, hint))
    }

    /// A login was refused for `account`.
    pub fn refused(&self, account: &str) -> Verdict {
        let verdict = self.change(|gate, at| gate.health.refused(at, account));
        if verdict == Verdict::Host {
            self.pardons.send_replace(());
        }
        verdict
    }

    /// Resolves when a refusal of `account`, for which it is held, turns out to be the host's
    /// fault: when many others were refused within the same ten minutes. Safe to cancel.
    pub async fn pardoned(&self, account: &str) {
        let mut pardons = self.pardons.subscribe();
        while !self.state().gate.health.take_pardon(account) {
            // The sender lives as long as `self`.
            let _ = pardons.changed().await;
        }
    }

    /// Are all connections in use while others wait for one? Then quiet accounts make room.
    pub fn crowded(&self) -> bool {
        self.state().gate.is_crowded()
    }

    fn figures(&self) -> Figures {
        let gate = &self.state().gate;
        Figures {
            name: self.name.clone(),
            up: !gate.health.is_down(),
            connections: gate.open(),
            connections_max: gate.limits.connections,
            waiting: gate.waiting(),
            failures: gate.health.failures(),
        }
    }

    /// How many accounts use the host: what 2 % is taken of.
    pub fn set_accounts(&self, accounts: usize) {
        self.change(|gate, _| (gate.health.set_accounts(accounts), Vec::new()));
    }

    fn set_limits(&self, limits: HostLimits) {
        self.change(|gate, _| (gate.limits = limits, Vec::new()));
    }

    /// Stands in line until it is this one's turn.
    async fn turn(&self, line: Line, urgent: bool) -> Ticket {
        let standing = Standing::join(self, line, urgent);
        loop {
            let turn = self.state().gate.ask(line, standing.ticket, self.begin.elapsed());
            let woken = standing.waker.notified();
            match turn {
                Turn::Now => return standing.ticket,
                Turn::Later => woken.await,
                // Woken or not: it asks again.
                Turn::At(when) => drop(timeout_at(self.begin + when, woken).await),
            }
        }
    }

    /// Lets something happen at the gate, tells what is to be told, and has whoever is next look
    /// again.
    fn change<T>(&self, happen: impl FnOnce(&mut Gate, At) -> (T, Vec<Notice>)) -> T {
        let (outcome, notices) = {
            let mut state = self.state();
            let now = self.begin.elapsed();
            let at = At { now, jitter: self.chance.next(), in_window: state.gate.in_window(now) };
            let happened = happen(&mut state.gate, at);
            state.wake_heads();
            happened
        };
        notices.into_iter().for_each(|notice| (self.tell)(self.entry(notice)));
        outcome
    }

    fn entry(&self, notice: Notice) -> Entry {
        let name = &self.name;
        match notice {
            Notice::Down { reason, text } => {
                Entry::new(Event::HostDown, format!("{name}: {text}")).host(name).reason(reason)
            }
            Notice::Recovered { lasted } => {
                let text = format!("{name} answers again after {} s", lasted.as_secs());
                Entry::new(Event::HostRecovered, text).host(name).duration_ms(lasted)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Only the head of a line needs to look; it wakes the next one when it leaves.
    fn wake_heads(&self) {
        let heads = Line::ALL.into_iter().filter_map(|line| self.gate.head(line));
        heads.filter_map(|head| self.wakers.get(&head)).for_each(|waker| waker.notify_one());
    }
}

/// Somebody in a line. Leaves it when dropped, whether it was its turn or it was cancelled.
struct Standing<'a> {
    host: &'a Host,
    line: Line,
    ticket: Ticket,
    waker: Arc<Notify>,
}

impl<'a> Standing<'a> {
    fn join(host: &'a Host, line: Line, urgent: bool) -> Standing<'a> {
        let waker = Arc::new(Notify::new());
        let mut state = host.state();
        let ticket = state.gate.join(line, urgent, host.begin.elapsed());
        state.wakers.insert(ticket, waker.clone());
        Standing { host, line, ticket, waker }
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        let mut state = self.host.state();
        state.wakers.remove(&self.ticket);
        state.gate.give_up(self.line, self.ticket);
        state.wake_heads();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.host.change(|gate, at| (gate.release(self.ticket, at.now), Vec::new()));
    }
}

#[cfg(test)]
mod tests;
