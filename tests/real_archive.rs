//! An archive in a second store, with a login of its own: copied after the seal, never mixed up
//! with the account's own folders, and nobody's obstacle before it.

mod support;

use std::process::Output;
use std::time::Duration;

use support::compare::{Snapshot, assert_unchanged, differences};
use support::daemon::{Account, Plan, Site};
use support::dovecot::Dovecot;
use support::mail::{self, Mail};
use support::poll;
use support::server::Server;
use support::stage::Stage;

const ARCHIVE: &str = "archivio.di.mario";
const PASSWORD: &str = "segreto-d-archivio";

/// The usual scene, with a second user at the source who has the archive.
fn stage(local_part: &str) -> Stage {
    let source = Dovecot::aruba().user(ARCHIVE, PASSWORD);
    Stage::between(Account::new(local_part), source, Dovecot::legalmail())
}

fn plan(stage: &Stage) -> Plan {
    let archive = format!("[migration.prova.source.archive]\n{}", stage.source.endpoint());
    let plan = stage.plan().source(&archive).sweep_every("1s");
    plan.folders("after_cutover = [\"Archivio\", \"Archivio/**\"]")
}

fn enroll(site: &Site, account: &Account, password: &str) {
    for secret in [PASSWORD, password, &account.source_password, &account.target_password] {
        site.keep_out_of_logs(secret);
    }
    let login = format!("[source.archive]\nuser = \"{ARCHIVE}\"\npassword = \"{password}\"\n");
    let text = account.enrollment().replace("[target]", &format!("{login}[target]"));
    site.drop_file("mario.toml", &text);
}

fn plant(stage: &Stage, folder: &str, mails: &[Mail]) {
    let mut imap = stage.source.imap(ARCHIVE);
    imap.create(folder);
    for mail in mails {
        imap.append(folder, &mail.flags, &mail.date, &mail.octets);
    }
}

fn archive(stage: &Stage) -> Snapshot {
    Snapshot::of(&stage.source, ARCHIVE)
}

/// How the target differs from the account's own folders and its archive's together.
fn found(stage: &Stage) -> Vec<String> {
    let mut both = stage.source_snapshot();
    let archive = archive(stage).folders.into_iter();
    for (name, folder) in archive.filter(|(name, _)| name.contains("Archivio")) {
        match both.folders.get_mut(&name) {
            Some(own) => own.messages.extend(folder.messages),
            None => drop(both.folders.insert(name, folder)),
        }
    }
    differences(&both, &stage.target_snapshot(), |name| stage.target_name(name))
}

fn succeeds(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{complained}");
}

#[test]
fn it_comes_after_the_seal_and_is_never_mixed_up() {
    let stage = stage("archivista");
    stage.plant("INBOX", &mail::pec(1, 4));
    // The same name, the same UIDs, other messages; and one that both have.
    let (own, other) = (mail::pec(2, 3), mail::pec(3, 4));
    stage.plant("INBOX.Archivio", &own);
    plant(&stage, "INBOX.Archivio", &other);
    plant(&stage, "INBOX.Archivio", &own[..1]);
    plant(&stage, "INBOX.Archivio.2024", &mail::pec(4, 5));
    let before = (stage.source_snapshot(), archive(&stage));
    let plan = plan(&stage).migration("cutover_window = \"6s\"");
    let site = plan.cutover_in(Duration::from_secs(8)).write();
    let mut daemon = site.start();
    enroll(&site, &stage.account, PASSWORD);
    site.wait_event("account_sealed", 120);
    assert_eq!(stage.source.logins(ARCHIVE), 1, "until then only its password is tried");
    // What dies while it copies goes on where it stood.
    let begun = poll(Duration::from_secs(60), || {
        let there = stage.target_snapshot().folders;
        there.keys().any(|name| name.contains("2024")).then_some(())
    });
    assert!(begun.is_some(), "{}", site.log());
    daemon.kill9();
    let mut daemon = site.start();
    daemon.wait_completed(120);
    assert_eq!(found(&stage), [""; 0], "{}", site.log());
    assert_unchanged(&before.0, &stage.source_snapshot());
    assert_unchanged(&before.1, &archive(&stage));
    site.expect_events("account_completed", 1);
    succeeds(&site.command(&["verify", stage.address(), "--source"]));
    let report = site.command(&["report", stage.address(), "--format", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).expect("JSON");
    let account = &report["accounts"][0];
    assert_eq!(account["archive"]["user"], ARCHIVE);
    let folders = account["folders"].as_array().expect("folders");
    let copied = |name: &str| {
        let folder = folders.iter().find(|folder| folder["name"] == name);
        folder
            .map(|folder| folder["copied"].as_u64().unwrap() + folder["adopted"].as_u64().unwrap())
    };
    assert_eq!(copied("Archivio"), Some(3), "{account}");
    assert_eq!(copied("archive:Archivio"), Some(5), "{account}");
    assert_eq!(copied("archive:Archivio/2024"), Some(5), "{account}");
    site.assert_log_keeps_secrets();
    // Nothing of it stays when it is forgotten.
    succeeds(&site.command(&["forget", stage.address()]));
    let forgotten = site.command(&["report", stage.address()]);
    assert!(!forgotten.status.success(), "{}", String::from_utf8_lossy(&forgotten.stdout));
}

#[test]
fn what_is_moved_there_before_the_cutover_is_moved_at_the_target() {
    let stage = stage("traslocatore");
    let mails = mail::pec(1, 6);
    stage.plant("INBOX", &mails);
    plant(&stage, "INBOX.Archivio", &mail::pec(2, 2));
    plant(&stage, "INBOX.Altro", &mail::pec(3, 1));
    let site = cut_over_by_order(&stage);
    let mut daemon = site.start();
    enroll(&site, &stage.account, PASSWORD);
    daemon.wait_following(stage.address());
    let moved = |number: usize| {
        let mail = &mails[number];
        stage.source.imap(ARCHIVE).append("INBOX.Archivio", &mail.flags, &mail.date, &mail.octets);
        stage.at_source().expunge("INBOX", &(number + 1).to_string());
    };
    moved(1);
    // What is only deleted is deleted.
    stage.at_source().expunge("INBOX", "5");
    site.wait_event("message_moved", 120);
    site.wait_event("message_removed", 120);
    let at_target = |folder: &str| stage.at_target().count(folder);
    assert_eq!((at_target("INBOX"), at_target("Archivio")), (4, 1), "{}", site.log());
    moved(3);
    let again =
        poll(Duration::from_secs(120), || (site.events("message_moved").len() == 2).then_some(()));
    assert!(again.is_some(), "{}", site.log());
    assert_eq!((at_target("INBOX"), at_target("Archivio")), (3, 2), "{}", site.log());
    succeeds(&site.command(&["cutover", "--migration", "prova", "--now"]));
    daemon.wait_completed(120);
    assert_eq!(found(&stage), [""; 0], "{}", site.log());
    site.expect_events("message_removed", 1);
    // What nobody named is not copied, and said so.
    let report = site.command(&["report", stage.address(), "--format", "json"]);
    assert!(String::from_utf8_lossy(&report.stdout).contains("archive:Altro"), "{report:?}");
}

/// A site whose migration cuts over when it is told to.
fn cut_over_by_order(stage: &Stage) -> Site {
    let plan = plan(stage).migration("cutover = \"2198-02-04\"\ncutover_window = \"1s\"");
    plan.daemon("exit_when_completed = true").write()
}

#[test]
fn a_refused_password_holds_the_archive_alone() {
    let stage = stage("dimentica");
    let mails = mail::pec(1, 5);
    stage.plant("INBOX", &mails);
    plant(&stage, "INBOX.Archivio", &mail::pec(2, 3));
    let site = cut_over_by_order(&stage);
    let mut daemon = site.start();
    enroll(&site, &stage.account, "sbagliata");
    daemon.wait_following(stage.address());
    // Moved to where nobody can look: its copy stays.
    let mail = &mails[2];
    stage.source.imap(ARCHIVE).append("INBOX.Archivio", &mail.flags, &mail.date, &mail.octets);
    stage.at_source().expunge("INBOX", "3");
    let asked =
        poll(Duration::from_secs(120), || (stage.source.refusals(ARCHIVE) > 0).then_some(()));
    assert!(asked.is_some(), "{}", site.log());
    succeeds(&site.command(&["cutover", "--migration", "prova", "--now"]));
    site.wait_event("account_sealed", 120);
    site.expect_events("removals_lapsed", 1);
    let goes_on = daemon.wait("refused", stage.address(), 60, |account| {
        account["reason"]["code"] == "credentials_rejected"
    });
    let (phase, condition) = (&goes_on["phase"], &goes_on["condition"]);
    assert_eq!((phase.as_str(), condition.as_str()), (Some("archiving"), Some("ok")));
    let message = goes_on["reason"]["message"].as_str().unwrap();
    assert!(message.starts_with("archive: "), "{goes_on}");
    assert_eq!(stage.source.refusals(ARCHIVE), 1, "it is tried once");
    assert_eq!(stage.at_target().count("INBOX"), 5, "{}", site.log());
    enroll(&site, &stage.account, PASSWORD);
    daemon.wait_completed(120);
    assert_eq!(stage.at_target().count("INBOX"), 5, "after the seal nothing is moved");
    assert_eq!(stage.at_target().count("Archivio"), 4, "all of it is copied: {}", site.log());
    assert_eq!(stage.source.refusals(ARCHIVE), 1);
    site.assert_log_keeps_secrets();
}

#[test]
fn all_of_it_comes_while_stragglers_are_waited_for() {
    let stage = stage("paziente");
    stage.plant("INBOX", &mail::pec(1, 2));
    plant(&stage, "INBOX", &mail::pec(2, 3));
    plant(&stage, "INBOX.Vecchi", &mail::pec(3, 2));
    let archive = format!("[migration.prova.source.archive]\n{}", stage.source.endpoint());
    let plan = stage.plan().source(&archive).sweep_every("1s");
    let plan = plan.migration("settle = \"1h\"\ncutover_window = \"1s\"");
    let plan = plan.folders("after_cutover = [\"archive:**\"]");
    let plan = plan.folders("rename = { \"archive:INBOX\" = \"Archivio/Arrivo\" }");
    let site = plan.cutover_in(Duration::from_secs(4)).write();
    let mut daemon = site.start();
    enroll(&site, &stage.account, PASSWORD);
    let copied =
        || site.events("folder_copied").iter().any(|e| e["PECSYNC_FOLDER"] == "archive:Vecchi");
    assert!(poll(Duration::from_secs(120), || copied().then_some(())).is_some(), "{}", site.log());
    let mut target = stage.at_target();
    let counts = ["INBOX", "Archivio/Arrivo", "Vecchi"].map(|folder| target.count(folder));
    assert_eq!(counts, [2, 3, 2], "{}", site.log());
    let account = daemon.wait("both", stage.address(), 60, |account| {
        account["messages"]["copied"] == 7 && account["condition"] == "ok"
    });
    assert_eq!(account["phase"], "archiving");
}
