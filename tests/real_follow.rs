//! Following a live account: what its owner and the world do at the source shows at the target,
//! and the cutover by the clock leaves an exact copy.

mod support;

use std::time::Duration;

use support::daemon::{Account, Daemon, Site, rfc3339};
use support::dovecot::Dovecot;
use support::mail;
use support::stage::Stage;

/// A listing that lacks a message is believed after a second one a minute later, unless the
/// server itself said EXPUNGE; with the sweep's time on top.
const GONE_SECONDS: u64 = 100;

#[test]
fn a_live_account_is_mirrored_until_the_cutover() {
    let stage = filled("dal.vivo");
    let cutover = std::time::SystemTime::now() + Duration::from_secs(75);
    let plan = stage.plan().migration(&format!("cutover = \"{}\"", rfc3339(cutover)));
    let site = plan.daemon("exit_when_completed = true").write();
    let mut daemon = follow(&stage, &site);
    let mut owner = stage.at_source();

    stage.plant("INBOX", &mail::pec(10, 3));
    stage.plant("INBOX.Clienti", &mail::odd());
    stage.wait_exact("new mail", 30);

    owner.store("INBOX", "2", "+FLAGS", "\\Flagged $Forwarded");
    owner.store("INBOX", "3", "FLAGS", "");
    owner.store("INBOX.Clienti", "1", "-FLAGS", "\\Seen");
    stage.wait_exact("flags", 30);

    owner.move_messages("INBOX", "4:6", "INBOX.Clienti");
    owner.move_messages("INBOX", "7", "INBOX.Cestino");
    stage.wait_exact("moves", 40);
    // A move is a move at the target, too.
    site.expect_events("message_moved", 4);
    assert!(site.events("message_removed").is_empty(), "nothing was away in between");

    stage.plant("INBOX.Nuova.Dentro", &mail::pec(11, 4));
    stage.wait_exact("a new folder", 40);

    // What the minute before the cutover does not bring over, the pass after it does.
    owner.expunge("INBOX", "8");
    owner.rename("INBOX.Nuova", "INBOX.Rinominata");
    stage.plant("INBOX.Inviata", &mail::pec(12, 2));
    daemon.wait_completed(150);
    stage.assert_exact();
}

#[test]
fn deletions_and_renamed_folders_are_mirrored_while_following() {
    let stage = filled("sparizioni");
    let site = stage.plan().write();
    let _daemon = follow(&stage, &site);
    let mut owner = stage.at_source();
    owner.expunge("INBOX", "1,3,5");
    owner.expunge("INBOX.Clienti", "2");
    owner.rename("INBOX.Clienti", "INBOX.Archivio");
    stage.wait_exact("deletions", GONE_SECONDS);
    site.expect_events("message_removed", 4);
}

#[test]
fn sweeps_find_what_no_idle_tells() {
    let quiet = ["IDLE", "NOTIFY", "CONDSTORE", "QRESYNC", "LIST-STATUS"];
    let source = Dovecot::aruba().without(&quiet);
    let stage = Stage::between(Account::new("senza.idle"), source, Dovecot::legalmail());
    stage.plant("INBOX", &mail::pec(1, 10));
    let site = stage.plan().write();
    let _daemon = follow(&stage, &site);
    let mut owner = stage.at_source();
    stage.plant("INBOX", &mail::pec(2, 3));
    stage.plant("INBOX.Inviata", &mail::pec(3, 3));
    owner.store("INBOX", "1", "+FLAGS", "\\Answered");
    owner.move_messages("INBOX", "2", "INBOX.Cestino");
    stage.wait_exact("changes", 40);
    owner.expunge("INBOX", "3");
    stage.wait_exact("a deletion", GONE_SECONDS);
}

#[test]
fn what_is_told_shows_without_a_sweep() {
    let stage = filled("notifiche");
    let site = stage.plan().sweep_every("30m").write();
    let _daemon = follow(&stage, &site);
    stage.plant("INBOX", &mail::pec(2, 1));
    stage.wait_exact("new mail, by IDLE", 15);
    // Where NOTIFY is offered one connection hears of all folders.
    stage.plant("INBOX.Inviata", &mail::pec(3, 1));
    stage.wait_exact("mail in another folder, by NOTIFY", 15);
    stage.at_source().store("INBOX.Inviata", "1", "+FLAGS", "\\Flagged");
    stage.wait_exact("a flag in another folder, by NOTIFY", 15);
}

#[test]
fn deletions_are_kept_where_configured() {
    let stage = filled("conserva");
    let plan = stage.plan().sync("deletions = \"keep\"");
    let site = plan.folders("exclude = [\"Spam\"]").write();
    let _daemon = follow(&stage, &site);
    let there = stage.target_snapshot().count();
    stage.at_source().expunge("INBOX", "1");
    stage.at_source().move_messages("INBOX", "2", "INBOX.Spam");
    // A mirrored deletion would be believed within this time.
    std::thread::sleep(Duration::from_secs(GONE_SECONDS - 20));
    assert_eq!(stage.target_snapshot().count(), there);
    assert!(site.events("message_removed").is_empty());
}

#[test]
fn what_is_moved_into_an_excluded_folder_goes_and_is_named() {
    let stage = filled("scartata");
    let site = stage.plan().folders("exclude = [\"Spam\"]").write();
    let _daemon = follow(&stage, &site);
    let there = stage.target_snapshot().count();
    stage.at_source().move_messages("INBOX", "2", "INBOX.Spam");
    let removed = site.wait_event("message_removed", GONE_SECONDS);
    let named = (&removed["PECSYNC_FOLDER"], &removed["PECSYNC_SOURCE_UID"]);
    assert_eq!(named, (&"INBOX".into(), &"2".into()), "{removed}");
    let count = stage.at_target().count("INBOX");
    assert_eq!(count, stage.at_source().count("INBOX"));
    assert_eq!(stage.target_snapshot().count(), there - 1);
    assert!(!stage.at_target().list().contains("Spam"));
}

#[test]
fn a_mass_deletion_is_mirrored_only_when_approved() {
    let stage = Stage::new("strage");
    stage.plant("INBOX.Pratiche", &mail::pec(1, 20));
    let site = stage.plan().write();
    let mut daemon = follow(&stage, &site);
    stage.at_source().expunge("INBOX.Pratiche", "1:15");
    let suspended = |account: &serde_json::Value| account["removals"] == "suspended";
    daemon.wait("removals suspended", stage.address(), GONE_SECONDS, suspended);
    assert_eq!(stage.at_target().count("Pratiche"), 20);
    // Copying goes on meanwhile.
    stage.plant("INBOX", &mail::pec(2, 2));
    let arrived = || (stage.at_target().count("INBOX") == 2).then_some(());
    assert!(support::poll(Duration::from_secs(30), arrived).is_some(), "{}", site.log());
    let approval = site.command(&["approve", stage.address(), "deletions"]);
    assert!(approval.status.success(), "{approval:?}");
    stage.wait_exact("approved deletions", GONE_SECONDS);
}

#[test]
fn outages_and_cut_sessions_are_survived() {
    let mut stage = filled("interruzioni");
    let site = stage.plan().write();
    let mut daemon = follow(&stage, &site);
    stage.source.kick(&stage.account.address);
    stage.target.kick(&stage.account.target_user);
    stage.plant("INBOX", &mail::pec(20, 3));
    stage.wait_exact("after a kick", 40);

    stage.source.stop();
    let retrying = |account: &serde_json::Value| account["condition"] == "retrying";
    daemon.wait("retrying", stage.address(), 60, retrying);
    stage.source.restart();
    stage.plant("INBOX", &mail::pec(21, 3));
    stage.wait_exact("after an outage of the source", 90);

    stage.target.stop();
    stage.plant("INBOX.Inviata", &mail::pec(22, 3));
    std::thread::sleep(Duration::from_secs(5));
    stage.target.restart();
    stage.wait_exact("after an outage of the target", 90);
}

/// Mail in INBOX, a folder of the owner's and a well-known one.
fn filled(local_part: &str) -> Stage {
    let stage = Stage::new(local_part);
    stage.plant("INBOX", &mail::pec(1, 20));
    stage.plant("INBOX.Clienti", &mail::pec(2, 10));
    stage.plant("INBOX.Inviata", &mail::pec(3, 5));
    stage
}

/// Starts the daemon, enrolls, and waits until the account is followed exactly.
fn follow<'a>(stage: &Stage, site: &'a Site) -> Daemon<'a> {
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    stage.wait_exact("the first copy", 10);
    daemon
}
