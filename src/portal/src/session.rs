//! Visitors between their steps: in memory, bounded, short. Of a password only what was sealed for
//! the daemon is kept.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::enrolled::Mark;
use crate::token;

/// Of quiet.
const LASTS: Duration = Duration::from_secs(20 * 60);
/// In all: a password that was proved longer ago may not be its owner's any more.
const LASTS_IN_ALL: Duration = Duration::from_secs(60 * 60);
/// Beyond it one is forgotten: of those who have proved no password, if there are any; of the
/// network that has most of them; who was quiet the longest.
const VISITS_MAX: usize = 10_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Password,
    Contacts,
    NewPassword,
    Done,
}

/// Did an administrator ask for the account, in a file of their own?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByAdministrator {
    No,
    /// With a password of its owner's, which the one that was proved takes the place of.
    OwnersPassword,
    /// With a service login, or another user's: there is nothing to replace.
    AnotherLogin,
}

/// Somebody on the way through the steps.
#[derive(Clone, Debug)]
pub struct Visit {
    pub migration: String,
    /// Case-folded.
    pub address: String,
    /// Where it began.
    pub network: IpAddr,
    pub step: Step,
    /// When it began; it goes on under another token, but grows no younger.
    begun: Instant,
    /// What each form of this visit holds.
    pub form: String,
    /// How often the password was refused.
    pub failures: u8,
    /// The source's password, sealed for the daemon once it was tried.
    pub sealed: Option<String>,
    /// The same for the target, where it may stay what it is.
    pub sealed_for_target: Option<String>,
    /// The enrollment that was there when the password was proved.
    pub mark: Option<Mark>,
    /// As the daemon said then.
    pub by_administrator: ByAdministrator,
    pub email: Option<String>,
    pub phone: Option<String>,
}

impl Visit {
    pub fn new(migration: &str, address: String, network: IpAddr, now: Instant) -> Visit {
        Visit {
            migration: migration.to_owned(),
            address,
            network,
            step: Step::Password,
            begun: now,
            form: token::new(),
            failures: 0,
            sealed: None,
            sealed_for_target: None,
            mark: None,
            by_administrator: ByAdministrator::No,
            email: None,
            phone: None,
        }
    }
}

/// By the digests of their tokens; with when each was last seen.
#[derive(Default)]
pub struct Visits(Mutex<HashMap<[u8; 32], (Visit, Instant)>>);

impl Visits {
    /// Keeps a new one and gives its token.
    pub fn begin(&self, visit: Visit, now: Instant) -> String {
        let token = token::new();
        let mut visits = self.0.lock().expect("no panic while held");
        if visits.len() >= VISITS_MAX {
            visits.retain(|_, (visit, seen)| goes_on(visit, *seen, now));
        }
        if visits.len() >= VISITS_MAX {
            let mut unproved: HashMap<IpAddr, usize> = HashMap::new();
            for (visit, _) in visits.values().filter(|(visit, _)| visit.step == Step::Password) {
                *unproved.entry(visit.network).or_default() += 1;
            }
            let rank = |(visit, seen): &(Visit, Instant)| {
                let crowd = unproved.get(&visit.network).copied().unwrap_or_default();
                (visit.step != Step::Password, Reverse(crowd), *seen)
            };
            let least = visits.iter().min_by_key(|(_, kept)| rank(kept)).map(|(key, _)| *key);
            least.map(|key| visits.remove(&key));
        }
        visits.insert(token::digest(&token), (visit, now));
        token
    }

    pub fn get(&self, token: &str, now: Instant) -> Option<Visit> {
        let mut visits = self.0.lock().expect("no panic while held");
        let (visit, seen) = visits.get_mut(&token::digest(token))?;
        if !goes_on(visit, *seen, now) {
            return None;
        }
        *seen = now;
        Some(visit.clone())
    }

    /// Forgets those that are over.
    pub fn forget(&self, now: Instant) {
        let mut visits = self.0.lock().expect("no panic while held");
        visits.retain(|_, (visit, seen)| goes_on(visit, *seen, now));
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
    /// Ends all of that address but one.
    pub fn end_others(&self, address: &str, token: &str) {
        let own = token::digest(token);
        let mut visits = self.0.lock().expect("no panic while held");
        visits.retain(|key, (visit, _)| *key == own || visit.address != address);
    }
}

fn goes_on(visit: &Visit, seen: Instant, now: Instant) -> bool {
    now.duration_since(seen) < LASTS && now.duration_since(visit.begun) < LASTS_IN_ALL
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 0));

    #[test]
    fn visits_are_short() {
        let (visits, mut now) = (Visits::default(), Instant::now());
        let token = visits.begin(Visit::new("epap", "a".to_owned(), HOME, now), now);
        assert_eq!(visits.get(&token, now).unwrap().address, "a");
        assert!(visits.get("another", now).is_none());
        now += LASTS - SECOND;
        assert!(visits.get(&token, now).is_some(), "used, so kept");
        assert!(visits.get(&token, now + LASTS).is_none());
        visits.end(&token);
        visits.put(&token, Visit::new("epap", "a".to_owned(), HOME, now));
        assert!(visits.get(&token, now).is_none());
    }

    #[test]
    fn a_visit_that_is_kept_awake_ends_under_whatever_token() {
        let (visits, begun) = (Visits::default(), Instant::now());
        let mut token = visits.begin(Visit::new("epap", "a".to_owned(), HOME, begun), begun);
        let mut now = begun;
        while now + LASTS / 2 < begun + LASTS_IN_ALL {
            now += LASTS / 2;
            let mut visit = visits.get(&token, now).unwrap();
            visit.step = Step::Contacts;
            visits.end(&token);
            token = visits.begin(visit, now);
        }
        assert!(visits.get(&token, begun + LASTS_IN_ALL - SECOND).is_some());
        assert!(visits.get(&token, begun + LASTS_IN_ALL).is_none());
        visits.forget(begun + LASTS_IN_ALL);
        assert!(visits.0.lock().unwrap().is_empty());
    }

    #[test]
    fn the_others_of_an_address_end() {
        let (visits, now) = (Visits::default(), Instant::now());
        let begin =
            |address: &str| visits.begin(Visit::new("epap", address.to_owned(), HOME, now), now);
        let (own, other, stranger) = (begin("a"), begin("a"), begin("b"));
        visits.end_others("a", &own);
        let goes_on = |token: &str| visits.get(token, now).is_some();
        assert!(goes_on(&own) && goes_on(&stranger) && !goes_on(&other));
    }

    #[test]
    fn who_has_proved_a_password_outlasts_a_flood_of_others() {
        let (visits, now) = (Visits::default(), Instant::now());
        let visit = |step| Visit { step, ..Visit::new("epap", "a".to_owned(), HOME, now) };
        let proved = visits.begin(visit(Step::Contacts), now);
        let waits = visits.begin(visit(Step::Password), now);
        let flood = |last, at| {
            let network = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, last, 0));
            visits.begin(Visit { network, ..visit(Step::Password) }, at)
        };
        let oldest = flood(0, now + SECOND);
        for number in 0..VISITS_MAX {
            flood((number % 100) as u8, now + 2 * SECOND);
        }
        assert!(visits.get(&proved, now + 3 * SECOND).is_some());
        assert!(visits.get(&waits, now + 3 * SECOND).is_some(), "the networks of the flood pay");
        assert!(visits.get(&oldest, now + 3 * SECOND).is_none());
        assert_eq!(visits.0.lock().unwrap().len(), VISITS_MAX);
    }
}
