//! What the process does to itself before anything else: no core dumps, private files, room for
//! connections, and panics that are told without showing what they must not.

use std::collections::HashMap;
use std::panic::PanicHookInfo;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::journal::{Entry, Event, Journal, shown};

/// Passwords and messages pass through this memory: no core dump, no ptrace by others. Files are
/// private unless made otherwise. Every account may need connections, so as many descriptors as
/// are allowed.
pub fn harden() {
    // SAFETY: plain system calls on integers and on a struct that lives through the call.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
        let mut files = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut files) == 0 {
            files.rlim_cur = files.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files);
        }
        libc::umask(0o077);
    }
}

/// Descriptors that were open when the process started are closed in programs it starts; what it
/// opens itself is so from its opening on.
pub fn close_on_exec() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > 2).collect::<Vec<i32>>() {
        // SAFETY: a system call on integers; a descriptor that was closed meanwhile is an error.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// The last panic of each tokio task that had one, until [`last_words`] takes it.
static PANICS: LazyLock<Mutex<HashMap<tokio::task::Id, String>>> = LazyLock::new(Mutex::default);

/// A panic in a task is kept for whoever joins the task: it may be caught inside (imap-proto
/// panics on hostile input), and a peer must not make the journal grow. A panic of any other
/// thread is an `internal_error` at once.
pub fn hook_panics(journal: Journal) {
    std::panic::set_hook(Box::new(move |panic| {
        let words = words_of(panic);
        match tokio::task::try_id() {
            Some(task) => {
                PANICS.lock().unwrap_or_else(PoisonError::into_inner).insert(task, words);
            }
            None => journal.emit(Entry::new(Event::InternalError, words).reason("internal_error")),
        }
    }));
}

/// What the task said when it panicked last. Call it for every task that ended, panicking or not.
pub fn last_words(task: tokio::task::Id) -> Option<String> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner).remove(&task)
}

fn words_of(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let literal = payload.downcast_ref::<&str>().copied();
    let message = literal.or(payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("panic");
    match panic.location() {
        Some(place) => format!("{}:{}: {}", place.file(), place.line(), shown(message)),
        None => shown(message),
    }
}
