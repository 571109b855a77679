//! The checkpoint → rows. It is read several times rather than held in memory.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use jiff::Timestamp;

use super::digest::{Line, Parts};
use super::{Account, Depth, Folder, LeftOut, Message, Place, Row, State, Totals};
use crate::checkpoint::{AccountRecord, FolderRecord, Known, Link, Origin, Proof, Store};
use crate::journal::shown;
use crate::words::{Side, Uid};

/// Gives an account's report row by row, until all are given or `each` fails. `now` is in Unix
/// seconds. Blocks: the checkpoint is read from the disk.
pub fn gather(
    store: &Store,
    record: &AccountRecord,
    left_out: &[LeftOut],
    now: i64,
    each: &mut dyn FnMut(Row) -> io::Result<()>,
) -> io::Result<()> {
    let mut records = store.folders(record.id)?;
    let archive = records.iter().find_map(FolderRecord::archive);
    records.sort_by(|a, b| (&a.source_shown, a.id).cmp(&(&b.source_shown, b.id)));
    let (folders, print) = count(store, &records)?;
    let totals = sum(&folders);
    let account = Account {
        address: shown(&record.address),
        migration: shown(&record.migration),
        phase: record.phase.as_str().to_owned(),
        source: place(&record.source),
        archive: archive.as_ref().map(place),
        target: place(&record.target),
        sealed_at: record.sealed_at.map(rfc3339),
        completed_at: record.completed_at.map(rfc3339),
        source_seen_until: record.source_seen_until.map(rfc3339),
        written_at: rfc3339(now),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        totals,
        digest: digest(store, &records, &folders, totals.linked())?,
        folders,
        left_out: left_out.to_vec(),
    };
    each(Row::Account(Box::new(account)))?;
    if totals.refused + totals.altered > 0 {
        for at in 0..records.len() {
            visit(store, &records, at, |uid, known| match state(&known) {
                State::Refused | State::Altered => each(Row::Exception(message(at, uid, known))),
                State::Copied | State::Adopted => Ok(()),
            })?;
        }
    }
    let mut listed = Print::default();
    for at in 0..records.len() {
        each(Row::Folder(at))?;
        visit(store, &records, at, |uid, known| {
            listed.take(at, uid, &known);
            each(Row::Message(message(at, uid, known)))
        })?;
    }
    each(Row::End { changed: listed != print })
}

/// RFC 3339 in UTC, to the second.
pub(super) fn rfc3339(unix: i64) -> String {
    Timestamp::from_second(unix).map_or_else(|_| "?".to_owned(), |instant| instant.to_string())
}

fn place(place: &crate::checkpoint::Place) -> Place {
    Place { host: shown(&place.host), user: shown(&place.user) }
}

/// Tells whether the same messages were read twice, whatever their order.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Print(u64);

impl Print {
    fn take(&mut self, folder: usize, uid: Uid, known: &Known) {
        let mut hasher = DefaultHasher::new();
        (folder, uid, state(known).as_str()).hash(&mut hasher);
        if let Known::Linked(link) = known {
            (link.sha256, link.size, link.instant).hash(&mut hasher);
        }
        self.0 = self.0.wrapping_add(hasher.finish());
    }
}

fn count(store: &Store, records: &[FolderRecord]) -> io::Result<(Vec<Folder>, Print)> {
    let mut print = Print::default();
    let mut folders = Vec::new();
    for (at, record) in records.iter().enumerate() {
        let mut totals = Totals {
            source: source_count(record),
            kept: store.orphans(record.id)?.len() as u64,
            ..Totals::default()
        };
        for intent in store.intents(record.id)?.iter().filter(|intent| !intent.repeated) {
            totals.in_doubt += intent.messages.len() as u64;
        }
        visit(store, records, at, |uid, known| {
            print.take(at, uid, &known);
            totals.take(&known);
            Ok(())
        })?;
        totals.missing = totals.source.map(|source| source.saturating_sub(totals.known()));
        let (name, target) = (shown(&record.source_shown), shown(&record.target_shown));
        folders.push(Folder { name, target, totals });
    }
    Ok((folders, print))
}

/// What was seen of a folder before everything in it was known once is not all of it.
fn source_count(record: &FolderRecord) -> Option<u64> {
    let seen = record.source_seen.filter(|seen| record.first_copy_completed && seen.uid_next > 0);
    seen.map(|seen| u64::from(seen.messages))
}

impl Totals {
    fn take(&mut self, known: &Known) {
        match state(known) {
            State::Copied => self.copied += 1,
            State::Adopted => self.adopted += 1,
            State::Altered => self.altered += 1,
            State::Refused => self.refused += 1,
        }
        let Known::Linked(link) = known else { return };
        self.bytes += link.size;
        match proof(link) {
            None => {}
            Some(Proof::Listed) => self.listed += 1,
            Some(Proof::ReadBack) => self.read_back += 1,
            Some(Proof::Verified) => self.verified += 1,
        }
    }
}

fn sum(folders: &[Folder]) -> Totals {
    let nothing = Totals { source: Some(0), missing: Some(0), ..Totals::default() };
    folders.iter().fold(nothing, |sum, folder| {
        let more = folder.totals;
        Totals {
            copied: sum.copied + more.copied,
            adopted: sum.adopted + more.adopted,
            altered: sum.altered + more.altered,
            refused: sum.refused + more.refused,
            in_doubt: sum.in_doubt + more.in_doubt,
            kept: sum.kept + more.kept,
            source: sum.source.zip(more.source).map(|(sum, more)| sum + more),
            missing: sum.missing.zip(more.missing).map(|(sum, more)| sum + more),
            bytes: sum.bytes + more.bytes,
            listed: sum.listed + more.listed,
            read_back: sum.read_back + more.read_back,
            verified: sum.verified + more.verified,
        }
    })
}

fn digest(
    store: &Store,
    records: &[FolderRecord],
    folders: &[Folder],
    messages: u64,
) -> io::Result<String> {
    let names: Vec<&str> = folders.iter().map(|folder| folder.name.as_str()).collect();
    let refused: Vec<u64> = folders.iter().map(|folder| folder.totals.refused).collect();
    let mut parts = Parts::new(messages, &names, &refused);
    for part in 0..parts.count() {
        let mut lines = Vec::new();
        for (folder, record) in (0..).zip(records) {
            store.visit_known(record.id, |_, known| {
                if let Known::Linked(link) = known
                    && parts.part_of(&link.sha256.0) == part
                {
                    let (size, instant) = (link.size, link.instant.0);
                    lines.push(Line { sha256: link.sha256.0, size, instant, folder });
                }
            })?;
        }
        parts.take(lines);
    }
    Ok(parts.finish())
}

/// Gives what is known of a folder's messages until `each` fails.
fn visit(
    store: &Store,
    records: &[FolderRecord],
    at: usize,
    mut each: impl FnMut(Uid, Known) -> io::Result<()>,
) -> io::Result<()> {
    let mut outcome = Ok(());
    store.visit_known(records[at].id, |uid, known| {
        if outcome.is_ok() {
            outcome = each(uid, known);
        }
    })?;
    outcome
}

fn state(known: &Known) -> State {
    match known {
        Known::Refused { .. } => State::Refused,
        Known::Linked(link) => match (&link.altered, link.origin) {
            (Some(_), _) => State::Altered,
            (None, Origin::Copied) => State::Copied,
            (None, Origin::Adopted | Origin::Twin) => State::Adopted,
        },
    }
}

fn proof(link: &Link) -> Option<Proof> {
    // A copy whose UID nobody has told yet was not listed either.
    let is_seen = link.target_uid.is_some() || link.proof > Proof::Listed;
    (link.altered.is_none() && is_seen).then_some(link.proof)
}

fn message(folder: usize, uid: Uid, known: Known) -> Message {
    let blank = Message {
        folder,
        source_uid: uid.get(),
        target_uid: None,
        size: None,
        sha256: None,
        instant: None,
        state: state(&known),
        proof: None,
        refused_by: None,
        reason: None,
    };
    match known {
        Known::Refused { by_target, text, .. } => Message {
            refused_by: Some(if by_target { Side::Target } else { Side::Source }.to_string()),
            reason: Some(shown(&text)),
            ..blank
        },
        Known::Linked(link) => Message {
            target_uid: link.target_uid.map(Uid::get),
            size: Some(link.size),
            sha256: Some(link.sha256.to_string()),
            instant: Some(rfc3339(link.instant.0)),
            proof: proof(&link).map(Depth::from),
            reason: link.altered.as_deref().map(shown),
            ..blank
        },
    }
}
