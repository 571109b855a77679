//! Opens `<state>/checkpoint`, or moves it aside and begins a new one: the servers can re-derive
//! everything that was in it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::disk::{Disk, Refusal};
use super::encoding::{decode, encode};
use super::keys;
use super::lock::StateLock;
use super::store::OpenError;
use super::sums;
use super::witness::Witness;

/// Of the store as a whole: 2 since its records are summed up.
const FORMAT: u64 = 2;
const LOCK_WAIT: Duration = Duration::from_secs(3);

/// An open store and the lock on its state directory.
pub(super) struct Opened {
    pub(super) disk: Disk,
    pub(super) lock: StateLock,
    pub(super) witness: Witness,
    /// Where the one before it went.
    pub(super) moved_aside: Option<PathBuf>,
}

/// What becomes of a store that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Damage {
    /// It is moved aside and a new one begun.
    Replace,
    /// It stays as it is.
    Refuse,
}

pub(super) fn open(state_dir: &Path, damage: Damage) -> Result<Opened, OpenError> {
    make_private_dir(state_dir).map_err(|error| failed(state_dir, &error))?;
    let lock = StateLock::take(state_dir).map_err(|error| failed(state_dir, &error))?;
    let Some(lock) = lock else {
        return Err(OpenError::Locked(state_dir.display().to_string()));
    };
    let dir = state_dir.join("checkpoint");
    let opened = match open_or_mend(&dir) {
        Err(Refusal::Damaged(_)) if damage == Damage::Replace => {
            replace(state_dir, &dir).map(|(whole, to)| (whole, Some(to)))
        }
        opened => opened.map(|whole| (whole, None)),
    };
    let ((disk, witness), moved_aside) = opened.map_err(|refusal| open_error(&dir, refusal))?;
    secure(&dir).map_err(|error| failed(&dir, &error))?;
    sync_dirs([&dir, state_dir]).map_err(|error| failed(&dir, &error))?;
    Ok(Opened { disk, lock, witness, moved_aside })
}

/// A torn snapshot makes sled refuse to open, although it holds nothing that the log does not.
fn open_or_mend(dir: &Path) -> Result<Whole, Refusal> {
    make_private_dir(dir).map_err(Refusal::Failed)?;
    match open_whole(dir) {
        Err(Refusal::Damaged(damage)) => {
            if set_snapshots_aside(dir).map_err(Refusal::Failed)? == 0 {
                return Err(Refusal::Damaged(damage));
            }
            open_whole(dir)
        }
        opened => opened,
    }
}

type Whole = (Disk, Witness);

/// sled opens stores whose pages are damaged, and takes a log whose end, or the head of one of its
/// segments, is missing for one that was never written. So everything but the links is read and
/// summed up once, and the witness is asked. Links are summed up when they are read; damaged ones
/// are an error of their account.
fn open_whole(dir: &Path) -> Result<Whole, Refusal> {
    let disk = open_patiently(dir)?;
    check_format(&disk).map_err(of_reading)?;
    sums::check_total(&disk).map_err(of_reading)?;
    let witness = Witness::open(dir, &disk).map_err(of_reading)?;
    Ok((disk, witness))
}

/// Opens a store again whose writes failed, behind the same handle. It is not replaced while
/// accounts are at work: that is for the next start. Where it cannot be had whole it stays closed.
/// A disk without room tears the snapshot that sled writes as it opens.
pub(super) fn open_again(disk: &Disk) -> Result<Witness, Refusal> {
    disk.close();
    let (opened, witness) = open_or_mend(disk.dir())?;
    disk.take_over(opened);
    Ok(witness)
}

/// sled may let go of its own lock only a moment after it was closed, by this very process; the
/// state directory is ours, so there is nobody else to wait for.
fn open_patiently(dir: &Path) -> Result<Disk, Refusal> {
    let begun = Instant::now();
    loop {
        match Disk::open(dir) {
            Err(Refusal::Locked) if begun.elapsed() < LOCK_WAIT => {
                thread::sleep(Duration::from_millis(20));
            }
            opened => return opened,
        }
    }
}

fn of_reading(error: io::Error) -> Refusal {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::NotFound | ErrorKind::UnexpectedEof => {
            Refusal::Damaged(error.to_string())
        }
        _ => Refusal::Failed(error),
    }
}

/// Gives sled's snapshots a name it does not look at, and keeps no older ones; says how many there
/// were.
fn set_snapshots_aside(dir: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in dir.read_dir()? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with("unreadable-snap.") {
            fs::remove_file(dir.join(&name))?;
        } else if name.to_string_lossy().starts_with("snap.") {
            let mut aside = std::ffi::OsString::from("unreadable-");
            aside.push(&name);
            fs::rename(dir.join(&name), dir.join(aside))?;
            count += 1;
        }
    }
    Ok(count)
}

/// Moves the damaged store away and begins a new one. If that cannot be, the old one goes back:
/// the disk is at fault.
fn replace(state_dir: &Path, dir: &Path) -> Result<(Whole, PathBuf), Refusal> {
    let aside = free_name(state_dir);
    fs::rename(dir, &aside).map_err(Refusal::Failed)?;
    let begun = make_private_dir(dir).map_err(Refusal::Failed).and_then(|()| open_whole(dir));
    if begun.is_err() {
        // Best effort: what matters is the error at hand.
        let _ = fs::remove_dir_all(dir).and_then(|()| fs::rename(&aside, dir));
    }
    begun.map(|whole| (whole, aside))
}

fn free_name(state_dir: &Path) -> PathBuf {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let name = |n: u32| match n {
        1 => state_dir.join(format!("checkpoint.unreadable-{now}")),
        n => state_dir.join(format!("checkpoint.unreadable-{now}-{n}")),
    };
    let mut names = (1..).map(name);
    names.find(|name| !name.exists()).unwrap_or_else(|| name(u32::MAX))
}

/// A store written by another pecsync is in order, only not for us.
fn check_format(disk: &Disk) -> io::Result<()> {
    match disk.get(keys::FORMAT)? {
        None => disk.put(keys::FORMAT, encode(&FORMAT)).and_then(|()| disk.sync()),
        Some(value) if decode::<u64>(&value).is_ok_and(|format| format == FORMAT) => Ok(()),
        Some(_) => Err(io::Error::new(
            ErrorKind::Unsupported,
            "the checkpoint was written by another version of pecsync; run that one, or move the \
             directory away to have it rebuilt from the servers",
        )),
    }
}

/// As systemd's StateDirectory makes it: nobody else's to read.
fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// sled makes its files as the umask has it.
fn secure(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in dir.read_dir()? {
        let entry = entry?;
        let mode = if entry.file_type()?.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// The names of new files and directories are durable too.
fn sync_dirs(dirs: [&Path; 2]) -> io::Result<()> {
    dirs.into_iter().try_for_each(|dir| File::open(dir)?.sync_all())
}

fn open_error(dir: &Path, refusal: Refusal) -> OpenError {
    match refusal {
        Refusal::Locked => OpenError::Locked(dir.display().to_string()),
        Refusal::Damaged(damage) => OpenError::Failed(format!("{}: {damage}", dir.display())),
        Refusal::Failed(error) => failed(dir, &error),
    }
}

fn failed(path: &Path, error: &io::Error) -> OpenError {
    OpenError::Failed(format!("{}: {error}", path.display()))
}
