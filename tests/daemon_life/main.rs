//! The daemon as its surroundings see it: systemd, signals, sockets, files, commands. No server
//! answers here; what accounts do is tested elsewhere.

mod control;
mod metrics;
mod site;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pecsync::checkpoint::{AccountRecord, Edit, Phase, Place, Store};
use serde_json::Value;
use site::{Site, text};

#[test]
fn systemd_hears_of_every_turn() {
    let site = Site::new();
    site.enroll("mario");
    let mut daemon = site.start();
    assert!(daemon.wait_notified("STATUS=").contains("STATUS=1 account"));
    daemon.wait_notified("WATCHDOG=1");
    daemon.signal(libc::SIGHUP);
    let reloading = daemon.wait_notified("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    daemon.wait_notified("READY=1");
    site.wait_event("configuration_reloaded", 1);
    daemon.signal(libc::SIGUSR1);
    let reported = site.wait_event("status_reported", 1);
    assert!(text_of(&reported, "MESSAGE").starts_with("1 account"), "{reported}");
    daemon.signal(libc::SIGTERM);
    daemon.wait_notified("STOPPING=1");
    assert_eq!(daemon.wait().code(), Some(0));
    assert_eq!(site.events("daemon_started").len(), 1);
    assert_eq!(site.events("daemon_stopping").len(), 1);
}

/// The accounts that a migration expects, against those that came.
#[test]
fn who_is_early_waits_and_who_is_missing_is_named() {
    let site = Site::new();
    site.write(
        "etc/accounts.csv",
        "address\nmario@pec.epap.it\nanna@pec.epap.it\nugo@pec.epap.it\n",
    );
    site.configure_both("", "accounts = \"accounts.csv\"\nenroll_from = \"2199-01-01\"");
    site.enroll("mario");
    let mut daemon = site.start();
    let early = site.wait_account("mario@pec.epap.it", |account| !account["reason"].is_null());
    let reason = &early["reason"];
    assert_eq!(
        (early["phase"].as_str(), early["condition"].as_str()),
        (Some("enrolled"), Some("held"))
    );
    assert_eq!(reason["code"], "window_not_open");
    assert!(text_of(reason, "next_try").starts_with("2198-12-31T23:00:0"), "{reason}");
    assert_eq!(site.wait_event("enrollment_waits", 1)["PRIORITY"], "5");
    assert!(site.events("account_held").is_empty(), "nobody is to be alarmed");
    let missing = |expected: &str| {
        let expected: Value = serde_json::from_str(expected).unwrap();
        site::poll(|| (site.status()["missing"] == expected).then_some(())).unwrap();
    };
    missing(r#"["anna@pec.epap.it","ugo@pec.epap.it"]"#);
    site.enroll("anna");
    missing(r#"["ugo@pec.epap.it"]"#);
    let shown = site.command(&["status"]);
    assert!(text(&shown.stdout).contains("Not enrolled yet: 1"), "{}", text(&shown.stdout));
    assert_eq!(site.command(&["status", "--check"]).status.code(), Some(0));

    site.configure_both("", "accounts = \"accounts.csv\"\nenroll_from = \"2020-01-01\"");
    assert!(site.command(&["reload"]).status.success());
    site.wait_account("mario@pec.epap.it", |account| account["phase"] == "copying");
    assert_eq!(daemon.stop().code(), Some(0));
}

/// The screen for the day, and the sheet from which people are reminded.
#[test]
fn a_migration_on_a_screen_and_in_a_sheet() {
    let site = Site::new();
    let rows = "mario@pec.epap.it,mario@studio.it,+391234567890\n\
                tardi@pec.epap.it,=tardi@studio.it,+390987654321\n";
    site.write("etc/accounts.csv", &format!("address,email,phone\n{rows}"));
    site.configure_both("", "accounts = \"accounts.csv\"\ncutover = \"2199-02-04T08:00\"");
    site.enroll("mario");
    let mut daemon = site.start();
    site.wait_account("mario@pec.epap.it", |account| account["condition"] == "retrying");

    let screen = site.command(&["status", "--migration", "epap"]);
    let screen = text(&screen.stdout);
    for line in [
        "epap: cutover in ",
        ", 2199-02-04 08:00 CET",
        "\n  sealed       0 of 1 (0 %)\n  remaining    0\n  held         0\n",
        "\n  retrying     1      unreachable 1\n",
        "\n  not enrolled 1 of 2\n",
        "\n  mario@pec.epap.it: retrying unreachable, ",
    ] {
        assert!(screen.contains(line), "{line:?} in {screen}");
    }
    let unknown = site.command(&["status", "--migration", "epa"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(text(&unknown.stderr), "pecsync: epa: no such migration\n");

    let sheet = site.command(&["status", "--csv"]);
    let sheet = text(&sheet.stdout);
    let lines: Vec<&str> = sheet.lines().collect();
    assert_eq!(lines.len(), 3, "{sheet}");
    let mario =
        "\"mario@pec.epap.it\",\"epap\",\"copying\",\"retrying\",\"unreachable\",\"source\",";
    assert!(lines[1].starts_with(mario), "{sheet}");
    assert!(lines[1].ends_with(",1,\"mario@studio.it\",\"'+391234567890\""), "{sheet}");
    assert!(lines[2].starts_with("\"tardi@pec.epap.it\",\"epap\",\"missing\",\"\","), "{sheet}");
    assert!(lines[2].ends_with("\"'+390987654321\""), "{sheet}");

    let moved = site.command(&["cutover", "--migration", "epap", "--at", "2199-03-01T08:00"]);
    assert!(moved.status.success(), "{moved:?}");
    assert_eq!(site.status()["migrations"][0]["cutover"], "2199-03-01T07:00:00Z");
    assert_eq!(daemon.stop().code(), Some(0));
    let last_known = site.command(&["status", "--migration", "epap"]);
    assert_eq!(last_known.status.code(), Some(69));
    assert!(text(&last_known.stdout).starts_with("epap: cutover in "), "{last_known:?}");
}

/// A password that expires, and a program that is told of it.
#[test]
fn a_hook_is_told_also_when_the_daemon_stops_at_once() {
    let site = Site::new();
    let told = site.path("told");
    let script = format!("#!/bin/sh\n/bin/cat >> {}\n", told.display());
    site.write("etc/hook", &script);
    let hook = site.path("etc/hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).unwrap();
    let wrong = "[hooks]\nsecret_expiring = [\"hook\"]\naccount_held = []\n";
    site.configure_both("", &format!("cutover = \"2199-02-04T08:00\"\n{wrong}"));
    let checked = site.command(&["check"]);
    let checked = text(&checked.stderr) + &text(&checked.stdout);
    for words in ["\"hook\" is not the full path of a program", "account_held: no program"] {
        assert!(checked.contains(words), "{checked}");
    }

    let hooks = format!("[hooks]\nsecret_expiring = [\"{}\", \"x\"]\n", hook.display());
    site.configure_both("", &format!("cutover = \"2199-02-04T08:00\"\n{hooks}"));
    let contact = "[contact]\nemail = \"mario@studio.it\"\n";
    let enrollment =
        site::enrollment("mario").replace("[target]", "expires = 2020-01-01\n[target]");
    site.write("etc/conf.d/mario.toml", &format!("{enrollment}{contact}"));
    let mut daemon = site.start();
    site.wait_event("secret_expiring", 1);
    assert_eq!(daemon.stop().code(), Some(0));
    let line = site::poll(|| fs::read_to_string(&told).ok().filter(|text| text.ends_with('\n')));
    let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
    assert_eq!(line["event"], "secret_expiring");
    assert_eq!(line["account"], "mario@pec.epap.it");
    assert_eq!(line["contact"]["email"], "mario@studio.it");
    assert!(site.events("hook_failed").is_empty(), "{}", site.log());
}

#[test]
fn enrollments_come_change_and_go() {
    let site = Site::new();
    let mut daemon = site.start();
    assert_eq!(site.status()["accounts"], Value::Array(Vec::new()));
    site.enroll("mario");
    site.enroll("anna");
    let mario = site.wait_account("mario@pec.epap.it", |_| true);
    assert_eq!((&mario["migration"], &mario["removals"]), (&"epap".into(), &"mirrored".into()));
    site.wait_account("anna@pec.epap.it", |_| true);
    let text = site::enrollment("mario").replace("segreto", "altro");
    site.write("etc/conf.d/mario.toml", &text);
    let replaced = site.wait_event("enrollment_replaced", 1);
    assert_eq!(replaced["PECSYNC_ACCOUNT"], "mario@pec.epap.it");
    fs::remove_file(site.path("etc/conf.d/mario.toml")).unwrap();
    site.wait_event("enrollment_removed", 1);
    let addresses = site::poll(|| {
        let status = site.status();
        let accounts = status["accounts"].as_array()?.clone();
        (accounts.len() == 1).then(|| accounts[0]["address"].clone())
    });
    assert_eq!(addresses, Some("anna@pec.epap.it".into()));
    assert_eq!(daemon.stop().code(), Some(0));
    let log = site.log();
    assert!(!log.contains("segreto") && !log.contains("altro"), "{log}");
}

#[test]
fn a_wrong_file_is_listed_and_disturbs_nobody() {
    let site = Site::new();
    site.enroll("mario");
    site.write("etc/conf.d/bad.toml", "address = \"x@pec.epap.it\"\npasword = \"y\"\n");
    let _daemon = site.start();
    let status = site.status();
    assert_eq!(status["accounts"][0]["address"], "mario@pec.epap.it");
    let rejected = &status["rejected"][0];
    assert_eq!(rejected["file"], "conf.d/bad.toml");
    assert!(rejected["line"].is_u64() && rejected["column"].is_u64(), "{rejected}");
    assert!(rejected["message"].is_string() && rejected["hint"].is_string(), "{rejected}");
    let said = site.wait_event("enrollment_rejected", 1);
    assert_eq!(said["PECSYNC_FILE"], "conf.d/bad.toml");
    assert_eq!(said["PRIORITY"], "4");
    let table = text(&site.command(&["status"]).stdout);
    assert!(table.contains("Rejected files:") && table.contains("conf.d/bad.toml:"), "{table}");
}

#[test]
fn a_known_account_with_a_bad_file_is_held_not_missing() {
    let site = Site::new();
    site.enroll("mario");
    let file = site.path("etc/conf.d/mario.toml");
    remember(&site, "mario@pec.epap.it", &file);
    site.write("etc/conf.d/mario.toml", "address = \"mario@pec.epap.it\"\n[source\n");
    let _daemon = site.start();
    let mario = site.wait_account("mario@pec.epap.it", |_| true);
    assert_eq!((&mario["phase"], &mario["condition"]), (&"following".into(), &"held".into()));
    assert_eq!(mario["reason"]["code"], "enrollment_rejected");
    let refused = site.command(&["retry", "mario@pec.epap.it"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("mend the file"), "{refused:?}");
    site.enroll("mario");
    site.wait_account("mario@pec.epap.it", |mario| {
        mario["reason"]["code"] != "enrollment_rejected"
    });
}

/// Puts an account into the checkpoint as an earlier daemon would have.
fn remember(site: &Site, address: &str, file: &std::path::Path) {
    let (store, _) = Store::open(&site.path("state")).expect("a store");
    let place = |user: &str| Place { host: "127.0.0.1".into(), user: user.into() };
    let record = AccountRecord {
        id: store.new_account_id().expect("an id"),
        address: address.into(),
        migration: "epap".into(),
        enrolled_by: file.display().to_string(),
        source: place(address),
        target: place("Mmario"),
        phase: Phase::Following,
        sealed_at: None,
        completed_at: None,
        source_seen_until: None,
        first_copy_completed: true,
        removals_suspended: false,
        refused_credentials: None,
        worked_credentials: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(store.writer().commit(vec![Edit::PutAccount(record)])).expect("committed");
}

#[test]
fn a_bad_pecsync_toml_ends_with_78_or_keeps_the_old_one() {
    let site = Site::new();
    site.enroll("mario");
    let mut daemon = site.start();
    let good = fs::read_to_string(site.path("etc/pecsync.toml")).unwrap();
    site.write("etc/pecsync.toml", &format!("{good}\nprot = 993\n"));
    let reload = site.command(&["reload"]);
    assert_eq!(reload.status.code(), Some(78), "{reload:?}");
    let said = text(&reload.stderr);
    assert!(said.contains("pecsync.toml:") && said.contains("\"prot\""), "{said}");
    assert_eq!(site.wait_event("configuration_rejected", 1)["PRIORITY"], "4");
    assert_eq!(site.status()["accounts"].as_array().map(Vec::len), Some(1));
    daemon.stop();
    assert_eq!(site.spawn().wait().code(), Some(78));
    site.write("etc/pecsync.toml", &good);
    let _daemon = site.start();
    let reload = site.command(&["reload"]);
    assert_eq!((reload.status.code(), text(&reload.stderr)), (Some(0), String::new()));
}

#[test]
fn only_one_daemon_and_a_killed_one_leaves_nothing_in_the_way() {
    let site = Site::new();
    let mut first = site.start();
    let refused = site.command(&["run", "--log", "stderr"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("in use by another pecsync"), "{refused:?}");
    assert_eq!(site.command(&["status"]).status.code(), Some(0), "the first is not disturbed");

    // The same sockets for another state: somebody listens there.
    let other = Site::new();
    let text_of_other = fs::read_to_string(other.path("etc/pecsync.toml")).unwrap();
    let (own, taken) = (other.path("run/control.sock"), site.path("run/control.sock"));
    let stolen = text_of_other.replace(own.to_str().unwrap(), taken.to_str().unwrap());
    other.write("etc/pecsync.toml", &stolen);
    let refused = other.command(&["run", "--log", "stderr"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("another pecsync listens there"), "{refused:?}");

    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert!(site.path("run/control.sock").exists(), "kill -9 leaves it");
    drop(first);
    let mut second = site.start();
    assert_eq!(site.command(&["status"]).status.code(), Some(0));
    assert_eq!(second.stop().code(), Some(0));
    assert!(!site.path("run/control.sock").exists());
}

#[test]
fn without_a_daemon_the_last_known_state_is_shown() {
    let site = Site::new();
    let nothing = site.command(&["status"]);
    assert_eq!(nothing.status.code(), Some(69));
    assert!(text(&nothing.stderr).contains("no daemon listens"), "{nothing:?}");
    assert_eq!(site.command(&["reload"]).status.code(), Some(69));
    assert_eq!(site.command(&["retry", "--all"]).status.code(), Some(69));
    site.enroll("mario");
    site.start().stop();
    let known = site.command(&["status", "--json"]);
    assert_eq!(known.status.code(), Some(69));
    let status: Value = serde_json::from_slice(&known.stdout).expect("JSON");
    assert_eq!(status["accounts"][0]["address"], "mario@pec.epap.it");
    let check = site.command(&["status", "--check"]);
    assert_eq!(check.status.code(), Some(2));
    assert!(text(&check.stdout).starts_with("PECSYNC CRITICAL - no daemon"), "{check:?}");
}

#[test]
fn no_core_dumps_and_private_files() {
    let site = Site::new();
    let daemon = site.start();
    let proc = PathBuf::from(format!("/proc/{}", daemon.child.id()));
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let line = |name: &str| limits.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let words = line("Max core file size");
    assert_eq!(words.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
    let words = line("Max open files");
    let words: Vec<&str> = words.split_whitespace().collect();
    assert_eq!(words[3], words[4], "as many as allowed");
    let status = fs::read_to_string(proc.join("status")).unwrap();
    assert!(status.contains("Umask:\t0077"), "{status}");
}

#[test]
fn zero_accounts_are_not_all_completed() {
    let site = Site::new();
    site.configure("exit_when_completed = true");
    let mut daemon = site.start();
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(daemon.child.try_wait().unwrap().is_none(), "it waits");
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn status_json_is_what_the_contract_says() {
    let site = Site::new();
    site.enroll("mario");
    let _daemon = site.start();
    let status = site.status();
    assert_eq!(
        names(&status),
        ["accounts", "daemon", "migrations", "missing", "rejected", "schema"]
    );
    assert_eq!(status["schema"], 1);
    let daemon = &status["daemon"];
    assert_eq!(names(daemon), ["bandwidth", "connections", "pid", "started_at", "version"]);
    assert_eq!(names(&daemon["connections"]), ["source", "target"]);
    assert_eq!(daemon["bandwidth"], serde_json::json!({ "limit": null, "used": 0 }));
    assert!(daemon["started_at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let account = &status["accounts"][0];
    let expected = "address bytes condition contact cutover enrolled_by eta_s folders has_secrets last_copied_at \
                    messages migration mode owners_password_from phase proved_alive_at reason reasons removals sealed_at source_seen_until";
    assert_eq!(names(account).join(" "), expected);
    let expected = ["adopted", "altered", "copied", "in_doubt", "refused", "source", "verified"];
    assert_eq!(names(&account["messages"]), expected);
    assert_eq!(names(&account["bytes"]), ["copied", "source"]);
}

fn names(object: &Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        object.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn text_of<'v>(entry: &'v Value, field: &str) -> &'v str {
    entry[field].as_str().unwrap_or_else(|| panic!("no {field} in {entry}"))
}
