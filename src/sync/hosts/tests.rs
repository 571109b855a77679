//! The waiting around the decisions: who is woken, what is given back, what is told.

use std::sync::mpsc;

use tokio::time::{sleep, timeout};

use super::*;
use crate::config::schedule::Schedule;

const LIMITS: HostLimits =
    HostLimits { logins_per_second: 200.0, connections: 2, sweeps_per_second: 100.0 };

fn host(limits: HostLimits) -> (Arc<Host>, mpsc::Receiver<Entry>) {
    let (told, entries) = mpsc::channel();
    let told = Mutex::new(told);
    let tell = move |entry| told.lock().unwrap().send(entry).unwrap_or_default();
    (Host::new("imap.example", limits, Chance::default(), Box::new(tell)), entries)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn waits<T>(future: impl Future<Output = T>) -> bool {
    timeout(millis(60), future).await.is_err()
}

#[tokio::test]
async fn a_place_given_back_goes_to_the_next() {
    let (host, _) = host(LIMITS);
    let first = host.login(false).await;
    let _second = host.login(false).await;
    assert!(waits(host.login(true)).await, "two connections and no more");
    let third = tokio::spawn({
        let host = host.clone();
        async move { host.login(false).await }
    });
    sleep(millis(30)).await;
    assert!(!third.is_finished());
    drop(first);
    let third = timeout(millis(500), third).await.unwrap().unwrap();
    host.set_limits(HostLimits { connections: 3, ..LIMITS });
    let _fourth = timeout(millis(500), host.login(false)).await.unwrap();
    drop(third);
}

#[tokio::test]
async fn logins_and_sweeps_keep_their_pace() {
    let (host, _) = host(HostLimits { connections: 100, ..LIMITS });
    let begun = Instant::now();
    let mut logins = tokio::task::JoinSet::new();
    for _ in 0..21 {
        let host = host.clone();
        logins.spawn(async move { host.login(false).await });
    }
    let places = logins.join_all().await;
    assert!(begun.elapsed() >= millis(100), "{:?}", begun.elapsed());
    assert_eq!(places.len(), 21);
    let begun = Instant::now();
    for _ in 0..11 {
        host.sweep().await;
    }
    assert!(begun.elapsed() >= millis(100), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_cancelled_head_of_the_line_holds_nobody_up() {
    let (host, _) = host(HostLimits { connections: 1, ..LIMITS });
    let place = host.login(false).await;
    let spawn = |urgent| {
        let host = host.clone();
        tokio::spawn(async move { host.login(urgent).await })
    };
    let [head, next] = [spawn(true), spawn(false)];
    sleep(millis(20)).await;
    head.abort();
    assert!(head.await.is_err());
    drop(place);
    timeout(millis(500), next).await.unwrap().unwrap();
    assert!(host.state().wakers.is_empty(), "nobody is left behind");
}

#[tokio::test]
async fn in_an_outage_all_wait_for_one_probe_and_the_journal_is_told_twice() {
    let (host, entries) = host(HostLimits { connections: 100, ..LIMITS });
    host.set_accounts(50);
    host.failed("connection refused");
    host.failed("connection refused");
    let down = entries.try_recv().unwrap();
    assert_eq!((down.event, down.reason.as_deref()), (Event::HostDown, Some("unreachable")));
    assert_eq!(down.host.as_deref(), Some("imap.example"));
    let mut logins = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let host = host.clone();
        logins.spawn(async move { host.login(false).await });
    }
    let figures = host.figures();
    assert_eq!((figures.up, figures.failures.unreachable), (false, 2));
    // The first wait is one to two seconds.
    let probe = timeout(millis(2_500), logins.join_next()).await.unwrap().unwrap().unwrap();
    assert!(waits(logins.join_next()).await, "one at a time");
    let figures = host.figures();
    assert_eq!((figures.connections, figures.connections_max, figures.waiting), (1, 100, 19));
    host.worked();
    drop(probe);
    let rest = timeout(millis(1_000), logins.join_all()).await.unwrap();
    assert_eq!(rest.len(), 19);
    let figures = host.figures();
    assert_eq!((figures.up, figures.connections, figures.waiting), (true, 19, 0));
    let up = entries.try_recv().unwrap();
    assert_eq!(up.event, Event::HostRecovered);
    assert!(up.duration_ms.unwrap() >= 900);
    assert!(entries.try_recv().is_err());
}

#[tokio::test]
async fn held_accounts_hear_that_it_was_the_hosts_fault() {
    let (host, _) = host(LIMITS);
    let pardoned = tokio::spawn({
        let host = host.clone();
        async move { host.pardoned("0").await }
    });
    for account in 0..10 {
        assert_eq!(host.refused(&account.to_string()), Verdict::Account);
    }
    sleep(millis(20)).await;
    assert!(!pardoned.is_finished());
    assert_eq!(host.refused("10"), Verdict::Host);
    timeout(millis(500), pardoned).await.unwrap().unwrap();
    timeout(millis(500), host.pardoned("1")).await.unwrap();
    assert!(waits(host.pardoned("11")).await);
}

#[tokio::test]
async fn a_waiting_login_is_small() {
    let (host, _) = host(LIMITS);
    let size = size_of_val(&host.login(false));
    assert!(size <= 512, "{size} octets in every waiting task");
}

#[test]
fn hosts_that_nobody_names_or_uses_are_forgotten() {
    let limits = Limits {
        accounts_copying: 1,
        memory_bytes: 1,
        schedule: Schedule::none(),
        default: LIMITS,
        hosts: BTreeMap::new(),
    };
    let hosts = Hosts::new(&limits, Journal::recording(), Chance::default());
    let used = hosts.host("used.example");
    hosts.host("Named.example");
    hosts.host("mistyped.example");
    hosts.retain(|name| name == "named.example");
    let names: Vec<String> = hosts.figures().into_iter().map(|host| host.name).collect();
    assert_eq!(names, ["named.example", "used.example"]);
    drop(used);
}
