//! What `status` shows, readable by everybody who may ask without disturbing the supervisor; and
//! the last known state on disk, for when there is no daemon to ask.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::protocol::StatusOf;
use super::tally::{Tally, window_of};
use crate::journal::shown;
use crate::report::LeftOut;
use crate::status::{
    AccountStatus, Bandwidth, Connections, ContactStatus, DaemonStatus, FolderCounts,
    MigrationStatus, RejectedFile, Status,
};
use crate::sync::account::StatusCell;
use crate::sync::shared::OpenConnections;
use crate::sync::throttle::{Rates, Throttle};
use crate::words::Side;

pub const SCHEMA: u32 = 1;

pub struct Board {
    started_at: Timestamp,
    connections: Arc<OpenConnections>,
    throttle: Arc<Throttle>,
    posted: Mutex<Posted>,
}

/// What the supervisor posts when it changes.
#[derive(Clone, Default)]
pub struct Posted {
    /// One a running account, kept current by its task.
    pub cells: Vec<StatusCell>,
    /// Accounts that are known but whose file is bad: shown held, not missing.
    pub held: Vec<AccountStatus>,
    pub rejected: Vec<RejectedFile>,
    pub missing: Vec<String>,
    pub migrations: Arc<Vec<MigrationStatus>>,
}

impl Board {
    pub fn new(
        started_at: Timestamp,
        connections: Arc<OpenConnections>,
        throttle: Arc<Throttle>,
    ) -> Board {
        Board { started_at, connections, throttle, posted: Mutex::default() }
    }

    pub fn post(&self, posted: Posted) {
        *self.posted() = posted;
    }

    fn posted(&self) -> MutexGuard<'_, Posted> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of this instant, without copying what the accounts say.
    pub fn counts(&self) -> Counts {
        let posted = self.posted();
        let mut counts = Counts { rejected: posted.rejected.len(), ..Counts::default() };
        posted.held.iter().for_each(|account| counts.count(account));
        posted.cells.iter().for_each(|cell| counts.count(&read(cell)));
        counts
    }

    /// What the accounts of each migration have in common at an instant.
    pub fn tallies(&self, now: Timestamp) -> BTreeMap<String, Tally> {
        let posted = self.posted();
        let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
        let mut add = |account: &AccountStatus| {
            if !tallies.contains_key(&account.migration) {
                tallies.insert(account.migration.clone(), Tally::default());
            }
            let tally = tallies.get_mut(&account.migration).expect("it was put there");
            tally.add(account, window_of(&posted.migrations, &account.migration), now);
        };
        posted.held.iter().for_each(&mut add);
        posted.cells.iter().for_each(|cell| add(&read(cell)));
        tallies
    }

    pub fn held_by_their_files(&self) -> usize {
        self.posted().held.len()
    }

    /// Is an account of the migration held by its file?
    pub fn holds_by_files(&self, migration: &str) -> bool {
        self.posted().held.iter().any(|account| account.migration == migration)
    }

    pub fn knows(&self, address: &str) -> bool {
        let posted = self.posted();
        posted.held.iter().any(|account| account.address == address)
            || posted.cells.iter().any(|cell| read(cell).address == address)
    }

    /// How its owner is reached, as far as it is known.
    pub fn contact(&self, address: &str) -> ContactStatus {
        let posted = self.posted();
        let held = posted.held.iter().find(|account| account.address == address);
        let contact = held.map(|account| account.contact.clone());
        let mut cells = posted.cells.iter().map(read);
        contact
            .or_else(|| Some(cells.find(|account| account.address == address)?.contact.clone()))
            .unwrap_or_default()
    }

    /// Folders of the account that are not copied.
    pub fn left_out(&self, address: &str) -> Vec<LeftOut> {
        let posted = self.posted();
        let mut cells = posted.cells.iter().map(read);
        let Some(account) = cells.find(|account| account.address == address) else {
            return Vec::new();
        };
        left_out(&account)
    }

    fn connections(&self) -> Connections {
        let standing = |side| self.connections.of(side).load(Ordering::Relaxed);
        Connections { source: standing(Side::Source), target: standing(Side::Target) }
    }

    fn bandwidth(&self) -> Bandwidth {
        let Rates { limit, used } = self.throttle.rates();
        Bandwidth { limit, used }
    }

    /// The status of this instant, accounts by address.
    pub fn status(&self) -> Status {
        self.status_of(&StatusOf::default())
    }

    /// [`Board::status`], of some accounts, or briefly.
    pub fn status_of(&self, wanted: &StatusOf) -> Status {
        let Posted { cells, held, rejected, missing, migrations } = self.posted().clone();
        let addresses: HashSet<&str> = wanted.addresses.iter().map(String::as_str).collect();
        let shown = |account: &mut AccountStatus| {
            let is_wanted = addresses.is_empty() || addresses.contains(account.address.as_str());
            is_wanted.then(|| if wanted.brief { account.brief() } else { account.clone() })
        };
        let held = held.into_iter().filter_map(|mut account| shown(&mut account));
        let cells = cells.iter().filter_map(|cell| shown(&mut read(cell)));
        let mut accounts: Vec<AccountStatus> = held.chain(cells).collect();
        accounts.sort_by(|a, b| a.address.cmp(&b.address));
        let daemon = DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started_at.to_string(),
            connections: self.connections(),
            bandwidth: self.bandwidth(),
        };
        let migrations = Vec::clone(&migrations);
        Status { schema: SCHEMA, daemon, accounts, rejected, missing, migrations }
    }
}

/// Folders that a status says are not copied.
pub fn left_out(account: &AccountStatus) -> Vec<LeftOut> {
    let left_out = account.folders.iter().filter(|folder| folder.target.is_empty());
    let why = |folder: &FolderCounts| {
        folder.reason.as_ref().map_or_else(String::new, |reason| shown(&reason.message))
    };
    left_out
        .map(|folder| LeftOut {
            name: shown(&folder.name),
            state: folder.state.clone(),
            why: why(folder),
        })
        .collect()
}

/// A poisoned cell belongs to a task that panicked; what it says still stands.
fn read(cell: &StatusCell) -> MutexGuard<'_, AccountStatus> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many accounts are in which phase and condition.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    pub accounts: usize,
    pub phases: BTreeMap<String, usize>,
    pub conditions: BTreeMap<String, usize>,
    pub rejected: usize,
}

impl Counts {
    pub fn count(&mut self, account: &AccountStatus) {
        self.accounts += 1;
        *count_of(&mut self.phases, &account.phase) += 1;
        *count_of(&mut self.conditions, &account.condition) += 1;
    }
}

/// Without a new key each time: this is done for thousands, every few seconds.
fn count_of<'c>(counts: &'c mut BTreeMap<String, usize>, name: &str) -> &'c mut usize {
    if !counts.contains_key(name) {
        counts.insert(name.to_owned(), 0);
    }
    counts.get_mut(name).expect("it was put there")
}

/// `312 accounts: 8 copying, 300 following, 4 completed; 3 held, 1 retrying; 2 files rejected`.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let listed = |counts: &BTreeMap<String, usize>, names: &[&str]| {
            let counted = names.iter().filter_map(|name| Some((counts.get(*name)?, name)));
            counted.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
        };
        write!(f, "{} account{}", self.accounts, plural(self.accounts))?;
        let phases = listed(&self.phases, &PHASES);
        let conditions = listed(&self.conditions, &["held", "retrying", "paused"]);
        for (mark, part) in [(": ", phases), ("; ", conditions)] {
            if !part.is_empty() {
                write!(f, "{mark}{part}")?;
            }
        }
        match self.rejected {
            0 => Ok(()),
            files => write!(f, "; {files} file{} rejected", plural(files)),
        }
    }
}

/// All phases of the contract, in the order they are lived through.
pub const PHASES: [&str; 7] =
    ["enrolled", "copying", "following", "draining", "archiving", "completed", "closed"];

#[cfg(test)]
mod tests {
    use super::*;

    fn account(address: &str, phase: &str, condition: &str) -> AccountStatus {
        AccountStatus {
            address: address.to_owned(),
            phase: phase.to_owned(),
            condition: condition.to_owned(),
            ..AccountStatus::default()
        }
    }

    #[test]
    fn counts_name_what_there_is() {
        let mut counts = Counts::default();
        assert_eq!(counts.to_string(), "0 accounts");
        counts.count(&account("a", "following", "ok"));
        assert_eq!(counts.to_string(), "1 account: 1 following");
        counts.count(&account("b", "copying", "held"));
        counts.rejected = 2;
        let expected = "2 accounts: 1 copying, 1 following; 1 held; 2 files rejected";
        assert_eq!(counts.to_string(), expected);
    }

    #[test]
    fn a_brief_answer_counts_folders_and_a_named_one_has_nobody_else() {
        use crate::status::FolderCounts;
        let board = Board::new(Timestamp::UNIX_EPOCH, Arc::default(), Arc::default());
        let folder = |copied| FolderCounts {
            source: Some(3),
            copied: Some(copied),
            ..FolderCounts::default()
        };
        let folders = vec![folder(3), folder(2), FolderCounts::default()];
        let one = AccountStatus { folders, ..account("a", "copying", "ok") };
        let cells = vec![StatusCell::new(one.into())];
        board.post(Posted { cells, held: vec![account("b", "", "held")], ..Posted::default() });
        let whole = board.status();
        let brief = board.status_of(&StatusOf { brief: true, ..StatusOf::default() });
        assert_eq!(brief.accounts.len(), 2);
        assert_eq!((brief.accounts[0].folders.len(), whole.accounts[0].folders.len()), (0, 3));
        assert_eq!(brief.accounts[0].whole_folders(), (1, 3));
        assert_eq!(whole.accounts[0].whole_folders(), (1, 3));
        assert_eq!(board.status(), whole, "nothing was taken away");
        for address in ["a", "b"] {
            let addresses = vec![address.to_owned()];
            let named = board.status_of(&StatusOf { addresses, brief: false });
            let named: Vec<_> = named.accounts.iter().map(|account| &account.address).collect();
            assert_eq!(named, [address]);
        }
    }

    #[test]
    fn a_board_shows_cells_of_the_moment_by_address() {
        let board = Board::new(Timestamp::UNIX_EPOCH, Arc::default(), Arc::default());
        let cell = StatusCell::new(account("z", "enrolled", "ok").into());
        board.post(Posted {
            cells: vec![cell.clone()],
            held: vec![account("a", "following", "held")],
            ..Posted::default()
        });
        "copying".clone_into(&mut cell.lock().unwrap().phase);
        let shown: Vec<_> = board
            .status()
            .accounts
            .into_iter()
            .map(|account| (account.address, account.phase))
            .collect();
        assert_eq!(shown, [("a".into(), "following".into()), ("z".into(), "copying".into())]);
    }
}
