//! What may be done beside an account's own session: who looks at it from there obeys the same
//! rules as its task does.

use super::connect::{credentials_digest, place};
use super::copy::Failure;
use super::shared::Shared;
use super::trouble;
use crate::checkpoint::{AccountRecord, Phase};
use crate::config::Enrollment;
use crate::journal::shown;
use crate::words::Side;

/// Why something beside the session is not done, or not to its end.
pub enum Stop {
    Failure(Failure),
    /// A reason code, and words.
    Refused(&'static str, String),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failure(failure)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Stop {
        Stop::Failure(Failure::Store(error))
    }
}

impl Stop {
    /// Its reason code, and words that are safe to show.
    pub fn told(&self) -> (String, String) {
        match self {
            Stop::Failure(failure) => {
                let trouble = trouble::trouble(failure);
                let side = trouble.side.map_or_else(String::new, |side| format!("{side}: "));
                (trouble.code.to_owned(), format!("{side}{}", shown(&trouble.message)))
            }
            Stop::Refused(code, words) => ((*code).to_owned(), words.clone()),
        }
    }
}

/// What is remembered of the account; `None` if it has not begun.
pub fn known_account(
    shared: &Shared,
    enrollment: &Enrollment,
) -> Result<Option<AccountRecord>, Stop> {
    let address = &enrollment.address;
    let Some(record) = shared.store.account(address)? else {
        if shared.completed.get(address).is_none() {
            return Ok(None);
        }
        let text = "it has completed, but nothing is remembered of what was copied".to_owned();
        return Err(Stop::Refused("state_lost", text));
    };
    let same = record.source == place(enrollment, Side::Source)
        && record.target == place(enrollment, Side::Target);
    if !same {
        let text = "its enrollment names another server or login than what is remembered of it";
        return Err(Stop::Refused("endpoint_changed", text.to_owned()));
    }
    Ok(Some(record))
}

/// Has it completed or closed, also where nothing else is remembered of it?
pub fn is_over(shared: &Shared, enrollment: &Enrollment) -> bool {
    let done = shared.completed.get(&enrollment.address);
    done.is_some_and(|done| {
        done.phase >= Phase::Completed
            && done.source == place(enrollment, Side::Source)
            && done.target == place(enrollment, Side::Target)
    })
}

/// A paused account connects to nobody.
pub fn is_not_paused(enrollment: &Enrollment) -> Result<(), Stop> {
    match enrollment.decree.paused {
        false => Ok(()),
        true => {
            let text = "an operator paused it: resume it first".to_owned();
            Err(Stop::Refused("paused", text))
        }
    }
}

/// Credentials that were refused are not tried again: mailboxes are locked that way.
pub fn may_log_in(enrollment: &Enrollment, record: &AccountRecord, side: Side) -> Result<(), Stop> {
    let refused = record.refused_credentials.as_ref().filter(|refused| {
        refused.at_target == (side == Side::Target)
            && refused.digest == credentials_digest(enrollment, side)
    });
    match refused {
        None => Ok(()),
        Some(refused) => {
            let text = format!("{side}: refused before, so not tried again: {}", refused.text);
            Err(Stop::Refused("credentials_rejected", text))
        }
    }
}

/// Past `source_until` nothing connects to the source.
pub fn may_read_source(shared: &Shared, enrollment: &Enrollment) -> Result<(), Stop> {
    let until = enrollment.migration.source_until;
    match until.filter(|until| shared.clock.now() >= until.as_second()) {
        None => Ok(()),
        Some(until) => {
            let text = format!("the source may not be read any more since {until}");
            Err(Stop::Refused("deadline_passed", text))
        }
    }
}
