//! The first copy, between real servers: every message, folder, date and flag, octet by octet.

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::compare::{Snapshot, aruba_to_legalmail, assert_exact};
use support::daemon::Account;
use support::dovecot::Dovecot;
use support::mail::{self, Mail};
use support::server::Server;
use support::stage::Stage;

#[test]
fn odd_messages_arrive_octet_by_octet() {
    let stage = Stage::new("mario.rossi");
    stage.plant("INBOX", &mail::odd());
    stage.plant("INBOX", &mail::pec(1, 150));
    stage.plant("INBOX.Inviata", &mail::odd());
    stage.plant("INBOX.Strane", &mail::altered_by_dovecot());
    stage.complete(stage.plan());
    stage.assert_exact();
    assert!(!stage.at_target().list().contains("PWNED"), "a body was executed");
}

#[test]
fn big_messages_arrive_among_small_ones() {
    let stage = Stage::new("grande");
    stage.plant("INBOX", &mail::pec(2, 10));
    stage.plant("INBOX", &[mail::big(3, 20_000_000), mail::big(4, 5_000_000)]);
    stage.plant("INBOX", &mail::pec(5, 10));
    stage.complete(stage.plan());
    stage.assert_exact();
}

/// Between real servers, which must bear to be written to slowly.
#[test]
fn bodies_flow_no_faster_than_the_schedule_allows() {
    let stage = Stage::new("piano");
    stage.plant("INBOX", &mail::pec(6, 20));
    stage.plant("INBOX", &[mail::big(7, 300_000), mail::big(8, 300_000)]);
    let begun = Instant::now();
    stage.complete(stage.plan().target("[limits]\nschedule = [\"00:00-24:00 64kB/s\"]"));
    assert!(begun.elapsed() >= Duration::from_secs(8), "{:?}", begun.elapsed());
    stage.assert_exact();
}

#[test]
fn folders_of_all_names_arrive() {
    let stage = Stage::new("cartelle");
    let names = [
        "INBOX.Perché così",
        "INBOX.日本 📬",
        "INBOX.Rossi & Figli",
        "INBOX.&-&",
        "INBOX.per%cento",
        "INBOX.aste*risco",
        "INBOX.\"virgolette\"",
        "INBOX.barra\\rovescia",
        "INBOX.due  spazi",
        "INBOX.(parentesi) {3}",
        "INBOX.Clienti",
        "INBOX.Clienti.Rossi.2024.Gennaio",
        "INBOX.clienti",
    ];
    for (number, name) in names.into_iter().enumerate() {
        stage.plant(name, &mail::pec(number as u64, 2));
    }
    stage.plant("INBOX.Vuota", &[]);
    stage.plant("INBOX.Vuota.Anche questa", &[]);
    stage.complete(stage.plan());
    stage.assert_exact();
}

#[test]
fn a_name_with_the_other_sides_delimiter_loses_no_message() {
    let stage = Stage::new("barra");
    stage.plant("INBOX.a", &mail::pec(1, 2));
    stage.plant("INBOX.a/b", &mail::pec(2, 3));
    stage.complete(stage.plan());
    let (source, target) = (stage.source_snapshot(), stage.target_snapshot());
    let new = stray_folder(&source, &target, aruba_to_legalmail, "INBOX.a/b");
    assert_exact(&source, &target, |name| match name {
        "INBOX.a/b" => new.clone(),
        name => aruba_to_legalmail(name),
    });
}

#[test]
fn the_other_way_round_works_too() {
    let stage = Stage::between(Account::new("ritorno"), Dovecot::legalmail(), Dovecot::aruba());
    stage.plant("INBOX", &mail::odd());
    stage.plant("INBOX/Spedite", &mail::pec(1, 3));
    stage.plant("Clienti/Rossi & Figli", &mail::pec(2, 3));
    stage.plant("S.p.A.", &mail::pec(3, 3));
    stage.complete(stage.plan());
    let (source, target) = (stage.source_snapshot(), stage.target_snapshot());
    let new = stray_folder(&source, &target, legalmail_to_aruba, "S.p.A.");
    assert_exact(&source, &target, |name| match name {
        "S.p.A." => new.clone(),
        name => legalmail_to_aruba(name),
    });
}

#[test]
fn well_known_folders_pair_by_preset_where_nobody_marks_them() {
    let (source, target) = (Dovecot::aruba().unmarked(), Dovecot::legalmail().unmarked());
    let stage = Stage::between(Account::new("senza.segni"), source, target);
    for (number, folder) in ["Inviata", "Bozze", "Cestino", "Spam"].into_iter().enumerate() {
        stage.plant(&format!("INBOX.{folder}"), &mail::pec(number as u64, 2));
    }
    let plan = stage.plan().source("provider = \"aruba\"").target("provider = \"legalmail\"");
    stage.complete(plan);
    stage.assert_exact();
}

#[test]
fn folders_are_renamed_and_left_out_as_configured() {
    let stage = Stage::new("regole");
    stage.plant("INBOX.Spam", &mail::pec(1, 2));
    stage.plant("INBOX.Vecchie", &mail::pec(2, 2));
    stage.plant("INBOX.Inviata", &mail::pec(3, 2));
    let plan = stage.plan().folders("exclude = [\"Spam\"]");
    let plan = plan.folders("rename = { \"Vecchie\" = \"Archivio/Vecchie\" }");
    stage.complete(plan);
    let mut source = stage.source_snapshot();
    source.folders.remove("INBOX.Spam");
    assert_exact(&source, &stage.target_snapshot(), |name| match name {
        "INBOX.Vecchie" => "Archivio/Vecchie".to_owned(),
        name => aruba_to_legalmail(name),
    });
}

#[test]
fn servers_with_few_extensions_are_enough() {
    let few = [
        "MULTIAPPEND",
        "LITERAL+",
        "UIDPLUS",
        "CONDSTORE",
        "QRESYNC",
        "NOTIFY",
        "IDLE",
        "LIST-STATUS",
        "LIST-EXTENDED",
        "SPECIAL-USE",
        "ESEARCH",
        "ENABLE",
        "MOVE",
        "UNSELECT",
        "SASL-IR",
        "ID",
    ];
    let (source, target) = (Dovecot::aruba().without(&few), Dovecot::legalmail().without(&few));
    let stage = Stage::between(Account::new("povero"), source, target);
    stage.plant("INBOX", &mail::odd());
    stage.plant("INBOX.Inviata", &mail::pec(1, 20));
    let plan = stage.plan().source("provider = \"aruba\"").target("provider = \"legalmail\"");
    stage.complete(plan);
    stage.assert_exact();
}

#[test]
fn a_message_too_big_for_the_target_is_listed_and_alone() {
    let target = Dovecot::legalmail().mail_max_kib(200);
    let stage = Stage::between(Account::new("limite"), Dovecot::aruba(), target);
    stage.plant("INBOX", &mail::pec(1, 20));
    let big = mail::big(2, 300_000);
    stage.plant("INBOX", std::slice::from_ref(&big));
    stage.plant("INBOX", &mail::pec(3, 20));
    let site = stage.complete(stage.plan());
    assert_eq!(site.events("message_refused").len(), 1, "{}", site.log());
    let mut source = stage.source_snapshot();
    let inbox = source.folders.get_mut("INBOX").expect("INBOX");
    inbox.messages.retain(|message| message.print.size != big.octets.len());
    assert_exact(&source, &stage.target_snapshot(), aruba_to_legalmail);
}

#[test]
fn what_lies_at_the_target_already_is_neither_doubled_nor_touched() {
    let stage = Stage::new("secondo.giro");
    let mails = mail::pec(1, 30);
    stage.plant("INBOX", &mails);
    // Two of three identical ones are there already, and something of somebody else's.
    let receipt = Mail::new("identical", b"Subject: ricevuta\r\n\r\nuguale\r\n".to_vec());
    stage.plant("INBOX", &[receipt.clone(), receipt.clone(), receipt.clone()]);
    let mut imap = stage.at_target();
    for mail in mails[..10].iter().chain([&receipt, &receipt]) {
        imap.append("INBOX", &mail.flags, &mail.date, &mail.octets);
    }
    imap.create("Altro");
    imap.append("Altro", "", &receipt.date, b"Subject: altrui\r\n\r\n");
    stage.complete(stage.plan());
    let mut target = stage.target_snapshot();
    let other = target.folders.remove("Altro").expect("a folder that is not ours");
    assert_eq!(other.messages.len(), 1);
    assert_exact(&stage.source_snapshot(), &target, aruba_to_legalmail);
}

/// The one folder of the target that no other source folder explains: where `odd` went.
fn stray_folder(
    source: &Snapshot,
    target: &Snapshot,
    target_name: impl Fn(&str) -> String,
    odd: &str,
) -> String {
    let names = source.folders.keys().filter(|name| *name != odd);
    let explained: BTreeSet<String> = names.map(|name| target_name(name)).collect();
    let mut strays = target
        .folders
        .iter()
        .filter(|(name, folder)| !explained.contains(*name) && !folder.messages.is_empty());
    let (stray, _) = strays.next().unwrap_or_else(|| panic!("{odd} is nowhere"));
    assert!(strays.next().is_none(), "more than one folder nobody asked for");
    stray.clone()
}

fn legalmail_to_aruba(name: &str) -> String {
    match name {
        "INBOX" => "INBOX".to_owned(),
        "INBOX/Spedite" => "INBOX.Inviata".to_owned(),
        "INBOX/Draft" => "INBOX.Bozze".to_owned(),
        "INBOX/Trash" => "INBOX.Cestino".to_owned(),
        "INBOX/Posta Indesiderata" => "INBOX.Spam".to_owned(),
        name => format!("INBOX.{}", name.replace('/', ".")),
    }
}

/// What the journal says of an account grows with its folders and its adventures, not with its
/// messages: two mailboxes of which one has a hundred times as many tell the same story.
#[test]
fn an_accounts_story_is_a_handful_of_lines() {
    let folders = ["INBOX", "INBOX.Inviata", "INBOX.Clienti"];
    let stories = [40, 4000].map(|messages: u32| {
        let stage = Stage::new("storia");
        for folder in folders {
            stage.plant(folder, &mail::pec(1, 1));
            let shown = folder.trim_start_matches("INBOX.");
            for message in 1..messages {
                let octets = format!("Subject: {folder} {message}\r\n\r\nmail\r\n");
                let file = format!("17000{message:05}.M{message}P1.x,S={0},W={0}", octets.len());
                let octets = octets.as_bytes();
                assert!(stage.source.deliver(stage.address(), shown, &file, octets));
            }
        }
        let site = stage.complete(stage.plan());
        for folder in folders {
            assert_eq!(stage.at_target().count(&stage.target_name(folder)), messages);
        }
        let log = site.log();
        let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_account = entries.filter(|entry| entry["PECSYNC_ACCOUNT"] == stage.address());
        let names = of_account.map(|entry| entry["PECSYNC_EVENT"].as_str().unwrap().to_owned());
        // That one comes by the minute.
        let mut names: Vec<String> = names.filter(|name| name != "copy_progress").collect();
        assert!(names.len() <= 20, "{names:#?}");
        names.sort();
        names
    });
    assert_eq!(stories[0], stories[1]);
    for told in
        ["enrollment_accepted", "first_copy_completed", "account_sealed", "account_completed"]
    {
        assert!(stories[0].iter().any(|name| name == told), "{told}: {:#?}", stories[0]);
    }
}
