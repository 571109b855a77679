//! After the cutover: stragglers while it settles, the end of the source, late enrollments.

mod support;

use std::time::{Duration, SystemTime};

use support::daemon::rfc3339;
use support::mail;
use support::stage::Stage;

#[test]
fn stragglers_are_added_while_it_settles_and_nothing_else() {
    let stage = Stage::new("ritardatari");
    stage.plant("INBOX", &mail::pec(1, 8));
    let plan = stage.plan().migration("settle = \"12s\"").cutover_in(Duration::from_secs(4));
    let site = plan.write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    site.wait_event("account_sealed", 40);
    // From here on the target is its owner's: what they do there stays.
    let mut owner = stage.at_target();
    owner.expunge("INBOX", "1");
    owner.store("INBOX", "2", "FLAGS", "\\Flagged");
    let mine = b"Subject: mia\r\n\r\n".as_slice();
    owner.append("INBOX", "", "04-Feb-2024 10:00:00 +0100", mine);
    // At the source: a straggler, and changes that no longer count.
    let mut source = stage.at_source();
    source.store("INBOX", "3", "FLAGS", "\\Answered");
    source.expunge("INBOX", "4");
    stage.plant("INBOX", &mail::pec(2, 1));
    daemon.wait_completed(60);
    assert_eq!(owner.count("INBOX"), 8 - 1 + 1 + 1, "{}", site.log());
    let flags = |number: usize| stage.target_snapshot().folders["INBOX"].messages[number].clone();
    assert!(format!("{:?}", flags(0)).to_lowercase().contains("flagged"), "the owner's flag stays");
    assert!(
        !format!("{:?}", flags(1)).to_lowercase().contains("answered"),
        "the source's flag comes no more"
    );
}

#[test]
fn an_account_that_cannot_complete_in_time_is_closed() {
    let stage = Stage::new("scaduta");
    stage.plant("INBOX", &mail::pec(1, 3));
    let until = rfc3339(SystemTime::now() + Duration::from_secs(12));
    let plan = stage.plan().migration(&format!("source_until = \"{until}\""));
    let site = plan.cutover_in(Duration::from_secs(4)).write();
    stage.target.set_password(&stage.account.target_user, "un'altra");
    let mut daemon = site.start();
    site.enroll(&stage.account);
    let exit = daemon.wait_exit(60);
    assert_eq!(exit.code(), Some(1), "closed is no success");
    assert_eq!(site.events("account_closed").len(), 1, "{}", site.log());
}

#[test]
fn an_enrollment_after_the_cutover_only_adds() {
    let stage = Stage::new("tardiva");
    let mails = mail::pec(1, 6);
    stage.plant("INBOX", &mails);
    let mut owner = stage.at_target();
    owner.append("INBOX", "\\Flagged", &mails[0].date, &mails[0].octets);
    // The cutover is past when the file is dropped.
    let plan = stage.plan().cutover_in(Duration::ZERO);
    let site = plan.write();
    let mut daemon = site.start();
    std::thread::sleep(Duration::from_secs(1));
    site.enroll(&stage.account);
    daemon.wait_completed(60);
    assert_eq!(owner.count("INBOX"), 6, "what was there is adopted: {}", site.log());
    let inbox = &stage.target_snapshot().folders["INBOX"];
    assert!(
        format!("{:?}", inbox.messages[0]).to_lowercase().contains("flagged"),
        "its flags are the owner's"
    );
    assert!(site.events("message_removed").is_empty());
}

#[test]
fn an_archive_waits_and_what_is_moved_there_keeps_its_copy() {
    let stage = Stage::new("archivista");
    stage.plant("INBOX", &mail::pec(1, 6));
    stage.plant("INBOX.Archivio", &mail::pec(2, 2));
    stage.plant("INBOX.Archivio.2024", &mail::pec(3, 5));
    let plan = stage.plan().migration("cutover_window = \"25s\"").sweep_every("2s");
    let plan = plan.folders("after_cutover = [\"Archivio\", \"Archivio/**\"]");
    let site = plan.cutover_in(Duration::from_secs(20)).write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    let following = daemon.wait_following(stage.address());
    let folders = following["folders"].as_array().unwrap();
    let deferred: Vec<&str> = folders
        .iter()
        .filter(|folder| folder["state"] == "deferred")
        .map(|folder| folder["name"].as_str().unwrap())
        .collect();
    assert_eq!(deferred, ["Archivio", "Archivio/2024"]);
    stage.at_source().move_messages("INBOX", "2", "INBOX.Archivio.2024");
    site.wait_event("account_sealed", 60);
    let in_archive = |stage: &Stage| {
        let folders = stage.target_snapshot().folders;
        let archive = folders.iter().filter(|(name, _)| name.contains("Archivio"));
        archive.map(|(_, folder)| folder.messages.len()).sum::<usize>()
    };
    assert_eq!(in_archive(&stage), 1, "only what was moved there: {}", site.log());
    assert_eq!(stage.at_target().count("INBOX"), 5);
    daemon.wait_completed(120);
    stage.assert_exact();
    assert_eq!(in_archive(&stage), 2 + 5 + 1);
    site.expect_events("message_moved", 1);
    assert!(site.events("message_removed").is_empty());
}

#[test]
fn an_operator_cuts_over_reopens_and_cuts_over_again() {
    let stage = Stage::new("riaperta");
    stage.plant("INBOX", &mail::pec(1, 6));
    let site = stage.plan().migration("cutover = \"2198-02-04\"").sweep_every("2s").write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    let phase = |daemon: &mut support::daemon::Daemon, phase: &str| {
        let found = support::poll(Duration::from_secs(60), || {
            let account = daemon.account(stage.address())?;
            (account["phase"] == phase).then_some(())
        });
        assert!(
            found.is_some(),
            "never {phase}: {}",
            site.log().lines().rev().take(25).collect::<Vec<_>>().join("\n")
        );
    };
    site.order(&["cutover", stage.address(), "--now"]);
    phase(&mut daemon, "completed");
    // The old provider still takes mail: it is added, and nothing that the owner did is undone.
    stage.at_target().expunge("INBOX", "1");
    stage.at_source().expunge("INBOX", "2");
    site.order(&["reopen", stage.address()]);
    phase(&mut daemon, "archiving");
    stage.plant("INBOX", &mail::pec(2, 2));
    let added = support::poll(Duration::from_secs(60), || {
        (stage.at_target().count("INBOX") == 7).then_some(())
    });
    assert!(added.is_some(), "6 - 1 + 2: {}", site.log());
    site.expect_events("account_reopened", 1);
    site.order(&["cutover", stage.address(), "--now"]);
    phase(&mut daemon, "completed");
    assert_eq!(stage.at_target().count("INBOX"), 7);
    assert!(site.events("message_removed").is_empty());
    // What has completed again stays so after a restart.
    drop(daemon);
    let mut daemon = site.start();
    phase(&mut daemon, "completed");
}

#[test]
fn a_paused_account_is_left_alone() {
    let stage = Stage::new("in.pausa");
    stage.plant("INBOX", &mail::pec(1, 3));
    let site = stage.plan().sweep_every("1s").write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    assert!(site.command(&["pause", stage.address()]).status.success());
    let paused = support::poll(Duration::from_secs(30), || {
        (daemon.account(stage.address())?["condition"] == "paused").then_some(())
    });
    assert!(paused.is_some(), "{}", site.log());
    stage.plant("INBOX", &mail::pec(2, 2));
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(stage.at_target().count("INBOX"), 3);
    assert!(site.command(&["resume", stage.address()]).status.success());
    stage.wait_exact("after the pause", 60);
}
