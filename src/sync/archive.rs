//! An archive in a second store at the source, with a login of its own.
//!
//! Its folders wait for the cutover like deferred ones of the account's own store, and are copied
//! as those are. Before the seal it is only asked whether messages that left the account were
//! moved there. It endangers nothing: while it does not answer, what left keeps its copy, and the
//! account goes on without it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::timeout;

use super::account::refused_before;
use super::backoff;
use super::book::Pair;
use super::clock::Instant;
use super::connect::{connect_at, credentials_digest, place, refused};
use super::copy::{Failure, HostSays};
use super::folders::{self, Fate, SideFolders};
use super::hosts::Verdict;
use super::pass::{Look, Pass, Scope, at_source, at_target};
use super::source::{self, in_archive, is_archived};
use super::trouble::{self, Remedy, Trouble};
use crate::checkpoint::{Edit, Phase};
use crate::config::Enrollment;
use crate::imap::{Error, FolderStatus, WireName};
use crate::journal::{Entry, Event};
use crate::status::Reason;
use crate::words::Side;

/// So long a place at its host is waited for: the account's own mail waits meanwhile.
const PLACE_WITHIN: Duration = Duration::from_secs(20);

/// What is known of an account's archive, from session to session.
#[derive(Default)]
pub struct Learned {
    /// Failures in a row.
    failures: u32,
    not_before: Option<Instant>,
    /// Its login was refused: one try was enough.
    refused: bool,
    /// What is wrong with it, for operators, while it is.
    pub trouble: Option<Reason>,
    said: Option<&'static str>,
    /// It was tried once whether it lets us in.
    tried: bool,
    /// When the last pass began that found all of it at the target or listed, after the seal.
    pub complete_at: Option<i64>,
}

impl Learned {
    /// Somebody wants it tried again.
    pub fn forgive(&mut self) {
        let said = self.said;
        *self = Learned { complete_at: self.complete_at, said, ..Learned::default() };
    }

    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// Has it done what it was asked for, as far as it was?
    pub fn is_well(&self) -> bool {
        !self.refused && self.failures == 0
    }

    /// The last pass asks anew, whatever was before.
    pub fn begin_last_pass(&mut self) {
        (self.failures, self.not_before) = (0, None);
    }

    /// It worked to the end of a pass.
    fn worked(&mut self) {
        (self.failures, self.not_before, self.refused) = (0, None, false);
        (self.trouble, self.said) = (None, None);
    }

    /// It failed. Returns when it is tried again.
    pub fn failed(&mut self, jitter: f64) -> Instant {
        self.failures += 1;
        let again = Instant::now() + backoff::delay(self.failures, None, false, jitter);
        self.not_before = Some(again);
        again
    }
}

impl Pass<'_> {
    pub(super) fn has_archive(&self) -> bool {
        self.enrollment.has_archive()
    }

    /// Everything after the seal but the archive may be complete; until that is, nothing is.
    pub(super) fn is_archive_open(&self) -> bool {
        let complete_at = self.book.learned.archive.complete_at;
        self.has_archive() && !self.deferring && complete_at.is_none_or(|at| at < self.looks_from)
    }

    /// At the end of a pass that went well: what of the archive is learned from it.
    pub(super) fn conclude_archive(&mut self, looks: &[Look]) {
        let troubled = |look: &Look| {
            is_archived(&self.book.pairs[look.pair].source) && (look.troubled || !look.complete)
        };
        let vainly = self.silent || self.book.learned.deferred.kept > 0;
        let in_vain = (vainly || looks.iter().any(troubled)) && !self.unasked;
        if self.phase() == Phase::Draining && in_vain {
            self.book.learned.deferred.was_in_vain();
        }
        if self.source.archive().is_some() {
            self.book.learned.archive.worked();
        }
    }

    /// Once it is the archive's turn: its folders and their status.
    pub(super) async fn survey_archive(
        &mut self,
    ) -> Result<HashMap<WireName, FolderStatus>, Failure> {
        let none = HashMap::new();
        if !self.is_archive_open() {
            return Ok(none);
        }
        let shared = self.shared;
        if self.archive_slot.is_none() {
            self.archive_slot = shared.copying.try_acquire().ok();
        }
        // First copies go first; the next sweep looks again for a place among them.
        if self.archive_slot.is_none() {
            return Ok(none);
        }
        if !self.open_archive().await? {
            self.archive_slot = None;
            return Ok(none);
        }
        let listed = self.list_archive().await;
        let Some(listing) = self.unless_archive(listed).await? else { return Ok(none) };
        self.archive_looked = true;
        for new in listing.new {
            if let Err(why) = self.make_pair(&new).await? {
                self.leave_out(new.source, new.source_shown, "held", why, None);
            }
        }
        Ok(listing.statuses)
    }

    /// Before the seal: were messages that left moved there? Folders where they may lie are
    /// looked at with the others.
    pub(super) async fn ask_archive(&mut self, looks: &mut Vec<Look>) -> Result<(), Failure> {
        if !self.has_archive() || !self.may_change() {
            return Ok(());
        }
        let left = self.left_elsewhere(looks);
        let is_open = |pair: &Pair| {
            is_archived(&pair.source) && (pair.unfinished || self.scope == Scope::Full)
        };
        if left.is_empty() && !self.book.pairs.iter().any(is_open) {
            return Ok(());
        }
        self.silent = true;
        if self.scope == Scope::Told || !self.open_archive().await? {
            return Ok(());
        }
        let own = looks.len();
        let asked = self.look_into_archive(looks).await;
        match self.unless_archive(asked).await? {
            Some(wholly) => self.silent = !wholly,
            None => looks.truncate(own),
        }
        Ok(())
    }

    /// False where what may lie there cannot follow.
    async fn look_into_archive(&mut self, looks: &mut Vec<Look>) -> Result<bool, Failure> {
        let mut wholly = true;
        let listing = self.list_archive().await?;
        for at in 0..self.book.pairs.len() {
            let name = self.book.pairs[at].source.clone();
            if !is_archived(&name) {
                continue;
            }
            let look = match listing.statuses.contains_key(&name) {
                true => self.look_at(at, None).await?,
                false => Some(self.look_at_absent(at).await?),
            };
            wholly &= look.as_ref().is_some_and(|look| look.complete);
            looks.extend(look);
        }
        // What left a folder of the archive may lie in another one.
        let left = self.left_elsewhere(looks);
        for new in listing.new {
            let empty = listing.statuses.get(&new.source).is_some_and(FolderStatus::is_empty);
            if empty || left.is_empty() {
                continue;
            }
            match self.holds_any(&new.source, &left).await? {
                Some(true) => {}
                Some(false) => continue,
                None => {
                    wholly = false;
                    continue;
                }
            }
            let look = match self.make_pair(&new).await? {
                Ok(()) => self.look_at(self.book.pairs.len() - 1, None).await?,
                Err(_) => None,
            };
            wholly &= look.as_ref().is_some_and(|look| look.complete);
            looks.extend(look);
        }
        Ok(wholly)
    }

    /// Makes the folder at the target and remembers it; or tells why the target will not.
    async fn make_pair(&mut self, new: &New) -> Result<Result<(), String>, Failure> {
        let Some(to) = &new.target else { return Ok(Err(new.why.clone())) };
        match self.make_folder(&to.0).await {
            Ok(()) => {}
            Err(Failure::Imap(Side::Target, Error::No { code, text, .. }))
                if trouble::is_of_folder(code.as_ref(), &text) =>
            {
                let shown = &to.1;
                return Ok(Err(format!("the target refuses to create {shown:?}: {text}")));
            }
            Err(failure) => return Err(failure),
        }
        let (source, shown, to) = (new.source.clone(), new.source_shown.clone(), to.clone());
        self.open_pair(source, shown, to.0, to.1, false).await?;
        Ok(Ok(()))
    }

    /// Tries once, when all else is done, whether the archive lets us in: a wrong password is
    /// better known weeks before.
    pub(super) async fn try_archive(&mut self) -> Result<(), Failure> {
        if !self.has_archive() || self.book.learned.archive.tried {
            return Ok(());
        }
        if self.open_archive().await? {
            let listed = self.list_archive().await;
            self.unless_archive(listed).await?;
        }
        Ok(())
    }

    /// Connects to the archive. `false` while that cannot be had.
    async fn open_archive(&mut self) -> Result<bool, Failure> {
        if self.source.archive().is_some() {
            return Ok(true);
        }
        let Some(archive) = self.enrollment.of_archive() else { return Ok(false) };
        let learned = &mut self.book.learned.archive;
        let digest = credentials_digest(&archive, Side::Source);
        let before = self.book.record.refused_credentials.as_ref();
        if let Some(before) = before.filter(|before| before.digest == digest) {
            (learned.tried, learned.refused) = (true, true);
            let trouble = refused_before(before);
            self.tell_archive_trouble(trouble, None);
            return Ok(false);
        }
        if let Some(at) = learned.not_before
            && Instant::now() < at
        {
            self.unasked = true;
            self.due_at(at);
            return Ok(false);
        }
        let host = self.shared.hosts.host(&archive.migration.source.host);
        // Who waits in a line has not failed, and who logs in is heard out.
        // Past the cutover its account waits for nothing else, and gives its own place back after.
        let urgent = self.phase() >= Phase::Draining;
        let Ok(berth) = timeout(PLACE_WITHIN, host.login(urgent)).await else {
            self.unasked = true;
            return Ok(false);
        };
        self.book.learned.archive.tried = true;
        let connected = connect_at(self.shared, &archive, Side::Source, berth).await;
        match connected {
            Ok((session, berth)) => {
                self.source.add_archive(session, place(&archive, Side::Source), berth);
                Ok(true)
            }
            Err(failure) => {
                self.archive_failed(&archive, failure).await?;
                Ok(false)
            }
        }
    }

    /// What the archive's own failures have cost is the archive's; `None` then.
    async fn unless_archive<T>(&mut self, done: Result<T, Failure>) -> Result<Option<T>, Failure> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(failure @ Failure::Imap(Side::Source, _)) => {
                self.source.abandon_archive();
                if let Some(archive) = self.enrollment.of_archive() {
                    self.archive_failed(&archive, failure).await?;
                }
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn archive_failed(
        &mut self,
        archive: &Enrollment,
        failure: Failure,
    ) -> Result<(), Failure> {
        let trouble = trouble::trouble(&failure);
        let of_host = matches!(failure, Failure::Connect(_, _, HostSays::Refused(Verdict::Host)));
        if trouble.remedy == Remedy::Credentials && !of_host {
            // Also with a service login: another account's archive may be there all the same.
            self.book.learned.archive.refused = true;
            let refused = refused(archive, Side::Source, &trouble, self.shared.clock.now());
            self.book.record.refused_credentials = Some(refused);
            self.writer.commit(vec![Edit::PutAccount(self.book.record.clone())]).await?;
            self.tell_archive_trouble(trouble, None);
            return Ok(());
        }
        let again = self.book.learned.archive.failed(self.shared.chance.next());
        let left = again.saturating_duration_since(Instant::now()).as_secs() as i64;
        self.due_at(again);
        self.tell_archive_trouble(trouble, Some(self.shared.clock.now() + left));
        Ok(())
    }

    /// Shows it with the account's reasons; the journal hears of it when it changes.
    fn tell_archive_trouble(&mut self, trouble: Trouble, next_try: Option<i64>) {
        let trouble = Trouble { message: format!("archive: {}", trouble.message), ..trouble };
        let mut reason = self.board.reason_of(&trouble, next_try);
        let learned = &mut self.book.learned.archive;
        if let Some(before) = learned.trouble.as_ref().filter(|before| before.code == reason.code) {
            reason.since.clone_from(&before.since);
        }
        learned.trouble = Some(reason);
        if learned.said.replace(trouble.code) != Some(trouble.code) {
            let entry = Entry::new(Event::FolderSkipped, trouble.message).folder("archive:");
            self.emit(entry.reason(trouble.code));
        }
    }

    /// The archive's folders as they are now. Those that are new are mapped.
    async fn list_archive(&mut self) -> Result<Listing, Failure> {
        let none = || at_source(Error::Closed { bye: None });
        let archive = self.enrollment.of_archive().ok_or_else(none)?;
        let place = place(&archive, Side::Source);
        let session = self.source.archive().ok_or_else(none)?;
        let listed = session.list().await.map_err(at_source)?;
        let space = session.namespace().clone();
        let selectable = || listed.iter().filter(|listed| !listed.no_select);
        let mut statuses = HashMap::new();
        let mut unasked = Vec::new();
        for listed in selectable() {
            match listed.status {
                Some(status) => drop(statuses.insert(in_archive(&place, &listed.name), status)),
                None => unasked.push(&listed.name),
            }
        }
        let told = session.statuses(&unasked).await.map_err(at_source)?;
        for (name, status) in unasked.into_iter().zip(told) {
            statuses.insert(in_archive(&place, name), status.unwrap_or(FolderStatus::UNKNOWN));
        }
        // A refusal may have been for that moment: a full pass tries held folders again.
        let retry = self.scope == Scope::Full;
        let is_known = |name: &WireName| {
            let name = in_archive(&place, name);
            let mut left_out = self.book.left_out.iter();
            self.book.pairs.iter().any(|pair| pair.source == name)
                || left_out.any(|one| one.source == name && !(retry && one.state == "held"))
        };
        if selectable().all(|listed| is_known(&listed.name)) {
            return Ok(Listing { statuses, new: Vec::new() });
        }
        let fixed = self.book.pairs.iter().filter(|pair| is_archived(&pair.source));
        let fixed =
            fixed.map(|pair| (source::name_there(&pair.source), pair.target.clone())).collect();
        let target = self.target.session().await?;
        let target_listed = target.list().await.map_err(at_target)?;
        let migration = &archive.migration;
        let mapped = folders::map(
            &SideFolders {
                listed: &listed,
                namespace: &space,
                well_known: &migration.source.well_known,
            },
            &SideFolders {
                listed: &target_listed,
                namespace: target.namespace(),
                well_known: &migration.target.well_known,
            },
            &migration.folders,
            &fixed,
        );
        let mut new = Vec::new();
        for mapped in mapped {
            let (source, source_shown) = (in_archive(&place, &mapped.source), mapped.source_shown);
            if self.book.pairs.iter().any(|pair| pair.source == source) {
                continue;
            }
            match mapped.fate {
                Fate::Copy { target, target_shown } => {
                    let target = Some((target, target_shown));
                    new.push(New { source, source_shown, target, why: String::new() });
                }
                Fate::Excluded | Fate::Virtual => {
                    self.leave_out(source, source_shown, "excluded", String::new(), None);
                }
                Fate::Conflict(why) => {
                    new.push(New { source, source_shown, target: None, why });
                }
            }
        }
        Ok(Listing { statuses, new })
    }
}

/// The archive's folders.
struct Listing {
    statuses: HashMap<WireName, FolderStatus>,
    /// Wanted, and not yet a pair.
    new: Vec<New>,
}

/// A folder of the archive and where it goes, also as users see them.
struct New {
    source: WireName,
    source_shown: String,
    /// None where its target is taken, and why.
    target: Option<(WireName, String)>,
    why: String,
}
