//! The archive of an account where it lies in a second store with a login of its own: copied by a
//! life of its own beside the account's, once that is sealed and every account had its window.
//!
//! The archive has identities of its own: it is remembered as if it were another account
//! ([`archive_key`](crate::checkpoint::archive_key)) that was enrolled late. So it is append only,
//! what is at the target already is adopted, and what is wrong with its login holds it alone.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::account::{self, Order};
use super::board::StatusCell;
use super::connect::{key, place};
use super::shared::Shared;
use crate::checkpoint::Phase;
use crate::config::Enrollment;
use crate::words::Side;

/// How often it is looked whether its time has come.
const CLOCK_EVERY: Duration = Duration::from_secs(5);

/// Orders that wait for a life, which reads them at every turn.
const ORDERS_MAX: usize = 64;

/// What the account's own life and its archive's tell each other.
#[derive(Default)]
pub struct Progress {
    copied: AtomicBool,
    /// Nothing is left to do for the account's own login.
    own_done: AtomicBool,
    orders: Mutex<VecDeque<Order>>,
    /// No order will come any more.
    closed: AtomicBool,
    news: Notify,
}

impl Progress {
    /// Is there an archive that has still to be copied?
    pub fn is_open(&self, enrollment: &Enrollment) -> bool {
        enrollment.has_archive() && !self.copied.load(Ordering::Relaxed)
    }

    /// Whoever orders the account about orders its archive about; `None` ends it.
    pub fn tell(&self, order: Option<&Order>) {
        match order {
            None => self.closed.store(true, Ordering::Relaxed),
            Some(order @ (Order::Retry | Order::ApproveEndpoint | Order::Replace(_))) => {
                // Another login, perhaps: what was copied from the one before does not count.
                self.copied.store(false, Ordering::Relaxed);
                self.orders().push_back(order.clone());
            }
            Some(_) => return,
        }
        self.news.notify_one();
    }

    /// The next order; `None` when there will be none. Safe to cancel.
    async fn order(&self) -> Option<Order> {
        loop {
            let next = self.orders().pop_front();
            if next.is_some() || self.closed.load(Ordering::Relaxed) {
                return next;
            }
            self.news.notified().await;
        }
    }

    fn orders(&self) -> MutexGuard<'_, VecDeque<Order>> {
        self.orders.lock().expect("no panic while held")
    }

    /// Does the archive wait for a pass of the account's own to look at everything?
    pub fn waits(&self, enrollment: &Enrollment, now: i64) -> bool {
        let is_open = || opens_at(enrollment).is_some_and(|opens| now >= opens);
        enrollment.has_archive() && !self.own_done.load(Ordering::Relaxed) && is_open()
    }

    /// A pass of the account's own found nothing to do since the archive opened.
    pub fn own_is_done(&self) {
        self.own_done.store(true, Ordering::Relaxed);
    }
}

/// When the folders are copied that wait for the cutover: never before every account of the
/// migration had its window. `None` where there are none, or no cutover.
pub fn opens_at(enrollment: &Enrollment) -> Option<i64> {
    let migration = &enrollment.migration;
    let rules = &migration.folders;
    let migrations = enrollment.decree.migration_cutover.or(migration.cutover);
    let cutover = enrollment.cutover.max(migrations)?.as_second();
    let window_ends = cutover + migration.cutover_window.as_secs() as i64;
    let from = rules.after_cutover_from.map_or(window_ends, |from| from.as_second());
    (!rules.after_cutover.is_empty()).then_some(from.max(window_ends))
}

/// Copies the archive when its time comes; returns soon after it was told to end.
pub async fn tend(
    shared: Arc<Shared>,
    mut enrollment: Arc<Enrollment>,
    status: StatusCell,
    progress: Arc<Progress>,
) {
    loop {
        while !is_due(&shared, &enrollment, &status, &progress) {
            let next = tokio::select! {
                biased;
                order = progress.order() => order,
                () = tokio::time::sleep(CLOCK_EVERY), if enrollment.has_archive() => continue,
            };
            match next {
                None => return,
                Some(Order::Replace(new)) => enrollment = new,
                Some(_) => {}
            }
        }
        if !live(&shared, &mut enrollment, &progress, &status).await {
            return;
        }
        progress.copied.store(is_copied(&shared, &enrollment), Ordering::Relaxed);
        match progress.order().await {
            None => return,
            Some(Order::Replace(new)) => enrollment = new,
            Some(_) => {}
        }
    }
}

/// Has the account's own life come to its archive? It goes first, for both may copy into one
/// folder; but an archive does not wait for a login that works no more.
fn is_due(
    shared: &Shared,
    enrollment: &Enrollment,
    status: &StatusCell,
    progress: &Progress,
) -> bool {
    if !enrollment.has_archive() {
        return false;
    }
    let clock = shared.clock.read();
    let is_open = opens_at(enrollment).is_some_and(|opens| clock.now >= opens);
    let has_gone_first = || {
        let status = status.lock().expect("no panic while held");
        let own = status.shares.as_deref().map(|[own, _]| own.condition.as_str());
        let is_stuck = own.is_some_and(|condition| ["held", "retrying"].contains(&condition));
        let sealed = status.phase == Phase::Archiving.as_str();
        sealed && (is_stuck || progress.own_done.load(Ordering::Relaxed))
    };
    if clock.suspect || !is_open || !has_gone_first() {
        return false;
    }
    // Not while somebody has to approve another source or target.
    let record = shared.store.account(&enrollment.address).ok().flatten();
    record.is_some_and(|record| {
        record.phase == Phase::Archiving
            && record.source == place(enrollment, Side::Source)
            && record.target == place(enrollment, Side::Target)
    })
}

fn is_copied(shared: &Shared, enrollment: &Enrollment) -> bool {
    let archive = enrollment.of_archive();
    let record = archive.and_then(|archive| shared.store.account(&key(&archive)).ok()?);
    record.is_some_and(|record| record.phase == Phase::Completed)
}

/// Lives the archive's life. False once it was told to end.
async fn live(
    shared: &Arc<Shared>,
    enrollment: &mut Arc<Enrollment>,
    progress: &Progress,
    status: &StatusCell,
) -> bool {
    let Some(archive) = enrollment.of_archive() else { return true };
    let (tell, inbox) = mpsc::channel(ORDERS_MAX);
    let (mut tell, mut goes_on) = (Some(tell), true);
    let life = account::run_archive(shared.clone(), Arc::new(archive), inbox, status.clone());
    let mut life = Box::pin(life);
    loop {
        tokio::select! {
            biased;
            () = &mut life => return goes_on,
            order = progress.order(), if tell.is_some() => {
                let order = match order {
                    None => {
                        goes_on = false;
                        None
                    }
                    Some(Order::Replace(new)) => {
                        *enrollment = new;
                        let archive = enrollment.of_archive();
                        archive.map(|archive| Order::Replace(Arc::new(archive)))
                    }
                    other => other,
                };
                match (&tell, order) {
                    // It reads its orders at every turn.
                    (Some(tell), Some(order)) => drop(tell.try_send(order)),
                    // A life that is told nothing more ends.
                    _ => tell = None,
                }
            }
        }
    }
}
