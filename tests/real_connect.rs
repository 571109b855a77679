//! `check --connect` between real servers: what each side is like, what will not fit, and whose
//! password is wrong; with a daemon and before there ever was one.

mod support;

use std::fs;

use support::daemon::{Account, Site};
use support::dovecot::Dovecot;
use support::mail;
use support::stage::Stage;

/// Exit code, and what was printed.
fn check(site: &Site) -> (Option<i32>, String) {
    let output = site.command(&["check", "--connect"]);
    let said = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[track_caller]
fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

#[test]
fn before_there_ever_was_a_daemon() {
    let stage = Stage::new("prima");
    stage.plant("INBOX", &mail::pec(1, 3));
    stage.plant("INBOX.Clienti", &mail::pec(2, 2));
    let site = stage.plan().write();
    site.enroll(&stage.account);
    let source = stage.source_snapshot();
    let (code, said) = check(&site);
    assert_eq!(code, Some(0), "{said}");
    let fine = format!("{} (prova): fine", stage.address());
    assert_says(
        &said,
        &[
            &fine,
            "    INBOX: 3 messages",
            "    Clienti: 2 messages",
            "    Inviata → INBOX/Spedite: 0 messages",
            "1 accounts, 0 with problems; 5 messages to copy",
            "at the configured rates: at least 1",
        ],
    );
    assert_eq!(fs::read_dir(site.state()).unwrap().count(), 0, "nothing was made");
    support::compare::assert_unchanged(&source, &stage.source_snapshot());
    assert_eq!(stage.at_target().count("INBOX"), 0);

    let mut account = stage.account.clone();
    account.source_password = "sbagliata".to_owned();
    account.target_password = "sbagliata anche questa".to_owned();
    site.enroll(&account);
    let (code, said) = check(&site);
    assert_eq!(code, Some(77), "{said}");
    assert_says(&said, &["2 problems", "credentials_rejected: source: ", "rejected: target: "]);
    assert!(!said.contains("sbagliata"), "{said}");
}

#[test]
fn what_will_not_fit_and_who_was_refused_before() {
    let (account, refused) = (Account::new("grande"), Account::new("respinta"));
    let source = Dovecot::aruba().user(&refused.address, "un'altra");
    let target =
        Dovecot::legalmail().user(&refused.target_user, &refused.target_password).quota_kib(200);
    let stage = Stage::between(account, source, target);
    stage.plant("INBOX", &[mail::big(1, 300_000)]);
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.enroll(&refused);
    daemon.wait_held(&refused.address, "credentials_rejected");
    site.enroll(&stage.account);
    daemon.wait("held", stage.address(), 60, |account| account["condition"] != "ok");
    let before = stage.source.refusals(&refused.address);
    let (code, said) = check(&site);
    assert_eq!(code, Some(1), "{said}");
    assert_says(
        &said,
        &[
            "over_quota: 30",
            " octets are to be copied, and 204800 are left",
            "of 205 KB used",
            "credentials_rejected: source: refused before, so not tried again",
            "2 accounts, 2 with problems",
        ],
    );
    assert_eq!(stage.source.refusals(&refused.address), before, "one try was enough");
}
