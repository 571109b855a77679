//! `forget` between real servers: what is erased and what is not, with a daemon and without one;
//! and that a forgotten account that comes back neither begins anew nor doubles a message.

mod support;

use std::fs;
use std::time::{Duration, SystemTime};

use support::daemon::{Account, Site, write_private};
use support::dovecot::Dovecot;
use support::mail;
use support::stage::Stage;

/// Exit code, and what was said on both outputs.
fn forget(site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
    let output = site.command(&[&["forget"], arguments].concat());
    let said = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Does the checkpoint know the account?
fn is_known(site: &Site, address: &str) -> bool {
    site.command(&["report", address, "--format", "json"]).status.success()
}

fn report(site: &Site, address: &str) -> bool {
    ["json", "html"]
        .iter()
        .all(|form| site.state().join(format!("reports/{address}.{form}")).exists())
}

#[test]
fn a_completed_account_is_forgotten_for_good() {
    let stage = Stage::new("dimenticata");
    stage.plant("INBOX", &mail::pec(1, 5));
    let site = stage.plan().cutover_in(Duration::from_secs(6)).write();
    fs::create_dir(site.conf_d().join("secrets")).unwrap();
    let secret = site.conf_d().join("secrets/dimenticata");
    write_private(&secret, &stage.account.source_password);
    let password = format!("password = \"{}\"", stage.account.source_password);
    let text = stage.account.enrollment();
    let text = text.replacen(&password, "password_file = \"secrets/dimenticata\"", 1);
    let file = site.drop_file("d.toml", &text);
    site.start().wait_completed(120);
    let address = stage.address();
    assert!(is_known(&site, address) && report(&site, address) && secret.exists());

    let (code, said) = forget(&site, &[&address.to_uppercase()]);
    assert_eq!((code, said.as_str()), (Some(0), &*format!("{address}: forgotten\n")));
    assert!(!file.exists() && !secret.exists() && !report(&site, address));
    assert!(!is_known(&site, address));
    let status = site.command(&["status", "--json"]);
    assert!(!String::from_utf8_lossy(&status.stdout).contains(address), "{status:?}");
    let again = forget(&site, &[address]);
    assert_eq!(again, (Some(0), format!("{address}: nothing was remembered\n")));
    assert_eq!(forget(&site, &["--completed"]).0, Some(0));

    // Its owner works in the new mailbox; nobody begins anew there.
    let target = stage.target_snapshot();
    write_private(&site.path("etc/conf.d/.draft"), &stage.account.enrollment());
    fs::rename(site.path("etc/conf.d/.draft"), &file).unwrap();
    let planned = site.command(&["plan", address]);
    let planned = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert!(planned.contains("it is over: there is no next pass"), "{planned}");
    site.start_to_its_end();
    support::compare::assert_unchanged(&target, &stage.target_snapshot());
}

#[test]
fn who_is_moved_is_withdrawn_first_and_comes_back_without_a_duplicate() {
    let stage = Stage::new("ritirata");
    stage.plant("INBOX", &mail::pec(1, 6));
    stage.plant("INBOX.Clienti", &mail::pec(2, 3));
    let site = stage.plan().write();
    let mut daemon = site.start();
    let file = site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    let address = stage.address();
    let (code, said) = forget(&site, &[address]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("still to be moved (following)"), "{said}");
    assert!(said.contains(&file.display().to_string()), "{said}");
    assert_eq!(forget(&site, &["--completed"]), (Some(0), "nothing was remembered\n".into()));
    assert!(file.exists() && is_known(&site, address));

    // Whoever removes the file and says so at once is not too early: its task is ended first.
    fs::remove_file(&file).unwrap();
    let (code, said) = forget(&site, &[address]);
    assert_eq!((code, said.as_str()), (Some(0), &*format!("{address}: forgotten\n")));
    assert!(!is_known(&site, address));
    assert_eq!(site.wait_event("account_forgotten", 10)["PECSYNC_ACCOUNT"], address);
    assert_eq!(daemon.account(address), None);

    site.enroll(&stage.account);
    let status = daemon.wait_following(address);
    assert_eq!(status["messages"]["adopted"], 9, "{status:#}");
    stage.assert_exact();
}

#[test]
fn all_who_have_completed_and_nobody_else() {
    let (account, pilot) = (Account::new("resta"), Account::new("pilota"));
    let source = Dovecot::aruba().user(&pilot.address, &pilot.source_password);
    let target = Dovecot::legalmail().user(&pilot.target_user, &pilot.target_password);
    let stage = Stage::between(account, source, target);
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    site.keep_out_of_logs(&pilot.source_password);
    let text = pilot.cut_over_at(SystemTime::now() + Duration::from_secs(3));
    let file = site.drop_file("pilota.toml", &text);
    daemon.wait("completed", &pilot.address, 90, |account| account["phase"] == "completed");
    daemon.wait_following(stage.address());
    let expected = (Some(0), "forgotten\n".to_owned());
    assert_eq!(forget(&site, &["--completed", "--keep-report"]), expected);
    assert!(!file.exists() && report(&site, &pilot.address) && !is_known(&site, &pilot.address));
    assert!(is_known(&site, stage.address()) && daemon.account(stage.address()).is_some());
    assert_eq!(daemon.account(&pilot.address), None);
}

#[test]
fn who_was_forgotten_begins_anew_at_an_operators_word_only() {
    let stage = Stage::new("daccapo");
    stage.plant("INBOX", &mail::pec(1, 6));
    let site = stage.plan().write();
    let mut daemon = site.start();
    let address = stage.address();
    let order = |arguments: &[&str]| {
        let output = site.command(arguments);
        let said = [&output.stdout[..], &output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let approve = || order(&["approve", address, "completed"]);
    let completed = |account: &serde_json::Value| account["phase"] == "completed";
    site.enroll(&stage.account);
    daemon.wait_following(address);
    assert_eq!(order(&["cutover", address, "--now"]).0, Some(0));
    daemon.wait("completed", address, 90, completed);
    // What is remembered is not to be copied again: that is what reopening is for.
    let (code, said) = approve();
    assert_eq!((code, said.contains("pecsync reopen")), (Some(1), true), "{said}");
    assert_eq!(forget(&site, &[address]).0, Some(0));

    site.enroll(&stage.account);
    daemon.wait("completed, although it is forgotten", address, 60, completed);
    assert_eq!(approve(), (Some(0), format!("{address}: approved\n")));
    let status = daemon.wait_following(address);
    assert_eq!(status["messages"]["adopted"], 6, "{status:#}");
    // It stays so.
    daemon.kill9();
    daemon = site.start();
    stage.plant("INBOX", &mail::pec(2, 1));
    stage.wait_exact("followed again", 60);
    daemon.wait_following(address);
}
