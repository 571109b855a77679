//! A disk without room, and one that cannot be written. Both are file systems of their own, in a
//! process of its own.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pecsync::checkpoint::*;

use crate::world::{Found, commit, edits, flush, look, state};

const CHILD: &str = "PECSYNC_TEST_CHECKPOINT_FULL";
const TIME_MAX: Duration = Duration::from_secs(40);

/// Runs a test of this file again, as a process with mounts of its own, and in an empty directory.
fn in_a_box(child: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let child = Command::new("unshare")
        .args(["--mount", "--"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", child, "--nocapture"])
        .env(CHILD, dir.path())
        .output()
        .expect("unshare runs");
    let [out, err] = [&child.stdout, &child.stderr].map(|text| String::from_utf8_lossy(text));
    println!("{out}{err}");
    assert!(child.status.success() && out.contains("done in a box"));
}

fn mount(options: &str, dir: &Path) {
    let status =
        Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir).status();
    assert!(status.is_ok_and(|status| status.success()), "this test needs root");
}

/// Commits until it fails; the number of the last commit that did not.
fn fill(store: &Store, mut number: u32) -> u32 {
    loop {
        match commit(store, edits(number + 1)) {
            Ok(()) => number += 1,
            Err(error) => {
                println!("after {number} commits: {error}");
                assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
                return number;
            }
        }
        assert!(number < 10_000, "the disk does not fill");
    }
}

/// Runs only as the child.
#[test]
fn child_on_a_full_disk() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    mount("size=6m", dir);
    let (store, _) = Store::open(dir).expect("a store");
    let mut number = 0;
    for (round, room) in ["8m", "12m", "40m"].into_iter().enumerate() {
        number = fill(&store, number);
        let id = store.new_folder_id().ok();
        // It is tried in vain meanwhile.
        let until = Instant::now() + Duration::from_secs(3 * round as u64);
        while Instant::now() < until {
            assert!(flush(&store).is_err(), "there is no room");
            std::thread::sleep(Duration::from_millis(300));
        }
        mount(&format!("remount,size={room}"), dir);
        let begun = Instant::now();
        while let Err(error) = flush(&store) {
            assert!(begun.elapsed() < TIME_MAX, "{error}");
            std::thread::sleep(Duration::from_millis(300));
        }
        println!("it writes again after {:?}", begun.elapsed());
        // The commit that failed may have been whole.
        let now = state(&store).expect("it can be read");
        assert!(now == number || now == number + 1, "{now} after {number} commits");
        number = now;
        assert!(store.new_folder_id().ok() > id, "numbers are not given out twice");
    }
    for _ in 0..10 {
        number += 1;
        commit(&store, edits(number)).expect("there is room");
    }
    drop(store);
    assert_eq!(look(dir), Found::State(number));
    println!("done in a box");
}

#[test]
fn a_full_disk_is_written_again_as_soon_as_there_is_room() {
    in_a_box("full::child_on_a_full_disk");
}

/// Runs only as the child.
#[test]
fn child_started_on_a_full_disk() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    mount("size=6m", dir);
    let (store, _) = Store::open(dir).expect("a store");
    let number = fill(&store, 0);
    drop(store);
    let ballast = std::fs::File::create(dir.join("ballast")).expect("a file");
    while (&ballast).write(&[0; 512]).is_ok_and(|written| written > 0) {}
    for _ in 0..5 {
        match Store::open(dir) {
            Err(OpenError::Failed(text)) => println!("{text}"),
            Err(error) => panic!("{error}"),
            Ok((store, moved_aside)) => {
                assert_eq!(moved_aside, None);
                assert!(state(&store).expect("it can be read") >= number);
                println!("it opens, and commits {:?}", commit(&store, edits(number + 2)));
            }
        }
    }
    mount("remount,size=20m", dir);
    let found = look(dir);
    assert!((number..=number + 1).any(|number| found == Found::State(number)), "{found:?}");
    println!("done in a box");
}

#[test]
fn a_store_that_meets_a_full_disk_at_its_start_is_left_alone() {
    in_a_box("full::child_started_on_a_full_disk");
}

/// Runs only as the child.
#[test]
fn child_on_a_read_only_disk() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    mount("size=20m", dir);
    let (store, _) = Store::open(dir).expect("a store");
    (1..=5).for_each(|number| commit(&store, edits(number)).expect("committed"));
    drop(store);
    mount("remount,ro", dir);
    match Store::open(dir).map(|(_, moved_aside)| moved_aside) {
        Err(OpenError::Failed(text)) => assert!(text.contains("Read-only"), "{text}"),
        other => panic!("{other:?}"),
    }
    mount("remount,rw", dir);
    assert_eq!(look(dir), Found::State(5));
    println!("done in a box");
}

#[test]
fn a_read_only_disk_is_said_and_nothing_is_moved_aside() {
    in_a_box("full::child_on_a_read_only_disk");
}
