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
    /// `idle|polled`
    pub mode: String,
    pub proved_alive_at: Option<String>,
    pub last_copied_at: Option<String>,
    pub eta_s: Option<u64>,
    pub contact: ContactStatus,
    /// Its enrollment holds a password, or names the file of one.
    pub has_secrets: bool,
    /// What the account's own login and that at its archive add to it, where there are two.
    #[serde(skip)]
    pub shares: Option<Box<[Share; 2]>>,
}

/// What one of an account's source logins adds to its status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Share {
    pub condition: String,
    pub reasons: Vec<Reason>,
    pub messages: MessageCounts,
    pub bytes: ByteCounts,
    pub folders: Vec<FolderCounts>,
}

impl AccountStatus {
    /// From now on two logins add to it, or one again.
    pub fn share(&mut self, shared: bool) {
        match (shared, self.shares.take()) {
            (true, None) => {
                let own = self.take_share();
                self.shares = Some(Box::new([own, Share::default()]));
                self.show_shares();
            }
            (true, shares) => self.shares = shares,
            (false, Some(shares)) => {
                let [own, _] = *shares;
                self.show_share(own);
            }
            (false, None) => {}
        }
    }

    /// What there is, as a share.
    pub fn take_share(&mut self) -> Share {
        Share {
            condition: std::mem::take(&mut self.condition),
            reasons: std::mem::take(&mut self.reasons),
            messages: self.messages,
            bytes: self.bytes,
            folders: std::mem::take(&mut self.folders),
        }
    }

    pub fn show_share(&mut self, share: Share) {
        let Share { condition, reasons, messages, bytes, folders } = share;
        self.reason = reasons.first().cloned();
        (self.condition, self.reasons, self.folders) = (condition, reasons, folders);
        (self.messages, self.bytes) = (messages, bytes);
    }

    /// The account's own login comes first: what is wrong there is what is wrong with it.
    pub fn show_shares(&mut self) {
        if let Some([own, archive]) = self.shares.as_deref() {
            let joined = own.clone().joined(archive);
            self.show_share(joined);
        }
    }
}

impl Share {
    fn joined(mut self, other: &Share) -> Share {
        if self.condition == "ok" && !other.condition.is_empty() {
            self.condition.clone_from(&other.condition);
        }
        // What is not known of the account's own login is not known of both.
        let add = |sum: &mut Option<u64>, more: Option<u64>| {
            *sum = sum.map(|sum| sum + more.unwrap_or_default());
        };
        let (sums, more) = (&mut self.messages, &other.messages);
        add(&mut sums.source, more.source);
        add(&mut sums.copied, more.copied);
        add(&mut sums.adopted, more.adopted);
        add(&mut sums.refused, more.refused);
        add(&mut sums.altered, more.altered);
        add(&mut sums.in_doubt, more.in_doubt);
        add(&mut sums.verified, more.verified);
        add(&mut self.bytes.source, other.bytes.source);
        add(&mut self.bytes.copied, other.bytes.copied);
        self.reasons.extend(other.reasons.iter().cloned());
        self.folders.extend(other.folders.iter().cloned());
        self
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

#[cfg(test)]
mod tests {
    use super::*;

    fn share(condition: &str, code: &str, copied: Option<u64>, folder: &str) -> Share {
        let reason = Reason { code: code.into(), ..Reason::default() };
        Share {
            condition: condition.into(),
            reasons: if code.is_empty() { Vec::new() } else { vec![reason] },
            messages: MessageCounts { copied, ..MessageCounts::default() },
            folders: vec![FolderCounts { name: folder.into(), ..FolderCounts::default() }],
            ..Share::default()
        }
    }

    #[test]
    fn two_logins_make_one_status() {
        #[track_caller]
        fn check(own: Share, archive: Share, expected: &str) {
            let shares = Some(Box::new([own, archive]));
            let mut status = AccountStatus { shares, ..AccountStatus::default() };
            status.show_shares();
            let reason = status.reason.as_ref().map_or("-", |reason| &reason.code);
            let folders: Vec<&str> =
                status.folders.iter().map(|folder| folder.name.as_str()).collect();
            let (condition, copied) = (&status.condition, status.messages.copied);
            let (reasons, folders) = (status.reasons.len(), folders.join(" "));
            assert_eq!(format!("{condition} {reason} {reasons} {copied:?} {folders}"), expected);
        }
        let own = || share("ok", "", Some(2), "INBOX");
        let held = || share("held", "credentials_rejected", None, "archive:A");
        check(own(), share("ok", "", Some(3), "archive:A"), "ok - 0 Some(5) INBOX archive:A");
        check(own(), held(), "held credentials_rejected 1 Some(2) INBOX archive:A");
        let retrying = share("retrying", "unreachable", Some(2), "INBOX");
        check(retrying, held(), "retrying unreachable 2 Some(2) INBOX archive:A");
        check(share("ok", "", None, "INBOX"), Share::default(), "ok - 0 None INBOX");
        let mut status = AccountStatus { condition: "ok".into(), ..AccountStatus::default() };
        status.share(true);
        status.share(true);
        status.shares.as_mut().unwrap()[1] = held();
        status.show_shares();
        status.share(false);
        assert_eq!((&*status.condition, status.reasons.len()), ("ok", 0), "alone again");
    }
}
