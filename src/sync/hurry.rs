//! How often news may cost a pass that finds nothing.
//!
//! A server may tell the same again each time it is asked, at the speed of the line.

use std::time::Duration;

use super::clock::Instant;

/// So many passes in vain may follow one another at once …
const AT_ONCE: u32 = 20;
/// … and then one in so long.
const ONE_IN: Duration = Duration::from_secs(5);

/// Passes that news may still ask for.
#[derive(Clone, Copy, Debug)]
pub struct Hurry {
    left: u32,
    /// What is left was counted then.
    counted_at: Option<Instant>,
}

impl Default for Hurry {
    fn default() -> Hurry {
        Hurry { left: AT_ONCE, counted_at: None }
    }
}

impl Hurry {
    /// News has led to a pass; it was in vain if nothing was copied.
    pub fn spend(&mut self, in_vain: bool, now: Instant) {
        self.earn(now);
        if in_vain {
            self.left = self.left.saturating_sub(1);
        }
    }

    /// How long news is not listened to.
    pub fn deaf_for(mut self, now: Instant) -> Duration {
        self.earn(now);
        let counted_at = self.counted_at.unwrap_or(now);
        match self.left {
            0 => (counted_at + ONE_IN).saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    }

    fn earn(&mut self, now: Instant) {
        let counted_at = *self.counted_at.get_or_insert(now);
        let earned = now.saturating_duration_since(counted_at).as_secs() / ONE_IN.as_secs();
        let earned = u32::try_from(earned).unwrap_or(AT_ONCE).min(AT_ONCE);
        if earned > 0 {
            self.left = (self.left + earned).min(AT_ONCE);
            self.counted_at = Some(counted_at + ONE_IN * earned);
        }
        if self.left == AT_ONCE {
            self.counted_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_in_vain_is_heard_at_once_a_few_times_and_then_at_a_pace() {
        let begun = Instant::now();
        let mut hurry = Hurry::default();
        for _ in 0..AT_ONCE {
            assert_eq!(hurry.deaf_for(begun), Duration::ZERO);
            hurry.spend(true, begun);
        }
        assert_eq!(hurry.deaf_for(begun), ONE_IN);
        assert_eq!(hurry.deaf_for(begun + ONE_IN / 5), ONE_IN / 5 * 4);
        assert_eq!(hurry.deaf_for(begun + ONE_IN), Duration::ZERO);
        hurry.spend(true, begun + ONE_IN);
        assert_eq!(hurry.deaf_for(begun + ONE_IN), ONE_IN);
    }

    #[test]
    fn news_that_brings_mail_costs_nothing() {
        let now = Instant::now();
        let mut hurry = Hurry::default();
        (0..10 * AT_ONCE).for_each(|_| hurry.spend(false, now));
        assert_eq!(hurry.deaf_for(now), Duration::ZERO);
    }

    #[test]
    fn after_a_while_in_peace_all_is_forgiven() {
        let begun = Instant::now();
        let mut hurry = Hurry::default();
        (0..AT_ONCE).for_each(|_| hurry.spend(true, begun));
        let later = begun + ONE_IN * 1000;
        for _ in 0..AT_ONCE {
            assert_eq!(hurry.deaf_for(later), Duration::ZERO);
            hurry.spend(true, later);
        }
        assert_eq!(hurry.deaf_for(later), ONE_IN);
    }
}
