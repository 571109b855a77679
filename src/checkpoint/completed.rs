//! The record of sealed and completed accounts, outside the store: `<state>/completed.jsonl`.
//!
//! After the seal the target is its owner's, so an account must not begin anew only because its
//! checkpoint was deleted or put back to an older one. A line is appended and synced for every
//! change; of an account's lines the last one counts. A line cut short by a crash was never
//! acknowledged and is passed over.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use super::{Phase, Place};

/// An account past its seal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompletedAccount {
    /// Case-folded.
    pub address: String,
    pub source: Place,
    pub target: Place,
    /// How far it has come: archiving (sealed), completed or closed.
    pub phase: Phase,
    /// Unix seconds.
    pub sealed_at: Option<i64>,
    pub completed_at: Option<i64>,
}

/// The open record. Writing waits for the disk.
pub struct Completed {
    path: PathBuf,
    state: Mutex<State>,
    /// Taken out with `state` locked.
    waiting: Mutex<Vec<Waiting>>,
}

struct Waiting {
    account: CompletedAccount,
    line: Line,
    told: oneshot::Sender<Result<(), Arc<io::Error>>>,
}

struct State {
    file: File,
    /// The file ends within a line: the next one begins anew.
    torn: bool,
    accounts: HashMap<String, CompletedAccount>,
    unreadable: usize,
}

impl Completed {
    /// Reads `state_dir`/completed.jsonl, which is made where it is not there yet.
    pub fn open(state_dir: &Path) -> io::Result<Completed> {
        let path = state_dir.join("completed.jsonl");
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(&path)?;
        File::open(state_dir)?.sync_all()?;
        let octets = fs::read(&path)?;
        let mut state = State {
            file,
            torn: octets.last().is_some_and(|last| *last != b'\n'),
            accounts: HashMap::new(),
            unreadable: 0,
        };
        state.read(&octets);
        Ok(Completed { path, state: Mutex::new(state), waiting: Mutex::default() })
    }

    /// The record of nobody, for who only looks where no daemon has worked yet: what is recorded
    /// in it is lost.
    pub fn of_nobody() -> io::Result<Completed> {
        let path = PathBuf::from("/dev/null");
        let file = OpenOptions::new().append(true).open(&path)?;
        let state = State { file, torn: false, accounts: HashMap::new(), unreadable: 0 };
        Ok(Completed { path, state: Mutex::new(state), waiting: Mutex::default() })
    }

    /// The account of that (case-folded) address, if it is past its seal and was not reopened.
    pub fn get(&self, address: &str) -> Option<CompletedAccount> {
        self.state().accounts.get(address).cloned()
    }

    /// Complete lines that could not be read: somebody else's, or a damaged disk's.
    pub fn unreadable_lines(&self) -> usize {
        self.state().unreadable
    }

    /// Durable when it resolves. Replaces what was recorded of the same address. The disk is waited
    /// for beside the runtime: ten thousand accounts that complete at one instant share few syncs.
    /// Where it is dropped before, the account may be recorded all the same.
    pub async fn record(self: &Arc<Self>, account: CompletedAccount) -> io::Result<()> {
        let line = Line::of(&account, false)?;
        let (told, outcome) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(Waiting { account, line, told });
            waiting.len() == 1
        };
        if is_first {
            let this = self.clone();
            let write = move || this.write_waiting(&mut this.state());
            // A runtime of one thread has nobody who could go on meanwhile.
            match Handle::current().runtime_flavor() {
                RuntimeFlavor::CurrentThread => write(),
                _ => drop(tokio::task::spawn_blocking(write)),
            }
        }
        let outcome = outcome.await.unwrap_or_else(|_| Err(Arc::new(io::Error::other("panic"))));
        outcome.map_err(|error| io::Error::new(error.kind(), error.to_string()))
    }

    /// Who comes while it waits for the disk is the next one's.
    fn write_waiting(&self, state: &mut State) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = std::mem::take(&mut *waiting);
        drop(waiting);
        let lines: Vec<&Line> = batch.iter().map(|one| &one.line).collect();
        let outcome = if lines.is_empty() { Ok(()) } else { state.append(&lines) };
        let outcome = outcome.map_err(Arc::new);
        for Waiting { account, told, .. } in batch {
            if outcome.is_ok() {
                state.accounts.insert(account.address.clone(), account);
            }
            let _ = told.send(outcome.clone());
        }
    }

    /// The operator returned the account to following: durable on return.
    pub fn reopen(&self, address: &str) -> io::Result<()> {
        let mut state = self.state();
        if let Some(account) = state.accounts.get(address) {
            let line = Line::of(account, true)?;
            state.append(&[&line])?;
            state.accounts.remove(address);
        }
        Ok(())
    }

    /// Erases every line of the account.
    pub fn forget(&self, address: &str) -> io::Result<()> {
        let mut state = self.state();
        // Whoever gave up waiting for it does not come back after this.
        self.write_waiting(&mut state);
        let octets = fs::read(&self.path)?;
        let other =
            |line: &&[u8]| parse(line).is_none_or(|(account, _)| account.address != address);
        let kept: Vec<u8> = octets
            .split_inclusive(|octet| *octet == b'\n')
            .filter(other)
            .flatten()
            .copied()
            .collect();
        state.file = replace(&self.path, &kept)?;
        state.accounts.remove(address);
        Ok(())
    }

    /// A panic elsewhere leaves the map as good as the file.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&mut self, octets: &[u8]) {
        for line in octets.split_inclusive(|octet| *octet == b'\n') {
            match parse(line) {
                Some((account, true)) => drop(self.accounts.remove(&account.address)),
                Some((account, false)) => {
                    self.accounts.insert(account.address.clone(), account);
                }
                None => self.unreadable += usize::from(line.len() > 1 && line.ends_with(b"\n")),
            }
        }
    }

    fn append(&mut self, lines: &[&Line]) -> io::Result<()> {
        let mut octets = if self.torn { vec![b'\n'] } else { Vec::new() };
        for line in lines {
            serde_json::to_writer(&mut octets, line)?;
            octets.push(b'\n');
        }
        // Until it has succeeded, nobody knows where the file ends.
        self.torn = true;
        self.file.write_all(&octets)?;
        self.file.sync_data()?;
        self.torn = false;
        Ok(())
    }
}

/// A line as it stands in the file.
#[derive(Serialize, Deserialize)]
pub(super) struct Line {
    schema: u32,
    address: String,
    phase: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    reopened: bool,
    /// RFC 3339.
    sealed_at: Option<String>,
    completed_at: Option<String>,
    source: LinePlace,
    target: LinePlace,
}

#[derive(Serialize, Deserialize)]
struct LinePlace {
    host: String,
    user: String,
}

const SCHEMA: u32 = 1;
const PHASES: [Phase; 3] = [Phase::Archiving, Phase::Completed, Phase::Closed];

/// An account, and whether it was reopened; `None` for a line that is not ours to understand.
pub(super) fn parse(line: &[u8]) -> Option<(CompletedAccount, bool)> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let time = |text: Option<String>| match text {
        None => Some(None),
        Some(text) => text.parse().ok().map(|time: Timestamp| Some(time.as_second())),
    };
    let account = CompletedAccount {
        phase: phase_of(&line.phase)?,
        sealed_at: time(line.sealed_at)?,
        completed_at: time(line.completed_at)?,
        address: line.address,
        source: line.source.into(),
        target: line.target.into(),
    };
    (line.schema == SCHEMA).then_some((account, line.reopened))
}

fn phase_of(name: &str) -> Option<Phase> {
    PHASES.into_iter().find(|phase| phase.as_str() == name)
}

impl Line {
    /// An `InvalidInput` error for an account before its seal, or a time beyond the calendar.
    pub(super) fn of(account: &CompletedAccount, reopened: bool) -> io::Result<Line> {
        let refuse = |why: String| io::Error::new(ErrorKind::InvalidInput, why);
        let time = |second: Option<i64>| {
            let time = second.map(Timestamp::from_second).transpose();
            let time = time.map_err(|error| refuse(error.to_string()))?;
            io::Result::Ok(time.map(|time| time.to_string()))
        };
        if phase_of(account.phase.as_str()).is_none() {
            return Err(refuse(format!("{} is not past its seal", account.address)));
        }
        Ok(Line {
            schema: SCHEMA,
            address: account.address.clone(),
            phase: account.phase.as_str().into(),
            reopened,
            sealed_at: time(account.sealed_at)?,
            completed_at: time(account.completed_at)?,
            source: LinePlace::of(&account.source),
            target: LinePlace::of(&account.target),
        })
    }
}

impl LinePlace {
    fn of(place: &Place) -> LinePlace {
        LinePlace { host: place.host.clone(), user: place.user.clone() }
    }
}

impl From<LinePlace> for Place {
    fn from(place: LinePlace) -> Place {
        Place { host: place.host, user: place.user }
    }
}

/// Puts new contents in the file's place at once, durably; returns the file, to be appended to.
fn replace(path: &Path, octets: &[u8]) -> io::Result<File> {
    let new = path.with_extension("jsonl.tmp");
    let mut options = OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    OpenOptions::new().append(true).open(path)
}
