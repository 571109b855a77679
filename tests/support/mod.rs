//! What the end-to-end tests share: real servers, odd mail, a comparator and the daemon.
//!
//! Nothing here uses the product's library: what judges it must not make its mistakes.

// Each test file is a crate of its own and uses its own part of this.
#![allow(dead_code)]

pub mod boxed;
pub mod compare;
pub mod daemon;
pub mod dovecot;
pub mod imap;
pub mod mail;
pub mod port;
pub mod server;
pub mod stage;
pub mod terminal;

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Polls `probe` until it gives something; `None` once `patience` is over.
pub fn poll<T>(patience: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Lets the process die with the thread that starts it, so that an interrupted test run leaves
/// no server behind, and gives it a process group of its own to be stopped as a whole.
pub fn tie_to_this_thread(command: &mut Command) -> &mut Command {
    tie_with(libc::SIGTERM, command)
}

/// The same by another signal.
pub fn tie_with(signal: i32, command: &mut Command) -> &mut Command {
    let die_with_parent = move || match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: prctl is async-signal-safe, and nothing else runs between fork and exec.
    unsafe { command.process_group(0).pre_exec(die_with_parent) }
}

/// Sends a signal to a whole process group; one that is gone already is fine.
pub fn signal_group(leader: u32, signal: i32) {
    // SAFETY: kill takes no pointers.
    unsafe { libc::kill(-(leader as i32), signal) };
}
