//! Every event, declared once; journald, stderr and JSON writers behind one bounded channel.
//!
//! [`Journal::emit`] never waits: a stalled journald never stalls a copy. What does not fit in
//! the channel is counted, and the count is an entry of its own as soon as it can be written.

mod entry;
mod event;
mod shown;
mod writers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

pub use entry::Entry;
pub use event::Event;
pub use shown::{shown, shown_json, shown_octets};
pub use writers::Output;
use writers::Writer;

/// Entries that may wait for a slow writer. An entry is a few hundred octets.
const QUEUE_MAX: usize = 8192;

/// Where entries go. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
    listener: Arc<OnceLock<Listener>>,
}

/// Somebody who hears of some events besides.
struct Listener {
    events: &'static [Event],
    entries: SyncSender<(Entry, Timestamp)>,
    missed: Arc<AtomicU64>,
}

/// What a listener hears.
pub struct Heard {
    pub entries: Receiver<(Entry, Timestamp)>,
    /// Entries for which there was no room.
    pub missed: Arc<AtomicU64>,
}

enum Inner {
    Queue { letters: SyncSender<Letter>, dropped: Arc<AtomicU64> },
    Recorder(Mutex<Vec<Entry>>),
}

enum Letter {
    Entry(Box<Entry>, Timestamp),
    /// Everything before it has been written when the sender hears of it.
    Flush(SyncSender<()>),
}

impl Journal {
    /// Starts the thread that writes. Falls back to lines on stderr where journald is absent.
    pub fn new(output: Output) -> Journal {
        Journal::with_queue(QUEUE_MAX, move || {
            let writer = Writer::open(output);
            move |entry: &Entry, time| writer.write(entry, time)
        })
    }

    /// Keeps entries in memory, for tests: see [`Journal::recorded`].
    pub fn recording() -> Journal {
        Journal::of(Inner::Recorder(Mutex::default()))
    }

    fn of(inner: Inner) -> Journal {
        Journal { inner: Arc::new(inner), listener: Arc::default() }
    }

    /// Hears of these events from now on, besides the journal: at most `room` wait. There is one
    /// listener; a second one hears nothing.
    pub fn listen(&self, events: &'static [Event], room: usize) -> Heard {
        let (entries, heard) = mpsc::sync_channel(room);
        let missed = Arc::new(AtomicU64::new(0));
        let _ = self.listener.set(Listener { events, entries, missed: missed.clone() });
        Heard { entries: heard, missed }
    }

    /// Queues an entry; counts it as dropped where the queue is full.
    pub fn emit(&self, entry: Entry) {
        if let Some(listener) = self.listener.get()
            && listener.events.contains(&entry.event)
        {
            let heard = listener.entries.try_send((entry.clone(), Timestamp::now()));
            if let Err(TrySendError::Full(_)) = heard {
                listener.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
        match &*self.inner {
            Inner::Recorder(entries) => {
                entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
            }
            Inner::Queue { letters, dropped } => {
                let letter = Letter::Entry(Box::new(entry), Timestamp::now());
                if letters.try_send(letter).is_err() {
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// What a [`Journal::recording`] has got so far.
    pub fn recorded(&self) -> Vec<Entry> {
        match &*self.inner {
            Inner::Recorder(entries) => {
                entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
            Inner::Queue { .. } => Vec::new(),
        }
    }

    /// Blocks until everything emitted before is written, at most `patience`. Says whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let Inner::Queue { letters, .. } = &*self.inner else { return true };
        let deadline = Instant::now() + patience;
        let (written, heard) = mpsc::sync_channel(1);
        loop {
            match letters.try_send(Letter::Flush(written.clone())) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(_)) if Instant::now() >= deadline => return false,
                Err(TrySendError::Full(_)) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        let patience = deadline.saturating_duration_since(Instant::now());
        heard.recv_timeout(patience).is_ok()
    }

    /// `open` makes the writer on the thread that will use it.
    fn with_queue<W>(queue_max: usize, open: impl FnOnce() -> W + Send + 'static) -> Journal
    where
        W: FnMut(&Entry, Timestamp) -> std::io::Result<()>,
    {
        let (letters, inbox) = mpsc::sync_channel(queue_max);
        let dropped = Arc::new(AtomicU64::new(0));
        let inner = Inner::Queue { letters, dropped: dropped.clone() };
        let thread = std::thread::Builder::new().name("journal".to_owned());
        // Without its thread the journal counts everything as dropped: a daemon that cannot
        // start a thread will fail soon, and for a reason that it can say.
        let _ = thread.spawn(move || write_all(&inbox, &dropped, open()));
        Journal::of(inner)
    }
}

/// The life of the journal's thread.
fn write_all(
    inbox: &Receiver<Letter>,
    dropped: &AtomicU64,
    mut write: impl FnMut(&Entry, Timestamp) -> std::io::Result<()>,
) {
    while let Ok(letter) = inbox.recv() {
        let mut next = Some(letter);
        while let Some(letter) = next {
            match letter {
                Letter::Entry(entry, time) => {
                    if write(&entry, time).is_err() {
                        dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Letter::Flush(written) => {
                    say_dropped(dropped, &mut write);
                    let _ = written.try_send(());
                }
            }
            next = inbox.try_recv().ok();
        }
        // Only now that the queue is empty: in the middle of a flood it would be another drop.
        say_dropped(dropped, &mut write);
    }
}

fn say_dropped(
    dropped: &AtomicU64,
    write: &mut impl FnMut(&Entry, Timestamp) -> std::io::Result<()>,
) {
    let count = dropped.swap(0, Ordering::Relaxed);
    if count == 0 {
        return;
    }
    let text = format!("{count} journal entries could not be written and are lost");
    if write(&Entry::new(Event::EntriesDropped, text), Timestamp::now()).is_err() {
        dropped.fetch_add(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry {
        Entry::new(Event::CopyProgress, text)
    }

    #[test]
    fn a_stalled_writer_stalls_nobody_and_drops_are_said_once() {
        let (go, gate) = mpsc::sync_channel::<()>(0);
        let (sink, seen) = mpsc::channel();
        let journal = Journal::with_queue(4, move || {
            let mut gate = Some(gate);
            move |entry: &Entry, _| {
                if let Some(gate) = gate.take() {
                    let _ = gate.recv();
                }
                let _ = sink.send(entry.clone());
                Ok(())
            }
        });
        let begun = Instant::now();
        for _ in 0..100 {
            journal.emit(entry("x"));
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(!journal.flush(Duration::from_millis(20)), "it is stalled");
        go.send(()).unwrap();
        assert!(journal.flush(Duration::from_secs(10)));
        let seen: Vec<Entry> = seen.try_iter().collect();
        let said: Vec<&str> = seen
            .iter()
            .filter(|entry| entry.event == Event::EntriesDropped)
            .map(|entry| entry.message.as_str())
            .collect();
        let written = seen.len() - said.len();
        // One is in the writer's hands where it was quick to take it, four in the queue.
        assert!(written == 4 || written == 5, "{written}");
        let lost = 100 - written;
        assert_eq!(said, [format!("{lost} journal entries could not be written and are lost")]);
    }

    #[test]
    fn an_error_of_the_writer_counts_as_a_drop_until_it_can_be_said() {
        let (sink, seen) = mpsc::channel();
        let mut failing = 3;
        let journal = Journal::with_queue(16, move || {
            move |entry: &Entry, _| {
                if failing > 0 {
                    failing -= 1;
                    return Err(std::io::ErrorKind::ConnectionRefused.into());
                }
                let _ = sink.send(entry.message.clone());
                Ok(())
            }
        });
        for _ in 0..3 {
            journal.emit(entry("lost"));
            assert!(journal.flush(Duration::from_secs(10)));
        }
        journal.emit(entry("written"));
        assert!(journal.flush(Duration::from_secs(10)));
        let seen: Vec<String> = seen.try_iter().collect();
        assert!(seen.contains(&"written".to_owned()));
        assert!(seen.iter().any(|text| text.contains("lost")));
    }

    #[test]
    fn a_recorder_keeps_entries_in_order() {
        let journal = Journal::recording();
        journal.emit(entry("a"));
        journal.clone().emit(entry("b"));
        let texts: Vec<String> =
            journal.recorded().into_iter().map(|entry| entry.message).collect();
        assert_eq!(texts, ["a", "b"]);
    }
}
