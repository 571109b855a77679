//! kill -9 in the middle of commits: whatever was acknowledged is there, and no commit is there
//! in part. The test starts itself as the process to be killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pecsync::checkpoint::*;
use pecsync::words::*;

const CHILD: &str = "PECSYNC_TEST_CHECKPOINT";
const ROUNDS: u64 = 20;
const TIME_MAX: Duration = Duration::from_secs(60);

/// Every commit puts the same number under a UID of each folder, in several chunks.
const FOLDERS: [FolderId; 2] = [FolderId(1_000_001), FolderId(1_000_002)];

fn known(number: u32) -> Known {
    let last_try = i64::from(number);
    Known::Refused { by_target: true, text: "x".repeat(40), tries: 1, last_try }
}

fn edits(number: u32) -> Vec<Edit> {
    let uids = [number, number + 10_000_000].map(|uid| Uid::new(uid).unwrap());
    let put = |folder| uids.map(|uid| Edit::PutKnown(folder, uid, known(number)));
    FOLDERS.into_iter().flat_map(put).collect()
}

/// Runs only as the child: commits from four tasks, some lazily, and says what was acknowledged.
#[test]
fn child_commits_until_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let (store, moved_aside) = Store::open(Path::new(&dir)).unwrap();
    assert_eq!(moved_aside, None);
    let next = store.known(FOLDERS[0]).unwrap();
    let next = next.iter().map(|(uid, _)| uid.get() % 10_000_000).max().unwrap_or(0) + 1;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..4 {
            tasks.spawn(commit_for_ever(store.clone(), next + task));
        }
        tasks.join_next().await
    });
}

async fn commit_for_ever(store: Store, begin: u32) {
    let writer = store.writer();
    for number in (begin..).step_by(8) {
        writer.commit_lazily(edits(number + 4)).await.unwrap();
        writer.commit(edits(number)).await.unwrap();
        println!("acknowledged {number} {}", number + 4);
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let mut acknowledged: Vec<u32> = vec![];
    for round in 0..ROUNDS {
        let before = acknowledged.len();
        acknowledged.extend(run_and_kill(dir.path(), Duration::from_millis(20 + 13 * round)));
        assert!(acknowledged.len() > before, "round {round}: nothing was acknowledged");
        check(dir.path(), &acknowledged, round);
        assert!(begun.elapsed() < TIME_MAX, "only {round} rounds in {TIME_MAX:?}");
    }
    println!("{ROUNDS} kills, {} commits in {:?}", acknowledged.len(), begun.elapsed());
}

/// Kills the child so long after its first acknowledgement; returns the numbers it told.
fn run_and_kill(dir: &Path, after: Duration) -> Vec<u32> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_commits_until_killed", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut numbers = vec![];
    let mut kill_at = None;
    // After the kill the pipe still holds what was said before it.
    for line in lines.map_while(Result::ok) {
        // A write to a pipe as short as a line is whole or not there.
        if let Some(told) = line.strip_prefix("acknowledged ") {
            numbers.extend(told.split(' ').map(|number| number.parse::<u32>().unwrap()));
            let at = *kill_at.get_or_insert_with(|| Instant::now() + after);
            if Instant::now() >= at {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    numbers
}

fn check(dir: &Path, acknowledged: &[u32], round: u64) {
    let (store, moved_aside) = Store::open(dir).unwrap();
    assert_eq!(moved_aside, None);
    let [first, second] = FOLDERS.map(|folder| store.known(folder).unwrap());
    assert_eq!(first, second, "round {round}: a commit is there in part");
    let (low, high) = first.split_at(first.len() / 2);
    for ((low, known), (high, same)) in low.iter().zip(high) {
        assert_eq!(low.get() + 10_000_000, high.get(), "round {round}: a commit is there in part");
        assert_eq!(known, same);
    }
    for number in acknowledged {
        let place = low.binary_search_by_key(number, |(uid, _)| uid.get());
        let place = place.unwrap_or_else(|_| panic!("round {round}: {number} is lost"));
        assert_eq!(low[place].1, self::known(*number));
    }
}
