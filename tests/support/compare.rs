//! Judges a copy without the product: what two servers show by their own FETCH, compared as
//! multisets of (SHA-256, instant, flags), and whether the source was left as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sha2::{Digest, Sha256};

use super::imap::Fetched;
use super::server::Server;

/// Everything one account shows, by folder name (UTF-8, with the server's own delimiter).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub folders: BTreeMap<String, Folder>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    pub uid_validity: u32,
    pub uid_next: u32,
    /// By UID.
    pub messages: Vec<Message>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub uid: u32,
    pub print: Print,
    /// The server's own, for one session: no part of a copy, but reading must not take it away.
    pub recent: bool,
}

/// What makes a message and its copy equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Print {
    pub sha256: String,
    pub size: usize,
    pub instant: i64,
    /// Without `\Recent`; lower case, since flags compare case-blind.
    pub flags: BTreeSet<String>,
}

impl fmt::Display for Print {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let (digest, flags) = (&self.sha256[..12], flags.join(" "));
        write!(f, "{} octets {digest}… at {} ({flags})", self.size, self.instant)
    }
}

impl Snapshot {
    /// Looks with EXAMINE and BODY.PEEK only.
    pub fn of(server: &impl Server, user: &str) -> Snapshot {
        let mut imap = server.imap(user);
        let mut folders = BTreeMap::new();
        for name in imap.list() {
            let (uid_validity, uid_next) = imap.uid_status(&name);
            let messages = imap.fetch_all(&name).iter().map(Message::of).collect();
            folders.insert(name, Folder { uid_validity, uid_next, messages });
        }
        Snapshot { folders }
    }

    pub fn count(&self) -> usize {
        self.folders.values().map(|folder| folder.messages.len()).sum()
    }
}

impl Message {
    pub fn of(fetched: &Fetched) -> Message {
        let octets = &fetched.octets;
        let flags = fetched.flags.iter().filter(|flag| *flag != "\\Recent");
        let sha256 = Sha256::digest(octets).iter().map(|octet| format!("{octet:02x}")).collect();
        let print = Print {
            sha256,
            size: octets.len(),
            instant: fetched.instant,
            flags: flags.map(|flag| flag.to_ascii_lowercase()).collect(),
        };
        Message { uid: fetched.uid, print, recent: fetched.flags.contains("\\Recent") }
    }
}

/// How the target differs from a copy of the source; empty when it is exact. `target_name` tells
/// where a source folder should be; no other folder of the target may hold mail.
pub fn differences(
    source: &Snapshot,
    target: &Snapshot,
    target_name: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut expected: BTreeMap<String, Vec<&Folder>> = BTreeMap::new();
    for (name, folder) in &source.folders {
        expected.entry(target_name(name)).or_default().push(folder);
    }
    let mut found = Vec::new();
    for (name, folders) in &expected {
        let wanted = prints(folders.iter().copied());
        match target.folders.get(name) {
            Some(folder) => compare_prints(name, &wanted, &prints([folder]), &mut found),
            None => found.push(format!("{name}: no such folder at the target")),
        }
    }
    for (name, folder) in &target.folders {
        if !expected.contains_key(name) && !folder.messages.is_empty() {
            found.push(format!("{name}: {} messages nobody asked for", folder.messages.len()));
        }
    }
    found
}

/// Fails with every difference if the target is not an exact copy.
pub fn assert_exact(source: &Snapshot, target: &Snapshot, target_name: impl Fn(&str) -> String) {
    let found = differences(source, target, target_name);
    assert!(found.is_empty(), "the copy is not exact:\n  {}", found.join("\n  "));
}

/// What changed at a server between two looks: UIDs, `\Seen` and `\Recent` included.
pub fn changes(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    let names: BTreeSet<&String> = before.folders.keys().chain(after.folders.keys()).collect();
    for name in names {
        match (before.folders.get(name), after.folders.get(name)) {
            (Some(before), Some(after)) => changes_of_folder(name, before, after, &mut found),
            (Some(_), None) => found.push(format!("{name}: gone")),
            (None, _) => found.push(format!("{name}: new")),
        }
    }
    found
}

pub fn assert_unchanged(before: &Snapshot, after: &Snapshot) {
    let found = changes(before, after);
    assert!(found.is_empty(), "the source was changed:\n  {}", found.join("\n  "));
}

/// How often each print occurs: n identical messages have to stay n.
fn prints<'a>(folders: impl IntoIterator<Item = &'a Folder>) -> BTreeMap<&'a Print, usize> {
    let mut counts = BTreeMap::new();
    for message in folders.into_iter().flat_map(|folder| &folder.messages) {
        *counts.entry(&message.print).or_default() += 1;
    }
    counts
}

fn compare_prints(
    name: &str,
    wanted: &BTreeMap<&Print, usize>,
    there: &BTreeMap<&Print, usize>,
    found: &mut Vec<String>,
) {
    let all: BTreeSet<&&Print> = wanted.keys().chain(there.keys()).collect();
    for print in all {
        let count = |counts: &BTreeMap<&Print, usize>| counts.get(*print).copied().unwrap_or(0);
        let (at_source, at_target) = (count(wanted), count(there));
        if at_source != at_target {
            found.push(format!(
                "{name}: {at_source} at the source, {at_target} at the target: {print}"
            ));
        }
    }
}

fn changes_of_folder(name: &str, before: &Folder, after: &Folder, found: &mut Vec<String>) {
    let uids = |folder: &Folder| (folder.uid_validity, folder.uid_next);
    if uids(before) != uids(after) {
        found.push(format!(
            "{name}: (UIDVALIDITY, UIDNEXT) {:?}, was {:?}",
            uids(after),
            uids(before)
        ));
    }
    let by_uid = |folder: &Folder| -> BTreeMap<u32, Message> {
        folder.messages.iter().map(|message| (message.uid, message.clone())).collect()
    };
    let (before, after) = (by_uid(before), by_uid(after));
    let uids: BTreeSet<&u32> = before.keys().chain(after.keys()).collect();
    for uid in uids {
        let show = |message: Option<&Message>| match message {
            Some(message) if message.recent => format!("{} \\Recent", message.print),
            Some(message) => message.print.to_string(),
            None => "nothing".to_owned(),
        };
        let (was, is) = (before.get(uid), after.get(uid));
        if was != is {
            found.push(format!("{name}, UID {uid}: {}, was {}", show(is), show(was)));
        }
    }
}

/// Where a folder of the Aruba layout belongs at the Legalmail layout: well-known ones by their
/// use, all others by the same name at the top level.
pub fn aruba_to_legalmail(name: &str) -> String {
    let known = [
        ("INBOX", "INBOX"),
        ("INBOX.Inviata", "INBOX/Spedite"),
        ("INBOX.Bozze", "INBOX/Draft"),
        ("INBOX.Cestino", "INBOX/Trash"),
        ("INBOX.Spam", "INBOX/Posta Indesiderata"),
    ];
    match known.iter().find(|(aruba, _)| *aruba == name) {
        Some((_, legalmail)) => (*legalmail).to_owned(),
        None => name.strip_prefix("INBOX.").unwrap_or(name).replace('.', "/"),
    }
}
