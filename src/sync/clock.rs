//! The wall clock, watched against the boot clock: after a jump it is suspect for a while.

use std::sync::Mutex;

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
    /// This reading found a jump of so many seconds.
    pub jumped: Option<i64>,
}

/// Compares readings; one per daemon.
#[derive(Debug, Default)]
pub struct Clock(Mutex<Watch>);

impl Clock {
    pub fn read(&self) -> Reading {
        let boot = boot_secs();
        let now = jiff::Timestamp::now().as_second();
        self.0.lock().expect("no panic while held").observe(now, boot)
    }

    /// Unix seconds, without a judgement.
    pub fn now(&self) -> i64 {
        self.read().now
    }
}

/// Seconds since boot, counted while suspended too; no one can set it.
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
}

impl Watch {
    fn observe(&mut self, now: i64, boot: i64) -> Reading {
        let offset = now - boot;
        let drift = offset - *self.offset.get_or_insert(offset);
        let jumped = (drift.abs() > JUMP_SECS).then_some(drift);
        if jumped.is_some() {
            self.suspect_until = boot + SUSPECT_SECS;
        }
        // Small steps (NTP) add up to no jump.
        self.offset = Some(offset);
        Reading { now, suspect: boot < self.suspect_until, jumped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_suspect_for_ten_minutes() {
        let mut watch = Watch::default();
        let mut check = |now, boot, suspect, jumped| {
            assert_eq!(watch.observe(now, boot), Reading { now, suspect, jumped });
        };
        check(1000, 0, false, None);
        check(1300, 100, false, None);
        check(90_000, 200, true, Some(88_600));
        check(90_599, 799, true, None);
        check(90_600, 800, false, None);
        check(2000, 900, true, Some(-88_700));
    }

    #[test]
    fn a_suspended_machine_has_not_jumped() {
        let mut watch = Watch::default();
        watch.observe(1000, 0);
        assert!(!watch.observe(100_000, 99_000).suspect);
    }
}
