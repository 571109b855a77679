//! How fast message bodies flow, over all accounts: what `[limits] schedule` allows at this hour.
//!
//! Each piece of a body asks before it goes on, and pieces go in the order in which they asked: so
//! whoever copies gets the same share. Nothing else waits here, neither IDLE nor a command.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

use super::clock::Instant;

/// What was used is measured over spans of this length.
const MEASURED_OVER: Duration = Duration::from_secs(5);

/// One for all accounts.
#[derive(Debug)]
pub struct Throttle {
    bucket: Mutex<Bucket>,
    meter: Mutex<Meter>,
    changed: Notify,
}

/// Octets a second: what is allowed, and what was used lately.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Rates {
    /// `None`: as much as there is.
    pub limit: Option<u64>,
    pub used: u64,
}

impl Default for Throttle {
    fn default() -> Throttle {
        let now = Instant::now();
        Throttle {
            bucket: Mutex::new(Bucket { limit: None, paid_until: now }),
            meter: Mutex::new(Meter { since: now, octets: 0, used: 0 }),
            changed: Notify::new(),
        }
    }
}

impl Throttle {
    /// Waits until so many octets may flow. Safe to cancel.
    pub async fn pass(&self, octets: usize) {
        let octets = octets as u64;
        loop {
            // Asked for before the limit is read: a change in between is not missed.
            let changed = self.changed.notified();
            let wait = self.bucket().reserve(octets, Instant::now());
            if wait.is_zero() {
                break;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(wait) => break,
                // With another limit all debts are forgotten.
                () = changed => {}
            }
        }
        self.meter.lock().expect("no panic while held").octets += octets;
    }

    /// The limit from now on, in octets a second; those who wait are reckoned anew.
    pub fn set_limit(&self, limit: Option<u64>) {
        let mut bucket = self.bucket();
        if bucket.limit != limit {
            *bucket = Bucket { limit, paid_until: Instant::now() };
            drop(bucket);
            self.changed.notify_waiters();
        }
    }

    /// What is allowed and what was used lately. Measured when it is asked for: ask often.
    pub fn rates(&self) -> Rates {
        let used = self.meter.lock().expect("no panic while held").read(Instant::now());
        Rates { limit: self.bucket().limit, used }
    }

    fn bucket(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.bucket.lock().expect("no panic while held")
    }
}

#[derive(Debug)]
struct Bucket {
    limit: Option<u64>,
    /// When everything that was let go has had its time.
    paid_until: Instant,
}

impl Bucket {
    /// How long to wait: until those before have had their time.
    fn reserve(&mut self, octets: u64, now: Instant) -> Duration {
        let Some(limit) = self.limit else { return Duration::ZERO };
        let from = self.paid_until.max(now);
        self.paid_until = from + Duration::from_secs_f64(octets as f64 / limit.max(1) as f64);
        from - now
    }
}

#[derive(Debug)]
struct Meter {
    since: Instant,
    octets: u64,
    used: u64,
}

impl Meter {
    fn read(&mut self, now: Instant) -> u64 {
        let span = now.saturating_duration_since(self.since);
        if span >= MEASURED_OVER {
            self.used = (self.octets as f64 / span.as_secs_f64()) as u64;
            (self.since, self.octets) = (now, 0);
        }
        self.used
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// How long these pieces take, each sender's in turn, by a clock that stands still meanwhile.
    async fn flow(
        throttle: &Arc<Throttle>,
        senders: usize,
        pieces: usize,
        octets: usize,
    ) -> Vec<f64> {
        let begun = Instant::now();
        let sending = (0..senders).map(|_| {
            let throttle = throttle.clone();
            tokio::spawn(async move {
                for _ in 0..pieces {
                    throttle.pass(octets).await;
                }
                begun.elapsed().as_secs_f64()
            })
        });
        let sending: Vec<_> = sending.collect();
        let mut ended = Vec::new();
        for task in sending {
            ended.push(task.await.unwrap());
        }
        ended
    }

    #[tokio::test(start_paused = true)]
    async fn as_fast_as_allowed_and_fairly() {
        let throttle = Arc::new(Throttle::default());
        assert_eq!(flow(&throttle, 3, 100, 100_000).await, [0.0; 3], "without a limit");
        throttle.set_limit(Some(100_000));
        let ended = flow(&throttle, 3, 100, 10_000).await;
        // Three million octets: half a minute, and nobody much sooner than the others.
        for seconds in &ended {
            assert!((29.5..30.1).contains(seconds), "{ended:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_limit_holds_at_once() {
        let throttle = Arc::new(Throttle::default());
        throttle.set_limit(Some(1));
        let flowing = {
            let throttle = throttle.clone();
            tokio::spawn(async move { flow(&throttle, 1, 3, 1_000_000).await })
        };
        tokio::time::sleep(Duration::from_secs(60)).await;
        throttle.set_limit(None);
        assert_eq!(flowing.await.unwrap(), [60.0], "it would have taken three weeks");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_used_is_seen() {
        let throttle = Arc::new(Throttle::default());
        throttle.set_limit(Some(50_000));
        flow(&throttle, 2, 50, 10_000).await;
        let Rates { limit, used } = throttle.rates();
        assert_eq!(limit, Some(50_000));
        assert!((49_000..52_000).contains(&used), "{used}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(throttle.rates().used, 0);
    }
}
