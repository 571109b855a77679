//! The declaration of all events.

use crate::words::Uid;

/// What happened, by the contract's names. Each has a MESSAGE_ID and a PRIORITY.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    DaemonStarted,
    DaemonStopping,
    EnrollmentAccepted,
    EnrollmentReplaced,
    EnrollmentRejected,
    EnrollmentRemoved,
    AccountConnected,
    FolderCopied,
    CopyProgress,
    FirstCopyCompleted,
    MessageCopied,
    /// A message of the first copy, at debug priority.
    MessageAdopted,
    MessageMoved,
    MessageRefused,
    MessageAltered,
    MessageRemoved,
    FlagsChanged,
    CopyVanished,
    AppendInDoubt,
    DuplicateSuspected,
    FolderConflict,
    FolderSkipped,
    RemovalsSuspended,
    RemovalsLapsed,
    AccountRetrying,
    AccountRecovered,
    AccountHeld,
    HostDown,
    HostRecovered,
    UidvalidityChanged,
    StateRebuilt,
    SecretExpiring,
    CutoverScheduled,
    CutoverStarted,
    CutoverOverdue,
    AccountSealed,
    AccountCompleted,
    AccountClosed,
    MigrationCompleted,
    ConfigurationReloaded,
    StatusReported,
    ClockSuspect,
    InternalError,
    CheckpointLost,
}

/// One journal entry: an event with the fields that apply. Build it with the setters.
#[derive(Clone, Debug)]
pub struct Entry {
    pub event: Event,
    /// Overrides the event's own priority (7 for messages of a first copy).
    pub priority: Option<u8>,
    pub message: String,
    pub account: Option<String>,
    pub migration: Option<String>,
    pub host: Option<String>,
    pub folder: Option<String>,
    pub source_uid: Option<Uid>,
    pub target_uid: Option<Uid>,
    pub bytes: Option<u64>,
    pub duration_ms: Option<u64>,
    pub reason: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
}

impl Entry {
    pub fn new(event: Event, message: impl Into<String>) -> Entry {
        Entry {
            event,
            priority: None,
            message: message.into(),
            account: None,
            migration: None,
            host: None,
            folder: None,
            source_uid: None,
            target_uid: None,
            bytes: None,
            duration_ms: None,
            reason: None,
            file: None,
            line: None,
        }
    }

    pub fn priority(self, priority: u8) -> Entry {
        Entry { priority: Some(priority), ..self }
    }

    pub fn account(self, address: &str) -> Entry {
        Entry { account: Some(address.to_owned()), ..self }
    }

    pub fn migration(self, name: &str) -> Entry {
        Entry { migration: Some(name.to_owned()), ..self }
    }

    pub fn host(self, host: &str) -> Entry {
        Entry { host: Some(host.to_owned()), ..self }
    }

    pub fn folder(self, name: &str) -> Entry {
        Entry { folder: Some(name.to_owned()), ..self }
    }

    pub fn source_uid(self, uid: Uid) -> Entry {
        Entry { source_uid: Some(uid), ..self }
    }

    pub fn target_uid(self, uid: Option<Uid>) -> Entry {
        Entry { target_uid: uid, ..self }
    }

    pub fn bytes(self, bytes: u64) -> Entry {
        Entry { bytes: Some(bytes), ..self }
    }

    pub fn duration_ms(self, duration: std::time::Duration) -> Entry {
        Entry { duration_ms: Some(duration.as_millis() as u64), ..self }
    }

    /// A reason code of the contract.
    pub fn reason(self, code: &str) -> Entry {
        Entry { reason: Some(code.to_owned()), ..self }
    }

    pub fn file(self, file: &std::path::Path, line: usize) -> Entry {
        let line = u32::try_from(line).ok().filter(|line| *line > 0);
        Entry { file: Some(file.display().to_string()), line, ..self }
    }
}
