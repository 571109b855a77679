//! How the checkpoint bears five million links, and how fast durable commits are.
//!
//! `cargo test --release --bench checkpoint -- --nocapture --test-threads 1`

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use pecsync::checkpoint::*;
use pecsync::words::*;

const FOLDERS: u32 = 500;
const UIDS: u32 = 10_000;
const BATCH: u32 = 100;

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
        proof: Proof::Listed,
        suspect: false,
        altered: None,
    })
}

/// Set for the process that opens what another one wrote: its memory is its own.
const OPEN: &str = "PECSYNC_BENCH_OPEN";

#[test]
fn five_million_links() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (store, _) = Store::open(dir.path()).expect("a store");
    for what in ["written", "written again"] {
        let begun = Instant::now();
        runtime.block_on(write_all(&store));
        let rate = f64::from(FOLDERS * UIDS) / begun.elapsed().as_secs_f64();
        println!("{what} in {:?}: {rate:.0} links a second, {}", begun.elapsed(), memory());
        println!("on disk {} MB, blobs {}", size_mb(dir.path()), blobs(dir.path()));
    }
    let begun = Instant::now();
    drop(store);
    println!("closed in {:?}, on disk {} MB", begun.elapsed(), size_mb(dir.path()));
    let octets = size_mb(dir.path()) * 1_000_000 / u64::from(FOLDERS * UIDS);
    println!("{octets} octets a link, its two digests (48) included");
    let program = std::env::current_exe().expect("this program");
    let mut opens = Command::new(program);
    opens.args(["--exact", "opened_by_another_process", "--nocapture"]).env(OPEN, dir.path());
    assert!(opens.status().is_ok_and(|status| status.success()));
}

/// Runs only as the child.
#[test]
fn opened_by_another_process() {
    let Some(dir) = std::env::var_os(OPEN) else { return };
    println!("before: {}", memory());
    let begun = Instant::now();
    let (store, moved_aside) = Store::open(Path::new(&dir)).expect("a store");
    assert_eq!(moved_aside, None);
    println!("opened in {:?}, {}", begun.elapsed(), memory());
    let begun = Instant::now();
    let known = store.known(FolderId(FOLDERS / 2)).expect("a folder");
    assert_eq!(known.len(), UIDS as usize);
    println!("{UIDS} links of a folder read in {:?}", begun.elapsed());
    drop(known);
    let begun = Instant::now();
    let mut count = 0;
    for folder in 1..=FOLDERS {
        store.visit_known(FolderId(folder), |_, _| count += 1).expect("a folder");
    }
    assert_eq!(count, FOLDERS * UIDS);
    println!("all read in {:?}, {}", begun.elapsed(), memory());
}

/// As eight accounts at once do it.
async fn write_all(store: &Store) {
    let mut tasks = tokio::task::JoinSet::new();
    for part in 0..8 {
        let writer = store.writer();
        tasks.spawn(async move {
            for folder in (1..=FOLDERS).filter(|folder| folder % 8 == part) {
                copy(&writer, folder).await;
            }
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.expect("a task that ends");
    }
}

async fn copy(writer: &Writer, folder: u32) {
    let id = FolderId(folder);
    for begin in (1..=UIDS).step_by(BATCH as usize) {
        let put = |uid| Edit::PutKnown(id, Uid::new(uid).expect("not 0"), link(folder, uid));
        writer.commit_lazily((begin..begin + BATCH).map(put).collect()).await.expect("queued");
    }
    writer.commit(Vec::new()).await.expect("durable");
}

#[test]
fn durable_commits() {
    for writers in [1, 16, 256] {
        let dir = tempfile::tempdir().expect("a directory");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (store, _) = Store::open(dir.path()).expect("a store");
        let begun = Instant::now();
        let commits = 4_000;
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for folder in 1..=writers {
                let writer = store.writer();
                tasks.spawn(async move {
                    for uid in 1..=commits / writers {
                        let put = Uid::new(uid)
                            .map(|at| Edit::PutKnown(FolderId(folder), at, link(folder, uid)));
                        writer.commit(put.into_iter().collect()).await.expect("durable");
                    }
                });
            }
            while let Some(joined) = tasks.join_next().await {
                joined.expect("a task that ends");
            }
        });
        let rate = f64::from(commits) / begun.elapsed().as_secs_f64();
        println!("{writers} writers: {rate:.0} durable commits a second");
    }
}

/// Resident now and at most so far.
fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mb = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kb = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        kb.unwrap_or(0) * 1_024 / 1_000_000
    };
    format!("resident {} MB, at most {} MB", mb("VmRSS:"), mb("VmHWM:"))
}

fn size_mb(dir: &Path) -> u64 {
    let files = fs::read_dir(dir.join("checkpoint")).expect("a directory");
    let size = |entry: std::io::Result<fs::DirEntry>| entry.and_then(|entry| entry.metadata());
    files.map(|entry| size(entry).map_or(0, |file| file.len())).sum::<u64>() / 1_000_000
}

fn blobs(dir: &Path) -> usize {
    fs::read_dir(dir.join("checkpoint/blobs")).map_or(0, Iterator::count)
}
