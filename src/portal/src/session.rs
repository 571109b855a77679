//! Visitors between their steps: in memory, bounded, short. Of a password only what was sealed for
//! the daemon is kept.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::token;

const LASTS: Duration = Duration::from_secs(20 * 60);
/// Beyond it the one who was quiet the longest is forgotten.
const VISITS_MAX: usize = 10_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Password,
    Contacts,
    NewPassword,
    Done,
}

/// Somebody on the way through the steps.
#[derive(Clone, Debug)]
pub struct Visit {
    pub migration: String,
    /// Case-folded.
    pub address: String,
    pub step: Step,
    /// What each form of this visit holds.
    pub form: String,
    /// How often the password was refused.
    pub failures: u8,
    /// The source's password, sealed for the daemon once it was tried.
    pub sealed: Option<String>,
    /// The same for the target, where it may stay what it is.
    pub sealed_for_target: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
}

impl Visit {
    pub fn new(migration: &str, address: String) -> Visit {
        Visit {
            migration: migration.to_owned(),
            address,
            step: Step::Password,
            form: token::new(),
            failures: 0,
            sealed: None,
            sealed_for_target: None,
            email: None,
            phone: None,
        }
    }
}

/// By the digests of their tokens.
#[derive(Default)]
pub struct Visits(Mutex<HashMap<[u8; 32], (Visit, Instant)>>);

impl Visits {
    /// Keeps a new one and gives its token.
    pub fn begin(&self, visit: Visit) -> String {
        let token = token::new();
        let mut visits = self.0.lock().expect("no panic while held");
        visits.retain(|_, (_, seen)| seen.elapsed() < LASTS);
        if visits.len() >= VISITS_MAX {
            let oldest = visits.iter().min_by_key(|(_, (_, seen))| *seen).map(|(key, _)| *key);
            oldest.map(|key| visits.remove(&key));
        }
        visits.insert(token::digest(&token), (visit, Instant::now()));
        token
    }

    pub fn get(&self, token: &str) -> Option<Visit> {
        let mut visits = self.0.lock().expect("no panic while held");
        let (visit, seen) = visits.get_mut(&token::digest(token))?;
        if seen.elapsed() >= LASTS {
            return None;
        }
        *seen = Instant::now();
        Some(visit.clone())
    }

    /// What has become of it; a visit that has ended meanwhile stays ended.
    pub fn put(&self, token: &str, visit: Visit) {
        let mut visits = self.0.lock().expect("no panic while held");
        if let Some((kept, _)) = visits.get_mut(&token::digest(token)) {
            *kept = visit;
        }
    }

    pub fn end(&self, token: &str) {
        self.0.lock().expect("no panic while held").remove(&token::digest(token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn visits_are_short_and_bounded() {
        let visits = Visits::default();
        let visit = |name: &str| Visit::new("epap", name.to_owned());
        let first = visits.begin(visit("a"));
        assert_eq!(visits.get(&first).unwrap().address, "a");
        assert!(visits.get("another").is_none());
        tokio::time::advance(LASTS - Duration::from_secs(1)).await;
        assert!(visits.get(&first).is_some(), "used, so kept");
        tokio::time::advance(LASTS).await;
        assert!(visits.get(&first).is_none());
        let oldest = visits.begin(visit("oldest"));
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..VISITS_MAX {
            visits.begin(visit("x"));
        }
        assert!(visits.get(&oldest).is_none());
        assert!(visits.0.lock().unwrap().len() <= VISITS_MAX);
        let last = visits.begin(visit("last"));
        visits.end(&last);
        visits.put(&last, visit("last"));
        assert!(visits.get(&last).is_none());
    }
}
