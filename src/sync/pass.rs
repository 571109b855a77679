//! One look at an account: source, target and checkpoint are compared, and what is missing is
//! done. Recovery is not a mode: it is the next pass.
//!
//! The order is fixed, and [`Pass::run`] spells it out. A refusal that concerns one folder is
//! that folder's trouble; every other failure ends the pass.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::SemaphorePermit;

use super::board::Board;
use super::book::{Book, Pair};
use super::clock::Instant;
use super::copy::Failure;
use super::neighbours::{Neighbours, Outline};
use super::plan::{self, SourceDiff, SourceLook};
use super::resolve::asks_for_a_look;
use super::shared::Shared;
use super::source::{Source, is_archived};
use super::target::Target;
use super::trouble;
use crate::checkpoint::{Edit, FolderId, Intent, Known, Link, Phase, Seen, Writer};
use crate::config::Enrollment;
use crate::imap::{AHEAD_MAX, Changes, Code, Error, FolderStatus, News, Selected, WireName};
use crate::journal::{Entry, Event, shown};
use crate::words::{Flags, InternalDate, Message, ModSeq, Side, Uid};

/// How thorough a pass is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Folders whose status has changed, or where something was left to do.
    Changed,
    /// Every folder on both sides, all UIDs and flags.
    Full,
    /// Only the selected folder, of which IDLE told that new mail came.
    Told,
}

/// What a pass leaves behind.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Unix second at which it began.
    pub began_at: i64,
    /// Everything the source shows is linked, refused or listed, and nothing is left to do.
    pub clean: bool,
    /// When something suspected or blocked is due.
    pub due: Option<Instant>,
    /// It ended early for something more urgent, or found more to do: run another one.
    pub again: bool,
    /// Nothing that could be copied was left.
    pub copied_all: bool,
    /// Folders that wait for the cutover were left alone.
    pub deferred: bool,
    /// Nothing is left to do but what has to wait: deferred folders, an archive that could not be
    /// looked at.
    pub waits: bool,
}

/// Everything one pass works with.
pub struct Pass<'a> {
    pub shared: &'a Shared,
    pub enrollment: &'a Enrollment,
    pub writer: &'a Writer,
    pub book: &'a mut Book,
    pub source: &'a mut Source,
    pub target: &'a mut Target,
    pub board: &'a Board,
    pub interrupt: &'a AtomicBool,
    pub scope: Scope,
    /// What was said in IDLE about which folder.
    pub told: Option<(WireName, News)>,
    /// Copy only messages from this UID on: the backlog waits.
    pub fresh_from: Option<Uid>,
    /// Folders that wait for the cutover are still left alone.
    pub deferring: bool,
    /// Who had to be asked where what left may be did not answer: all of it keeps its copy.
    pub silent: bool,
    /// The archive has not even been tried: it is not its turn.
    pub unasked: bool,
    /// When what may be in a folder that waits, and could not be compared, was received: the same.
    pub kept: HashSet<InternalDate>,
    /// From when on the archive must have been looked at for the account to be complete.
    pub looks_from: i64,
    /// The archive's folders are looked at, past the seal.
    pub archive_looked: bool,
    /// Its place among first copies.
    pub archive_slot: Option<SemaphorePermit<'a>>,
    /// No listing of this pass is older.
    pub begun: Instant,
    pub again: bool,
    /// Messages of other folders that wait for a copy in the target folder just looked at; `None`
    /// where not all of them are known.
    pub wanted_beside: Option<Vec<Outline>>,
    /// Memory for listings of more messages than STATUS told of.
    pub surprises: Vec<SemaphorePermit<'a>>,
    /// In-doubt APPENDs and fresh folders hold appends back until then.
    pub due: Option<Instant>,
}

/// One folder pair in this pass.
pub struct Look {
    /// Index of its pair in the book.
    pub pair: usize,
    pub folder: FolderId,
    /// The source as it was seen.
    pub seen: Seen,
    pub known: BTreeMap<Uid, Known>,
    /// Copies whose source message is not known, by target UID.
    pub orphans: BTreeMap<Uid, Link>,
    pub intents: Vec<Intent>,
    /// Source messages without a copy.
    pub wants: BTreeMap<Uid, Message>,
    /// Linked messages whose flags changed.
    pub flags: Vec<(Uid, Flags)>,
    /// Known messages that the source no longer shows.
    pub missing: BTreeSet<Uid>,
    /// Those that the server itself says vanished while nobody looked (QRESYNC).
    pub told: BTreeSet<Uid>,
    /// Missing for certain.
    pub gone: Vec<Uid>,
    /// Orphans that nobody needs, for certain, by target UID: also whether a message of the same
    /// bytes and instant has its copy elsewhere.
    pub surplus: BTreeMap<Uid, bool>,
    /// The target's listing, where it was taken in this pass.
    pub listing: Option<BTreeMap<Uid, Message>>,
    /// Target messages that nothing explains.
    pub unexplained: BTreeMap<Uid, Message>,
    /// What other source folders have in the target's folder; set with `listing`.
    pub beside: Neighbours,
    /// Linked messages whose copy is not there.
    pub vanished: Vec<Uid>,
    /// Source UIDs that must not be appended yet.
    pub blocked: HashSet<Uid>,
    /// Nothing may be appended yet.
    pub all_blocked: bool,
    /// Refused in this pass, not yet committed.
    pub refusals: Vec<(Uid, Known)>,
    /// Messages that the source did not give to be compared: they wait.
    pub withheld: Vec<Message>,
    /// All of the folder was listed.
    pub complete: bool,
    /// Something is left for a later pass.
    pub unfinished: bool,
    /// What left it is asked for in the archive again.
    pub asks_again: bool,
    /// A server refused something about this folder: it is left alone until the next pass.
    pub troubled: bool,
    /// Is the source's folder itself missing?
    pub absence: Absence,
}

impl Look {
    /// Messages without a copy, but for those whose APPEND may still be stored: were they given
    /// another copy, that one would be their second, and nobody would look for it any more.
    pub fn not_in_doubt(&self) -> impl Iterator<Item = &Message> {
        self.wants.values().filter(|want| !self.blocked.contains(&want.uid))
    }
}

/// Is a source folder still listed?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absence {
    Listed,
    /// LIST lacks it, and it can be selected, or who knows: it may come back.
    Suspected,
    /// LIST lacks it, and it cannot be selected. It may come back, but what turns up in another
    /// folder was moved there: to rename a folder is to move all of it.
    Unselectable,
    /// LIST has lacked it for long, but the server will not say that it does not exist: its
    /// copies stay, and nothing waits for it.
    Unknown,
    /// It is gone.
    Certain,
}

impl Absence {
    pub fn may_come_back(self) -> bool {
        matches!(self, Absence::Suspected | Absence::Unselectable)
    }
}

impl<'a> Pass<'a> {
    pub async fn run(mut self) -> Result<Verdict, Failure> {
        let began_at = self.shared.clock.now();
        self.mark_deferred();
        let statuses = match self.scope {
            Scope::Told => HashMap::new(),
            Scope::Changed | Scope::Full => self.survey().await?,
        };
        let _memory = self.reserve(&statuses).await?;
        self.targets_ahead(&statuses).await?;
        let mut looks = self.look(&statuses).await?;
        self.board.show_book(self.book);
        self.ask_archive(&mut looks).await?;
        self.look_into_deferred(&mut looks, &statuses).await?;
        for at in 0..looks.len() {
            self.wanted_beside = self.wanted_beside(&looks, at);
            let look = &mut looks[at];
            let done = self.resolve_folder(look).await;
            self.tolerate(look, done)?;
            self.set_backlog_aside(look);
        }
        self.target.forget_ahead().await?;
        self.resolve_moves(&mut looks).await?;
        self.leave_deferred(&mut looks);
        let interrupted = self.copy(&mut looks).await?;
        if !interrupted {
            for look in &mut looks {
                let done = self.apply_flags(look).await;
                self.tolerate(look, done)?;
                self.apply_vanished(look).await?;
            }
            self.apply_removals(&mut looks).await?;
            for look in &mut looks {
                let done = self.read_back(look).await;
                self.tolerate(look, done)?;
            }
        }
        if !interrupted {
            self.try_archive().await?;
        }
        self.conclude(looks, began_at, interrupted).await
    }

    pub fn phase(&self) -> Phase {
        self.book.record.phase
    }

    /// The target may still be changed: the account is not sealed.
    pub fn may_change(&self) -> bool {
        self.phase() < Phase::Archiving
    }

    pub fn emit(&self, entry: Entry) {
        let entry = entry.account(&self.enrollment.address);
        self.shared.journal.emit(entry.migration(&self.enrollment.migration.name));
    }

    /// Looks again when `at` has come.
    pub fn due_at(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub fn in_doubt_wait(&self) -> Duration {
        self.enrollment.migration.sync.in_doubt_wait
    }

    /// Takes what the listings of this pass need from the daemon's memory, if that is worth
    /// asking for. The target is connected first: who has memory never waits for a connection.
    async fn reserve(
        &mut self,
        statuses: &HashMap<WireName, FolderStatus>,
    ) -> Result<Option<SemaphorePermit<'a>>, Failure> {
        let looked_at = self.book.pairs.iter().filter_map(|pair| {
            let status = statuses.get(&pair.source)?;
            self.is_due(pair, status).then_some(u64::from(status.messages))
        });
        let messages: u64 = looked_at.sum();
        if messages <= LISTED_FREELY {
            return Ok(None);
        }
        self.target.session().await?;
        let shared: &'a Shared = self.shared;
        Ok(shared.memory.of_messages(messages).await)
    }

    /// Takes memory for messages that STATUS did not tell of, if there are many. Nobody waits for
    /// it who has some already.
    fn reserve_more(&mut self, messages: u64) -> Result<(), Failure> {
        if messages <= LISTED_FREELY {
            return Ok(());
        }
        let shared: &'a Shared = self.shared;
        let more = shared.memory.at_once(messages);
        let more = more.ok_or_else(|| at_source(Error::TimedOut("memory for its listing")))?;
        self.surprises.push(more);
        Ok(())
    }

    /// Must the folder be looked at?
    fn is_due(&self, pair: &Pair, status: &FolderStatus) -> bool {
        let unchanged = pair.record.source_seen.is_some_and(|seen| is_same(&seen, status));
        let told = self.told.as_ref().is_some_and(|(name, _)| *name == pair.source);
        let quiet = unchanged && !pair.unfinished && !pair.look_at_target;
        self.scope == Scope::Full || !quiet || told
    }

    /// Looks at every source folder that has changed or must be looked at.
    async fn look(
        &mut self,
        statuses: &HashMap<WireName, FolderStatus>,
    ) -> Result<Vec<Look>, Failure> {
        let mut looks = Vec::new();
        for at in 0..self.book.pairs.len() {
            let pair = &self.book.pairs[at];
            if self.scope == Scope::Told {
                if self.told.as_ref().is_some_and(|(name, _)| *name == pair.source) {
                    looks.extend(self.look_at(at, None).await?);
                }
                continue;
            }
            if is_archived(&pair.source) && !self.archive_looked {
                continue;
            }
            let Some(status) = statuses.get(&pair.source) else {
                looks.push(self.look_at_absent(at).await?);
                continue;
            };
            let due = self.is_due(pair, status);
            self.book.learned.folders_missing.settled(pair.record.id);
            if due {
                self.sources_ahead(at, statuses).await?;
                looks.extend(self.look_at(at, Some(status.messages)).await?);
            }
        }
        self.source.forget_ahead().await.map_err(at_source)?;
        Ok(looks)
    }

    /// Asks for the listings of this source folder and those after it, as many as go in one
    /// flight, where all of each is listed anyway.
    async fn sources_ahead(
        &mut self,
        at: usize,
        statuses: &HashMap<WireName, FolderStatus>,
    ) -> Result<(), Failure> {
        let is_archived = |pair: &Pair| is_archived(&pair.source);
        let pairs = &self.book.pairs[at..];
        if self.source.is_ahead() || self.fresh_from.is_some() || is_archived(&pairs[0]) {
            return Ok(());
        }
        let mut names = Vec::new();
        for pair in pairs.iter().filter(|pair| !is_archived(pair)) {
            // What comes of a folder that LIST lacks is not foreseen.
            let Some(status) = statuses.get(&pair.source) else { break };
            if !self.is_due(pair, status) {
                continue;
            }
            if names.len() >= AHEAD_MAX || !self.lists_all(pair) {
                break;
            }
            names.push(pair.source.clone());
        }
        if names.len() > 1 {
            self.source.look_ahead(&names).await.map_err(at_source)?;
        }
        Ok(())
    }

    /// Asks the target for the listings of folders that will be looked at there, while the
    /// source is asked, too.
    async fn targets_ahead(
        &mut self,
        statuses: &HashMap<WireName, FolderStatus>,
    ) -> Result<(), Failure> {
        if self.scope == Scope::Told {
            return self.target_ahead().await;
        }
        if self.deferring {
            return Ok(());
        }
        let due = self.book.pairs.iter().filter(|pair| {
            let looked_at = pair.look_at_target || pair.record.target_seen.is_none();
            let is_due = statuses.get(&pair.source).is_some_and(|status| self.is_due(pair, status));
            is_due && (looked_at || self.scope == Scope::Full)
        });
        // What is opened twice is looked at in between.
        let mut asked = HashSet::new();
        let due = due.take_while(|pair| asked.insert(pair.target.clone()));
        let names: Vec<WireName> = due.take(AHEAD_MAX).map(|pair| pair.target.clone()).collect();
        match names.len() {
            0 | 1 => Ok(()),
            _ => self.target.session().await?.look_ahead(&names, false).await.map_err(at_target),
        }
    }

    /// The same for the folder of which something was told, unless the connection itself has to
    /// be waited for: the source is not kept waiting.
    async fn target_ahead(&mut self) -> Result<(), Failure> {
        let told = self.told.as_ref().map(|(name, _)| name);
        let pair = self.book.pairs.iter().find(|pair| Some(&pair.source) == told);
        let asked = |pair: &&Pair| self.target.is_ready() && !pair.deferred;
        let Some(pair) = pair.filter(asked) else { return Ok(()) };
        let looked_at = pair.look_at_target
            || pair.record.target_seen.is_none()
            || self.shared.store.intents(pair.record.id)?.iter().any(asks_for_a_look);
        if !looked_at {
            return Ok(());
        }
        let name = pair.target.clone();
        self.target.session().await?.look_ahead(&[name], false).await.map_err(at_target)
    }

    /// Is every message of the source folder listed when it is looked at?
    fn lists_all(&self, pair: &Pair) -> bool {
        let compares = |seen: Seen| seen.uid_next > 0 && seen.highest_modseq > ModSeq(0);
        self.scope == Scope::Full
            || pair.unfinished
            || !pair.record.source_seen.is_some_and(compares)
    }

    /// A folder that LIST no longer shows: all it held is missing, and looked for elsewhere.
    pub(super) async fn look_at_absent(&mut self, at: usize) -> Result<Look, Failure> {
        let absence = self.absence(at).await?;
        let seen = self.book.pairs[at].record.source_seen.unwrap_or_default();
        let known = self.known(at)?;
        let missing = known.keys().copied().collect();
        let diff = SourceDiff { missing, ..SourceDiff::default() };
        let look = self.new_look(at, seen, known, diff)?;
        Ok(Look { absence, unfinished: absence.may_come_back(), ..look })
    }

    fn known(&self, at: usize) -> Result<BTreeMap<Uid, Known>, Failure> {
        let known = self.shared.store.known(self.book.pairs[at].record.id)?;
        Ok(known.into_iter().collect())
    }

    fn new_look(
        &self,
        pair: usize,
        seen: Seen,
        known: BTreeMap<Uid, Known>,
        diff: SourceDiff,
    ) -> Result<Look, Failure> {
        let folder = self.book.pairs[pair].record.id;
        let orphans = self.shared.store.orphans(folder)?;
        Ok(Look {
            pair,
            folder,
            seen,
            known,
            orphans: orphans.into_iter().map(|orphan| (orphan.target_uid, orphan.link)).collect(),
            intents: self.shared.store.intents(folder)?,
            wants: diff.new.into_iter().map(|message| (message.uid, message)).collect(),
            flags: diff.flags,
            missing: diff.missing.into_iter().collect(),
            told: diff.told,
            gone: Vec::new(),
            surplus: BTreeMap::new(),
            listing: None,
            unexplained: BTreeMap::new(),
            beside: Neighbours::default(),
            vanished: Vec::new(),
            blocked: HashSet::new(),
            all_blocked: false,
            refusals: Vec::new(),
            withheld: Vec::new(),
            complete: true,
            unfinished: false,
            asks_again: false,
            troubled: false,
            absence: Absence::Listed,
        })
    }

    /// Looks at a folder of which STATUS told so many messages.
    pub async fn look_at(&mut self, at: usize, told: Option<u32>) -> Result<Option<Look>, Failure> {
        let name = self.book.pairs[at].source.clone();
        let selected = match self.select_source(&name).await {
            Ok(selected) => selected,
            Err(Error::No { code, text, .. }) if trouble::is_of_folder(code.as_ref(), &text) => {
                self.folder_troubled(at, Side::Source, code.as_ref(), &text);
                let folder = self.book.pairs[at].record.id;
                self.book.learned.folders_troubled.note(folder, Instant::now());
                return Ok(None);
            }
            Err(error) => return Err(at_source(error)),
        };
        self.book.learned.folders_troubled.settled(self.book.pairs[at].record.id);
        let surprise = told.map_or(0, |told| selected.exists.saturating_sub(told));
        self.reserve_more(u64::from(surprise))?;
        self.settle_validity(at, &selected).await?;
        let mut known = self.known(at)?;
        let (look, complete) = self.list_source(at, &selected, &known).await?;
        self.settle_numbers(at, &mut known, &look).await?;
        let exists = self.source.exists();
        let apart_secs = self.shared.apart.as_secs() as i64;
        let diff = plan::source_diff(&known, &look, self.shared.clock.now(), apart_secs);
        let pair = &mut self.book.pairs[at];
        pair.listed_to = pair.listed_to.or(look.messages.last().map(|message| message.uid));
        pair.counts.recount(&known);
        pair.counts.source = u64::from(exists);
        let wanted: u64 = diff.new.iter().map(|message| message.size).sum();
        pair.counts.source_bytes = pair.counts.linked_bytes + wanted;
        let seen = Seen {
            uid_validity: selected.uid_validity,
            uid_next: uid_next(&selected, &look.messages, pair.record.source_seen),
            messages: exists,
            highest_modseq: selected.highest_modseq.unwrap_or_default(),
        };
        let look = self.new_look(at, seen, known, diff)?;
        // What was not shown must not pass for absent: it is looked at again.
        Ok(Some(Look { complete, unfinished: !complete, ..look }))
    }

    /// Selects a folder, unless it is selected and all that happened there is new mail: then
    /// what IDLE told is enough, and the FETCH goes out with the DONE.
    async fn select_source(&mut self, name: &WireName) -> Result<Selected, Error> {
        if self.scope == Scope::Told
            && self.fresh_from.is_none()
            && self.source.is_on(name)
            && let Some(selected) = self.source.selected()
        {
            return Ok(Selected { uid_next: None, ..selected.clone() });
        }
        self.source.examine(name).await
    }

    /// Lists what may have changed, or everything, and tells whether all of it was shown.
    async fn list_source(
        &mut self,
        at: usize,
        selected: &Selected,
        known: &BTreeMap<Uid, Known>,
    ) -> Result<(SourceLook, bool), Failure> {
        if self.source.selected().is_some_and(Selected::numbers_may_change) {
            return self.list_all().await;
        }
        if let Some(from) = self.fresh_from {
            let messages = self.source.list_messages(from).await.map_err(at_source)?;
            let changes = Changes::default();
            return Ok((SourceLook { messages, changes, present: None }, false));
        }
        let pair = &self.book.pairs[at];
        // Of what waits, most is not linked: it is not told by what is new.
        let partly = self.scope != Scope::Full && !pair.unfinished && !pair.deferred;
        let (uid_next, modseq, before) = match (pair.record.source_seen, selected.highest_modseq) {
            (Some(seen), Some(modseq))
                if partly
                    && seen.uid_next > 0
                    && seen.highest_modseq > ModSeq(0)
                    && modseq >= seen.highest_modseq =>
            {
                (seen.uid_next, seen.highest_modseq, seen.messages)
            }
            _ => return self.list_all().await,
        };
        let from = Uid::new(uid_next).expect("checked above");
        let arrived = self.source.exists().saturating_sub(before) as usize;
        let is_quiet = selected.highest_modseq == Some(modseq);
        let messages = match selected.uid_next {
            Some(now) if now == uid_next => Ok(Vec::new()),
            _ if is_quiet && self.asks_for_bodies(at, arrived) => {
                self.book.learned.bodies_unwanted = true;
                self.source.list_with_bodies(from, arrived).await
            }
            _ => self.source.list_messages(from).await,
        };
        let messages = messages.map_err(at_source)?;
        let new: BTreeSet<Uid> = messages.iter().map(|message| message.uid).collect();
        let mut changes = Changes::default();
        if !is_quiet {
            changes = self.source.list_changes(modseq).await.map_err(at_source)?;
            // A UIDNEXT that went back hides new messages, which have changed all the same.
            if changes.flags.iter().any(|(uid, _)| *uid >= from && !new.contains(uid)) {
                return self.list_all().await;
            }
            changes.flags.retain(|(uid, _)| *uid < from);
        }
        let is_of_known = |(first, last): &(u32, u32)| {
            let range = Uid::new(*first).zip(Uid::new(*last)).filter(|(first, last)| first <= last);
            range.is_some_and(|(first, last)| known.range(first..=last).next().is_some())
        };
        let as_many = before as usize + messages.len() == self.source.exists() as usize;
        if as_many && !changes.vanished.iter().any(is_of_known) {
            return Ok((SourceLook { messages, changes, present: None }, true));
        }
        let uids = self.source.list_uids().await.map_err(at_source)?;
        let complete = uids.len() == self.source.exists() as usize;
        if uids.iter().any(|uid| !known.contains_key(uid) && !new.contains(uid)) {
            return self.list_all().await;
        }
        let present = complete.then(|| uids.into_iter().collect());
        Ok((SourceLook { messages, changes, present }, complete))
    }

    /// A few messages were told of, which will most likely be copied: their bodies come in the
    /// flight of their listing, and the plan says what becomes of them.
    fn asks_for_bodies(&self, at: usize, new: usize) -> bool {
        self.scope == Scope::Told
            && (1..=BODIES_AHEAD_MAX).contains(&new)
            && !self.book.pairs[at].deferred
            && !self.book.learned.bodies_singly
            && !self.book.learned.bodies_unwanted
    }

    async fn list_all(&mut self) -> Result<(SourceLook, bool), Failure> {
        let first = Uid::new(1).expect("1 is a UID");
        let messages = self.source.list_messages(first).await.map_err(at_source)?;
        let uids: BTreeSet<Uid> = messages.iter().map(|message| message.uid).collect();
        // Fewer than EXISTS is no complete listing: nothing is missing on its word.
        let complete = uids.len() == self.source.exists() as usize;
        let present = complete.then_some(uids);
        Ok((SourceLook { messages, changes: Changes::default(), present }, complete))
    }

    fn set_backlog_aside(&self, look: &mut Look) {
        if let Some(from) = self.fresh_from {
            look.wants.retain(|uid, _| *uid >= from);
            look.unfinished = true;
        }
    }

    /// Selects the pair's source folder, unless it is selected.
    pub async fn examine(&mut self, at: usize) -> Result<(), Failure> {
        let name = self.book.pairs[at].source.clone();
        if self.source.is_on(&name) {
            return Ok(());
        }
        let selected = self.source.examine(&name).await.map_err(at_source)?;
        let seen = self.book.pairs[at].record.source_seen;
        if seen.is_some_and(|seen| seen.uid_validity != selected.uid_validity)
            && !selected.numbers_may_change()
        {
            return Err(Failure::Changed);
        }
        Ok(())
    }

    /// Writes down what was seen, and what of it is settled.
    async fn conclude(
        mut self,
        looks: Vec<Look>,
        began_at: i64,
        interrupted: bool,
    ) -> Result<Verdict, Failure> {
        let full = self.scope == Scope::Full && !interrupted;
        let mut edits = Vec::new();
        let mut copied_all = !interrupted && self.fresh_from.is_none();
        for look in &looks {
            self.await_refused(look);
            // Who only waits keeps nobody from copying.
            copied_all &= look.troubled || look.all_blocked || look.wants.is_empty();
            edits.extend(self.conclude_look(look, began_at, interrupted, full));
        }
        self.writer.commit(edits).await?;
        // Before the seal nobody waits for ever for an archive.
        let given_up = self.is_given_up();
        self.conclude_archive(&looks);
        self.bury_folders(&looks).await?;
        let now = Instant::now();
        let learned = &self.book.learned;
        let suspicions = [
            learned.missing.due(now),
            learned.vanished.due(now),
            learned.orphans_left.due(now),
            learned.folders_missing.due(now),
        ];
        for due in suspicions.into_iter().flatten() {
            self.due_at(due);
        }
        let archives_wait = self.deferring && given_up;
        let settled = |pair: &Pair| {
            !pair.unfinished && pair.trouble.is_none() || archives_wait && is_archived(&pair.source)
        };
        let conflicts = self.book.left_out.iter().any(|left_out| left_out.state == "held");
        let nothing_wanted = looks.iter().all(|look| look.wants.is_empty());
        let has_all = !self.is_archive_open() || self.archive_looked;
        let settled = self.book.pairs.iter().all(settled);
        let told = !self.silent || given_up;
        let has_own = full && nothing_wanted && !conflicts && settled && told;
        let clean = has_own && has_all;
        if clean && self.archive_looked {
            self.book.learned.archive.complete_at = Some(began_at);
        }
        self.board.show_book(self.book);
        Ok(Verdict {
            began_at,
            clean,
            due: self.due,
            again: self.again || interrupted,
            copied_all,
            deferred: self.deferring,
            waits: has_own && (self.deferring || !has_all),
        })
    }

    /// Refused messages that are not believed yet are due for another try.
    fn await_refused(&mut self, look: &Look) {
        let (now, apart_secs) = (self.shared.clock.now(), self.shared.apart.as_secs() as i64);
        for known in look.known.values().filter(|known| plan::is_to_be_tried(known)) {
            if let Known::Refused { last_try, .. } = known {
                let left = (apart_secs - (now - last_try).abs()).max(1);
                self.due_at(Instant::now() + Duration::from_secs(left.unsigned_abs()));
            }
        }
    }

    fn conclude_look(
        &mut self,
        look: &Look,
        began_at: i64,
        interrupted: bool,
        full: bool,
    ) -> Option<Edit> {
        let pair = &mut self.book.pairs[look.pair];
        pair.counts.recount(&look.known);
        pair.in_doubt = look
            .intents
            .iter()
            .filter(|intent| !intent.repeated)
            .map(|intent| intent.messages.len() as u64)
            .sum();
        pair.unfinished = look.unfinished || look.troubled || interrupted || !look.wants.is_empty();
        if !look.troubled {
            pair.trouble = None;
            self.book.learned.said_trouble.remove(&look.folder);
        }
        if look.absence != Absence::Listed {
            // Nothing of a folder that is gone is left to copy.
            pair.record.first_copy_completed |= look.absence == Absence::Certain;
            pair.unfinished |= look.asks_again;
            return None;
        }
        let mut copied = None;
        if !pair.unfinished {
            pair.record.source_seen = Some(look.seen);
            if !pair.record.first_copy_completed && !pair.deferred {
                pair.record.first_copy_completed = true;
                pair.record.compared_at = began_at;
                // Sizes and dates that differ there now tell what the target has altered.
                pair.look_at_target = true;
                copied = Some(folder_copied(pair));
            }
            if full {
                pair.record.compared_at = began_at;
            }
        }
        // All is listed, but the seal waits for the last try of what was refused, and a while for
        // the archive.
        pair.unfinished |= look.asks_again || look.known.values().any(plan::is_to_be_tried);
        let edit = Edit::PutFolder(pair.record.clone());
        if let Some(entry) = copied {
            self.emit(entry);
        }
        Some(edit)
    }

    /// Forgets folders that are gone at the source once nothing of them is left to do, and nothing
    /// of them can come late.
    async fn bury_folders(&mut self, looks: &[Look]) -> Result<(), Failure> {
        for look in looks {
            let is_done = look.known.is_empty() && look.intents.is_empty();
            if look.absence == Absence::Certain && is_done && !self.waits_for_orphans(look) {
                self.book.learned.folders_missing.settled(look.folder);
                self.book.learned.orphans_left.retain(|(of, _)| *of != look.folder);
                self.book.pairs.retain(|pair| pair.record.id != look.folder);
                self.writer.commit(vec![Edit::DropFolder(look.folder)]).await?;
            }
        }
        Ok(())
    }

    /// A refusal that concerns one folder is its trouble; the pass goes on with the others.
    pub fn tolerate(&mut self, look: &mut Look, done: Result<(), Failure>) -> Result<(), Failure> {
        match done {
            Err(Failure::Imap(side, Error::No { code, text, .. }))
                if trouble::is_of_folder(code.as_ref(), &text) =>
            {
                look.troubled = true;
                self.folder_troubled(look.pair, side, code.as_ref(), &text);
                Ok(())
            }
            other => other,
        }
    }

    /// Marks one folder as held for a reason of its own, and says it once.
    fn folder_troubled(&mut self, at: usize, side: Side, code: Option<&Code>, text: &str) {
        let reason = trouble::of_folder(side, code, text);
        let pair = &mut self.book.pairs[at];
        pair.unfinished = true;
        if pair.trouble.as_ref().is_none_or(|trouble| trouble.code != reason.code) {
            pair.trouble = Some(self.board.reason_of(&reason, None));
        }
        let said = self.book.learned.said_trouble.insert(pair.record.id, reason.code);
        if said == Some(reason.code) {
            return;
        }
        let name = pair.shown().to_owned();
        let text = format!("the {side} says: {}", shown(text));
        self.emit(Entry::new(Event::FolderSkipped, text).folder(&name).reason(reason.code));
    }
}

/// So many new messages are asked for before it is known what they are.
const BODIES_AHEAD_MAX: usize = 8;

/// So many messages are listed without asking for memory: it is not worth a place in a queue.
pub const LISTED_FREELY: u64 = 1000;

fn folder_copied(pair: &Pair) -> Entry {
    let (to, linked) = (&pair.record.target_shown, pair.counts.linked);
    let text = format!("{} → {to}: {linked} messages", pair.shown());
    Entry::new(Event::FolderCopied, text).folder(pair.shown()).bytes(pair.counts.linked_bytes)
}

/// Does the status say that nothing happened since? Without modification sequences flags may
/// have changed unseen, so such a folder is never the same.
fn is_same(seen: &Seen, status: &FolderStatus) -> bool {
    seen.uid_validity == status.uid_validity
        && Some(seen.uid_next) == status.uid_next
        && seen.messages == status.messages
        && seen.highest_modseq > ModSeq(0)
        && Some(seen.highest_modseq) == status.highest_modseq
}

/// UIDNEXT as told, else one past the highest UID seen.
fn uid_next(selected: &Selected, messages: &[Message], before: Option<Seen>) -> u32 {
    let told = selected.uid_next.unwrap_or_default();
    let seen = messages.last().map_or(0, |message| message.uid.get().saturating_add(1));
    let before = before.map_or(0, |seen| seen.uid_next);
    if told > 0 { told.max(seen) } else { seen.max(before) }
}

pub fn at_source(error: Error) -> Failure {
    Failure::Imap(Side::Source, error)
}

pub fn at_target(error: Error) -> Failure {
    Failure::Imap(Side::Target, error)
}
