//! Opening: one daemon a state directory, damage moved aside, nothing for others to read, and
//! writes that fail without taking the process along.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pecsync::checkpoint::*;
use pecsync::words::*;

const CHILD: &str = "PECSYNC_TEST_CHECKPOINT_OPENING";
const FOLDER: FolderId = FolderId(1);

fn known(number: u32) -> Known {
    let last_try = i64::from(number);
    Known::Refused { by_target: false, text: "x".repeat(50), tries: 1, last_try }
}

fn put(number: u32) -> Edit {
    Edit::PutKnown(FOLDER, Uid::new(number).unwrap(), known(number))
}

fn account(id: AccountId) -> AccountRecord {
    let place = Place { host: "h".into(), user: "u".into() };
    AccountRecord {
        id,
        address: format!("{}@pec.it", id.0),
        migration: String::new(),
        enrolled_by: String::new(),
        source: place.clone(),
        target: place,
        phase: Phase::Enrolled,
        sealed_at: None,
        completed_at: None,
        source_seen_until: None,
        first_copy_completed: false,
        removals_suspended: false,
        refused_credentials: None,
        worked_credentials: None,
    }
}

/// A store with 50 accounts and 20,000 UIDs of a folder, closed.
fn furnished() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for half in [1..=10_000, 10_001..=20_000] {
        let (store, moved_aside) = Store::open(dir.path()).unwrap();
        assert_eq!(moved_aside, None);
        let accounts = (1..=50).map(|id| Edit::PutAccount(account(AccountId(id))));
        block_on(store.writer().commit(accounts.chain(half.map(put)).collect())).unwrap();
    }
    dir
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn assert_whole(store: &Store) {
    let expected = (1..=20_000).map(|number| (Uid::new(number).unwrap(), known(number)));
    assert!(store.known(FOLDER).unwrap().into_iter().eq(expected));
    assert_eq!(store.accounts().unwrap().len(), 50);
}

fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("checkpoint")).unwrap().map(|entry| entry.unwrap().path());
    let is_snapshot =
        |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("snap.");
    entries.filter(is_snapshot).collect()
}

#[test]
fn a_truncated_snapshot_costs_nothing() {
    for length in [0, 5, 100] {
        let dir = furnished();
        let [snapshot] = &snapshots(dir.path())[..] else { panic!("one snapshot") };
        OpenOptions::new().write(true).open(snapshot).unwrap().set_len(length).unwrap();
        let (store, moved_aside) = Store::open(dir.path()).unwrap();
        assert_eq!(moved_aside, None, "cut to {length}");
        assert_whole(&store);
        drop(store);
        let (store, _) = Store::open(dir.path()).unwrap();
        assert_whole(&store);
    }
}

/// Whatever was done to the files: it opens, the damaged one is kept, and the new one works.
fn check_damage(what: &str, damage: impl Fn(&Path)) {
    let dir = furnished();
    damage(&dir.path().join("checkpoint"));
    let (store, moved_aside) = Store::open(dir.path()).unwrap();
    let read = store.known(FOLDER);
    println!(
        "{what}: moved aside {moved_aside:?}, {} accounts, {:?} UIDs",
        store.accounts().unwrap().len(),
        read.as_ref().map(Vec::len),
    );
    let noticed = moved_aside.is_some() || read.is_err();
    assert!(noticed || read.unwrap().len() == 20_000, "{what}: lost in silence");
    if let Some(aside) = moved_aside {
        assert!(aside.join("db").exists() || what == "no db");
        assert!(aside.starts_with(dir.path()));
        assert_eq!(store.accounts().unwrap(), []);
        block_on(store.writer().commit(vec![put(1)])).unwrap();
        drop(store);
        let (store, moved_aside) = Store::open(dir.path()).unwrap();
        assert_eq!(moved_aside, None, "{what}");
        assert_eq!(store.known(FOLDER).unwrap().len(), 1);
    }
}

fn overwrite(file: &Path, offset: u64, length: usize, octet: u8) {
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&vec![octet; length], offset).unwrap();
}

#[test]
fn damage_is_never_silent_and_never_fatal() {
    check_damage("garbage for a db", |dir| {
        let length = fs::metadata(dir.join("db")).unwrap().len();
        overwrite(&dir.join("db"), 0, length as usize, 0xa5);
    });
    check_damage("an empty db", |dir| fs::write(dir.join("db"), b"").unwrap());
    check_damage("no db", |dir| fs::remove_file(dir.join("db")).unwrap());
    check_damage("half a db", |dir| {
        let db = OpenOptions::new().write(true).open(dir.join("db")).unwrap();
        db.set_len(db.metadata().unwrap().len() / 2).unwrap();
    });
    for part in 0..8 {
        check_damage("a hole", |dir| {
            let length = fs::metadata(dir.join("db")).unwrap().len();
            overwrite(&dir.join("db"), length * part / 8, 4_096, 0x5a);
        });
    }
    check_damage("a wrong conf", |dir| fs::write(dir.join("conf"), b"segment_size: x\n").unwrap());
}

#[test]
fn who_only_reads_neither_makes_a_store_nor_moves_one_aside() {
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open_existing(empty.path()), Err(OpenError::Failed(_))));
    assert_eq!(empty.path().read_dir().unwrap().count(), 0, "nothing was made");

    let dir = furnished();
    assert_eq!(Store::open_existing(dir.path()).unwrap().accounts().unwrap().len(), 50);
    overwrite(&dir.path().join("checkpoint/conf"), 0, 8, 0xff);
    assert!(matches!(Store::open_existing(dir.path()), Err(OpenError::Failed(_))));
    assert!(dir.path().join("checkpoint").is_dir());
    let names = dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    let aside = names.filter(|name| name.to_string_lossy().contains("unreadable")).count();
    assert_eq!(aside, 0);
}

#[test]
fn a_second_daemon_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path()).map(drop);
    let locked = |outcome: Result<(), OpenError>| match outcome {
        Err(OpenError::Locked(at)) => at.starts_with(dir.path().to_str().unwrap()),
        other => panic!("{other:?}"),
    };
    let (store, _) = Store::open(dir.path()).unwrap();
    assert!(locked(open()));
    fs::remove_dir_all(dir.path().join("checkpoint")).unwrap();
    assert!(locked(open()), "though its checkpoint was deleted");
    fs::remove_file(dir.path().join("lock")).unwrap();
    assert!(locked(open()), "though its lock was deleted");
    drop(store);
    open().unwrap();
    let written = fs::read_to_string(dir.path().join("lock")).unwrap();
    assert_eq!(written.trim(), std::process::id().to_string());
}

#[test]
fn commits_to_a_deleted_directory_are_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    block_on(store.writer().commit(vec![put(1)])).unwrap();
    fs::remove_dir_all(dir.path().join("checkpoint")).unwrap();
    block_on(store.writer().commit(vec![put(2)])).unwrap_err();
    block_on(store.alive()).unwrap_err();
}

#[test]
fn nothing_is_for_others_to_read() {
    let outer = tempfile::tempdir().unwrap();
    let state = outer.path().join("new/state");
    let (store, _) = Store::open(&state).unwrap();
    block_on(store.writer().commit((1..5_000).map(put).collect())).unwrap();
    drop(store);
    drop(Store::open(&state).unwrap());
    let mut dirs = vec![state];
    while let Some(dir) = dirs.pop() {
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700, "{dir:?}");
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => dirs.push(entry.path()),
                false => assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o77, 0),
            }
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file");
    fs::write(&file, b"").unwrap();
    match Store::open(&file) {
        Err(OpenError::Failed(text)) => assert!(text.contains("a file"), "{text}"),
        other => panic!("{:?}", other.map(|(_, moved_aside)| moved_aside)),
    }
}

/// Runs only as the child: the kernel refuses to let its files grow past 4 MiB.
#[test]
fn child_meets_a_full_disk() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let (store, _) = Store::open(Path::new(&dir)).unwrap();
    let limit = libc::rlimit { rlim_cur: 4 << 20, rlim_max: 4 << 20 };
    // SAFETY: both take plain values and concern this process alone.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
    block_on(async {
        let [writer, other] = [store.writer(), store.writer()];
        let mut begin = 1;
        let error = loop {
            let edits = (begin..begin + 2_000).map(put).collect();
            let commit = tokio::time::timeout(Duration::from_secs(20), writer.commit(edits));
            match commit.await.expect("an answer") {
                Ok(()) => begin += 2_000,
                Err(error) => break error,
            }
            assert!(begin < 1_000_000, "the limit does not hold");
        };
        println!("after {begin} UIDs: {:?}: {error}", error.kind());
        other.commit_lazily(vec![put(1)]).await.unwrap();
        other.commit(vec![put(1)]).await.unwrap_err();
        store.alive().await.unwrap_err();
        // Reads may fail too: sled writes what it has buffered before it reads.
        let read = store.known(FOLDER).map(|known| known.len());
        println!("read: {read:?}");
    });
    println!("it goes on");
}

#[test]
fn a_failed_write_is_an_error_for_all_and_not_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_meets_a_full_disk", "--nocapture"])
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let [out, err] = [&child.stdout, &child.stderr].map(|text| String::from_utf8_lossy(text));
    println!("{out}{err}");
    assert!(child.status.success() && out.contains("it goes on"));
    let (store, moved_aside) = Store::open(dir.path()).unwrap();
    assert_eq!(moved_aside, None);
    assert!(store.known(FOLDER).unwrap().len() >= 2_000, "what was acknowledged is there");
}
