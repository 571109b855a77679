//! One look at an account: source, target and checkpoint are compared, and what is missing is
//! done. Recovery is not a mode: it is the next pass.
//!
//! The order is fixed: survey the folders, look at the source, look at the target where that is
//! needed, resolve doubts and adoptions and moves, copy, then flags, removals, and proofs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::account::Shared;
use super::board::Board;
use super::book::Book;
use super::copy::Failure;
use super::plan::{self, SourceDiff, SourceLook};
use super::target::Target;
use crate::checkpoint::{Edit, FolderId, Intent, Known, Orphan, Phase, Seen, Writer};
use crate::config::Enrollment;
use crate::imap::{Error, FolderStatus, News, Selected, Session, WireName};
use crate::journal::{Entry, Event};
use crate::words::{Flags, Message, ModSeq, Side, Uid};

/// How thorough a pass is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Folders whose status has changed, or where something was left to do.
    Changed,
    /// Every folder on both sides, all UIDs and flags.
    Full,
    /// Only the selected folder, of which IDLE told something.
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
}

/// Everything one pass works with.
pub struct Pass<'a> {
    pub shared: &'a Shared,
    pub enrollment: &'a Enrollment,
    pub writer: &'a Writer,
    pub book: &'a mut Book,
    pub source: &'a mut Session,
    pub target: &'a mut Target,
    pub board: &'a Board,
    pub interrupt: &'a AtomicBool,
    pub scope: Scope,
    /// What was said in IDLE about which folder.
    pub told: Option<(WireName, News)>,
    /// Copy only messages from this UID on: the backlog waits.
    pub fresh_from: Option<Uid>,
    pub again: bool,
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
    pub orphans: Vec<Orphan>,
    pub intents: Vec<Intent>,
    /// Source messages without a copy.
    pub wants: Vec<Message>,
    /// Linked messages whose flags changed.
    pub flags: Vec<(Uid, Flags)>,
    /// Known messages that the source no longer shows.
    pub missing: Vec<Uid>,
    /// The target's listing, where it was taken in this pass.
    pub listing: Option<BTreeMap<Uid, Message>>,
    /// Target messages that nothing explains.
    pub unexplained: Vec<Message>,
    /// Linked messages whose copy is not there.
    pub vanished: Vec<Uid>,
    /// Source UIDs that must not be appended yet.
    pub blocked: HashSet<Uid>,
    /// Nothing may be appended yet.
    pub all_blocked: bool,
    /// Something is left for a later pass.
    pub unfinished: bool,
    /// The source's folder itself is missing.
    pub absence: Absence,
    /// Missing for certain.
    pub gone: Vec<Uid>,
    /// Refused in this pass, not yet committed.
    pub refusals: Vec<(Uid, Known)>,
}

/// Is a source folder still listed?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absence {
    Listed,
    /// One LIST lacked it.
    Suspected,
    /// It is gone.
    Certain,
}

impl Pass<'_> {
    pub async fn run(mut self) -> Result<Verdict, Failure> {
        let began_at = self.shared.clock.now();
        let statuses = match self.scope {
            Scope::Told => HashMap::new(),
            Scope::Changed | Scope::Full => self.survey().await?,
        };
        let messages = statuses.values().map(|status| u64::from(status.messages)).sum();
        let _memory = self.shared.memory.of_messages(messages).await;
        let mut looks = self.look(&statuses).await?;
        self.board.show_book(self.book);
        for look in &mut looks {
            self.resolve_folder(look).await?;
            self.set_backlog_aside(look);
        }
        self.resolve_moves(&mut looks).await?;
        let interrupted = self.copy(&mut looks).await?;
        if !interrupted {
            for look in &mut looks {
                self.apply_flags(look).await?;
                self.apply_vanished(look).await?;
            }
            self.apply_removals(&mut looks).await?;
            for look in &mut looks {
                self.read_back(look).await?;
            }
        }
        self.conclude(looks, began_at, interrupted).await
    }

    fn set_backlog_aside(&self, look: &mut Look) {
        let Some(from) = self.fresh_from else { return };
        let before = look.wants.len();
        look.wants.retain(|want| want.uid >= from);
        look.unfinished |= look.wants.len() < before;
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

    /// Looks at every source folder that has changed or must be looked at.
    async fn look(
        &mut self,
        statuses: &HashMap<WireName, FolderStatus>,
    ) -> Result<Vec<Look>, Failure> {
        let mut looks = Vec::new();
        for at in 0..self.book.pairs.len() {
            let pair = &self.book.pairs[at];
            let told = self.told.as_ref().is_some_and(|(name, _)| *name == pair.source);
            if self.scope == Scope::Told {
                if told {
                    looks.extend(self.look_at(at).await?);
                }
                continue;
            }
            let Some(status) = statuses.get(&pair.source) else {
                looks.push(self.look_at_absent(at).await?);
                continue;
            };
            self.book.learned.folders_missing.settled(pair.record.id);
            let unchanged = pair.record.source_seen.is_some_and(|seen| is_same(&seen, status));
            let quiet = unchanged && !pair.unfinished && !pair.look_at_target;
            if self.scope == Scope::Full || !quiet || told {
                looks.extend(self.look_at(at).await?);
            }
        }
        Ok(looks)
    }

    /// A folder that LIST no longer shows: all it held is missing, and looked for elsewhere.
    async fn look_at_absent(&mut self, at: usize) -> Result<Look, Failure> {
        let absence = self.absence(at).await?;
        let seen = self.book.pairs[at].record.source_seen.unwrap_or_default();
        let known = self.known(at)?;
        let missing = known.keys().copied().collect();
        let diff = SourceDiff { missing, ..SourceDiff::default() };
        let look = self.new_look(at, seen, known, diff)?;
        Ok(Look { absence, unfinished: absence == Absence::Suspected, ..look })
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
        Ok(Look {
            pair,
            folder,
            seen,
            known,
            orphans: self.shared.store.orphans(folder)?,
            intents: self.shared.store.intents(folder)?,
            wants: diff.new,
            flags: diff.flags,
            missing: diff.missing,
            listing: None,
            unexplained: Vec::new(),
            vanished: Vec::new(),
            blocked: HashSet::new(),
            all_blocked: false,
            unfinished: false,
            absence: Absence::Listed,
            gone: Vec::new(),
            refusals: Vec::new(),
        })
    }

    async fn look_at(&mut self, at: usize) -> Result<Option<Look>, Failure> {
        let name = self.book.pairs[at].source.clone();
        let selected = match self.select_source(&name).await {
            Ok(selected) => selected,
            // One folder's refusal is that folder's trouble.
            Err(Error::No { text, .. }) => {
                self.folder_troubled(at, "no_permission", &text);
                return Ok(None);
            }
            Err(error) => return Err(at_source(error)),
        };
        self.settle_validity(at, &selected).await?;
        let known = self.known(at)?;
        let (look, exists) = self.list_source(at, &selected).await?;
        let diff = plan::source_diff(&known, &look, self.shared.clock.now());
        let pair = &mut self.book.pairs[at];
        pair.trouble = None;
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
        self.new_look(at, seen, known, diff).map(Some)
    }

    /// Selects a folder, unless it is selected and all that happened there is new mail: then
    /// what IDLE told is enough, and the FETCH goes out with the DONE.
    async fn select_source(&mut self, name: &WireName) -> Result<Selected, Error> {
        let only_new = self.scope == Scope::Told
            && self.told.as_ref().is_some_and(|(told, news)| {
                told == name
                    && news.expunged == 0
                    && news.vanished.is_empty()
                    && !news.flags_changed
            });
        if let Some(selected) = self.source.selected()
            && only_new
            && selected.name == *name
        {
            return Ok(Selected { uid_next: None, ..selected.clone() });
        }
        self.source.examine(name).await
    }

    /// Lists what may have changed, or everything; tells how many messages there are.
    async fn list_source(
        &mut self,
        at: usize,
        selected: &Selected,
    ) -> Result<(SourceLook, u32), Failure> {
        let pair = &self.book.pairs[at];
        let partly = self.scope != Scope::Full && !pair.unfinished;
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
        let messages = match selected.uid_next {
            Some(now) if now == uid_next => Vec::new(),
            _ => self.source.list_messages(from).await.map_err(at_source)?,
        };
        let mut flags = Vec::new();
        if selected.highest_modseq != Some(modseq) {
            flags = self.source.list_flags(Some(modseq)).await.map_err(at_source)?;
            flags.retain(|(uid, _)| *uid < from);
        }
        let exists = self.exists_now(selected);
        let nothing_gone = before as usize + messages.len() == exists as usize;
        let present = if nothing_gone { None } else { self.list_present().await? };
        Ok((SourceLook { messages, flags, present }, exists))
    }

    async fn list_all(&mut self) -> Result<(SourceLook, u32), Failure> {
        let first = Uid::new(1).expect("1 is a UID");
        let messages = self.source.list_messages(first).await.map_err(at_source)?;
        let uids: BTreeSet<Uid> = messages.iter().map(|message| message.uid).collect();
        let exists = self.source.selected().map_or(0, |selected| selected.exists);
        // Fewer than EXISTS is no complete listing: nothing is missing on its word.
        let present = (uids.len() == exists as usize).then_some(uids);
        Ok((SourceLook { messages, flags: Vec::new(), present }, exists))
    }

    async fn list_present(&mut self) -> Result<Option<BTreeSet<Uid>>, Failure> {
        let uids = self.source.list_uids().await.map_err(at_source)?;
        let exists = self.source.selected().map_or(0, |selected| selected.exists);
        let complete = uids.len() == exists as usize;
        Ok(complete.then(|| uids.into_iter().collect()))
    }

    fn exists_now(&self, selected: &Selected) -> u32 {
        self.source.selected().map_or(selected.exists, |now| now.exists)
    }

    /// A new UIDVALIDITY turns the folder's links into copies whose messages must be found anew.
    async fn settle_validity(&mut self, at: usize, selected: &Selected) -> Result<(), Failure> {
        let pair = &mut self.book.pairs[at];
        let before = pair.record.source_seen.map(|seen| seen.uid_validity);
        if before == Some(selected.uid_validity) {
            return Ok(());
        }
        let folder = pair.record.id;
        let mut edits = Vec::new();
        if before.is_some() {
            edits.push(Edit::DropAllKnown(folder));
            for (_, known) in self.shared.store.known(folder)? {
                if let Known::Linked(link) = known
                    && let Some(target_uid) = link.target_uid
                {
                    edits.push(Edit::PutOrphan(folder, Orphan { target_uid, link }));
                }
            }
            pair.look_at_target = true;
        }
        // Durable before the first link, so that links never meet another UIDVALIDITY.
        let validity = selected.uid_validity;
        pair.record.source_seen = Some(Seen { uid_validity: validity, ..Seen::default() });
        edits.push(Edit::PutFolder(pair.record.clone()));
        let shown = pair.shown().to_owned();
        self.writer.commit(edits).await?;
        if before.is_some() {
            let said = "UIDVALIDITY changed at the source; messages are paired with their copies \
                        by content";
            self.emit(Entry::new(Event::UidvalidityChanged, said).folder(&shown));
        }
        Ok(())
    }

    /// Is the folder the source has selected? Selects it otherwise.
    pub async fn examine(&mut self, at: usize) -> Result<(), Failure> {
        let name = self.book.pairs[at].source.clone();
        if self.source.selected().is_some_and(|selected| selected.name == name) {
            return Ok(());
        }
        let selected = self.source.examine(&name).await.map_err(at_source)?;
        let seen = self.book.pairs[at].record.source_seen;
        if seen.is_some_and(|seen| seen.uid_validity != selected.uid_validity) {
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
        for look in &looks {
            let pair = &mut self.book.pairs[look.pair];
            pair.counts.recount(&look.known);
            pair.unfinished = look.unfinished || interrupted;
            pair.in_doubt = look.intents.iter().map(|intent| intent.messages.len() as u64).sum();
            let copied = look.wants.is_empty() && !look.unfinished;
            let newly_copied = copied && !pair.record.first_copy_completed;
            if !pair.unfinished && look.absence == Absence::Listed {
                pair.look_at_target = false;
                pair.record.source_seen = Some(look.seen);
                pair.record.first_copy_completed |= copied;
                if full {
                    pair.record.compared_at = began_at;
                }
            }
            edits.push(Edit::PutFolder(pair.record.clone()));
            if newly_copied && pair.record.first_copy_completed {
                let entry = folder_copied(pair);
                self.emit(entry);
            }
        }
        self.writer.commit(edits).await?;
        self.bury_folders(&looks).await?;
        let now = Instant::now();
        let suspicions = [
            self.book.learned.missing.due(now),
            self.book.learned.vanished.due(now),
            self.book.learned.folders_missing.due(now),
        ];
        for due in suspicions.into_iter().flatten() {
            self.due_at(due);
        }
        let settled = |pair: &super::book::Pair| !pair.unfinished && pair.trouble.is_none();
        let conflicts = self.book.left_out.iter().any(|left_out| left_out.state == "held");
        self.board.show_book(self.book);
        Ok(Verdict {
            began_at,
            clean: full
                && !conflicts
                && self.book.learned.folders_missing.is_empty()
                && self.book.pairs.iter().all(settled),
            due: self.due,
            again: self.again || interrupted,
        })
    }

    /// Forgets folders that are gone at the source once nothing of them is left to do.
    async fn bury_folders(&mut self, looks: &[Look]) -> Result<(), Failure> {
        for look in looks.iter().rev() {
            if look.absence == Absence::Certain && look.known.is_empty() {
                self.book.learned.folders_missing.settled(look.folder);
                self.book.pairs.remove(look.pair);
                self.writer.commit(vec![Edit::DropFolder(look.folder)]).await?;
            }
        }
        Ok(())
    }

    /// Marks one folder as held for a reason of its own; the others go on.
    pub fn folder_troubled(&mut self, at: usize, code: &str, text: &str) {
        let pair = &mut self.book.pairs[at];
        pair.unfinished = true;
        if pair.trouble.as_ref().is_some_and(|trouble| trouble.code == code) {
            return;
        }
        pair.trouble = Some(self.board.reason(code, Some(Side::Source), text));
        let shown = pair.shown().to_owned();
        let entry = Entry::new(Event::FolderSkipped, text).folder(&shown).reason(code);
        self.emit(entry);
    }
}

fn folder_copied(pair: &super::book::Pair) -> Entry {
    let text =
        format!("{} → {}: {} messages", pair.shown(), pair.record.target_shown, pair.counts.linked);
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
