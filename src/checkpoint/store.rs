//! The store: immediate reads, and writes through one committer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::chunk;
use super::committer::{self, Lost, Request, Requests};
use super::disk::Disk;
use super::encoding::{Record, decode, decode_slot};
use super::ids::Ids;
use super::keys;
use super::lock::StateLock;
use super::octets::unreadable;
use super::opening::{self, Damage, Opened};
use super::sums::{self, Sum};
use super::{
    AccountId, AccountRecord, Edit, FolderId, FolderRecord, Image, Intent, IntentId, Known, Orphan,
};
use crate::words::Uid;

/// How often a folder's records are read anew because others are written meanwhile.
const READ_AGAIN_MAX: u32 = 8;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon holds the state directory.
    #[error("{0} is in use by another pecsync")]
    Locked(String),
    #[error("{0}")]
    Failed(String),
}

/// The checkpoint store. Cheap to clone; reads are immediate, writes go through the committer.
///
/// Reads see what was applied: all that a [`Writer::commit`] has returned for, and of what was
/// queued lazily whatever the committer has come to. They never wait for a sync. A record that
/// cannot be decoded is an `InvalidData` error for whoever asks for it.
///
/// After a failed write all further writes fail, and reads may, until the store is opened again:
/// nobody knows what is on the disk. Where it was full (`StorageFull`) the store does so itself
/// every few seconds: what was acknowledged is there again, and what was not may be. Dropping the
/// last clone and the last writer waits for the committer and lets go of the directory.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// An error of the store: the account (or the daemon) cannot go on until the disk is mended.
pub type StoreError = std::io::Error;

struct Shared {
    disk: Arc<Disk>,
    ids: Ids,
    requests: Option<Requests>,
    committer: Option<JoinHandle<()>>,
    /// Last: the next daemon may come once all is closed.
    _lock: Option<StateLock>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(committer) = self.committer.take() {
            // It catches its panics; if not, there is nothing left to save.
            let _ = committer.join();
        }
    }
}

impl Store {
    /// Opens or creates `dir`/checkpoint. A store that cannot be read is moved aside (named in
    /// the second value) and a new one begun: the servers can re-derive everything.
    pub fn open(dir: &Path) -> Result<(Store, Option<PathBuf>), OpenError> {
        let mut opened = opening::open(dir, Damage::Replace)?;
        let moved_aside = opened.moved_aside.take();
        Ok((Store::start(dir, opened)?, moved_aside))
    }

    /// Opens `dir`/checkpoint for somebody who only wants to know what is in it: one that is not
    /// there is not made, and one that cannot be read stays where it is.
    pub fn open_existing(dir: &Path) -> Result<Store, OpenError> {
        let checkpoint = dir.join("checkpoint");
        if let Err(error) = checkpoint.read_dir() {
            return Err(OpenError::Failed(format!("{}: {error}", checkpoint.display())));
        }
        Store::start(dir, opening::open(dir, Damage::Refuse)?)
    }

    fn start(dir: &Path, opened: Opened) -> Result<Store, OpenError> {
        let failed = |error: StoreError| OpenError::Failed(format!("{}: {error}", dir.display()));
        let disk = Arc::new(opened.disk);
        let ids = Ids::read(&disk).map_err(failed)?;
        let (requests, committer) =
            committer::start(disk.clone(), opened.witness).map_err(failed)?;
        let shared = Shared {
            disk,
            ids,
            requests: Some(requests),
            committer: Some(committer),
            _lock: Some(opened.lock),
        };
        Ok(Store { shared: Arc::new(shared) })
    }

    /// A store that is nowhere but in `image`, for simulations: it writes in a task of the
    /// runtime at hand, so that a paused clock rules it, too.
    pub fn in_memory(image: &Image) -> Result<Store, StoreError> {
        let disk = Arc::new(Disk::in_memory(image.clone()));
        sums::check_total(&disk)?;
        let ids = Ids::read(&disk)?;
        let requests = Some(committer::spawn(disk.clone()));
        let shared = Shared { disk, ids, requests, committer: None, _lock: None };
        Ok(Store { shared: Arc::new(shared) })
    }

    /// All accounts but those whose record cannot be read.
    pub fn accounts(&self) -> Result<Vec<AccountRecord>, StoreError> {
        let mut accounts = Vec::new();
        self.shared.disk.scan(keys::ACCOUNTS, |_, value| {
            accounts.extend(decode::<AccountRecord>(value));
            Ok(())
        })?;
        Ok(accounts)
    }

    pub fn account(&self, address: &str) -> Result<Option<AccountRecord>, StoreError> {
        let Some(id) = self.account_id(address)? else { return Ok(None) };
        let record = self.shared.disk.get(&keys::account(id))?;
        record.map(|record| decode(&record)).transpose()
    }

    /// An account's number, also of one whose record cannot be read.
    pub fn account_id(&self, address: &str) -> Result<Option<AccountId>, StoreError> {
        self.shared.disk.get(&keys::address(address))?.map(|id| account_id(&id)).transpose()
    }

    /// Can everything of an account be read, and does it add up?
    pub fn check(&self, account: AccountId) -> Result<(), StoreError> {
        self.shared
            .disk
            .get(&keys::account(account))?
            .map_or(Ok(()), |record| decode::<AccountRecord>(&record).map(drop))?;
        for folder in self.folders(account)? {
            self.known(folder.id)?;
            self.orphans(folder.id)?;
            self.intents(folder.id)?;
        }
        Ok(())
    }

    /// Numbers for new records, never used before in this store.
    pub fn new_account_id(&self) -> Result<AccountId, StoreError> {
        let number = self.shared.ids.accounts.next(&self.shared.disk)?;
        small(number).map(AccountId)
    }

    pub fn new_folder_id(&self) -> Result<FolderId, StoreError> {
        let number = self.shared.ids.folders.next(&self.shared.disk)?;
        small(number).map(FolderId)
    }

    pub fn new_intent_id(&self) -> Result<IntentId, StoreError> {
        self.shared.ids.intents.next(&self.shared.disk).map(IntentId)
    }

    pub fn folders(&self, account: AccountId) -> Result<Vec<FolderRecord>, StoreError> {
        self.records(&keys::folders(account))
    }

    /// Everything known about a folder's source UIDs, ascending.
    pub fn known(&self, folder: FolderId) -> Result<Vec<(Uid, Known)>, StoreError> {
        self.read_slots(&keys::all_known(folder))
    }

    /// The same one by one, for folders that are not to be held in memory.
    pub fn visit_known(
        &self,
        folder: FolderId,
        each: impl FnMut(Uid, Known),
    ) -> Result<(), StoreError> {
        self.visit_slots(&keys::all_known(folder), each).map(drop)
    }

    pub fn known_one(&self, folder: FolderId, uid: Uid) -> Result<Option<Known>, StoreError> {
        let Some(value) = self.shared.disk.get(&keys::known(folder, uid))? else {
            return Ok(None);
        };
        let slots = chunk::slots(&value)?;
        let slot = slots.iter().find(|(slot, _)| *slot == keys::slot(uid));
        slot.map(|(_, octets)| decode_slot(octets)).transpose()
    }

    pub fn orphans(&self, folder: FolderId) -> Result<Vec<Orphan>, StoreError> {
        let links = self.read_slots(&keys::all_orphans(folder))?.into_iter();
        Ok(links.map(|(target_uid, link)| Orphan { target_uid, link }).collect())
    }

    pub fn intents(&self, folder: FolderId) -> Result<Vec<Intent>, StoreError> {
        self.records(&keys::all_intents(folder))
    }

    /// A writer for one account's task.
    pub fn writer(&self) -> Writer {
        let (lost, owed) = (Lost::default(), Arc::default());
        Writer { shared: self.shared.clone(), lost, owed }
    }

    /// Resolves when the committer has done a (possibly empty) durable commit: the watchdog's
    /// question.
    pub async fn alive(&self) -> Result<(), StoreError> {
        self.writer().flush().await
    }

    fn records<R: Record>(&self, prefix: &[u8]) -> Result<Vec<R>, StoreError> {
        let mut records = Vec::new();
        self.shared.disk.scan(prefix, |_, value| {
            records.push(decode(value)?);
            Ok(())
        })?;
        Ok(records)
    }

    /// All of them, at one time: where somebody else writes meanwhile, they are read again.
    fn read_slots<R: Record>(&self, prefix: &[u8]) -> Result<Vec<(Uid, R)>, StoreError> {
        let mut found = Vec::new();
        for _ in 0..READ_AGAIN_MAX {
            found.clear();
            if self.visit_slots(prefix, |uid, one| found.push((uid, one)))? {
                break;
            }
        }
        Ok(found)
    }

    /// False if something was committed meanwhile: then it is not known whether they add up.
    fn visit_slots<R: Record>(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(Uid, R),
    ) -> Result<bool, StoreError> {
        let sum = || match keys::links_sum(prefix) {
            Some(key) => sums::read(&self.shared.disk, &key),
            None => Err(unreadable("key")),
        };
        let (before, mut found) = (sum()?, Sum::default());
        self.shared.disk.scan(prefix, |key, value| {
            found.add(key, value);
            for (slot, octets) in chunk::slots(value)? {
                let uid = keys::uid(key, slot).ok_or_else(|| unreadable("UID"))?;
                each(uid, decode_slot(octets)?);
            }
            Ok(())
        })?;
        let stood = before == sum()?;
        if stood {
            before.check(found)?;
        }
        Ok(stood)
    }
}

fn account_id(value: &[u8]) -> Result<AccountId, StoreError> {
    small(decode(value)?).map(AccountId)
}

fn small(number: u64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| unreadable("number: it is too large"))
}

/// Sends edits to the committer, which merges waiting requests into one batch, applies it,
/// flushes and syncs it.
///
/// What one writer and its clones send is applied in the order in which it was sent. The edits of
/// one call are applied together or not at all.
#[derive(Clone)]
pub struct Writer {
    shared: Arc<Shared>,
    lost: Lost,
    owed: Arc<Owed>,
}

/// Lazy commits of a writer, counted.
#[derive(Default)]
struct Owed {
    queued: AtomicU64,
    /// Of these it is known that they are durable, or that they are lost and that was told.
    settled: AtomicU64,
}

impl Writer {
    /// Applies and makes durable; returns when it is, and reads see it. If it is dropped before,
    /// the edits may or may not be applied.
    ///
    /// An error may be that of lazy edits before: then these edits were not applied either.
    /// Without edits it waits for those before, and for nothing where there are none.
    pub async fn commit(&self, edits: Vec<Edit>) -> Result<(), StoreError> {
        let owed = &self.owed;
        let is_settled = owed.settled.load(Ordering::SeqCst) >= owed.queued.load(Ordering::SeqCst);
        if edits.is_empty() && is_settled { Ok(()) } else { self.commit_anyway(edits).await }
    }

    /// Resolves when the committer has come to it, which nothing is too small for.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.commit_anyway(Vec::new()).await
    }

    async fn commit_anyway(&self, edits: Vec<Edit>) -> Result<(), StoreError> {
        let queued = self.owed.queued.load(Ordering::SeqCst);
        let (waiting, answer) = oneshot::channel();
        self.send(edits, Some(waiting)).await?;
        answer.await.unwrap_or_else(|_| Err(gone()))?;
        self.owed.settled.fetch_max(queued, Ordering::SeqCst);
        Ok(())
    }

    /// Queues edits behind those already queued, to be made durable soon: with the next commit of
    /// anyone, or within a quarter of a second. Waits only while the queue is full. Reads may not
    /// see them before. An error shows at the next `commit`, and until then nothing further from
    /// this writer is applied.
    pub async fn commit_lazily(&self, edits: Vec<Edit>) -> Result<(), StoreError> {
        self.send(edits, None).await?;
        // After it: a commit that begins meanwhile does not wait for it.
        self.owed.queued.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn send(
        &self,
        edits: Vec<Edit>,
        awaited: Option<oneshot::Sender<Result<(), StoreError>>>,
    ) -> Result<(), StoreError> {
        let requests = self.shared.requests.as_ref().ok_or_else(gone)?;
        let request = Request { edits, awaited, lost: self.lost.clone() };
        requests.send(request).await.map_err(|_| gone())
    }
}

fn gone() -> StoreError {
    StoreError::other("checkpoint: the committer is gone")
}

#[cfg(test)]
mod tests;
