//! What systemd is told: the only file that says `sd_notify`.
//!
//! Errors are ignored throughout: a service manager that does not listen is not ours to mend.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The line of `systemctl status` changes at most this often.
const STATUS_EVERY: Duration = Duration::from_secs(3);

#[derive(Default)]
pub struct Notifier {
    said: String,
    said_at: Option<Instant>,
}

impl Notifier {
    pub fn ready(&self) {
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    }

    /// systemd counts a reload as begun only with the time it began (v253 and later).
    pub fn reloading(&self) {
        let began = NotifyState::monotonic_usec_now().ok();
        let states: Vec<_> = [Some(NotifyState::Reloading), began].into_iter().flatten().collect();
        let _ = sd_notify::notify(&states);
    }

    pub fn stopping(&self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
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
            let _ = sd_notify::notify(&[NotifyState::Status(line)]);
        }
    }
}

/// How often the watchdog wants to be fed: a third of what systemd waits; `None` without one.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|usec| (usec / 3).max(Duration::from_millis(10)))
}

pub fn feed_watchdog() {
    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
}
