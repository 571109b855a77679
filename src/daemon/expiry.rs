//! Passwords that end soon: when their owners should be asked for new ones.

use jiff::Timestamp;

use crate::config::Enrollment;
use crate::journal::{Entry, Event};

/// It is said so many days before the end, once each.
const DAYS_BEFORE: [i64; 3] = [14, 7, 1];

/// How many of the warnings are due.
pub fn warnings_due(expires: Timestamp, now: Timestamp) -> usize {
    let left = expires.as_second() - now.as_second();
    DAYS_BEFORE.iter().filter(|days| left <= **days * 86_400).count()
}

/// The warning for an enrollment, where more are due than were given; counts it as given.
pub fn warn(enrollment: &Enrollment, given: &mut usize, now: Timestamp) -> Option<Entry> {
    let expires = enrollment.source_expires?;
    let due = warnings_due(expires, now);
    if due <= *given {
        return None;
    }
    *given = due;
    let verb = if expires <= now { "expired" } else { "expires" };
    let text = format!("the source password {verb} at {expires}");
    let entry = Entry::new(Event::SecretExpiring, text).account(&enrollment.address);
    Some(entry.migration(&enrollment.migration.name).file(&enrollment.file, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_come_closer() {
        #[track_caller]
        fn check(now: &str, expected: usize) {
            let expires = "2026-04-01T00:00:00Z".parse().unwrap();
            assert_eq!(warnings_due(expires, now.parse().unwrap()), expected);
        }
        check("2026-03-01T00:00:00Z", 0);
        check("2026-03-18T00:00:00Z", 1);
        check("2026-03-26T00:00:00Z", 2);
        check("2026-03-30T00:00:00Z", 2);
        check("2026-03-31T12:00:00Z", 3);
        check("2026-05-01T00:00:00Z", 3);
    }
}
