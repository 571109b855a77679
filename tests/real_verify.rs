//! The proof of the move, between real servers: what a verification sees, what it puts down to the
//! owner, what it repairs; and reports that say the same with and without a daemon.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use support::daemon::{Account, Site, rfc3339};
use support::dovecot::Dovecot;
use support::mail::{self, Mail};
use support::poll;
use support::stage::Stage;

/// What `verify --json` says of the one account: its exit code, and its part of the answer.
fn verify(site: &Site, stage: &Stage, options: &[&str]) -> (Option<i32>, Value) {
    let output = site.command(&[&["verify", stage.address(), "--json"], options].concat());
    let said =
        || String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    let mut answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", said()));
    (output.status.code(), answer["accounts"][0].take())
}

/// `missing 1, surplus -`: kinds and source UIDs, sorted.
fn findings(account: &Value) -> Vec<String> {
    let found = account["findings"].as_array().expect("findings").iter();
    let mut found: Vec<String> = found
        .map(|finding| {
            let uid = finding["source_uid"].as_u64();
            let uid = uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string());
            format!("{} {uid}", finding["kind"].as_str().expect("a kind"))
        })
        .collect();
    found.sort();
    found
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The Maildir file of the message with that subject.
fn file_of(server: &Dovecot, user: &str, subject: &str) -> PathBuf {
    let maildir = server.home(user).join("Maildir");
    let files =
        ["cur", "new"].into_iter().flat_map(|part| fs::read_dir(maildir.join(part)).unwrap());
    let mut paths = files.map(|file| file.unwrap().path());
    let wanted = format!("Subject: {subject}\n");
    let holds = |path: &PathBuf| {
        String::from_utf8_lossy(&fs::read(path).unwrap()).replace("\r\n", "\n").contains(&wanted)
    };
    paths.find(holds).unwrap_or_else(|| panic!("no message {subject}"))
}

/// Changes letters of a message behind its server's back; size and date stay.
fn falsify(path: &PathBuf) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    let octets = String::from_utf8(fs::read(path).unwrap()).unwrap();
    let falsified = octets.replacen("Messaggio", "Massaggio", 1);
    assert_ne!(octets, falsified);
    fs::write(path, falsified).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
}

fn redate(path: &PathBuf) {
    let other = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(path).unwrap().set_modified(other).unwrap();
}

/// What the server remembers of messages it has looked at.
fn forget_cache(server: &Dovecot, user: &str) {
    let _ = fs::remove_file(server.home(user).join("Maildir/dovecot.index.cache"));
}

#[test]
fn tampering_before_the_cutover_is_seen_and_what_is_missing_is_copied_again() {
    let stage = Stage::between(Account::new("manomessa"), Dovecot::legalmail(), Dovecot::aruba());
    stage.plant("INBOX", &mail::pec(1, 12));
    stage.plant("Clienti", &mail::odd());
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());

    let (code, account) = verify(&site, &stage, &["--source"]);
    assert_eq!((code, findings(&account)), (Some(0), vec![]), "{account:#}");
    let messages = 12 + mail::odd().len() as u64;
    assert_eq!(account["messages"], messages);
    assert_eq!(account["source_messages"], messages);
    daemon.wait("verified", stage.address(), 20, |account| {
        account["messages"]["verified"] == messages
    });

    let mut owner = stage.at_target();
    let user = &stage.account.target_user;
    owner.expunge("INBOX", "1");
    owner.store("INBOX", "6", "FLAGS", "strano");
    owner.append("INBOX", "", "04-Feb-2024 10:00:00 +0100", b"Subject: altrui\r\n\r\n");
    falsify(&file_of(&stage.target, user, "POSTA CERTIFICATA: pratica 2"));
    redate(&file_of(&stage.target, user, "POSTA CERTIFICATA: pratica 4"));
    forget_cache(&stage.target, user);
    let expected = ["altered 3", "missing 1", "redated 5", "reflagged 6", "surplus -"];
    let (code, account) = verify(&site, &stage, &[]);
    assert_eq!(
        (code, findings(&account)),
        (Some(1), expected.map(String::from).into()),
        "{account:#}"
    );
    assert_eq!(owner.count("INBOX"), 12, "a verification changes nothing");

    let all = site.command(&["verify", "--all"]);
    let said = String::from_utf8_lossy(&all.stdout);
    assert_eq!(all.status.code(), Some(1), "{said}");
    let address = stage.address();
    assert!(said.contains(&format!("{address}: missing at the target: INBOX, UID 1")), "{said}");
    assert!(said.contains(&format!("{address}: 5 differences; ")), "{said}");

    let (code, account) = verify(&site, &stage, &["--repair"]);
    assert_eq!((code, &account["to_be_copied"]), (Some(1), &1.into()), "{account:#}");
    let copied = poll(Duration::from_secs(20), || (owner.count("INBOX") == 13).then_some(()));
    assert!(copied.is_some(), "{}", site.log());
    site.expect_events("copy_vanished", 1);
    let left: Vec<String> =
        expected.iter().filter(|one| **one != "missing 1").map(|one| (*one).into()).collect();
    let left_over = poll(Duration::from_secs(20), || {
        let (code, account) = verify(&site, &stage, &[]);
        (findings(&account) == left).then_some(code)
    });
    assert_eq!(left_over, Some(Some(1)));
    site.wait_event("account_verified", 20);

    // The same without a daemon; what is missing is then copied by the next one.
    owner.expunge("INBOX", "2");
    daemon.terminate();
    let (code, account) = verify(&site, &stage, &["--repair"]);
    let with_missing: Vec<String> = left.iter().cloned().chain(["missing 2".to_owned()]).collect();
    let with_missing: BTreeSet<String> = with_missing.into_iter().collect();
    assert_eq!(findings(&account).into_iter().collect::<BTreeSet<_>>(), with_missing);
    assert_eq!((code, &account["to_be_copied"]), (Some(1), &1.into()), "{account:#}");
    let _daemon = site.start();
    let copied = poll(Duration::from_secs(30), || (owner.count("INBOX") == 13).then_some(()));
    assert!(copied.is_some(), "{}", site.log());
}

#[test]
fn bodies_are_streamed_through_a_verification() {
    let stage = Stage::new("voluminosa");
    stage.plant("INBOX", &[mail::big(1, 12_000_000), mail::big(2, 1_000)]);
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    let most_kb = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = most_kb();
    let (code, account) = verify(&site, &stage, &["--source"]);
    assert_eq!((code, &account["messages"]), (Some(0), &2.into()), "{account:#}");
    let grown = most_kb() - before;
    assert!(grown < 6 * 1024, "{grown} KiB more");

    text(&site.command(&["pause", stage.address()]));
    let (code, account) = verify(&site, &stage, &[]);
    assert_eq!((code, &account["error"]["code"]), (Some(1), &"paused".into()), "{account:#}");
}

#[test]
fn after_the_seal_the_owners_work_is_no_difference_and_a_loss_is() {
    let stage = Stage::new("sigillata");
    stage.plant("INBOX", &mail::pec(1, 8));
    stage.plant("INBOX.Clienti", &mail::pec(2, 3));
    stage.plant("INBOX.Vecchie", &mail::pec(3, 2));
    let site = stage.complete(stage.plan());
    let (code, account) = verify(&site, &stage, &["--source"]);
    assert_eq!((code, findings(&account)), (Some(0), vec![]), "{account:#}");

    let mut owner = stage.at_target();
    owner.expunge("INBOX", "1");
    owner.move_messages("INBOX", "2", "Clienti");
    owner.store("INBOX", "3", "FLAGS", "\\Answered \\Flagged \\Draft");
    owner.append("INBOX", "", "04-Feb-2024 10:00:00 +0100", b"Subject: nuova\r\n\r\n");
    owner.delete_folder("Vecchie");
    let (code, account) = verify(&site, &stage, &["--repair"]);
    let expected = ["arrived -", "flagged 3", "moved 2", "removed 1", "removed 1", "removed 2"]
        .map(String::from);
    assert_eq!((code, findings(&account)), (Some(0), expected.into()), "{account:#}");
    assert_eq!(account["differences"], 0);
    assert_eq!(account["changed_since"], 6);

    // A folder that counts anew was made anew: what it lacks may have been lost.
    owner.create("Vecchie");
    let (code, account) = verify(&site, &stage, &["--repair"]);
    assert_eq!(code, Some(1), "{account:#}");
    assert_eq!(account["differences"], 2);
    assert_eq!(account["to_be_copied"], 0);
    assert!(account["not_repaired"].as_str().unwrap().contains("owner's"), "{account:#}");
    assert_eq!(owner.count("Vecchie"), 0);
}

#[test]
fn the_source_is_not_read_past_its_time_and_a_refused_password_not_tried_again() {
    let stage = Stage::new("scaduta");
    stage.plant("INBOX", &mail::pec(1, 3));
    let until = rfc3339(SystemTime::now() + Duration::from_secs(25));
    let site = stage.complete(stage.plan().migration(&format!("source_until = \"{until}\"")));
    let over = poll(Duration::from_secs(40), || {
        (rfc3339(SystemTime::now()) > until).then_some(stage.source.logins(stage.address()))
    });
    let (code, account) = verify(&site, &stage, &["--source"]);
    assert_eq!((code, &account["error"]["code"]), (Some(1), &"deadline_passed".into()));
    assert_eq!(Some(stage.source.logins(stage.address())), over, "nobody connects to the source");
    let (code, _) = verify(&site, &stage, &[]);
    assert_eq!(code, Some(0), "the target may still be verified");

    stage.target.set_password(&stage.account.target_user, "un'altra");
    let (code, account) = verify(&site, &stage, &[]);
    assert_eq!((code, &account["error"]["code"]), (Some(77), &"credentials_rejected".into()));
    let unknown = site.command(&["verify", "nessuno@pec.prova.example"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}

#[test]
fn reports_say_the_same_with_and_without_a_daemon() {
    let stage = Stage::new("attestata");
    stage.plant("INBOX", &mail::pec(1, 5));
    stage.plant("INBOX.<script>alert(1)<&script>", &mail::pec(2, 2));
    stage.plant("INBOX.=cmd", &[Mail::new("one", b"Subject: a\r\n\r\nb\r\n".to_vec())]);
    let site = stage.plan().folders("exclude = [\"Spam\"]").write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    let formats = |site: &Site| {
        ["json", "csv", "text", "html"]
            .map(|format| text(&site.command(&["report", stage.address(), "--format", format])))
    };
    let with_daemon = formats(&site);
    daemon.terminate();
    let without = formats(&site);
    let json: Value = serde_json::from_str(&with_daemon[0]).expect("JSON");
    let account = &json["accounts"][0];
    assert_eq!(
        (&account["totals"]["copied"], &account["totals"]["source"]),
        (&8.into(), &8.into())
    );
    assert_eq!(account["left_out"][0]["name"], "Spam", "{account:#}");
    assert!(without[0].contains("\"name\":\"Spam\""), "{}", without[0]);
    let digest = account["digest"]["value"].as_str().expect("a digest");
    for report in with_daemon.iter().chain(&without) {
        assert!(report.contains(digest), "{report}");
    }
    assert_eq!(with_daemon[1], without[1], "the CSV holds no time of its making");
    assert!(without[1].contains(",\"'=cmd\","), "{}", without[1]);
    let page = &without[3];
    assert!(page.contains("default-src 'none'") && !page.contains("<script"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;&amp;script&gt;"), "{page}");
    assert!(page.contains("<html lang=\"it\">") && page.contains("Nuovo gestore"), "{page}");
    let all = ["report", "--migration", "prova", "--format", "html", "--lang", "en"];
    let english = text(&site.command(&all));
    assert!(
        english.contains("<html lang=\"en\">") && english.contains("New provider"),
        "{english}"
    );
    let unknown = site.command(&["report", "nessuno@pec.prova.example", "--format", "html"]);
    assert_eq!((unknown.status.code(), unknown.stdout.len()), (Some(1), 0), "{unknown:?}");
}

#[test]
fn root_leaves_nothing_behind_that_the_daemon_cannot_open() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    const DAEMON: u32 = 65534;
    // SAFETY: geteuid takes nothing and always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        return eprintln!("not root; not tested");
    }
    let stage = Stage::new("proprietaria");
    stage.plant("INBOX", &mail::pec(1, 3));
    let site = stage.complete(stage.plan());
    fs::set_permissions(site.path(""), fs::Permissions::from_mode(0o755)).expect("chmod");
    let files = || {
        let dirs =
            ["state", "state/checkpoint", "state/checkpoint/blobs"].map(|dir| site.path(dir));
        let inside = dirs.clone().into_iter().flat_map(|dir| fs::read_dir(dir).unwrap());
        let inside = inside.map(|entry| entry.unwrap().path());
        dirs.into_iter().chain(inside).collect::<BTreeSet<_>>()
    };
    for file in files() {
        chown(file, Some(DAEMON), Some(DAEMON)).expect("chown");
    }
    text(&site.command(&["report", stage.address()]));
    let (code, account) = verify(&site, &stage, &[]);
    assert_eq!((code, findings(&account)), (Some(0), vec![]), "{account:#}");
    for file in files() {
        assert_eq!(fs::metadata(&file).unwrap().uid(), DAEMON, "{}", file.display());
    }
}

#[test]
fn a_report_is_written_at_completion_and_its_failure_undoes_nothing() {
    let stage = Stage::new("conclusa");
    stage.plant("INBOX", &mail::pec(1, 4));
    let plan = stage.plan().sync("read_back = \"all\"");
    let site = plan.cutover_in(Duration::from_secs(4)).write();
    // Something else has the directory's name.
    fs::write(site.state().join("reports"), "").expect("written");
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_completed(60);
    assert_eq!(site.events("report_failed").len(), 1, "{}", site.log());
    fs::remove_file(site.state().join("reports")).expect("removed");
    site.start_to_its_end();
    assert_eq!(site.events("report_written").len(), 1, "{}", site.log());
    site.start_to_its_end();
    assert_eq!(site.events("report_written").len(), 1, "it is written once");
    let reports = site.state().join("reports");
    let file = |ending: &str| {
        fs::read_to_string(reports.join(format!("{}.{ending}", stage.address()))).expect("a report")
    };
    let json: Value = serde_json::from_str(&file("json")).expect("JSON");
    let account = &json["accounts"][0];
    assert_eq!((&account["phase"], &account["totals"]["source"]), (&"completed".into(), &4.into()));
    assert_eq!(
        (&account["totals"]["read_back"], &account["totals"]["listed"]),
        (&4.into(), &0.into())
    );
    assert!(file("html").contains(account["digest"]["value"].as_str().expect("a digest")));
    assert!(file("html").contains("class=\"good\""));
}
