//! An account as a server holds it: folders, messages, UIDs, modification sequences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

#[derive(Clone, Debug)]
pub struct Message {
    pub uid: u32,
    pub octets: Arc<[u8]>,
    /// Unix seconds.
    pub instant: i64,
    pub flags: BTreeSet<String>,
    pub modseq: u64,
    /// Put there by somebody else than the product: nothing may ever happen to it.
    pub foreign: bool,
    /// In this folder since then.
    pub since: Instant,
}

/// A message about to be stored.
#[derive(Clone, Debug)]
pub struct Letter {
    pub octets: Arc<[u8]>,
    pub instant: i64,
    pub flags: BTreeSet<String>,
    pub foreign: bool,
}

#[derive(Clone, Debug)]
pub struct Folder {
    pub validity: u32,
    pub next: u32,
    /// The highest modification sequence.
    pub modseq: u64,
    /// Ascending.
    pub messages: Vec<Message>,
    /// UIDs that were removed, each with the modification sequence of its removal.
    pub vanished: Vec<(u32, u64)>,
    /// It is not known any more what was removed.
    pub forgetful: bool,
    /// From one UID to the next.
    step: u32,
}

/// One mailbox on one server. Names are wire names.
#[derive(Clone, Debug)]
pub struct Account {
    pub folders: BTreeMap<String, Folder>,
    next_validity: u32,
    /// The first UID of a folder, and the step to the next.
    uids: (u32, u32),
}

/// A renumbered folder's UIDVALIDITY is higher.
pub const RENUMBERED: u32 = 1000;

impl Account {
    pub fn new(first_validity: u32, uids: (u32, u32)) -> Account {
        let folders = BTreeMap::new();
        let mut account = Account { folders, next_validity: first_validity, uids };
        account.create("INBOX");
        account
    }

    /// Makes the folder unless it is there.
    pub fn create(&mut self, name: &str) {
        let (next, step) = self.uids;
        let folder = Folder {
            validity: self.next_validity,
            next,
            modseq: 1,
            messages: vec![],
            vanished: vec![],
            forgetful: false,
            step,
        };
        if !self.folders.contains_key(name) {
            self.folders.insert(name.to_owned(), folder);
            self.next_validity += 1;
        }
    }

    pub fn append(&mut self, name: &str, letters: Vec<Letter>) -> Vec<u32> {
        let Some(folder) = self.folders.get_mut(name) else { return Vec::new() };
        letters.into_iter().map(|letter| folder.append(letter)).collect()
    }

    /// Adds or removes flags.
    pub fn store(&mut self, name: &str, uids: &[u32], flags: &[String], add: bool) {
        let Some(folder) = self.folders.get_mut(name) else { return };
        folder.modseq += 1;
        for message in folder.messages.iter_mut().filter(|message| uids.contains(&message.uid)) {
            message.modseq = folder.modseq;
            for flag in flags {
                // Flags compare case-blind and keep the spelling first seen.
                message.flags.retain(|known| !known.eq_ignore_ascii_case(flag));
                if add {
                    message.flags.insert(flag.clone());
                }
            }
        }
    }

    /// Removes messages and returns them.
    pub fn remove(&mut self, name: &str, uids: &[u32]) -> Vec<Message> {
        let Some(folder) = self.folders.get_mut(name) else { return Vec::new() };
        folder.modseq += 1;
        let removed: Vec<Message> =
            folder.messages.extract_if(.., |message| uids.contains(&message.uid)).collect();
        folder.vanished.extend(removed.iter().map(|message| (message.uid, folder.modseq)));
        removed
    }

    /// Copies messages; returns pairs of UIDs.
    pub fn copy(&mut self, from: &str, uids: &[u32], to: &str) -> Vec<(u32, u32)> {
        let Some(folder) = self.folders.get(from) else { return Vec::new() };
        let copied = folder.messages.iter().filter(|message| uids.contains(&message.uid));
        let copied: Vec<(u32, Letter)> =
            copied.map(|message| (message.uid, message.letter())).collect();
        let Some(folder) = self.folders.get_mut(to) else { return Vec::new() };
        copied.into_iter().map(|(uid, letter)| (uid, folder.append(letter))).collect()
    }

    /// The same messages under another name.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        if self.folders.contains_key(to) || from == "INBOX" {
            return false;
        }
        let Some(folder) = self.folders.remove(from) else { return false };
        self.folders.insert(to.to_owned(), folder);
        true
    }

    /// A new UIDVALIDITY, as after a restore: all UIDs are given anew.
    pub fn renumber(&mut self, name: &str) {
        let Some(folder) = self.folders.get_mut(name) else { return };
        folder.validity = self.next_validity + RENUMBERED;
        self.next_validity += 1001;
        folder.modseq += 1;
        folder.vanished.clear();
        for (at, message) in folder.messages.iter_mut().enumerate() {
            (message.uid, message.modseq) = (at as u32 + 1, folder.modseq);
        }
        folder.next = folder.messages.len() as u32 + 1;
    }
}

impl Folder {
    /// What has come since then changes numbers: the newest gets the lowest.
    pub fn number_anew(&mut self, began: Instant) {
        let fresh = self.messages.partition_point(|message| message.since <= began);
        let fresh = &mut self.messages[fresh..];
        let uids: Vec<u32> = fresh.iter().map(|message| message.uid).collect();
        fresh.rotate_right(1.min(uids.len()));
        for (message, uid) in fresh.iter_mut().zip(uids) {
            (message.uid, message.modseq) = (uid, self.modseq);
        }
    }

    pub fn lose_index(&mut self) {
        (self.modseq, self.forgetful) = (1, true);
        self.vanished.clear();
        self.messages.iter_mut().for_each(|message| message.modseq = 1);
    }

    fn append(&mut self, letter: Letter) -> u32 {
        let Letter { octets, instant, flags, foreign } = letter;
        self.modseq += 1;
        let (uid, modseq) = (self.next, self.modseq);
        self.next += self.step;
        let since = Instant::now();
        self.messages.push(Message { uid, octets, instant, flags, modseq, foreign, since });
        uid
    }

    /// Makes somebody else's messages of all that are there.
    pub fn estrange(&mut self) {
        for message in &mut self.messages {
            let octets = format!("Subject: altrui {}\r\n\r\n", message.uid);
            (message.octets, message.foreign) = (octets.into_bytes().into(), true);
            message.instant += 86_400;
        }
    }

    /// UIDs that vanished since a modification sequence; who forgot names all that are not there.
    pub fn vanished_since(&self, modseq: u64) -> Vec<u32> {
        if self.forgetful {
            return (1..self.next).filter(|uid| self.message(*uid).is_none()).collect();
        }
        let since = self.vanished.iter().filter(|(_, removed)| *removed > modseq);
        since.map(|(uid, _)| *uid).collect()
    }

    pub fn message(&self, uid: u32) -> Option<&Message> {
        let at = self.messages.binary_search_by_key(&uid, |message| message.uid).ok()?;
        self.messages.get(at)
    }

    /// UIDs of an IMAP set: `1:4,7,9:*`.
    pub fn uids_in(&self, set: &str) -> Vec<u32> {
        self.in_set(set).map(|message| message.uid).collect()
    }

    pub fn in_set(&self, set: &str) -> impl Iterator<Item = &Message> {
        let highest = self.messages.last().map_or(0, |message| message.uid);
        let number = |text: &str| if text == "*" { highest } else { text.parse().unwrap_or(0) };
        let ranges: Vec<(u32, u32)> = set
            .split(',')
            .map(|range| match range.split_once(':') {
                Some((a, b)) => (number(a).min(number(b)), number(a).max(number(b))),
                None => (number(range), number(range)),
            })
            .collect();
        let wanted = move |uid: u32| ranges.iter().any(|(a, b)| (*a..=*b).contains(&uid));
        self.messages.iter().filter(move |message| wanted(message.uid))
    }
}

impl Message {
    pub fn letter(&self) -> Letter {
        let Message { octets, instant, flags, foreign, .. } = self.clone();
        Letter { octets, instant, flags, foreign }
    }

    /// Up to and with the empty line.
    pub fn header(&self) -> &[u8] {
        let end = self.octets.windows(4).position(|four| four == b"\r\n\r\n");
        &self.octets[..end.map_or(self.octets.len(), |end| end + 4)]
    }
}
