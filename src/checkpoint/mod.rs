//! What the daemon remembers about an account: a cache that both servers can re-derive.
//!
//! Records are plain data; [`Store`] keeps them. Effect first, then commit: a link may lag the
//! servers and never leads them. An [`Intent`] is the one exception, durable *before* the effect.

mod chunk;
mod committer;
mod completed;
mod disk;
mod encoding;
mod files;
pub(crate) mod fuzzing;
mod ids;
mod keys;
mod lock;
mod memory;
mod octets;
mod opening;
mod staged;
mod store;
mod sums;
mod witness;

pub use completed::{Completed, CompletedAccount};
pub use memory::Image;
pub use store::{OpenError, Store, StoreError, Writer};

use crate::words::{Flags, HeaderDigest, InternalDate, ModSeq, Sha256, Uid, UidValidity};

/// Numbers an account for life; keys of its records begin with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AccountId(pub u32);

/// Numbers a folder pair for life, unique in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FolderId(pub u32);

/// Numbers an intent, unique in the store, ascending.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IntentId(pub u64);

/// Where an account lives on one side; a checkpoint belongs to a pair of these.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub host: String,
    pub user: String,
}

/// The source name of a folder that lies in an account's archive, a second store at `place`. NUL is
/// in no name a server can give (RFC 9051, 9), and where a folder lies is part of it: links into
/// one store never pass for links into another.
pub fn archived_name(place: &Place, name: &[u8]) -> Vec<u8> {
    [b"\0", place.host.as_bytes(), b"\0", place.user.as_bytes(), b"\0", name].concat()
}

/// Where a folder of an archive lies, and its name there; `None` of any other.
pub fn of_archived_name(name: &[u8]) -> Option<(Place, &[u8])> {
    let mut parts = name.strip_prefix(b"\0")?.splitn(3, |octet| *octet == 0);
    let (host, user, there) = (parts.next()?, parts.next()?, parts.next()?);
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    Some((Place { host: text(host), user: text(user) }, there))
}

/// How far an account's life has gone. Ordered: a phase once past is not re-entered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    Enrolled,
    Copying,
    Following,
    Draining,
    /// Sealed: only missing messages are added.
    Archiving,
    Completed,
    Closed,
}

impl Phase {
    /// As the contract spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Enrolled => "enrolled",
            Phase::Copying => "copying",
            Phase::Following => "following",
            Phase::Draining => "draining",
            Phase::Archiving => "archiving",
            Phase::Completed => "completed",
            Phase::Closed => "closed",
        }
    }
}

/// The account as a whole. Times are Unix seconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountRecord {
    pub id: AccountId,
    /// Case-folded.
    pub address: String,
    pub migration: String,
    /// Path of the enrollment that holds the account, to keep the first of two files after a
    /// restart.
    pub enrolled_by: String,
    pub source: Place,
    pub target: Place,
    pub phase: Phase,
    pub sealed_at: Option<i64>,
    pub completed_at: Option<i64>,
    pub source_seen_until: Option<i64>,
    pub first_copy_completed: bool,
    /// Mass deletion: removals are suspended until approved.
    pub removals_suspended: bool,
    /// Digest of the credentials that were last refused: they are not tried again.
    pub refused_credentials: Option<Refused>,
    /// The credentials with this digest have worked.
    pub worked_credentials: Option<[u8; 16]>,
}

/// Credentials that were refused by a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Salted digest of user and password, so that a changed enrollment is told from the same.
    pub digest: [u8; 16],
    pub at_target: bool,
    pub since: i64,
    /// The server's words, escaped.
    pub text: String,
}

/// What a side's folder looked like at the last complete comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    pub uid_validity: UidValidity,
    pub uid_next: u32,
    pub messages: u32,
    pub highest_modseq: ModSeq,
}

/// A pair of folders. Its mapping is fixed at the first copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FolderRecord {
    pub id: FolderId,
    pub account: AccountId,
    /// Wire names.
    pub source_name: Box<[u8]>,
    pub target_name: Box<[u8]>,
    /// As users see them, so that status has names before a connection stands.
    pub source_shown: String,
    pub target_shown: String,
    /// Trash or Junk: emptying them is no mass deletion.
    pub exempt: bool,
    /// `None` until the first complete comparison.
    pub source_seen: Option<Seen>,
    pub target_seen: Option<Seen>,
    /// Everything the source showed has been linked, refused or listed once.
    pub first_copy_completed: bool,
    /// Source and target were compared in full (UIDs, flags) at this Unix second.
    pub compared_at: i64,
}

impl FolderRecord {
    /// The archive in which it lies, if it does.
    pub fn archive(&self) -> Option<Place> {
        of_archived_name(&self.source_name).map(|(place, _)| place)
    }
}

/// Whose a copy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Appended by us.
    Copied,
    /// Found at the target with the same bytes.
    Adopted,
    /// Adopted, with the same instant too: flags follow the source as for our own.
    Twin,
}

/// How it is known that the copy has the source's bytes; each depth includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Proof {
    /// The target took the bytes as they came; UID, size and instant are compared in passes.
    #[default]
    Listed,
    /// A pass downloaded the copy again and compared it.
    ReadBack,
    /// `pecsync verify` did.
    Verified,
}

/// Two ends of one message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// `None`: the target did not tell; the next listing pairs it.
    pub target_uid: Option<Uid>,
    pub origin: Origin,
    /// Octets of the source's literal.
    pub size: u64,
    pub instant: InternalDate,
    pub header: HeaderDigest,
    pub sha256: Sha256,
    /// The source's flags as last written to the target.
    pub flags: Flags,
    /// Flags of which nobody knows whether the copy has them: they were being changed. Not kept
    /// for orphans.
    pub unsure: Option<Box<Flags>>,
    pub proof: Proof,
    /// A copy worth comparing: it holds what some servers alter.
    pub suspect: bool,
    /// How the target's bytes differ, where they do.
    pub altered: Option<String>,
}

/// What is known about one source UID of a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Known {
    Linked(Link),
    /// Refused by a server, in its words; tried a bounded number of times.
    Refused {
        by_target: bool,
        text: String,
        tries: u32,
        last_try: i64,
    },
}

/// A copy whose source message is not known: its folder's UIDVALIDITY changed, or it is gone at
/// the source but must stay. Keyed by (folder, target UID).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Orphan {
    pub target_uid: Uid,
    pub link: Link,
}

/// One message of an intent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Intended {
    pub source_uid: Uid,
    pub size: u64,
    pub instant: InternalDate,
    pub header: HeaderDigest,
    pub sha256: Sha256,
    pub flags: Flags,
    pub suspect: bool,
}

/// An APPEND about to be let go, durable before its last CRLF.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Intent {
    pub id: IntentId,
    pub folder: FolderId,
    pub source_uid_validity: UidValidity,
    pub target_uid_validity: UidValidity,
    /// UIDNEXT of the target folder before it: its copies have this UID or a higher one.
    pub target_uid_next: u32,
    /// Unix seconds.
    pub written_at: i64,
    /// Looked for, waited for, looked for again: what was not found was appended anew, and a
    /// late twin is a surplus.
    pub repeated: bool,
    pub messages: Vec<Intended>,
}

/// One change to the checkpoint; several are applied atomically.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Edit {
    PutAccount(AccountRecord),
    /// Everything the account has.
    DropAccount(AccountId),
    PutFolder(FolderRecord),
    /// The folder with its links, orphans and intents.
    DropFolder(FolderId),
    PutKnown(FolderId, Uid, Known),
    DropKnown(FolderId, Uid),
    /// The copy with that target UID was downloaded and has these bytes: [`Proof::Verified`].
    /// Nothing happens where the source UID is linked to another copy, or no more.
    Prove(FolderId, Uid, Uid, Sha256),
    /// All links of the folder (a new UIDVALIDITY).
    DropAllKnown(FolderId),
    PutOrphan(FolderId, Orphan),
    DropOrphan(FolderId, Uid),
    PutIntent(Intent),
    DropIntent(IntentId),
}
