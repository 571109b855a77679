//! Scripts: at a second something happens; expected is what is told, and when the next may go.

use super::*;

/// Steps are `SECOND WHAT`: `failed`, `throttled [HINT]`, `refused ACCOUNT`, `worked`,
/// `answered`, `went TICKET`, `ended TICKET`. What is told is joined with `; `, then who may go
/// after the last step. Waits are the longest: jitter 1.
fn check(accounts: usize, script: &str, expected: &str) {
    let mut health = Health::default();
    health.set_accounts(accounts);
    let mut told = Vec::new();
    let mut now = Duration::ZERO;
    for step in script.split(", ") {
        let words: Vec<_> = step.split(' ').collect();
        now = Duration::from_secs(words[0].parse().unwrap());
        let at = At { now, jitter: 1.0, in_window: false };
        let number = || words[2].parse().unwrap();
        let notices = match words[1] {
            "failed" => health.failed(at, "connection refused").1,
            "throttled" => {
                let hint = words.get(2).map(|secs| Duration::from_secs(secs.parse().unwrap()));
                health.throttled(at, hint).1
            }
            "refused" => {
                let (verdict, notices) = health.refused(at, words[2]);
                if verdict == Verdict::Account {
                    told.push(format!("hold {}", words[2]));
                }
                notices
            }
            "worked" => health.worked(now),
            "answered" => health.answered(now),
            "went" => {
                assert_eq!(health.leave(now), Leave::Granted, "{script}: {step}");
                health.went(number());
                vec![]
            }
            "ended" => {
                health.ended(number(), now);
                vec![]
            }
            other => panic!("{other}"),
        };
        told.extend(notices.into_iter().map(|notice| match notice {
            Notice::Down { reason, .. } => format!("down {reason}"),
            Notice::Recovered { lasted } => format!("recovered after {}", lasted.as_secs()),
        }));
    }
    let leave = match health.leave(now) {
        Leave::Granted => "go".into(),
        Leave::NotBefore(when) => format!("not before {}", when.as_secs()),
        Leave::AfterProbe => "after the probe".into(),
    };
    told.push(leave);
    assert_eq!(told.join("; "), expected, "{accounts} accounts: {script}");
}

#[test]
fn an_outage_is_one_event_once_it_is_the_hosts() {
    // One connection's trouble holds nobody else up.
    check(5, "0 failed", "go");
    check(5, "0 failed, 3 worked, 9 failed", "go");
    check(5, "0 failed, 1 failed", "down unreachable; not before 2");
    check(1, "0 failed", "down unreachable; not before 2");
    check(0, "0 failed", "down unreachable; not before 2");
    // A thousand connections that are cut at once double nothing.
    check(9, "0 failed, 0 failed, 0 failed, 1 failed, 1 failed", "down unreachable; not before 2");
    check(
        9,
        "0 failed, 1 failed, 60 worked, 61 failed",
        "down unreachable; recovered after 60; go",
    );
    check(9, "0 failed, 1 failed, 5 answered", "down unreachable; recovered after 5; go");
}

#[test]
fn one_probe_at_a_time_goes_out_and_the_wait_doubles_with_each() {
    let down = "0 failed, 1 failed";
    check(9, &format!("{down}, 2 went 1"), "down unreachable; after the probe");
    check(9, &format!("{down}, 2 went 1, 2 failed"), "down unreachable; after the probe");
    check(9, &format!("{down}, 2 went 1, 2 failed, 2 ended 1"), "down unreachable; not before 6");
    // The other way round: its place was given back before it told.
    check(9, &format!("{down}, 2 went 1, 2 ended 1, 2 failed"), "down unreachable; not before 6");
    let second = "2 went 1, 2 failed, 2 ended 1, 6 went 2, 6 failed, 6 ended 2";
    check(9, &format!("{down}, {second}"), "down unreachable; not before 14");
    // A late echo is not the probe's.
    check(9, &format!("{down}, {second}, 7 failed"), "down unreachable; not before 14");
    check(9, &format!("{down}, 2 went 1, 3 worked"), "down unreachable; recovered after 3; go");
    // A probe that was cancelled makes room for the next one, not at once.
    check(9, &format!("{down}, 2 went 1, 3 ended 1"), "down unreachable; not before 4");
    check(9, &format!("{down}, 2 went 1, 3 ended 7"), "down unreachable; after the probe");
}

#[test]
fn a_host_that_asks_for_less_is_obeyed_by_all() {
    check(9, "0 throttled", "not before 2");
    check(9, "0 throttled 60", "not before 66");
    check(9, "0 throttled 9999", "not before 600");
    // Connections that were already on their way.
    check(9, "0 throttled, 1 throttled 60", "not before 61");
    check(9, "0 throttled 60, 66 went 1, 67 worked", "go");
    // Waiting did not help.
    check(9, "0 throttled, 2 went 1, 3 throttled, 3 ended 1", "down throttled; not before 7");
    check(
        9,
        "0 throttled, 2 went 1, 3 throttled, 3 ended 1, 7 went 2, 8 worked",
        "down throttled; recovered after 8; go",
    );
    // It speaks again, if only to ask for less.
    check(
        9,
        "0 failed, 0 failed, 2 went 1, 3 throttled, 3 ended 1",
        "down unreachable; recovered after 3; not before 5",
    );
    // A connection that stands is no login.
    check(9, "0 throttled, 1 answered", "not before 2");
}

fn refusals(count: usize, begin: u64, every: u64) -> String {
    let one = |n: usize| format!("{} refused {n}", begin + n as u64 * every);
    (0..count).map(one).collect::<Vec<_>>().join(", ")
}

fn held(count: usize) -> String {
    (0..count).map(|n| format!("hold {n}")).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_refusal_is_the_users_if_it_stands_alone() {
    check(100, &refusals(10, 0, 1), &format!("{}; go", held(10)));
    check(
        100,
        &refusals(11, 0, 1),
        &format!("{}; down logins_refused_by_host; not before 12", held(10)),
    );
    // Over more than ten minutes.
    check(100, &refusals(20, 0, 60), &format!("{}; go", held(20)));
    // The same account again is one account.
    let same = ["0 refused a"; 30].join(", ");
    check(100, &same, &format!("{}; go", ["hold a"; 30].join("; ")));
    // 2 % of 1,000 are 20.
    check(1_000, &refusals(20, 0, 1), &format!("{}; go", held(20)));
    check(
        1_000,
        &refusals(21, 0, 1),
        &format!("{}; down logins_refused_by_host; not before 22", held(20)),
    );
}

#[test]
fn a_host_that_refuses_all_is_probed_until_it_takes_one() {
    let down = refusals(11, 0, 0);
    let told = format!("{}; down logins_refused_by_host", held(10));
    // Nobody is held any more, long after the window too.
    let probe = "2 went 1, 3 refused x, 3 ended 1";
    check(50, &format!("{down}, {probe}"), &format!("{told}; not before 7"));
    check(50, &format!("{down}, 5000 refused x"), &format!("{told}; not before 5004"));
    // A connection that stands is no login.
    check(50, &format!("{down}, 2 went 1, 3 answered"), &format!("{told}; after the probe"));
    check(
        50,
        &format!("{down}, {probe}, 7 went 2, 8 worked, 9 refused y"),
        &format!("{told}; recovered after 8; hold y; go"),
    );
}

#[test]
fn who_was_held_before_the_host_was_found_at_fault_is_pardoned_once() {
    let mut health = Health::default();
    health.set_accounts(50);
    let at = At { now: Duration::ZERO, jitter: 1.0, in_window: false };
    for account in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        assert_eq!(health.refused(at, account).0, Verdict::Account);
        assert!(!health.take_pardon(account));
    }
    assert_eq!(health.refused(at, "k").0, Verdict::Host);
    assert!(!health.take_pardon("k"), "it was not held");
    assert!(health.take_pardon("a"));
    assert!(!health.take_pardon("a"));
    health.worked(at.now);
    assert_eq!(health.refused(at, "b").0, Verdict::Account);
    assert!(!health.take_pardon("b"), "a refusal since then stands");
    assert!(health.take_pardon("c"));
}

#[test]
fn in_a_cutover_window_nobody_waits_longer_than_two_minutes() {
    let mut health = Health::default();
    let mut now = Duration::ZERO;
    for ticket in 0..20 {
        let at = At { now, jitter: 1.0, in_window: true };
        let (wait, _) = health.failed(at, "timed out");
        assert!(wait <= Duration::from_secs(120));
        now += wait;
        health.went(ticket);
    }
    let at = At { now, jitter: 1.0, in_window: true };
    assert_eq!(health.failed(at, "timed out").0, Duration::from_secs(120));
}
