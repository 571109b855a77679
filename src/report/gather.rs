//! The checkpoint → rows. It is read several times rather than held in memory.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use jiff::Timestamp;

use super::digest::{Line, Parts};
use super::{Account, Folder, LeftOut, Message, Place, Row, State, Totals};
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
    records.sort_by(|a, b| (&a.source_shown, a.id).cmp(&(&b.source_shown, b.id)));
    let (folders, print) = count(store, &records)?;
    let totals = sum(&folders);
    let account = Account {
        address: shown(&record.address),
        migration: shown(&record.migration),
        phase: record.phase.as_str().to_owned(),
        source: place(&record.source),
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
        visit(store, &records, |message| match message.state {
            State::Refused | State::Altered => each(Row::Exception(message)),
            State::Copied | State::Adopted => Ok(()),
        })?;
    }
    let mut listed = Print::default();
    for at in 0..records.len() {
        each(Row::Folder(at))?;
        visit_folder(store, &records, at, &mut |message| {
            listed.take(&message);
            each(Row::Message(message))
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
    fn take(&mut self, message: &Message) {
        let mut hasher = DefaultHasher::new();
        (message.folder, message.source_uid, &message.sha256).hash(&mut hasher);
        (message.size, &message.instant, message.state.as_str()).hash(&mut hasher);
        self.0 = self.0.wrapping_add(hasher.finish());
    }
}

fn count(store: &Store, records: &[FolderRecord]) -> io::Result<(Vec<Folder>, Print)> {
    let mut print = Print::default();
    let mut folders = Vec::new();
    for (at, record) in records.iter().enumerate() {
        let mut totals = Totals {
            source: record.source_seen.map_or(0, |seen| u64::from(seen.messages)),
            kept: store.orphans(record.id)?.len() as u64,
            ..Totals::default()
        };
        for intent in store.intents(record.id)?.iter().filter(|intent| !intent.repeated) {
            totals.in_doubt += intent.messages.len() as u64;
        }
        visit_folder(store, records, at, &mut |message| {
            print.take(&message);
            totals.take(&message);
            Ok(())
        })?;
        let (name, target) = (shown(&record.source_shown), shown(&record.target_shown));
        folders.push(Folder { name, target, totals });
    }
    Ok((folders, print))
}

impl Totals {
    fn take(&mut self, message: &Message) {
        match message.state {
            State::Copied => self.copied += 1,
            State::Adopted => self.adopted += 1,
            State::Altered => self.altered += 1,
            State::Refused => self.refused += 1,
        }
        self.bytes += message.size.unwrap_or_default();
        match message.proof {
            None => {}
            Some(super::Depth::Listed) => self.listed += 1,
            Some(super::Depth::ReadBack) => self.read_back += 1,
            Some(super::Depth::Verified) => self.verified += 1,
        }
    }
}

fn sum(folders: &[Folder]) -> Totals {
    folders.iter().fold(Totals::default(), |sum, folder| {
        let more = folder.totals;
        Totals {
            copied: sum.copied + more.copied,
            adopted: sum.adopted + more.adopted,
            altered: sum.altered + more.altered,
            refused: sum.refused + more.refused,
            in_doubt: sum.in_doubt + more.in_doubt,
            kept: sum.kept + more.kept,
            source: sum.source + more.source,
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

fn visit(
    store: &Store,
    records: &[FolderRecord],
    mut each: impl FnMut(Message) -> io::Result<()>,
) -> io::Result<()> {
    (0..records.len()).try_for_each(|at| visit_folder(store, records, at, &mut each))
}

fn visit_folder(
    store: &Store,
    records: &[FolderRecord],
    at: usize,
    each: &mut dyn FnMut(Message) -> io::Result<()>,
) -> io::Result<()> {
    let mut outcome = Ok(());
    store.visit_known(records[at].id, |uid, known| {
        if outcome.is_ok() {
            outcome = each(message(at, uid, known));
        }
    })?;
    outcome
}

fn message(folder: usize, uid: Uid, known: Known) -> Message {
    match known {
        Known::Linked(link) => linked(folder, uid, &link),
        Known::Refused { by_target, text, .. } => Message {
            folder,
            source_uid: uid.get(),
            target_uid: None,
            size: None,
            sha256: None,
            instant: None,
            state: State::Refused,
            proof: None,
            refused_by: Some(if by_target { Side::Target } else { Side::Source }.to_string()),
            reason: Some(shown(&text)),
        },
    }
}

fn linked(folder: usize, uid: Uid, link: &Link) -> Message {
    let state = match (&link.altered, link.origin) {
        (Some(_), _) => State::Altered,
        (None, Origin::Copied) => State::Copied,
        (None, Origin::Adopted | Origin::Twin) => State::Adopted,
    };
    // A copy whose UID nobody has told yet was not listed either.
    let is_seen = link.target_uid.is_some() || link.proof > Proof::Listed;
    Message {
        folder,
        source_uid: uid.get(),
        target_uid: link.target_uid.map(Uid::get),
        size: Some(link.size),
        sha256: Some(link.sha256.to_string()),
        instant: Some(rfc3339(link.instant.0)),
        state,
        proof: (link.altered.is_none() && is_seen).then(|| link.proof.into()),
        refused_by: None,
        reason: link.altered.as_deref().map(shown),
    }
}
