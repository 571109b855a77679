//! The record of completed accounts: the last line of an account counts, a torn one is passed over.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use pecsync::checkpoint::{Completed, CompletedAccount, Phase, Place};

fn account(address: &str, phase: Phase) -> CompletedAccount {
    let place = |host: &str| Place { host: host.into(), user: address.into() };
    CompletedAccount {
        address: address.into(),
        source: place("old.example"),
        target: place("new.example"),
        phase,
        sealed_at: Some(1_770_188_400),
        completed_at: (phase == Phase::Completed).then_some(1_770_192_000),
    }
}

fn open(dir: &Path) -> Arc<Completed> {
    Arc::new(Completed::open(dir).unwrap())
}

fn record(completed: &Arc<Completed>, account: CompletedAccount) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(completed.record(account))
}

fn phase(dir: &Path, address: &str) -> Option<Phase> {
    Completed::open(dir).unwrap().get(address).map(|account| account.phase)
}

#[test]
fn what_was_recorded_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let completed = open(dir.path());
    assert_eq!(completed.get("a@pec.it"), None);
    let [a, b] = [account("a@pec.it", Phase::Archiving), account("b@pec.it", Phase::Closed)];
    let later = account("a@pec.it", Phase::Completed);
    for one in [a, b.clone(), later.clone()] {
        record(&completed, one).unwrap();
    }
    assert_eq!(completed.get("a@pec.it"), Some(later.clone()));
    let again = Completed::open(dir.path()).unwrap();
    assert_eq!(again.get("a@pec.it"), Some(later), "the later line wins");
    assert_eq!(again.get("b@pec.it"), Some(b));
    assert_eq!(again.unreadable_lines(), 0);

    let file = dir.path().join("completed.jsonl");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(file).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert!(text.contains(r#""sealed_at":"2026-02-04T07:00:00Z""#), "{text}");
}

#[test]
fn a_reopened_account_is_no_longer_completed_until_it_is_again() {
    let dir = tempfile::tempdir().unwrap();
    let completed = open(dir.path());
    record(&completed, account("a@pec.it", Phase::Completed)).unwrap();
    completed.reopen("a@pec.it").unwrap();
    completed.reopen("never@pec.it").unwrap();
    assert_eq!(completed.get("a@pec.it"), None);
    assert_eq!(phase(dir.path(), "a@pec.it"), None);
    record(&completed, account("a@pec.it", Phase::Archiving)).unwrap();
    assert_eq!(phase(dir.path(), "a@pec.it"), Some(Phase::Archiving));
}

#[test]
fn a_torn_last_line_is_passed_over_and_written_after() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("completed.jsonl");
    let completed = open(dir.path());
    record(&completed, account("a@pec.it", Phase::Completed)).unwrap();
    let line = fs::read(&file).unwrap();
    record(&completed, account("b@pec.it", Phase::Completed)).unwrap();
    let whole = fs::read(&file).unwrap();
    for length in line.len()..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        let completed = open(dir.path());
        let there = completed.get("b@pec.it").is_some();
        assert_eq!(there, length == whole.len() - 1, "only the line's end is missing: {length}");
        assert_eq!(completed.unreadable_lines(), 0);
        record(&completed, account("c@pec.it", Phase::Closed)).unwrap();
        for address in ["a@pec.it", "c@pec.it"] {
            assert!(phase(dir.path(), address).is_some(), "{address}, cut at {length}");
        }
    }
}

#[test]
fn lines_of_others_are_counted_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("completed.jsonl");
    let completed = open(dir.path());
    record(&completed, account("a@pec.it", Phase::Completed)).unwrap();
    let mut foreign = OpenOptions::new().append(true).open(&file).unwrap();
    foreign.write_all(b"\xff\n{\"schema\":2,\"address\":\"z@pec.it\"}\n").unwrap();
    record(&completed, account("b@pec.it", Phase::Completed)).unwrap();
    let completed = open(dir.path());
    assert_eq!(completed.unreadable_lines(), 2);

    completed.forget("a@pec.it").unwrap();
    record(&completed, account("c@pec.it", Phase::Completed)).unwrap();
    let text = fs::read(&file).unwrap();
    assert!(!String::from_utf8_lossy(&text).contains("a@pec.it"));
    assert_eq!(
        [phase(dir.path(), "a@pec.it"), phase(dir.path(), "b@pec.it")],
        [None, Some(Phase::Completed)]
    );
    assert_eq!(phase(dir.path(), "c@pec.it"), Some(Phase::Completed));
    assert_eq!(Completed::open(dir.path()).unwrap().unreadable_lines(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_that_complete_together_share_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let completed = open(dir.path());
    let mut recording = tokio::task::JoinSet::new();
    for number in 0..1_000 {
        let completed = completed.clone();
        let address = format!("{number}@pec.it");
        recording.spawn(async move {
            let account = account(&address, Phase::Completed);
            completed.record(account).await.unwrap();
            // Durable for whoever opens it from here on.
            assert!(completed.get(&address).is_some());
        });
    }
    while let Some(done) = recording.join_next().await {
        done.unwrap();
    }
    let mut odd = account("a@pec.it", Phase::Following);
    completed.record(odd.clone()).await.unwrap_err();
    odd.phase = Phase::Closed;
    completed.record(odd).await.unwrap();
    let again = Completed::open(dir.path()).unwrap();
    assert_eq!(again.unreadable_lines(), 0);
    assert!((0..1_000).all(|number| again.get(&format!("{number}@pec.it")).is_some()));
    assert!(again.get("a@pec.it").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_forgotten_while_it_is_recorded_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let completed = open(dir.path());
    for _ in 0..100 {
        let recording = completed.clone();
        let task = tokio::spawn(async move {
            let _ = recording.record(account("a@pec.it", Phase::Completed)).await;
        });
        tokio::task::yield_now().await;
        task.abort();
        let _ = task.await;
        completed.forget("a@pec.it").unwrap();
        assert_eq!(phase(dir.path(), "a@pec.it"), None);
    }
}

#[test]
fn only_accounts_past_their_seal_are_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let completed = open(dir.path());
    record(&completed, account("a@pec.it", Phase::Following)).unwrap_err();
    let mut odd = account("a@pec.it", Phase::Completed);
    odd.sealed_at = Some(i64::MAX);
    record(&completed, odd).unwrap_err();
    assert_eq!(phase(dir.path(), "a@pec.it"), None);
}
