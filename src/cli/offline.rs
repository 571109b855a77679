//! Without a daemon: its state, opened by the command itself, and its configuration.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::{Completed, Image, OpenError, Store};
use crate::config::{self, Enrollment, Problem, Settings, Snapshot};
use crate::daemon::decrees::Decrees;
use crate::daemon::protocol::exit;
use crate::journal::{Journal, Output, shown};
use crate::sync::account::Shared;

/// Why something cannot be done: an exit code, and what to say.
pub type Refusal = (u8, String);

/// The checkpoint that a daemon left behind. Until it is dropped no daemon can start.
pub fn open_store(state_dir: &Path) -> Result<Store, Refusal> {
    become_owner(state_dir)
        .map_err(|error| (exit::NO, format!("{}: {error}", state_dir.display())))?;
    store(state_dir)
}

/// [`open_store`] for who is its owner already.
pub fn store(state_dir: &Path) -> Result<Store, Refusal> {
    Store::open_existing(state_dir).map_err(|error| match error {
        OpenError::Locked(_) => (exit::UNAVAILABLE, error.to_string()),
        OpenError::Failed(_) => (exit::NO, error.to_string()),
    })
}

/// What root opens may leave files behind that the daemon's user cannot open. So root becomes that
/// user: nothing else is to be done after it.
fn become_owner(state_dir: &Path) -> std::io::Result<()> {
    let owner = state_dir.metadata()?;
    // SAFETY: plain system calls; setgroups is given no memory.
    let done = unsafe {
        if libc::geteuid() != 0 || owner.uid() == 0 {
            return Ok(());
        }
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setgid(owner.gid()) == 0
            && libc::setuid(owner.uid()) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// What accounts share, for who looks at them where no daemon does. Where none has worked yet,
/// nothing is known, and nothing is made. Call it within a runtime.
pub fn shared(state_dir: &Path, settings: &Settings) -> Result<Shared, Refusal> {
    if !state_dir.join("checkpoint").exists() {
        return knowing_nothing(settings);
    }
    let store = open_store(state_dir)?;
    let completed = Completed::open(state_dir).map_err(|error| (exit::NO, error.to_string()))?;
    Ok(Shared::new(store, completed, Journal::new(Output::Lines), &settings.limits))
}

/// [`shared`] for who needs none of what is known. Call it within a runtime.
pub fn knowing_nothing(settings: &Settings) -> Result<Shared, Refusal> {
    let failed = |error: std::io::Error| (exit::NO, error.to_string());
    let store = Store::in_memory(&Image::default()).map_err(failed)?;
    let completed = Completed::of_nobody().map_err(failed)?;
    Ok(Shared::new(store, completed, Journal::new(Output::Lines), &settings.limits))
}

/// Does something as the owner of the state, where root asks for it, and is root again. All of the
/// process is the owner meanwhile: no other thread may rely on being root.
pub fn as_owner<T>(state_dir: &Path, work: impl FnOnce() -> T) -> std::io::Result<T> {
    let owner = state_dir.metadata()?;
    // SAFETY: plain system calls on integers.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    if uid != 0 || owner.uid() == 0 {
        return Ok(work());
    }
    // SAFETY: as above.
    let became = unsafe { libc::setegid(owner.gid()) == 0 && libc::seteuid(owner.uid()) == 0 };
    let done = if became { Ok(work()) } else { Err(std::io::Error::last_os_error()) };
    // SAFETY: as above.
    let is_back = unsafe { libc::seteuid(uid) == 0 && libc::setegid(gid) == 0 };
    if is_back { done } else { Err(std::io::Error::last_os_error()) }
}

/// Settings and conf.d, as the daemon would read them.
pub struct Enrolled {
    pub settings: Settings,
    /// By address, with what operators decided.
    pub accounts: BTreeMap<String, Arc<Enrollment>>,
    snapshot: Snapshot,
}

impl Enrolled {
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.snapshot.problems()
    }

    /// Why that account is not among them.
    pub fn why_not(&self, address: &str) -> Refusal {
        let rejected = self.snapshot.rejected().find(|file| file.address == Some(address));
        let problem = rejected.and_then(|file| file.problems.0.first().or(file.problems.1.first()));
        let why = problem.map_or_else(|| "no such account".to_owned(), Problem::to_string);
        (exit::NO, format!("{}: {}", shown(address), shown(&why)))
    }
}

/// Call it before [`open_store`]: files may be root's only.
pub fn read_enrollments(config: &Path) -> Result<Enrolled, Refusal> {
    let (settings, _) = config::load(config).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        (exit::CONFIGURATION, lines.join("\npecsync: "))
    })?;
    let files = config::read_dir_files(&settings.daemon.conf_dir);
    let nobody: BTreeMap<String, PathBuf> = BTreeMap::new();
    let (snapshot, _) = config::reconcile(&Snapshot::default(), files, &settings, &nobody);
    let state_dir = &settings.daemon.state_dir;
    let decrees = Decrees::load(state_dir)
        .map_err(|error| (exit::NO, format!("{}: {error}", Decrees::file(state_dir).display())))?;
    let applied =
        |enrollment: &Arc<Enrollment>| (enrollment.address.clone(), decrees.applied(enrollment));
    let accounts = snapshot.active().values().map(applied).collect();
    Ok(Enrolled { settings, accounts, snapshot })
}
