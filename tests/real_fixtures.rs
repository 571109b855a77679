//! The fixtures themselves, before anything is judged by them: the servers start, odd mail comes
//! back octet by octet, an exact copy passes and every kind of inexact one fails.

mod support;

use support::compare::{Snapshot, aruba_to_legalmail, assert_exact, changes, differences};
use support::dovecot::{Dovecot, Layout, Transport};
use support::imap::{from_modified_utf7, instant, modified_utf7, quoted_name};
use support::mail::{self, Mail};

const USER: &str = "mario.rossi@pec.prova.example";

#[test]
fn folder_names_survive_modified_utf7() {
    assert_eq!(quoted_name("Perché & \"così\""), "\"Perch&AOk- &- \\\"cos&AOw-\\\"\"");
    for name in ["INBOX", "Rossi & Figli", "così è 📬 più", "a&b&-", "~%*"] {
        assert_eq!(from_modified_utf7(&modified_utf7(name)), name);
    }
}

#[test]
fn dates_are_instants() {
    assert_eq!(instant(" 1-Jan-1970 01:00:00 +0100"), 0);
    assert_eq!(instant("29-Feb-2024 23:59:59 -0330"), 1_709_263_799);
    assert_eq!(instant("31-Dec-2037 12:00:00 +0000"), 2_145_873_600);
}

#[test]
fn odd_mail_comes_back_octet_by_octet() {
    let mut mails = mail::odd();
    mails.extend(mail::pec(1, 20));
    mails.push(mail::big(2, 20_000_000));
    for setup in [Dovecot::aruba(), Dovecot::legalmail()] {
        let server = setup.user(USER, "x").start();
        let mut imap = server.imap(USER);
        plant(&server, "INBOX", &mails);
        assert!(!imap.list().contains("PWNED"), "a body was executed");
        let there = imap.fetch_all("INBOX");
        assert_eq!(there.len(), mails.len());
        for (mail, fetched) in mails.iter().zip(&there) {
            assert!(mail.octets == fetched.octets, "{:?}: {}", server.layout(), mail.what);
            assert_eq!(instant(&mail.date), fetched.instant, "{}", mail.what);
            let flags = fetched.flags.iter().filter(|flag| *flag != "\\Recent").count();
            assert_eq!(mail.flags.split_whitespace().count(), flags, "{}", mail.what);
        }
    }
}

#[test]
fn what_dovecot_alters_stays_as_it_is_when_copied_on() {
    let (source, target) = pair();
    plant(&source, "INBOX", &mail::altered_by_dovecot());
    let before = Snapshot::of(&source, USER);
    pump(&source, &target);
    assert_exact(&before, &Snapshot::of(&target, USER), aruba_to_legalmail);
}

#[test]
fn an_exact_copy_passes_and_the_source_is_unchanged() {
    let (source, target) = filled_pair();
    let before = Snapshot::of(&source, USER);
    pump(&source, &target);
    assert_exact(&before, &Snapshot::of(&target, USER), aruba_to_legalmail);
    assert_eq!(changes(&before, &Snapshot::of(&source, USER)), Vec::<String>::new());
}

#[test]
fn every_kind_of_inexact_copy_fails() {
    let (source, target) = filled_pair();
    pump(&source, &target);
    let before = Snapshot::of(&source, USER);
    let mut imap = target.imap(USER);
    let wrong = || differences(&before, &Snapshot::of(&target, USER), aruba_to_legalmail);
    assert_eq!(wrong(), Vec::<String>::new());

    imap.store("INBOX", "1", "FLAGS", "\\Answered daBuonFine");
    assert_eq!(wrong().len(), 2, "a flag");
    let first = imap.fetch_all("INBOX").remove(0);
    imap.expunge("INBOX", "1");
    assert_eq!(wrong().len(), 1, "a lost message");

    let flags = storable(&source.imap(USER).fetch_all("INBOX")[0].flags).join(" ");
    let uid = imap.append("INBOX", &flags, "05-Feb-2025 07:59:59 +0100", &first.octets);
    assert_eq!(wrong().len(), 2, "a date");
    imap.expunge("INBOX", &uid.to_string());
    assert_eq!(wrong().len(), 1, "the lost message again");
    imap.create("Nuova");
    imap.append("Nuova", "", "05-Feb-2025 07:59:59 +0100", b"x");
    assert_eq!(wrong().len(), 2, "mail in a folder that the source does not have");
}

#[test]
fn a_doubled_and_a_changed_message_fail() {
    let (source, target) = pair();
    let octets = b"Subject: uno\r\n\r\ncorpo\r\n".to_vec();
    plant(&source, "INBOX", &[Mail::new("uno", octets.clone())]);
    pump(&source, &target);
    let before = Snapshot::of(&source, USER);
    let wrong = || differences(&before, &Snapshot::of(&target, USER), aruba_to_legalmail);
    let mut imap = target.imap(USER);
    assert!(wrong().is_empty());
    imap.append("INBOX", "", "04-Feb-2025 07:59:59 +0100", &octets);
    assert_eq!(wrong().len(), 1, "doubled");
    imap.expunge("INBOX", "1");
    assert!(wrong().is_empty());
    imap.expunge("INBOX", "2");
    let changed = b"Subject: uno\r\n\r\ncorpO\r\n";
    imap.append("INBOX", "", "04-Feb-2025 07:59:59 +0100", changed);
    assert_eq!(wrong().len(), 2, "one octet");
}

#[test]
fn a_touched_source_is_noticed() {
    let source = Dovecot::aruba().user(USER, "x").start();
    plant(&source, "INBOX", &mail::pec(3, 3));
    let before = Snapshot::of(&source, USER);
    assert_eq!(changes(&before, &Snapshot::of(&source, USER)), Vec::<String>::new());
    // A careless client's SELECT takes \Recent away; nothing else changes.
    source.imap(USER).run("SELECT INBOX");
    assert_eq!(changes(&before, &Snapshot::of(&source, USER)).len(), 3, "\\Recent");
    source.imap(USER).store("INBOX", "2", "FLAGS", "\\Flagged \\Seen");
    source.imap(USER).create("INBOX.Nuova");
    let found = changes(&before, &Snapshot::of(&source, USER));
    assert!(found.iter().any(|line| line.contains("Nuova: new")), "{found:?}");
}

#[test]
fn odd_folder_names_can_be_planted() {
    let source = Dovecot::aruba().user(USER, "x").start();
    let mut imap = source.imap(USER);
    let names = ["INBOX.Perché così", "INBOX.a/b", "INBOX.per%cento", "INBOX.Rossi & \"Figli\""];
    for name in names {
        imap.create(name);
        assert!(imap.list().contains(name), "{name}: {:?}", imap.list());
        imap.append(name, "", "04-Feb-2025 07:59:59 +0100", b"x");
        assert_eq!(imap.count(name), 1);
    }
}

#[test]
fn logins_are_counted_and_passwords_change() {
    for transport in [Transport::Plain, Transport::StartTls, Transport::Tls] {
        let server = Dovecot::legalmail().transport(transport).user(USER, "p:w\\ *è").start();
        server.imap(USER).run("NOOP");
        assert_eq!((server.logins(USER), server.refusals(USER)), (0, 0));
    }
    let server = Dovecot::aruba().transport(Transport::Plain).user(USER, "giusta").start();
    assert!(!plain_login(&server, "sbagliata"));
    assert!(plain_login(&server, "giusta"));
    // Dovecot answers first and writes its log then.
    let counted = |expected: (usize, usize)| {
        let counts = || (server.logins(USER), server.refusals(USER));
        support::poll(std::time::Duration::from_secs(20), || (counts() == expected).then_some(()))
            .unwrap_or_else(|| panic!("{:?}, not {expected:?}", counts()));
    };
    counted((1, 1));
    server.set_password(USER, "nuova!");
    assert!(!plain_login(&server, "giusta"));
    assert!(plain_login(&server, "nuova!"));
    counted((2, 2));
}

#[test]
fn capabilities_can_be_taken_away() {
    let setup = Dovecot::aruba().transport(Transport::Plain).user(USER, "x");
    let server = setup.without(&["UIDPLUS", "NOTIFY", "IDLE"]).start();
    let answers = plain_session(&server, &format!("a LOGIN {USER} x\r\nb CAPABILITY\r\n"));
    assert!(answers.contains(" CONDSTORE "), "{answers}");
    assert!(!["NOTIFY", "IDLE", "UIDPLUS"].iter().any(|name| answers.contains(name)), "{answers}");
}

#[test]
fn quota_and_outages_work() {
    let mut server = Dovecot::legalmail().user(USER, "x").quota_kib(100).mail_max_kib(60).start();
    let mut imap = server.imap(USER);
    let date = "04-Feb-2025 07:59:59 +0100";
    let refusal = imap.attempt_append("INBOX", "", date, &mail::big(1, 70_000).octets);
    assert!(refusal.clone().unwrap_err().contains("[LIMIT]"), "{refusal:?}");
    imap.append("INBOX", "", date, &mail::big(1, 50_000).octets);
    imap.append("INBOX", "", date, &mail::big(2, 40_000).octets);
    let refusal = imap.attempt_append("INBOX", "", date, &mail::big(3, 50_000).octets);
    assert!(refusal.clone().unwrap_err().contains("[OVERQUOTA]"), "{refusal:?}");
    drop(imap);
    server.stop();
    assert!(std::net::TcpStream::connect(("127.0.0.1", server.port())).is_err());
    server.restart();
    assert_eq!(server.imap(USER).count("INBOX"), 2);
    assert_eq!(server.layout(), Layout::Legalmail);
}

fn pair() -> (Dovecot, Dovecot) {
    (Dovecot::aruba().user(USER, "x").start(), Dovecot::legalmail().user(USER, "x").start())
}

/// A source with mail in well-known, nested and empty folders.
fn filled_pair() -> (Dovecot, Dovecot) {
    let (source, target) = pair();
    let mut imap = source.imap(USER);
    for folder in ["INBOX.Clienti", "INBOX.Clienti.Rossi & Figli", "INBOX.Vuota"] {
        imap.create(folder);
    }
    plant(&source, "INBOX", &mail::pec(4, 10));
    plant(&source, "INBOX.Inviata", &mail::odd());
    plant(&source, "INBOX.Clienti.Rossi & Figli", &mail::pec(5, 5));
    (source, target)
}

fn plant(server: &Dovecot, folder: &str, mails: &[Mail]) {
    let mut imap = server.imap(USER);
    for mail in mails {
        imap.append(folder, &mail.flags, &mail.date, &mail.octets);
    }
}

/// A copier as simple as can be: the raw client reads here and writes there.
fn pump(source: &Dovecot, target: &Dovecot) {
    let (mut from, mut to) = (source.imap(USER), target.imap(USER));
    for name in from.list() {
        let target_name = aruba_to_legalmail(&name);
        to.create(&target_name);
        for message in from.fetch_all(&name) {
            let date = jiff::Timestamp::from_second(message.instant).expect("a date");
            let date = date.strftime("%d-%b-%Y %H:%M:%S +0000").to_string();
            let flags = storable(&message.flags).join(" ");
            to.append(&target_name, &flags, &date, &message.octets);
        }
    }
}

fn storable(flags: &std::collections::BTreeSet<String>) -> Vec<&str> {
    flags.iter().map(String::as_str).filter(|flag| *flag != "\\Recent").collect()
}

/// One login by hand over an unencrypted port; tells whether it was accepted.
fn plain_login(server: &Dovecot, password: &str) -> bool {
    let answers = plain_session(server, &format!("a LOGIN {USER} \"{password}\"\r\n"));
    answers.lines().any(|line| line.starts_with("a OK"))
}

/// One command after the other, each with its tag: commands sent ahead of a login can be lost with
/// the connection's reset when Dovecot hands it from one process to the next.
fn plain_session(server: &Dovecot, commands: &str) -> String {
    use std::io::{BufRead, BufReader, Write};
    let stream = std::net::TcpStream::connect(("127.0.0.1", server.port())).expect("there");
    let mut answers = String::new();
    let mut reader = BufReader::new(&stream);
    reader.read_line(&mut answers).expect("a greeting");
    for command in commands.lines() {
        write!(&stream, "{command}\r\n").expect("sent");
        let tag = format!("{} ", command.split(' ').next().expect("a tag"));
        let mut line = String::new();
        while !line.starts_with(&tag) {
            line.clear();
            assert!(reader.read_line(&mut line).expect("ASCII") > 0, "closed: {answers}");
            answers.push_str(&line);
        }
    }
    answers
}
