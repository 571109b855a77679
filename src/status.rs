//! What `pecsync status --json` shows: the shape the contract fixes, shared by the daemon that
//! fills it and the command that prints it.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub schema: u32,
    pub daemon: DaemonStatus,
    pub accounts: Vec<AccountStatus>,
    pub rejected: Vec<RejectedFile>,
    pub missing: Vec<String>,
    pub migrations: Vec<MigrationStatus>,
}

/// What all accounts of a migration share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MigrationStatus {
    pub name: String,
    pub timezone: String,
    pub enroll_until: Option<String>,
    pub cutover: Option<String>,
    pub cutover_window_s: u64,
    pub source_until: Option<String>,
    pub paused: bool,
    /// How many its file of accounts lists; `None` where there is no such file.
    pub listed: Option<u64>,
    /// Who is listed and has not enrolled, by address.
    pub missing: Vec<MissingAccount>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MissingAccount {
    pub address: String,
    pub contact: ContactStatus,
}

/// How the owner of an account is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContactStatus {
    pub email: Option<String>,
    pub phone: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DaemonStatus {
    pub version: String,
    pub pid: u32,
    pub started_at: String,
    pub connections: Connections,
    pub bandwidth: Bandwidth,
}

/// Octets of message bodies a second, over all accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// What the schedule allows now; `None`: as much as there is.
    pub limit: Option<u64>,
    pub used: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    pub source: u32,
    pub target: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AccountStatus {
    pub address: String,
    pub migration: String,
    /// `enrolled|copying|following|draining|archiving|completed|closed`
    pub phase: String,
    /// `ok|retrying|held|paused`
    pub condition: String,
    pub reason: Option<Reason>,
    pub reasons: Vec<Reason>,
    pub cutover: Option<String>,
    pub sealed_at: Option<String>,
    pub source_seen_until: Option<String>,
    /// `mirrored|kept|suspended`
    pub removals: String,
    pub messages: MessageCounts,
    pub bytes: ByteCounts,
    pub folders: Vec<FolderCounts>,
    /// In a brief answer, which has no `folders`: how many are copied whole, and how many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folders_whole: Option<(usize, usize)>,
    /// `idle|polled`
    pub mode: String,
    pub proved_alive_at: Option<String>,
    pub last_copied_at: Option<String>,
    pub eta_s: Option<u64>,
    pub contact: ContactStatus,
    /// Its enrollment holds a password, or names the file of one.
    pub has_secrets: bool,
    /// The file that asks for it; one in `conf.d/portal` came from the enrollment page.
    pub enrolled_by: String,
    /// The file that holds the source's password, where that is its owner's: none where a service
    /// login stands in, or another user's. Another file than `enrolled_by` is the enrollment page's.
    #[serde(default)]
    pub owners_password_from: Option<String>,
}

impl AccountStatus {
    /// How many folders are copied whole, and how many there are.
    pub fn whole_folders(&self) -> (usize, usize) {
        let is_whole = |folder: &&FolderCounts| match (folder.copied, folder.source) {
            (Some(copied), Some(source)) => copied >= source,
            _ => false,
        };
        let counted = || (self.folders.iter().filter(is_whole).count(), self.folders.len());
        self.folders_whole.unwrap_or_else(counted)
    }

    /// A copy with folders counted: theirs is most of what a status says.
    pub fn brief(&mut self) -> AccountStatus {
        let folders_whole = Some(self.whole_folders());
        let folders = std::mem::take(&mut self.folders);
        let brief = AccountStatus { folders_whole, ..self.clone() };
        self.folders = folders;
        brief
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MessageCounts {
    pub source: Option<u64>,
    pub copied: Option<u64>,
    pub adopted: Option<u64>,
    pub refused: Option<u64>,
    pub altered: Option<u64>,
    pub in_doubt: Option<u64>,
    pub verified: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ByteCounts {
    pub source: Option<u64>,
    pub copied: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FolderCounts {
    pub name: String,
    pub target: String,
    pub source: Option<u64>,
    pub copied: Option<u64>,
    pub refused: Option<u64>,
    /// `ok|deferred|excluded|held`
    pub state: String,
    pub reason: Option<Reason>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// One of the contract's stable codes.
    pub code: String,
    pub side: Option<String>,
    /// The server's words, escaped.
    pub message: String,
    /// What to do.
    pub hint: String,
    pub since: String,
    pub next_try: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RejectedFile {
    pub file: String,
    pub line: u32,
    pub column: u32,
    pub message: String,
    pub hint: String,
}

/// Every reason code there is; `docs/operating.md` says of each what it means and what to do.
/// They are stable: programs match on them.
pub const REASONS: [&str; 28] = [
    "credentials_rejected",
    "service_login_rejected",
    "logins_refused_by_host",
    "second_factor_suspected",
    "credentials_expired",
    "imap_disabled",
    "unreachable",
    "tls_untrusted",
    "throttled",
    "too_many_connections",
    "over_quota",
    "no_permission",
    "folder_conflict",
    "mass_deletion",
    "endpoint_changed",
    "second_writer",
    "state_lost",
    "enrollment_rejected",
    "window_not_open",
    "clock_suspect",
    "unsupported_server",
    "protocol_error",
    "timed_out",
    "checkpoint_unreadable",
    "disk_full",
    "internal_error",
    "deadline_passed",
    "paused",
];
