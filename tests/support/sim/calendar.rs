//! One account of a real configuration, lived by the wall clock of its migration: what happens and
//! what must be true are rows of a table, each with its local time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use pecsync::checkpoint::Image;
use pecsync::config::{
    Context, Difference, Endpoint, Enrollment, FolderRules, Migration, Settings, Snapshot, Tls,
    load_in, read_dir_files, reconcile,
};
use pecsync::sync::account::Order;
use tempfile::TempDir;

use super::plan::{Plan, Side};
use super::product::{Product, archive_login};
use super::session::{ARCHIVE_HOST, host};
use super::stage::{Half, Stage};
use super::traits::Traits;
use super::worlds::post;

/// What happens, or what must be true.
#[derive(Clone, Copy, Debug)]
pub enum Row {
    /// So many messages come to this folder of the source.
    Mail(&'static str, u64),
    /// The enrollment is dropped, and taken.
    Enroll,
    /// The same, with these lines at its top.
    EnrollWith(&'static str),
    /// The enrollment is dropped, and rejected with these words.
    Rejected(&'static str),
    /// The owner of the target removes the first message of INBOX there.
    OwnerRemoves,
    /// The owner of the source removes the first message of INBOX there.
    SourceRemoves,
    /// Nothing has been written to the target, and nobody has connected to the source.
    Untouched,
    /// The phase, and the reason if there is one.
    Phase(&'static str, Option<&'static str>),
    /// Messages at the target: in INBOX, and in all other folders.
    Target(usize, usize),
    /// Nobody has connected to the source since the last row but this one.
    Quiet,
    /// Somebody sets the wall clock, by so many seconds.
    SetClock(i64),
    /// Others copy: there is no place for this account, or there is again.
    NoPlace,
    Place,
    /// So many folders of the source have been listed whole since the last row but this one.
    Listed(usize),
    /// The machine is suspended for so many seconds.
    Suspend(i64),
    /// The daemon is killed and started again.
    Restart,
    /// The daemon is killed, and started again with the next `Starts`.
    Dies,
    Starts,
    /// This event was told so often.
    Told(&'static str, usize),
    /// An operator moves the cutover, to this local time.
    Cutover(&'static str),
}

pub const LOCAL_PART: &str = "mario.rossi";

/// Lives the rows. `settings` is pecsync.toml; the servers are like Aruba's and Legalmail's.
/// Panics with the row that is not true.
pub fn live(settings: &str, domain: &str, rows: &[(&str, Row)]) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut scene = Scene::new(settings, domain, rows[0].0);
        for (time, row) in rows {
            scene.advance(time).await;
            if let Err(what) = scene.row(*row).await {
                panic!("{time} {row:?}: {what}\n{}", scene.report());
            }
            scene.source_connections = scene.stage.connections(Side::Source);
            scene.listed = scene.listed_whole();
        }
    });
}

struct Scene {
    stage: Arc<Stage>,
    etc: TempDir,
    settings: Settings,
    address: String,
    migration: String,
    snapshot: Snapshot,
    enrollment: Option<Enrollment>,
    product: Option<Product>,
    image: Image,
    /// Of daemons that have died.
    told: BTreeMap<&'static str, usize>,
    journal: Vec<String>,
    next_mail: u64,
    source_connections: usize,
    listed: usize,
}

impl Scene {
    fn new(settings: &str, domain: &str, begins: &str) -> Scene {
        let etc = tempfile::tempdir().expect("a directory");
        let file = etc.path().join("pecsync.toml");
        fs::create_dir(etc.path().join("conf.d")).expect("made");
        fs::write(&file, settings).expect("written");
        let now = local(begins);
        let context = Context { now, credentials: None, checking: false, for_portal: false };
        let (settings, _) = load_in(&file, &context).unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        });
        let migrations = settings.migrations.values();
        let migration = { migrations }.find(|it| it.domains.iter().any(|one| one == domain));
        let migration = migration.expect("the domain's").name.clone();
        let stage = Stage::new(
            (Traits::source(), Traits::target()),
            Plan::default(),
            FolderRules::default(),
            1,
        );
        stage.clock_set.fetch_add(now.as_second() - stage.hands().wall, Ordering::Relaxed);
        Scene {
            stage,
            etc,
            settings,
            address: format!("{LOCAL_PART}@{domain}"),
            migration,
            snapshot: Snapshot::default(),
            enrollment: None,
            product: None,
            image: Image::default(),
            told: BTreeMap::new(),
            journal: Vec::new(),
            next_mail: 1,
            source_connections: 0,
            listed: 0,
        }
    }

    /// Until the wall clock shows that time, whatever is done to it meanwhile.
    async fn advance(&self, time: &str) {
        let until = local(time).as_second();
        while let Ok(left) = u64::try_from(until - self.stage.hands().wall)
            && left > 0
        {
            tokio::time::sleep(Duration::from_secs(left)).await;
        }
    }

    async fn row(&mut self, row: Row) -> Result<(), String> {
        match row {
            Row::Mail(folder, count) => self.mail(folder, count),
            Row::Enroll => return self.enroll(""),
            Row::EnrollWith(lines) => return self.enroll(lines),
            Row::Rejected(words) => return self.rejected(words),
            Row::OwnerRemoves => remove_first(&self.stage.target),
            Row::SourceRemoves => remove_first(&self.stage.source),
            Row::Untouched => {
                let connections = self.stage.connections(Side::Source);
                return same(
                    "effects and connections",
                    (self.stage.effects(), connections),
                    (0, 0),
                );
            }
            Row::Phase(phase, code) => {
                let status = self.product.as_ref().ok_or("no daemon")?.status();
                let reason = status.reason.map(|reason| reason.code);
                let found = (status.phase.as_str(), reason.as_deref());
                return same("phase and reason", found, (phase, code));
            }
            Row::Target(inbox, others) => {
                let found = self.stage.target.look(|account| {
                    let count = |is_inbox: bool| {
                        let folders = account.folders.iter();
                        let folders = folders.filter(|(name, _)| (*name == "INBOX") == is_inbox);
                        folders.map(|(_, folder)| folder.messages.len()).sum::<usize>()
                    };
                    (count(true), count(false))
                });
                return same("messages at the target", found, (inbox, others));
            }
            Row::Quiet => {
                let connections = self.stage.connections(Side::Source);
                return same("connections", connections, self.source_connections);
            }
            Row::SetClock(by) => {
                self.stage.clock_set.fetch_add(by, Ordering::Relaxed);
            }
            Row::NoPlace => self.product.as_ref().ok_or("no daemon")?.take_places(true),
            Row::Place => self.product.as_ref().ok_or("no daemon")?.take_places(false),
            Row::Listed(times) => {
                return same("listings", self.listed_whole() - self.listed, times);
            }
            Row::Suspend(secs) => {
                self.stage.suspended.fetch_add(secs, Ordering::Relaxed);
            }
            Row::Restart => {
                self.die().await;
                self.start();
            }
            Row::Dies => self.die().await,
            Row::Starts => self.start(),
            Row::Told(event, times) => return same(event, self.times_told(event), times),
            Row::Cutover(time) => {
                let enrollment = self.enrollment.as_mut().ok_or("nobody is enrolled")?;
                enrollment.cutover = Some(local(time));
                let order = Order::Replace(Arc::new(enrollment.clone()));
                self.product.as_ref().ok_or("no daemon")?.order(order);
            }
        }
        Ok(())
    }

    fn listed_whole(&self) -> usize {
        let is_listing = |line: &&String| line.contains("Source#") && line.contains("FETCH 1:* (");
        self.stage.logged().iter().filter(is_listing).count()
    }

    fn mail(&mut self, folder: &str, count: u64) {
        let wire = self.stage.source.traits.wire(folder);
        let letters = (self.next_mail..self.next_mail + count).map(|n| post(n, "").letter());
        self.next_mail += count;
        self.stage.source.with(|account| {
            account.create(&wire);
            account.append(&wire, letters.collect());
        });
    }

    /// Drops the file as it would be written at this moment, and reads it as the daemon would.
    fn drop_file(&mut self, lines: &str) -> Vec<Difference> {
        let path = self.enrollment_file();
        let text = format!(
            "address = \"{}\"\n{lines}\n[source]\npassword = \"source\"\n\
             [target]\nuser = \"M1\"\npassword = \"target\"\n",
            self.address
        );
        fs::write(&path, text).expect("written");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, private).expect("private");
        let wall = Duration::from_secs(self.stage.hands().wall as u64);
        let file = File::options().write(true).open(&path).expect("there");
        file.set_modified(SystemTime::UNIX_EPOCH + wall).expect("dated");
        let files = read_dir_files(&self.etc.path().join("conf.d"));
        let (snapshot, differences) =
            reconcile(&self.snapshot, files, &self.settings, &BTreeMap::new());
        self.snapshot = snapshot;
        differences
    }

    fn enrollment_file(&self) -> PathBuf {
        self.etc.path().join("conf.d/mario.toml")
    }

    fn enroll(&mut self, lines: &str) -> Result<(), String> {
        let differences = self.drop_file(lines);
        let [Difference::Accepted(enrollment)] = &differences[..] else {
            return Err(format!("not taken: {differences:?}"));
        };
        same("migration", &enrollment.migration.name, &self.migration)?;
        self.enrollment = Some(simulated(enrollment));
        self.start();
        Ok(())
    }

    fn rejected(&mut self, words: &str) -> Result<(), String> {
        let differences = self.drop_file("");
        fs::remove_file(self.enrollment_file()).expect("it is there");
        match &differences[..] {
            [Difference::Rejected(problem)] if problem.to_string().contains(words) => Ok(()),
            _ => Err(format!("not rejected so: {differences:?}")),
        }
    }

    fn start(&mut self) {
        let enrollment = self.enrollment.clone().expect("somebody is enrolled");
        let apart = Duration::from_secs(60);
        let state = self.etc.path();
        self.product = Some(Product::start(&self.stage, &self.image, state, enrollment, apart));
        let product = self.product.as_ref().expect("just made");
        self.stage.born(product.task.abort_handle(), self.image.clone());
    }

    /// As kill -9 does it: what was not durable is lost.
    async fn die(&mut self) {
        let Some(product) = self.product.take() else { return };
        product.task.abort();
        let _ = product.task.await;
        for entry in product.journal.recorded() {
            *self.told.entry(entry.event.name()).or_default() += 1;
            self.journal.push(format!("{}: {}", entry.event.name(), entry.message));
        }
        self.image = self.image.before(0);
    }

    fn times_told(&self, event: &str) -> usize {
        let before = self.told.get(event).copied().unwrap_or_default();
        let now = self.product.iter().flat_map(|product| product.journal.recorded());
        before + now.filter(|entry| entry.event.name() == event).count()
    }

    fn report(&self) -> String {
        let now = self.product.iter().flat_map(|product| product.journal.recorded());
        let now = now.map(|entry| format!("{}: {}", entry.event.name(), entry.message));
        let told: Vec<String> = self.journal.iter().cloned().chain(now).collect();
        let status = self.product.as_ref().map(Product::status);
        let commands = self.stage.logged();
        let last = commands[commands.len().saturating_sub(40)..].join("\n");
        format!("{}\n{last}\n{status:#?}", told.join("\n"))
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<(), String> {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("{what}: {found:?}, not {wanted:?}")),
    }
}

fn remove_first(half: &Half) {
    half.with(|account| {
        let first = account.folders["INBOX"].messages[0].uid;
        account.remove("INBOX", &[first]);
    });
}

/// A time by the clocks of Rome.
fn local(time: &str) -> Timestamp {
    let zone = jiff::tz::TimeZone::get("Europe/Rome").expect("built in");
    let time: jiff::civil::DateTime = time.parse().unwrap_or_else(|_| panic!("no time: {time}"));
    time.to_zoned(zone).expect("no odd hour").timestamp()
}

/// The same enrollment with the simulated servers.
fn simulated(enrollment: &Enrollment) -> Enrollment {
    let at = |host: &str, endpoint: &Endpoint| Endpoint {
        host: host.to_owned(),
        port: 143,
        tls: Tls::None,
        ..endpoint.clone()
    };
    let between = |source: &str, migration: &Migration| Migration {
        source: at(source, &migration.source),
        target: at(host(Side::Target), &migration.target),
        ..migration.clone()
    };
    let migration = &enrollment.migration;
    let archive = migration.archive.as_ref();
    let migration = Migration {
        archive: archive.map(|archive| Arc::new(between(ARCHIVE_HOST, archive))),
        ..between(host(Side::Source), migration)
    };
    Enrollment {
        archive: migration.archive.is_some().then(archive_login),
        migration: Arc::new(migration),
        ..enrollment.clone()
    }
}
