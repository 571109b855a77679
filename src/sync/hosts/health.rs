//! Whether a host is in trouble, and whose fault a refusal is. Pure: time and jitter are passed
//! in, and what is to be told is returned.
//!
//! In trouble one login at a time probes the host, with a back-off that doubles; everybody else
//! waits for it to succeed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Verdict;
use crate::sync::backoff;

/// Refusals are looked at together over so long a time.
const REFUSALS_WINDOW: Duration = Duration::from_secs(600);
/// More distinct accounts than this…
const REFUSALS_MIN: usize = 10;
/// …and more than one account in so many: the host is at fault.
const REFUSALS_ONE_IN: usize = 50;
/// A probe that ended without a word (its task was stopped) is not followed at once.
const SILENT_PROBE_WAIT: Duration = Duration::from_secs(1);

/// When something happened, and what chance says.
#[derive(Clone, Copy)]
pub(super) struct At {
    /// Since the host is known.
    pub(super) now: Duration,
    /// 0 to 1.
    pub(super) jitter: f64,
    /// An account near its cutover waits for the host.
    pub(super) in_window: bool,
}

/// What the journal is to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Notice {
    Down { reason: &'static str, text: String },
    Recovered { lasted: Duration },
}

/// Whether a login may go out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leave {
    Granted,
    NotBefore(Duration),
    /// A probe is out: its result is waited for.
    AfterProbe,
}

#[derive(Default)]
pub(super) struct Health {
    /// Of the host; 0 where nobody told.
    accounts: usize,
    trouble: Option<Trouble>,
    /// When each account was last refused, within the window.
    refusals: BTreeMap<String, Duration>,
    /// Accounts that were refused when the host turned out to be at fault.
    pardoned: BTreeSet<String>,
    failures: Failures,
}

/// How often each kind of failure was told, since the host is known.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Failures {
    pub unreachable: u64,
    pub throttled: u64,
    pub login_refused: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unreachable,
    Throttled,
    Refused,
}

struct Trouble {
    kind: Kind,
    since: Duration,
    /// Failures without a success between them, echoes included.
    strikes: u32,
    /// Failures that were waited for: what the back-off doubles with.
    rounds: u32,
    not_before: Duration,
    /// The ticket of the login that probes.
    probe: Option<u64>,
    /// A probe went out whose failure has not been counted.
    unanswered: bool,
    announced: bool,
}

impl Health {
    pub(super) fn set_accounts(&mut self, accounts: usize) {
        self.accounts = accounts;
    }

    pub(super) fn failures(&self) -> Failures {
        self.failures
    }

    /// Has the journal been told that it is down, and not yet that it is back?
    pub(super) fn is_down(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.announced)
    }

    pub(super) fn leave(&self, now: Duration) -> Leave {
        match &self.trouble {
            Some(trouble) if self.gates(trouble) => match trouble.probe {
                Some(_) => Leave::AfterProbe,
                None if now < trouble.not_before => Leave::NotBefore(trouble.not_before),
                None => Leave::Granted,
            },
            _ => Leave::Granted,
        }
    }

    /// A login went out.
    pub(super) fn went(&mut self, ticket: u64) {
        let gates = self.trouble.as_ref().is_some_and(|trouble| self.gates(trouble));
        if let Some(trouble) = self.trouble.as_mut().filter(|_| gates) {
            trouble.probe = Some(ticket);
            trouble.unanswered = true;
        }
    }

    /// Its connection is over.
    pub(super) fn ended(&mut self, ticket: u64, now: Duration) {
        let probed = self.trouble.as_mut().filter(|trouble| trouble.probe == Some(ticket));
        if let Some(trouble) = probed {
            trouble.probe = None;
            if trouble.unanswered {
                trouble.not_before = trouble.not_before.max(now + SILENT_PROBE_WAIT);
            }
        }
    }

    /// Where one probe after the other is refused, they must be different accounts'.
    pub(super) fn takes_turns(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.kind == Kind::Refused)
    }

    pub(super) fn failed(&mut self, at: At, error: &str) -> (Duration, Vec<Notice>) {
        self.failures.unreachable += 1;
        let mut notices = Vec::new();
        let wait = self.strike(Kind::Unreachable, at, None, error, &mut notices);
        (wait, notices)
    }

    pub(super) fn throttled(&mut self, at: At, hint: Option<Duration>) -> (Duration, Vec<Notice>) {
        self.failures.throttled += 1;
        let mut notices = self.answered(at.now);
        let text = "the server asks for less";
        let wait = self.strike(Kind::Throttled, at, hint, text, &mut notices);
        (wait, notices)
    }

    pub(super) fn refused(&mut self, at: At, account: &str) -> (Verdict, Vec<Notice>) {
        self.failures.login_refused += 1;
        let mut notices = self.answered(at.now);
        self.pardoned.remove(account);
        self.refusals.retain(|_, when| at.now.saturating_sub(*when) < REFUSALS_WINDOW);
        self.refusals.insert(account.to_owned(), at.now);
        let count = self.refusals.len();
        let many = count > REFUSALS_MIN && count * REFUSALS_ONE_IN > self.accounts;
        if !many && !self.takes_turns() {
            return (Verdict::Account, notices);
        }
        if !self.takes_turns() {
            let others = self.refusals.keys().filter(|refused| *refused != account);
            self.pardoned.extend(others.cloned());
            // Worse than being slowed, and told as what it is.
            notices.extend(self.end(at.now));
        }
        let text = format!("logins of {count} accounts were refused within ten minutes");
        self.strike(Kind::Refused, at, None, &text, &mut notices);
        (Verdict::Host, notices)
    }

    /// A login succeeded: whatever it was is over.
    pub(super) fn worked(&mut self, now: Duration) -> Vec<Notice> {
        if self.takes_turns() {
            self.refusals.clear();
        }
        self.end(now).into_iter().collect()
    }

    /// The host spoke, be it to refuse: it can be reached.
    pub(super) fn answered(&mut self, now: Duration) -> Vec<Notice> {
        let unreachable =
            self.trouble.as_ref().is_some_and(|trouble| trouble.kind == Kind::Unreachable);
        if unreachable { self.end(now).into_iter().collect() } else { Vec::new() }
    }

    /// Whether the account's refusal was the host's fault after all; said once.
    pub(super) fn take_pardon(&mut self, account: &str) -> bool {
        self.pardoned.remove(account)
    }

    /// One failure more. Counts towards the back-off only if it was waited for: when a host goes
    /// down, a thousand connections tell so at once.
    fn strike(
        &mut self,
        kind: Kind,
        at: At,
        hint: Option<Duration>,
        text: &str,
        notices: &mut Vec<Notice>,
    ) -> Duration {
        let mut trouble = self.trouble.take().unwrap_or(Trouble::begun(kind, at.now));
        trouble.strikes += 1;
        let lone = trouble.rounds == 0 || trouble.unanswered;
        let late = trouble.probe.is_none() && at.now >= trouble.not_before;
        if lone || late {
            trouble.rounds += 1;
            trouble.unanswered = false;
            let wait = backoff::delay(trouble.rounds, hint, at.in_window, at.jitter);
            trouble.not_before = at.now + wait;
        } else if let Some(hint) = hint {
            let hinted = at.now + hint.min(backoff::LONGEST);
            trouble.not_before = trouble.not_before.max(hinted);
        }
        if !trouble.announced && self.is_host_wide(&trouble) {
            trouble.announced = true;
            notices.push(Notice::Down { reason: trouble.kind.code(), text: text.to_owned() });
        }
        let wait = trouble.not_before.saturating_sub(at.now).max(backoff::FIRST / 2);
        self.trouble = Some(trouble);
        wait
    }

    fn end(&mut self, now: Duration) -> Option<Notice> {
        let trouble = self.trouble.take()?;
        let lasted = now.saturating_sub(trouble.since);
        trouble.announced.then_some(Notice::Recovered { lasted })
    }

    /// A single failure is one connection's; a second one without a success between is the
    /// host's, as is the first of its only account. Being throttled is ordinary, unless waiting
    /// did not help.
    fn is_host_wide(&self, trouble: &Trouble) -> bool {
        match trouble.kind {
            Kind::Unreachable => trouble.strikes > 1 || self.accounts <= 1,
            Kind::Throttled => trouble.rounds > 1,
            Kind::Refused => true,
        }
    }

    fn gates(&self, trouble: &Trouble) -> bool {
        trouble.kind == Kind::Throttled || self.is_host_wide(trouble)
    }
}

impl Trouble {
    fn begun(kind: Kind, now: Duration) -> Trouble {
        Trouble {
            kind,
            since: now,
            strikes: 0,
            rounds: 0,
            not_before: now,
            probe: None,
            unanswered: false,
            announced: false,
        }
    }
}

impl Kind {
    /// A reason code of the contract.
    fn code(self) -> &'static str {
        match self {
            Kind::Unreachable => "unreachable",
            Kind::Throttled => "throttled",
            Kind::Refused => "logins_refused_by_host",
        }
    }
}

#[cfg(test)]
mod tests;
