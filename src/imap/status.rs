//! STATUS (RFC 9051, 6.3.11; RFC 7162 for HIGHESTMODSEQ).

use super::{Error, Session, WireName};
use crate::words::{ModSeq, UidValidity};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FolderStatus {
    pub messages: u32,
    pub uid_next: Option<u32>,
    pub uid_validity: UidValidity,
    pub highest_modseq: Option<ModSeq>,
}

impl Session {
    /// STATUS of each folder, in order, pipelined; a folder's own refusal does not fail the rest.
    pub async fn statuses(
        &mut self,
        _names: &[&WireName],
    ) -> Result<Vec<Result<FolderStatus, Error>>, Error> {
        todo!()
    }
}
