//! The proof of the move: every message with how it was proved, counts, and one digest over all.
//!
//! [`gather`](fn@gather) reads the checkpoint and gives [`Row`]s one after the other; a
//! [`Writer`] makes text, JSON, CSV or HTML of them. Neither holds an account's messages. Rows
//! also go over the control socket, so a report looks the same with and without a daemon.
//! What a report says and how its digest is recomputed is in `docs/report.md`.

mod csv;
mod digest;
mod files;
mod gather;
mod html;
mod json;
mod text;
mod words;
mod writer;

use serde::{Deserialize, Serialize};

use crate::checkpoint::Proof;

pub use csv::cell;
pub use files::{exists, remove_files, write_files};
pub use gather::gather;
pub use words::Lang;
pub use writer::{Format, Writer};

/// Of the JSON form.
pub const SCHEMA: u32 = 1;

/// One piece of a report, in the order in which they come: the account; what was refused or
/// altered; then each folder, followed by its messages; the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "row", content = "of", rename_all = "snake_case")]
pub enum Row {
    Account(Box<Account>),
    /// A message that was refused or altered; it comes again in its folder.
    Exception(Message),
    /// What follows belongs to the account's folder of that index.
    Folder(usize),
    Message(Message),
    End {
        /// The account was changed while it was read: counts and digest may not fit its rows.
        changed: bool,
    },
}

/// One account, with what is known before its messages are listed. Words of servers and users
/// are escaped; times are RFC 3339.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Account {
    pub address: String,
    pub migration: String,
    pub phase: String,
    pub source: Place,
    /// Where its archive lies, if that is another place; folders of it are named `archive:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Place>,
    pub target: Place,
    pub sealed_at: Option<String>,
    pub completed_at: Option<String>,
    pub source_seen_until: Option<String>,
    pub written_at: String,
    /// Of pecsync.
    pub version: String,
    pub totals: Totals,
    pub folders: Vec<Folder>,
    /// Folders of the source that were not copied.
    pub left_out: Vec<LeftOut>,
    /// SHA-256 over all messages, as `docs/report.md` defines it.
    pub digest: String,
}

#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    pub host: String,
    pub user: String,
}

#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Folder {
    pub name: String,
    pub target: String,
    #[serde(flatten)]
    pub totals: Totals,
}

#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeftOut {
    pub name: String,
    /// `excluded`, `held` or `deferred`.
    pub state: String,
    pub why: String,
}

/// Messages by what became of them; each is in one of the first four.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Totals {
    pub copied: u64,
    pub adopted: u64,
    pub altered: u64,
    pub refused: u64,
    /// APPENDs whose answer was lost and that are still looked for.
    pub in_doubt: u64,
    /// Copies that stay at the target although their message is gone from the source.
    pub kept: u64,
    /// What the source showed when it was last looked at to the end; `None` before the first time.
    pub source: Option<u64>,
    /// Of these, those that are neither linked nor refused.
    pub missing: Option<u64>,
    /// Octets of all messages that have a copy.
    pub bytes: u64,
    pub listed: u64,
    pub read_back: u64,
    pub verified: u64,
}

impl Totals {
    /// Messages that have a copy.
    pub fn linked(&self) -> u64 {
        self.copied + self.adopted + self.altered
    }

    /// Messages that are linked or listed as refused.
    pub fn known(&self) -> u64 {
        self.linked() + self.refused
    }
}

/// One message of the source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Index of its folder.
    pub folder: usize,
    pub source_uid: u32,
    pub target_uid: Option<u32>,
    /// Octets; like SHA-256 and instant unknown for what was refused.
    pub size: Option<u64>,
    pub sha256: Option<String>,
    /// INTERNALDATE, in UTC.
    pub instant: Option<String>,
    pub state: State,
    /// `None` for what was refused, and for what was read back and found altered.
    pub proof: Option<Depth>,
    /// `source` or `target`.
    pub refused_by: Option<String>,
    /// In which words it was refused, or what differs.
    pub reason: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Appended by pecsync.
    Copied,
    /// Was at the target already, with the same bytes.
    Adopted,
    /// Is at the target, with other bytes or another date.
    Altered,
    Refused,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Copied => "copied",
            State::Adopted => "adopted",
            State::Altered => "altered",
            State::Refused => "refused",
        }
    }
}

/// How deep the copy was proved: see [`Proof`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    Listed,
    ReadBack,
    Verified,
}

impl Depth {
    pub fn as_str(self) -> &'static str {
        match self {
            Depth::Listed => "listed",
            Depth::ReadBack => "read_back",
            Depth::Verified => "verified",
        }
    }
}

impl From<Proof> for Depth {
    fn from(proof: Proof) -> Depth {
        match proof {
            Proof::Listed => Depth::Listed,
            Proof::ReadBack => Depth::ReadBack,
            Proof::Verified => Depth::Verified,
        }
    }
}
