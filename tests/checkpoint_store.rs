//! The checkpoint store: what is put is read back, dropped with its owner, and survives closing.

use std::time::Duration;

use pecsync::checkpoint::*;
use pecsync::words::*;

fn uid(number: u32) -> Uid {
    Uid::new(number).unwrap()
}

fn link(number: u32) -> Link {
    Link {
        target_uid: Uid::new(number),
        origin: Origin::Copied,
        size: u64::from(number) * 1_000,
        instant: InternalDate(1_760_000_000 + i64::from(number)),
        header: HeaderDigest([number as u8; 16]),
        sha256: Sha256([number as u8; 32]),
        flags: Flags::of_names(["\\Seen", "$Forwarded"]),
        unsure: None,
        proof: Proof::Listed,
        suspect: true,
        altered: None,
    }
}

fn linked(number: u32) -> Known {
    Known::Linked(link(number))
}

fn account(id: AccountId, address: &str) -> AccountRecord {
    let place = |user: &str| Place { host: "imap.example".into(), user: user.into() };
    AccountRecord {
        id,
        address: address.into(),
        migration: "epap".into(),
        enrolled_by: "conf.d/a.toml".into(),
        source: place(address),
        target: place("M1"),
        phase: Phase::Copying,
        sealed_at: None,
        completed_at: None,
        source_seen_until: Some(5),
        first_copy_completed: false,
        removals_suspended: false,
        refused_credentials: None,
        worked_credentials: Some([3; 16]),
    }
}

fn folder(id: FolderId, account: AccountId) -> FolderRecord {
    FolderRecord {
        id,
        account,
        source_name: b"INBOX"[..].into(),
        target_name: b"INBOX"[..].into(),
        source_shown: "INBOX".to_owned(),
        target_shown: "INBOX".to_owned(),
        exempt: false,
        source_seen: None,
        target_seen: Some(Seen::default()),
        first_copy_completed: false,
        compared_at: 0,
    }
}

fn intent(id: IntentId, folder: FolderId) -> Intent {
    Intent {
        id,
        folder,
        source_uid_validity: UidValidity(1),
        target_uid_validity: UidValidity(2),
        target_uid_next: 3,
        written_at: 4,
        repeated: false,
        messages: vec![],
    }
}

/// An account with two folders, each with links over several chunks, an orphan and an intent.
async fn furnish(store: &Store, address: &str) -> (AccountId, [FolderId; 2], Vec<IntentId>) {
    let id = store.new_account_id().unwrap();
    let mut edits = vec![Edit::PutAccount(account(id, address))];
    let folders = [store.new_folder_id().unwrap(), store.new_folder_id().unwrap()];
    let mut intents = vec![];
    for one in folders {
        edits.push(Edit::PutFolder(folder(one, id)));
        edits.extend((1..=200).map(|n| Edit::PutKnown(one, uid(n), linked(n))));
        let orphan = Orphan { target_uid: uid(900), link: link(900) };
        edits.push(Edit::PutOrphan(one, orphan));
        let number = store.new_intent_id().unwrap();
        edits.push(Edit::PutIntent(intent(number, one)));
        intents.push(number);
    }
    store.writer().commit(edits).await.unwrap();
    (id, folders, intents)
}

fn contents(store: &Store, account: AccountId, folder: FolderId) -> [usize; 4] {
    [
        store.folders(account).unwrap().iter().filter(|record| record.id == folder).count(),
        store.known(folder).unwrap().len(),
        store.orphans(folder).unwrap().len(),
        store.intents(folder).unwrap().len(),
    ]
}

#[tokio::test]
async fn what_was_committed_is_read_at_once_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let check = |store: &Store, id, [first, second]: [FolderId; 2]| {
        assert_eq!(store.account("a@pec.it").unwrap(), Some(account(id, "a@pec.it")));
        assert_eq!(store.accounts().unwrap(), [account(id, "a@pec.it")]);
        assert_eq!(store.folders(id).unwrap(), [folder(first, id), folder(second, id)]);
        let known: Vec<_> = (1..=200).map(|n| (uid(n), linked(n))).collect();
        assert_eq!(store.known(first).unwrap(), known);
        assert_eq!(store.known_one(second, uid(64)).unwrap(), Some(linked(64)));
        assert_eq!(store.known_one(second, uid(201)).unwrap(), None);
        assert_eq!(store.orphans(first).unwrap()[0].link, link(900));
        assert_eq!(store.intents(second).unwrap().len(), 1);
    };
    let (id, folders) = {
        let (store, moved_aside) = Store::open(dir.path()).unwrap();
        assert_eq!(moved_aside, None);
        let (id, folders, _) = furnish(&store, "a@pec.it").await;
        check(&store, id, folders);
        (id, folders)
    };
    let (store, moved_aside) = Store::open(dir.path()).unwrap();
    assert_eq!(moved_aside, None);
    check(&store, id, folders);
}

#[tokio::test]
async fn uids_at_the_borders_of_chunks_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let folder = store.new_folder_id().unwrap();
    let numbers =
        [1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 65_535, 65_536, u32::MAX - 1, u32::MAX];
    let put = |n: &u32| Edit::PutKnown(folder, uid(*n), linked(*n));
    store.writer().commit(numbers.iter().rev().map(put).collect()).await.unwrap();
    let expected: Vec<_> = numbers.iter().map(|n| (uid(*n), linked(*n))).collect();
    assert_eq!(store.known(folder).unwrap(), expected);

    let drops = [63, 64, u32::MAX].map(|n| Edit::DropKnown(folder, uid(n)));
    store.writer().commit(drops.into()).await.unwrap();
    let left: Vec<_> = store.known(folder).unwrap().into_iter().map(|(uid, _)| uid.get()).collect();
    assert_eq!(left, [1, 31, 32, 33, 65, 255, 256, 257, 65_535, 65_536, u32::MAX - 1]);
    assert_eq!(store.known_one(folder, uid(63)).unwrap(), None);
}

#[tokio::test]
async fn dropping_takes_what_belongs_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let (a, [a1, a2], intents) = furnish(&store, "a@pec.it").await;
    let (b, [b1, b2], _) = furnish(&store, "b@pec.it").await;
    let writer = store.writer();
    let all = [1, 200, 1, 1];

    writer.commit(vec![Edit::DropAllKnown(a1)]).await.unwrap();
    assert_eq!(contents(&store, a, a1), [1, 0, 1, 1]);
    writer.commit(vec![Edit::DropIntent(intents[0])]).await.unwrap();
    assert_eq!(contents(&store, a, a1), [1, 0, 1, 0]);
    writer.commit(vec![Edit::DropOrphan(a1, uid(900))]).await.unwrap();
    assert_eq!(contents(&store, a, a1), [1, 0, 0, 0]);
    assert_eq!(contents(&store, a, a2), all);

    writer.commit(vec![Edit::DropFolder(a2)]).await.unwrap();
    assert_eq!(contents(&store, a, a2), [0; 4]);
    assert_eq!(contents(&store, a, a1), [1, 0, 0, 0]);

    writer.commit(vec![Edit::DropAccount(b)]).await.unwrap();
    assert_eq!([contents(&store, b, b1), contents(&store, b, b2)], [[0; 4]; 2]);
    assert_eq!(store.account("b@pec.it").unwrap(), None);
    assert_eq!(store.accounts().unwrap().len(), 1);
    assert_eq!(store.account("a@pec.it").unwrap().unwrap().id, a);
}

#[tokio::test]
async fn edits_of_one_commit_see_those_before_them() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let account_id = store.new_account_id().unwrap();
    let [kept, dropped] = [store.new_folder_id().unwrap(), store.new_folder_id().unwrap()];
    let number = store.new_intent_id().unwrap();
    let edits = vec![
        Edit::PutAccount(account(account_id, "a@pec.it")),
        Edit::PutFolder(folder(dropped, account_id)),
        Edit::PutKnown(dropped, uid(1), linked(1)),
        Edit::PutIntent(intent(number, dropped)),
        Edit::PutKnown(kept, uid(7), linked(7)),
        Edit::DropFolder(dropped),
        Edit::PutKnown(kept, uid(8), linked(8)),
        Edit::DropKnown(kept, uid(7)),
        Edit::DropAllKnown(kept),
        Edit::PutKnown(kept, uid(9), linked(9)),
        Edit::PutAccount(account(account_id, "b@pec.it")),
    ];
    store.writer().commit(edits).await.unwrap();
    assert_eq!(contents(&store, account_id, dropped), [0; 4]);
    assert_eq!(store.known(kept).unwrap(), [(uid(9), linked(9))]);
    assert_eq!(store.account("a@pec.it").unwrap(), None, "its address changed");
    assert_eq!(store.account("b@pec.it").unwrap().unwrap().id, account_id);
}

#[tokio::test]
async fn a_copy_is_proved_only_while_it_is_the_one_that_was_compared() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let folder = store.new_folder_id().unwrap();
    let digest = |n: u32| link(n).sha256;
    let edits = vec![
        Edit::PutKnown(folder, uid(1), linked(1)),
        Edit::PutKnown(folder, uid(2), linked(2)),
        Edit::PutKnown(folder, uid(3), linked(3)),
        Edit::Prove(folder, uid(1), uid(1), digest(1)),
        Edit::Prove(folder, uid(2), uid(7), digest(2)),
        Edit::Prove(folder, uid(3), uid(3), digest(9)),
        Edit::Prove(folder, uid(4), uid(4), digest(4)),
    ];
    store.writer().commit(edits).await.unwrap();
    let proved = Known::Linked(Link { proof: Proof::Verified, ..link(1) });
    let expected = [(uid(1), proved.clone()), (uid(2), linked(2)), (uid(3), linked(3))];
    assert_eq!(store.known(folder).unwrap(), expected);

    // Who read the link before it was proved writes it back, and then pairs it with another copy.
    store.writer().commit(vec![Edit::PutKnown(folder, uid(1), linked(1))]).await.unwrap();
    assert_eq!(store.known_one(folder, uid(1)).unwrap(), Some(proved));
    let other = Known::Linked(Link { target_uid: Some(uid(9)), ..link(1) });
    store.writer().commit(vec![Edit::PutKnown(folder, uid(1), other.clone())]).await.unwrap();
    assert_eq!(store.known_one(folder, uid(1)).unwrap(), Some(other));
}

#[tokio::test]
async fn an_address_that_passed_on_is_not_dropped_with_its_first_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let [old, new] = [store.new_account_id().unwrap(), store.new_account_id().unwrap()];
    let put = |id| Edit::PutAccount(account(id, "a@pec.it"));
    store.writer().commit(vec![put(old), put(new), Edit::DropAccount(old)]).await.unwrap();
    assert_eq!(store.account("a@pec.it").unwrap().unwrap().id, new);
}

#[tokio::test]
async fn lazy_edits_come_before_the_next_commit_and_within_a_quarter_of_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let folder = store.new_folder_id().unwrap();
    let put = |n| vec![Edit::PutKnown(folder, uid(n), linked(n))];
    let writer = store.writer();
    writer.commit_lazily(put(1)).await.unwrap();
    writer.commit_lazily(vec![Edit::DropAllKnown(folder)]).await.unwrap();
    writer.commit_lazily(put(2)).await.unwrap();
    writer.commit(put(3)).await.unwrap();
    assert_eq!(store.known(folder).unwrap(), [(uid(2), linked(2)), (uid(3), linked(3))]);

    writer.commit_lazily(put(4)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(store.known_one(folder, uid(4)).unwrap(), Some(linked(4)));
}

#[tokio::test]
async fn lazy_edits_are_there_after_closing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let folder = store.new_folder_id().unwrap();
    store.writer().commit_lazily(vec![Edit::PutKnown(folder, uid(1), linked(1))]).await.unwrap();
    drop(store);
    let (store, _) = Store::open(dir.path()).unwrap();
    assert_eq!(store.known(folder).unwrap().len(), 1);
}

#[test]
fn numbers_are_never_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut folders = vec![];
    let mut accounts = vec![];
    let mut intents = vec![];
    for _ in 0..4 {
        let (store, _) = Store::open(dir.path()).unwrap();
        folders.extend((0..300).map(|_| store.new_folder_id().unwrap()));
        accounts.extend((0..70).map(|_| store.new_account_id().unwrap()));
        intents.extend((0..5_000).map(|_| store.new_intent_id().unwrap()));
    }
    assert!(folders.is_sorted_by(|before, after| before < after));
    assert!(accounts.is_sorted_by(|before, after| before < after));
    assert!(intents.is_sorted_by(|before, after| before < after), "ascending, as promised");
    assert!(accounts[0] > AccountId(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_are_merged_and_all_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let store = store.clone();
        tasks.spawn(async move {
            let folder = store.new_folder_id().unwrap();
            let writer = store.writer();
            for n in 1..=20 {
                writer.commit(vec![Edit::PutKnown(folder, uid(n), linked(n))]).await.unwrap();
                assert_eq!(store.known(folder).unwrap().len(), n as usize);
            }
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.unwrap();
    }
    store.alive().await.unwrap();
}
