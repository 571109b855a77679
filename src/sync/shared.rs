//! What all accounts of a daemon share: the store, the journal, and budgets.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::chance::Chance;
use super::clock::Clock;
use super::gone;
use super::hosts::{Hosts, Place};
use super::throttle::Throttle;
use crate::checkpoint::{Completed, Store};
use crate::config::Limits;
use crate::imap::Dialler;
use crate::journal::Journal;
use crate::words::Side;

/// What all accounts of a daemon share.
pub struct Shared {
    pub store: Store,
    /// Accounts that have completed, outside the store.
    pub completed: Arc<Completed>,
    pub journal: Journal,
    pub hosts: Arc<Hosts>,
    pub dialler: Dialler,
    pub clock: Clock,
    pub chance: Chance,
    /// First copies that may run at once.
    pub copying: Semaphore,
    /// What listings may take in memory at once.
    pub memory: Memory,
    /// Reports that may be written at once: each has a thread, and thousands may complete together.
    pub reporting: Semaphore,
    /// How fast message bodies may flow.
    pub throttle: Arc<Throttle>,
    /// Connections that stand, by side.
    pub connections: Arc<OpenConnections>,
    pub retries: Arc<Retries>,
    /// Service logins that were refused, by migration and side: not tried again until reloaded.
    pub refused_services: Mutex<HashSet<(String, Side)>>,
    /// Where reports are written at completion; `None`: nowhere.
    pub reports: Option<PathBuf>,
    /// How far apart two listings must be for what both lack to be gone, and two tries of a
    /// message that was refused.
    pub apart: Duration,
}

/// They mostly wait for the disk.
const REPORTS_AT_ONCE: usize = 16;

impl Shared {
    pub fn new(store: Store, completed: Completed, journal: Journal, limits: &Limits) -> Shared {
        let chance = Chance::default();
        let mut dialler = Dialler::new();
        dialler.listing_octets_max = usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX);
        Shared {
            store,
            completed: Arc::new(completed),
            hosts: Arc::new(Hosts::new(limits, journal.clone(), chance.clone())),
            journal,
            dialler,
            clock: Clock::default(),
            chance,
            copying: Semaphore::new(limits.accounts_copying),
            memory: Memory::new(limits.memory_bytes),
            reporting: Semaphore::new(REPORTS_AT_ONCE),
            throttle: Arc::default(),
            connections: Arc::default(),
            retries: Arc::default(),
            refused_services: Mutex::default(),
            reports: None,
            apart: gone::APART,
        }
    }
}

/// How many connections stand on each side.
#[derive(Default)]
pub struct OpenConnections {
    source: AtomicU32,
    target: AtomicU32,
}

impl OpenConnections {
    pub fn of(&self, side: Side) -> &AtomicU32 {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }
}

/// How often accounts have begun to wait for another try, by migration and reason code.
#[derive(Default)]
pub struct Retries(Mutex<RetryCounts>);

pub type RetryCounts = BTreeMap<(String, &'static str), u64>;

impl Retries {
    pub fn count(&self, migration: &str, code: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((migration.to_owned(), code)).or_default() += 1;
    }

    pub fn counts(&self) -> RetryCounts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A place at a host with a connection in it; both end when it is dropped.
pub struct Berth {
    side: Side,
    open: Arc<OpenConnections>,
    _place: Place,
}

impl Berth {
    pub fn new(shared: &Shared, side: Side, place: Place) -> Berth {
        let open = shared.connections.clone();
        open.of(side).fetch_add(1, Ordering::Relaxed);
        Berth { side, open, _place: place }
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.open.of(self.side).fetch_sub(1, Ordering::Relaxed);
    }
}

/// A budget of memory for listings, over all accounts.
pub struct Memory {
    permits: Semaphore,
    kib: u32,
}

/// What a listed message takes in memory, about: itself, its place in maps, its link.
const KIB_PER_MESSAGES: u64 = 3;

impl Memory {
    pub fn new(bytes: u64) -> Memory {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(1024, u32::MAX >> 4);
        Memory { permits: Semaphore::new(kib as usize), kib }
    }

    /// As [`Memory::of_messages`], for who has some already and must not wait for more.
    pub fn at_once(&self, messages: u64) -> Option<SemaphorePermit<'_>> {
        self.permits.try_acquire_many(self.wanted(messages)).ok()
    }

    fn wanted(&self, messages: u64) -> u32 {
        let wanted = u32::try_from(messages.div_ceil(KIB_PER_MESSAGES)).unwrap_or(u32::MAX);
        wanted.clamp(1, self.kib)
    }

    /// Waits until the listings of so many messages fit. One that fits never gets it all.
    pub async fn of_messages(&self, messages: u64) -> Option<SemaphorePermit<'_>> {
        self.permits.acquire_many(self.wanted(messages)).await.ok()
    }
}
