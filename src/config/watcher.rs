//! When to read conf.d again. The only file that knows of inotify.
//!
//! Level-triggered: what an event says does not matter, only that there was one; after 300 ms of
//! quiet everything is read and compared. Nothing depends on events alone: every 60 s it is read
//! anyway, and where inotify fails every 5 s.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::files::is_ignored;

/// A file that is still being written is not looked at.
const QUIET: Duration = Duration::from_millis(300);
/// But a directory that never comes to rest is.
const NOISE_MAX: Duration = Duration::from_secs(2);
const REREAD_EVERY: Duration = Duration::from_secs(60);
const REREAD_EVERY_WITHOUT_EVENTS: Duration = Duration::from_secs(5);
/// Reading thousands of files makes as many events, which can overflow the queue by themselves:
/// an overflow must not be answered by the next one at once.
const BETWEEN_OVERFLOWS: Duration = Duration::from_secs(10);

/// Watches a directory, those in it, and its parent, so that it may be replaced as a whole.
#[derive(Debug)]
pub struct Watcher {
    dir: PathBuf,
    news: Arc<News>,
    watches: Arc<Mutex<Watches>>,
    agenda: Agenda,
    failure: Option<String>,
    failure_told: bool,
}

/// When to read next. Pure: it is told the time.
#[derive(Debug)]
struct Agenda {
    /// Since when there is something to read, and the last sign of it.
    dirty: Option<(Instant, Instant)>,
    overflow_due: Option<Instant>,
    overflow_read: Option<Instant>,
    reread_due: Instant,
}

/// What the thread of inotify tells us.
#[derive(Debug, Default)]
struct News {
    arrived: Notify,
    event: AtomicBool,
    overflow: AtomicBool,
}

#[derive(Debug, Default)]
struct Watches {
    watcher: Option<RecommendedWatcher>,
    directories: Vec<Directory>,
}

/// A path and what was there when it was watched: a directory that is replaced keeps its path,
/// and the watch stays on the old one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Directory {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Watcher {
    /// Starts watching. Read the directory after this, and after each [`Watcher::changed`].
    pub async fn new(dir: PathBuf) -> Watcher {
        let dir = std::path::absolute(&dir).unwrap_or(dir);
        let mut watcher = Watcher {
            dir,
            news: Arc::default(),
            watches: Arc::default(),
            agenda: Agenda::new(Instant::now()),
            failure: None,
            failure_told: false,
        };
        watcher.arm().await;
        watcher
    }

    /// Returns when the directory should be read again. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        loop {
            let due = self.agenda.due();
            tokio::select! {
                () = self.news.arrived.notified() => self.note_news(),
                () = sleep_until(due) => break,
            }
        }
        self.agenda.begin_reading(Instant::now());
        self.arm().await;
    }

    /// Why inotify is not used, once.
    pub fn take_failure(&mut self) -> Option<String> {
        if self.failure_told {
            return None;
        }
        self.failure_told = self.failure.is_some();
        self.failure.clone()
    }

    fn note_news(&mut self) {
        let now = Instant::now();
        if self.news.event.swap(false, Ordering::AcqRel) {
            self.agenda.note_event(now);
        }
        if self.news.overflow.swap(false, Ordering::AcqRel) {
            self.agenda.note_overflow(now);
        }
    }

    /// Watches what is there now, before it is read: what changes afterwards makes an event.
    async fn arm(&mut self) {
        let (dir, news, watches) = (self.dir.clone(), self.news.clone(), self.watches.clone());
        let armed = tokio::task::spawn_blocking(move || {
            let mut watches = watches.lock().unwrap_or_else(PoisonError::into_inner);
            watches.renew(&dir, &news)
        });
        let armed = armed.await.unwrap_or_else(|panic| Err(panic.to_string()));
        self.failure = armed.err();
        let every = match self.failure {
            None => REREAD_EVERY,
            Some(_) => REREAD_EVERY_WITHOUT_EVENTS,
        };
        self.agenda.armed(Instant::now(), every);
    }
}

impl Agenda {
    fn new(now: Instant) -> Agenda {
        Agenda { dirty: None, overflow_due: None, overflow_read: None, reread_due: now }
    }

    fn due(&self) -> Instant {
        let quiet = self.dirty.map(|(first, last)| (last + QUIET).min(first + NOISE_MAX));
        let dues = [quiet, self.overflow_due, Some(self.reread_due)];
        dues.into_iter().flatten().min().expect("one is always there")
    }

    fn note_event(&mut self, now: Instant) {
        let first = self.dirty.map_or(now, |(first, _)| first);
        self.dirty = Some((first, now));
    }

    fn note_overflow(&mut self, now: Instant) {
        if self.overflow_due.is_none() {
            let earliest = self.overflow_read.map_or(now, |read| read + BETWEEN_OVERFLOWS);
            self.overflow_due = Some(earliest.max(now + QUIET));
        }
    }

    fn begin_reading(&mut self, now: Instant) {
        if self.overflow_due.is_some_and(|due| due <= now) {
            self.overflow_read = Some(now);
        }
    }

    /// What happened before the watches were looked at is about to be read.
    fn armed(&mut self, now: Instant, every: Duration) {
        self.reread_due = now + every;
        self.dirty = None;
        self.overflow_due = self.overflow_due.filter(|due| *due > now);
    }
}

impl Watches {
    fn renew(&mut self, dir: &Path, news: &Arc<News>) -> Result<(), String> {
        if self.watcher.is_some() && self.directories == directories(dir) {
            return Ok(());
        }
        // The old one watches until the new one does.
        let (watcher, directories) = watch(dir, news).map_err(|error| said(&error))?;
        *self = Watches { watcher: Some(watcher), directories };
        Ok(())
    }
}

fn watch(dir: &Path, news: &Arc<News>) -> notify::Result<(RecommendedWatcher, Vec<Directory>)> {
    let (own_dir, own_news) = (dir.to_owned(), news.clone());
    let mut watcher = notify::recommended_watcher(move |event| own_news.note(&own_dir, event))?;
    // Outside in: whatever appears while this goes on appears in a directory already watched.
    let mut watched = Vec::new();
    for outer in dir.parent().into_iter().chain([dir]) {
        if let Some(directory) = Directory::at(outer) {
            watcher.watch(outer, RecursiveMode::NonRecursive)?;
            watched.push(directory);
        }
    }
    for directory in inner_directories(dir) {
        match watcher.watch(&directory.path, RecursiveMode::NonRecursive) {
            Ok(()) => watched.push(directory),
            Err(error) if directory.has_vanished() => _ = error,
            Err(error) => return Err(error),
        }
    }
    if watched.is_empty() {
        return Err(notify::Error::path_not_found().add_path(dir.to_owned()));
    }
    watched.sort();
    Ok((watcher, watched))
}

/// The parent, the directory, and those in it that show.
fn directories(dir: &Path) -> Vec<Directory> {
    let outer = dir.parent().into_iter().chain([dir]).filter_map(Directory::at);
    let mut all: Vec<Directory> = outer.chain(inner_directories(dir)).collect();
    all.sort();
    all
}

fn inner_directories(dir: &Path) -> Vec<Directory> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let shown = entries.filter(|entry| !is_ignored(&entry.file_name().to_string_lossy()));
    // Of thousands of files only the links need a look at what they are.
    let maybe = shown.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_file()));
    maybe.filter_map(|entry| Directory::at(&entry.path())).collect()
}

impl Directory {
    fn at(path: &Path) -> Option<Directory> {
        let facts = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
        Some(Directory { path: path.to_owned(), device: facts.dev(), inode: facts.ino() })
    }

    fn has_vanished(&self) -> bool {
        Directory::at(&self.path).as_ref() != Some(self)
    }
}

fn said(error: &notify::Error) -> String {
    match error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "too many inotify watches: raise fs.inotify.max_user_watches".to_owned()
        }
        notify::ErrorKind::Io(ref io) if io.raw_os_error() == Some(libc::EMFILE) => {
            "too many inotify instances: raise fs.inotify.max_user_instances".to_owned()
        }
        _ => error.to_string(),
    }
}

impl News {
    /// Called on the thread of inotify.
    fn note(&self, dir: &Path, event: notify::Result<Event>) {
        match event {
            Ok(event) if event.need_rescan() => self.overflow.store(true, Ordering::Release),
            Ok(event) if concerns(dir, &event) => self.event.store(true, Ordering::Release),
            Ok(_) => return,
            Err(_) => self.overflow.store(true, Ordering::Release),
        }
        self.arrived.notify_one();
    }
}

/// Reading a file makes an event, too, and the parent's other children are none of ours.
fn concerns(dir: &Path, event: &Event) -> bool {
    let changes = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    };
    changes && event.paths.iter().any(|path| path.starts_with(dir) || dir.starts_with(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agenda that was armed at zero, and the instant of so many milliseconds.
    fn armed() -> (Agenda, impl Fn(u64) -> Instant) {
        let zero = Instant::now();
        let mut agenda = Agenda::new(zero);
        agenda.armed(zero, REREAD_EVERY);
        (agenda, move |millis| zero + Duration::from_millis(millis))
    }

    #[test]
    fn everything_is_read_again_every_minute() {
        let (agenda, at) = armed();
        assert_eq!(agenda.due(), at(60_000));
    }

    #[test]
    fn noise_is_waited_out_but_not_for_ever() {
        let (mut agenda, at) = armed();
        agenda.note_event(at(1_000));
        assert_eq!(agenda.due(), at(1_300));
        agenda.note_event(at(1_250));
        assert_eq!(agenda.due(), at(1_550));
        for millis in (1_300..2_900).step_by(100) {
            agenda.note_event(at(millis));
        }
        assert_eq!(agenda.due(), at(3_000));
        agenda.begin_reading(at(3_000));
        agenda.armed(at(3_000), REREAD_EVERY);
        assert_eq!(agenda.due(), at(63_000));
    }

    #[test]
    fn an_overflow_is_answered_but_not_by_the_next() {
        let (mut agenda, at) = armed();
        agenda.note_overflow(at(1_000));
        assert_eq!(agenda.due(), at(1_300));
        agenda.begin_reading(at(1_300));
        agenda.armed(at(1_300), REREAD_EVERY);
        agenda.note_overflow(at(1_400));
        agenda.note_overflow(at(1_500));
        assert_eq!(agenda.due(), at(11_300));
    }

    #[test]
    fn what_concerns_us() {
        #[track_caller]
        fn check(kind: EventKind, path: &str, expected: bool) {
            let event = Event::new(kind).add_path(path.into());
            assert_eq!(concerns(Path::new("/etc/p/conf.d"), &event), expected, "{event:?}");
        }
        let change = EventKind::Modify(notify::event::ModifyKind::Any);
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let read = EventKind::Access(AccessKind::Close(AccessMode::Read));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        check(change, "/etc/p/conf.d/a.toml", true);
        check(change, "/etc/p/conf.d/team/a.toml", true);
        check(change, "/etc/p/conf.d", true);
        check(change, "/etc/p", true);
        check(change, "/etc/p/pecsync.toml", false);
        check(change, "/etc/p/conf.d.old", false);
        check(opened, "/etc/p/conf.d/a.toml", false);
        check(read, "/etc/p/conf.d/a.toml", false);
        check(written, "/etc/p/conf.d/a.toml", true);
    }
}
