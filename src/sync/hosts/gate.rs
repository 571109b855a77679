//! Who may log in or sweep, and when. Pure: tickets in lines, places, and a pace.

use std::collections::BTreeSet;
use std::time::Duration;

use super::health::{Health, Leave};
use crate::config::HostLimits;

/// What there is a line for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    Logins,
    Sweeps,
}

impl Line {
    pub(super) const ALL: [Line; 2] = [Line::Logins, Line::Sweeps];
}

/// A place in a line; ascending, so that first come is first served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Ticket {
    later: bool,
    pub(super) number: u64,
}

/// What the holder of a ticket is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// It is its turn, and it has left the line.
    Now,
    /// Ask again then.
    At(Duration),
    /// Ask again when woken.
    Later,
}

pub(super) struct Gate {
    pub(super) limits: HostLimits,
    pub(super) health: Health,
    /// Connections in use.
    open: usize,
    next_number: u64,
    logins: Waiting,
    sweeps: Waiting,
    last_urgent: Option<Duration>,
}

#[derive(Default)]
struct Waiting {
    tickets: BTreeSet<Ticket>,
    /// The pace allows the next one then.
    next_at: Duration,
}

/// An urgent login says that a cutover is near, for so long.
const URGENT_FOR: Duration = Duration::from_secs(600);

impl Gate {
    pub(super) fn new(limits: HostLimits) -> Gate {
        Gate {
            limits,
            health: Health::default(),
            open: 0,
            next_number: 0,
            logins: Waiting::default(),
            sweeps: Waiting::default(),
            last_urgent: None,
        }
    }

    /// Joins a line, at its end; urgent tickets stand before the others.
    pub(super) fn join(&mut self, line: Line, urgent: bool, now: Duration) -> Ticket {
        self.next_number += 1;
        let ticket = Ticket { later: !urgent, number: self.next_number };
        self.line(line).tickets.insert(ticket);
        if urgent {
            self.last_urgent = Some(now);
        }
        ticket
    }

    /// Gives up waiting.
    pub(super) fn give_up(&mut self, line: Line, ticket: Ticket) {
        self.line(line).tickets.remove(&ticket);
    }

    /// Who is next: the only one that needs to ask.
    pub(super) fn head(&self, line: Line) -> Option<Ticket> {
        match line {
            Line::Logins if self.health.takes_turns() => {
                self.logins.tickets.iter().min_by_key(|ticket| ticket.number).copied()
            }
            Line::Logins => self.logins.tickets.first().copied(),
            Line::Sweeps => self.sweeps.tickets.first().copied(),
        }
    }

    pub(super) fn ask(&mut self, line: Line, ticket: Ticket, now: Duration) -> Turn {
        if self.head(line) != Some(ticket) {
            return Turn::Later;
        }
        match line {
            Line::Logins => self.ask_to_log_in(ticket, now),
            Line::Sweeps => {
                let rate = self.limits.sweeps_per_second;
                self.sweeps.take_turn(ticket, rate, now)
            }
        }
    }

    fn ask_to_log_in(&mut self, ticket: Ticket, now: Duration) -> Turn {
        if self.open >= self.limits.connections.max(1) {
            return Turn::Later;
        }
        match self.health.leave(now) {
            Leave::AfterProbe => return Turn::Later,
            Leave::NotBefore(when) => return Turn::At(when),
            Leave::Granted => {}
        }
        let turn = self.logins.take_turn(ticket, self.limits.logins_per_second, now);
        if turn == Turn::Now {
            self.open += 1;
            self.health.went(ticket.number);
        }
        turn
    }

    /// Are all connections in use, and does somebody wait for one?
    pub(super) fn is_crowded(&self) -> bool {
        self.open >= self.limits.connections.max(1) && !self.logins.tickets.is_empty()
    }

    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// How many wait to log in.
    pub(super) fn waiting(&self) -> usize {
        self.logins.tickets.len()
    }

    /// The connection of a login is over.
    pub(super) fn release(&mut self, ticket: Ticket, now: Duration) {
        self.open = self.open.saturating_sub(1);
        self.health.ended(ticket.number, now);
    }

    /// An account near its cutover waits for the host, or did a moment ago.
    pub(super) fn in_window(&self, now: Duration) -> bool {
        self.last_urgent.is_some_and(|then| now.saturating_sub(then) < URGENT_FOR)
    }

    fn line(&mut self, line: Line) -> &mut Waiting {
        match line {
            Line::Logins => &mut self.logins,
            Line::Sweeps => &mut self.sweeps,
        }
    }
}

impl Waiting {
    fn take_turn(&mut self, ticket: Ticket, per_second: f64, now: Duration) -> Turn {
        if now < self.next_at {
            return Turn::At(self.next_at);
        }
        self.tickets.remove(&ticket);
        self.next_at = now + Duration::from_secs_f64(1.0 / per_second.max(0.001));
        Turn::Now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HostLimits =
        HostLimits { logins_per_second: 2.0, connections: 3, sweeps_per_second: 10.0 };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn logins_go_at_their_pace_first_come_first_served_urgent_first() {
        let mut gate = Gate::new(HostLimits { connections: 100, ..LIMITS });
        let mut join = |urgent| gate.join(Line::Logins, urgent, at(0));
        let [first, second, urgent] = [join(false), join(false), join(true)];
        let mut ask = |ticket, now| gate.ask(Line::Logins, ticket, at(now));
        assert_eq!(ask(first, 0), Turn::Later, "the urgent one stands before");
        assert_eq!(ask(urgent, 0), Turn::Now);
        assert_eq!(ask(second, 0), Turn::Later);
        assert_eq!(ask(first, 0), Turn::At(at(500)));
        assert_eq!(ask(first, 500), Turn::Now);
        assert_eq!(ask(second, 700), Turn::At(at(1_000)));
        assert_eq!(ask(second, 5_000), Turn::Now, "what was not used is not saved up");
        let third = gate.join(Line::Logins, false, at(5_000));
        assert_eq!(gate.ask(Line::Logins, third, at(5_000)), Turn::At(at(5_500)));
    }

    #[test]
    fn connections_are_counted_and_their_limit_may_change() {
        let mut gate = Gate::new(LIMITS);
        let mut now = 0;
        let mut next = |gate: &mut Gate| {
            now += 1_000;
            let ticket = gate.join(Line::Logins, false, at(now));
            let turn = gate.ask(Line::Logins, ticket, at(now));
            (ticket, turn)
        };
        let (first, _) = next(&mut gate);
        assert_eq!(next(&mut gate).1, Turn::Now);
        assert_eq!(next(&mut gate).1, Turn::Now);
        let (waiting, turn) = next(&mut gate);
        assert_eq!(turn, Turn::Later);
        gate.release(first, at(60_000));
        assert_eq!(gate.ask(Line::Logins, waiting, at(60_000)), Turn::Now);
        let (waiting, turn) = next(&mut gate);
        assert_eq!(turn, Turn::Later);
        gate.limits.connections = 4;
        assert_eq!(gate.ask(Line::Logins, waiting, at(70_000)), Turn::Now);
    }

    #[test]
    fn a_host_is_crowded_while_somebody_waits_for_a_connection() {
        let limits = HostLimits { logins_per_second: 10.0, connections: 1, sweeps_per_second: 1.0 };
        let mut gate = Gate::new(limits);
        let first = gate.join(Line::Logins, false, at(0));
        assert!(!gate.is_crowded(), "the first only waits for its turn");
        assert_eq!(gate.ask(Line::Logins, first, at(0)), Turn::Now);
        assert!(!gate.is_crowded(), "nobody waits");
        gate.join(Line::Logins, false, at(1));
        assert!(gate.is_crowded());
        gate.release(first, at(2));
        assert!(!gate.is_crowded());
    }

    #[test]
    fn who_gives_up_is_not_waited_for() {
        let mut gate = Gate::new(LIMITS);
        let [first, second] = [0, 0].map(|now| gate.join(Line::Sweeps, false, at(now)));
        assert_eq!(gate.head(Line::Sweeps), Some(first));
        gate.give_up(Line::Sweeps, first);
        assert_eq!(gate.ask(Line::Sweeps, second, at(0)), Turn::Now);
        assert_eq!(gate.head(Line::Sweeps), None);
    }

    #[test]
    fn an_urgent_login_means_a_cutover_for_ten_minutes() {
        let mut gate = Gate::new(LIMITS);
        gate.join(Line::Logins, false, at(0));
        assert!(!gate.in_window(at(0)));
        gate.join(Line::Logins, true, at(1_000));
        assert!(gate.in_window(at(600_000)));
        assert!(!gate.in_window(at(601_000)));
    }

    #[test]
    fn while_logins_are_refused_an_urgent_account_does_not_probe_alone() {
        let mut gate = Gate::new(LIMITS);
        gate.health.set_accounts(100);
        for account in 0..11 {
            let at = super::super::health::At { now: at(0), jitter: 0.0, in_window: false };
            gate.health.refused(at, &account.to_string());
        }
        let ordinary = gate.join(Line::Logins, false, at(1));
        let urgent = gate.join(Line::Logins, true, at(2));
        assert_eq!(gate.head(Line::Logins), Some(ordinary));
        assert_eq!(gate.ask(Line::Logins, urgent, at(9_000)), Turn::Later);
        assert_eq!(gate.ask(Line::Logins, ordinary, at(9_000)), Turn::Now);
    }
}
