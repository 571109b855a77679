//! What the report of a million messages takes in time and memory.
//!
//! `cargo test --release --bench report -- --nocapture`

use std::fs;
use std::io::{self, Write};
use std::time::Instant;

use pecsync::checkpoint::*;
use pecsync::report::{Format, Lang, Writer, gather};
use pecsync::words::*;

const FOLDERS: u32 = 20;
const MESSAGES: u32 = 50_000;
const BATCH: u32 = 500;
/// Above what the open store took before.
const RESIDENT_MB_MAX: u64 = 100;

/// Digests that do not compress and do not repeat.
fn link(folder: u32, uid: u32) -> Known {
    let seed = u64::from(folder) << 32 | u64::from(uid);
    let octet = |place: usize| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (place % 8 * 7)) as u8;
    Known::Linked(Link {
        target_uid: Uid::new(uid),
        origin: Origin::Copied,
        size: seed % 300_000,
        instant: InternalDate(1_600_000_000 + i64::from(uid)),
        header: HeaderDigest(std::array::from_fn(octet)),
        sha256: Sha256(std::array::from_fn(octet)),
        flags: Flags::of_names(["\\Seen"]),
        unsure: None,
        proof: Proof::ReadBack,
        suspect: false,
        altered: None,
    })
}

fn account(id: AccountId) -> AccountRecord {
    let place = Place { host: "imap.example".into(), user: "mario".into() };
    AccountRecord {
        id,
        address: "mario@pec.it".into(),
        migration: "epap".into(),
        enrolled_by: String::new(),
        source: place.clone(),
        target: place,
        phase: Phase::Completed,
        sealed_at: None,
        completed_at: None,
        source_seen_until: None,
        first_copy_completed: true,
        removals_suspended: false,
        refused_credentials: None,
        worked_credentials: None,
    }
}

fn folder(id: FolderId, account: AccountId) -> FolderRecord {
    FolderRecord {
        id,
        account,
        source_name: b"INBOX"[..].into(),
        target_name: b"INBOX"[..].into(),
        source_shown: format!("INBOX.{}", id.0),
        target_shown: format!("INBOX.{}", id.0),
        exempt: false,
        source_seen: None,
        target_seen: None,
        first_copy_completed: true,
        compared_at: 0,
    }
}

#[tokio::test]
async fn a_million_messages() {
    let dir = tempfile::tempdir().expect("a directory");
    let record = furnish(dir.path()).await;
    let (store, _) = Store::open(dir.path()).expect("a store");
    let before = resident_mb();
    for format in [Format::Json, Format::Csv, Format::Text, Format::Html] {
        let begun = Instant::now();
        let mut writer = Writer::begin(Counter(0), format, Lang::It).expect("begun");
        let mut most = 0;
        let mut rows = 0u32;
        gather(&store, &record, &[], 0, &mut |row| {
            rows += 1;
            if rows.is_multiple_of(10_000) {
                most = most.max(resident_mb());
            }
            writer.take(row)
        })
        .expect("gathered");
        let written = writer.end().expect("written").0 / 1_000_000;
        let grown = most.max(resident_mb()).saturating_sub(before);
        println!("{format:?}: {written} MB in {:?}, {grown} MB more resident", begun.elapsed());
        assert!(grown < RESIDENT_MB_MAX, "{format:?}: {grown} MB");
    }
}

async fn furnish(dir: &std::path::Path) -> AccountRecord {
    let (store, _) = Store::open(dir).expect("a store");
    let record = account(store.new_account_id().expect("a number"));
    let writer = store.writer();
    writer.commit(vec![Edit::PutAccount(record.clone())]).await.expect("durable");
    for _ in 0..FOLDERS {
        let id = store.new_folder_id().expect("a number");
        writer.commit(vec![Edit::PutFolder(folder(id, record.id))]).await.expect("durable");
        for begin in (1..=MESSAGES).step_by(BATCH as usize) {
            let put = |uid| Edit::PutKnown(id, Uid::new(uid).expect("not 0"), link(id.0, uid));
            writer.commit_lazily((begin..begin + BATCH).map(put).collect()).await.expect("queued");
        }
    }
    writer.commit(Vec::new()).await.expect("durable");
    record
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0 += octets.len() as u64;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn resident_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096 / 1_000_000
}
