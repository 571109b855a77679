//! Downloads an account's target (and its source) and compares it with what was copied.
//!
//! It has connections of its own within the hosts' budgets and changes nothing, so the account's
//! session goes on beside it. Whatever looks wrong is therefore looked at a second time, with the
//! links as they are then, before it is told. Neither messages nor links are held in memory: a
//! folder costs some 16 octets a message.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::beside::{self, is_not_paused, known_account, may_log_in, may_read_source};
use super::compare::{self, Absent, Kind, Stranger, Terms};
use super::connect::{connect, place};
use super::copy::Failure;
use super::pass::{at_source, at_target};
use super::shared::Shared;
use super::source::name_there;
use super::trouble;
use crate::checkpoint::{
    self, AccountId, AccountRecord, Edit, FolderId, FolderRecord, Known, Link, Phase, Proof, Seen,
    Store, StoreError, Writer,
};
use crate::config::Enrollment;
use crate::imap::{Error, Selected, Session, WholeSeen, WireName};
use crate::journal::shown;
use crate::words::{InternalDate, Sha256, Side, Uid};

/// Messages downloaded with one command.
const WINDOW: usize = 64;
/// What looks wrong is looked at again after so long: whatever was under way is written down then.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// So many of what is missing, and of what nothing explains, are looked for elsewhere.
const MATCHED_MAX: usize = 100_000;
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// A message costs a listing some twenty times as much as it costs here.
const LIGHTER: u64 = 16;

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

/// What one look does with what looks wrong.
enum Round<'o> {
    /// It is looked at again: a pass may be under way.
    Doubting(Only),
    /// It is told. All messages are looked at, or those of the round before.
    Telling(Option<&'o Only>),
}

impl Round<'_> {
    /// Those that the round is about; `None`: all.
    fn only(&self) -> Option<&Only> {
        match self {
            Round::Doubting(_) => None,
            Round::Telling(only) => *only,
        }
    }
}

/// What looked wrong.
#[derive(Default)]
struct Only {
    target_uids: HashSet<Uid>,
    /// By folder.
    sources: HashSet<(usize, Uid)>,
}

/// What is judged only when all places have been looked at: it may have gone from one to another.
#[derive(Default)]
struct Open {
    absent: Vec<Gone>,
    strangers: Vec<Strange>,
}

/// A link whose copy was not found.
struct Gone {
    folder: u32,
    source_uid: Uid,
    target_uid: Option<Uid>,
    how: Absent,
}

/// A message that no link explains.
struct Strange {
    uid: Uid,
    /// Some folder of the place it lies in.
    folder: usize,
    sha256: Sha256,
    instant: InternalDate,
    old: bool,
}

/// Which link explains which message of a place.
#[derive(Default)]
struct Index {
    /// Target UID, folder, source UID; ascending.
    by_uid: Vec<(Uid, u32, Uid)>,
    /// Links that go by their bytes: nobody told their copy's UID, or it means nothing any more.
    by_bytes: Vec<ByBytes>,
    /// Copies that are ours although their message is not known; ascending.
    kept: Vec<Uid>,
    /// Bytes of APPENDs in doubt, with the lowest UID they may have.
    in_doubt: Vec<(Sha256, u32)>,
}

struct ByBytes {
    sha256: Sha256,
    folder: u32,
    source_uid: Uid,
    found: bool,
}

impl Index {
    fn of_uid(&self, uid: Uid) -> Option<(usize, Uid)> {
        let at = self.by_uid.binary_search_by_key(&uid, |(uid, _, _)| *uid).ok()?;
        let (_, folder, source_uid) = self.by_uid[at];
        Some((folder as usize, source_uid))
    }

    /// A link with these bytes that no message explains yet.
    fn take_bytes(&mut self, sha256: Sha256) -> Option<(usize, Uid)> {
        let first = self.by_bytes.partition_point(|one| one.sha256 < sha256);
        let same = self.by_bytes[first..].iter_mut().take_while(|one| one.sha256 == sha256);
        let free = same.into_iter().find(|one| !one.found)?;
        free.found = true;
        Some((free.folder as usize, free.source_uid))
    }

    fn explains(&self, seen: &WholeSeen) -> bool {
        let doubted = |(sha256, from): &(Sha256, u32)| {
            *sha256 == seen.digests.sha256 && seen.uid.get() >= *from
        };
        self.kept.binary_search(&seen.uid).is_ok() || self.in_doubt.iter().any(doubted)
    }
}

impl Verification<'_> {
    /// Compares the target; gives what is missing there.
    async fn target(&mut self, places: &[Place]) -> Result<Vec<(FolderId, Uid)>, Stop> {
        let (mut session, _berth) = connect(self.shared, self.enrollment, Side::Target).await?;
        let _memory = self.shared.memory.of_messages(self.links()? / LIGHTER).await;
        for place in places {
            if self.is_sealed() {
                // No pass changes a copy any more.
                self.look(&mut session, place, &mut Round::Telling(None)).await?;
                continue;
            }
            let mut round = Round::Doubting(Only::default());
            self.look(&mut session, place, &mut round).await?;
            let Round::Doubting(doubts) = round else { continue };
            if !doubts.target_uids.is_empty() || !doubts.sources.is_empty() {
                tokio::time::sleep(AGAIN_AFTER).await;
                self.look(&mut session, place, &mut Round::Telling(Some(&doubts))).await?;
            }
        }
        session.logout().await;
        self.judge().await
    }

    /// How many links there are, for progress and memory.
    fn links(&self) -> Result<u64, Stop> {
        let mut links = 0;
        for folder in &self.folders {
            self.shared.store.visit_known(folder.id, |_, known| {
                links += u64::from(matches!(known, Known::Linked(_)));
            })?;
        }
        self.progress(|progress| progress.messages_of = links);
        Ok(links)
    }

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

    /// Downloads a place's messages and compares them.
    async fn look(
        &mut self,
        session: &mut Session,
        place: &Place,
        round: &mut Round<'_>,
    ) -> Result<(), Stop> {
        if let Some(record) = self.shared.store.account(&self.enrollment.address)? {
            self.record = record;
        }
        let selected = self.open_place(session, place).await?;
        let present = match &selected {
            Some(_) => session.list_uids().await.map_err(at_target)?,
            None => Vec::new(),
        };
        let last = self.last_seen(place)?;
        let now = selected.as_ref().map(|selected| selected.uid_validity);
        let renumbered = now.zip(last).is_some_and(|(now, last)| now != last.uid_validity);
        let mut index = self.index(place, renumbered)?;
        let is_wanted = |uid: &Uid| {
            round.only().is_none_or(|only| {
                only.target_uids.contains(uid)
                    || index.of_uid(*uid).is_some_and(|source| only.sources.contains(&source))
            })
        };
        let wanted: Vec<Uid> = present.iter().copied().filter(is_wanted).collect();
        let terms = self.terms(selected.as_ref());
        let old_below = last.filter(|_| !renumbered).map_or(0, |last| last.uid_next);
        for window in wanted.chunks(WINDOW) {
            let seen = session.whole_messages(window).await.map_err(at_target)?;
            self.unreadable(window, &seen, &index, round).await?;
            let mut edits = Vec::new();
            for seen in &seen {
                if round.only().is_none() {
                    self.count(seen);
                }
                let linked = index.of_uid(seen.uid);
                match linked.or_else(|| index.take_bytes(seen.digests.sha256)) {
                    Some(source) => edits.extend(self.copy(source, seen, &terms, round).await?),
                    None if index.explains(seen) => {}
                    None => self.stranger(place.folders[0], seen, old_below, round).await?,
                }
            }
            self.writer.commit_lazily(edits).await?;
        }
        let uid_next = selected.as_ref().and_then(|selected| selected.uid_next);
        self.absent(&index, &present, uid_next, renumbered, round);
        Ok(())
    }

    /// Selects the place; `None` if it does not exist any more. Until the seal its PERMANENTFLAGS
    /// matter, which only SELECT tells.
    async fn open_place(
        &self,
        session: &mut Session,
        place: &Place,
    ) -> Result<Option<Selected>, Stop> {
        let opened = match self.is_sealed() {
            true => session.examine(&place.name).await,
            false => session.select(&place.name).await,
        };
        match opened {
            Ok(selected) => Ok(Some(selected)),
            Err(Error::No { code, text, .. }) if trouble::is_nonexistent(code.as_ref(), &text) => {
                Ok(None)
            }
            Err(error) => Err(at_target(error).into()),
        }
    }

    /// What a pass saw when it last looked at the place.
    fn last_seen(&self, place: &Place) -> Result<Option<Seen>, Stop> {
        let mine: HashSet<FolderId> = place.folders.iter().map(|at| self.folders[*at].id).collect();
        let records = self.shared.store.folders(self.record.id)?;
        let seen = records.iter().filter(|record| mine.contains(&record.id));
        Ok(seen.filter_map(|record| record.target_seen).max_by_key(|seen| seen.uid_next))
    }

    fn index(&self, place: &Place, renumbered: bool) -> Result<Index, Stop> {
        let mut index = Index::default();
        for at in &place.folders {
            let folder = self.folders[*at].id;
            let number = u32::try_from(*at).unwrap_or(u32::MAX);
            self.shared.store.visit_known(folder, |source_uid, known| {
                let Known::Linked(link) = known else { return };
                match link.target_uid.filter(|_| !renumbered) {
                    Some(uid) => index.by_uid.push((uid, number, source_uid)),
                    None => index.by_bytes.push(ByBytes {
                        sha256: link.sha256,
                        folder: number,
                        source_uid,
                        found: false,
                    }),
                }
            })?;
            let orphans = self.shared.store.orphans(folder)?;
            index.kept.extend(orphans.iter().map(|orphan| orphan.target_uid));
            for intent in self.shared.store.intents(folder)? {
                let from = intent.target_uid_next;
                index.in_doubt.extend(intent.messages.iter().map(|one| (one.sha256, from)));
            }
        }
        index.by_uid.sort_unstable();
        index.by_bytes.sort_unstable_by_key(|one| (one.sha256, one.folder, one.source_uid));
        index.kept.sort_unstable();
        Ok(index)
    }

    fn count(&mut self, seen: &WholeSeen) {
        self.summary.messages += 1;
        self.summary.bytes += seen.digests.size;
        self.progress(|progress| {
            progress.messages += 1;
            progress.bytes += seen.digests.size;
        });
    }

    fn link(&self, folder: usize, source_uid: Uid) -> Result<Option<Link>, Stop> {
        match self.shared.store.known_one(self.folders[folder].id, source_uid)? {
            Some(Known::Linked(link)) => Ok(Some(link)),
            _ => Ok(None),
        }
    }

    /// Compares a copy with its link; what was found equal is proved.
    async fn copy(
        &mut self,
        (folder, source_uid): (usize, Uid),
        seen: &WholeSeen,
        terms: &Terms<'_>,
        round: &mut Round<'_>,
    ) -> Result<Option<Edit>, Stop> {
        // A link that has changed by now belongs to the pass that changed it.
        let Some(link) = self.link(folder, source_uid)? else { return Ok(None) };
        for (kind, detail) in compare::differences(&link, seen, terms) {
            self.differs(folder, source_uid, seen.uid, (kind, detail), round).await?;
        }
        let equal = seen.digests.sha256 == link.sha256;
        let new = equal && link.altered.is_none() && link.proof != Proof::Verified;
        let id = self.folders[folder].id;
        Ok(new.then_some(Edit::Prove(id, source_uid, seen.uid, link.sha256)))
    }

    /// Messages of the window that are listed and whose bytes did not come.
    async fn unreadable(
        &mut self,
        window: &[Uid],
        seen: &[WholeSeen],
        index: &Index,
        round: &mut Round<'_>,
    ) -> Result<(), Stop> {
        let came: HashSet<Uid> = seen.iter().map(|seen| seen.uid).collect();
        for uid in window.iter().filter(|uid| !came.contains(uid)) {
            if let Some((folder, source_uid)) = index.of_uid(*uid) {
                let what = (Kind::Unreadable, "its bytes are not given".to_owned());
                self.differs(folder, source_uid, *uid, what, round).await?;
            }
        }
        Ok(())
    }

    async fn differs(
        &mut self,
        folder: usize,
        source_uid: Uid,
        target_uid: Uid,
        (kind, detail): (Kind, String),
        round: &mut Round<'_>,
    ) -> Result<(), Stop> {
        match round {
            Round::Doubting(doubts) => {
                doubts.target_uids.insert(target_uid);
                doubts.sources.insert((folder, source_uid));
                Ok(())
            }
            Round::Telling(_) => {
                let (source, target) = (Some(source_uid), Some(target_uid));
                self.tell(Side::Target, kind, folder, source, target, detail).await
            }
        }
    }

    async fn stranger(
        &mut self,
        folder: usize,
        seen: &WholeSeen,
        old_below: u32,
        round: &mut Round<'_>,
    ) -> Result<(), Stop> {
        let old = seen.uid.get() < old_below;
        let (sha256, instant) = (seen.digests.sha256, seen.instant);
        let strange = Strange { uid: seen.uid, folder, sha256, instant, old };
        match round {
            Round::Doubting(doubts) => drop(doubts.target_uids.insert(seen.uid)),
            Round::Telling(_) if self.open.strangers.len() < MATCHED_MAX => {
                self.open.strangers.push(strange);
            }
            Round::Telling(_) => self.tell_stranger(strange, false).await?,
        }
        Ok(())
    }

    /// Links that no message explains.
    fn absent(
        &mut self,
        index: &Index,
        present: &[Uid],
        uid_next: Option<u32>,
        renumbered: bool,
        round: &mut Round<'_>,
    ) {
        for (uid, folder, source_uid) in &index.by_uid {
            if present.binary_search(uid).is_err() {
                let continuous = uid_next.is_none_or(|uid_next| uid.get() < uid_next);
                let how = Absent { told: true, continuous, elsewhere: false };
                let (folder, source_uid, target_uid) = (*folder, *source_uid, Some(*uid));
                self.gone(Gone { folder, source_uid, target_uid, how }, round);
            }
        }
        for one in index.by_bytes.iter().filter(|one| !one.found) {
            let how = Absent { told: renumbered, continuous: false, elsewhere: false };
            let (folder, source_uid) = (one.folder, one.source_uid);
            self.gone(Gone { folder, source_uid, target_uid: None, how }, round);
        }
    }

    fn gone(&mut self, gone: Gone, round: &mut Round<'_>) {
        let source = (gone.folder as usize, gone.source_uid);
        match round {
            Round::Doubting(doubts) => drop(doubts.sources.insert(source)),
            Round::Telling(Some(only)) if !only.sources.contains(&source) => {}
            Round::Telling(_) => self.open.absent.push(gone),
        }
    }

    /// What is missing is looked for among what nothing explains, over all folders; then both are
    /// judged and told.
    async fn judge(&mut self) -> Result<Vec<(FolderId, Uid)>, Stop> {
        let Open { absent, mut strangers } = std::mem::take(&mut self.open);
        let mut missing = Vec::new();
        strangers.sort_unstable_by_key(|strange| (strange.sha256, strange.uid));
        let mut taken = vec![false; strangers.len()];
        for gone in absent {
            let (folder, source_uid) = (gone.folder as usize, gone.source_uid);
            let Some(link) = self.link(folder, source_uid)? else { continue };
            let first = strangers.partition_point(|strange| strange.sha256 < link.sha256);
            let found = (first..strangers.len())
                .take_while(|at| strangers[*at].sha256 == link.sha256)
                .find(|at| !taken[*at]);
            let how = Absent { elsewhere: found.is_some(), ..gone.how };
            let kind = compare::absent(how, &self.terms(None));
            let mut detail = String::new();
            if let Some(at) = found {
                let lies_in = &self.folders[strangers[at].folder].target_shown;
                detail = format!("the same bytes lie in {}", shown(lies_in));
                taken[at] = kind == Kind::Moved;
            } else if gone.how.told && !gone.how.continuous {
                detail = "the folder was restored or made anew at the target".to_owned();
            }
            if kind == Kind::Missing {
                missing.push((self.folders[folder].id, source_uid));
            }
            let source = Some(source_uid);
            self.tell(Side::Target, kind, folder, source, gone.target_uid, detail).await?;
        }
        let twins = self.twins(&strangers)?;
        for (strange, taken) in strangers.into_iter().zip(taken) {
            if !taken {
                let twin = twins.contains(&strange.sha256);
                self.tell_stranger(strange, twin).await?;
            }
        }
        Ok(missing)
    }

    /// Whose bytes are those of a message that has its copy?
    fn twins(&self, strangers: &[Strange]) -> Result<HashSet<Sha256>, Stop> {
        let strange: HashSet<Sha256> = strangers.iter().map(|strange| strange.sha256).collect();
        let mut twins = HashSet::new();
        for folder in self.folders.iter().filter(|_| !strange.is_empty()) {
            self.shared.store.visit_known(folder.id, |_, known| {
                if let Known::Linked(link) = known
                    && strange.contains(&link.sha256)
                {
                    twins.insert(link.sha256);
                }
            })?;
        }
        Ok(twins)
    }

    async fn tell_stranger(&mut self, strange: Strange, twin: bool) -> Result<(), Stop> {
        let what = Stranger { twin, old: strange.old, instant: strange.instant.0 };
        let kind = compare::stranger(what, &self.terms(None));
        let detail = match twin {
            true => "a second copy of a message".to_owned(),
            false => format!("dated {}", super::board::rfc3339(strange.instant.0)),
        };
        self.tell(Side::Target, kind, strange.folder, None, Some(strange.uid), detail).await
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

/// The source, compared with what was copied from it.
impl Verification<'_> {
    async fn source(&mut self) -> Result<(), Stop> {
        self.summary.source_messages = Some(0);
        self.holding(self.enrollment, None).await?;
        let Some(archive) = self.enrollment.of_archive() else { return Ok(()) };
        let at = place(&archive, Side::Source);
        let lies_there = |folder: &FolderRecord| folder.archive().as_ref() == Some(&at);
        if self.folders.iter().any(lies_there) {
            may_log_in(&archive, &self.record, Side::Source)?;
            self.holding(&archive, Some(&at)).await?;
        }
        Ok(())
    }

    /// The account's own store, or its archive.
    async fn holding(
        &mut self,
        login: &Enrollment,
        archive: Option<&checkpoint::Place>,
    ) -> Result<(), Stop> {
        let (mut session, _berth) = connect(self.shared, login, Side::Source).await?;
        for folder in 0..self.folders.len() {
            if self.folders[folder].archive().as_ref() == archive {
                self.source_folder(&mut session, folder).await?;
            }
        }
        session.logout().await;
        Ok(())
    }

    async fn source_folder(&mut self, session: &mut Session, folder: usize) -> Result<(), Stop> {
        let name = name_there(&WireName::of_wire(&self.folders[folder].source_name));
        let selected = match session.examine(&name).await {
            Ok(selected) => selected,
            Err(Error::No { code, text, .. }) if trouble::is_nonexistent(code.as_ref(), &text) => {
                let detail = "the folder is gone from the source".to_owned();
                return self.tell(Side::Source, Kind::Removed, folder, None, None, detail).await;
            }
            Err(error) => return Err(at_source(error).into()),
        };
        let id = self.folders[folder].id;
        let records = self.shared.store.folders(self.record.id)?;
        let last = records.iter().find(|record| record.id == id);
        let last = last.and_then(|record| record.source_seen).unwrap_or_default();
        if last.uid_validity != selected.uid_validity {
            let detail = "the source renumbered the folder: the next pass pairs it anew".to_owned();
            return self.tell(Side::Source, Kind::NotCopied, folder, None, None, detail).await;
        }
        let present = session.list_uids().await.map_err(at_source)?;
        self.progress(|progress| progress.messages_of += present.len() as u64);
        for window in present.chunks(WINDOW) {
            let seen = session.whole_messages(window).await.map_err(at_source)?;
            for seen in seen {
                self.source_message(folder, &seen, last.uid_next).await?;
            }
        }
        let mut gone = Vec::new();
        self.shared.store.visit_known(id, |uid, known| {
            if matches!(known, Known::Linked(_)) && present.binary_search(&uid).is_err() {
                gone.push(uid);
            }
        })?;
        for uid in gone {
            let detail = "it left the source".to_owned();
            self.tell(Side::Source, Kind::Removed, folder, Some(uid), None, detail).await?;
        }
        Ok(())
    }

    async fn source_message(
        &mut self,
        folder: usize,
        seen: &WholeSeen,
        uid_next: u32,
    ) -> Result<(), Stop> {
        self.summary.source_messages = self.summary.source_messages.map(|messages| messages + 1);
        self.progress(|progress| {
            progress.messages += 1;
            progress.bytes += seen.digests.size;
        });
        let uid = Some(seen.uid);
        let known = self.shared.store.known_one(self.folders[folder].id, seen.uid)?;
        let link = match known {
            Some(Known::Linked(link)) => link,
            Some(Known::Refused { .. }) => return Ok(()),
            None => {
                let is_new = seen.uid.get() >= uid_next;
                let kind = if is_new { Kind::Arrived } else { Kind::NotCopied };
                return self.tell(Side::Source, kind, folder, uid, None, String::new()).await;
            }
        };
        // Flags of the source may have changed a moment ago; they are the next pass's business.
        let flags = link.flags.clone();
        let seen = WholeSeen { flags, ..seen.clone() };
        let link = Link { altered: None, ..link };
        let terms = Terms { permanent: None, ..self.terms(None) };
        for (kind, detail) in compare::differences(&link, &seen, &terms) {
            self.tell(Side::Source, kind, folder, uid, link.target_uid, detail).await?;
        }
        Ok(())
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
