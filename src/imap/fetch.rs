//! UID FETCH: listings, digests, and bodies as streams.

use super::{Code, Error, Selected, Session, WireName};
use crate::words::{Digests, Flags, HeaderDigest, InternalDate, Message, ModSeq, Uid};

/// What a message at the target looked like just before it is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderSeen {
    pub uid: Uid,
    pub size: u64,
    pub instant: InternalDate,
    pub header: HeaderDigest,
}

impl Session {
    /// Every message with UID ≥ `from` of the selected folder: UID FETCH from:* (UID FLAGS
    /// INTERNALDATE RFC822.SIZE), ascending, each once. UIDs below `from` are dropped (a server
    /// answers `n:*` with the last message even if its UID is lower).
    pub async fn list_messages(&mut self, _from: Uid) -> Result<Vec<Message>, Error> {
        todo!()
    }

    /// UID FETCH 1:* (UID FLAGS), or only what changed since (RFC 7162), ascending.
    pub async fn list_flags(
        &mut self,
        _changed_since: Option<ModSeq>,
    ) -> Result<Vec<(Uid, Flags)>, Error> {
        todo!()
    }

    /// UIDs of all messages of the selected folder, ascending.
    pub async fn list_uids(&mut self) -> Result<Vec<Uid>, Error> {
        todo!()
    }

    /// Size, instant and header digest of each of `uids` that exists.
    pub async fn header_digests(&mut self, _uids: &[Uid]) -> Result<Vec<HeaderSeen>, Error> {
        todo!()
    }

    /// Downloads and digests each of `uids` that exists.
    pub async fn digests(&mut self, _uids: &[Uid]) -> Result<Vec<(Uid, Digests)>, Error> {
        todo!()
    }

    /// Starts a conversation of pipelined body fetches. What is still outstanding when it is
    /// dropped makes the session unusable ([`Error::Protocol`] on the next command).
    pub fn fetching(&mut self) -> Fetching<'_> {
        todo!()
    }
}

/// Pipelined UID FETCH windows whose bodies are read as streams.
pub struct Fetching<'s> {
    _session: &'s mut Session,
}

/// The next thing a [`Fetching`] has to tell, in the order of the requests.
#[derive(Debug)]
pub enum Fetched {
    /// A body of `message.size` octets (the literal's length, not RFC822.SIZE) follows: read it
    /// with [`Fetching::chunk`] until `None`. `message.flags` are as fresh as the answer.
    Body { message: Message },
    /// The server had no body to give for this UID (NIL, an empty string for a message that its
    /// RFC822.SIZE says is not empty, or no literal).
    NoBody { uid: Uid },
    /// The oldest window is answered. `refused` is the NO, if it was one; messages of the window
    /// that came before it are complete.
    WindowDone { refused: Option<(Option<Code>, String)> },
    /// The oldest queued EXAMINE is answered.
    Examined(Result<Selected, Error>),
}

impl Fetching<'_> {
    /// Sends `UID FETCH uids (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])`, in as many
    /// commands as line lengths ask for but as one window.
    pub async fn request(&mut self, _uids: &[Uid]) -> Result<(), Error> {
        todo!()
    }

    /// For servers that answer BODY before UID: one message, whose identity is known from the
    /// listing. Send the next one only after its [`Fetched::WindowDone`].
    pub async fn request_single(&mut self, _message: &Message) -> Result<(), Error> {
        todo!()
    }

    /// Sends EXAMINE behind the windows already asked for.
    pub async fn examine(&mut self, _name: &WireName) -> Result<(), Error> {
        todo!()
    }

    /// Waits for the next item. Every body must have been read to its end first. Safe to cancel.
    pub async fn next(&mut self) -> Result<Fetched, Error> {
        todo!()
    }

    /// The next octets of the current body, borrowed from the receive buffer; `None` at its end.
    /// A connection that ends in mid-body is an error.
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>, Error> {
        todo!()
    }
}
