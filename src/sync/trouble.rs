//! What an error means: its reason code, whom it concerns, and what happens next. Pure.

use std::io;
use std::time::Duration;

use super::copy::Failure;
use crate::imap::{Code, Error};
use crate::words::Side;

/// An error, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// One of the contract's stable reason codes.
    pub code: &'static str,
    pub side: Option<Side>,
    /// The server's words, as they came.
    pub message: String,
    pub hint: &'static str,
    pub remedy: Remedy,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// The credentials were refused: one try was enough.
    Credentials,
    /// Only an operator or a new enrollment can help.
    Operator,
    /// The host did not do its part: it is tried again with all its accounts' patience.
    Host,
    /// The host asked for less.
    Throttle(Option<Duration>),
    /// This account is tried again, later and later.
    Account,
}

/// Understands why a pass, a copy or a login failed.
pub fn trouble(failure: &Failure) -> Trouble {
    match failure {
        Failure::Connect(side, error, _) => connecting(*side, error),
        Failure::Imap(side, error) => working(*side, error),
        Failure::Store(error) => storing(error),
        Failure::Changed => Trouble {
            code: "protocol_error",
            side: Some(Side::Source),
            message: "a folder changed under the pass; it is looked at again".into(),
            hint: "Nothing to do.",
            remedy: Remedy::Account,
        },
    }
}

/// An error before a session stood.
pub fn connecting(side: Side, error: &Error) -> Trouble {
    match error {
        Error::No { command: "LOGIN" | "AUTHENTICATE", code, text } => {
            refused_login(side, code.as_ref(), text)
        }
        Error::Bad { text, .. } => {
            refused_politely(side, None, text).unwrap_or_else(|| unanswered(side, error))
        }
        // After the login: neither the password nor the host is at fault.
        Error::No { .. } => working(side, error),
        Error::Closed { bye: Some(text) } => {
            refused_politely(side, None, text).unwrap_or_else(|| unanswered(side, error))
        }
        _ => unanswered(side, error),
    }
}

/// Before a login it is the host that did not answer.
fn unanswered(side: Side, error: &Error) -> Trouble {
    let trouble = working(side, error);
    let remedy = match trouble.remedy {
        Remedy::Account => Remedy::Host,
        other => other,
    };
    Trouble { remedy, ..trouble }
}

fn refused_login(side: Side, code: Option<&Code>, text: &str) -> Trouble {
    if let Some(trouble) = refused_politely(side, code, text) {
        return trouble;
    }
    let said = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let (code, hint) = if code.is_some_and(|code| code.name == "EXPIRED") {
        ("credentials_expired", "Ask the owner for a new password and drop the enrollment again.")
    } else if says(&["two-factor", "two factor", "2fa", "second factor", "due fattori", "otp"])
        || says(&["app password", "application-specific", "verifica in due"])
    {
        (
            "second_factor_suspected",
            "Ask the owner to switch two-factor off, or to make a password for mail programs.",
        )
    } else if says(&["imap access is disabled", "imap is disabled", "imap disabilitato"])
        || says(&["not enabled for imap", "imap not enabled", "disabled for imap"])
    {
        ("imap_disabled", "Ask the owner to switch IMAP on in the provider's webmail.")
    } else {
        (
            "credentials_rejected",
            "Ask the owner for the current password and drop the enrollment again.",
        )
    };
    let remedy = Remedy::Credentials;
    Trouble { code, side: Some(side), message: text.to_owned(), hint, remedy }
}

/// A refusal that is not about the password: too much, too fast, not now.
fn refused_politely(side: Side, code: Option<&Code>, text: &str) -> Option<Trouble> {
    let said = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let coded = |names: &[&str]| code.is_some_and(|code| names.contains(&code.name.as_str()));
    let (code, hint, remedy) = if coded(&["LIMIT"])
        || says(&["too many connections", "too many simultaneous", "maximum number of connections"])
    {
        (
            "too_many_connections",
            "Nothing to do; lower limits.connections_per_host if it lasts.",
            Remedy::Throttle(None),
        )
    } else if coded(&["THROTTLED"]) || says(&["throttl", "backoff", "rate limit", "too many login"])
    {
        (
            "throttled",
            "Nothing to do; lower limits.logins_per_second if it lasts.",
            Remedy::Throttle(backoff_hint(&said)),
        )
    } else if coded(&["UNAVAILABLE", "SERVERBUG", "INUSE", "CONTACTADMIN"])
        || says(&["temporar", "try again", "unavailable", "internal error", "riprova"])
    {
        ("unreachable", "Nothing to do unless it lasts.", Remedy::Host)
    } else {
        return None;
    };
    Some(Trouble { code, side: Some(side), message: text.to_owned(), hint, remedy })
}

/// Exchange says so with BAD, which is otherwise nobody's fault but ours.
pub fn is_throttled(text: &str) -> bool {
    let polite = refused_politely(Side::Target, None, text);
    polite.is_some_and(|trouble| trouble.code == "throttled")
}

/// `Suggested Backoff Time: 30000` (milliseconds, as Exchange says it).
fn backoff_hint(said: &str) -> Option<Duration> {
    let (_, after) = said.split_once("backoff time:")?;
    let digits: String = after.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().map(Duration::from_millis)
}

/// An error on a session that stood, or on the way to one.
fn working(side: Side, error: &Error) -> Trouble {
    let (code, hint, remedy) = match error {
        Error::Unreachable(_) => {
            ("unreachable", "Check the host name, the port and the firewall.", Remedy::Host)
        }
        Error::TlsUntrusted(_) => (
            "tls_untrusted",
            "Check the host name; name the provider's CA in ca_file if it is a private one.",
            Remedy::Host,
        ),
        Error::Closed { .. } => ("unreachable", "Nothing to do unless it lasts.", Remedy::Account),
        Error::TimedOut(_) => ("timed_out", "Nothing to do unless it lasts.", Remedy::Account),
        Error::No { command: "APPEND", code, text }
            if blame(code.as_ref(), text) != Blame::Elsewhere =>
        {
            ("protocol_error", "Batches get smaller until its message is found.", Remedy::Account)
        }
        Error::No { code, text, .. } => return refused_command(side, code.as_ref(), text),
        Error::Bad { text, .. } if is_throttled(text) => {
            return refused_command(side, None, text);
        }
        Error::Unsupported(_) => {
            ("unsupported_server", "This server cannot be used as it is.", Remedy::Operator)
        }
        Error::Bad { .. } | Error::Protocol(_) | Error::BodyBeforeUid => {
            ("protocol_error", "Please report it with the journal's lines.", Remedy::Account)
        }
    };
    Trouble { code, side: Some(side), message: error.to_string(), hint, remedy }
}

fn refused_command(side: Side, code: Option<&Code>, text: &str) -> Trouble {
    let name = code.map_or("", |code| code.name.as_str());
    let said = text.to_lowercase();
    let (code, hint, remedy) = match name {
        "OVERQUOTA" => ("over_quota", OVER_QUOTA, Remedy::Account),
        _ if said.contains("quota") => ("over_quota", OVER_QUOTA, Remedy::Account),
        "NOPERM" => ("no_permission", NO_PERMISSION, Remedy::Account),
        _ => match refused_politely(side, code, text) {
            Some(trouble) => return trouble,
            None if said.contains("permission") => {
                ("no_permission", NO_PERMISSION, Remedy::Account)
            }
            None => ("protocol_error", "See the server's words.", Remedy::Account),
        },
    };
    Trouble { code, side: Some(side), message: text.to_owned(), hint, remedy }
}

const NO_PERMISSION: &str = "Check the account's rights there.";
const OVER_QUOTA: &str = "Make room in the target mailbox or raise its quota; copying goes on.";

fn storing(error: &io::Error) -> Trouble {
    let full = error.kind() == io::ErrorKind::StorageFull;
    let (code, hint) = if full {
        ("disk_full", "Make room in the state directory.")
    } else {
        ("checkpoint_unreadable", "Check the disk that holds the state directory.")
    };
    let (side, message) = (None, error.to_string());
    Trouble { code, side, message, hint, remedy: Remedy::Account }
}

/// Is a refusal about one folder only, so that the others can go on?
pub fn is_of_folder(code: Option<&Code>, text: &str) -> bool {
    let quota = code.is_some_and(|code| code.name == "OVERQUOTA");
    !quota && !text.to_lowercase().contains("quota") && !is_about_load(code, text)
}

/// The trouble of one folder.
pub fn of_folder(side: Side, code: Option<&Code>, text: &str) -> Trouble {
    refused_command(side, code, text)
}

/// Does the server say, in so many words, that the folder does not exist?
pub fn is_nonexistent(code: Option<&Code>, text: &str) -> bool {
    let said = text.to_lowercase();
    let words = ["doesn't exist", "does not exist", "nonexist", "no such", "unknown mailbox"];
    match code.map(|code| code.name.as_str()) {
        Some("NONEXISTENT" | "TRYCREATE") => true,
        Some(_) => false,
        None => words.iter().any(|word| said.contains(word)),
    }
}

/// Does a refusal mean *not so much* or *not now*, rather than *not this*?
fn is_about_load(code: Option<&Code>, text: &str) -> bool {
    let said = text.to_lowercase();
    let words = [
        "slow down",
        "rate",
        "busy",
        "locked",
        "i/o",
        "internal error",
        "maintenance",
        "read-only",
        "disk",
        "shutting down",
        "timeout",
        "timed out",
    ];
    refused_politely(Side::Target, code, text).is_some()
        || words.iter().any(|word| said.contains(word))
}

/// What a refused APPEND says about the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// Certainly the message: it is listed at once.
    Message,
    /// Perhaps the message: it is tried a few times before it is believed.
    Perhaps,
    /// Something else: quota, load, the folder.
    Elsewhere,
}

/// Is a refused APPEND about the message itself, so that trying it alone can find the culprit?
/// Dovecot says `[LIMIT]` for a message that is too big, others for too many requests.
pub fn blame(code: Option<&Code>, text: &str) -> Blame {
    let name = code.map_or("", |code| code.name.as_str());
    let said = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let too_big = says(&["size", "too large", "too big", "larger than"]);
    if matches!(name, "TOOBIG") || (name == "LIMIT" && too_big) {
        return Blame::Message;
    }
    let elsewhere = ["OVERQUOTA", "TRYCREATE", "NONEXISTENT", "NOPERM", "READ-ONLY", "LIMIT"];
    if elsewhere.contains(&name) || is_about_load(code, text) || says(&["quota", "permission"]) {
        return Blame::Elsewhere;
    }
    let its_own =
        ["message", "header", "newline", "nul ", "8bit", "8-bit", "zero", "empty", "mime"];
    if too_big || says(&its_own) { Blame::Message } else { Blame::Perhaps }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(command: &'static str, code: &str, text: &str) -> Error {
        let code = (!code.is_empty()).then(|| Code { name: code.to_owned(), rest: String::new() });
        Error::No { command, code, text: text.to_owned() }
    }

    #[test]
    fn logins() {
        let check = |code, text, expected, remedy| {
            let found = connecting(Side::Source, &refused("LOGIN", code, text));
            assert_eq!((found.code, found.remedy), (expected, remedy), "{code} {text}");
        };
        check(
            "AUTHENTICATIONFAILED",
            "Authentication failed.",
            "credentials_rejected",
            Remedy::Credentials,
        );
        check("", "LOGIN failed", "credentials_rejected", Remedy::Credentials);
        check("EXPIRED", "x", "credentials_expired", Remedy::Credentials);
        check("", "Two-factor required", "second_factor_suspected", Remedy::Credentials);
        check("", "IMAP access is disabled for your account", "imap_disabled", Remedy::Credentials);
        check("UNAVAILABLE", "Temporary authentication failure.", "unreachable", Remedy::Host);
        check("LIMIT", "Maximum number", "too_many_connections", Remedy::Throttle(None));
        check(
            "",
            "Request is throttled. Suggested Backoff Time: 1500 milliseconds",
            "throttled",
            Remedy::Throttle(Some(Duration::from_millis(1500))),
        );
        let text = "Request is throttled. Suggested Backoff Time: 1500 milliseconds".to_owned();
        let bad = Error::Bad { command: "AUTHENTICATE", text };
        let throttle = Remedy::Throttle(Some(Duration::from_millis(1500)));
        for found in [connecting(Side::Source, &bad), working(Side::Source, &bad)] {
            assert_eq!((found.code, found.remedy), ("throttled", throttle));
        }
        let found = connecting(Side::Source, &refused("NAMESPACE", "", "not now"));
        assert_eq!((found.code, found.remedy), ("protocol_error", Remedy::Account));
    }

    #[test]
    fn appends() {
        for (code, text, expected) in [
            ("", "Message contains NUL characters", Blame::Message),
            ("", "Can't save a zero byte message.", Blame::Message),
            ("LIMIT", "Mail size is larger than the maximum size allowed", Blame::Message),
            ("TOOBIG", "x", Blame::Message),
            ("", "no", Blame::Perhaps),
            ("LIMIT", "Rate limit exceeded, slow down", Blame::Elsewhere),
            ("OVERQUOTA", "Quota exceeded (mailbox for user is full)", Blame::Elsewhere),
            ("", "Quota exceeded", Blame::Elsewhere),
            ("TRYCREATE", "Mailbox doesn't exist", Blame::Elsewhere),
            ("UNAVAILABLE", "x", Blame::Elsewhere),
            ("SERVERBUG", "Internal error occurred", Blame::Elsewhere),
        ] {
            let Error::No { code, text, .. } = refused("APPEND", code, text) else { continue };
            assert_eq!(blame(code.as_ref(), &text), expected, "{text}");
        }
        let failure = Failure::Imap(Side::Target, refused("APPEND", "", "Quota exceeded"));
        assert_eq!(trouble(&failure).code, "over_quota");
    }

    #[test]
    fn folders() {
        for (code, text, of_folder, nonexistent) in [
            ("NONEXISTENT", "Mailbox doesn't exist: x", true, true),
            ("", "No such mailbox", true, true),
            ("UNAVAILABLE", "backend down", false, false),
            ("NOPERM", "Permission denied", true, false),
            ("", "Unable to open this mailbox.", true, false),
            ("LIMIT", "Too many connections", false, false),
        ] {
            let Error::No { code, text, .. } = refused("EXAMINE", code, text) else { continue };
            assert_eq!(is_of_folder(code.as_ref(), &text), of_folder, "{text}");
            assert_eq!(is_nonexistent(code.as_ref(), &text), nonexistent, "{text}");
        }
    }
}
