//! What `status` shows of an account, kept current by its task.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;

use super::book::Book;
use super::clock::Instant;
use super::trouble::Trouble;
use crate::checkpoint::Phase;
use crate::config::{Contact, Enrollment};
use crate::status::{AccountStatus, ContactStatus, FolderCounts, Reason};
use crate::words::Side;

/// Shared with whoever answers `status`.
pub type StatusCell = Arc<Mutex<AccountStatus>>;

/// The account's own side of its status.
pub struct Board {
    cell: StatusCell,
    /// When the copying that runs began, and how many bytes had been copied then.
    pace: Mutex<Option<(Instant, u64)>>,
    /// When progress was last told.
    told: Mutex<Instant>,
    /// What is wrong with the account itself.
    own: Mutex<Option<Reason>>,
    concerns: Mutex<Vec<Reason>>,
    /// Deletions at the source are not mirrored at all.
    pub keeps: bool,
}

/// A first copy says how far it is this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);

impl Board {
    pub fn new(cell: StatusCell) -> Board {
        Board {
            cell,
            pace: Mutex::new(None),
            told: Mutex::new(Instant::now()),
            own: Mutex::default(),
            concerns: Mutex::default(),
            keeps: false,
        }
    }

    pub fn edit(&self) -> MutexGuard<'_, AccountStatus> {
        self.cell.lock().expect("no panic while held")
    }

    /// Shows folders and counts.
    pub fn show_book(&self, book: &Book) {
        let mut folders: Vec<FolderCounts> = book.pairs.iter().map(|pair| pair.status()).collect();
        folders.extend(book.left_out.iter().map(|left_out| {
            FolderCounts {
                name: left_out.shown.clone(),
                state: left_out.state.to_owned(),
                reason: (left_out.state == "held")
                    .then(|| self.reason("folder_conflict", None, &left_out.why)),
                ..FolderCounts::default()
            }
        }));
        let mut status = self.edit();
        let sum = |of: fn(&super::book::Counts) -> u64| {
            Some(book.pairs.iter().map(|pair| of(&pair.counts)).sum::<u64>())
        };
        status.messages.source = sum(|counts| counts.source);
        status.messages.copied = sum(|counts| counts.linked);
        status.messages.adopted = sum(|counts| counts.adopted);
        status.messages.refused = sum(|counts| counts.refused);
        status.messages.altered = sum(|counts| counts.altered);
        status.messages.verified = sum(|counts| counts.verified);
        status.messages.in_doubt = Some(book.pairs.iter().map(|pair| pair.in_doubt).sum());
        status.bytes.source = sum(|counts| counts.source_bytes);
        status.bytes.copied = sum(|counts| counts.linked_bytes);
        status.folders = folders;
        let removals = match (book.record.removals_suspended, self.keeps) {
            (true, _) => "suspended",
            (false, true) => "kept",
            (false, false) => "mirrored",
        };
        removals.clone_into(&mut status.removals);
        drop(status);
        self.show_concerns(book);
    }

    /// What needs somebody although the account goes on: folders in trouble, removals that wait.
    fn show_concerns(&self, book: &Book) {
        let mut concerns: Vec<Reason> =
            book.pairs.iter().filter_map(|pair| pair.trouble.clone()).collect();
        let conflicts = book.left_out.iter().filter(|left_out| left_out.state == "held");
        concerns
            .extend(conflicts.map(|left_out| self.reason("folder_conflict", None, &left_out.why)));
        concerns.extend(book.learned.archive.trouble.clone());
        if book.record.removals_suspended {
            let text = "many messages vanished from the source at once; their copies stay";
            let mut reason = self.reason("mass_deletion", Some(Side::Source), text);
            "`pecsync approve ADDRESS deletions` if that is meant.".clone_into(&mut reason.hint);
            concerns.push(reason);
        }
        for concern in &mut concerns {
            let status = self.edit();
            let before = status
                .reasons
                .iter()
                .find(|before| before.code == concern.code && before.message == concern.message);
            if let Some(before) = before {
                concern.since.clone_from(&before.since);
            }
        }
        *self.concerns.lock().expect("no panic while held") = concerns;
        self.show_reasons();
    }

    /// The account's own trouble first, then its concerns.
    fn show_reasons(&self) {
        let own = self.own.lock().expect("no panic while held").clone();
        let concerns = self.concerns.lock().expect("no panic while held").clone();
        let reasons: Vec<Reason> = own.into_iter().chain(concerns).collect();
        let mut status = self.edit();
        status.reason = reasons.first().cloned();
        status.reasons = reasons;
    }

    pub fn show_phase(&self, phase: Phase, sealed_at: Option<i64>, source_seen_until: Option<i64>) {
        let mut status = self.edit();
        phase.as_str().clone_into(&mut status.phase);
        status.sealed_at = sealed_at.map(rfc3339);
        status.source_seen_until = source_seen_until.map(rfc3339);
    }

    /// One more copy, in the folder at that index. Now and then returns how far it is, in words.
    pub fn copied(&self, folder: usize, bytes: u64) -> Option<String> {
        let mut pace = self.pace.lock().expect("no panic while held");
        let mut status = self.edit();
        let before = status.bytes.copied.unwrap_or_default();
        let (since, base) = *pace.get_or_insert((Instant::now(), before));
        let copied = before + bytes;
        status.bytes.copied = Some(copied);
        status.messages.copied = Some(status.messages.copied.unwrap_or_default() + 1);
        if let Some(folder) = status.folders.get_mut(folder) {
            folder.copied = Some(folder.copied.unwrap_or_default() + 1);
        }
        let left = status.bytes.source.unwrap_or_default().saturating_sub(copied);
        let secs = since.elapsed().as_secs_f64();
        // A session that died may have left a start from before copies went.
        let rate = copied.saturating_sub(base) as f64 / secs.max(0.1);
        status.eta_s = (secs > 1.0 && rate > 0.0).then(|| (left as f64 / rate).ceil() as u64);
        status.last_copied_at = Some(rfc3339_now());
        let mut told = self.told.lock().expect("no panic while held");
        if told.elapsed() < PROGRESS_EVERY {
            return None;
        }
        *told = Instant::now();
        Some(progress(&status))
    }

    /// A copy has ended, for now.
    pub fn rest(&self) {
        *self.pace.lock().expect("no panic while held") = None;
        self.edit().eta_s = None;
    }

    pub fn proved_alive(&self, mode: &str) {
        let mut status = self.edit();
        status.proved_alive_at = Some(rfc3339_now());
        mode.clone_into(&mut status.mode);
    }

    /// All is well with the account itself.
    pub fn well(&self) {
        *self.own.lock().expect("no panic while held") = None;
        "ok".clone_into(&mut self.edit().condition);
        self.show_reasons();
    }

    /// Something is wrong: `condition` is `retrying` or `held`.
    pub fn unwell(&self, condition: &str, reason: Reason) {
        *self.own.lock().expect("no panic while held") = Some(reason);
        condition.clone_into(&mut self.edit().condition);
        self.show_reasons();
    }

    pub fn reason(&self, code: &str, side: Option<Side>, message: &str) -> Reason {
        let message = crate::journal::shown(message);
        Reason {
            code: code.to_owned(),
            side: side.map(|side| side.as_str().to_owned()),
            message,
            hint: String::new(),
            since: rfc3339_now(),
            next_try: None,
        }
    }

    /// The reason of a trouble; one that lasts keeps its `since`.
    pub fn reason_of(&self, trouble: &Trouble, next_try: Option<i64>) -> Reason {
        let mut reason = self.reason(trouble.code, trouble.side, &trouble.message);
        trouble.hint.clone_into(&mut reason.hint);
        reason.next_try = next_try.map(rfc3339);
        if let Some(before) = &self.edit().reason
            && before.code == reason.code
        {
            reason.since.clone_from(&before.since);
        }
        reason
    }
}

fn progress(status: &AccountStatus) -> String {
    let messages = status.messages;
    let eta = status.eta_s.map_or_else(String::new, |secs| format!(", about {secs} s to go"));
    format!(
        "{} of {} messages are at the target{eta}",
        messages.copied.unwrap_or_default(),
        messages.source.unwrap_or_default()
    )
}

/// How `status` shows a contact.
pub fn contact_status(contact: &Contact) -> ContactStatus {
    ContactStatus { email: contact.email.clone(), phone: contact.phone.clone() }
}

/// The file that holds the source's password, where that is its owner's.
pub fn owners_password_from(enrollment: &Enrollment) -> Option<String> {
    enrollment.owners_password_from().map(|file| file.display().to_string())
}

/// RFC 3339 in UTC, to the second.
pub fn rfc3339(unix: i64) -> String {
    Timestamp::from_second(unix).map_or_else(|_| "?".to_owned(), |instant| instant.to_string())
}

fn rfc3339_now() -> String {
    rfc3339(Timestamp::now().as_second())
}
