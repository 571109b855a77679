//! The supervisor of all accounts, control sockets, signals, systemd notification.
//!
//! [`run`] is the daemon. It owns what the accounts share and leaves their lives to
//! [`crate::sync::account`]; nothing here knows IMAP.

mod accounts;
pub mod board;
mod changes;
mod control;
pub mod decrees;
mod expiry;
pub mod forget;
pub(crate) mod fuzzing;
mod hooks;
pub mod last_state;
mod metrics;
mod notify;
mod orders;
pub mod previews;
mod process;
pub mod proofs;
pub mod protocol;
mod reading;
mod remaining;
mod signals;
mod supervisor;
pub mod tally;
mod words;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use accounts::{Accounts, Live};
use anyhow::Context as _;
use board::Board;
pub use board::{Counts, PHASES, left_out};
use decrees::Decrees;
use protocol::{exit, status_socket};
use signals::Signals;
use supervisor::Supervisor;

use crate::checkpoint::{Completed, OpenError, Store};
use crate::config::{self, Problem, Settings};
use crate::journal::{Entry, Event, Journal, Output};
use crate::sync::account::{self, Shared};

/// Orders that wait for the supervisor's next turn.
const COMMANDS_MAX: usize = 32;

/// The daemon, in the foreground. Returns its exit code: 0 after a signal to stop, 78 for a bad
/// pecsync.toml, 1 where it cannot start.
pub fn run(config: &Path, output: Output) -> u8 {
    process::harden();
    process::close_on_exec();
    let journal = Journal::new(output);
    process::hook_panics(journal.clone());
    let code = match prepare(config, &journal) {
        Ok((settings, store)) => work(config, settings, store, &journal),
        Err(code) => code,
    };
    journal.flush(Duration::from_secs(1));
    code
}

/// What a daemon cannot do without: settings and the store.
fn prepare(path: &Path, journal: &Journal) -> Result<(Settings, Store), u8> {
    let (settings, warnings) = config::load(path).map_err(|problems| {
        tell_problems(Event::ConfigurationRejected, &problems, journal);
        exit::CONFIGURATION
    })?;
    tell_problems(Event::ConfigurationWarning, &warnings, journal);
    let state_dir = &settings.daemon.state_dir;
    let cannot = |text: String| {
        journal.emit(Entry::new(Event::DaemonFailed, text));
        exit::NO
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
        .map_err(|error| cannot(format!("{}: {error}", state_dir.display())))?;
    let (store, moved_aside) = Store::open(state_dir).map_err(|error| match error {
        OpenError::Locked(_) => cannot(format!("{error}: only one daemon may run on it")),
        OpenError::Failed(_) => cannot(error.to_string()),
    })?;
    if let Some(path) = moved_aside {
        let text = format!(
            "the checkpoint could not be read and was moved to {}; it is derived again from \
             both servers",
            path.display()
        );
        let entry = Entry::new(Event::CheckpointLost, text).reason("checkpoint_unreadable");
        journal.emit(entry.file(&path, 0));
    }
    Ok((settings, store))
}

fn tell_problems(event: Event, problems: &[Problem], journal: &Journal) {
    for problem in problems {
        let entry = Entry::new(event, problem.to_string());
        journal.emit(entry.file(&problem.file, problem.line));
    }
}

fn work(config: &Path, settings: Settings, store: Store, journal: &Journal) -> u8 {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let text = format!("no runtime: {error}");
            journal.emit(Entry::new(Event::DaemonFailed, text));
            return exit::NO;
        }
    };
    let result = runtime.block_on(supervise(config.to_owned(), settings, store, journal.clone()));
    // Whatever still runs by now did not stop when it was asked to.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result.unwrap_or_else(|error| {
        journal.emit(Entry::new(Event::DaemonFailed, format!("{error:#}")));
        exit::NO
    })
}

async fn supervise(
    config: PathBuf,
    settings: Settings,
    store: Store,
    journal: Journal,
) -> anyhow::Result<u8> {
    let signals = Signals::new()?;
    let sockets = Sockets::open(&settings.daemon.control_socket)?;
    let metrics = match settings.daemon.metrics_listen {
        None => None,
        Some(address) => {
            let listener = tokio::net::TcpListener::bind(address).await;
            Some(listener.with_context(|| format!("metrics_listen {address}"))?)
        }
    };
    let completed = Completed::open(&settings.daemon.state_dir)?;
    let decrees = Decrees::load(&settings.daemon.state_dir).with_context(|| {
        // Without it paused accounts would be copied: somebody has to look.
        format!("{} cannot be read", Decrees::file(&settings.daemon.state_dir).display())
    })?;
    let reports = Some(settings.daemon.state_dir.join("reports"));
    let shared = Shared::new(store, completed, journal.clone(), &settings.limits);
    let shared = Arc::new(Shared { reports, ..shared });
    let (connections, throttle) = (shared.connections.clone(), shared.throttle.clone());
    let board = Arc::new(Board::new(Timestamp::now(), connections, throttle));
    let state_dir = settings.daemon.state_dir.clone();
    let accounts = Accounts::new(live(shared.clone()), journal.clone());
    let of_accounts = settings.daemon.metrics_accounts;
    let (connections, hosts, retries) =
        (shared.connections.clone(), shared.hosts.clone(), shared.retries.clone());
    let (ready, is_ready) = oneshot::channel();
    let settings = Arc::new(settings);
    let supervisor =
        Supervisor::new(config, settings, shared, board.clone(), accounts, decrees, ready);

    let (orders, commands) = mpsc::channel(COMMANDS_MAX);
    let (served, kept) = (board.clone(), board.clone());
    let (paths, dir) = (sockets.paths.clone(), state_dir.clone());
    tokio::spawn(async move {
        // Until conf.d has been read there is nothing true to tell: clients wait.
        if is_ready.await.is_ok() {
            if let Some(listener) = metrics {
                let source = metrics::Source {
                    board: kept.clone(),
                    connections,
                    hosts,
                    retries,
                    state_dir: dir.clone(),
                    accounts: of_accounts,
                };
                tokio::spawn(metrics::serve(listener, source));
            }
            tokio::spawn(last_state::keep(kept, dir, journal));
            tokio::spawn(control::serve(sockets.status, served.clone(), None));
            control::serve(sockets.control, served, Some(orders)).await;
        }
    });
    let code = supervisor.run(signals, commands).await;
    for path in paths {
        let _ = fs::remove_file(path);
    }
    let _ = last_state::write(&board, &state_dir, 0);
    Ok(code)
}

fn live(shared: Arc<Shared>) -> Live {
    Box::new(move |enrollment, orders, status| {
        Box::pin(account::run(shared.clone(), enrollment, orders, status))
    })
}

struct Sockets {
    control: tokio::net::UnixListener,
    status: tokio::net::UnixListener,
    paths: [PathBuf; 2],
}

impl Sockets {
    /// `control.sock` for its owner and the group pecsync-admin; `status.sock` for whoever can
    /// reach its directory, which the unit limits to the same.
    fn open(control: &Path) -> anyhow::Result<Sockets> {
        let status = status_socket(control);
        let listen = |path: &Path, mode| {
            control::listen(path, mode).with_context(|| path.display().to_string())
        };
        Ok(Sockets {
            control: listen(control, 0o660)?,
            status: listen(&status, 0o666)?,
            paths: [control.to_owned(), status],
        })
    }
}
