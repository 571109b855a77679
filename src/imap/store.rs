//! UID STORE, UID MOVE, UID EXPUNGE (RFC 9051, 6851, 4315): what changes a folder.

use super::{Error, Session, WireName};
use crate::words::{Flags, Uid, UidValidity};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Add,
    Remove,
}

/// COPYUID (RFC 4315): where moved messages went, in pairs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyUid {
    pub uid_validity: UidValidity,
    pub pairs: Vec<(Uid, Uid)>,
}

impl Session {
    /// `UID STORE … ±FLAGS.SILENT`, chunked by line length.
    pub async fn store(
        &mut self,
        _uids: &[Uid],
        _change: Change,
        _flags: &Flags,
    ) -> Result<(), Error> {
        todo!()
    }

    /// UID MOVE; call only where MOVE is offered. `None` where the server does not tell the UIDs.
    pub async fn uid_move(
        &mut self,
        _uids: &[Uid],
        _to: &WireName,
    ) -> Result<Option<CopyUid>, Error> {
        todo!()
    }

    /// UID COPY, for servers without MOVE.
    pub async fn uid_copy(
        &mut self,
        _uids: &[Uid],
        _to: &WireName,
    ) -> Result<Option<CopyUid>, Error> {
        todo!()
    }

    /// UID EXPUNGE; call only where UIDPLUS is offered. The UIDs must be `\Deleted` already.
    pub async fn uid_expunge(&mut self, _uids: &[Uid]) -> Result<(), Error> {
        todo!()
    }
}
