//! The sockets, from clients that mean well and others.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::site::{Site, text};

fn connect(site: &Site, socket: &str) -> UnixStream {
    let stream = UnixStream::connect(site.path("run").join(socket)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

fn ask(site: &Site, socket: &str, line: &str) -> Value {
    let mut stream = connect(site, socket);
    stream.write_all(line.as_bytes()).expect("written");
    stream.write_all(b"\n").expect("written");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("an answer");
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn modes_and_what_each_socket_does() {
    let site = Site::new();
    site.enroll("mario");
    let _daemon = site.start();
    let mode = |socket: &str| {
        fs::metadata(site.path("run").join(socket)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("control.sock"), mode("status.sock")), (0o660, 0o666));
    for socket in ["control.sock", "status.sock"] {
        let answer = ask(&site, socket, r#"{"do":"status"}"#);
        assert_eq!(answer["status"]["accounts"][0]["address"], "mario@pec.epap.it");
    }
    assert_eq!(ask(&site, "control.sock", r#"{"do":"retry"}"#)["exit"], 0);
    let refused = ask(&site, "status.sock", r#"{"do":"retry"}"#);
    assert_eq!(refused, json!({"exit": 1, "message": "this socket only tells status"}));
    for order in ["report", "verify", "plan"] {
        let order = json!({ "do": order, "address": "nobody@pec.epap.it" }).to_string();
        let refused = ask(&site, "status.sock", &order);
        assert_eq!(refused["message"], "this socket only tells status");
        let unknown = ask(&site, "control.sock", &order);
        assert_eq!(unknown["exit"], 1, "{unknown}");
        assert!(unknown["message"].as_str().unwrap().contains("nobody@pec.epap.it"), "{unknown}");
    }
}

#[test]
fn several_requests_on_one_connection() {
    let site = Site::new();
    let _daemon = site.start();
    let mut stream = connect(&site, "control.sock");
    stream.write_all(b"{\"do\":\"status\"}\n{\"do\":\"reload\"}\n{\"do\":\"retry\"}\n").unwrap();
    let answers = BufReader::new(stream).lines().take(3).map(Result::unwrap);
    for answer in answers {
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["exit"], 0, "{answer}");
    }
}

#[test]
fn nonsense_is_answered_and_harms_nobody() {
    let site = Site::new();
    let _daemon = site.start();
    let later = ask(&site, "control.sock", r#"{"do":"enroll","address":"a@b"}"#);
    assert_eq!(later, json!({"exit": 2, "message": "enroll is not supported yet"}));
    for line in ["", "{", "[]", r#"{"do":"dance"}"#, r#"{"do":"status","x":1}"#, "\u{1b}[2J"] {
        let answer = ask(&site, "control.sock", line);
        assert_eq!(answer["exit"], 2, "{line}: {answer}");
        assert!(!answer["message"].as_str().unwrap().contains('\u{1b}'));
    }
    let mut stream = connect(&site, "control.sock");
    // The daemon may hang up before it has been told everything.
    let _ = stream.write_all(&[0xff; 100_000]);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = text(&answer);
    assert!(answer.is_empty() || answer.contains("too long"), "{answer}");
    // Half a line, then gone.
    connect(&site, "control.sock").write_all(b"{\"do\":").unwrap();
    assert_eq!(ask(&site, "control.sock", r#"{"do":"status"}"#)["exit"], 0);
}

#[test]
fn silent_clients_keep_nobody_out_for_long() {
    let site = Site::new();
    let _daemon = site.start();
    let silent: Vec<UnixStream> = (0..40).map(|_| connect(&site, "control.sock")).collect();
    // All places are taken; they are given back when the silent ones' time is up.
    assert_eq!(ask(&site, "control.sock", r#"{"do":"status"}"#)["exit"], 0);
    assert_eq!(site.command(&["status"]).status.code(), Some(0), "the other socket is free");
    drop(silent);
}

#[test]
fn orders_for_accounts_that_are_and_are_not() {
    let site = Site::new();
    site.enroll("mario");
    let _daemon = site.start();
    let woken = site.command(&["retry", "MARIO@pec.epap.it"]);
    assert_eq!(
        (woken.status.code(), text(&woken.stdout).as_str()),
        (Some(0), "mario@pec.epap.it: woken\n")
    );
    let unknown = site.command(&["approve", "nobody@pec.epap.it", "deletions"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(text(&unknown.stderr), "pecsync: nobody@pec.epap.it: no such account\n");
    let order = site.wait_event("order_received", 1);
    assert_eq!(order["PECSYNC_ACCOUNT"], "mario@pec.epap.it");
    assert_eq!(site.command(&["status", "nobody@pec.epap.it"]).status.code(), Some(1));
}

/// `status --json` of mario's account, when it holds.
fn mario(site: &Site, holds: impl Fn(&Value) -> bool) -> Value {
    site.wait_account("mario@pec.epap.it", holds)
}

fn said(site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
    let output = site.command(arguments);
    let said = if output.status.success() { &output.stdout } else { &output.stderr };
    (output.status.code(), text(said).trim_end().trim_start_matches("pecsync: ").to_owned())
}

#[test]
fn a_pause_outlives_a_restart() {
    let site = Site::new();
    site.enroll("mario");
    let mut daemon = site.start();
    let done = |text: &str| (Some(0), text.to_owned());
    let refused = |text: &str| (Some(1), text.to_owned());
    assert_eq!(said(&site, &["pause", "MARIO@pec.epap.it"]), done("mario@pec.epap.it: paused"));
    let paused = mario(&site, |account| account["condition"] == "paused");
    assert_eq!(paused["reason"]["code"], "paused");
    assert_eq!(
        said(&site, &["pause", "mario@pec.epap.it"]),
        refused("mario@pec.epap.it: it is paused already")
    );
    assert_eq!(said(&site, &["retry", "mario@pec.epap.it"]).0, Some(0));
    assert_eq!(daemon.stop().code(), Some(0));
    let mut daemon = site.start();
    mario(&site, |account| account["condition"] == "paused");
    let all = "migration epap: paused (0 accounts)";
    assert_eq!(said(&site, &["pause", "--migration", "epap"]), done(all));
    assert_eq!(
        said(&site, &["resume", "mario@pec.epap.it"]),
        refused("mario@pec.epap.it: it is paused with migration epap: resume that")
    );
    assert_eq!(
        said(&site, &["resume", "--migration", "epap"]),
        done("migration epap: resumed (0 accounts)")
    );
    let by_host = "host 127.0.0.1: paused (0 accounts)";
    assert_eq!(said(&site, &["pause", "--host", "127.0.0.1"]), done(by_host));
    assert_eq!(said(&site, &["resume", "--host", "127.0.0.1"]).0, Some(0));
    assert_eq!(said(&site, &["resume", "mario@pec.epap.it"]), done("mario@pec.epap.it: resumed"));
    mario(&site, |account| account["condition"] != "paused");
    for (arguments, expected) in [
        (&["pause", "nobody@pec.epap.it"][..], "nobody@pec.epap.it: no such account"),
        (&["pause", "--migration", "epapp"], "migration epapp: no such migration"),
        (&["resume", "--host", "x"], "host x: no migration has that host"),
        (&["resume", "--migration", "epap"], "migration epap: it is not paused"),
    ] {
        assert_eq!(said(&site, arguments), refused(expected), "{arguments:?}");
    }
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_cutover_is_moved_until_the_files_say_something_new() {
    let site = Site::new();
    let configure = |cutover: &str| site.configure_both("", &format!("cutover = \"{cutover}\""));
    configure("2198-02-04T08:00");
    site.enroll("mario");
    let mut daemon = site.start();
    let moved = said(&site, &["cutover", "--migration", "epap", "--at", "2198-02-03T08:00"]);
    let expected = "migration epap: cutover at 2198-02-03T07:00:00Z (1 accounts)";
    assert_eq!(moved, (Some(0), expected.to_owned()));
    mario(&site, |account| account["cutover"] == "2198-02-03T07:00:00Z");
    assert_eq!(daemon.stop().code(), Some(0));
    let mut daemon = site.start();
    mario(&site, |account| account["cutover"] == "2198-02-03T07:00:00Z");
    let own = said(&site, &["cutover", "mario@pec.epap.it", "--at", "2198-02-01"]);
    assert_eq!(own.0, Some(0), "{own:?}");
    mario(&site, |account| account["cutover"] == "2198-01-31T23:00:00Z");
    configure("2198-02-05T08:00");
    assert_eq!(said(&site, &["reload"]).0, Some(0));
    mario(&site, |account| account["cutover"] == "2198-02-05T07:00:00Z");
    for (arguments, code, expected) in [
        (&["cutover", "mario@pec.epap.it", "--at", "soon"][..], 2, "\"soon\" is not a date"),
        (&["cutover", "mario@pec.epap.it", "--at", "2199-01-01"], 1, "after source_until"),
        (&["cutover", "nobody@pec.epap.it", "--now"], 1, "no such account"),
        (&["reopen", "mario@pec.epap.it"], 1, "nobody is sealed"),
    ] {
        let (found, text) = said(&site, arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Paused accounts must not be copied because a file cannot be read.
#[test]
fn without_its_decrees_the_daemon_does_not_start() {
    let site = Site::new();
    std::fs::write(site.path("state/decrees.json"), "{").unwrap();
    let mut daemon = site.spawn();
    assert_eq!(daemon.wait().code(), Some(1));
    assert!(site.log().contains("decrees.json cannot be read"), "{}", site.log());
}
