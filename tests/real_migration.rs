//! A whole migration at one instant, while its old provider, which nobody certifies any more,
//! refuses everybody.

mod support;

use std::time::Duration;

use support::compare::{Snapshot, differences};
use support::daemon::{Account, Plan};
use support::dovecot::Dovecot;
use support::mail;
use support::poll;
use support::server::Server;

const ACCOUNTS: u64 = 12;

#[test]
fn all_cut_over_although_every_login_is_refused_for_a_while() {
    let accounts: Vec<Account> = (1..=ACCOUNTS)
        .map(|n| Account { target_user: format!("M{n:07}"), ..Account::new(&format!("studio{n}")) })
        .collect();
    let (source, target) = accounts.iter().fold(
        (Dovecot::aruba(), Dovecot::legalmail()),
        |(source, target), account| {
            (
                source.user(&account.address, &account.source_password),
                target.user(&account.target_user, &account.target_password),
            )
        },
    );
    let (mut source, target) = (source.start(), target.start());
    let deliver = |source: &Dovecot, seed: u64| {
        for (n, account) in (0..).zip(&accounts) {
            let mut owner = source.imap(&account.address);
            for mail in mail::pec(seed + n, 3) {
                owner.append("INBOX", &mail.flags, &mail.date, &mail.octets);
            }
        }
    };
    deliver(&source, 1);
    let plan = Plan::between(&source, &target).migration("cutover = \"2198-02-04\"");
    let site = plan.sweep_every("5s").write();
    let mut daemon = site.start();
    accounts.iter().for_each(|account| drop(site.enroll(account)));
    accounts.iter().for_each(|account| drop(daemon.wait_following(&account.address)));

    // Nobody is let in, and mail still comes.
    source.stop();
    source.set_passwords(accounts.iter().map(|account| (&*account.address, "decertificato")));
    // Before the cutover who is refused is held: no login is tried until it has come.
    site.order(&["cutover", "--migration", "prova", "--now"]);
    let moved = poll(Duration::from_secs(60), || {
        let is_moved = |account: &Account| {
            let shown = daemon.account(&account.address);
            shown.is_some_and(|shown| !shown["cutover"].to_string().contains("2198"))
        };
        accounts.iter().all(is_moved).then_some(())
    });
    assert!(moved.is_some(), "{}", site.log());
    source.restart();
    deliver(&source, 100);
    let condition = |account: &Account| {
        let shown = daemon.account(&account.address)?;
        Some((shown["phase"].as_str()?.to_owned(), shown["condition"].as_str()?.to_owned()))
    };
    let refused = poll(Duration::from_secs(120), || {
        let waits = |account: &Account| {
            condition(account).is_some_and(|(phase, how)| phase == "draining" && how == "retrying")
        };
        accounts.iter().all(waits).then_some(())
    });
    assert!(refused.is_some(), "{}", site.log());
    let screen = site.command(&["status", "--migration", "prova"]);
    let screen = String::from_utf8_lossy(&screen.stdout).into_owned();
    assert!(screen.contains("draining"), "{screen}");
    let begins = site.wait_event("cutover_progress", 60);
    assert_eq!(begins["PECSYNC_MIGRATION"], "prova");
    let begins = begins["MESSAGE"].as_str().expect("words");
    assert!(begins.contains("accounts whose cutover has come are not sealed; 0 are"), "{begins}");

    source.set_passwords(
        accounts.iter().map(|account| (&*account.address, &*account.source_password)),
    );
    let completed = poll(Duration::from_secs(300), || {
        let over =
            |account: &Account| condition(account).is_some_and(|(phase, _)| phase == "completed");
        accounts.iter().all(over).then_some(())
    });
    assert!(completed.is_some(), "{}", site.log());
    for account in &accounts {
        let found = differences(
            &Snapshot::of(&source, &account.address),
            &Snapshot::of(&target, &account.target_user),
            |name| source.names().on(&target.names(), name),
        );
        assert!(found.is_empty(), "{}: {found:?}", account.address);
    }
    assert!(site.events("account_held").is_empty(), "{:?}", site.events("account_held"));
    assert!(site.events("cutover_overdue").is_empty());
    let summary = site.wait_event("migration_completed", 30);
    println!("{screen}\n{summary}");
    // As it began and at its end; between them an hour would have had to pass.
    site.expect_events("cutover_progress", 2);
    let ended = site.events("cutover_progress").pop().expect("the second");
    let ended = ended["MESSAGE"].as_str().expect("words");
    let expected =
        format!("every account whose cutover has come is sealed: {ACCOUNTS} of {ACCOUNTS}");
    assert_eq!(ended, expected);
    assert_eq!(summary["PECSYNC_MIGRATION"], "prova");
    let text = summary["MESSAGE"].as_str().expect("words");
    assert!(text.contains(&ACCOUNTS.to_string()), "{text}");
    site.assert_log_keeps_secrets();
}
