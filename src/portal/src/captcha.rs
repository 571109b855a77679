//! "Non sono un robot": a proof of work in ALTCHA's format. Each is good once, for a while.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use altcha_lib_rs::{ChallengeOptions, create_json_challenge, verify_json_solution};
use chrono::{DateTime, TimeDelta, Utc};
use jiff::Timestamp;

use crate::token;

/// Seconds: somebody may read the page first.
const GOOD_FOR: i64 = 20 * 60;
/// A phone hashes so many times in a few seconds; half of it is enough on average.
const WORK: u64 = 40_000;
const SOLUTION_OCTETS_MAX: usize = 1024;
/// Beyond it the solution that is good for the shortest is forgotten, and would do once more: many
/// more than networks may bring in that time, lest a flood shut visitors out.
const TAKEN_MAX: usize = 50_000;

pub struct Captcha {
    key: String,
    /// Solutions that were taken, until they would be good no more.
    taken: Mutex<Taken>,
}

/// By the digests of challenges; and in the order in which they end.
#[derive(Default)]
struct Taken {
    all: HashSet<[u8; 32]>,
    ending: VecDeque<([u8; 32], i64)>,
}

impl Taken {
    /// Was it not there yet? `until` never goes back by much: the clock is the page's.
    fn insert(&mut self, challenge: [u8; 32], until: i64, now: i64) -> bool {
        while let Some((first, ends)) = self.ending.front()
            && (*ends <= now || self.ending.len() >= TAKEN_MAX)
        {
            self.all.remove(first);
            self.ending.pop_front();
        }
        let is_new = self.all.insert(challenge);
        if is_new {
            self.ending.push_back((challenge, until));
        }
        is_new
    }
}

impl Captcha {
    pub fn new() -> Captcha {
        Captcha { key: token::new(), taken: Mutex::default() }
    }

    /// A challenge, as JSON.
    pub fn challenge(&self, now: Timestamp) -> String {
        let now = DateTime::<Utc>::from_timestamp(now.as_second(), 0).unwrap_or_default();
        let options = ChallengeOptions {
            max_number: Some(WORK),
            hmac_key: &self.key,
            expires: now.checked_add_signed(TimeDelta::seconds(GOOD_FOR)),
            ..ChallengeOptions::default()
        };
        create_json_challenge(options).expect("the number is drawn below its bound")
    }

    /// Is it the solution of a challenge of ours that nobody has used?
    pub fn takes(&self, solution: &str, now: Timestamp) -> bool {
        if solution.len() > SOLUTION_OCTETS_MAX
            || verify_json_solution(solution, &self.key, true).is_err()
        {
            return false;
        }
        // What is signed is the challenge: other spellings of the same solution are the same.
        let parsed: Option<serde_json::Value> = serde_json::from_str(solution).ok();
        let challenge = parsed.as_ref().and_then(|it| it["challenge"].as_str()).unwrap_or("");
        let mut taken = self.taken.lock().expect("no panic while held");
        let until = now.as_second() + GOOD_FOR + 1;
        taken.insert(token::digest(&challenge.to_ascii_lowercase()), until, now.as_second())
    }
}

#[cfg(test)]
mod tests {
    use altcha_lib_rs::{Challenge, Payload, solve_challenge};

    use super::*;

    fn solved(challenge: &str) -> String {
        let it: Challenge = serde_json::from_str(challenge).unwrap();
        let number = solve_challenge(&it.challenge, &it.salt, None, Some(it.maxnumber), 0).unwrap();
        let Challenge { algorithm, challenge, salt, signature, .. } = it;
        let took = None;
        let payload = Payload { algorithm, challenge, number, salt, signature, took };
        serde_json::to_string(&payload).unwrap()
    }

    #[test]
    fn what_was_taken_is_forgotten_in_time_and_bounded() {
        let mut taken = Taken::default();
        let digest = |number: usize| token::digest(&number.to_string());
        assert!(taken.insert(digest(0), 10, 5) && !taken.insert(digest(0), 10, 9));
        assert!(taken.insert(digest(0), 20, 10), "it would be good no more");
        for number in 1..TAKEN_MAX + 5 {
            assert!(taken.insert(digest(number), 30, 15), "nobody is shut out");
        }
        assert_eq!((taken.all.len(), taken.ending.len()), (TAKEN_MAX, TAKEN_MAX));
        assert!(!taken.insert(digest(TAKEN_MAX), 30, 15));
    }

    #[test]
    fn a_solution_is_good_once_and_for_this_portal() {
        let (captcha, now) = (Captcha::new(), Timestamp::now());
        let solution = solved(&captcha.challenge(now));
        assert!(!Captcha::new().takes(&solution, now));
        assert!(!captcha.takes("{}", now));
        assert!(!captcha.takes(&solution.replacen("expires=1", "expires=9", 1), now));
        assert!(captcha.takes(&solution, now));
        assert!(!captcha.takes(&solution, now), "a second time");
        let old = Timestamp::from_second(now.as_second() - 2 * GOOD_FOR).unwrap();
        assert!(!captcha.takes(&solved(&captcha.challenge(old)), now), "too late");
    }
}
