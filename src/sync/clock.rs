//! The wall clock, watched against the boot clock: after a jump it is suspect for a while.

use std::fmt;
use std::sync::Mutex;

use crate::journal::{Entry, Event};

/// Spans are measured by the runtime's clock, which a simulation may pause.
pub use tokio::time::Instant;

/// A jump of more than this many seconds makes the wall clock suspect …
const JUMP_SECS: i64 = 300;
/// … for this long.
const SUSPECT_SECS: i64 = 600;

/// What the clocks say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Unix seconds.
    pub now: i64,
    pub suspect: bool,
}

/// Where the hands of both clocks stand, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hands {
    /// Unix time, as anybody may have set it.
    pub wall: i64,
    /// Since boot, counted while suspended too; no one can set it.
    pub boot: i64,
}

/// Compares readings; one per daemon.
pub struct Clock {
    hands: Box<dyn Fn() -> Hands + Send + Sync>,
    watch: Mutex<Watch>,
}

impl Default for Clock {
    /// The system's clocks.
    fn default() -> Clock {
        let wall = || jiff::Timestamp::now().as_second();
        Clock::of(move || Hands { wall: wall(), boot: boot_secs() })
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("watch", &self.watch).finish_non_exhaustive()
    }
}

impl Clock {
    /// Other clocks than the system's, for simulations.
    pub fn of(hands: impl Fn() -> Hands + Send + Sync + 'static) -> Clock {
        Clock { hands: Box::new(hands), watch: Mutex::default() }
    }

    pub fn read(&self) -> Reading {
        let Hands { wall, boot } = (self.hands)();
        self.watch.lock().expect("no panic while held").observe(wall, boot)
    }

    /// The jump, in seconds, that some reading found and nobody has told of. Whoever takes it tells.
    pub fn take_jump(&self) -> Option<i64> {
        self.watch.lock().expect("no panic while held").untold.take()
    }

    /// Unix seconds, without a judgement.
    pub fn now(&self) -> i64 {
        self.read().now
    }
}

/// What the journal is told of a jump.
pub fn clock_suspect(jumped: i64) -> Entry {
    let text = format!("the wall clock jumped by {jumped} s; it is believed in ten minutes");
    Entry::new(Event::ClockSuspect, text).reason("clock_suspect")
}

fn boot_secs() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing; CLOCK_BOOTTIME exists on every Linux we run on, and on
    // an error the zero stays, which makes no jump.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    time.tv_sec
}

#[derive(Debug, Default)]
struct Watch {
    offset: Option<i64>,
    suspect_until: i64,
    untold: Option<i64>,
}

impl Watch {
    fn observe(&mut self, now: i64, boot: i64) -> Reading {
        let offset = now - boot;
        let drift = offset - *self.offset.get_or_insert(offset);
        if drift.abs() > JUMP_SECS {
            self.suspect_until = boot + SUSPECT_SECS;
            self.untold = Some(drift);
        }
        // Small steps (NTP) add up to no jump.
        self.offset = Some(offset);
        Reading { now, suspect: boot < self.suspect_until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_suspect_for_ten_minutes() {
        let mut watch = Watch::default();
        let mut check = |now, boot, suspect, jumped| {
            assert_eq!(watch.observe(now, boot), Reading { now, suspect });
            assert_eq!(watch.untold.take(), jumped);
        };
        check(1000, 0, false, None);
        check(1300, 100, false, None);
        check(90_000, 200, true, Some(88_600));
        check(90_599, 799, true, None);
        check(90_600, 800, false, None);
        check(2000, 900, true, Some(-88_700));
    }

    #[test]
    fn a_jump_is_told_once_whoever_noticed_it() {
        let hands = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(1000));
        let wall = hands.clone();
        let clock = Clock::of(move || Hands {
            wall: wall.load(std::sync::atomic::Ordering::Relaxed),
            boot: 0,
        });
        assert_eq!((clock.now(), clock.take_jump()), (1000, None));
        hands.store(9000, std::sync::atomic::Ordering::Relaxed);
        assert_eq!((clock.now(), clock.now()), (9000, 9000));
        assert_eq!((clock.take_jump(), clock.take_jump()), (Some(8000), None));
    }

    #[test]
    fn a_suspended_machine_has_not_jumped() {
        let mut watch = Watch::default();
        watch.observe(1000, 0);
        assert!(!watch.observe(100_000, 99_000).suspect);
    }
}
