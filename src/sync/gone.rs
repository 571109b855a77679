//! Gone is a strong word: what is missing from one listing is gone only after a second complete
//! one a minute later, unless the server itself said so.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use super::clock::Instant;

/// How far apart two listings must be to count as two.
pub const APART: Duration = Duration::from_secs(60);

/// So long nobody waits for something that will neither come back nor be called gone.
const LONG: Duration = Duration::from_secs(600);

/// Since when each thing has been missing. Kept in memory: after a restart the wait starts anew.
#[derive(Debug)]
pub struct Evidence<K> {
    since: HashMap<K, Since>,
    apart: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Since {
    at: Instant,
    /// The server has answered: of what is missing, in an earlier look, that it went; of what
    /// was only noted, without it.
    told: bool,
}

impl<K> Default for Evidence<K> {
    fn default() -> Evidence<K> {
        Evidence::new(APART)
    }
}

impl<K> Evidence<K> {
    /// Nothing is missing yet. `apart` is [`APART`], but for tests that cannot wait so long.
    pub fn new(apart: Duration) -> Evidence<K> {
        Evidence { since: HashMap::new(), apart }
    }
}

impl<K: Eq + Hash + Copy> Evidence<K> {
    /// Notes now that a complete listing lacks `key`, in a look that began at `begun`; true once
    /// it is gone: a look may take longer than two listings must be apart. `told`: the server
    /// itself reported its removal, which counts as the first listing.
    pub fn missing(&mut self, key: K, told: bool, begun: Instant, now: Instant) -> bool {
        let since = *self.since.entry(key).or_insert(Since { at: now, told: false });
        told || since.told || begun.saturating_duration_since(since.at) >= self.apart
    }

    /// Notes that it is missing, and concludes nothing.
    pub fn note(&mut self, key: K, now: Instant) {
        self.since.entry(key).or_insert(Since { at: now, told: false });
    }

    /// An answer lacked what was only noted so far: the wait begins with the first one.
    pub fn answered(&mut self, key: K, now: Instant) {
        let since = self.since.entry(key).or_insert(Since { at: now, told: false });
        if !since.told {
            *since = Since { at: now, told: true };
        }
    }

    /// The server said of a thing just found missing that it went before this look: the next look
    /// makes it gone. Not this one, whose view of other places may be older, so that what moved
    /// there is not seen yet.
    pub fn told(&mut self, key: K) {
        self.since.entry(key).and_modify(|since| since.told = true);
    }

    /// It was seen again, or dealt with.
    pub fn settled(&mut self, key: K) {
        self.since.remove(&key);
    }

    /// Keeps only what is still missing.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.since.retain(|key, _| keep(key));
    }

    /// What was first missed in a look that began then, and that its server cut short, was missed
    /// by somebody in trouble: it counts for nothing.
    pub fn forget_since(&mut self, begun: Instant) {
        self.since.retain(|_, since| since.told || since.at < begun);
    }

    /// What is missing.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.since.keys()
    }

    /// Is it missing?
    pub fn has(&self, key: K) -> bool {
        self.since.contains_key(&key)
    }

    /// Has it been missing for ten minutes?
    pub fn for_long(&self, key: K, now: Instant) -> bool {
        let since = self.since.get(&key);
        since.is_some_and(|since| now.saturating_duration_since(since.at) >= LONG)
    }

    /// When the next look may turn a suspicion into certainty.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.since.values().map(|since| since.at + self.apart).filter(|due| *due > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_by_who_was_cut_short_is_no_first_one() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut evidence = Evidence::new(APART);
        assert!(!evidence.missing(1, false, at(0), at(1)));
        assert!(!evidence.missing(2, false, at(10), at(11)));
        evidence.forget_since(at(10));
        assert!(evidence.missing(1, false, at(61), at(62)));
        assert!(!evidence.missing(2, false, at(99), at(100)));
    }

    #[test]
    fn two_listings_a_minute_apart() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut evidence = Evidence::new(APART);
        assert!(!evidence.missing(1, false, at(0), at(9)));
        assert!(!evidence.missing(1, false, at(68), at(99)), "too soon to count as a second one");
        assert!(evidence.missing(1, false, at(69), at(99)));
        assert!(evidence.missing(2, true, at(60), at(60)), "the server said so");
        evidence.settled(1);
        assert!(!evidence.missing(1, false, at(61), at(61)), "seen in between");
        assert_eq!(evidence.due(at(61)), Some(at(120)));
        assert!(!evidence.missing(3, false, at(62), at(62)));
        evidence.told(3);
        assert!(evidence.missing(3, false, at(62), at(62)), "told in the look before");
    }

    #[test]
    fn the_wait_for_what_was_noted_begins_with_the_first_answer_that_lacks_it() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut evidence = Evidence::new(APART);
        evidence.note(1, at(0));
        evidence.answered(1, at(900));
        assert!(!evidence.for_long(1, at(900)), "nobody looked meanwhile");
        evidence.answered(1, at(1400));
        evidence.note(1, at(1450));
        assert!(!evidence.for_long(1, at(1499)));
        assert!(evidence.for_long(1, at(1500)));
    }
}
