//! The store: sled behind one committer. The only file that says `sled`.

use std::path::Path;

use super::{
    AccountId, AccountRecord, Edit, FolderId, FolderRecord, Intent, IntentId, Known, Orphan,
};
use crate::words::Uid;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon holds the state directory.
    #[error("{0} is in use by another pecsync")]
    Locked(String),
    #[error("{0}")]
    Failed(String),
}

/// The checkpoint store. Cheap to clone; reads are immediate, writes go through the committer.
#[derive(Clone)]
pub struct Store {}

/// An error of the store: the account (or the daemon) cannot go on until the disk is mended.
pub type StoreError = std::io::Error;

impl Store {
    /// Opens or creates `dir`/checkpoint. A store that cannot be read is moved aside (named in
    /// the second value) and a new one begun: the servers can re-derive everything.
    pub fn open(_dir: &Path) -> Result<(Store, Option<std::path::PathBuf>), OpenError> {
        todo!()
    }

    pub fn accounts(&self) -> Result<Vec<AccountRecord>, StoreError> {
        todo!()
    }

    pub fn account(&self, _address: &str) -> Result<Option<AccountRecord>, StoreError> {
        todo!()
    }

    /// Numbers for new records, never used before in this store.
    pub fn new_account_id(&self) -> Result<AccountId, StoreError> {
        todo!()
    }

    pub fn new_folder_id(&self) -> Result<FolderId, StoreError> {
        todo!()
    }

    pub fn new_intent_id(&self) -> Result<IntentId, StoreError> {
        todo!()
    }

    pub fn folders(&self, _account: AccountId) -> Result<Vec<FolderRecord>, StoreError> {
        todo!()
    }

    /// Everything known about a folder's source UIDs, ascending.
    pub fn known(&self, _folder: FolderId) -> Result<Vec<(Uid, Known)>, StoreError> {
        todo!()
    }

    pub fn known_one(&self, _folder: FolderId, _uid: Uid) -> Result<Option<Known>, StoreError> {
        todo!()
    }

    pub fn orphans(&self, _folder: FolderId) -> Result<Vec<Orphan>, StoreError> {
        todo!()
    }

    pub fn intents(&self, _folder: FolderId) -> Result<Vec<Intent>, StoreError> {
        todo!()
    }

    /// A writer for one account's task.
    pub fn writer(&self) -> Writer {
        todo!()
    }

    /// Resolves when the committer has done a (possibly empty) durable commit: the watchdog's
    /// question.
    pub async fn alive(&self) -> Result<(), StoreError> {
        todo!()
    }
}

/// Sends edits to the committer, which merges waiting requests into one batch, applies it,
/// flushes and syncs it.
#[derive(Clone)]
pub struct Writer {}

impl Writer {
    /// Applies and makes durable; returns when it is.
    pub async fn commit(&self, _edits: Vec<Edit>) -> Result<(), StoreError> {
        todo!()
    }

    /// Queues edits behind those already queued, to be made durable soon. Waits only while the
    /// queue is full. An error shows at the next `commit`.
    pub async fn commit_lazily(&self, _edits: Vec<Edit>) -> Result<(), StoreError> {
        todo!()
    }
}
