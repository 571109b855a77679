//! One daemon a state directory.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Held as long as the daemon lives; the kernel lets go of it whatever the end.
///
/// The file `lock` shows who holds it. The directory itself is locked too, for a file may be
/// deleted and made anew while its lock is held.
pub(super) struct StateLock {
    _file: File,
    _dir: File,
}

impl StateLock {
    /// `None` where another process holds it.
    pub(super) fn take(state_dir: &Path) -> io::Result<Option<StateLock>> {
        let dir = File::open(state_dir)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let mut file = options.open(state_dir.join("lock"))?;
        // Not every file system locks directories; the file's lock decides there.
        let dir_is_ours = lock(&dir).unwrap_or(true);
        if !dir_is_ours || !lock(&file)? {
            return Ok(None);
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Some(StateLock { _file: file, _dir: dir }))
    }
}

fn lock(file: &File) -> io::Result<bool> {
    // SAFETY: flock takes no memory, and the descriptor is open as long as `file` is borrowed.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    match locked {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.kind() == ErrorKind::WouldBlock => Ok(false),
            error => Err(error),
        },
    }
}
