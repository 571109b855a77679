//! The main job, whole, in one go: enroll, copy, follow, cut over.

mod support;

use std::time::Duration;

use support::compare::{self, Snapshot};
use support::daemon::{Account, Plan};
use support::dovecot::Dovecot;
use support::mail;

const DATE: &str = "03-Feb-2024 10:20:30 +0100";

#[test]
fn a_dropped_file_is_copied_and_completed() {
    let account = Account::new("mario.rossi");
    let source = Dovecot::aruba().user(&account.address, &account.source_password).start();
    let target = Dovecot::legalmail().user(&account.target_user, &account.target_password).start();
    let mut imap = source.imap(&account.address);
    for mail in mail::odd().iter().chain(&mail::pec(1, 300)) {
        imap.append("INBOX", "\\Seen kept", DATE, &mail.octets);
    }
    for mail in &mail::pec(2, 40) {
        imap.append("INBOX.Inviata", "", DATE, &mail.octets);
    }
    drop(imap);
    let before = Snapshot::of(&source, &account.address);
    let site = Plan::between(&source, &target).cutover_in(Duration::from_secs(8)).write();
    let mut daemon = site.start();
    site.enroll(&account);
    daemon.wait_following(&account.address);
    let exit = daemon.wait_exit(60);
    println!("{}", site.log());
    assert!(exit.success(), "{exit}");
    let after = Snapshot::of(&source, &account.address);
    compare::assert_unchanged(&before, &after);
    let copy = Snapshot::of(&target, &account.target_user);
    compare::assert_exact(&after, &copy, compare::aruba_to_legalmail);
    site.assert_log_keeps_secrets();
}
