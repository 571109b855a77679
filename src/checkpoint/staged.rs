//! Edits → changes of keys, seen through those already staged, not yet on the disk.
//!
//! A group of requests becomes one batch. Each request enters whole or not at all: one that meets
//! an unreadable record is left out, and the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};

use super::chunk::Chunk;
use super::disk::Disk;
use super::encoding::{decode, decode_slot, encode, encode_slot};
use super::keys::{self, Key};
use super::octets::unreadable;
use super::{
    AccountId, AccountRecord, Edit, FolderId, FolderRecord, Intent, IntentId, Known, Proof,
};
use crate::words::{Sha256, Uid};

/// What becomes of each key; `None` removes it.
pub(super) type Changes = BTreeMap<Key, Option<Vec<u8>>>;

pub(super) struct Staged<'a> {
    disk: &'a Disk,
    /// Of the requests that entered.
    group: Changes,
    /// Of the request at hand.
    request: Changes,
    /// The chunk being changed: neighbouring UIDs come together, and are encoded once.
    open: Option<(Key, Chunk)>,
}

impl<'a> Staged<'a> {
    pub(super) fn on(disk: &'a Disk) -> Staged<'a> {
        Staged { disk, group: Changes::new(), request: Changes::new(), open: None }
    }

    /// Stages all edits of a request, or none.
    pub(super) fn enter(&mut self, edits: Vec<Edit>) -> io::Result<()> {
        let staged = edits.into_iter().try_for_each(|edit| self.edit(edit));
        self.close_chunk();
        let request = std::mem::take(&mut self.request);
        if staged.is_ok() {
            self.group.extend(request);
        }
        staged
    }

    pub(super) fn into_changes(self) -> Changes {
        self.group
    }

    fn edit(&mut self, edit: Edit) -> io::Result<()> {
        match edit {
            Edit::PutAccount(record) => self.put_account(&record),
            Edit::DropAccount(account) => self.drop_account(account),
            Edit::PutFolder(record) => self.put_folder(&record),
            Edit::DropFolder(folder) => self.drop_folder(folder),
            Edit::PutKnown(folder, uid, known) => self.put_known(folder, uid, known),
            Edit::DropKnown(folder, uid) => {
                self.set(keys::known(folder, uid), keys::slot(uid), None)
            }
            Edit::Prove(folder, uid, target_uid, sha256) => {
                self.prove(folder, uid, target_uid, sha256)
            }
            Edit::DropAllKnown(folder) => self.remove_chunks(&keys::all_known(folder)),
            Edit::PutOrphan(folder, orphan) => {
                let uid = orphan.target_uid;
                let link = encode_slot(&orphan.link);
                self.set(keys::orphan(folder, uid), keys::slot(uid), Some(link))
            }
            Edit::DropOrphan(folder, uid) => {
                self.set(keys::orphan(folder, uid), keys::slot(uid), None)
            }
            Edit::PutIntent(intent) => self.put_intent(&intent),
            Edit::DropIntent(intent) => self.drop_intent(intent),
        }
    }

    fn put_account(&mut self, record: &AccountRecord) -> io::Result<()> {
        let key = keys::account(record.id);
        if let Some(before) = self.get(&key)?
            && let Ok(before) = decode::<AccountRecord>(&before)
            && before.address != record.address
        {
            self.forget_address(&before.address, record.id)?;
        }
        self.put(key, encode(record))?;
        self.put(keys::address(&record.address), encode(&u64::from(record.id.0)))
    }

    /// Reads no record, and leaves links on damaged pages: an account that cannot be read can still
    /// be dropped.
    fn drop_account(&mut self, account: AccountId) -> io::Result<()> {
        for folder_key in self.keys_under(&keys::folders(account))? {
            let folder = keys::last_number_u32(&folder_key).ok_or_else(|| unreadable("key"))?;
            self.drop_folder_records(FolderId(folder))?;
            self.remove(folder_key)?;
        }
        for address in self.keys_under(keys::ADDRESSES)? {
            let owner = self.number_at(&address).ok().flatten();
            if owner == Some(u64::from(account.0)) {
                self.remove(address)?;
            }
        }
        self.remove(keys::account(account))
    }

    fn put_folder(&mut self, record: &FolderRecord) -> io::Result<()> {
        let key = keys::folder(record.account, record.id);
        self.put(key, encode(record))?;
        self.put(keys::folder_account(record.id), encode(&u64::from(record.account.0)))
    }

    fn drop_folder(&mut self, folder: FolderId) -> io::Result<()> {
        if let Some(account) = self.number_at(&keys::folder_account(folder))? {
            let account = u32::try_from(account).map_err(|_| unreadable("account's number"))?;
            self.remove(keys::folder(AccountId(account), folder))?;
        }
        self.drop_folder_records(folder)
    }

    fn drop_folder_records(&mut self, folder: FolderId) -> io::Result<()> {
        for intent_key in self.keys_under(&keys::all_intents(folder))? {
            let intent = keys::last_number_u64(&intent_key).ok_or_else(|| unreadable("key"))?;
            self.remove(keys::intent_folder(IntentId(intent)))?;
            self.remove(intent_key)?;
        }
        for prefix in [keys::all_known(folder), keys::all_orphans(folder)] {
            match self.remove_chunks(&prefix) {
                // They stay where they are: the folder's number is not given again.
                Err(error) if error.kind() == ErrorKind::InvalidData => {}
                removed => removed?,
            }
        }
        self.remove(keys::folder_account(folder))
    }

    fn put_intent(&mut self, intent: &Intent) -> io::Result<()> {
        self.put(keys::intent(intent.folder, intent.id), encode(intent))?;
        self.put(keys::intent_folder(intent.id), encode(&u64::from(intent.folder.0)))
    }

    fn drop_intent(&mut self, intent: IntentId) -> io::Result<()> {
        let index = keys::intent_folder(intent);
        if let Some(folder) = self.number_at(&index)? {
            let folder = u32::try_from(folder).map_err(|_| unreadable("folder's number"))?;
            self.remove(keys::intent(FolderId(folder), intent))?;
        }
        self.remove(index)
    }

    /// An address may have passed to another account in the meantime.
    fn forget_address(&mut self, address: &str, account: AccountId) -> io::Result<()> {
        let key = keys::address(address);
        if self.number_at(&key)? == Some(u64::from(account.0)) {
            self.remove(key)?;
        }
        Ok(())
    }

    fn number_at(&mut self, key: &[u8]) -> io::Result<Option<u64>> {
        self.get(key)?.map(|value| decode(&value)).transpose()
    }

    /// What was proved of a copy stays proved: whoever changes its link may have read it before.
    fn put_known(&mut self, folder: FolderId, uid: Uid, mut known: Known) -> io::Result<()> {
        let (key, slot) = (keys::known(folder, uid), keys::slot(uid));
        if let Known::Linked(link) = &mut known
            && let Ok(Some(Known::Linked(before))) = self.slot(&key, slot)
            && (before.target_uid, before.sha256) == (link.target_uid, link.sha256)
        {
            link.proof = link.proof.max(before.proof);
        }
        self.set(key, slot, Some(encode_slot(&known)))
    }

    /// Whoever proves a copy has not the account's hand on its links: only what was compared is
    /// marked.
    fn prove(
        &mut self,
        folder: FolderId,
        uid: Uid,
        target_uid: Uid,
        sha256: Sha256,
    ) -> io::Result<()> {
        let (key, slot) = (keys::known(folder, uid), keys::slot(uid));
        let Some(Known::Linked(mut link)) = self.slot(&key, slot)? else { return Ok(()) };
        if link.target_uid != Some(target_uid) || link.sha256 != sha256 {
            return Ok(());
        }
        link.proof = Proof::Verified;
        self.set(key, slot, Some(encode_slot(&Known::Linked(link))))
    }

    fn slot(&mut self, key: &Key, slot: u8) -> io::Result<Option<Known>> {
        let chunk = self.open_chunk(key.clone())?;
        chunk.get(slot).map(decode_slot).transpose()
    }

    /// Sets or clears one slot of a chunk.
    fn set(&mut self, key: Key, slot: u8, record: Option<Vec<u8>>) -> io::Result<()> {
        self.open_chunk(key)?.set(slot, record);
        Ok(())
    }

    fn open_chunk(&mut self, key: Key) -> io::Result<&mut Chunk> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != key) {
            let chunk = match self.get(&key)? {
                Some(octets) => Chunk::decode(&octets)?,
                None => Chunk::default(),
            };
            self.open = Some((key, chunk));
        }
        match &mut self.open {
            Some((_, chunk)) => Ok(chunk),
            None => Err(unreadable("chunk")),
        }
    }

    fn close_chunk(&mut self) {
        if let Some((key, chunk)) = self.open.take() {
            self.request.insert(key, chunk.encode());
        }
    }

    fn get(&mut self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.close_chunk();
        match self.request.get(key).or_else(|| self.group.get(key)) {
            Some(staged) => Ok(staged.clone()),
            None => Ok(self.disk.get(key)?.map(|value| value.to_vec())),
        }
    }

    fn put(&mut self, key: Key, value: Vec<u8>) -> io::Result<()> {
        self.change(key, Some(value))
    }

    fn remove(&mut self, key: Key) -> io::Result<()> {
        self.change(key, None)
    }

    /// Looks at the key first: if its page is damaged, this request fails, not the whole batch.
    fn change(&mut self, key: Key, value: Option<Vec<u8>>) -> io::Result<()> {
        self.close_chunk();
        if !self.request.contains_key(&key) && !self.group.contains_key(&key) {
            self.disk.get(&key)?;
        }
        self.request.insert(key, value);
        Ok(())
    }

    /// With what they add up to, which damage may have made wrong.
    fn remove_chunks(&mut self, prefix: &[u8]) -> io::Result<()> {
        for key in self.keys_under(prefix)?.into_iter().chain(keys::links_sum(prefix)) {
            self.remove(key)?;
        }
        Ok(())
    }

    fn keys_under(&mut self, prefix: &[u8]) -> io::Result<BTreeSet<Key>> {
        self.close_chunk();
        let mut keys = BTreeSet::new();
        self.disk.scan(prefix, |key, _| {
            keys.insert(key.to_vec());
            Ok(())
        })?;
        for changes in [&self.group, &self.request] {
            let under = changes.range(prefix.to_vec()..);
            for (key, value) in under.take_while(|(key, _)| key.starts_with(prefix)) {
                if value.is_some() {
                    keys.insert(key.clone())
                } else {
                    keys.remove(key)
                };
            }
        }
        Ok(keys)
    }
}
