//! One session of an account: connected to both sides, it copies, follows, drains and seals.
//!
//! Push is a hint, the sweep is the truth: whatever IDLE says or fails to say, a sweep on a timer
//! finds every change. IDLE is armed before the sweep that it completes.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::task::JoinSet;

use super::account::{Control, completed_account};
use super::board::{Board, rfc3339};
use super::book::{Book, Counts, Pair};
use super::clock::{Instant, clock_suspect};
use super::connect::{connect, credentials_digest, worked_digest};
use super::copy::Failure;
use super::cutover::{self, Facts, Reopened};
use super::folders;
use super::hurry::Hurry;
use super::pass::{Pass, Scope, Verdict, at_source};
use super::plan;
use super::proof;
use super::shared::Shared;
use super::source::{Source, is_archived};
use super::target::Target;
use super::trouble::{self, Trouble};
use super::verify;
use super::watch;
use crate::checkpoint::{Edit, FolderId, Known, Phase, StoreError, Writer};
use crate::config::Enrollment;
use crate::imap::{Error, IdleNews, News, Session, WireName};
use crate::journal::{Entry, Event};
use crate::words::{Side, Uid};

/// The target's connection is dropped after so much quiet.
const TARGET_LINGERS: Duration = Duration::from_secs(30);
/// IDLE is renewed this often, whatever the server promises (RFC 2177 says 29 minutes; NATs say
/// less). A connection that waits for its first copy is kept alive as often.
const IDLE_AT_MOST: Duration = Duration::from_secs(240);
/// The wall clock is read at least this often, sooner than it can matter …
const CLOCK_EVERY: Duration = Duration::from_secs(60);
/// … and every second when it matters.
const CLOCK_EVERY_NEAR: Duration = Duration::from_secs(1);
const NEAR_SECS: i64 = 90;
/// After a pass that left something to do without saying until when; doubled by each that follows.
const UNFINISHED_AGAIN: Duration = Duration::from_secs(5);
/// So many such passes, and others who wait for a connection go first.
const FRUITLESS_MAX: u32 = 8;
/// So many connections that end in IDLE, one after the other, and the source is polled instead …
const CUTS_IN_IDLE_MAX: u32 = 3;
/// … for so long.
const POLLED_FOR: Duration = Duration::from_secs(3600);
/// INBOX stays selected from one IDLE to the next, and some servers tell nothing new of a folder
/// that is selected, not even by STATUS: every so many sweeps it is selected anew.
const SWEEPS_ON_ONE_SELECT: u32 = 4;

pub struct Following<'a> {
    pub shared: &'a Arc<Shared>,
    pub enrollment: &'a Arc<Enrollment>,
    pub writer: &'a Writer,
    pub board: &'a Board,
    pub control: &'a Arc<Control>,
    /// The journal was told of trouble: it is told of its end.
    pub recovering: bool,
}

/// How a session came to its end without a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// The account has completed or closed.
    Finished,
    /// It was told to stop.
    Stopped,
    /// Others wait for its connections.
    Rested,
}

/// What a session remembers from pass to pass.
#[derive(Default)]
struct Course {
    scope: Option<Scope>,
    told: Option<(WireName, News)>,
    fresh_from: Option<Uid>,
    /// Sweeps since INBOX was last looked at whatever its status.
    sweeps: u32,
    /// When the last clean pass of this phase began.
    clean_since: Option<i64>,
    /// When the last full pass began.
    full_since: Option<i64>,
    /// Passes in a row that left something to do.
    fruitless: u32,
    /// Folders were left alone that wait for the cutover.
    deferring: bool,
    /// What passes that news asks for have come to.
    hurry: Hurry,
}

/// What ended a wait.
enum Woken {
    /// Run a pass.
    Pass(Scope, Option<(WireName, News)>),
    /// Make room for others.
    Rest,
}

/// Does the source idle?
enum Armed {
    Yes,
    /// Something happened in INBOX since it was looked at: it is looked at again first.
    Stale,
    /// It will not select INBOX, or not idle: until the next sweep nothing is told.
    Refused,
}

/// Opens the pairs the checkpoint remembers.
pub fn open_pairs(shared: &Shared, book: &mut Book) -> Result<(), StoreError> {
    // What another session suspected is looked at again, also where the status tells of no change:
    // it may be all there.
    let suspected: HashSet<FolderId> =
        book.learned.missing.keys().map(|(folder, _)| *folder).collect();
    for record in shared.store.folders(book.record.id)? {
        let source = WireName::of_wire(&record.source_name);
        let target = WireName::of_wire(&record.target_name);
        let known: BTreeMap<Uid, Known> = shared.store.known(record.id)?.into_iter().collect();
        let mut counts = Counts::default();
        counts.recount(&known);
        counts.source = record.source_seen.map_or(0, |seen| u64::from(seen.messages));
        counts.source_bytes = counts.linked_bytes;
        let intents = shared.store.intents(record.id)?;
        let in_doubt = intents.iter().filter(|intent| !intent.repeated);
        book.pairs.push(Pair {
            source,
            target,
            permanent: None,
            counts,
            look_at_target: false,
            unfinished: !intents.is_empty()
                || known.values().any(plan::is_open)
                || suspected.contains(&record.id),
            deferred: false,
            in_doubt: in_doubt.map(|intent| intent.messages.len() as u64).sum(),
            listed_to: None,
            trouble: None,
            record,
        });
    }
    book.pairs.sort_by_key(|pair| (!pair.source.is_inbox(), pair.record.id));
    Ok(())
}

impl Following<'_> {
    /// Works until the account has completed or closed, is told to stop, makes room, or fails.
    ///
    /// All but the wait for news is boxed: a quiet account keeps room for nothing else.
    pub async fn run(self, book: &mut Book) -> Result<Over, Failure> {
        if Box::pin(self.advance(book, None)).await? {
            return Ok(Over::Finished);
        }
        let mut target = Target::new(self.shared.clone(), self.enrollment.clone());
        let copies =
            book.record.first_copy_completed || self.shared.copying.available_permits() > 0;
        if copies && !self.recovering {
            target.connect_ahead();
        }
        let connecting = Box::pin(connect(self.shared, self.enrollment, Side::Source));
        let (source, berth) = connecting.await?;
        let mut source = Source::new(source);
        let slot = Box::pin(self.copying_slot(book, source.own())).await?;
        if self.stopping() {
            return Ok(Over::Stopped);
        }
        Box::pin(self.connected(book, &source, &mut target)).await?;
        let ended = self.live(book, &mut source, &mut target, slot).await;
        if ended.is_ok() {
            Box::pin(source.logout()).await;
            Box::pin(target.close()).await;
        }
        drop(berth);
        ended
    }

    /// First copies take turns; who waits keeps its connection alive.
    async fn copying_slot(
        &self,
        book: &Book,
        source: &mut Session,
    ) -> Result<Option<SemaphorePermit<'_>>, Failure> {
        while !book.record.first_copy_completed && !self.stopping() {
            tokio::select! {
                biased;
                slot = self.shared.copying.acquire() => return Ok(slot.ok()),
                () = tokio::time::sleep(IDLE_AT_MOST) => {
                    source.noop().await.map_err(at_source)?;
                    self.board.proved_alive("polled");
                }
                () = self.control.wake.notified() => {}
            }
        }
        Ok(None)
    }

    async fn connected(
        &self,
        book: &mut Book,
        source: &Session,
        target: &mut Target,
    ) -> Result<(), Failure> {
        let target_session = target.session().await?;
        let text = format!(
            "source {}: {}; target {}: {}",
            source.server_name(),
            source.capabilities().atoms.join(" "),
            target_session.server_name(),
            target_session.capabilities().atoms.join(" "),
        );
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let offers = Some(hasher.finish());
        if book.learned.said_offers != offers {
            let host = &self.enrollment.migration.source.host;
            self.emit(Entry::new(Event::AccountConnected, text).host(host));
            book.learned.said_offers = offers;
        }
        let worked = Some(worked_digest(self.enrollment));
        // The archive's stand as long as they are those that were refused.
        let archive = self.enrollment.of_archive();
        let archive = archive.map(|archive| credentials_digest(&archive, Side::Source));
        let refused = &book.record.refused_credentials;
        let stale = refused.as_ref().is_some_and(|refused| Some(refused.digest) != archive);
        if book.record.worked_credentials != worked || stale {
            book.record.worked_credentials = worked;
            if stale {
                book.record.refused_credentials = None;
            }
            self.save(book).await?;
        }
        if !self.recovering {
            self.board.well();
        }
        self.board.proved_alive("polled");
        Ok(())
    }

    async fn live(
        &self,
        book: &mut Book,
        source: &mut Source,
        target: &mut Target,
        mut slot: Option<SemaphorePermit<'_>>,
    ) -> Result<Over, Failure> {
        Box::pin(async {
            self.pass(book, source, target, &mut Course::default()).suspect_targets().await
        })
        .await?;
        let mut watchers = JoinSet::new();
        match book.record.first_copy_completed {
            true => self.watch_others(book, &mut watchers),
            false => self.watch_inbox(&mut watchers),
        }
        let mut course = Course::default();
        loop {
            let phase = book.record.phase;
            if Box::pin(self.advance(book, course.clean_since)).await? {
                return Ok(Over::Finished);
            }
            if book.record.phase != phase {
                course.clean_since = None;
            }
            if self.stopping() {
                return Ok(Over::Stopped);
            }
            self.take_approval(book, &mut course).await?;
            self.take_verification(book).await?;
            if self.control.forgiven.swap(false, Ordering::Relaxed) {
                self.forgive_archive(book).await?;
            }
            let swept = Instant::now();
            let (by_news, had) = (course.told.is_some(), linked(book));
            let verdict = Box::pin(self.one_pass(book, source, target, &mut course)).await?;
            if by_news {
                course.hurry.spend(linked(book) <= had, Instant::now());
            }
            if verdict.copied_all {
                drop(slot.take());
            }
            if self.first_copy(book).await? {
                // Dropped, not only aborted: what has ended keeps its memory until somebody asks.
                watchers = JoinSet::new();
                self.watch_others(book, &mut watchers);
            }
            if self.control.fresh.swap(false, Ordering::Relaxed) {
                self.control.interrupt.store(self.stopping(), Ordering::Relaxed);
                if !book.record.first_copy_completed {
                    fresh_inbox(book, &mut course);
                    continue;
                }
            }
            if verdict.again || self.stopping() || self.is_phase_due(book, &course) {
                continue;
            }
            match self.wait(book, source.own(), target, &verdict, &course, swept).await? {
                Woken::Pass(scope, told) => (course.scope, course.told) = (Some(scope), told),
                Woken::Rest => return Ok(Over::Rested),
            }
        }
    }

    /// The operator's consent to removals is spent by a full pass that suspects nothing more.
    async fn take_approval(&self, book: &mut Book, course: &mut Course) -> Result<(), Failure> {
        if self.control.removals_approved.swap(false, Ordering::Relaxed) {
            book.learned.removals_approved = true;
            book.record.removals_suspended = false;
            self.save(book).await?;
        }
        if book.learned.removals_approved {
            course.scope = Some(Scope::Full);
        }
        Ok(())
    }

    /// The archive ended a pass: it is left alone for a while.
    fn archive_failed(&self, book: &mut Book, done: &Result<Verdict, Failure>) {
        let learned = &mut book.learned.archive;
        learned.failed(self.shared.chance.next());
        if book.record.phase == Phase::Draining {
            book.learned.deferred.was_in_vain();
        }
        if let Err(failure) = done {
            let trouble = trouble::trouble(failure);
            let message = format!("archive: {}", trouble.message);
            learned.trouble = Some(self.board.reason_of(&Trouble { message, ..trouble }, None));
        }
    }

    /// An operator wants everything tried again that was refused.
    async fn forgive_archive(&self, book: &mut Book) -> Result<(), Failure> {
        book.learned.archive.forgive();
        if book.record.refused_credentials.take().is_some() {
            self.save(book).await?;
        }
        Ok(())
    }

    /// What was proved beside the session counts, and what is missing is copied again.
    async fn take_verification(&self, book: &mut Book) -> Result<(), Failure> {
        let verified = self.control.verified.lock().expect("no panic while held").take();
        let Some(missing) = verified else { return Ok(()) };
        let may_repair = verify::may_repair(book.record.phase);
        for pair in &mut book.pairs {
            let uids = verify::of_folder(&missing, pair.record.id);
            if may_repair && !uids.is_empty() {
                self.writer.commit(verify::recopy(&mut pair.record, &uids)).await?;
                (pair.look_at_target, pair.unfinished) = (true, true);
                for uid in uids {
                    let text = "missing when it was verified; copied again";
                    let entry = Entry::new(Event::CopyVanished, text).folder(pair.shown());
                    self.emit(entry.source_uid(uid));
                }
            }
            pair.counts.recount(&self.shared.store.known(pair.record.id)?.into_iter().collect());
        }
        self.board.show_book(book);
        Ok(())
    }

    async fn one_pass(
        &self,
        book: &mut Book,
        source: &mut Source,
        target: &mut Target,
        course: &mut Course,
    ) -> Result<Verdict, Failure> {
        if self.must_look_in_full(book, course) {
            course.scope = Some(Scope::Full);
        }
        let scope = course.scope.unwrap_or(Scope::Changed);
        if scope != Scope::Told {
            self.shared.hosts.host(&self.enrollment.migration.source.host).sweep().await;
            course.sweeps += 1;
        }
        if course.sweeps >= SWEEPS_ON_ONE_SELECT {
            course.sweeps = 0;
            course.told.get_or_insert_with(|| (inbox_of(book), News::default()));
        }
        let phase = book.record.phase;
        let suspect = self.shared.clock.read().suspect;
        let begun = Instant::now();
        let done = self.pass(book, source, target, course).run().await;
        let by_source = matches!(done, Err(Failure::Imap(Side::Source, _) | Failure::Changed));
        if by_source {
            book.learned.missing.forget_since(begun);
            book.learned.orphans_left.forget_since(begun);
            book.learned.folders_missing.forget_since(begun);
        }
        if by_source && source.is_at_archive() {
            // It is left alone for a while: the account's own mail goes on.
            self.archive_failed(book, &done);
        }
        let verdict = done?;
        book.pairs.shrink_to_fit();
        if !verdict.again {
            source.close_archive().await;
        }
        self.went_well();
        self.board.rest();
        self.board.proved_alive(if idles(book, source) { "idle" } else { "polled" });
        course.scope = None;
        if scope == Scope::Full {
            course.full_since = Some(verdict.began_at);
            // Also what is due already, and was not yet gone when this pass began.
            let waits = book.learned.orphans_left.due(Instant::now()).is_some();
            if !waits && book.learned.missing.keys().next().is_none() {
                book.learned.removals_approved = false;
            }
        }
        // What waits was not looked at: such a pass completes nothing.
        let waits = phase == Phase::Archiving
            && verdict.deferred
            && self.facts(book, None).archive_from.is_some();
        if verdict.clean && !suspect && phase >= Phase::Draining && !waits {
            course.clean_since = Some(verdict.began_at);
        }
        if scope == Scope::Full {
            let left = verdict.waits && (waits || !verdict.clean) && !suspect;
            book.learned.waits_since = left.then_some(verdict.began_at);
        }
        // Nobody can be hurried to look into an archive.
        let is_left = |pair: &Pair| pair.unfinished && !is_archived(&pair.source);
        let unfinished = book.pairs.iter().any(is_left) || phase == Phase::Draining;
        course.fruitless = if unfinished && !verdict.clean { course.fruitless + 1 } else { 0 };
        Ok(verdict)
    }

    fn pass<'p>(
        &'p self,
        book: &'p mut Book,
        source: &'p mut Source,
        target: &'p mut Target,
        course: &mut Course,
    ) -> Pass<'p> {
        let deferring = self.is_deferring(book);
        let facts = self.facts(book, None);
        let looks_from = facts.full_looks().filter(|instant| *instant <= facts.now).max();
        let looks_from = looks_from.unwrap_or(i64::MIN);
        if std::mem::replace(&mut course.deferring, deferring) && !deferring {
            // What was clean without them is not clean with them.
            course.clean_since = None;
        }
        Pass {
            shared: self.shared,
            enrollment: self.enrollment,
            writer: self.writer,
            book,
            source,
            target,
            board: self.board,
            interrupt: &self.control.interrupt,
            scope: course.scope.unwrap_or(Scope::Changed),
            told: course.told.take(),
            fresh_from: course.fresh_from.take(),
            deferring,
            silent: false,
            unasked: false,
            kept: HashSet::new(),
            looks_from,
            archive_looked: false,
            archive_slot: None,
            begun: Instant::now(),
            again: false,
            wanted_beside: Some(Vec::new()),
            surprises: Vec::new(),
            due: None,
        }
    }

    /// A pass ended without a failure.
    fn went_well(&self) {
        self.board.well();
        if !self.control.well.swap(true, Ordering::Relaxed) && self.recovering {
            self.emit(Entry::new(Event::AccountRecovered, "it works again"));
        }
    }

    fn stopping(&self) -> bool {
        self.control.stop.load(Ordering::Relaxed)
    }

    /// The last pass and the one after `settle` look at everything; so does one a day.
    fn must_look_in_full(&self, book: &Book, course: &Course) -> bool {
        let facts = self.facts(book, None);
        match book.record.phase {
            Phase::Draining => true,
            Phase::Archiving => {
                let has_place = self.shared.copying.available_permits() > 0;
                let is_well = has_place && book.learned.archive.is_well();
                let may_go_on =
                    !self.is_deferring(book) && (is_well || !self.enrollment.has_archive());
                cutover::looks_in_full(&facts, book.learned.waits_since, may_go_on)
            }
            Phase::Following => {
                let compared = book.pairs.iter().map(|pair| pair.record.compared_at).max();
                let compared = compared.max(course.full_since);
                !facts.clock_suspect
                    && compared
                        .is_some_and(|compared| facts.now - compared >= cutover::COMPARE_SECS)
            }
            _ => false,
        }
    }

    /// While the main connection copies, a second one waits for new mail.
    fn watch_inbox(&self, watchers: &mut JoinSet<()>) {
        let control = self.control.clone();
        let tell = move || {
            control.fresh.store(true, Ordering::Relaxed);
            control.interrupt.store(true, Ordering::Relaxed);
        };
        let (shared, enrollment) = (self.shared.clone(), self.enrollment.clone());
        let inbox = WireName::of_wire(b"INBOX");
        watchers.spawn(watch::watch(shared, enrollment, inbox, tell));
    }

    /// The folders that `idle` names besides INBOX.
    fn watch_others(&self, book: &Book, watchers: &mut JoinSet<()>) {
        for name in &self.enrollment.migration.sync.idle {
            let pair = book.pairs.iter().find(|pair| pair.shown() == name);
            let Some(pair) = pair.filter(|pair| !pair.source.is_inbox()) else { continue };
            let control = self.control.clone();
            let tell = move || control.wake.notify_one();
            let (shared, enrollment) = (self.shared.clone(), self.enrollment.clone());
            watchers.spawn(watch::watch(shared, enrollment, pair.source.clone(), tell));
        }
    }

    /// Everything was looked at and copied once. True at the moment this becomes so.
    async fn first_copy(&self, book: &mut Book) -> Result<bool, Failure> {
        // A folder that a server refuses is its own trouble: the account is followed without it.
        let is_copied = |pair: &Pair| {
            pair.record.first_copy_completed || pair.trouble.is_some() || pair.deferred
        };
        let copied = book.pairs.iter().all(is_copied);
        if book.record.first_copy_completed || !copied || book.pairs.is_empty() {
            return Ok(false);
        }
        book.record.first_copy_completed = true;
        self.save(book).await?;
        let messages: u64 = book.pairs.iter().map(|pair| pair.counts.linked).sum();
        let bytes: u64 = book.pairs.iter().map(|pair| pair.counts.linked_bytes).sum();
        let folders = book.pairs.len();
        let text = format!("{messages} messages in {folders} folders are at the target");
        self.emit(Entry::new(Event::FirstCopyCompleted, text).bytes(bytes));
        Ok(true)
    }

    fn facts(&self, book: &Book, clean_since: Option<i64>) -> Facts {
        let reading = self.shared.clock.read();
        if let Some(jumped) = self.shared.clock.take_jump() {
            self.shared.journal.emit(clock_suspect(jumped));
        }
        let migration = &self.enrollment.migration;
        // Before LIST was asked nobody knows whether the account has any; and those that have come
        // to be copied since are not complete because they wait no more.
        let waited = |pair: &Pair| folders::is_deferred(&migration.folders, pair.shown());
        let may_defer = book.has_deferred()
            || !book.surveyed
            || self.enrollment.has_archive()
            || book.pairs.iter().any(waited);
        // A sealed account whose cutover was taken back keeps waiting for the next.
        let waits = !migration.folders.after_cutover.is_empty() && book.record.sealed_at.is_some();
        let archive_from = self.archive_from().or(waits.then_some(i64::MAX));
        Facts {
            now: reading.now,
            clock_suspect: reading.suspect,
            cutover: self.enrollment.cutover.map(|cutover| cutover.as_second()),
            settle_secs: migration.settle.as_secs() as i64,
            source_until: migration.source_until.map(|until| until.as_second()),
            sealed_at: book.record.sealed_at,
            first_copy_completed: book.record.first_copy_completed,
            clean_since,
            archive_from: archive_from.filter(|_| may_defer),
            reopened: match (self.enrollment.decree.reopened_at, self.enrollment.cutover) {
                (None, _) => Reopened::No,
                (Some(at), Some(cutover)) if cutover > at => Reopened::CutAgain,
                (Some(_), _) => Reopened::Open,
            },
        }
    }

    /// When the folders are copied that wait for the cutover: never before every account of the
    /// migration had its window.
    fn archive_from(&self) -> Option<i64> {
        let migration = &self.enrollment.migration;
        let rules = &migration.folders;
        let migrations = self.enrollment.decree.migration_cutover.or(migration.cutover);
        let cutover = self.enrollment.cutover.max(migrations)?.as_second();
        let window_ends = cutover + migration.cutover_window.as_secs() as i64;
        let from = rules.after_cutover_from.map_or(window_ends, |from| from.as_second());
        (!rules.after_cutover.is_empty()).then_some(from.max(window_ends))
    }

    /// Are folders still left alone that wait for the cutover?
    fn is_deferring(&self, book: &Book) -> bool {
        let facts = self.facts(book, None);
        let rules = &self.enrollment.migration.folders;
        !rules.after_cutover.is_empty()
            && !cutover::copies_archive(book.record.phase, &facts, self.archive_from())
    }

    /// Takes every phase change that is due. True once the life is over.
    pub async fn advance(
        &self,
        book: &mut Book,
        mut clean_since: Option<i64>,
    ) -> Result<bool, Failure> {
        loop {
            let facts = self.facts(book, clean_since);
            self.say_if_overdue(book, &facts);
            let before = book.record.phase;
            let next = cutover::next_phase(before, &facts);
            if next == before {
                return Ok(before >= Phase::Completed);
            }
            if next == Phase::Archiving {
                clean_since = cutover::proved_at_seal(&facts);
            }
            book.record.phase = next;
            self.enter(book, next, &facts).await?;
        }
    }

    async fn enter(&self, book: &mut Book, phase: Phase, facts: &Facts) -> Result<(), Failure> {
        let record = &mut book.record;
        match phase {
            Phase::Archiving => {
                record.sealed_at = Some(facts.now);
            }
            Phase::Completed | Phase::Closed => {
                record.completed_at = Some(facts.now);
                record.source_seen_until = Some(facts.now);
            }
            _ => {}
        }
        self.save(book).await?;
        let record = &book.record;
        self.board.show_phase(phase, record.sealed_at, record.source_seen_until);
        let counts = counts(book);
        match phase {
            Phase::Draining => {
                book.learned.archive.begin_last_pass();
                book.learned.deferred = Default::default();
                self.emit(Entry::new(Event::CutoverStarted, "the last pass begins"));
            }
            Phase::Archiving => {
                if book.record.removals_suspended {
                    let text = "removals were still suspended at the seal: those copies stay";
                    self.emit(Entry::new(Event::RemovalsLapsed, text).reason("mass_deletion"));
                }
                let kept = book.learned.deferred.kept;
                if kept > 0 {
                    let text = format!(
                        "{kept} copies stay whose messages left their folders: whether they lie \
                         in one that waits for the cutover could not be told before the seal"
                    );
                    self.emit(Entry::new(Event::RemovalsLapsed, text));
                }
                self.emit(Entry::new(Event::AccountSealed, counts));
            }
            Phase::Completed => self.emit(Entry::new(Event::AccountCompleted, counts)),
            Phase::Closed => {
                let has_all =
                    !self.enrollment.has_archive() || book.learned.archive.complete_at.is_some();
                let but = if has_all { "" } else { "; its archive was not seen whole" };
                let text = format!("source_until has passed before it completed; {counts}{but}");
                self.emit(Entry::new(Event::AccountClosed, text).reason("deadline_passed"));
            }
            _ => {}
        }
        if phase >= Phase::Completed {
            self.board.well();
            let done = completed_account(&book.record);
            self.shared.completed.record(done).await.map_err(Failure::Store)?;
            let left_out = book.left_out.iter().map(|one| (&*one.shown, one.state, &*one.why));
            proof::write(self.shared, &book.record, left_out).await;
        }
        Ok(())
    }

    fn say_if_overdue(&self, book: &mut Book, facts: &Facts) {
        let window = self.enrollment.migration.cutover_window.as_secs() as i64;
        let Some(cutover) = facts.cutover else { return };
        let overdue = !facts.clock_suspect && facts.now > cutover + window;
        if overdue && book.record.phase < Phase::Archiving && !book.learned.said_overdue {
            book.learned.said_overdue = true;
            let text = format!("the cutover of {} is not sealed yet", rfc3339(cutover));
            self.emit(Entry::new(Event::CutoverOverdue, text));
        }
    }

    /// Waits in IDLE until something is told, due, or asked for.
    async fn wait(
        &self,
        book: &mut Book,
        source: &mut Session,
        target: &mut Target,
        verdict: &Verdict,
        course: &Course,
        swept: Instant,
    ) -> Result<Woken, Failure> {
        let until = self.wait_until(verdict, course, swept);
        if book.record.phase == Phase::Draining || !idles(book, source) {
            return self.sleep(book, target, course, until).await;
        }
        let now = Instant::now();
        let deaf_for = course.hurry.deaf_for(now);
        if !deaf_for.is_zero() {
            return self.sleep(book, target, course, until.min(now + deaf_for)).await;
        }
        loop {
            let rests = matches!(book.record.phase, Phase::Following | Phase::Archiving);
            // What stays undone whatever is done keeps nobody else waiting.
            let tries = (1..=FRUITLESS_MAX).contains(&course.fruitless);
            if self.is_crowded() && rests && !tries {
                return Ok(Woken::Rest);
            }
            let inbox = inbox_of(book);
            let news = match Box::pin(self.arm(book, &inbox, source)).await {
                Ok(Armed::Yes) => self.idle(book, source, target, course, until).await,
                Ok(Armed::Stale) => {
                    return Ok(Woken::Pass(Scope::Changed, Some((inbox, News::default()))));
                }
                Ok(Armed::Refused) => return self.sleep(book, target, course, until).await,
                Err(failure) => Err(failure),
            };
            count_cut(book, news.as_ref().err());
            let news = news?;
            source.idle_done();
            if news == IdleNews::Quiet {
                if Instant::now() >= until || self.is_asked(book, course) {
                    return Ok(Woken::Pass(Scope::Changed, None));
                }
                // Only renewed.
                Box::pin(source.noop()).await.map_err(at_source)?;
                self.board.proved_alive("idle");
            }
            let said = source.take_news();
            let left = said.expunged > 0 || !said.vanished.is_empty();
            if left || said.flags_changed || said.elsewhere {
                // What left here may have turned up elsewhere: all folders are looked at.
                return Ok(Woken::Pass(Scope::Changed, Some((inbox, said))));
            }
            if said.exists.is_some() {
                target.append_ahead();
                return Ok(Woken::Pass(Scope::Told, Some((inbox, said))));
            }
        }
    }

    /// Stays in IDLE until there is news, something is due or asked for, or IDLE is to be renewed.
    async fn idle(
        &self,
        book: &Book,
        source: &mut Session,
        target: &mut Target,
        course: &Course,
        until: Instant,
    ) -> Result<IdleNews, Failure> {
        let armed = Instant::now();
        loop {
            let now = Instant::now();
            let renew = now >= armed + IDLE_AT_MOST;
            if renew || now >= until || self.is_asked(book, course) {
                return Ok(IdleNews::Quiet);
            }
            self.rest_target(target, now).await;
            let slice = self.slice(book, target).min(until - now);
            tokio::select! {
                biased;
                news = source.idle_wait(slice) => match news.map_err(at_source)? {
                    IdleNews::Something => return Ok(IdleNews::Something),
                    IdleNews::Quiet => {}
                },
                () = self.control.wake.notified() => {
                    self.control.asked.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Has the time come for a phase, or does somebody want a pass now?
    fn is_asked(&self, book: &Book, course: &Course) -> bool {
        self.stopping()
            || self.control.asked.swap(false, Ordering::Relaxed)
            || self.is_phase_due(book, course)
    }

    fn is_crowded(&self) -> bool {
        self.shared.hosts.host(&self.enrollment.migration.source.host).crowded()
    }

    /// When the next pass is due: the sweep, something suspected, or what was left to do.
    fn wait_until(&self, verdict: &Verdict, course: &Course, swept: Instant) -> Instant {
        let interval = self.enrollment.migration.sync.sweep_interval;
        let mut until = swept + interval;
        if course.fruitless > 0 {
            let pause = UNFINISHED_AGAIN * (1 << (course.fruitless - 1).min(8));
            until = until.min(Instant::now() + pause.min(interval.max(UNFINISHED_AGAIN)));
        }
        verdict.due.map_or(until, |due| until.min(due))
    }

    /// Selects INBOX and starts IDLE.
    async fn arm(
        &self,
        book: &Book,
        name: &WireName,
        source: &mut Session,
    ) -> Result<Armed, Failure> {
        let inbox = book.pairs.iter().find(|pair| pair.source.is_inbox());
        if source.selected().is_none_or(|selected| selected.name != *name) {
            match source.examine(name).await {
                Err(Error::No { .. }) => return Ok(Armed::Refused),
                examined => drop(examined.map_err(at_source)?),
            }
        }
        let seen = inbox.filter(|pair| !pair.unfinished).and_then(|pair| pair.record.source_seen);
        if let Some(seen) = seen
            && seen.messages != source.exists()
        {
            return Ok(Armed::Stale);
        }
        // All folders on one connection, where that is offered; costs nothing once it is on.
        source.notify().await.map_err(at_source)?;
        match source.idle_start().await {
            Err(Error::No { .. }) => return Ok(Armed::Refused),
            started => started.map_err(at_source)?,
        }
        self.board.proved_alive("idle");
        Ok(Armed::Yes)
    }

    /// Waits without IDLE.
    async fn sleep(
        &self,
        book: &Book,
        target: &mut Target,
        course: &Course,
        until: Instant,
    ) -> Result<Woken, Failure> {
        loop {
            let now = Instant::now();
            if now >= until || self.is_asked(book, course) {
                return Ok(Woken::Pass(Scope::Changed, None));
            }
            self.rest_target(target, now).await;
            let slice = self.slice(book, target).min(until - now);
            tokio::select! {
                biased;
                () = tokio::time::sleep(slice) => {}
                () = self.control.wake.notified() => {
                    return Ok(Woken::Pass(Scope::Changed, None));
                }
            }
        }
    }

    /// How long to wait before the wall clock is read again.
    fn slice(&self, book: &Book, target: &Target) -> Duration {
        let facts = self.facts(book, None);
        let near = cutover::next_instant(book.record.phase, &facts)
            .is_some_and(|instant| instant - facts.now < NEAR_SECS);
        match (near, target.is_open()) {
            (true, _) => CLOCK_EVERY_NEAR,
            (false, true) => TARGET_LINGERS.min(CLOCK_EVERY),
            (false, false) => CLOCK_EVERY,
        }
    }

    /// Does the clock ask for another phase, or for the full pass after `settle`?
    fn is_phase_due(&self, book: &Book, course: &Course) -> bool {
        let facts = self.facts(book, course.clean_since);
        // Also in another session.
        let full_since = course.full_since.max(book.learned.waits_since);
        let looked = |instant: i64| full_since.is_some_and(|full| full >= instant);
        let is_due = |instant: i64| facts.now >= instant && !looked(instant);
        let archiving = book.record.phase == Phase::Archiving;
        cutover::next_phase(book.record.phase, &facts) != book.record.phase
            || (archiving && facts.full_looks().any(is_due))
    }

    async fn rest_target(&self, target: &mut Target, now: Instant) {
        if target.is_open() && now.saturating_duration_since(target.last_used) >= TARGET_LINGERS {
            Box::pin(target.close()).await;
        }
    }

    async fn save(&self, book: &Book) -> Result<(), StoreError> {
        self.writer.commit(vec![Edit::PutAccount(book.record.clone())]).await
    }

    fn emit(&self, entry: Entry) {
        let entry = entry.account(&self.enrollment.address);
        self.shared.journal.emit(entry.migration(&self.enrollment.migration.name));
    }
}

/// The next pass is over what came to INBOX since it was first listed.
fn fresh_inbox(book: &Book, course: &mut Course) {
    let inbox = book.pairs.iter().find(|pair| pair.source.is_inbox());
    let listed_to = inbox.and_then(|pair| pair.listed_to);
    let from = listed_to.and_then(|uid| Uid::new(uid.get().saturating_add(1)));
    if let (Some(pair), Some(from)) = (inbox, from) {
        course.told = Some((pair.source.clone(), News::default()));
        (course.scope, course.fresh_from) = (Some(Scope::Told), Some(from));
    }
}

/// Messages that have a copy.
fn linked(book: &Book) -> u64 {
    book.pairs.iter().map(|pair| pair.counts.linked).sum()
}

/// The source's INBOX, as it is paired or as it is always called.
fn inbox_of(book: &Book) -> WireName {
    let inbox = book.pairs.iter().find(|pair| pair.source.is_inbox());
    inbox.map_or_else(|| WireName::of_wire(b"INBOX"), |pair| pair.source.clone())
}

/// Is IDLE offered, and has it not ended one connection after the other?
fn idles(book: &Book, source: &Session) -> bool {
    let polls = book.learned.polls_until.is_some_and(|until| Instant::now() < until);
    source.capabilities().has("IDLE") && !polls
}

/// How an IDLE ended: where it cannot last the account is polled, for a while.
fn count_cut(book: &mut Book, failure: Option<&Failure>) {
    let learned = &mut book.learned;
    let cut = matches!(failure, Some(Failure::Imap(_, Error::Closed { .. })));
    learned.cut_in_idle = if cut { learned.cut_in_idle + 1 } else { 0 };
    if learned.cut_in_idle >= CUTS_IN_IDLE_MAX {
        learned.cut_in_idle = 0;
        learned.polls_until = Some(Instant::now() + POLLED_FOR);
    }
}

fn counts(book: &Book) -> String {
    let sum = |of: fn(&Counts) -> u64| book.pairs.iter().map(|pair| of(&pair.counts)).sum::<u64>();
    format!(
        "{} messages at the source, {} at the target ({} adopted, {} altered), {} refused",
        sum(|counts| counts.source),
        sum(|counts| counts.linked),
        sum(|counts| counts.adopted),
        sum(|counts| counts.altered),
        sum(|counts| counts.refused),
    )
}
