//! Where each record stands in the one tree: a letter, then numbers in big-endian order, so that
//! everything of an account or a folder is one range.

use super::{AccountId, FolderId, IntentId};
use crate::words::Uid;

pub(super) type Key = Vec<u8>;

/// UIDs of a chunk. Their links take some 2 KiB, so that a page of the tree (up to 16 values)
/// stays far below the 128 KiB from which sled keeps it in a file of its own, which it does not
/// sync.
pub(super) const CHUNK_UIDS: u32 = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 5;

pub(super) const FORMAT: &[u8] = b"mformat";
/// Counts durable batches.
pub(super) const BATCHES: &[u8] = b"mbatches";
/// What all records but links, orphans and those beginning with `m` add up to.
pub(super) const TOTAL: &[u8] = b"mtotal";
pub(super) const ACCOUNT_IDS: &[u8] = b"maccount";
pub(super) const FOLDER_IDS: &[u8] = b"mfolder";
pub(super) const INTENT_IDS: &[u8] = b"mintent";

/// Prefixes of whole kinds of records.
pub(super) const ACCOUNTS: &[u8] = b"a";
pub(super) const ADDRESSES: &[u8] = b"A";
pub(super) const FOLDER_ACCOUNTS: &[u8] = b"F";
pub(super) const INTENT_FOLDERS: &[u8] = b"I";

/// Every prefix but those of links and orphans.
pub(super) const ALL_BUT_LINKS: [&[u8]; 8] = [b"m", b"a", b"A", b"f", b"F", b"i", b"I", SUMS];
/// What the links of a folder, or its orphans, add up to.
const SUMS: &[u8] = b"s";
const LINKS: &[u8] = b"k";
const ORPHANS: &[u8] = b"o";

pub(super) fn account(account: AccountId) -> Key {
    key(ACCOUNTS, &[&account.0.to_be_bytes()])
}

/// Finds an account's number by its address.
pub(super) fn address(address: &str) -> Key {
    key(ADDRESSES, &[address.as_bytes()])
}

pub(super) fn folders(account: AccountId) -> Key {
    key(b"f", &[&account.0.to_be_bytes()])
}

pub(super) fn folder(account: AccountId, folder: FolderId) -> Key {
    key(b"f", &[&account.0.to_be_bytes(), &folder.0.to_be_bytes()])
}

/// Finds a folder's account.
pub(super) fn folder_account(folder: FolderId) -> Key {
    key(FOLDER_ACCOUNTS, &[&folder.0.to_be_bytes()])
}

pub(super) fn all_known(folder: FolderId) -> Key {
    key(LINKS, &[&folder.0.to_be_bytes()])
}

/// The chunk that holds what is known of a source UID.
pub(super) fn known(folder: FolderId, uid: Uid) -> Key {
    chunk(all_known(folder), uid)
}

pub(super) fn all_orphans(folder: FolderId) -> Key {
    key(ORPHANS, &[&folder.0.to_be_bytes()])
}

/// The chunk that holds the orphan of a target UID.
pub(super) fn orphan(folder: FolderId, uid: Uid) -> Key {
    chunk(all_orphans(folder), uid)
}

pub(super) fn all_intents(folder: FolderId) -> Key {
    key(b"i", &[&folder.0.to_be_bytes()])
}

pub(super) fn intent(folder: FolderId, intent: IntentId) -> Key {
    key(b"i", &[&folder.0.to_be_bytes(), &intent.0.to_be_bytes()])
}

/// Finds an intent's folder.
pub(super) fn intent_folder(intent: IntentId) -> Key {
    key(INTENT_FOLDERS, &[&intent.0.to_be_bytes()])
}

/// Where it stands what the chunks of a folder add up to, given the key of one of them, or the
/// prefix of all; `None` for any other key.
pub(super) fn links_sum(chunk_key: &[u8]) -> Option<Key> {
    let of_folder = chunk_key.get(..LINKS.len() + size_of::<u32>())?;
    let is_chunk = of_folder.starts_with(LINKS) || of_folder.starts_with(ORPHANS);
    is_chunk.then(|| key(SUMS, &[of_folder]))
}

/// Behind all links, and behind all orphans.
pub(super) fn ends() -> [Key; 2] {
    [LINKS, ORPHANS].map(|prefix| key(prefix, &[&[0xff; 8]]))
}

/// Does the total count that record?
pub(super) fn is_in_total(key: &[u8]) -> bool {
    ![b"m", LINKS, ORPHANS].iter().any(|prefix| key.starts_with(prefix))
}

/// A UID's place within its chunk.
pub(super) fn slot(uid: Uid) -> u8 {
    (uid.get() % CHUNK_UIDS) as u8
}

/// The UID at a slot of the chunk with that key; `None` where no such UID can be.
pub(super) fn uid(chunk_key: &[u8], slot: u8) -> Option<Uid> {
    let number = last_number_u32(chunk_key)?;
    Uid::new(number.checked_mul(CHUNK_UIDS)?.checked_add(u32::from(slot))?)
}

/// The number a key ends in.
pub(super) fn last_number_u32(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*key.last_chunk()?))
}

pub(super) fn last_number_u64(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.last_chunk()?))
}

fn chunk(folder: Key, uid: Uid) -> Key {
    key(&folder, &[&(uid.get() >> CHUNK_BITS).to_be_bytes()])
}

fn key(prefix: &[u8], parts: &[&[u8]]) -> Key {
    let mut key = prefix.to_vec();
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_found_again_from_its_chunk_and_slot() {
        let numbers = [1, 2, 63, 64, 65, 127, 128, 255, 256, 257, 65_536, u32::MAX - 1, u32::MAX];
        for number in numbers {
            let of = Uid::new(number).unwrap();
            assert_eq!(uid(&known(FolderId(7), of), slot(of)), Some(of));
            assert_eq!(uid(&orphan(FolderId(7), of), slot(of)), Some(of));
        }
        assert_eq!(uid(&known(FolderId(7), Uid::new(1).unwrap()), 0), None, "no message has UID 0");
    }

    #[test]
    fn a_range_of_one_folder_holds_no_other() {
        let last = known(FolderId(1), Uid::new(u32::MAX).unwrap());
        assert!(last.starts_with(&all_known(FolderId(1))));
        assert!(last < all_known(FolderId(2)));
        assert!(!known(FolderId(256), Uid::new(1).unwrap()).starts_with(&all_known(FolderId(1))));
    }
}
