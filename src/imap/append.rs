//! APPEND and MULTIAPPEND as streams (RFC 9051, 6.3.12; RFC 3502, 7888, 4315).
//!
//! LITERAL+ is a loaded gun: a server that refuses an APPEND with BAD executes its body as
//! commands. So every argument is built here from checked values, and any BAD, unknown tag or
//! answer before all was sent makes the connection unusable.

use super::{Code, Error, Session, WireName};
use crate::words::{Flags, InternalDate, Uid, UidValidity};

impl Session {
    /// Opens the connection for a stream of APPENDs: one half writes, the other reads answers,
    /// and the two are polled together (the writer waits on the other for continuations).
    pub fn appending(&mut self) -> (AppendWriter<'_>, AppendAnswers<'_>) {
        todo!()
    }
}

/// Writes APPEND commands; a batch of more than one message needs MULTIAPPEND.
pub struct AppendWriter<'s> {
    _session: &'s mut Session,
}

impl AppendWriter<'_> {
    /// Starts a batch: `tag APPEND folder`. Returns its number, counted from 0.
    pub async fn begin(&mut self, _folder: &WireName) -> Result<u64, Error> {
        todo!()
    }

    /// ` (flags) "date" {size+}`: starts one message. `synchronising` asks for `{size}` even
    /// where LITERAL+ is offered. Flags must have been filtered by PERMANENTFLAGS; any that are
    /// not one of the five or a safe atom are dropped here again.
    pub async fn item(
        &mut self,
        _flags: &Flags,
        _instant: InternalDate,
        _size: u64,
        _synchronising: bool,
    ) -> Result<(), Error> {
        todo!()
    }

    /// Octets of the message begun; no more than its size in all. Buffered into full TLS records.
    pub async fn write(&mut self, _octets: &[u8]) -> Result<(), Error> {
        todo!()
    }

    /// Sends everything but the CRLF that would let the server commit.
    pub async fn hold(&mut self) -> Result<(), Error> {
        todo!()
    }

    /// Sends the last CRLF: from here on the server may commit.
    pub async fn commit(&mut self) -> Result<(), Error> {
        todo!()
    }
}

/// Reads the answers to APPEND commands.
pub struct AppendAnswers<'s> {
    _session: &'s mut Session,
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
    /// Waits for the next batch's answer. BAD, BYE and an answer before the last CRLF are errors.
    pub async fn next(&mut self) -> Result<AppendAnswer, Error> {
        todo!()
    }
}
