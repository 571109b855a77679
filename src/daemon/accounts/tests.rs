//! Accounts with lives that are made up: no server, no store.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::config::*;

pub fn enrollment(address: &str) -> Arc<Enrollment> {
    let endpoint = || Endpoint {
        provider: None,
        host: "imap.example".into(),
        port: 993,
        tls: Tls::Implicit,
        ca_file: None,
        service_login: None,
        well_known: Vec::new(),
    };
    let sync = SyncRules {
        deletions: Deletions::Mirror,
        sweep_interval: Duration::from_secs(300),
        idle: Vec::new(),
        read_back: ReadBack::Off,
        in_doubt_wait: Duration::from_secs(60),
    };
    let migration = Migration {
        name: "epap".into(),
        domains: Vec::new(),
        timezone: "Europe/Rome".into(),
        enroll_from: None,
        enroll_until: None,
        accounts: None,
        cutover: None,
        cutover_window: Duration::ZERO,
        settle: Duration::ZERO,
        source_until: None,
        target_is_ours: false,
        source: endpoint(),
        target: endpoint(),
        folders: FolderRules::default(),
        sync,
        archive: None,
    };
    Arc::new(Enrollment {
        address: address.into(),
        migration: Arc::new(migration),
        cutover: None,
        source_user: address.into(),
        source_password: None,
        source_expires: None,
        target_user: address.into(),
        target_password: None,
        archive: None,
        is_archive: false,
        contact: Contact::default(),
        decree: Decree::default(),
        file: "conf.d/x.toml".into(),
        owners_file: None,
    })
}

fn enrolled(address: &str) -> AccountStatus {
    AccountStatus {
        address: address.into(),
        phase: "enrolled".into(),
        condition: "ok".into(),
        ..AccountStatus::default()
    }
}

fn accept(accounts: &mut Accounts, address: &str) {
    let announcement = Entry::new(Event::EnrollmentAccepted, "").account(address);
    accounts.accept(enrollment(address), enrolled(address), vec![announcement]);
}

/// Accounts whose lives follow their address: `panics@…`, `completes@…`, `closes@…`, `deaf@…`
/// (never looks at its orders), and others that follow until told to stop, counting retries in `messages`.
fn accounts(journal: &Journal, lives: Arc<AtomicUsize>) -> Accounts {
    let live: Live = Box::new(move |enrollment, mut orders, status| {
        lives.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let set_phase = |phase: &str| status.lock().unwrap().phase = phase.to_owned();
            match enrollment.address.split('@').next() {
                Some("panics") => panic!("no such \u{1b}thing"),
                Some("completes") => set_phase("completed"),
                Some("closes") => set_phase("closed"),
                Some("deaf") => std::future::pending().await,
                _ => {
                    set_phase("following");
                    while let Some(Order::Retry) = orders.recv().await {
                        let mut status = status.lock().unwrap();
                        let retries = status.messages.copied.unwrap_or(0);
                        status.messages.copied = Some(retries + 1);
                    }
                }
            }
        })
    });
    Accounts::new(live, journal.clone())
}

fn recorder() -> (Journal, Arc<AtomicUsize>) {
    (Journal::recording(), Arc::default())
}

/// All that was told after the announcements.
fn events(journal: &Journal) -> Vec<(Event, Option<String>)> {
    let told = journal.recorded().into_iter().map(|entry| (entry.event, entry.account));
    told.filter(|(event, _)| *event != Event::EnrollmentAccepted).collect()
}

fn shown_now(accounts: &Accounts) -> Vec<(String, String, String)> {
    let cells = accounts.cells();
    let shown = cells.iter().map(|cell| {
        let status = cell.lock().unwrap_or_else(PoisonError::into_inner);
        (status.address.clone(), status.phase.clone(), status.condition.clone())
    });
    shown.collect()
}

async fn settle(accounts: &mut Accounts) {
    let _ = tokio::time::timeout(Duration::from_millis(100), async {
        loop {
            accounts.next_end().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_panic_holds_one_account_and_a_retry_revives_it() {
    let (journal, lives) = recorder();
    let mut accounts = accounts(&journal, lives.clone());
    for address in ["panics@a", "follows@a"] {
        accept(&mut accounts, address);
    }
    assert!(!accounts.start_some(10));
    settle(&mut accounts).await;
    let expected = [("follows@a", "following", "ok"), ("panics@a", "enrolled", "held")];
    let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(shown_now(&accounts), expected);
    let panicked = Some("panics@a".to_owned());
    let expected =
        [(Event::InternalError, panicked.clone()), (Event::AccountHeld, panicked.clone())];
    assert_eq!(events(&journal), expected);
    let said = journal.recorded().remove(2).message;
    assert_eq!(said, "no such \\x1bthing");

    assert_eq!(accounts.order("panics@a", Order::Retry), Ok(()));
    settle(&mut accounts).await;
    assert_eq!(lives.load(Ordering::SeqCst), 3, "it lived again, and fell again");
    accounts.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn orders_reach_their_account_only() {
    let (journal, lives) = recorder();
    let mut accounts = accounts(&journal, lives);
    for address in ["a@a", "b@a", "completes@a"] {
        accept(&mut accounts, address);
    }
    assert_eq!(accounts.order("a@a", Order::Retry), Ok(()), "it has not even started");
    accounts.start_some(10);
    settle(&mut accounts).await;
    assert_eq!(accounts.order("b@a", Order::Retry), Ok(()));
    assert_eq!(accounts.order("nobody@a", Order::Retry), Err(Untaken::Unknown));
    assert_eq!(accounts.order("completes@a", Order::Retry), Err(Untaken::Over));
    assert_eq!(accounts.retry_all(), 2);
    settle(&mut accounts).await;
    let copied = accounts.cells().into_iter().map(|cell| cell.lock().unwrap().messages.copied);
    let copied: Vec<_> = copied.collect();
    assert_eq!(copied, [Some(1), Some(2), None]);
    accounts.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_removed_account_stops_and_may_come_back_before_it_has() {
    let (journal, lives) = recorder();
    let mut accounts = accounts(&journal, lives.clone());
    accept(&mut accounts, "a@a");
    accounts.start_some(10);
    settle(&mut accounts).await;
    accounts.remove("a@a");
    assert!(accounts.cells().is_empty());
    accept(&mut accounts, "a@a");
    settle(&mut accounts).await;
    assert_eq!((accounts.cells().len(), lives.load(Ordering::SeqCst)), (1, 2));
    accounts.remove("a@a");
    settle(&mut accounts).await;
    assert!(!accounts.contains("a@a"));
}

#[tokio::test]
async fn a_deaf_task_is_aborted_when_its_time_is_up() {
    let (journal, lives) = recorder();
    let mut accounts = accounts(&journal, lives);
    accept(&mut accounts, "deaf@a");
    accounts.start_some(10);
    accounts.remove("deaf@a");
    accounts.abort_overdue(Instant::now());
    settle(&mut accounts).await;
    assert!(accounts.contains("deaf@a"), "its time is not up");
    accounts.abort_overdue(Instant::now() + STOP_WITHIN);
    settle(&mut accounts).await;
    assert!(!accounts.contains("deaf@a"));

    accept(&mut accounts, "deaf@b");
    accounts.start_some(10);
    let begun = Instant::now();
    accounts.stop(Duration::from_millis(200)).await;
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn the_last_account_completes_its_migration_once() {
    let (journal, lives) = recorder();
    let mut accounts = accounts(&journal, lives);
    assert_eq!(accounts.all_over(), None, "no account at all is not the end");
    for address in ["completes@a", "completes@b"] {
        accept(&mut accounts, address);
    }
    accounts.start_some(10);
    settle(&mut accounts).await;
    assert_eq!(accounts.all_over(), Some(vec!["completed".to_owned(); 2]));
    assert_eq!(
        completions(&mut accounts, &journal, Duration::ZERO),
        ["all 2 accounts of epap have completed"]
    );
    assert_eq!(completions(&mut accounts, &journal, REMOVED_FOR).len(), 1, "once");
}

/// Looks so much later whether migrations are over, and gives what was said of them by then, but
/// for the sums.
fn completions(accounts: &mut Accounts, journal: &Journal, later: Duration) -> Vec<String> {
    accounts.tell_completed_migrations(Timestamp::now(), Instant::now() + later, |_| false);
    let told = journal.recorded().into_iter();
    let told = told.filter(|entry| entry.event == Event::MigrationCompleted);
    let without_sums = |text: &str| text.rsplit_once(": ").expect("sums").0.to_owned();
    told.map(|entry| without_sums(&entry.message)).collect()
}

#[tokio::test]
async fn a_migration_is_over_although_accounts_were_closed_or_removed() {
    let (journal, lives) = recorder();
    let mut accounts = accounts(&journal, lives);
    for address in ["completes@a", "closes@a", "follows@a", "follows@b"] {
        accept(&mut accounts, address);
    }
    accounts.start_some(10);
    settle(&mut accounts).await;
    let nothing: [&str; 0] = [];
    assert_eq!(completions(&mut accounts, &journal, REMOVED_FOR), nothing, "two go on");
    accounts.remove("follows@a");
    accounts.remove("follows@b");
    // An editor that deletes a file and writes it anew does not remove anybody.
    assert_eq!(completions(&mut accounts, &journal, Duration::ZERO), nothing, "too soon");
    accept(&mut accounts, "follows@b");
    settle(&mut accounts).await;
    assert_eq!(completions(&mut accounts, &journal, REMOVED_FOR), nothing, "one is back");
    accounts.remove("follows@b");
    accounts.tell_completed_migrations(Timestamp::now(), Instant::now() + REMOVED_FOR, |_| true);
    assert_eq!(
        completions(&mut accounts, &journal, Duration::ZERO),
        nothing,
        "one is held by its file"
    );
    let said = ["all 4 accounts of epap are over: 1 completed, 1 closed, 2 removed"];
    assert_eq!(completions(&mut accounts, &journal, REMOVED_FOR), said);
    settle(&mut accounts).await;
    assert_eq!(completions(&mut accounts, &journal, REMOVED_FOR), said, "once");
    accounts.remove("completes@a");
    assert_eq!(completions(&mut accounts, &journal, REMOVED_FOR), said, "forgotten, not ended");
}

#[tokio::test]
async fn what_was_over_before_and_what_was_never_moved_complete_no_migration() {
    let (journal, lives) = recorder();
    let mut accounts = accounts(&journal, lives);
    for (address, phase) in [("completes@a", "completed"), ("closes@a", "closed")] {
        let status = AccountStatus { phase: phase.into(), ..enrolled(address) };
        accounts.accept(enrollment(address), status, Vec::new());
    }
    accounts.start_some(10);
    settle(&mut accounts).await;
    let nothing: [&str; 0] = [];
    assert_eq!(completions(&mut accounts, &journal, REMOVED_FOR), nothing, "it was told before");
    for address in ["completes@a", "closes@a"] {
        accounts.remove(address);
    }
    accept(&mut accounts, "closes@b");
    accounts.start_some(10);
    settle(&mut accounts).await;
    let said = ["all 3 accounts of epap are over: 1 completed, 2 closed, 0 removed"];
    assert_eq!(completions(&mut accounts, &journal, Duration::ZERO), said, "the removed had ended");

    let (journal, lives) = recorder();
    let mut accounts = self::accounts(&journal, lives);
    accept(&mut accounts, "follows@a");
    accounts.start_some(10);
    settle(&mut accounts).await;
    accounts.remove("follows@a");
    settle(&mut accounts).await;
    assert_eq!(completions(&mut accounts, &journal, REMOVED_FOR), nothing, "nobody was moved");
}
