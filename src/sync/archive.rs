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
use super::connect::{
    connect, credentials_digest, place, refused, service_login, tell_service_refused,
};
use super::copy::{Failure, HostSays};
use super::deferred::{Metadata, may_be};
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

/// So long a question waits for a connection: the account's own mail waits meanwhile.
const ASKED_WITHIN: Duration = Duration::from_secs(20);
/// So long a copy waits for one, past the seal.
const CONNECTED_WITHIN: Duration = Duration::from_secs(300);
/// So often the last pass asks in vain; then the account is sealed without an answer.
const ASKED_IN_VAIN_MAX: u32 = 3;
/// First copies go first: an archive looks again after this for a place among them.
const NO_SLOT: Duration = Duration::from_secs(30);

/// What is known of an account's archive, from session to session.
#[derive(Default)]
pub struct Learned {
    /// Failures in a row.
    failures: u32,
    not_before: Option<Instant>,
    /// Its login was refused: one try was enough.
    refused: bool,
    /// The target will not have a folder of it.
    in_vain: bool,
    /// What is wrong with it, for operators, while it is.
    pub trouble: Option<Reason>,
    said: Option<&'static str>,
    /// It was tried once whether it lets us in.
    tried: bool,
    /// All of it was at the target or listed when it was last looked at, after the seal.
    pub complete: bool,
    /// Copies that stay because it did not answer.
    pub kept: usize,
}

impl Learned {
    /// Somebody wants it tried again.
    pub fn forgive(&mut self) {
        let said = self.said;
        *self = Learned { complete: self.complete, said, ..Learned::default() };
    }

    /// It failed in the middle of its work. `after` is when it is tried again.
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
        self.has_archive() && !self.deferring && !self.book.learned.archive.complete
    }

    /// Nobody waits for its answer any more.
    pub(super) fn is_archive_given_up(&self) -> bool {
        let learned = &self.book.learned.archive;
        self.phase() == Phase::Draining
            && (learned.refused || learned.in_vain || learned.failures >= ASKED_IN_VAIN_MAX)
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
        if self.archive_slot.is_none() {
            self.due_at(Instant::now() + NO_SLOT);
            return Ok(none);
        }
        if !self.open_archive(CONNECTED_WITHIN).await? {
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
        self.archive_silent = true;
        if self.scope == Scope::Told || !self.open_archive(ASKED_WITHIN).await? {
            return Ok(());
        }
        let own = looks.len();
        let asked = self.look_into_archive(looks, &left).await;
        match self.unless_archive(asked).await? {
            Some(wholly) => {
                self.archive_silent = !wholly;
                self.book.learned.archive.in_vain = !wholly;
            }
            None => looks.truncate(own),
        }
        Ok(())
    }

    /// False where what may lie there cannot follow.
    async fn look_into_archive(
        &mut self,
        looks: &mut Vec<Look>,
        left: &Metadata,
    ) -> Result<bool, Failure> {
        let mut wholly = true;
        let listing = self.list_archive().await?;
        for at in 0..self.book.pairs.len() {
            let name = self.book.pairs[at].source.clone();
            if !is_archived(&name) {
                continue;
            }
            match listing.statuses.contains_key(&name) {
                true => looks.extend(self.look_at(at, None).await?),
                false => looks.push(self.look_at_absent(at).await?),
            }
        }
        for new in listing.new {
            let empty = listing.statuses.get(&new.source).is_none_or(|status| status.messages == 0);
            if empty || left.is_empty() || !self.holds_any(&new.source, left).await? {
                continue;
            }
            match self.make_pair(&new).await? {
                Ok(()) => looks.extend(self.look_at(self.book.pairs.len() - 1, None).await?),
                Err(_) => wholly = false,
            }
        }
        for look in looks.iter_mut().filter(|look| self.book.pairs[look.pair].deferred) {
            look.wants.retain(|_, message| may_be(message, left));
        }
        Ok(wholly)
    }

    /// Makes the folder at the target and remembers it; or tells why the target will not.
    async fn make_pair(&mut self, new: &New) -> Result<Result<(), String>, Failure> {
        match self.make_folder(&new.target).await {
            Ok(()) => {}
            Err(Failure::Imap(Side::Target, Error::No { code, text, .. }))
                if trouble::is_of_folder(code.as_ref(), &text) =>
            {
                let shown = &new.target_shown;
                return Ok(Err(format!("the target refuses to create {shown:?}: {text}")));
            }
            Err(failure) => return Err(failure),
        }
        let New { source, source_shown, target, target_shown } = new;
        let (source, target) = (source.clone(), target.clone());
        self.open_pair(source, source_shown.clone(), target, target_shown.clone(), false).await?;
        Ok(Ok(()))
    }

    /// Tries once, when all else is done, whether the archive lets us in: a wrong password is
    /// better known weeks before.
    pub(super) async fn try_archive(&mut self) -> Result<(), Failure> {
        if !self.has_archive() || self.book.learned.archive.tried {
            return Ok(());
        }
        if self.open_archive(ASKED_WITHIN).await? {
            let listed = self.list_archive().await;
            self.unless_archive(listed).await?;
        }
        Ok(())
    }

    /// Connects to the archive. `false` while that cannot be had.
    async fn open_archive(&mut self, within: Duration) -> Result<bool, Failure> {
        if self.source.archive().is_some() {
            return Ok(true);
        }
        let Some(archive) = self.enrollment.of_archive() else { return Ok(false) };
        let learned = &mut self.book.learned.archive;
        learned.tried = true;
        let digest = credentials_digest(&archive, Side::Source);
        let before = self.book.record.refused_credentials.as_ref();
        if let Some(before) = before.filter(|before| before.digest == digest) {
            learned.refused = true;
            let trouble = refused_before(before);
            self.tell_archive_trouble(trouble, None);
            return Ok(false);
        }
        if let Some(at) = learned.not_before
            && Instant::now() < at
        {
            self.due_at(at);
            return Ok(false);
        }
        let connected = timeout(within, connect(self.shared, &archive, Side::Source)).await;
        let connected = connected.unwrap_or_else(|_| {
            Err(Failure::Connect(Side::Source, Error::TimedOut("a connection"), HostSays::Nothing))
        });
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
            Ok(done) => {
                let learned = &mut self.book.learned.archive;
                (learned.failures, learned.not_before) = (0, None);
                (learned.trouble, learned.said) = (None, None);
                Ok(Some(done))
            }
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
            if service_login(archive, Side::Source).is_some() {
                tell_service_refused(self.shared, archive, Side::Source, &trouble.message);
            } else if self.book.record.refused_credentials.is_none() {
                self.book.learned.archive.refused = true;
                let refused = refused(archive, Side::Source, &trouble, self.shared.clock.now());
                self.book.record.refused_credentials = Some(refused);
                self.writer.commit(vec![Edit::PutAccount(self.book.record.clone())]).await?;
                self.tell_archive_trouble(trouble, None);
                return Ok(());
            }
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
            let text = format!(
                "{} – meanwhile what leaves the account's folders keeps its copy",
                trouble.message
            );
            let entry = Entry::new(Event::FolderSkipped, text).folder("archive:");
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
        let is_known = |name: &WireName| {
            let name = in_archive(&place, name);
            self.book.pairs.iter().any(|pair| pair.source == name)
                || self.book.left_out.iter().any(|one| one.source == name)
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
            match mapped.fate {
                _ if self.book.pairs.iter().any(|pair| pair.source == source) => {}
                Fate::Copy { target, target_shown } => {
                    new.push(New { source, source_shown, target, target_shown });
                }
                Fate::Excluded | Fate::Virtual => {
                    self.leave_out(source, source_shown, "excluded", String::new(), None);
                }
                // Nothing is copied yet, so nobody is to be bothered yet.
                Fate::Conflict(_) if self.deferring => {}
                Fate::Conflict(why) => self.leave_out(source, source_shown, "held", why, None),
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
    target: WireName,
    target_shown: String,
}
