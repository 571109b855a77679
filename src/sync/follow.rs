//! One session of an account: connected to both sides, it copies, follows, drains and seals.
//!
//! Push is a hint, the sweep is the truth: whatever IDLE says or fails to say, a sweep on a timer
//! finds every change. IDLE is armed before the sweep that it completes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::account::{Control, Shared, completed_account, connect, shown_instant, worked_digest};
use super::board::Board;
use super::book::{Book, Counts, Pair};
use super::copy::Failure;
use super::cutover::{self, Facts};
use super::pass::{Pass, Scope, Verdict, at_source};
use super::target::Target;
use super::watch;
use crate::checkpoint::{Edit, Phase, StoreError, Writer};
use crate::config::Enrollment;
use crate::imap::{IdleNews, News, Session, WireName};
use crate::journal::{Entry, Event};
use crate::words::{Side, Uid};

/// The target's connection is dropped after so much quiet.
const TARGET_LINGERS: Duration = Duration::from_secs(30);
/// IDLE is renewed this often, whatever the server promises (RFC 2177 says 29 minutes; NATs say
/// less).
const IDLE_AT_MOST: Duration = Duration::from_secs(240);
/// The wall clock is read at least this often …
const CLOCK_EVERY: Duration = Duration::from_secs(30);
/// … and every second when it matters.
const CLOCK_EVERY_NEAR: Duration = Duration::from_secs(1);
const NEAR_SECS: i64 = 90;
/// Between passes that left something to do without saying until when.
const UNFINISHED_AGAIN: Duration = Duration::from_secs(5);
/// Everything is compared in full once a day.
const COMPARE_SECS: i64 = 86_400;

pub struct Following<'a> {
    pub shared: &'a Arc<Shared>,
    pub enrollment: &'a Arc<Enrollment>,
    pub writer: &'a Writer,
    pub board: &'a Board,
    pub control: &'a Arc<Control>,
    /// The journal was told of trouble: it is told of its end.
    pub recovering: bool,
}

/// Opens the pairs the checkpoint remembers.
pub fn open_pairs(shared: &Shared, book: &mut Book) -> Result<(), StoreError> {
    for record in shared.store.folders(book.record.id)? {
        let source = WireName::of_wire(&record.source_name);
        let target = WireName::of_wire(&record.target_name);
        let known = shared.store.known(record.id)?.into_iter().collect();
        let mut counts = Counts::default();
        counts.recount(&known);
        counts.source = record.source_seen.map_or(0, |seen| u64::from(seen.messages));
        counts.source_bytes = counts.linked_bytes;
        let in_doubt = shared.store.intents(record.id)?;
        book.pairs.push(Pair {
            source,
            target,
            permanent: None,
            counts,
            look_at_target: false,
            unfinished: !in_doubt.is_empty(),
            in_doubt: in_doubt.iter().map(|intent| intent.messages.len() as u64).sum(),
            listed_to: None,
            trouble: None,
            record,
        });
    }
    book.pairs.sort_by_key(|pair| (!pair.source.is_inbox(), pair.record.id));
    Ok(())
}

impl Following<'_> {
    /// Works until the account has completed or closed (`Ok`), is told to stop (`Ok`), or fails.
    pub async fn run(self, book: &mut Book) -> Result<(), Failure> {
        if self.advance(book, None).await? {
            return Ok(());
        }
        let slot = self.copying_slot(book).await;
        let (mut source, place) = connect(self.shared, self.enrollment, Side::Source).await?;
        let mut target = Target::new(self.shared.clone(), self.enrollment.clone());
        self.connected(book, &source, &mut target).await?;
        let ended = self.live(book, &mut source, &mut target, slot).await;
        if ended.is_ok() {
            source.logout().await;
            target.close().await;
        }
        drop(place);
        ended
    }

    /// First copies take turns.
    async fn copying_slot(&self, book: &Book) -> Option<tokio::sync::SemaphorePermit<'_>> {
        if book.record.first_copy_completed {
            return None;
        }
        self.shared.copying.acquire().await.ok()
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
        if book.learned.said_offers != text {
            let host = &self.enrollment.migration.source.host;
            self.emit(Entry::new(Event::AccountConnected, text.as_str()).host(host));
            book.learned.said_offers = text;
        }
        let worked = Some(worked_digest(self.enrollment));
        if book.record.worked_credentials != worked || book.record.refused_credentials.is_some() {
            book.record.worked_credentials = worked;
            book.record.refused_credentials = None;
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
        source: &mut Session,
        target: &mut Target,
        mut slot: Option<tokio::sync::SemaphorePermit<'_>>,
    ) -> Result<(), Failure> {
        let mut told: Option<(WireName, News)> = None;
        let mut clean_since = None;
        self.prepare(book, source, target).await?;
        let mut watchers = JoinSet::new();
        if !book.record.first_copy_completed {
            self.watch_inbox(&mut watchers);
        } else {
            self.watch_others(book, &mut watchers);
        }
        let mut swept = Instant::now();
        let mut scope = Scope::Changed;
        let mut fresh_from = None;
        loop {
            if self.advance(book, clean_since).await? || self.stopping() {
                return Ok(());
            }
            if self.control.removals_approved.swap(false, Ordering::Relaxed) {
                book.learned.removals_approved = true;
                book.record.removals_suspended = false;
                self.save(book).await?;
                scope = Scope::Full;
            }
            if self.must_look_in_full(book) {
                scope = Scope::Full;
            }
            if scope != Scope::Told {
                self.shared.hosts.host(&self.enrollment.migration.source.host).sweep().await;
                swept = Instant::now();
            }
            let pass = Pass {
                shared: self.shared,
                enrollment: self.enrollment,
                writer: self.writer,
                book,
                source,
                target,
                board: self.board,
                interrupt: &self.control.interrupt,
                scope,
                told: told.take(),
                fresh_from: fresh_from.take(),
                again: false,
                due: None,
            };
            let verdict = pass.run().await?;
            self.went_well();
            self.board.rest();
            self.board.proved_alive(mode(source));
            if scope == Scope::Full {
                book.learned.removals_approved = false;
            }
            if verdict.clean {
                clean_since = Some(verdict.began_at);
            }
            if self.first_copy(book, &mut slot).await? {
                watchers.abort_all();
                self.watch_others(book, &mut watchers);
            }
            scope = Scope::Changed;
            if self.control.fresh.swap(false, Ordering::Relaxed) && !self.stopping() {
                self.control.interrupt.store(self.stopping(), Ordering::Relaxed);
                (scope, told, fresh_from) = fresh_inbox(book);
                continue;
            }
            if verdict.again && !self.stopping() {
                continue;
            }
            if self.advance(book, clean_since).await? || self.stopping() {
                return Ok(());
            }
            (scope, told) = self.wait(book, source, target, &verdict, swept).await?;
        }
    }

    /// A pass ended without a failure.
    fn went_well(&self) {
        self.board.well();
        if !self.control.well.swap(true, Ordering::Relaxed) && self.recovering {
            self.emit(Entry::new(Event::AccountRecovered, "it works again"));
        }
    }

    /// The first look of a session: what changed at the target meanwhile is found by its status.
    async fn prepare(
        &self,
        book: &mut Book,
        source: &mut Session,
        target: &mut Target,
    ) -> Result<(), Failure> {
        let mut pass = Pass {
            shared: self.shared,
            enrollment: self.enrollment,
            writer: self.writer,
            book,
            source,
            target,
            board: self.board,
            interrupt: &self.control.interrupt,
            scope: Scope::Changed,
            told: None,
            fresh_from: None,
            again: false,
            due: None,
        };
        pass.suspect_targets().await
    }

    fn stopping(&self) -> bool {
        self.control.stop.load(Ordering::Relaxed)
    }

    /// The last pass and the one after `settle` look at everything; so does one a day.
    fn must_look_in_full(&self, book: &Book) -> bool {
        let facts = self.facts(book, None);
        match book.record.phase {
            Phase::Draining => true,
            Phase::Archiving => {
                facts.sealed_at.is_some_and(|sealed| facts.now >= sealed + facts.settle_secs)
            }
            Phase::Following => {
                let oldest = book.pairs.iter().map(|pair| pair.record.compared_at).min();
                oldest.is_some_and(|oldest| facts.now - oldest >= COMPARE_SECS)
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
    async fn first_copy(
        &self,
        book: &mut Book,
        slot: &mut Option<tokio::sync::SemaphorePermit<'_>>,
    ) -> Result<bool, Failure> {
        let copied = book.pairs.iter().all(|pair| pair.record.first_copy_completed);
        if book.record.first_copy_completed || !copied || book.pairs.is_empty() {
            return Ok(false);
        }
        book.record.first_copy_completed = true;
        *slot = None;
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
        if let Some(jumped) = reading.jumped {
            let text =
                format!("the wall clock jumped by {jumped} s; it is believed in ten minutes");
            self.emit(Entry::new(Event::ClockSuspect, text).reason("clock_suspect"));
        }
        let migration = &self.enrollment.migration;
        Facts {
            now: reading.now,
            clock_suspect: reading.suspect,
            cutover: self.enrollment.cutover.map(|cutover| cutover.as_second()),
            settle_secs: migration.settle.as_secs() as i64,
            source_until: migration.source_until.map(|until| until.as_second()),
            sealed_at: book.record.sealed_at,
            first_copy_completed: book.record.first_copy_completed,
            clean_since,
        }
    }

    /// Takes every phase change that is due. True once the life is over.
    async fn advance(&self, book: &mut Book, clean_since: Option<i64>) -> Result<bool, Failure> {
        loop {
            let facts = self.facts(book, clean_since);
            self.say_if_overdue(book, &facts);
            let before = book.record.phase;
            let next = cutover::next_phase(before, &facts);
            if next == before {
                return Ok(before >= Phase::Completed);
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
                self.emit(Entry::new(Event::CutoverStarted, "the last pass begins"));
            }
            Phase::Archiving => {
                if book.record.removals_suspended {
                    let text = "removals were still suspended at the seal: those copies stay";
                    self.emit(Entry::new(Event::RemovalsLapsed, text).reason("mass_deletion"));
                }
                self.emit(Entry::new(Event::AccountSealed, counts));
            }
            Phase::Completed => self.emit(Entry::new(Event::AccountCompleted, counts)),
            Phase::Closed => {
                let text = format!("source_until has passed before it completed; {counts}");
                self.emit(Entry::new(Event::AccountClosed, text).reason("deadline_passed"));
            }
            _ => {}
        }
        if phase >= Phase::Completed {
            self.board.well();
            let done = completed_account(&book.record);
            self.shared.completed.record(done).map_err(Failure::Store)?;
        }
        Ok(())
    }

    fn say_if_overdue(&self, book: &mut Book, facts: &Facts) {
        let window = self.enrollment.migration.cutover_window.as_secs() as i64;
        let Some(cutover) = facts.cutover else { return };
        let overdue = !facts.clock_suspect && facts.now > cutover + window;
        if overdue && book.record.phase < Phase::Archiving && !book.learned.said_overdue {
            book.learned.said_overdue = true;
            let text = format!("the cutover of {} is not sealed yet", shown_instant(cutover));
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
        swept: Instant,
    ) -> Result<(Scope, Option<(WireName, News)>), Failure> {
        let unfinished = book.pairs.iter().any(|pair| pair.unfinished);
        let draining = book.record.phase == Phase::Draining;
        let mut until = swept + self.enrollment.migration.sync.sweep_interval;
        if let Some(due) = verdict.due {
            until = until.min(due);
        } else if unfinished || draining {
            until = until.min(Instant::now() + UNFINISHED_AGAIN);
        }
        if draining || !source.capabilities().has("IDLE") {
            return self.sleep(book, target, until).await;
        }
        let Some(inbox) = self.arm(book, source).await? else {
            return Ok((Scope::Changed, None));
        };
        let armed = Instant::now();
        let mut news = IdleNews::Quiet;
        while news == IdleNews::Quiet {
            let now = Instant::now();
            if now >= until || self.is_phase_due(book) || self.stopping() {
                break;
            }
            self.rest_target(target, now).await;
            if now >= armed + IDLE_AT_MOST {
                // Renewed by the sweep's first command.
                source.idle_done();
                source.noop().await.map_err(at_source)?;
                self.board.proved_alive(mode(source));
                let news = source.take_news();
                if said_something(&news) {
                    return Ok((Scope::Told, Some((inbox, news))));
                }
                return Box::pin(self.wait(book, source, target, verdict, swept)).await;
            }
            let slice = self.slice(book, target).min(until - now);
            news = tokio::select! {
                news = source.idle_wait(slice) => news.map_err(at_source)?,
                () = self.control.wake.notified() => break,
            };
        }
        source.idle_done();
        let said = source.take_news();
        if news == IdleNews::Something && said_something(&said) {
            return Ok((Scope::Told, Some((inbox, said))));
        }
        Ok((Scope::Changed, None))
    }

    /// Selects INBOX and starts IDLE. `None` if something happened there since it was looked at:
    /// then it is looked at again first.
    async fn arm(&self, book: &Book, source: &mut Session) -> Result<Option<WireName>, Failure> {
        let inbox = book.pairs.iter().find(|pair| pair.source.is_inbox());
        let name = inbox.map_or_else(|| WireName::of_wire(b"INBOX"), |pair| pair.source.clone());
        if source.selected().is_none_or(|selected| selected.name != name) {
            source.examine(&name).await.map_err(at_source)?;
        }
        let seen = inbox.filter(|pair| !pair.unfinished).and_then(|pair| pair.record.source_seen);
        if let (Some(seen), Some(now)) = (seen, source.selected())
            && seen.messages != now.exists
        {
            return Ok(None);
        }
        source.idle_start().await.map_err(at_source)?;
        self.board.proved_alive("idle");
        Ok(Some(name))
    }

    /// Waits without IDLE.
    async fn sleep(
        &self,
        book: &Book,
        target: &mut Target,
        until: Instant,
    ) -> Result<(Scope, Option<(WireName, News)>), Failure> {
        loop {
            let now = Instant::now();
            if now >= until || self.is_phase_due(book) || self.stopping() {
                return Ok((Scope::Changed, None));
            }
            self.rest_target(target, now).await;
            let slice = self.slice(book, target).min(until - now);
            tokio::select! {
                () = tokio::time::sleep(slice) => {}
                () = self.control.wake.notified() => return Ok((Scope::Changed, None)),
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

    fn is_phase_due(&self, book: &Book) -> bool {
        let facts = self.facts(book, None);
        cutover::next_phase(book.record.phase, &facts) != book.record.phase
            || (book.record.phase == Phase::Archiving && self.must_look_in_full(book))
    }

    async fn rest_target(&self, target: &mut Target, now: Instant) {
        if target.is_open() && now.saturating_duration_since(target.last_used) >= TARGET_LINGERS {
            target.close().await;
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

/// A pass over what came to INBOX since it was last listed.
fn fresh_inbox(book: &Book) -> (Scope, Option<(WireName, News)>, Option<Uid>) {
    let inbox = book.pairs.iter().find(|pair| pair.source.is_inbox());
    let Some(pair) = inbox else { return (Scope::Changed, None, None) };
    let from = pair.listed_to.map(|uid| uid.get().saturating_add(1)).and_then(Uid::new);
    (Scope::Told, Some((pair.source.clone(), News::default())), from)
}

fn said_something(news: &News) -> bool {
    news.exists.is_some() || news.expunged > 0 || !news.vanished.is_empty() || news.flags_changed
}

fn mode(source: &Session) -> &'static str {
    if source.capabilities().has("IDLE") { "idle" } else { "polled" }
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
