//! The product as the daemon runs it: one account's task on a store of its own, which may die at
//! any await.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use pecsync::checkpoint::{Completed, Image, Known, Store, of_archived_name};
use pecsync::config::{
    ArchiveLogin, Deletions, Endpoint, Enrollment, FolderRules, HostLimits, Limits, Migration,
    ReadBack, SyncRules, Tls, schedule::Schedule,
};
use pecsync::imap;
use pecsync::journal::Journal;
use pecsync::status::AccountStatus;
use pecsync::sync::account::{self, Order, Shared, StatusCell};
use pecsync::sync::clock::Clock;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::plan::Side;
use super::session::{self, ARCHIVE_HOST, Shows, host};
use super::stage::Stage;

pub const ADDRESS: &str = "mario.rossi@pec.example.it";

/// What an enrollment says, where worlds differ.
#[derive(Clone, Debug)]
pub struct Wishes {
    pub in_doubt_wait: Duration,
    pub target_is_ours: bool,
    pub read_back: ReadBack,
    pub sweep_interval: Duration,
    /// How far apart two listings must be for what both lack to be gone.
    pub apart: Duration,
    pub cutover_window: Duration,
    /// `Archivio` lies in a second store.
    pub archive: bool,
    /// What differs of `[folders]`.
    pub folders: FolderRules,
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes {
            in_doubt_wait: Duration::from_secs(60),
            target_is_ours: false,
            read_back: ReadBack::Suspect,
            sweep_interval: Duration::from_secs(60),
            apart: Duration::from_secs(60),
            cutover_window: Duration::from_secs(3600),
            archive: false,
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
    /// Starts the account's task on a checkpoint; `state` is for what lies beside it.
    pub fn start(
        stage: &Arc<Stage>,
        image: &Image,
        state: &Path,
        enrollment: Enrollment,
        apart: Duration,
    ) -> Product {
        let store = Store::in_memory(image).expect("an image can be read");
        let completed = Completed::open(state).expect("the state directory is ours");
        let journal = Journal::recording();
        let mut shared = Shared::new(store, completed, journal.clone(), &limits());
        shared.apart = apart;
        shared.chance.repeat(stage.seed);
        let hands = stage.clone();
        shared.clock = Clock::of(move || hands.hands());
        let servers = stage.clone();
        let archive = enrollment.has_archive();
        shared.dialler.pipes = Some(Box::new(move |endpoint: &imap::Endpoint| {
            let (side, shows) = match endpoint.host.as_str() {
                ARCHIVE_HOST => (Side::Source, Shows::Archive),
                name if name == host(Side::Source) && archive => {
                    (Side::Source, Shows::AllButArchive)
                }
                name if name == host(Side::Source) => (Side::Source, Shows::All),
                _ => (Side::Target, Shows::All),
            };
            session::accept(&servers, side, shows)
        }));
        let shared = Arc::new(shared);
        let (orders, inbox) = mpsc::channel(64);
        let status = StatusCell::default();
        let life = account::run(shared.clone(), Arc::new(enrollment), inbox, status.clone());
        let mortal = Mortal { life: Some(Box::pin(life)), stage: stage.clone() };
        Product { task: tokio::spawn(mortal), orders, journal, status, shared }
    }

    pub fn status(&self) -> AccountStatus {
        self.status.lock().expect("no panic while held").clone()
    }

    pub fn is_following(&self) -> bool {
        let status = self.status.lock().expect("no panic while held");
        status.phase == "following" && status.condition == "ok"
    }

    /// Does the account give this reason for how it is, or a folder of it?
    pub fn gives(&self, code: &str) -> bool {
        let status = self.status.lock().expect("no panic while held");
        status.reasons.iter().any(|reason| reason.code == code)
    }

    /// The code and the words of what holds it.
    pub fn held(&self) -> Option<(String, String)> {
        let status = self.status.lock().expect("no panic while held");
        let reason = status.reason.as_ref().filter(|_| status.condition == "held");
        reason.map(|reason| (reason.code.clone(), format!("{reason:?}")))
    }

    /// Others take all the places to copy, or make room again.
    pub fn take_places(&self, all: bool) {
        let places = limits().accounts_copying;
        match all {
            true => drop(self.shared.copying.forget_permits(places)),
            false => self.shared.copying.add_permits(places),
        }
    }

    pub fn order(&self, order: Order) {
        let _ = self.orders.try_send(order);
    }

    /// Which copy is whose: wire name and UID at the source, the same at the target.
    pub fn links(&self) -> io::Result<Vec<[(String, u32); 2]>> {
        let store = &self.shared.store;
        let mut links = Vec::new();
        let Some(account) = store.account(ADDRESS)? else { return Ok(links) };
        let name = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        for folder in store.folders(account.id)? {
            for (uid, known) in store.known(folder.id)? {
                if let Known::Linked(link) = known
                    && let Some(target_uid) = link.target_uid
                    && link.altered.is_none()
                {
                    let source = (name(name_there(&folder.source_name)), uid.get());
                    links.push([source, (name(&folder.target_name), target_uid.get())]);
                }
            }
        }
        Ok(links)
    }

    /// Source UIDs listed as refused or altered, by the source folder's wire name.
    pub fn listed(&self) -> io::Result<Vec<(String, u32)>> {
        let store = &self.shared.store;
        let mut listed = Vec::new();
        let Some(account) = store.account(ADDRESS)? else { return Ok(listed) };
        for folder in store.folders(account.id)? {
            let name = String::from_utf8_lossy(name_there(&folder.source_name)).into_owned();
            for (uid, known) in store.known(folder.id)? {
                if matches!(known, Known::Refused { .. }) {
                    listed.push((name.clone(), uid.get()));
                }
            }
        }
        Ok(listed)
    }
}

/// A source folder's name as its server knows it, also in an archive.
fn name_there(name: &[u8]) -> &[u8] {
    of_archived_name(name).map_or(name, |(_, there)| there)
}

/// The account's task, which the plan may kill wherever it waits.
struct Mortal {
    life: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    stage: Arc<Stage>,
}

impl Future for Mortal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut life) = self.life.take() else { return Poll::Ready(()) };
        if self.stage.dies_at_await(false) {
            return Poll::Ready(());
        }
        let polled = life.as_mut().poll(cx);
        if polled.is_pending() && !self.stage.dies_at_await(true) {
            self.life = Some(life);
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

fn limits() -> Limits {
    let default = HostLimits { logins_per_second: 1e6, connections: 1000, sweeps_per_second: 1e6 };
    Limits {
        accounts_copying: 8,
        memory_bytes: 64 << 20,
        schedule: Schedule::none(),
        default,
        hosts: Default::default(),
    }
}

pub fn archive_login() -> ArchiveLogin {
    ArchiveLogin { user: "archivio".to_owned(), password: Some("archive".to_owned().into()) }
}

pub fn enrollment(cutover: Option<Timestamp>, wishes: &Wishes) -> Enrollment {
    let endpoint = |host: &str| Endpoint {
        provider: None,
        host: host.to_owned(),
        port: 143,
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
        cutover_window: wishes.cutover_window,
        settle: Duration::ZERO,
        source_until: None,
        target_is_ours: wishes.target_is_ours,
        source: endpoint(host(Side::Source)),
        target: endpoint(host(Side::Target)),
        folders: wishes.folders.clone(),
        sync: SyncRules {
            deletions: Deletions::Mirror,
            sweep_interval: wishes.sweep_interval,
            idle: vec!["INBOX".to_owned()],
            read_back: wishes.read_back,
            in_doubt_wait: wishes.in_doubt_wait,
        },
        archive: None,
    };
    let archive = wishes.archive.then(|| Arc::new(migration.of_archive(endpoint(ARCHIVE_HOST))));
    let migration = Migration { archive, ..migration };
    Enrollment {
        address: ADDRESS.to_owned(),
        migration: Arc::new(migration),
        cutover,
        source_user: ADDRESS.to_owned(),
        source_password: Some("source".to_owned().into()),
        source_expires: None,
        target_user: "M1".to_owned(),
        target_password: Some("target".to_owned().into()),
        archive: wishes.archive.then(archive_login),
        is_archive: false,
        contact: Default::default(),
        decree: Default::default(),
        file: PathBuf::from("conf.d/mario.toml"),
        owners_file: None,
    }
}
