//! Verifications and reports, asked for over the control socket: tasks beside the accounts'.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;

use super::board::Board;
use super::control::Reply;
use super::process::last_words;
use super::protocol::{Answer, Line, exit};
use super::supervisor::Supervisor;
use crate::checkpoint::{AccountRecord, FolderId, Store};
use crate::config::Enrollment;
use crate::journal::{Entry, Event, shown};
use crate::report::gather;
use crate::sync::account::{Order, Shared};
use crate::sync::verify::{self, Options, Outcome, Summary};
use crate::words::Uid;

/// Verifications at once. Each has a connection or two, and a client's place.
pub(super) const VERIFICATIONS_MAX: usize = 4;
/// Lines that wait for a client.
const LINES_MAX: usize = 256;

/// What the supervisor keeps of verifications.
pub(super) struct Proofs {
    pub places: Arc<Semaphore>,
    tell: mpsc::Sender<Verified>,
    /// What ended verifications leave to be done.
    pub verified: mpsc::Receiver<Verified>,
}

impl Proofs {
    pub fn new() -> Proofs {
        let (tell, verified) = mpsc::channel(VERIFICATIONS_MAX);
        Proofs { places: Arc::new(Semaphore::new(VERIFICATIONS_MAX)), tell, verified }
    }
}

/// Whose report is asked for.
pub enum Whose {
    Address(String),
    Migration(String),
}

impl Whose {
    pub fn of(address: Option<String>, migration: Option<String>) -> Option<Whose> {
        address.map(Whose::Address).or(migration.map(Whose::Migration))
    }
}

/// An account was verified.
pub(super) struct Verified {
    address: String,
    proved: u64,
    /// To be copied again.
    missing: Vec<(FolderId, Uid)>,
    /// Whether its task has taken it.
    taken: oneshot::Sender<bool>,
}

impl Supervisor {
    /// Streams the report of one account, or of all of a migration.
    pub(super) fn report(&self, of: Whose) -> Reply {
        let (lines, heard) = mpsc::channel(LINES_MAX);
        let (store, board) = (self.shared.store.clone(), self.board.clone());
        let now = self.shared.clock.now();
        spawn_blocking(move || {
            let answer = match give_reports(&store, &board, &of, now, &lines) {
                Ok(answer) => answer,
                Err(error) => Answer::refuse(exit::NO, shown(&error.to_string())),
            };
            // Nobody may listen any more.
            let _ = lines.blocking_send(Line::Answer(answer));
        });
        Reply::Lines(heard)
    }

    /// Verifies one account, or all of them in turn, beside their tasks.
    pub(super) fn verify(&self, address: Option<String>, options: Options, by: &str) -> Reply {
        let address = address.map(|address| address.to_lowercase());
        let enrollments: Vec<Arc<Enrollment>> = match &address {
            Some(address) => self.accounts.enrollment(address).cloned().into_iter().collect(),
            None => self.accounts.enrollments().cloned().collect(),
        };
        let refuse = |text: String| Reply::Answer(Answer::refuse(exit::NO, text));
        if let (Some(address), true) = (&address, enrollments.is_empty()) {
            return refuse(format!("{}: no such account", shown(address)));
        }
        let Ok(place) = self.proofs.places.clone().try_acquire_owned() else {
            let text = format!("{VERIFICATIONS_MAX} verifications run already: try again later");
            return refuse(text);
        };
        let what = if options.repair { "verify and repair" } else { "verify" };
        let entry = Entry::new(Event::OrderReceived, format!("{what}{by}"));
        self.emit(match &address {
            Some(address) => entry.account(address),
            None => entry,
        });
        let (lines, heard) = mpsc::channel(LINES_MAX);
        let round = Round {
            shared: self.shared.clone(),
            options,
            lines,
            tell: self.proofs.tell.clone(),
            _place: place,
        };
        tokio::spawn(round.guarded(enrollments));
        Reply::Lines(heard)
    }

    /// Passes on what a verification leaves to be done.
    pub(super) fn take_verified(&mut self, verified: Verified) {
        let Verified { address, proved, missing, taken } = verified;
        let given = self.accounts.order(&address, Order::Verified(missing));
        self.accounts.show_verified(&address, proved);
        // The verification may have been given up meanwhile.
        let _ = taken.send(given.is_ok());
    }
}

fn give_reports(
    store: &Store,
    board: &Board,
    of: &Whose,
    now: i64,
    lines: &mpsc::Sender<Line>,
) -> std::io::Result<Answer> {
    let records = records(store, of)?;
    for record in &records {
        let left_out = board.left_out(&record.address);
        gather(store, record, &left_out, now, &mut |row| {
            lines.blocking_send(Line::Row(row)).map_err(std::io::Error::other)
        })?;
    }
    Ok(match records.is_empty() {
        true => Answer::refuse(exit::NO, nothing_known(of)),
        false => Answer::default(),
    })
}

/// Accounts that the checkpoint remembers, by address.
pub fn records(store: &Store, of: &Whose) -> std::io::Result<Vec<AccountRecord>> {
    match of {
        Whose::Address(address) => {
            Ok(store.account(&address.to_lowercase())?.into_iter().collect())
        }
        Whose::Migration(name) => {
            let mut records = store.accounts()?;
            records.retain(|record| record.migration == *name);
            records.sort_by(|a, b| a.address.cmp(&b.address));
            Ok(records)
        }
    }
}

pub fn nothing_known(of: &Whose) -> String {
    match of {
        Whose::Address(address) => format!("{}: nothing is remembered of it", shown(address)),
        Whose::Migration(name) => {
            format!("nothing is remembered of any account of migration {}", shown(name))
        }
    }
}

/// One order to verify.
struct Round {
    shared: Arc<Shared>,
    options: Options,
    lines: mpsc::Sender<Line>,
    tell: mpsc::Sender<Verified>,
    _place: OwnedSemaphorePermit,
}

impl Round {
    /// A panic is told like that of any other task.
    async fn guarded(self, enrollments: Vec<Arc<Enrollment>>) {
        let (shared, lines) = (self.shared.clone(), self.lines.clone());
        let task = tokio::spawn(self.run(enrollments));
        let id = task.id();
        if task.await.is_err() {
            let words = last_words(id).unwrap_or_else(|| "panic".to_owned());
            let entry = Entry::new(Event::InternalError, words.as_str());
            shared.journal.emit(entry.reason("internal_error"));
            let _ = lines.send(Line::Answer(Answer::refuse(exit::NO, words))).await;
        }
    }

    async fn run(self, enrollments: Vec<Arc<Enrollment>>) {
        let mut code = exit::FINE;
        for enrollment in enrollments {
            let Some(summary) = self.account(&enrollment).await else { return };
            code = worse(code, exit_code(&summary));
            let told = verify::Told::Account(summary.into());
            if self.lines.send(Line::Told(told)).await.is_err() {
                return;
            }
        }
        let answer = Answer { exit: code, ..Answer::default() };
        let _ = self.lines.send(Line::Answer(answer)).await;
    }

    /// `None` once the client has gone.
    async fn account(&self, enrollment: &Enrollment) -> Option<Summary> {
        let (tell, mut told) = mpsc::channel(LINES_MAX);
        let pass_on = async move {
            while let Some(told) = told.recv().await {
                if self.lines.send(Line::Told(told)).await.is_err() {
                    // With it goes the receiver, and that ends the verification.
                    return;
                }
            }
        };
        let verifying = async move {
            let tell = tell;
            verify::verify(&self.shared, enrollment, self.options, &tell).await
        };
        let (outcome, ()) = tokio::join!(verifying, pass_on);
        let Outcome { mut summary, missing, proved, may_repair } = outcome?;
        let wanted = self.options.repair && !missing.is_empty();
        let count = missing.len() as u64;
        let missing = if wanted && may_repair { missing } else { Vec::new() };
        let (taken, is_taken) = oneshot::channel();
        let repairs = !missing.is_empty();
        let address = enrollment.address.clone();
        let _ = self.tell.send(Verified { address, proved, missing, taken }).await;
        let taken = is_taken.await.unwrap_or(false);
        match (wanted, repairs && taken) {
            (false, _) => {}
            (true, true) => summary.to_be_copied = count,
            (true, false) if may_repair => {
                summary.not_repaired = Some("its task takes no orders: try again".to_owned());
            }
            (true, false) => summary.not_repaired = Some(verify::PAST_CUTOVER.to_owned()),
        }
        self.say(enrollment, &summary);
        Some(summary)
    }

    fn say(&self, enrollment: &Enrollment, summary: &Summary) {
        let text = match &summary.error {
            None => format!(
                "{} messages compared: {} differences, {} changed since",
                summary.messages, summary.differences, summary.changed_since
            ),
            Some((_, words)) => format!("not to the end: {words}"),
        };
        let entry = Entry::new(Event::AccountVerified, text).bytes(summary.bytes);
        let entry = entry.account(&enrollment.address).migration(&enrollment.migration.name);
        self.shared.journal.emit(match &summary.error {
            Some((code, _)) => entry.reason(code),
            None => entry,
        });
    }
}

/// What a verification of one account ends with.
pub fn exit_code(summary: &Summary) -> u8 {
    match &summary.error {
        None if summary.differences > 0 => exit::NO,
        None => exit::FINE,
        Some((code, _)) => exit_of(code),
    }
}

/// What a command ends with that could not look at an account, by reason code.
pub fn exit_of(code: &str) -> u8 {
    match code {
        "credentials_rejected" | "service_login_rejected" => exit::CREDENTIALS,
        "unreachable" | "timed_out" | "logins_refused_by_host" => exit::UNAVAILABLE,
        _ => exit::NO,
    }
}

/// Differences count more than what could not be found out.
pub fn worse(one: u8, other: u8) -> u8 {
    match (one, other) {
        (exit::NO, _) | (_, exit::NO) => exit::NO,
        (exit::FINE, other) => other,
        (one, _) => one,
    }
}
