//! What a configuration says once it has been checked: values every other room relies on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use super::roster::Roster;
use super::schedule::Schedule;

/// What `pecsync.toml` and `migrations.d` say, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of `pecsync.toml`: problems name files relative to it.
    pub dir: PathBuf,
    pub daemon: Daemon,
    pub hooks: Hooks,
    pub limits: Limits,
    pub migrations: BTreeMap<String, Arc<Migration>>,
    /// Of the enrollment page, which is another program.
    pub portal: super::Portal,
    /// What opens sealed passwords.
    pub keyring: super::Keyring,
}

/// Program and arguments, by the event that they are told of.
pub type Hooks = BTreeMap<&'static str, Vec<String>>;

#[derive(Clone, Debug)]
pub struct Daemon {
    pub conf_dir: PathBuf,
    pub state_dir: PathBuf,
    pub control_socket: PathBuf,
    /// Loopback, unless it was said that it is public.
    pub metrics_listen: Option<SocketAddr>,
    /// A line an account among the metrics.
    pub metrics_accounts: bool,
    pub exit_when_completed: bool,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub accounts_copying: usize,
    pub memory_bytes: u64,
    pub schedule: Schedule,
    /// For hosts without a table of their own.
    pub default: HostLimits,
    pub hosts: BTreeMap<String, HostLimits>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HostLimits {
    pub logins_per_second: f64,
    pub connections: usize,
    pub sweeps_per_second: f64,
}

#[derive(Clone, Debug)]
pub struct Migration {
    pub name: String,
    pub domains: Vec<String>,
    pub timezone: String,
    /// An enrollment that comes before waits for it.
    pub enroll_from: Option<Timestamp>,
    /// An enrollment that is written after is rejected, unless the account is known.
    pub enroll_until: Option<Timestamp>,
    pub cutover: Option<Timestamp>,
    pub cutover_window: Duration,
    pub settle: Duration,
    pub source_until: Option<Timestamp>,
    /// Who is to be moved, where a file says so.
    pub accounts: Option<Arc<Roster>>,
    pub target_is_ours: bool,
    pub source: Endpoint,
    pub target: Endpoint,
    pub folders: FolderRules,
    pub sync: SyncRules,
    /// As archive logins see it, where `after_cutover` is taken from a second store.
    pub archive: Option<Arc<Migration>>,
}

impl Migration {
    /// As seen by logins at `archive`: their folders are those of `after_cutover`, and there is
    /// nothing to settle.
    pub fn of_archive(&self, archive: Endpoint) -> Migration {
        let folders = FolderRules {
            only: self.folders.after_cutover.clone(),
            label: "archive:",
            after_cutover: Vec::new(),
            after_cutover_from: None,
            ..self.folders.clone()
        };
        Migration {
            source: archive,
            folders,
            settle: Duration::ZERO,
            enroll_from: None,
            enroll_until: None,
            accounts: None,
            ..self.clone()
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tls {
    Implicit,
    StartTls,
    None,
}

#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The preset named, or implied by leaving `[target]` out.
    pub provider: Option<String>,
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    pub ca_file: Option<PathBuf>,
    pub service_login: Option<ServiceLogin>,
    /// Well-known folder names of the preset, as users see them (`INBOX/Spedite`), by use.
    pub well_known: Vec<(FolderUse, String)>,
}

/// What a well-known folder is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FolderUse {
    Drafts,
    Junk,
    Sent,
    Trash,
    Archive,
}

#[derive(Clone, Debug)]
pub struct ServiceLogin {
    pub user: String,
    pub password: SecretString,
    pub style: ServiceStyle,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServiceStyle {
    /// SASL PLAIN with an authorization identity.
    Authzid,
    /// `account<separator>user`.
    Master { separator: String },
}

/// Folder names as users see them: UTF-8, `/` between levels, without the namespace prefix.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FolderRules {
    /// Patterns with `*` (within a level) and `**`.
    pub exclude: Vec<String>,
    /// Patterns of folders that are copied only after the cutover.
    pub after_cutover: Vec<String>,
    /// Not before this; by default not before the end of `cutover_window`.
    pub after_cutover_from: Option<Timestamp>,
    pub rename: BTreeMap<String, String>,
    /// Patterns of the only folders that are copied; empty: all.
    pub only: Vec<String>,
    /// What operators see before each name, so that folders of two stores are told apart.
    pub label: &'static str,
}

#[derive(Clone, Debug)]
pub struct SyncRules {
    pub deletions: Deletions,
    pub sweep_interval: Duration,
    pub idle: Vec<String>,
    pub read_back: ReadBack,
    pub in_doubt_wait: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deletions {
    Mirror,
    Keep,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadBack {
    Suspect,
    All,
    Off,
}

/// One account to be moved, as its file asks for it, with its migration resolved.
#[derive(Clone, Debug)]
pub struct Enrollment {
    /// Case-folded.
    pub address: String,
    pub migration: Arc<Migration>,
    /// The account's own cutover, else its migration's.
    pub cutover: Option<Timestamp>,
    pub source_user: String,
    /// `None` where a service login stands in.
    pub source_password: Option<SecretString>,
    pub source_expires: Option<Timestamp>,
    pub target_user: String,
    pub target_password: Option<SecretString>,
    /// Its login at its archive, if it has one.
    pub archive: Option<ArchiveLogin>,
    /// This is the account as its archive login sees it: [`Enrollment::of_archive`].
    pub is_archive: bool,
    pub contact: Contact,
    pub file: PathBuf,
    /// An administrator wrote `file`, and since then the portal this one, whose password for the
    /// source is in force.
    pub owners_file: Option<PathBuf>,
    /// What operators decided since; no file says so.
    pub decree: Decree,
}

impl Enrollment {
    /// Does its file hold a password, or name the file of one?
    pub fn has_secrets(&self) -> bool {
        let archive = self.archive.as_ref().and_then(|login| login.password.as_ref());
        self.source_password.is_some() || self.target_password.is_some() || archive.is_some()
    }

    /// The file that the source's password comes from, if it is one that the mailbox's owner logs in
    /// with, and not a service's or another user's.
    pub fn owners_password_from(&self) -> Option<&Path> {
        let is_owners = self.source_user.eq_ignore_ascii_case(&self.address);
        let is_owners = is_owners && self.source_password.is_some();
        is_owners.then(|| self.owners_file.as_deref().unwrap_or(&self.file))
    }

    /// Is a part of it taken from a second store?
    pub fn has_archive(&self) -> bool {
        self.archive.is_some() && self.migration.archive.is_some()
    }

    /// The account with its archive login for a source.
    pub fn of_archive(&self) -> Option<Enrollment> {
        let ArchiveLogin { user, password } = self.archive.clone()?;
        Some(Enrollment {
            migration: self.migration.archive.clone()?,
            source_user: user,
            source_password: password,
            source_expires: None,
            archive: None,
            is_archive: true,
            ..self.clone()
        })
    }
}

/// A second source login: to the store that holds the archive.
#[derive(Clone, Debug)]
pub struct ArchiveLogin {
    pub user: String,
    /// `None` where a service login stands in.
    pub password: Option<SecretString>,
}

/// What an operator decided about an account over the control socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decree {
    /// Nothing is done for it.
    pub paused: bool,
    /// From a seal before this it returns to append-only following.
    pub reopened_at: Option<Timestamp>,
    /// Its migration's cutover, where that was moved.
    pub migration_cutover: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    pub email: Option<String>,
    pub phone: Option<String>,
}
