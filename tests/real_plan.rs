//! `plan` between real servers: it foresees what the next pass then does, and leaves no trace.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::compare::assert_unchanged;
use support::daemon::Site;
use support::mail;
use support::poll;
use support::stage::Stage;

fn plan(site: &Site, stage: &Stage) -> (Option<i32>, Value) {
    let output = site.command(&["plan", stage.address(), "--json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {said} {output:?}"));
    (output.status.code(), answer["plan"].clone())
}

/// `INBOX: copy 7:8 flag 2`, of folders where something would happen.
fn steps(plan: &Value) -> Vec<String> {
    let folders = plan["folders"].as_array().expect("folders");
    let parts = ["copy", "compare", "copy_again", "flag", "moved_here", "remove", "keep"];
    let of_folder = |folder: &Value| {
        let steps = parts.iter().filter(|part| folder[**part]["messages"] != 0);
        let steps: Vec<String> = steps
            .map(|part| format!("{part} {}", folder[*part]["uids"].as_str().expect("UIDs")))
            .collect();
        (!steps.is_empty())
            .then(|| format!("{}: {}", folder["name"].as_str().expect("a name"), steps.join(" ")))
    };
    folders.iter().filter_map(of_folder).collect()
}

#[test]
fn the_next_pass_does_what_was_foreseen() {
    let stage = Stage::new("prevista");
    stage.plant("INBOX", &mail::pec(1, 6));
    stage.plant("INBOX.Clienti", &mail::pec(2, 3));
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    let (code, planned) = plan(&site, &stage);
    assert_eq!((code, steps(&planned)), (Some(0), vec![]), "{planned:#}");
    assert_eq!(planned["phase"], "following");
    daemon.terminate();

    let mut owner = stage.at_source();
    owner.move_messages("INBOX", "1", "INBOX.Clienti");
    owner.expunge("INBOX", "2");
    owner.store("INBOX", "3", "FLAGS", "\\Flagged");
    stage.plant("INBOX", &mail::pec(3, 2));
    stage.plant("INBOX.Nuova", &mail::pec(4, 1));
    let (source, target) = (stage.source_snapshot(), stage.target_snapshot());
    let (code, planned) = plan(&site, &stage);
    let expected = ["INBOX: copy 7:8 flag 3 remove 2", "Clienti: moved_here 4", "Nuova: copy 1"];
    assert_eq!(
        (code, steps(&planned)),
        (Some(0), expected.map(String::from).into()),
        "{planned:#}"
    );
    let again = plan(&site, &stage);
    assert_eq!((again.0, &again.1), (Some(0), &planned), "nothing was done, nothing was noted");
    assert_unchanged(&source, &stage.source_snapshot());
    assert_unchanged(&target, &stage.target_snapshot());
    let text = site.command(&["plan", stage.address()]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("in all: copy 3 ("), "{text}");

    let _daemon = site.start();
    stage.wait_exact("what was foreseen is done", 120);
    site.expect_events("message_moved", 1);
    site.expect_events("message_removed", 1);
}

#[test]
fn before_anything_is_copied_and_when_nothing_may_be_asked() {
    let stage = Stage::new("attesa");
    stage.plant("INBOX", &mail::pec(1, 3));
    // The target is not empty: what has the size of a message of ours is compared first.
    let mut owner = stage.at_target();
    owner.append("INBOX", "", "04-Feb-2024 10:00:00 +0100", &mail::pec(1, 1)[0].octets);
    let site = stage.plan().migration("enroll_from = \"2198-01-01\"").write();
    let _daemon = site.start();
    site.enroll(&stage.account);
    let known = poll(Duration::from_secs(20), || {
        site.command(&["plan", stage.address()]).status.success().then_some(())
    });
    assert!(known.is_some(), "{}", site.log());
    let (code, planned) = plan(&site, &stage);
    assert_eq!(code, Some(0), "{planned:#}");
    assert_eq!(steps(&planned)[0], "INBOX: copy 2:3 compare 1", "{planned:#}");
    assert!(planned["notes"][0].as_str().unwrap().contains("2197"), "{planned:#}");
    assert_eq!(owner.count("INBOX"), 1);

    let refused = site.command(&["plan", "nessuno@pec.epap.it"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(site.command(&["pause", stage.address()]).status.success());
    let (code, planned) = plan(&site, &stage);
    assert_eq!((code, &planned["error"][0]), (Some(1), &"paused".into()));
}

#[test]
fn a_refused_password_is_not_tried_for_a_plan() {
    let stage = Stage::new("respinta");
    let site = stage.plan().write();
    let mut daemon = site.start();
    let mut account = stage.account.clone();
    account.source_password = "sbagliata".to_owned();
    site.enroll(&account);
    daemon.wait_held(stage.address(), "credentials_rejected");
    let before = stage.source.refusals(stage.address());
    let (code, planned) = plan(&site, &stage);
    assert_eq!((code, &planned["error"][0]), (Some(77), &"credentials_rejected".into()));
    assert_eq!(stage.source.refusals(stage.address()), before, "one try was enough");
}
