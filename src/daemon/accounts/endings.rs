//! When a migration is over: each of its accounts has completed, was closed, or was removed. Knows
//! what ended and what was removed since that was last told; instants are those of the caller.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Account;
use crate::config::Enrollment;
use crate::daemon::tally::Tally;
use crate::status::AccountStatus;

/// A file that is being replaced comes back within this.
pub const REMOVED_FOR: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Endings {
    /// Migrations in which something ended that was not told.
    news: BTreeSet<String>,
    /// Accounts that are not enrolled any more, by address.
    removed: BTreeMap<String, Removed>,
}

/// Without its enrollment: what is removed takes its passwords with it.
struct Removed {
    of: Moved,
    /// As it was then, without its folders.
    status: AccountStatus,
    at: Instant,
}

/// What an account knows of its migration.
struct Moved {
    migration: String,
    cutover: Option<Timestamp>,
    listed: Option<usize>,
}

impl Moved {
    fn of(enrollment: &Enrollment) -> Moved {
        let migration = &enrollment.migration;
        Moved {
            migration: migration.name.clone(),
            cutover: enrollment.decree.migration_cutover.or(migration.cutover),
            listed: migration.accounts.as_deref().map(|listed| listed.iter().count()),
        }
    }
}

impl Endings {
    /// An account of the migration has ended.
    pub fn note(&mut self, migration: &str) {
        self.news.insert(migration.to_owned());
    }

    pub fn removed(&mut self, account: &Account, at: Instant) {
        let of = Moved::of(&account.enrollment);
        let mut status = account.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.folders = Vec::new();
        // That one which was over is forgotten is no end: its own was noted.
        if !is_over(&status.phase) {
            self.note(&of.migration);
        }
        self.removed.insert(account.enrollment.address.clone(), Removed { of, status, at });
    }

    pub fn came_back(&mut self, address: &str) {
        self.removed.remove(address);
    }

    /// Migrations worth asking [`Endings::summary`] about.
    pub fn news(&self) -> Vec<String> {
        self.news.iter().cloned().collect()
    }

    pub fn told(&mut self, migration: &str) {
        self.news.remove(migration);
        self.removed.retain(|_, removed| removed.of.migration != migration);
    }

    /// What there is to say of a migration whose enrolled accounts are `enrolled`; `None` while one
    /// of them goes on, while one may come back, before its cutover (pilots end earlier), and
    /// where nobody has completed or was closed.
    pub fn summary(
        &self,
        migration: &str,
        enrolled: &[&Account],
        now: Timestamp,
        at: Instant,
    ) -> Option<String> {
        let removed = self.removed.values();
        let removed = removed.filter(|removed| removed.of.migration == migration);
        let removed: Vec<&Removed> = removed.collect();
        let may_come_back = |removed: &&Removed| {
            !is_over(&removed.status.phase) && at.duration_since(removed.at) < REMOVED_FOR
        };
        if !enrolled.iter().all(|account| account.is_over()) || removed.iter().any(may_come_back) {
            return None;
        }
        let of_enrolled = enrolled.first().map(|account| Moved::of(&account.enrollment));
        let of = of_enrolled.as_ref().or(removed.first().map(|removed| &removed.of))?;
        if of.cutover.is_some_and(|cutover| cutover > now) {
            return None;
        }
        let mut tally = Tally::default();
        for account in enrolled {
            tally.add(&account.status.lock().unwrap_or_else(PoisonError::into_inner), 0, now);
        }
        for removed in &removed {
            tally.add(&removed.status, 0, now);
        }
        text(of, &tally)
    }
}

fn text(of: &Moved, tally: &Tally) -> Option<String> {
    let all = tally.counts.accounts;
    let (completed, closed) = (tally.in_phase("completed"), tally.in_phase("closed"));
    if completed + closed == 0 {
        return None;
    }
    let listed = of.listed.map_or_else(String::new, |listed| format!(" ({listed} are listed)"));
    let (name, sums) = (&of.migration, tally.sums);
    let bytes = sums.copied_bytes;
    let said = match all == completed {
        true => format!("all {all} accounts of {name}{listed} have completed"),
        false => {
            let removed = all - completed - closed;
            format!(
                "all {all} accounts of {name}{listed} are over: {completed} completed, {closed} \
                 closed, {removed} removed"
            )
        }
    };
    Some(format!("{said}: {sums}, {bytes} bytes"))
}

pub(super) fn is_over(phase: &str) -> bool {
    ["completed", "closed"].contains(&phase)
}
