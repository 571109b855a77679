//! How a life begins, and begins again after each failure: what the checkpoint says of the account,
//! and whether it may start.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::failures::{at_side, refused_before};
use super::{Control, Life};
use crate::checkpoint::{self, AccountRecord, Edit, Phase, StoreError, of_archived_name};
use crate::journal::{Entry, Event};
use crate::sync::book::{Book, Learned};
use crate::sync::connect::place;
use crate::sync::copy::Failure;
use crate::sync::follow::{self, Following};
use crate::sync::trouble::{Remedy, Trouble};
use crate::words::Side;

/// Why an account may not start.
pub(super) enum Gate {
    /// With the time after which it may try again, if there is one.
    Held(Trouble, Option<Duration>),
    /// By an operator.
    Paused,
    Failed(StoreError),
}

impl From<StoreError> for Gate {
    fn from(error: StoreError) -> Gate {
        Gate::Failed(error)
    }
}

impl Life {
    /// Reads the checkpoint, or begins one. `None` if there is nothing left to do.
    pub(super) async fn open_book(&mut self) -> Result<Option<Box<Book>>, Gate> {
        let done = self.shared.completed.get(&self.enrollment.address);
        let done = done.filter(|done| self.is_same_place(&done.source, &done.target));
        let reopened = done.as_ref().is_some_and(|done| self.is_reopened(done.completed_at));
        if done.is_some() && self.approved.completed {
            // From here on as for somebody new, also after a restart.
            self.shared.completed.reopen(&self.enrollment.address)?;
            self.approved.completed = false;
        } else if let Some(done) = done.filter(|_| !reopened) {
            self.board.show_phase(done.phase, done.sealed_at, done.completed_at);
            self.show_what_was_copied();
            self.board.well();
            self.prove().await;
            return Ok(None);
        }
        let record = match self.shared.store.account(&self.enrollment.address)? {
            Some(record) => {
                let record = self.known_account(record).await?;
                self.reenter(record).await?
            }
            None => self.new_account().await?,
        };
        let learned = self.learned.take().map(|learned| *learned);
        let mut learned = learned.unwrap_or_else(|| Learned::new(self.shared.apart));
        learned.removals_approved |= std::mem::take(&mut self.approved.removals);
        let (pairs, left_out) = (Vec::new(), Vec::new());
        let mut book = Box::new(Book { record, pairs, left_out, surveyed: false, learned });
        if book.learned.removals_approved && book.record.removals_suspended {
            book.record.removals_suspended = false;
            self.writer.commit(vec![Edit::PutAccount(book.record.clone())]).await?;
        }
        follow::open_pairs(&self.shared, &mut book)?;
        self.leave_other_archives(&mut book).await?;
        let record = &book.record;
        self.board.show_phase(record.phase, record.sealed_at, record.source_seen_until);
        self.board.show_book(&book);
        if self.pass_phases(&mut book).await? {
            self.board.well();
            return Ok(None);
        }
        if self.enrollment.decree.paused {
            return Err(Gate::Paused);
        }
        if let Some(refused) = &book.record.refused_credentials
            && refused.digest == self.credentials_digest(at_side(refused.at_target))
        {
            let worked = book.record.worked_credentials == Some(self.worked_digest());
            let ago = self.shared.clock.now().saturating_sub(refused.since).max(0) as u64;
            let in_window = self.is_in_cutover_window(refused.since);
            let pause = self.suspect.remembered(Duration::from_secs(ago), in_window);
            return Err(Gate::Held(refused_before(refused), worked.then_some(pause)));
        }
        Ok(Some(book))
    }

    /// Links into an archive that is not this account's any more would explain nothing there; those
    /// of one that is not named for now may be wanted again.
    async fn leave_other_archives(&self, book: &mut Book) -> Result<(), Gate> {
        let archive = self.enrollment.of_archive().map(|archive| place(&archive, Side::Source));
        let mut edits = Vec::new();
        book.pairs.retain(|pair| {
            let Some((at, _)) = of_archived_name(&pair.record.source_name) else { return true };
            if archive.as_ref().is_some_and(|archive| *archive != at) {
                edits.push(Edit::DropFolder(pair.record.id));
            }
            archive.as_ref() == Some(&at)
        });
        self.writer.commit(edits).await?;
        Ok(())
    }

    /// Counts of an account that is over, as far as its checkpoint is there.
    fn show_what_was_copied(&self) {
        let Ok(Some(record)) = self.shared.store.account(&self.enrollment.address) else { return };
        let learned = Learned::new(self.shared.apart);
        let (pairs, left_out) = (Vec::new(), Vec::new());
        let mut book = Book { record, pairs, left_out, surveyed: false, learned };
        if follow::open_pairs(&self.shared, &mut book).is_ok() {
            self.board.show_book(&book);
        }
    }

    /// Did an operator reopen the account after it had completed or closed?
    fn is_reopened(&self, completed_at: Option<i64>) -> bool {
        let reopened = self.enrollment.decree.reopened_at.map(|at| at.as_second());
        reopened.is_some_and(|at| completed_at.is_none_or(|completed| completed <= at))
    }

    /// The two ways back, each an operator's word: a reopened account returns from its end to
    /// append-only following, and one whose cutover was moved on from its last pass to following.
    async fn reenter(&mut self, mut record: AccountRecord) -> Result<AccountRecord, Gate> {
        let now = self.shared.clock.now();
        let ahead = self.enrollment.cutover.is_none_or(|cutover| now < cutover.as_second());
        let moved = std::mem::take(&mut self.cutover_moved);
        if record.phase >= Phase::Completed && self.is_reopened(record.completed_at) {
            self.shared.completed.reopen(&record.address)?;
            (record.phase, record.completed_at) = (Phase::Archiving, None);
            record.sealed_at.get_or_insert(now);
            let text = "followed again: what is missing is added, nothing else";
            self.emit(Entry::new(Event::AccountReopened, text));
        } else if record.phase == Phase::Draining && moved && ahead {
            let copied = record.first_copy_completed;
            record.phase = if copied { Phase::Following } else { Phase::Copying };
        } else {
            return Ok(record);
        }
        self.writer.commit(vec![Edit::PutAccount(record.clone())]).await?;
        Ok(record)
    }

    /// The clock goes on for accounts that are held, too: their cutover comes, and their end. True
    /// once the life is over.
    async fn pass_phases(&self, book: &mut Book) -> Result<bool, Gate> {
        let control = Arc::new(Control::default());
        let following = Following {
            shared: &self.shared,
            enrollment: &self.enrollment,
            writer: &self.writer,
            board: &self.board,
            control: &control,
            recovering: false,
        };
        match following.advance(book, None).await {
            Ok(over) => Ok(over),
            Err(Failure::Store(error)) => Err(Gate::Failed(error)),
            Err(_) => unreachable!("phases pass without a server"),
        }
    }

    fn place(&self, side: Side) -> checkpoint::Place {
        place(&self.enrollment, side)
    }

    fn is_same_place(&self, source: &checkpoint::Place, target: &checkpoint::Place) -> bool {
        *source == self.place(Side::Source) && *target == self.place(Side::Target)
    }

    /// A checkpoint belongs to hosts and users: with others it is approved first, and its links
    /// are derived anew.
    async fn known_account(&mut self, mut record: AccountRecord) -> Result<AccountRecord, Gate> {
        if !self.is_same_place(&record.source, &record.target) {
            if !self.approved.endpoint {
                return Err(Gate::Held(
                    held(
                        "endpoint_changed",
                        "the source or the target is another host or user than before",
                        "`pecsync approve ADDRESS endpoint` if that is meant.",
                    ),
                    None,
                ));
            }
            self.approved.endpoint = false;
            let drop = Edit::DropAccount(record.id);
            self.writer.commit(vec![drop]).await?;
            return self.create_record(record.sealed_at).await;
        }
        let file = self.enrollment.file.display().to_string();
        if record.enrolled_by != file {
            record.enrolled_by = file;
            self.writer.commit(vec![Edit::PutAccount(record.clone())]).await?;
        }
        Ok(record)
    }

    /// An account without a checkpoint: new, or its state was lost. After the cutover the target
    /// is its owner's, so what was enrolled before it is not guessed.
    async fn new_account(&mut self) -> Result<AccountRecord, Gate> {
        let now = self.shared.clock.now();
        let opens = self.enrollment.migration.enroll_from.map(|from| from.as_second());
        if let Some(wait) = opens.and_then(|opens| u64::try_from(opens - now).ok())
            && wait > 0
        {
            let trouble = held(
                "window_not_open",
                "the migration takes enrollments only from enroll_from on",
                "Nothing: it begins by itself.",
            );
            return Err(Gate::Held(trouble, Some(Duration::from_secs(wait))));
        }
        let past = self.enrollment.cutover.filter(|cutover| now >= cutover.as_second());
        // Who was reopened was sealed before, whatever cutover comes next.
        let sealed = past.is_some() || self.enrollment.decree.reopened_at.is_some();
        let late = past.is_some_and(|cutover| self.enrolled_after(cutover));
        if sealed && !late && !std::mem::take(&mut self.approved.late) {
            let words = "there is no checkpoint of this account, and its cutover is past";
            return Err(Gate::Held(state_lost(words), None));
        }
        self.create_record(sealed.then_some(now)).await
    }

    /// Was the enrollment dropped after the cutover?
    fn enrolled_after(&self, cutover: Timestamp) -> bool {
        let written = std::fs::metadata(&self.enrollment.file).and_then(|file| file.modified());
        let written = written.ok().and_then(|written| Timestamp::try_from(written).ok());
        written.is_some_and(|written| written >= cutover)
    }

    /// After the cutover an account begins sealed: only missing messages are added.
    async fn create_record(&mut self, sealed_at: Option<i64>) -> Result<AccountRecord, Gate> {
        let record = AccountRecord {
            id: self.shared.store.new_account_id()?,
            address: self.enrollment.address.clone(),
            migration: self.enrollment.migration.name.clone(),
            enrolled_by: self.enrollment.file.display().to_string(),
            source: self.place(Side::Source),
            target: self.place(Side::Target),
            phase: if sealed_at.is_some() { Phase::Archiving } else { Phase::Enrolled },
            sealed_at,
            completed_at: None,
            source_seen_until: None,
            first_copy_completed: false,
            removals_suspended: false,
            refused_credentials: None,
            worked_credentials: None,
        };
        self.writer.commit(vec![Edit::PutAccount(record.clone())]).await?;
        Ok(record)
    }
}

/// What an account knew is lost, after its cutover.
pub(super) fn state_lost(words: &str) -> Trouble {
    held(
        "state_lost",
        words,
        "`pecsync approve ADDRESS late` copies what is missing, and only adds.",
    )
}

fn held(code: &'static str, message: &str, hint: &'static str) -> Trouble {
    let message = message.to_owned();
    Trouble { code, side: None, message, hint, remedy: Remedy::Operator }
}
