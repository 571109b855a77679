//! What servers and operators refuse: passwords, certificates, room, files. An account that is
//! refused waits for somebody and disturbs no other.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use support::daemon::{Account, write_private};
use support::dovecot::{Dovecot, Transport};
use support::mail;
use support::stage::Stage;

#[test]
fn a_wrong_source_password_is_tried_once_and_a_new_enrollment_resumes() {
    let stage = Stage::new("sbagliato");
    stage.plant("INBOX", &mail::pec(1, 10));
    let site = stage.plan().write();
    let mut daemon = site.start();
    let wrong = Account { source_password: "indovinata".to_owned(), ..stage.account.clone() };
    site.enroll(&wrong);
    let account = daemon.wait_held(stage.address(), "credentials_rejected");
    assert_eq!(account["reason"]["side"], "source");
    sleep(Duration::from_secs(6));
    assert_eq!(stage.source.refusals(stage.address()), 1, "{}", stage.source.log());
    // A restart is no reason to try a refused password again.
    drop(daemon);
    let mut daemon = site.start();
    daemon.wait_held(stage.address(), "credentials_rejected");
    sleep(Duration::from_secs(3));
    assert_eq!(stage.source.refusals(stage.address()), 1, "after a restart");
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    stage.wait_exact("after the new enrollment", 10);
    assert_eq!(stage.source.refusals(stage.address()), 1);
}

#[test]
fn a_wrong_target_password_is_tried_once() {
    let stage = Stage::new("bersaglio");
    stage.plant("INBOX", &mail::pec(1, 5));
    let site = stage.plan().write();
    let mut daemon = site.start();
    let wrong = Account { target_password: "indovinata".to_owned(), ..stage.account.clone() };
    site.enroll(&wrong);
    let account = daemon.wait_held(stage.address(), "credentials_rejected");
    assert_eq!(account["reason"]["side"], "target");
    sleep(Duration::from_secs(4));
    assert_eq!(stage.target.refusals(&stage.account.target_user), 1);
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    stage.wait_exact("after the new enrollment", 10);
}

#[test]
fn a_password_changed_meanwhile_stops_the_copy_until_a_new_enrollment() {
    let stage = Stage::new("cambiata");
    stage.plant("INBOX", &mail::pec(1, 10));
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    stage.source.set_password(stage.address(), "tutta-nuova-1");
    stage.source.kick(stage.address());
    let refused = |account: &Value| account["reason"]["code"] == "credentials_rejected";
    daemon.wait("refused", stage.address(), 60, refused);
    stage.plant("INBOX", &mail::pec(2, 3));
    sleep(Duration::from_secs(6));
    assert_eq!(stage.source.refusals(stage.address()), 1, "{}", stage.source.log());
    let new = Account { source_password: "tutta-nuova-1".to_owned(), ..stage.account.clone() };
    site.enroll(&new);
    stage.wait_exact("after the new enrollment", 40);
    daemon.wait_following(stage.address());
}

#[test]
fn odd_passwords_log_in_over_every_transport() {
    let odd = "a \"b\\c*%(){}\u{e8}\u{20ac}:=+ß'`$~;#";
    for transport in [Transport::Tls, Transport::StartTls, Transport::Plain] {
        let account = Account {
            source_password: odd.to_owned(),
            target_password: format!("{odd}2"),
            ..Account::new("strana")
        };
        let (source, target) = (Dovecot::aruba(), Dovecot::legalmail());
        let stage =
            Stage::between(account, source.transport(transport), target.transport(transport));
        stage.plant("INBOX", &mail::pec(1, 3));
        stage.complete(stage.plan());
        stage.assert_exact();
        assert_eq!(stage.source.refusals(stage.address()), 0, "{transport:?}");
        let in_the_clear = stage
            .source
            .log()
            .lines()
            .any(|line| line.contains("imap-login: Info: Login:") && !line.contains(", TLS"));
        assert_eq!(in_the_clear, transport == Transport::Plain, "{transport:?}");
    }
}

#[test]
fn a_login_without_sasl_works_too() {
    let account =
        Account { source_password: "con \"odd\\ *è".to_owned(), ..Account::new("senza.sasl") };
    let source = Dovecot::aruba().without(&["SASL-IR", "LITERAL+"]);
    let stage = Stage::between(account, source, Dovecot::legalmail());
    stage.plant("INBOX", &mail::pec(1, 3));
    stage.complete(stage.plan());
    stage.assert_exact();
}

#[test]
fn a_service_login_acts_for_the_account_by_authorization_identity_and_as_master() {
    for style in ["authzid", "master"] {
        let source = Dovecot::aruba().master("migratore", "chiave-di-servizio");
        let target = Dovecot::legalmail().master("migratore", "altra-chiave");
        let stage = Stage::between(Account::new("servizio"), source, target);
        stage.plant("INBOX", &mail::pec(1, 5));
        let login = |side: &str, password: &str| {
            format!(
                "[migration.prova.{side}.service_login]\nuser = \"migratore\"\n\
                 password = \"{password}\"\nstyle = \"{style}\""
            )
        };
        let plan = stage.plan().source(&login("source", "chiave-di-servizio"));
        let site = plan.target(&login("target", "altra-chiave")).write();
        for secret in ["chiave-di-servizio", "altra-chiave"] {
            site.keep_out_of_logs(secret);
        }
        let mut daemon = site.start();
        let (address, user) = (stage.address(), &stage.account.target_user);
        let text = format!("address = \"{address}\"\n[target]\nuser = \"{user}\"\n");
        site.drop_file("servizio.toml", &text);
        daemon.wait_following(address);
        stage.wait_exact(style, 10);
        assert!(stage.source.log().contains("Master user logging in"), "{style}");
    }
}

#[test]
fn a_certificate_of_somebody_else_is_not_trusted() {
    let stage = Stage::new("falso");
    stage.plant("INBOX", &mail::pec(1, 3));
    let site = stage.plan().write();
    let config = fs::read_to_string(site.config()).expect("written");
    let (mine, other) = (stage.source.ca_file(), stage.target.ca_file());
    let wrong = config.replace(&mine.display().to_string(), &other.display().to_string());
    write_private(&site.config(), &wrong);
    let mut daemon = site.start();
    site.enroll(&stage.account);
    let untrusted = |account: &Value| account["reason"]["code"] == "tls_untrusted";
    daemon.wait("tls_untrusted", stage.address(), 60, untrusted);
    assert_eq!(stage.source.logins(stage.address()) + stage.source.refusals(stage.address()), 0);
}

#[test]
fn a_full_target_is_a_state_of_the_account_and_ends_when_there_is_room() {
    let target = Dovecot::legalmail().quota_kib(3000);
    let stage = Stage::between(Account::new("piena"), Dovecot::aruba(), target);
    let mut imap = stage.at_target();
    imap.create("Zavorra");
    let ballast = mail::big(1, 1_500_000);
    imap.append("Zavorra", "", &ballast.date, &ballast.octets);
    stage.plant("INBOX", &mail::pec(2, 20));
    stage.plant("INBOX", &[mail::big(3, 900_000), mail::big(4, 900_000)]);
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    let full = |account: &Value| {
        let mut reasons = account["reasons"].as_array().into_iter().flatten();
        reasons.any(|reason| reason["code"] == "over_quota")
    };
    daemon.wait("over_quota", stage.address(), 60, full);
    imap.expunge("Zavorra", "1");
    site.command(&["retry", stage.address()]);
    daemon.wait_following(stage.address());
    stage.wait_exact("after room was made", 30);
}

#[test]
fn a_bad_file_disturbs_nobody_and_is_named_once() {
    let stage = Stage::new("buono");
    stage.plant("INBOX", &mail::pec(1, 3));
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.drop_file("aaa.toml", "address = \"mario@pec.prova.example\"\n[sou");
    site.drop_file("typo.toml", "address = \"x@pec.prova.example\"\n[source]\npasswrod = \"zz\"\n");
    let exposed = site.drop_file("exposed.toml", &Account::new("esposto").enrollment());
    fs::set_permissions(exposed, fs::Permissions::from_mode(0o644)).expect("chmod");
    site.drop_file(".hidden.toml", "nonsense");
    site.drop_file("backup.toml~", "nonsense");
    site.enroll(&stage.account);
    site.drop_file("zweitens.toml", &stage.account.enrollment());
    daemon.wait_following(stage.address());
    stage.wait_exact("in spite of them", 10);
    let status = daemon.status().expect("a status");
    let rejected = status["rejected"].as_array().expect("a list");
    let files: Vec<&str> = rejected.iter().filter_map(|entry| entry["file"].as_str()).collect();
    for file in ["aaa.toml", "typo.toml", "exposed.toml", "zweitens.toml"] {
        assert!(files.iter().any(|named| named.ends_with(file)), "{file} is not in {files:?}");
    }
    let line = |entry: &Value| {
        entry["file"].as_str().is_some_and(|file| file.ends_with("typo.toml")) && entry["line"] == 3
    };
    assert!(rejected.iter().any(line), "the mistyped key is not named by its line: {rejected:?}");
    let check = site.command(&["check"]);
    assert_eq!(check.status.code(), Some(78), "{check:?}");
    let count = site.events("enrollment_rejected").len();
    sleep(Duration::from_secs(3));
    assert_eq!(site.events("enrollment_rejected").len(), count, "named again");
}

#[test]
fn enrollments_come_half_written_and_by_symlink_and_go() {
    let stage = Stage::new("goccia");
    stage.plant("INBOX", &mail::pec(1, 5));
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.keep_out_of_logs(&stage.account.source_password);

    // Half written by a program that knows no better, finished a moment later.
    let text = stage.account.enrollment();
    let file = site.conf_d().join("goccia.toml");
    write_private(&file, &text[..text.len() / 2]);
    sleep(Duration::from_secs(1));
    fs::write(&file, &text).expect("written");
    daemon.wait_following(stage.address());
    stage.wait_exact("after the second half", 10);

    // Removed: copying stops, and what was copied stays.
    fs::remove_file(&file).expect("removed");
    site.wait_event("enrollment_removed", 30);
    stage.plant("INBOX", &mail::pec(2, 2));
    sleep(Duration::from_secs(5));
    assert_eq!(stage.at_target().count("INBOX"), 5);

    // Back as Kubernetes mounts it: a link into a directory that is swapped as a whole.
    for (version, content) in [("v1", "address = 1"), ("v2", &text)] {
        fs::create_dir(site.path(version)).expect("created");
        write_private(&site.path(version).join("goccia.toml"), content);
    }
    let data = site.path("data");
    std::os::unix::fs::symlink(site.path("v1"), &data).expect("linked");
    std::os::unix::fs::symlink(data.join("goccia.toml"), &file).expect("linked");
    sleep(Duration::from_secs(2));
    std::os::unix::fs::symlink(site.path("v2"), site.path("data.new")).expect("linked");
    fs::rename(site.path("data.new"), &data).expect("swapped");
    // The directory of the link is all that is watched: a touch there, as the mount makes one.
    site.drop_file("other.toml~", "");
    stage.wait_exact("after the swap", 90);
    daemon.wait_following(stage.address());
}
