//! What systemd is told: the only file that says `sd_notify`.
//!
//! Its socket blocks while the service manager is busy, so a thread of its own writes to it.
//! Errors are ignored throughout: a service manager that does not listen is not ours to mend.

use std::sync::mpsc::{self, SyncSender};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The line of `systemctl status` changes at most this often.
const STATUS_EVERY: Duration = Duration::from_secs(3);
/// Messages that wait for a busy service manager. What is more is not said.
const QUEUE_MAX: usize = 64;

/// Tells systemd. Never waits.
pub struct Notifier {
    messages: Messages,
    said: String,
    said_at: Option<Instant>,
}

/// The way to the thread; cheap to clone.
#[derive(Clone)]
pub struct Messages(SyncSender<String>);

impl Notifier {
    pub fn new() -> Notifier {
        let (messages, inbox) = mpsc::sync_channel::<String>(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("notify".to_owned());
        let _ = thread.spawn(move || {
            while let Ok(message) = inbox.recv() {
                let _ = sd_notify::notify(&[NotifyState::Custom(&message)]);
            }
        });
        Notifier { messages: Messages(messages), said: String::new(), said_at: None }
    }

    pub fn messages(&self) -> Messages {
        self.messages.clone()
    }

    pub fn ready(&self) {
        self.messages.tell(&[NotifyState::Ready]);
    }

    /// systemd counts a reload as begun only with the time it began (v253 and later).
    pub fn reloading(&self) {
        let began = NotifyState::monotonic_usec_now().ok();
        let states: Vec<_> = [Some(NotifyState::Reloading), began].into_iter().flatten().collect();
        self.messages.tell(&states);
    }

    pub fn stopping(&self) {
        self.messages.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// Whether enough time has passed for another [`Notifier::status`].
    pub fn status_is_due(&self) -> bool {
        self.said_at.is_none_or(|at| at.elapsed() >= STATUS_EVERY)
    }

    /// The line of `systemctl status`, said where it is new.
    pub fn status(&mut self, line: &str) {
        self.said_at = Some(Instant::now());
        if line != self.said {
            line.clone_into(&mut self.said);
            self.messages.tell(&[NotifyState::Status(line)]);
        }
    }
}

impl Messages {
    pub fn feed_watchdog(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
        let _ = self.0.try_send(lines.join("\n"));
    }
}

/// How often the watchdog wants to be fed: a third of what systemd waits; `None` without one.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|usec| (usec / 3).max(Duration::from_millis(10)))
}
