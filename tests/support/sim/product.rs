//! The product as the daemon runs it: one account's task on a store of its own; and its files,
//! copied while it runs.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pecsync::checkpoint::{Completed, Known, OpenError, Store};
use pecsync::config::{
    Deletions, Endpoint, Enrollment, FolderRules, HostLimits, Limits, Migration, ReadBack,
    SyncRules, Tls,
};
use pecsync::journal::Journal;
use pecsync::status::AccountStatus;
use pecsync::sync::account::{self, Order, Shared, StatusCell};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::plan::Side;
use super::session::host;

pub const ADDRESS: &str = "mario.rossi@pec.example.it";
/// A server that says nothing is given up after so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What an enrollment says, where worlds differ.
#[derive(Clone, Debug)]
pub struct Wishes {
    pub in_doubt_wait: Duration,
    pub target_is_ours: bool,
    pub read_back: ReadBack,
    pub sweep_interval: Duration,
    /// How far apart two listings must be for what both lack to be gone.
    pub apart: Duration,
    /// What differs of `[folders]`.
    pub folders: FolderRules,
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes {
            in_doubt_wait: Duration::ZERO,
            target_is_ours: false,
            read_back: ReadBack::Suspect,
            sweep_interval: Duration::from_millis(100),
            apart: Duration::from_millis(150),
            folders: FolderRules::default(),
        }
    }
}

pub struct Product {
    pub task: JoinHandle<()>,
    pub orders: mpsc::Sender<Order>,
    pub journal: Journal,
    status: StatusCell,
    shared: Arc<Shared>,
}

impl Product {
    /// Opens the state directory and starts the account's task.
    pub fn start(state: &Path, enrollment: Enrollment, wishes: &Wishes) -> Product {
        let store = open(state);
        let completed = Completed::open(state).expect("the state directory is ours");
        let journal = Journal::recording();
        let mut shared = Shared::new(store, completed, journal.clone(), &limits());
        shared.dialler.answer_within = ANSWER_WITHIN;
        shared.apart = wishes.apart;
        let shared = Arc::new(shared);
        let (orders, inbox) = mpsc::channel(64);
        let status = StatusCell::default();
        let life = account::run(shared.clone(), Arc::new(enrollment), inbox, status.clone());
        Product { task: tokio::spawn(life), orders, journal, status, shared }
    }

    pub fn status(&self) -> AccountStatus {
        self.status.lock().expect("no panic while held").clone()
    }

    /// Has a failed try repeated at once, on both hosts.
    pub fn hurry(&self) {
        for side in [Side::Source, Side::Target] {
            self.shared.hosts.host(host(side)).worked();
        }
        let _ = self.orders.try_send(Order::Retry);
    }

    pub fn order(&self, order: Order) {
        let _ = self.orders.try_send(order);
    }

    /// Source UIDs listed as refused, by the source folder's wire name.
    pub fn listed(&self) -> io::Result<Vec<(String, u32)>> {
        let store = &self.shared.store;
        let mut listed = Vec::new();
        let Some(account) = store.account(ADDRESS)? else { return Ok(listed) };
        for folder in store.folders(account.id)? {
            let name = String::from_utf8_lossy(&folder.source_name).into_owned();
            for (uid, known) in store.known(folder.id)? {
                if matches!(known, Known::Refused { .. }) {
                    listed.push((name.clone(), uid.get()));
                }
            }
        }
        Ok(listed)
    }
}

/// The life before this one may still be letting go of the directory.
fn open(state: &Path) -> Store {
    let begun = Instant::now();
    loop {
        match Store::open(state) {
            Ok((store, aside)) => {
                assert_eq!(aside, None, "a checkpoint could not be read");
                return store;
            }
            Err(OpenError::Locked(_)) if begun.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn limits() -> Limits {
    let default = HostLimits { logins_per_second: 1e6, connections: 1000, sweeps_per_second: 1e6 };
    Limits { accounts_copying: 8, memory_bytes: 64 << 20, default, hosts: Default::default() }
}

pub fn enrollment(
    source: SocketAddr,
    target: SocketAddr,
    cutover: Option<Timestamp>,
    wishes: &Wishes,
) -> Enrollment {
    let endpoint = |address: SocketAddr| Endpoint {
        provider: None,
        host: address.ip().to_string(),
        port: address.port(),
        tls: Tls::None,
        ca_file: None,
        service_login: None,
        well_known: Vec::new(),
    };
    let migration = Migration {
        name: "sim".to_owned(),
        domains: vec!["pec.example.it".to_owned()],
        timezone: "Europe/Rome".to_owned(),
        enroll_from: None,
        enroll_until: None,
        accounts: None,
        cutover: None,
        cutover_window: Duration::from_secs(3600),
        settle: Duration::ZERO,
        source_until: None,
        target_is_ours: wishes.target_is_ours,
        source: endpoint(source),
        target: endpoint(target),
        folders: wishes.folders.clone(),
        sync: SyncRules {
            deletions: Deletions::Mirror,
            sweep_interval: wishes.sweep_interval,
            idle: vec!["INBOX".to_owned()],
            read_back: wishes.read_back,
            in_doubt_wait: wishes.in_doubt_wait,
        },
    };
    Enrollment {
        address: ADDRESS.to_owned(),
        migration: Arc::new(migration),
        cutover,
        source_user: ADDRESS.to_owned(),
        source_password: Some("source".to_owned().into()),
        source_expires: None,
        target_user: "M1".to_owned(),
        target_password: Some("target".to_owned().into()),
        contact: Default::default(),
        decree: Default::default(),
        file: PathBuf::from("conf.d/mario.toml"),
    }
}

/// A state directory's files at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot(Vec<(PathBuf, Vec<u8>)>);

impl Snapshot {
    /// Read again until two readings agree: the committer may be writing.
    pub fn of(state: &Path) -> Snapshot {
        let mut before = Snapshot::read(state);
        loop {
            let now = Snapshot::read(state);
            if now == before {
                return now;
            }
            before = now;
        }
    }

    fn read(state: &Path) -> Snapshot {
        let mut files = Vec::new();
        let mut dirs = vec![state.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    dirs.push(path);
                } else if let Ok(octets) = fs::read(&path)
                    && let Ok(name) = path.strip_prefix(state)
                {
                    files.push((name.to_owned(), octets));
                }
            }
        }
        files.sort();
        Snapshot(files)
    }

    pub fn restore(&self, state: &Path) -> io::Result<()> {
        for (name, octets) in &self.0 {
            let path = state.join(name);
            fs::create_dir_all(path.parent().unwrap_or(state))?;
            fs::write(path, octets)?;
        }
        Ok(())
    }
}
