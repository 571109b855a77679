//! How the checkpoint bears five million links, and how fast durable commits are.
//!
//! `cargo test --release --bench checkpoint -- --nocapture --test-threads 1`

use std::fs;
use std::path::Path;
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
        proof: Proof::Listed,
        suspect: false,
        altered: None,
    })
}

#[test]
fn five_million_links() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (store, _) = Store::open(dir.path()).expect("a store");
    let begun = Instant::now();
    runtime.block_on(async {
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
    });
    let rate = f64::from(FOLDERS * UIDS) / begun.elapsed().as_secs_f64();
    println!("written in {:?}: {rate:.0} links a second", begun.elapsed());
    println!("resident {} MB", resident_mb());
    drop(store);
    println!("on disk {} MB, blobs {}", size_mb(dir.path()), blobs(dir.path()));

    let begun = Instant::now();
    let (store, moved_aside) = Store::open(dir.path()).expect("a store");
    assert_eq!(moved_aside, None);
    println!("opened in {:?}, resident {} MB", begun.elapsed(), resident_mb());
    let begun = Instant::now();
    let known = store.known(FolderId(FOLDERS / 2)).expect("a folder");
    assert_eq!(known.len(), UIDS as usize);
    println!("{UIDS} links of a folder read in {:?}", begun.elapsed());
    let begun = Instant::now();
    let mut count = 0;
    for folder in 1..=FOLDERS {
        store.visit_known(FolderId(folder), |_, _| count += 1).expect("a folder");
    }
    assert_eq!(count, FOLDERS * UIDS);
    println!("all read in {:?}, resident {} MB", begun.elapsed(), resident_mb());
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

fn resident_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096 / 1_000_000
}

fn size_mb(dir: &Path) -> u64 {
    let files = fs::read_dir(dir.join("checkpoint")).expect("a directory");
    let size = |entry: std::io::Result<fs::DirEntry>| entry.and_then(|entry| entry.metadata());
    files.map(|entry| size(entry).map_or(0, |file| file.len())).sum::<u64>() / 1_000_000
}

fn blobs(dir: &Path) -> usize {
    fs::read_dir(dir.join("checkpoint/blobs")).map_or(0, Iterator::count)
}
