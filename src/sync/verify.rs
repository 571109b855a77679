//! Downloads an account's target (and its source) and compares it with what was copied.
//!
//! It has connections of its own within the hosts' budgets and changes nothing, so the account's
//! session goes on beside it. Whatever looks wrong is therefore looked at a second time, with the
//! links as they are then, before it is told. Neither messages nor links are held in memory: a
//! folder costs some 16 octets a message.

mod index;
mod source;
mod target;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::target::Open;
use super::beside::{self, is_not_paused, known_account, may_log_in, may_read_source};
use super::compare::{Kind, Terms};
use super::copy::Failure;
use super::shared::Shared;
use crate::checkpoint::{
    AccountId, AccountRecord, Edit, FolderId, FolderRecord, Known, Phase, Proof, Seen, Store,
    StoreError, Writer,
};
use crate::config::Enrollment;
use crate::imap::{Selected, WholeSeen, WireName};
use crate::journal::shown;
use crate::words::{Side, Uid};

/// Messages downloaded with one command.
const WINDOW: usize = 64;
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// What a verification says while it runs, in this order for each account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "told", content = "of", rename_all = "snake_case")]
pub enum Told {
    Progress(Progress),
    Finding(Finding),
    Account(Box<Summary>),
}

#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    pub address: String,
    pub messages: u64,
    /// 0 until it is known.
    pub messages_of: u64,
    pub bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    pub address: String,
    /// `source` or `target`.
    pub side: String,
    pub kind: Kind,
    /// The source's folder; the target's where there is no other.
    pub folder: String,
    pub source_uid: Option<u32>,
    pub target_uid: Option<u32>,
    pub detail: String,
}

#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Summary {
    pub address: String,
    pub phase: String,
    /// Downloaded from the target and compared.
    pub messages: u64,
    pub bytes: u64,
    /// Downloaded from the source and compared; `None` where that was not asked for.
    pub source_messages: Option<u64>,
    pub differences: u64,
    pub changed_since: u64,
    /// Missing ones that the next pass copies again.
    pub to_be_copied: u64,
    /// Why nothing is copied again although it was asked for.
    pub not_repaired: Option<String>,
    /// Why the account could not be verified to the end: a reason code, and words.
    pub error: Option<(String, String)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The source too.
    pub source: bool,
    /// What is missing is to be copied again.
    pub repair: bool,
}

/// What a verification leaves to be done.
pub struct Outcome {
    pub summary: Summary,
    /// Source messages whose copy is missing.
    pub missing: Vec<(FolderId, Uid)>,
    /// Copies proved by bytes that were read back, by now.
    pub proved: u64,
    /// Before the cutover.
    pub may_repair: bool,
}

/// Verifies one account, telling findings and, every now and then, progress. `None` once nobody
/// listens any more. Dropping it is safe.
pub async fn verify(
    shared: &Shared,
    enrollment: &Enrollment,
    options: Options,
    tell: &mpsc::Sender<Told>,
) -> Option<Outcome> {
    let address = enrollment.address.clone();
    let progress = Mutex::new(Progress { address: address.clone(), ..Progress::default() });
    let told = || progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut work = Box::pin(work(shared, enrollment, options, tell, &progress));
    let mut tick = tokio::time::interval(PROGRESS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = &mut work => return match ended {
                Ok(outcome) => Some(outcome),
                Err(Stop::Unheard) => None,
                Err(stop) => Some(failed(address, &told(), &stop)),
            },
            _ = tick.tick() => tell.send(Told::Progress(told())).await.ok()?,
        }
    }
}

/// Why a verification ends early.
enum Stop {
    Beside(beside::Stop),
    /// Whoever asked has gone.
    Unheard,
}

impl From<beside::Stop> for Stop {
    fn from(stop: beside::Stop) -> Stop {
        Stop::Beside(stop)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Beside(failure.into())
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Stop {
        Stop::Beside(error.into())
    }
}

fn failed(address: String, progress: &Progress, stop: &Stop) -> Outcome {
    let (code, words) = match stop {
        Stop::Beside(stop) => stop.told(),
        Stop::Unheard => (String::new(), String::new()),
    };
    let summary = Summary {
        address,
        messages: progress.messages,
        bytes: progress.bytes,
        error: Some((code, words)),
        ..Summary::default()
    };
    Outcome { summary, missing: Vec::new(), proved: 0, may_repair: false }
}

async fn work(
    shared: &Shared,
    enrollment: &Enrollment,
    options: Options,
    tell: &mpsc::Sender<Told>,
    progress: &Mutex<Progress>,
) -> Result<Outcome, Stop> {
    let Some(record) = known_account(shared, enrollment)? else {
        return Ok(nothing_yet(&enrollment.address));
    };
    is_not_paused(enrollment)?;
    may_log_in(enrollment, &record, Side::Target)?;
    if options.source {
        may_read_source(shared, enrollment)?;
        may_log_in(enrollment, &record, Side::Source)?;
    }
    let folders = shared.store.folders(record.id)?;
    let places = places(&folders);
    let summary = Summary {
        address: record.address.clone(),
        phase: record.phase.as_str().to_owned(),
        ..Summary::default()
    };
    let writer = shared.store.writer();
    let open = Open::default();
    let mut look =
        Verification { shared, enrollment, record, folders, writer, tell, progress, summary, open };
    let missing = look.target(&places).await?;
    if options.source {
        look.source().await?;
    }
    // What was proved shows in reads only after this.
    look.writer.commit(Vec::new()).await?;
    let proved = proved(shared, &look.folders)?;
    let may_repair = may_repair(look.record.phase);
    Ok(Outcome { summary: look.summary, missing, proved, may_repair })
}

/// Nothing was copied: nothing differs.
fn nothing_yet(address: &str) -> Outcome {
    let (address, phase) = (address.to_owned(), Phase::Enrolled.as_str().to_owned());
    let summary = Summary { address, phase, ..Summary::default() };
    Outcome { summary, missing: Vec::new(), proved: 0, may_repair: true }
}

/// Copies proved by bytes that were read back.
fn proved(shared: &Shared, folders: &[FolderRecord]) -> Result<u64, Stop> {
    let mut proved = 0;
    for folder in folders {
        shared.store.visit_known(folder.id, |_, known| {
            proved += u64::from(matches!(known, Known::Linked(link) if link.proof > Proof::Listed));
        })?;
    }
    Ok(proved)
}

/// A folder at the target, with the source folders whose messages lie in it.
struct Place {
    name: WireName,
    /// Indexes into the account's folders.
    folders: Vec<usize>,
}

fn places(folders: &[FolderRecord]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for (at, folder) in folders.iter().enumerate() {
        let name = WireName::of_wire(&folder.target_name);
        match places.iter_mut().find(|place| place.name == name) {
            Some(place) => place.folders.push(at),
            None => places.push(Place { name, folders: vec![at] }),
        }
    }
    places
}

struct Verification<'a> {
    shared: &'a Shared,
    enrollment: &'a Enrollment,
    record: AccountRecord,
    folders: Vec<FolderRecord>,
    writer: Writer,
    tell: &'a mpsc::Sender<Told>,
    progress: &'a Mutex<Progress>,
    summary: Summary,
    open: Open,
}

impl Verification<'_> {
    fn progress(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The account may be sealed while it is verified.
    fn is_sealed(&self) -> bool {
        self.record.phase >= Phase::Archiving
    }

    fn terms<'t>(&self, selected: Option<&'t Selected>) -> Terms<'t> {
        let cutover = self.enrollment.cutover.map(|cutover| cutover.as_second());
        Terms {
            sealed: self.is_sealed(),
            cutover: cutover.or(self.record.sealed_at),
            target_is_ours: self.enrollment.migration.target_is_ours,
            permanent: selected.filter(|it| !it.read_only).map(|it| &it.permanent_flags),
        }
    }

    fn count(&mut self, seen: &WholeSeen) {
        self.summary.messages += 1;
        self.summary.bytes += seen.digests.size;
        self.progress(|progress| {
            progress.messages += 1;
            progress.bytes += seen.digests.size;
        });
    }

    async fn tell(
        &mut self,
        side: Side,
        kind: Kind,
        folder: usize,
        source_uid: Option<Uid>,
        target_uid: Option<Uid>,
        detail: String,
    ) -> Result<(), Stop> {
        match kind.is_difference() {
            true => self.summary.differences += 1,
            false => self.summary.changed_since += 1,
        }
        let record = &self.folders[folder];
        let name = match source_uid {
            Some(_) => &record.source_shown,
            None => &record.target_shown,
        };
        let finding = Finding {
            address: shown(&self.record.address),
            side: side.to_string(),
            kind,
            folder: shown(name),
            source_uid: source_uid.map(Uid::get),
            target_uid: target_uid.map(Uid::get),
            detail,
        };
        self.tell.send(Told::Finding(finding)).await.map_err(|_| Stop::Unheard)
    }
}

/// Forgets links whose copy is missing, so that the next pass looks for it, on both sides and in
/// full, and copies it again if it is nowhere.
pub fn recopy(record: &mut FolderRecord, uids: &[Uid]) -> Vec<Edit> {
    let unseen = |seen: Seen| Seen { uid_validity: seen.uid_validity, ..Seen::default() };
    record.source_seen = record.source_seen.map(unseen);
    record.target_seen = record.target_seen.map(unseen);
    let drops = uids.iter().map(|uid| Edit::DropKnown(record.id, *uid));
    drops.chain([Edit::PutFolder(record.clone())]).collect()
}

/// [`recopy`] for folders that nobody has open.
pub fn repair(
    store: &Store,
    account: AccountId,
    missing: &[(FolderId, Uid)],
) -> Result<Vec<Edit>, StoreError> {
    let mut edits = Vec::new();
    for mut record in store.folders(account)? {
        let uids = of_folder(missing, record.id);
        if !uids.is_empty() {
            edits.extend(recopy(&mut record, &uids));
        }
    }
    Ok(edits)
}

pub fn of_folder(missing: &[(FolderId, Uid)], folder: FolderId) -> Vec<Uid> {
    missing.iter().filter(|(of, _)| *of == folder).map(|(_, uid)| *uid).collect()
}

/// Why nothing is copied again then.
pub const PAST_CUTOVER: &str =
    "after the cutover the target is its owner's: nothing is copied again";

/// May what is missing still be copied again? From the cutover on the target is its owner's.
pub fn may_repair(phase: Phase) -> bool {
    phase < Phase::Draining
}
