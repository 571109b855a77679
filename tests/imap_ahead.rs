//! Commands sent ahead of the answers they follow, against scripted servers.

#[path = "support/scripted.rs"]
mod scripted;

use pecsync::imap::*;
use pecsync::words::*;
use scripted::{Scripted, Step, hear, octets, say};

const LIST: &str = "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)";
const BODIES: &str = "UID FETCH 5 (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])";
const OPENED: &str = "* 1 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n^ OK x\r\n";

async fn session(rest: Vec<Step>) -> (Session, Scripted) {
    let mut script = vec![
        say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n"),
        hear("AUTHENTICATE PLAIN AG1hcmlvAHNlZ3JldGE="),
        say("$ OK [CAPABILITY IMAP4rev1] in\r\n"),
        hear("LIST \"\" \"\""),
        say("* LIST (\\Noselect) \"/\" \"\"\r\n$ OK\r\n"),
    ];
    script.extend(rest);
    let server = Scripted::play(script).await;
    let endpoint =
        Endpoint { host: "127.0.0.1".into(), port: server.port, tls: Tls::None, ca_file: None };
    let login =
        Login { user: "mario".into(), password: "segreta".to_owned().into(), authzid: None };
    let dialler = Dialler::new();
    (dialler.connect(&endpoint, &login).await.unwrap(), server)
}

fn names(names: &[&str]) -> Vec<WireName> {
    names.iter().map(|name| WireName::of_wire(name.as_bytes())).collect()
}

/// The listing of one message, answered to the command before the last.
fn listed(uid: u32, tag: &str) -> Step {
    let date = "14-Nov-2023 22:13:20 +0000";
    say(format!(
        "* 1 FETCH (UID {uid} FLAGS () INTERNALDATE \"{date}\" RFC822.SIZE 5)\r\n{tag} OK x\r\n"
    ))
}

async fn uids(session: &mut Session) -> Vec<u32> {
    let listed = session.list_messages(Uid::new(1).unwrap()).await.unwrap();
    listed.iter().map(|message| message.uid.get()).collect()
}

#[tokio::test]
async fn folders_are_opened_and_listed_ahead() {
    let script = vec![
        hear("EXAMINE a"),
        hear(LIST),
        say(OPENED),
        // Asked for before the listing of the folder before was answered.
        hear("EXAMINE b"),
        listed(3, "^"),
        hear(LIST),
        say(OPENED),
        listed(4, "$"),
        hear("NOOP"),
        say("$ OK x\r\n"),
    ];
    let (mut session, server) = session(script).await;
    let both = names(&["a", "b"]);
    session.look_ahead(&both, true).await.unwrap();
    for (name, uid) in both.iter().zip([3, 4]) {
        assert_eq!(session.examine(name).await.unwrap().exists, 1);
        assert_eq!(uids(&mut session).await, [uid]);
        assert_eq!(session.selected().map(|selected| &selected.name), Some(name));
    }
    assert!(!session.is_ahead());
    session.noop().await.unwrap();
    drop(session);
    assert_eq!(server.beyond().await, "");
}

#[tokio::test]
async fn a_folder_refused_ahead_disturbs_no_other() {
    let script = vec![
        hear("EXAMINE a"),
        hear(LIST),
        say("^ NO gone\r\n$ BAD no folder is selected\r\n"),
        hear("EXAMINE b"),
        hear(LIST),
        say(OPENED),
        listed(4, "$"),
    ];
    let (mut session, _server) = session(script).await;
    let both = names(&["a", "b"]);
    session.look_ahead(&both, true).await.unwrap();
    assert!(matches!(session.examine(&both[0]).await, Err(Error::No { .. })));
    session.examine(&both[1]).await.unwrap();
    assert_eq!(uids(&mut session).await, [4]);
}

#[tokio::test]
async fn a_folder_opened_out_of_turn_drops_what_was_sent_ahead() {
    let script = vec![
        hear("SELECT a"),
        hear(LIST),
        say(OPENED),
        listed(3, "$"),
        hear("SELECT b"),
        hear(LIST),
        say(OPENED),
        listed(4, "$"),
        hear("SELECT a"),
        say("* 1 EXISTS\r\n$ OK x\r\n"),
        hear(LIST),
        listed(3, "$"),
    ];
    let (mut session, _server) = session(script).await;
    let both = names(&["a", "b"]);
    session.look_ahead(&both, false).await.unwrap();
    session.select(&both[0]).await.unwrap();
    assert_eq!(uids(&mut session).await, [3]);
    session.select(&both[0]).await.unwrap();
    assert_eq!(uids(&mut session).await, [3]);
}

#[tokio::test]
async fn no_other_command_goes_while_a_folder_is_ahead() {
    let (mut session, _server) = session(vec![hear("SELECT a"), hear(LIST)]).await;
    session.look_ahead(&names(&["a"]), false).await.unwrap();
    let flags = Flags::of_names(["\\Deleted"]);
    let stored = session.store(&[Uid::new(1).unwrap()], Change::Add, &flags).await;
    assert!(matches!(stored, Err(Error::Protocol(_))), "it would be another folder's message");
}

#[tokio::test]
async fn folders_are_made_in_one_flight() {
    let script = vec![
        hear("CREATE a"),
        hear("SUBSCRIBE a"),
        say("^ OK x\r\n"),
        hear("CREATE b"),
        say("^ NO no subscriptions\r\n"),
        hear("SUBSCRIBE b"),
        say("^ NO exists\r\n$ OK x\r\n"),
        hear("LIST \"\" b"),
        say("* LIST () \"/\" b\r\n$ OK x\r\n"),
    ];
    let (mut session, _server) = session(script).await;
    let made = session.create_all(&names(&["a", "b"])).await.unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}

#[tokio::test]
async fn a_uid_behind_an_examine_is_another_folders() {
    let body = |uid: u32, tag: &str| {
        say(format!(
            "* 1 FETCH (UID {uid} FLAGS () INTERNALDATE \"14-Nov-2023 22:13:20 +0000\" \
             RFC822.SIZE 1 BODY[] {{1}}\r\nx)\r\n{tag}"
        ))
    };
    let script = vec![
        hear("EXAMINE a"),
        say("* 1 EXISTS\r\n$ OK x\r\n"),
        hear(BODIES.replace(" 5 ", " 4 ")),
        hear("EXAMINE b"),
        // Nobody asked for it here.
        body(5, ""),
        body(4, "^ OK x\r\n* 1 EXISTS\r\n$ OK x\r\n"),
        hear(BODIES),
        body(5, "$ OK x\r\n"),
    ];
    let (mut session, _server) = session(script).await;
    let both = names(&["a", "b"]);
    session.examine(&both[0]).await.unwrap();
    let mut fetching = session.fetching();
    fetching.request(&[Uid::new(4).unwrap()]).await.unwrap();
    fetching.examine(&both[1]).await.unwrap();
    fetching.request(&[Uid::new(5).unwrap()]).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(match fetching.next().await.unwrap() {
            Fetched::Body { message } => {
                while fetching.chunk().await.unwrap().is_some() {}
                message.uid.get().to_string()
            }
            Fetched::NoBody { uid } => format!("no {uid}"),
            Fetched::WindowDone { .. } => "done".to_owned(),
            Fetched::Examined(_) => "examined".to_owned(),
        });
    }
    assert_eq!(told, ["4", "done", "examined", "5", "done"]);
}

const NEW: &str = "UID FETCH 5:* (UID FLAGS INTERNALDATE RFC822.SIZE)";
const NEW_BODIES: &str = "UID FETCH 5:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])";

/// A FETCH response of a message of five octets, with its body or without.
fn told(uid: u32, body: &str) -> String {
    let body = if body.is_empty() { String::new() } else { format!(" BODY[] {{5}}\r\n{body}") };
    let date = "14-Nov-2023 22:13:20 +0000";
    format!("* 1 FETCH (UID {uid} FLAGS () INTERNALDATE \"{date}\" RFC822.SIZE 5{body})\r\n")
}

/// What a window says of its bodies: UIDs with octets, UIDs without, and its end.
async fn bodies(fetching: &mut Fetching<'_>) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        match fetching.next().await.unwrap() {
            Fetched::Body { message } => {
                let mut octets = Vec::new();
                while let Some(some) = fetching.chunk().await.unwrap() {
                    octets.extend_from_slice(some);
                }
                all.push(format!("{} {}", message.uid, String::from_utf8(octets).unwrap()));
            }
            Fetched::NoBody { uid } => all.push(format!("no {uid}")),
            Fetched::WindowDone { refused } => {
                all.extend(refused.map(|(_, text)| text));
                return all;
            }
            Fetched::Examined(_) => panic!("nothing was opened"),
        }
    }
}

fn uid(number: u32) -> Uid {
    Uid::new(number).unwrap()
}

async fn idling(rest: Vec<Step>) -> (Session, Scripted) {
    let mut script = vec![
        hear("EXAMINE a"),
        say(OPENED.replace('^', "$")),
        hear("IDLE"),
        say("+ idling\r\n* 3 EXISTS\r\n"),
        octets("DONE\r\n"),
    ];
    script.extend(rest);
    let (mut session, server) = session(script).await;
    session.examine(&names(&["a"])[0]).await.unwrap();
    session.idle_start().await.unwrap();
    let long = std::time::Duration::from_secs(60);
    assert_eq!(session.idle_wait(long).await.unwrap(), IdleNews::Something);
    session.idle_done();
    (session, server)
}

#[tokio::test]
async fn bodies_of_new_mail_come_in_the_flight_of_its_listing() {
    let script = vec![
        hear(NEW),
        // Asked for before anything is answered.
        hear(NEW_BODIES),
        // As Dovecot does: the listing is answered at last. Who came later was not asked for.
        say(told(5, "") + &told(6, "")),
        say(told(5, "five\n") + &told(6, "six\r\n") + &told(7, "late\n") + "^ OK x\r\n$ OK x\r\n"),
        hear("NOOP"),
        say("$ OK x\r\n"),
    ];
    let (mut session, server) = idling(script).await;
    let listed = session.list_with_bodies(uid(5), 2).await.unwrap();
    assert_eq!(listed.iter().map(|message| message.uid.get()).collect::<Vec<_>>(), [5, 6]);
    assert!(session.has_bodies_ahead());
    let mut fetching = session.fetching();
    assert!(fetching.take_ahead(&[uid(5), uid(6)]));
    assert_eq!(bodies(&mut fetching).await, ["5 five\n", "6 six\r\n"]);
    assert!(!fetching.take_ahead(&[uid(5)]), "they are taken once");
    drop(fetching);
    session.noop().await.unwrap();
    drop(session);
    assert_eq!(server.beyond().await, "");
}

#[tokio::test]
async fn bodies_that_nobody_takes_are_dropped_before_anything_else_is_asked() {
    let script = vec![
        hear(NEW),
        hear(NEW_BODIES),
        say(told(5, "") + "^ OK x\r\n"),
        say(told(5, "five\n") + "$ OK x\r\n"),
        hear("UID FETCH 1:* UID"),
        say("* 1 FETCH (UID 3)\r\n* 2 FETCH (UID 5)\r\n$ OK x\r\n"),
        hear("EXAMINE b"),
        say(OPENED.replace('^', "$")),
    ];
    let (mut session, server) = idling(script).await;
    // One fewer than was told: all of the answer is waited for.
    assert_eq!(session.list_with_bodies(uid(5), 2).await.unwrap().len(), 1);
    assert_eq!(session.list_uids().await.unwrap(), [uid(3), uid(5)]);
    session.examine(&names(&["b"])[0]).await.unwrap();
    drop(session);
    assert_eq!(server.beyond().await, "");
}

#[tokio::test]
async fn bodies_that_come_before_the_listing_has_to_be_asked_for_again() {
    let script = vec![
        hear(NEW),
        hear(NEW_BODIES),
        say(told(5, "five\n") + &told(5, "") + "^ OK x\r\n$ NO busy\r\n"),
    ];
    let (mut session, _server) = idling(script).await;
    assert_eq!(session.list_with_bodies(uid(5), 1).await.unwrap().len(), 1);
    let mut fetching = session.fetching();
    assert!(fetching.take_ahead(&[uid(5)]));
    assert_eq!(bodies(&mut fetching).await, ["busy"]);
}

#[tokio::test]
async fn a_listing_that_is_refused_leaves_a_connection_that_can_be_used() {
    let script = vec![
        hear(NEW),
        hear(NEW_BODIES),
        say("^ NO not now\r\n$ NO not now\r\n"),
        hear("NOOP"),
        say("$ OK x\r\n"),
    ];
    let (mut session, _server) = idling(script).await;
    let refused = session.list_with_bodies(uid(5), 1).await;
    assert!(matches!(refused, Err(Error::No { .. })), "{refused:?}");
    session.noop().await.unwrap();
}
