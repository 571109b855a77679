//! Values that cannot be read: an error for their account, nobody else's, and it can be dropped.

use std::io::ErrorKind;

use super::*;
use crate::checkpoint::{Phase, Place, keys};

fn account(id: u32) -> AccountRecord {
    let place = Place { host: "h".into(), user: "u".into() };
    AccountRecord {
        id: AccountId(id),
        address: format!("{id}@pec.it"),
        migration: "epap".into(),
        enrolled_by: "a.toml".into(),
        source: place.clone(),
        target: place,
        phase: Phase::Following,
        sealed_at: None,
        completed_at: None,
        source_seen_until: None,
        first_copy_completed: true,
        removals_suspended: false,
        refused_credentials: None,
        worked_credentials: None,
    }
}

fn put(folder: FolderId, number: u32) -> Vec<Edit> {
    let known =
        Known::Refused { by_target: true, text: "no".into(), tries: 1, last_try: number.into() };
    vec![Edit::PutKnown(folder, Uid::new(number).unwrap(), known)]
}

fn unreadable<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidData);
}

#[tokio::test]
async fn an_unreadable_account_is_an_error_and_can_be_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let writer = store.writer();
    let both = vec![Edit::PutAccount(account(1)), Edit::PutAccount(account(2))];
    writer.commit(both).await.unwrap();
    store.shared.disk.put(&keys::account(AccountId(1)), vec![99, 1, 2]).unwrap();

    unreadable(store.account("1@pec.it"));
    assert_eq!(store.account("2@pec.it").unwrap(), Some(account(2)));
    assert_eq!(store.accounts().unwrap(), [account(2)]);
    let id = AccountId(1);
    assert_eq!(store.account_id("1@pec.it").unwrap(), Some(id));

    writer.commit(vec![Edit::DropAccount(id)]).await.unwrap();
    assert_eq!(store.account("1@pec.it").unwrap(), None);
    assert_eq!(store.account_id("1@pec.it").unwrap(), None);
}

#[tokio::test]
async fn an_unreadable_chunk_fails_who_needs_it_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let [bad, good] = [FolderId(1), FolderId(2)];
    let [writer, other] = [store.writer(), store.writer()];
    writer.commit(put(bad, 1)).await.unwrap();
    store.shared.disk.put(&keys::known(bad, Uid::new(1).unwrap()), vec![1, 250]).unwrap();

    unreadable(store.known(bad));
    unreadable(store.known_one(bad, Uid::new(5).unwrap()));
    // All three are merged into one batch.
    let (failed, fine) = tokio::join!(
        async {
            let edits = [put(good, 1), put(bad, 2)].concat();
            writer.commit(edits).await
        },
        other.commit(put(good, 2)),
    );
    unreadable(failed);
    fine.unwrap();
    assert_eq!(store.known(good).unwrap().len(), 1, "a request is applied whole or not at all");
    writer.commit(vec![Edit::DropAllKnown(bad)]).await.unwrap();
    writer.commit(put(bad, 3)).await.unwrap();
    assert_eq!(store.known(bad).unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_is_applied_behind_lost_lazy_edits_until_it_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let [bad, good] = [FolderId(1), FolderId(2)];
    let [writer, other] = [store.writer(), store.writer()];
    store.shared.disk.put(&keys::known(bad, Uid::new(1).unwrap()), vec![7]).unwrap();
    writer.commit_lazily(put(bad, 1)).await.unwrap();
    writer.commit_lazily(put(good, 1)).await.unwrap();
    other.commit(put(good, 2)).await.unwrap();
    unreadable(writer.clone().commit(put(good, 3)).await);
    let applied = |store: &Store| -> Vec<_> {
        store.known(good).unwrap().iter().map(|(uid, _)| uid.get()).collect()
    };
    assert_eq!(applied(&store), [2]);
    writer.commit(put(good, 4)).await.unwrap();
    assert_eq!(applied(&store), [2, 4]);
}

#[tokio::test]
async fn a_commit_of_nothing_waits_for_what_was_queued_before_it_and_for_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let folder = FolderId(1);
    let writer = store.writer();
    let commits = || store.shared.disk.get(keys::BATCHES).unwrap();
    let at_first = commits();
    writer.commit(Vec::new()).await.unwrap();
    assert_eq!(commits(), at_first);
    for uid in [1, 2] {
        writer.commit_lazily(put(folder, uid)).await.unwrap();
        // Another handle of it, as the two ends of a relay have.
        writer.clone().commit(Vec::new()).await.unwrap();
        assert_eq!(store.known(folder).unwrap().len(), uid as usize);
    }
    let then = commits();
    writer.commit(Vec::new()).await.unwrap();
    assert_eq!(commits(), then);
    writer.flush().await.unwrap();
    assert_ne!(commits(), then);
}

#[tokio::test]
async fn a_store_of_a_later_pecsync_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = Store::open(dir.path()).unwrap();
        store.shared.disk.put(keys::FORMAT, vec![1, 9]).unwrap();
        store.alive().await.unwrap();
    }
    match Store::open(dir.path()) {
        Err(OpenError::Failed(text)) => assert!(text.contains("another version"), "{text}"),
        other => panic!("{:?}", other.map(|(_, moved_aside)| moved_aside)),
    }
    assert!(
        !std::fs::read_dir(dir.path())
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().contains("unreadable") })
    );
}

#[tokio::test]
async fn links_that_came_back_older_are_noticed_by_who_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let [bad, good] = [FolderId(1), FolderId(2)];
    let writer = store.writer();
    writer.commit(vec![Edit::PutAccount(account(1))]).await.unwrap();
    writer.commit([put(bad, 1), put(bad, 40), put(good, 1)].concat()).await.unwrap();
    let chunk = keys::known(bad, Uid::new(1).unwrap());
    let older = store.shared.disk.get(&chunk).unwrap().unwrap().to_vec();
    writer.commit(put(bad, 2)).await.unwrap();
    for damage in [None, Some(older)] {
        store.shared.disk.apply([(chunk.clone(), damage)].into()).unwrap();
        unreadable(store.known(bad));
        assert_eq!(store.known(good).unwrap().len(), 1);
        // What is written upon it makes it no truer.
        writer.commit(put(bad, 3)).await.unwrap();
        unreadable(store.known(bad));
    }
    // All its links are let go and a new one begins, in one batch.
    writer.commit([vec![Edit::DropAllKnown(bad)], put(bad, 70)].concat()).await.unwrap();
    assert_eq!(store.known(bad).unwrap().len(), 1);
    writer.commit([put(bad, 71), put(bad, 1)].concat()).await.unwrap();
    assert_eq!(store.known(bad).unwrap().len(), 3);
}

#[tokio::test]
async fn a_store_of_which_anything_else_came_back_older_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut older = Vec::new();
    {
        let (store, _) = Store::open(dir.path()).unwrap();
        let disk = store.shared.disk.clone();
        let mut with = account(1);
        store.writer().commit(vec![Edit::PutAccount(with.clone())]).await.unwrap();
        older.extend_from_slice(&disk.get(&keys::account(with.id)).unwrap().unwrap());
        with.phase = Phase::Draining;
        store.writer().commit(vec![Edit::PutAccount(with.clone())]).await.unwrap();
    }
    let (store, moved_aside) = Store::open(dir.path()).unwrap();
    assert_eq!(moved_aside, None);
    store.shared.disk.put(&keys::account(AccountId(1)), older).unwrap();
    store.shared.disk.sync().unwrap();
    drop(store);
    let (store, moved_aside) = Store::open(dir.path()).unwrap();
    assert!(moved_aside.is_some());
    assert_eq!(store.accounts().unwrap(), []);
}
