//! Being a good guest: what all accounts of one host share – logins a second, connections,
//! sweeps, a common back-off, and the verdict whether a refusal is the user's or the host's.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Limits;
use crate::journal::Journal;

pub struct Hosts {}

/// One server's budget.
pub struct Host {}

/// A connection in use; gives its place back when dropped.
pub struct Place {}

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
    pub fn new(_limits: &Limits, _journal: Journal) -> Hosts {
        Hosts {}
    }

    /// New limits from a reload.
    pub fn set_limits(&self, _limits: &Limits) {
        {}
    }

    pub fn host(&self, _name: &str) -> Arc<Host> {
        Arc::new(Host {})
    }
}

impl Host {
    /// Waits for a place, a login's turn and the end of a back-off. `urgent` goes first (an
    /// account near its cutover). Safe to cancel.
    pub async fn login(self: &Arc<Self>, _urgent: bool) -> Place {
        Place {}
    }

    /// Waits for a sweep's turn.
    pub async fn sweep(&self) {
        {}
    }

    /// Something worked: a connection stands, a login succeeded. Ends an outage.
    pub fn worked(&self) {
        {}
    }

    /// The host did not answer (unreachable, cut, timed out before login). Doubles the shared
    /// back-off with jitter; the first of an outage is one `host_down` event. Returns when to
    /// try next.
    pub fn failed(&self, _error: &str) -> Duration {
        Duration::from_secs(3)
    }

    /// The host asked for less (`[THROTTLED]`, `[LIMIT]` at login, "Backoff Time"): obeyed,
    /// capped at ten minutes. Returns when to try next.
    pub fn throttled(&self, _hint: Option<Duration>) -> Duration {
        Duration::from_secs(3)
    }

    /// A login was refused for `account`.
    pub fn refused(&self, _account: &str) -> Verdict {
        Verdict::Account
    }

    /// How many accounts use the host: what 2 % is taken of.
    pub fn set_accounts(&self, _accounts: usize) {
        {}
    }
}
