//! What goes over the sockets: one JSON object a line, a request and its answer. A report and a
//! verification are many lines, of which the answer is the last.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::report::Row;
use crate::status::{RejectedFile, Status};
use crate::sync::inspect::Inspection;
use crate::sync::preview::Preview;
use crate::sync::verify::Told;

/// Longest request line. None of ours comes near it.
pub const REQUEST_MAX: usize = 16 * 1024;
/// Longest answer a client takes: the status of very many accounts with very many folders.
const ANSWER_MAX: u64 = 1 << 30;

/// Longest of many lines: an account with very many folders.
const LINE_MAX: u64 = 1 << 28;

/// Exit codes of the contract, which an answer carries for the command to end with.
pub mod exit {
    pub const FINE: u8 = 0;
    pub const NO: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const UNAVAILABLE: u8 = 69;
    pub const CREDENTIALS: u8 = 77;
    pub const CONFIGURATION: u8 = 78;
}

/// What of the status is wanted.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatusOf {
    /// These accounts, case-folded; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Folders are only counted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub brief: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    Status(StatusOf),
    /// No address: all.
    Retry {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
    },
    Approve {
        address: String,
        what: Consent,
    },
    Reload {},
    Pause {
        of: Scope,
    },
    Resume {
        of: Scope,
    },
    /// Moves a cutover: to a time as the configuration would write it, or to this instant.
    Cutover {
        of: Scope,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<String>,
    },
    Reopen {
        of: Scope,
    },
    /// No address: all.
    Verify {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        #[serde(default)]
        source: bool,
        #[serde(default)]
        repair: bool,
    },
    /// What the next pass would do to an account.
    Plan {
        address: String,
    },
    /// Logs in on both sides of accounts that are to be moved; no addresses: of all.
    Inspect {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        addresses: Vec<String>,
    },
    /// Erases what is remembered of an account that is not enrolled any more; no address: of all
    /// such accounts that have completed.
    Forget {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        #[serde(default)]
        keep_report: bool,
    },
    /// Of one account, or of all of a migration.
    Report {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        migration: Option<String>,
    },
}

/// Whom an order concerns.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    Account(String),
    Migration(String),
    /// All accounts with that host on either side.
    Host(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Account(address) => write!(f, "{address}"),
            Scope::Migration(name) => write!(f, "migration {name}"),
            Scope::Host(host) => write!(f, "host {host}"),
        }
    }
}

/// One line of what the daemon says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Answer(Answer),
    Row(Row),
    Told(Told),
    Seen(Seen),
}

/// What was seen beside an account's session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "seen", content = "of", rename_all = "snake_case")]
pub enum Seen {
    Plan(Box<Preview>),
    Account(Box<Inspection>),
}

/// What an operator may consent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consent {
    Deletions,
    Endpoint,
    Late,
    Completed,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// What the command ends with.
    pub exit: u8,
    /// For people, a line or none.
    pub message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<RejectedFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<Status>>,
}

impl Answer {
    pub fn fine(message: impl Into<String>) -> Answer {
        Answer { message: message.into(), ..Answer::default() }
    }

    pub fn refuse(exit: u8, message: impl Into<String>) -> Answer {
        Answer { exit, message: message.into(), ..Answer::default() }
    }
}

/// `status.sock` stands beside the control socket.
pub fn status_socket(control_socket: &Path) -> PathBuf {
    control_socket.with_file_name("status.sock")
}

/// Asks the daemon that listens at `socket` and waits for its answer. `ConnectionRefused` and
/// `NotFound` mean that none does.
pub fn ask(socket: &Path, request: &Request, patience: Duration) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_read_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_until(b'\n', &mut answer)?;
    if answer.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon hung up"));
    }
    Ok(serde_json::from_slice(&answer)?)
}

/// The same where the answer is the last of many lines. `each` is given the others, until it
/// says that it has heard enough.
pub fn ask_for_lines(
    socket: &Path,
    request: &Request,
    patience: Duration,
    mut each: impl FnMut(Line) -> io::Result<()>,
) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_read_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    loop {
        line.clear();
        reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon hung up"));
        }
        match serde_json::from_slice(&line)? {
            Line::Answer(answer) => return Ok(answer),
            line => each(line)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_on_the_wire() {
        let cases = [
            (Request::Status(StatusOf::default()), r#"{"do":"status"}"#),
            (
                Request::Status(StatusOf { addresses: vec!["a@b".into()], brief: true }),
                r#"{"do":"status","addresses":["a@b"],"brief":true}"#,
            ),
            (Request::Retry { address: None }, r#"{"do":"retry"}"#),
            (
                Request::Approve { address: "a@b".into(), what: Consent::Deletions },
                r#"{"do":"approve","address":"a@b","what":"deletions"}"#,
            ),
            (Request::Reload {}, r#"{"do":"reload"}"#),
            (
                Request::Pause { of: Scope::Host("imap.it".into()) },
                r#"{"do":"pause","of":{"host":"imap.it"}}"#,
            ),
            (
                Request::Cutover { of: Scope::Migration("epap".into()), at: None },
                r#"{"do":"cutover","of":{"migration":"epap"}}"#,
            ),
            (
                Request::Verify { address: None, source: true, repair: false },
                r#"{"do":"verify","source":true,"repair":false}"#,
            ),
            (
                Request::Forget { address: Some("a@b".into()), keep_report: true },
                r#"{"do":"forget","address":"a@b","keep_report":true}"#,
            ),
            (
                Request::Report { address: None, migration: Some("epap".into()) },
                r#"{"do":"report","migration":"epap"}"#,
            ),
        ];
        for (request, line) in cases {
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
            assert_eq!(serde_json::from_str::<Request>(line).unwrap(), request);
        }
        assert!(serde_json::from_str::<Request>(r#"{"do":"retry","adress":"a@b"}"#).is_err());
    }
}
