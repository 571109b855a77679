//! APPEND and MULTIAPPEND as streams (RFC 9051, 6.3.12; RFC 3502, 7888, 4315).
//!
//! LITERAL+ is a loaded gun: a server that refuses an APPEND with BAD executes its body as
//! commands. So every argument is built here from checked values, and any BAD, unknown tag or
//! answer before all was sent makes the connection unusable.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Event, Inbound, refused};
use super::decode::{self, Condition, Kind};
use super::encode::{self, Draft, Piece};
use super::link::Link;
use super::outbound::Outbound;
use super::{Code, Error, Session, WireName, dates};
use crate::words::{Flags, InternalDate, Uid, UidValidity};

/// What is gathered before it is sent: the plaintext of four full TLS records, in one system call.
const PIECE: usize = 64 * 1024;

impl Session {
    /// Opens the connection for a stream of APPENDs: one half writes, the other reads answers,
    /// and the two are polled together (the writer waits on the other for continuations).
    pub fn appending(&mut self) -> (AppendWriter<'_>, AppendAnswers<'_>) {
        if self.connection.ready().is_err() {
            self.connection.unusable();
        }
        let several = self.capabilities.has("MULTIAPPEND");
        let Connection { link, inbound, outbound } = &mut self.connection;
        let Exchange { writing, talk } = &mut *self.exchange;
        let (link, talk) = (&*link, &*talk);
        (
            AppendWriter { link, outbound, writing, talk, several },
            AppendAnswers { link, inbound, talk },
        )
    }
}

/// What outlives the two halves.
#[derive(Default)]
pub(super) struct Exchange {
    writing: Writing,
    talk: Talk,
}

impl Exchange {
    /// No batch is begun, and none waits for its answer.
    pub fn is_idle(&self) -> bool {
        self.writing.batch.is_none() && self.talk.lock().batches.is_empty()
    }
}

#[derive(Default)]
struct Writing {
    /// At most [`PIECE`] octets; there only while appending.
    out: Vec<u8>,
    written: usize,
    batch: Option<u32>,
    items: usize,
    /// Octets of the current item still to come.
    left: u64,
    /// A method of the writer has begun and not ended: if it is seen by the next, its future was
    /// dropped halfway, and what was sent is not what the caller believes.
    busy: bool,
}

/// What the two halves tell each other.
#[derive(Default)]
struct Talk {
    state: Mutex<TalkState>,
    changed: Notify,
}

#[derive(Default)]
struct TalkState {
    batches: VecDeque<Batch>,
    begun: u64,
    continuation: Continuation,
    /// The refusal that came instead of a continuation.
    refusal: Option<(Option<Code>, String)>,
    last_written: Option<Instant>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Continuation {
    #[default]
    Unwanted,
    Wanted,
    Granted,
}

struct Batch {
    tag: u32,
    number: u64,
    items: usize,
    /// Its last CRLF was (or is being) sent.
    committed: bool,
}

impl Talk {
    fn lock(&self) -> MutexGuard<'_, TalkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes APPEND commands; a batch of more than one message needs MULTIAPPEND.
///
/// Its futures are not safe to cancel: one that is dropped halfway makes the session unusable at
/// the next call.
pub struct AppendWriter<'s> {
    link: &'s Link,
    outbound: &'s mut Outbound,
    writing: &'s mut Writing,
    talk: &'s Talk,
    several: bool,
}

impl AppendWriter<'_> {
    /// Starts a batch: `tag APPEND folder`. Returns its number, counted from 0.
    pub async fn begin(&mut self, folder: &WireName) -> Result<u64, Error> {
        self.enter()?;
        if self.writing.batch.is_some() {
            return Err(self.misuse("a batch is begun before the last is committed"));
        }
        self.writing.busy = false;
        let mut draft = Draft::text("APPEND ");
        draft.push_folder(folder)?;
        let (tag, text) = self.outbound.tag();
        let number = {
            let mut talk = self.talk.lock();
            let number = talk.begun;
            talk.begun += 1;
            talk.batches.push_back(Batch { tag, number, items: 0, committed: false });
            number
        };
        *self.writing = Writing {
            out: self.outbound.take_ready(),
            batch: Some(tag),
            busy: true,
            ..Writing::default()
        };
        self.writing.out.extend_from_slice(text.as_bytes());
        self.writing.out.push(b' ');
        for piece in draft.pieces {
            match piece {
                Piece::Text(text) => self.writing.out.extend_from_slice(&text),
                Piece::Literal(literal) => {
                    self.announce(literal.len() as u64, false).await?;
                    self.writing.out.extend_from_slice(&literal);
                }
            }
        }
        self.writing.busy = false;
        Ok(number)
    }

    /// ` (flags) "date" {size+}`: starts one message. `synchronising` asks for `{size}` even
    /// where LITERAL+ is offered. Flags must have been filtered by PERMANENTFLAGS; any that are
    /// not one of the five or a safe atom are dropped here again. A date before 1970 or after
    /// 9999 is moved to the nearest that can be said.
    ///
    /// Where the server refuses instead of asking for the octets, [`Error::No`] says so here, and
    /// [`AppendAnswers::next`] too: the batch is over and the connection is fine.
    pub async fn item(
        &mut self,
        flags: &Flags,
        instant: InternalDate,
        size: u64,
        synchronising: bool,
    ) -> Result<(), Error> {
        self.enter()?;
        if self.writing.batch.is_none() || self.writing.left > 0 {
            return Err(self.misuse("a message is begun outside of a batch or inside another"));
        }
        if self.writing.items > 0 && !self.several {
            self.writing.busy = false;
            return Err(Error::Unsupported("the server does not offer MULTIAPPEND".into()));
        }
        self.writing.items += 1;
        self.writing.left = size;
        if let Some(batch) = self.talk.lock().batches.back_mut() {
            batch.items += 1;
        }
        let arguments = format!(" {} \"{}\" ", encode::flag_list(flags), dates::format(instant));
        self.put(arguments.as_bytes()).await?;
        self.announce(size, synchronising).await?;
        self.writing.busy = false;
        Ok(())
    }

    /// Octets of the message begun; no more than its size in all. Buffered into full TLS records.
    pub async fn write(&mut self, octets: &[u8]) -> Result<(), Error> {
        self.enter()?;
        let octets_left = self.writing.left.checked_sub(octets.len() as u64);
        let Some(left) = octets_left.filter(|_| self.writing.batch.is_some()) else {
            return Err(self.misuse("more octets are written than the literal holds"));
        };
        self.writing.left = left;
        self.put(octets).await?;
        self.writing.busy = false;
        Ok(())
    }

    /// Sends everything but the CRLF that would let the server commit.
    pub async fn hold(&mut self) -> Result<(), Error> {
        self.enter()?;
        if self.writing.items == 0 || self.writing.left > 0 {
            return Err(self.misuse("a batch is ended before its messages are whole"));
        }
        self.flush().await?;
        self.writing.busy = false;
        Ok(())
    }

    /// Sends the last CRLF: from here on the server may commit.
    pub async fn commit(&mut self) -> Result<(), Error> {
        self.hold().await?;
        self.enter()?;
        {
            let mut talk = self.talk.lock();
            let open = talk.batches.iter_mut().find(|batch| Some(batch.tag) == self.writing.batch);
            match open {
                Some(batch) => batch.committed = true,
                None => return Err(self.misuse("a batch is committed that is not open")),
            }
        }
        self.writing.out.extend_from_slice(b"\r\n");
        self.flush().await?;
        *self.writing = Writing::default();
        Ok(())
    }

    /// Appends to the buffer, and sends it each time it is full.
    async fn put(&mut self, mut octets: &[u8]) -> Result<(), Error> {
        while !octets.is_empty() {
            if self.writing.out.capacity() < PIECE {
                self.writing.out.reserve_exact(PIECE - self.writing.out.len().min(PIECE));
            }
            let room = PIECE.saturating_sub(self.writing.out.len()).min(octets.len());
            let (now, later) = octets.split_at(room);
            self.writing.out.extend_from_slice(now);
            octets = later;
            if self.writing.out.len() >= PIECE {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let Writing { out, written, .. } = &mut *self.writing;
        let sent = self.link.write(out, written, "APPEND").await;
        sent.map_err(|error| self.link.note(error))?;
        out.clear();
        *written = 0;
        self.talk.lock().last_written = Some(Instant::now());
        Ok(())
    }

    /// `{n+}`, or `{n}` and the wait for a continuation.
    async fn announce(&mut self, octets: u64, synchronising: bool) -> Result<(), Error> {
        if !synchronising && self.outbound.literals.may_run_ahead(octets) {
            return self.put(format!("{{{octets}+}}\r\n").as_bytes()).await;
        }
        self.put(format!("{{{octets}}}\r\n").as_bytes()).await?;
        self.talk.lock().continuation = Continuation::Wanted;
        self.flush().await?;
        let granted = timeout(self.link.answer_within, self.granted()).await;
        let granted = granted.unwrap_or(Err(Error::TimedOut("APPEND")));
        granted.map_err(|error| self.link.note(error))
    }

    async fn granted(&mut self) -> Result<(), Error> {
        loop {
            {
                let mut talk = self.talk.lock();
                if let Some((code, text)) = talk.refusal.take() {
                    *self.writing = Writing::default();
                    return Err(Error::No { command: "APPEND", code, text });
                }
                if talk.continuation == Continuation::Granted {
                    talk.continuation = Continuation::Unwanted;
                    return Ok(());
                }
            }
            self.usable()?;
            self.talk.changed.notified().await;
        }
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.usable()?;
        match std::mem::replace(&mut self.writing.busy, true) {
            true => Err(self.misuse("a write was dropped halfway")),
            false => Ok(()),
        }
    }

    fn usable(&self) -> Result<(), Error> {
        match self.link.is_broken() {
            true => Err(Error::Protocol("this connection can no longer be used".into())),
            false => Ok(()),
        }
    }

    /// A caller's mistake must not end in octets that the server reads as commands.
    fn misuse(&self, text: &str) -> Error {
        self.link.note(Error::Protocol(text.into()))
    }
}

/// Reads the answers to APPEND commands.
pub struct AppendAnswers<'s> {
    link: &'s Link,
    inbound: &'s mut Inbound,
    talk: &'s Talk,
}

/// The tagged answer to one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AppendAnswer {
    /// Stored; `uids` from APPENDUID in order, `None` where it was absent or malformed.
    Stored { batch: u64, uids: Option<(UidValidity, Vec<Uid>)> },
    /// NO: nothing of the batch was stored.
    Refused { batch: u64, code: Option<Code>, text: String },
}

impl AppendAnswers<'_> {
    /// Waits for the next batch's answer. BAD, BYE and an answer before the last CRLF are errors;
    /// so is silence, once a batch was committed and nothing moved for as long as an answer may
    /// take, and talk of other things for much longer than that. A NO that comes while literals are still being sent is reported, but makes the
    /// connection unusable. Safe to cancel.
    pub async fn next(&mut self) -> Result<AppendAnswer, Error> {
        let answer = self.answer().await;
        if self.link.is_broken() || answer.is_err() {
            self.talk.changed.notify_one();
        }
        answer
    }

    async fn answer(&mut self) -> Result<AppendAnswer, Error> {
        loop {
            let event = self.event().await.map_err(|error| self.link.note(error))?;
            match event {
                Event::Continue => self.grant(),
                Event::Tagged(tag, condition) => {
                    let answer = self.answered(tag, condition);
                    if let Some(answer) = answer.map_err(|error| self.link.note(error))? {
                        return Ok(answer);
                    }
                }
                _ if self.is_overdue(self.link.command_within()) => {
                    return Err(self.link.note(Error::TimedOut("APPEND")));
                }
                _ => {}
            }
        }
    }

    async fn event(&mut self) -> Result<Event, Error> {
        if self.link.is_broken() {
            return Err(Error::Protocol("this connection can no longer be used".into()));
        }
        loop {
            match timeout(self.link.answer_within, self.link.feed(&mut self.inbound.framer)).await {
                Ok(frame) => {
                    if let Some(frame) = frame? {
                        return self.inbound.understand(frame, "APPEND");
                    }
                }
                Err(_) if self.is_overdue(self.link.answer_within) => {
                    return Err(Error::TimedOut("APPEND"));
                }
                Err(_) => {}
            }
        }
    }

    fn is_overdue(&self, within: Duration) -> bool {
        let talk = self.talk.lock();
        let written = talk.last_written.map(|written| written.elapsed());
        talk.batches.front().is_some_and(|batch| batch.committed)
            && written.is_none_or(|ago| ago >= within)
    }

    fn grant(&self) {
        let mut talk = self.talk.lock();
        if talk.continuation == Continuation::Wanted {
            talk.continuation = Continuation::Granted;
            self.talk.changed.notify_one();
        }
    }

    fn answered(&mut self, tag: u32, condition: Condition) -> Result<Option<AppendAnswer>, Error> {
        if self.inbound.ends_idle(tag, &condition)? {
            return Ok(None);
        }
        let mut talk = self.talk.lock();
        let place = talk.batches.iter().position(|batch| batch.tag == tag);
        let batch = place.and_then(|place| talk.batches.remove(place));
        let batch = batch.ok_or_else(|| Error::Protocol("an answer to no batch of ours".into()))?;
        let number = batch.number;
        match condition.kind {
            Kind::Ok if batch.committed => {
                let uids = condition.code("APPENDUID");
                let uids = uids.and_then(|rest| decode::append_uid(rest, batch.items));
                Ok(Some(AppendAnswer::Stored { batch: number, uids }))
            }
            Kind::Ok => Err(Error::Protocol("OK to an APPEND before all of it was sent".into())),
            Kind::No => {
                let (code, text) = refused(condition);
                if talk.continuation == Continuation::Wanted && !batch.committed {
                    talk.continuation = Continuation::Unwanted;
                    talk.refusal = Some((code.clone(), text.clone()));
                    self.talk.changed.notify_one();
                } else if !batch.committed {
                    // What of the literals is still under way may be read as commands.
                    let text = "an APPEND was refused while it was being sent".into();
                    self.link.note(Error::Protocol(text));
                }
                Ok(Some(AppendAnswer::Refused { batch: number, code, text }))
            }
            _ => Err(Error::Bad { command: "APPEND", text: condition.words() }),
        }
    }
}
