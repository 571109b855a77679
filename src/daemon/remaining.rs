//! When the journal is told what remains of a cutover: when it begins, hourly on the day, daily
//! after it, and once when nothing does. Pure; the instants are those of the caller.

use std::time::{Duration, Instant};

const HOURLY: Duration = Duration::from_secs(3600);
const DAILY: Duration = Duration::from_secs(24 * 3600);

/// A migration while accounts of it cut over.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Remaining {
    underway: Option<Underway>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Underway {
    begun: Instant,
    told: Instant,
}

impl Remaining {
    /// Is it time to say that so many accounts remain? Ask again and again.
    pub fn is_due(&mut self, remaining: usize, now: Instant) -> bool {
        match (&mut self.underway, remaining) {
            (None, 0) => false,
            (None, _) => {
                self.underway = Some(Underway { begun: now, told: now });
                true
            }
            (Some(_), 0) => {
                self.underway = None;
                true
            }
            (Some(Underway { begun, told }), _) => {
                let every = if now.duration_since(*begun) <= DAILY { HOURLY } else { DAILY };
                let is_due = now.duration_since(*told) >= every;
                if is_due {
                    *told = now;
                }
                is_due
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_beginning_hourly_on_the_day_then_daily_and_once_at_the_end() {
        let begun = Instant::now();
        let mut remaining = Remaining::default();
        let mut told = Vec::new();
        for minute in 0..3 * 24 * 60 {
            let left = if (10..60 * 60).contains(&minute) { 7 } else { 0 };
            if remaining.is_due(left, begun + Duration::from_secs(minute * 60)) {
                told.push(minute);
            }
        }
        let hourly = (0..=24).map(|hour| 10 + hour * 60);
        let expected: Vec<u64> = hourly.chain([10 + 48 * 60, 60 * 60]).collect();
        assert_eq!(told, expected);
    }
}
