//! `check --connect` between real servers: what each side is like, what will not fit, and whose
//! password is wrong; with a daemon and before there ever was one.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::Value;
use support::daemon::{Account, Site, write_private};
use support::dovecot::{Dovecot, Transport};
use support::mail;
use support::stage::Stage;

/// Exit code, and what was printed.
fn check(site: &Site) -> (Option<i32>, String) {
    check_with(site, &[])
}

fn check_with(site: &Site, more: &[&str]) -> (Option<i32>, String) {
    let output = site.command(&[&["check", "--connect"], more].concat());
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
            "1 account, 0 with problems; 5 messages to copy",
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

/// A server that refuses each login in these words; its port.
fn refusing(words: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let say = |text: &str| (&stream).write_all(text.as_bytes()).is_ok();
            say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] here\r\n");
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                let tag = line.split(' ').next().unwrap_or_default();
                say(&format!("{tag} NO {words}\r\n"));
                line.clear();
            }
        }
    });
    port
}

#[test]
fn who_is_not_let_in_and_why() {
    let source = Dovecot::aruba().transport(Transport::Plain);
    let stage = Stage::between(Account::new("fuori"), source, Dovecot::legalmail());
    for (words, code) in [
        ("[AUTHORIZATIONFAILED] Two-factor authentication is required", "second_factor_suspected"),
        (
            "[ALERT] Verifica in due passaggi attiva: usare la password dei programmi",
            "second_factor_suspected",
        ),
        ("[AUTHORIZATIONFAILED] IMAP access is disabled for this user", "imap_disabled"),
        ("[EXPIRED] password expired", "credentials_expired"),
    ] {
        let site = stage.plan().write();
        let text = fs::read_to_string(site.config()).unwrap();
        let (old, new) = (stage.source.port(), refusing(words));
        write_private(
            &site.config(),
            &text.replacen(&format!("port = {old}"), &format!("port = {new}"), 1),
        );
        site.enroll(&stage.account);
        let (code_of_exit, said) = check(&site);
        assert_eq!(code_of_exit, Some(1), "{said}");
        assert_says(&said, &[&format!("problem: {code}: source: "), "1 problem"]);
    }
}

#[test]
fn names_that_collide_and_a_message_that_is_too_large() {
    let target = Dovecot::legalmail().besides("APPENDLIMIT=200000");
    let stage = Stage::between(Account::new("urto"), Dovecot::aruba(), target);
    stage.plant("INBOX", &[mail::big(1, 300_000)]);
    // A "/" within a level is another character at the target, where it stands between levels.
    stage.plant("INBOX.a/b", &mail::pec(1, 1));
    stage.plant("INBOX.a_b", &mail::pec(2, 1));
    let site = stage.plan().write();
    site.enroll(&stage.account);
    let (code, said) = check(&site);
    assert_eq!(code, Some(1), "{said}");
    assert_says(
        &said,
        &[
            "messages up to 200 KB",
            "problem: folder_conflict: ",
            "problem: over_quota: the largest message has 30",
            " octets, and the target takes 200000",
            " is not copied: ",
        ],
    );
}

/// New files before they are dropped, and only some of those that are there.
#[test]
fn only_the_files_that_are_named() {
    let (account, other) = (Account::new("nuova"), Account::new("diversa"));
    let source = Dovecot::aruba().user(&other.address, &other.source_password);
    let stage = Stage::between(account, source, Dovecot::legalmail());
    stage.plant("INBOX", &mail::pec(1, 3));
    let site = stage.plan().write();
    let new = site.path("nuova.toml");
    let named = new.display().to_string();
    for (password, problems, expected) in
        [(&stage.account.source_password, 0, 0), (&"sbagliata".to_owned(), 1, 77)]
    {
        let account = Account { source_password: password.clone(), ..stage.account.clone() };
        write_private(&new, &account.enrollment());
        let (code, said) = check_with(&site, &[&named, "--json"]);
        let found: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
        assert_eq!(
            (code, found["exit"].as_i64()),
            (Some(expected), Some(expected.into())),
            "{said}"
        );
        assert_eq!(found["accounts"].as_array().map(Vec::len), Some(1), "{said}");
        let seen = &found["accounts"][0];
        assert_eq!(
            (&seen["address"], seen["problems"].as_array().map(Vec::len)),
            (&stage.address().into(), Some(problems))
        );
        assert!(!said.contains("sbagliata"), "{said}");
    }
    assert_eq!(stage.source.refusals(stage.address()), 1, "one try");
    assert_eq!(fs::read_dir(site.conf_d()).unwrap().count(), 0);

    let mut daemon = site.start();
    let dropped = site.enroll(&stage.account).display().to_string();
    site.enroll(&other);
    daemon.wait_following(stage.address());
    let (code, said) = check_with(&site, &[&dropped]);
    assert_eq!(code, Some(0), "{said}");
    assert_says(
        &said,
        &[
            &format!("{} (prova): fine", stage.address()),
            "1 account, 0 with",
            "; 0 messages to copy",
        ],
    );
    assert!(!said.contains(&other.address), "{said}");
    // By another way to the same file, the daemon is asked all the same.
    let way = site.path("way");
    std::os::unix::fs::symlink(site.conf_d(), &way).unwrap();
    let file = way.join(format!("{}.toml", stage.address())).display().to_string();
    let (code, said) = check_with(&site, &[&file]);
    assert_eq!(code, Some(0), "{said}");
    assert_says(&said, &["; 0 messages to copy"]);
    // A mistake in a file is told first, and nobody is asked about it.
    write_private(&new, "address = 7\n");
    let (code, said) = check_with(&site, &[&named]);
    assert_eq!(code, Some(78), "{said}");
}
