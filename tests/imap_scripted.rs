//! The IMAP client against servers that misbehave as those of SERVERS.md do.

#[path = "support/scripted.rs"]
mod scripted;

use std::time::{Duration, Instant};

use pecsync::imap::*;
use pecsync::words::*;
use scripted::{Scripted, Step, hear, octets, say};

fn endpoint(server: &Scripted, tls: Tls) -> Endpoint {
    Endpoint { host: "127.0.0.1".into(), port: server.port, tls, ca_file: None }
}

fn login() -> Login {
    Login { user: "mario".into(), password: "segreta".to_owned().into(), authzid: None }
}

fn dialler() -> Dialler {
    let mut dialler = Dialler::new();
    dialler.answer_within = Duration::from_secs(3);
    dialler
}

fn uid(number: u32) -> Uid {
    Uid::new(number).unwrap()
}

fn inbox() -> WireName {
    WireName::of_wire(b"INBOX")
}

/// Connects to a server of that script; what came of it, and what was sent beyond the script.
async fn connected(tls: Tls, script: Vec<Step>) -> (Result<Session, Error>, Scripted) {
    let server = Scripted::play(script).await;
    (dialler().connect(&endpoint(&server, tls), &login()).await, server)
}

/// A session after login on a server with these capabilities, and the rest of the script.
async fn session(capabilities: &str, rest: Vec<Step>) -> (Session, Scripted) {
    let mut script = vec![
        say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n"),
        hear("AUTHENTICATE PLAIN AG1hcmlvAHNlZ3JldGE="),
        say(format!("$ OK [CAPABILITY IMAP4rev1 {capabilities}] in\r\n")),
        hear("LIST \"\" \"\""),
        say("* LIST (\\Noselect) \"/\" \"\"\r\n$ OK\r\n"),
    ];
    script.extend(rest);
    let (session, server) = connected(Tls::None, script).await;
    let session = session.unwrap();
    assert_eq!(session.namespace().delimiter, Some('/'));
    (session, server)
}

/// As [`session`], with INBOX examined.
async fn examined(capabilities: &str, exists: u32, rest: Vec<Step>) -> (Session, Scripted) {
    let mut script = vec![
        hear("EXAMINE INBOX"),
        say(format!("* {exists} EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n$ OK [READ-ONLY] x\r\n")),
    ];
    script.extend(rest);
    let (mut session, server) = session(capabilities, script).await;
    session.examine(&inbox()).await.unwrap();
    (session, server)
}

#[tokio::test]
async fn nothing_secret_is_said_before_tls() {
    let offers = "* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN] hi\r\n";
    for (script, error) in [
        (vec![say("* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n")], "Unsupported"),
        (vec![say("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n")], "Unsupported"),
        (vec![say(offers), hear("STARTTLS"), say("$ OK go\r\n* OK injected\r\n")], "Protocol"),
        (vec![say(offers), hear("STARTTLS"), say("$ NO not today\r\n")], "No {"),
        (vec![say(offers), hear("STARTTLS"), say("$ BAD what\r\n")], "Bad {"),
        (
            vec![say("* BYE [UNAVAILABLE] later\r\n")],
            "Closed { bye: Some(\"[UNAVAILABLE] later\") }",
        ),
        (vec![say("220 mail ESMTP\r\n")], "Protocol"),
        (vec![Step::Close], "Closed { bye: None }"),
    ] {
        let (session, server) = connected(Tls::StartTls, script.clone()).await;
        let found = format!("{:?}", session.err().unwrap());
        assert!(found.starts_with(error), "{script:?}: {found}");
        if !matches!(script[..], [Step::Close]) {
            assert_eq!(server.beyond().await, "", "{script:?}");
        }
    }
    let (session, server) = connected(Tls::None, vec![say("* PREAUTH hi\r\n")]).await;
    assert!(matches!(session.err(), Some(Error::Unsupported(_))));
    assert_eq!(server.beyond().await, "");
}

#[tokio::test]
async fn plain_text_is_for_loopback_only() {
    let endpoint = Endpoint { host: "192.0.2.1".into(), port: 143, tls: Tls::None, ca_file: None };
    let started = Instant::now();
    let refused = dialler().connect(&endpoint, &login()).await.err();
    assert!(matches!(refused, Some(Error::TlsUntrusted(_))), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "nothing was tried");
}

#[tokio::test]
async fn logins_of_all_kinds() {
    let in_and_listed = || {
        vec![
            say("$ OK in\r\n"),
            hear("CAPABILITY"),
            say("* CAPABILITY IMAP4rev1 literal + X\r\n$ OK\r\n"),
            hear("LIST \"\" \"\""),
            say("$ OK\r\n"),
        ]
    };
    let by_login = || {
        let mut steps =
            vec![hear("LOGIN mario {7}"), say("* OK hm {3}\r\n+\r\n"), octets("segreta\r\n")];
        steps.extend(in_and_listed());
        steps
    };
    let offers = |capabilities: &str| {
        vec![
            say("* OK hi\r\n"),
            hear("CAPABILITY"),
            say(format!("* CAPABILITY IMAP4rev1 {capabilities}\r\n$ OK\r\n")),
        ]
    };
    let sasl_ir = "AUTHENTICATE PLAIN AG1hcmlvAHNlZ3JldGE=";
    for (name, script, expected) in [
        ("LOGIN where PLAIN is not offered", [offers(""), by_login()].concat(), "Ok"),
        (
            "LOGIN after BAD",
            [offers("SASL-IR AUTH=PLAIN"), vec![hear(sasl_ir), say("$ BAD ?\r\n")], by_login()]
                .concat(),
            "Ok",
        ),
        (
            "a continuation where SASL-IR is not offered",
            [
                offers("AUTH=PLAIN"),
                vec![hear("AUTHENTICATE PLAIN"), say("+\r\n"), octets("AG1hcmlvAHNlZ3JldGE=\r\n")],
                in_and_listed(),
            ]
            .concat(),
            "Ok",
        ),
        (
            "no LOGIN after NO",
            [
                offers("SASL-IR AUTH=PLAIN"),
                vec![hear(sasl_ir), say("$ NO [AUTHENTICATIONFAILED] no\r\n")],
            ]
            .concat(),
            "No { command: \"AUTHENTICATE\", code: Some(Code { name: \"AUTHENTICATIONFAILED\", rest: \"\" }), text: \"no\" }",
        ),
        (
            "no LOGIN when throttled",
            [
                offers("SASL-IR AUTH=PLAIN"),
                vec![
                    hear(sasl_ir),
                    say("$ BAD Request is throttled. Suggested Backoff Time: 9\r\n"),
                ],
            ]
            .concat(),
            "Bad { command: \"AUTHENTICATE\"",
        ),
        (
            "no LOGIN after a challenge",
            [
                offers("SASL-IR AUTH=PLAIN"),
                vec![hear(sasl_ir), say("+ e30=\r\n"), octets("*\r\n"), say("$ BAD cancelled\r\n")],
            ]
            .concat(),
            "No { command: \"AUTHENTICATE\"",
        ),
        (
            "the rest is not sent after a refusal",
            [offers("AUTH=PLAIN"), vec![hear("AUTHENTICATE PLAIN"), say("$ NO no\r\n")]].concat(),
            "No { command: \"AUTHENTICATE\"",
        ),
        ("LOGINDISABLED", offers("LOGINDISABLED"), "Unsupported"),
        (
            "NO to LOGIN",
            [offers(""), vec![hear("LOGIN mario {7}"), say("$ NO too many\r\n")]].concat(),
            "No { command: \"LOGIN\", code: None, text: \"too many\" }",
        ),
    ] {
        let (session, server) = connected(Tls::None, script).await;
        let found = match session {
            Ok(session) => {
                assert!(session.capabilities().has("LITERAL+"), "{name}");
                "Ok".to_owned()
            }
            Err(error) => format!("{error:?}"),
        };
        assert!(found.starts_with(expected), "{name}: {found}");
        assert!(!found.contains("segreta"));
        assert_eq!(server.beyond().await, "", "{name}");
    }
    assert!(!format!("{:?}", login()).contains("segreta"));
}

#[tokio::test]
async fn a_password_that_is_said_back_is_not_repeated() {
    let sasl = "AUTHENTICATE PLAIN AG1hcmlvAHNlZ3JldGE=";
    let by_sasl = |said: &str| {
        let offers = "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED SASL-IR AUTH=PLAIN] hi\r\n";
        vec![say(offers), hear(sasl), say(said)]
    };
    let by_login = |said: &str| {
        let offers = "* OK [CAPABILITY IMAP4rev1] hi\r\n";
        vec![say(offers), hear("LOGIN mario {7}"), say("+\r\n"), octets("segreta\r\n"), say(said)]
    };
    for (script, kind) in [
        (by_sasl("$ NO [AUTHENTICATIONFAILED] wrong: AG1hcmlvAHNlZ3JldGE=\r\n"), "No {"),
        (by_sasl("$ BAD Unknown command AUTHENTICATE PLAIN AG1HCMLVAHNL\r\n"), "Bad {"),
        (by_sasl("$ NO [X segreta] no\r\n"), "No {"),
        (by_login("$ NO mario/segreta is no user\r\n"), "No {"),
        (by_login("* BAD Error in IMAP command SEGRETA: Unknown command.\r\n"), "Bad {"),
        (by_login("* BYE segreta?\r\n"), "Closed {"),
        (by_login("segreta BAD Missing command\r\n"), "Bad {"),
        (by_login("segreta NO Missing command\r\n"), "Protocol("),
    ] {
        let (session, _server) = connected(Tls::None, script).await;
        let error = session.err().unwrap();
        let shown = format!("{error:?} {error}");
        assert!(shown.starts_with(kind), "{shown}");
        let folded = shown.to_lowercase();
        assert!(!folded.contains("segreta") && !folded.contains("ag1hcmlvahnl"), "{shown}");
    }
}

#[tokio::test]
async fn a_service_login_says_for_whom() {
    let script = vec![
        say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n"),
        hear("AUTHENTICATE PLAIN aXQAbWFyaW8Ac2VncmV0YQ=="),
        say("$ NO [AUTHORIZATIONFAILED] no\r\n"),
    ];
    let server = Scripted::play(script).await;
    let login = Login { authzid: Some("it".into()), ..login() };
    let refused = dialler().connect(&endpoint(&server, Tls::None), &login).await;
    assert!(matches!(refused.err(), Some(Error::No { .. })));
    assert_eq!(server.beyond().await, "");
}

#[tokio::test]
async fn selecting_with_little_or_odd_information() {
    let (mut session, server) = session(
        "CONDSTORE",
        vec![
            hear("EXAMINE INBOX (CONDSTORE)"),
            say("* 3 EXISTS\r\n* OK [UIDVALIDITY 0] x\r\n* OK [HIGHESTMODSEQ -1] x\r\n* OK [UIDNEXT 0]\r\n"),
            say("* FLAGS (\\Seen)\r\n* X-STRANGE data\r\n* OK [PERMANENTFLAGS (\\Seen $a])] x\r\n* OK text {9}\r\n$ OK done\n"),
            hear("SELECT INBOX (CONDSTORE)"),
            say("$ NO [NONEXISTENT] gone\r\n"),
            hear("NOOP"),
            say("* 4 EXISTS\r\n* 2 EXPUNGE\r\n* VANISHED 5:6\r\n* 1 FETCH (FLAGS ())\r\n* 1 RECENT\r\n$ OK\r\n"),
        ],
    )
    .await;
    let selected = session.examine(&inbox()).await.unwrap();
    assert_eq!((selected.uid_validity, selected.uid_next), (UidValidity(0), None));
    assert_eq!((selected.exists, selected.highest_modseq), (3, None));
    assert!(selected.permanent_flags.admits("\\Seen") && !selected.permanent_flags.admits("x"));
    assert!(matches!(session.select(&inbox()).await, Err(Error::No { .. })));
    assert!(session.selected().is_none());
    session.noop().await.unwrap();
    let news = session.take_news();
    assert_eq!((news.exists, news.expunged, news.flags_changed), (Some(4), 1, true));
    assert_eq!(news.vanished, [uid(5), uid(6)]);
    assert_eq!(session.take_news(), News::default());
    drop(session);
    assert_eq!(server.beyond().await, "");
}

/// VANISHED (EARLIER) is asked for only where QRESYNC was enabled, and no more from a server that
/// enabled it and then calls it nonsense.
#[tokio::test]
async fn qresync_is_used_where_it_was_enabled() {
    let enabling = |answer: &str, rest: Vec<Step>| {
        let mut script = vec![hear("ENABLE CONDSTORE QRESYNC"), say(answer.to_owned())];
        script.extend([
            hear("LIST \"\" \"\""),
            say("* LIST (\\Noselect) \"/\" \"\"\r\n$ OK\r\n"),
            hear("EXAMINE INBOX"),
            say("* 9 EXISTS\r\n* OK [HIGHESTMODSEQ 7] x\r\n$ OK\r\n"),
        ]);
        script.extend(rest);
        script
    };
    let asked = "UID FETCH 1:* (UID FLAGS) (CHANGEDSINCE 5)";
    let asked_vanished = "UID FETCH 1:* (UID FLAGS) (CHANGEDSINCE 5 VANISHED)";
    let changed = "* 2 FETCH (UID 4 FLAGS (\\Seen) MODSEQ (6))\r\n$ OK\r\n";
    let enabled = "* ENABLED CONDSTORE\r\n* ENABLED QRESYNC\r\n$ OK\r\n";
    let cases = [
        (
            enabled,
            vec![
                hear(asked_vanished),
                say(format!("* VANISHED (EARLIER) 9:7,300:1000000\r\n* VANISHED 2\r\n{changed}")),
            ],
            vec![(7, 9), (300, 1_000_000)],
        ),
        (
            enabled,
            vec![hear(asked_vanished), say("$ BAD what\r\n"), hear(asked), say(changed)],
            vec![],
        ),
        ("* ENABLED CONDSTORE\r\n$ OK\r\n", vec![hear(asked), say(changed)], vec![]),
        ("$ NO not today\r\n", vec![hear(asked), say(changed)], vec![]),
    ];
    for (answer, rest, vanished) in cases {
        let mut script = vec![
            say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n"),
            hear("AUTHENTICATE PLAIN AG1hcmlvAHNlZ3JldGE="),
            say("$ OK [CAPABILITY IMAP4rev1 ENABLE CONDSTORE QRESYNC] in\r\n"),
        ];
        script.extend(enabling(answer, rest));
        let (session, server) = connected(Tls::None, script).await;
        let mut session = session.unwrap();
        session.examine(&inbox()).await.unwrap();
        let changes = session.list_changes(ModSeq(5)).await.unwrap();
        assert_eq!(changes.flags, [(uid(4), Flags::of_names(["\\Seen"]))], "{answer}");
        assert_eq!(changes.vanished, vanished, "{answer}");
        assert_eq!(session.exists(), if vanished.is_empty() { 9 } else { 8 });
        drop(session);
        assert_eq!(server.beyond().await, "");
    }
}

#[tokio::test]
async fn idle_with_early_news_and_odd_words() {
    let (mut session, server) = examined(
        "IDLE",
        0,
        vec![
            hear("IDLE"),
            say("* 1 EXISTS\r\n+\r\n"),
            Step::Pause(100),
            say("* OK Still here\r\n"),
            Step::Pause(100),
            say("* 2 EXISTS\r\n"),
            octets("DONE\r\n"),
            hear("NOOP"),
            say("^ OK idle over\r\n$ OK\r\n"),
            hear("IDLE"),
            say("$ NO not now\r\n"),
            hear("IDLE"),
            say("+ idling\r\n$ OK enough\r\n"),
            hear("NOOP"),
            say("$ OK\r\n"),
            hear("IDLE"),
            say("+ idling\r\n* BYE\r\n"),
        ],
    )
    .await;
    session.idle_start().await.unwrap();
    let wait = Duration::from_secs(5);
    assert_eq!(session.idle_wait(wait).await.unwrap(), IdleNews::Something);
    assert_eq!(session.take_news().exists, Some(1));
    assert_eq!(session.idle_wait(wait).await.unwrap(), IdleNews::Something);
    assert_eq!(session.take_news().exists, Some(2));
    assert_eq!(session.idle_wait(Duration::from_millis(50)).await.unwrap(), IdleNews::Quiet);
    session.idle_done();
    session.noop().await.unwrap();
    assert!(matches!(session.idle_start().await, Err(Error::No { .. })));
    session.idle_start().await.unwrap();
    assert_eq!(session.idle_wait(wait).await.unwrap(), IdleNews::Something);
    session.noop().await.unwrap();
    session.idle_start().await.unwrap();
    assert!(matches!(session.idle_wait(wait).await, Err(Error::Closed { bye: Some(_) })));
    assert!(matches!(session.noop().await, Err(Error::Protocol(_))));
    drop(session);
    assert_eq!(server.beyond().await, "");
}

const NOTIFY: &str = "NOTIFY SET (selected (MessageNew MessageExpunge FlagChange)) \
    (personal (MessageNew MessageExpunge FlagChange MailboxName))";

#[tokio::test]
async fn notify_wakes_for_other_folders() {
    let wait = Duration::from_secs(5);
    let moment = Duration::from_millis(100);
    for told in [
        "* STATUS Other (MESSAGES 1 UIDNEXT 2)\r\n",
        "* STATUS Other (HIGHESTMODSEQ 12)\r\n",
        "* LIST () \"/\" Nuova\r\n",
        "* LIST (\\NonExistent) \"/\" Other\r\n",
        "* OK [NOTIFICATIONOVERFLOW] too much\r\n",
    ] {
        let overflow = told.contains("OVERFLOW");
        let after_idle = match overflow {
            true => vec![hear(NOTIFY), say("^ OK\r\n$ OK\r\n"), hear("NOOP"), say("$ OK\r\n")],
            false => vec![hear("NOOP"), say("^ OK\r\n$ OK\r\n")],
        };
        let script = vec![
            hear(NOTIFY),
            say("$ OK\r\n"),
            hear("EXAMINE INBOX"),
            say("$ OK\r\n"),
            hear("IDLE"),
            say("+\r\n"),
            Step::Pause(50),
            say(told),
            octets("DONE\r\n"),
            hear("EXAMINE INBOX"),
            say(format!("^ OK\r\n{told}$ OK\r\n")),
            hear("IDLE"),
            say("+\r\n"),
            octets("DONE\r\n"),
        ];
        let script = [script, after_idle].concat();
        let (mut session, server) = session("IDLE NOTIFY", script).await;
        assert!(session.notify().await.unwrap());
        session.examine(&inbox()).await.unwrap();
        session.idle_start().await.unwrap();
        assert_eq!(session.idle_wait(wait).await.unwrap(), IdleNews::Something);
        assert_eq!(session.take_news(), News { elsewhere: true, ..News::default() });
        assert_eq!(session.idle_wait(moment).await.unwrap(), IdleNews::Quiet, "{told}");
        // News of elsewhere outlives the selection of a folder.
        session.idle_done();
        session.examine(&inbox()).await.unwrap();
        session.idle_start().await.unwrap();
        let expected = if overflow { IdleNews::Quiet } else { IdleNews::Something };
        assert_eq!(session.idle_wait(moment).await.unwrap(), expected, "{told}");
        assert_eq!(session.take_news().elsewhere, !overflow);
        session.idle_done();
        assert!(session.notify().await.unwrap());
        session.noop().await.unwrap();
        drop(session);
        assert_eq!(server.beyond().await, "", "{told}");
    }
}

#[tokio::test]
async fn notify_is_asked_for_once() {
    for (capabilities, script, granted) in [
        ("IDLE", vec![], false),
        ("NOTIFY", vec![hear(NOTIFY), say("$ BAD what\r\n")], false),
        ("NOTIFY", vec![hear(NOTIFY), say("$ NO [BADEVENT (FlagChange)] no\r\n")], false),
        ("NOTIFY", vec![hear(NOTIFY), say("$ OK\r\n")], true),
    ] {
        let said = "* STATUS x (MESSAGES 1)\r\n* LIST () \"/\" x\r\n$ OK\r\n";
        let script = [script, vec![hear("NOOP"), say(said)]].concat();
        let (mut session, server) = session(capabilities, script).await;
        assert_eq!(session.notify().await.unwrap(), granted);
        assert_eq!(session.notify().await.unwrap(), granted);
        session.noop().await.unwrap();
        assert_eq!(session.take_news().elsewhere, granted, "unasked, but nobody asked for it");
        drop(session);
        assert_eq!(server.beyond().await, "");
    }
}

#[tokio::test]
async fn what_was_asked_for_is_no_news_of_elsewhere() {
    const STATUS: &str = "(MESSAGES UIDNEXT UIDVALIDITY)";
    let full = |name: &str, messages| {
        format!("* STATUS {name} (MESSAGES {messages} UIDNEXT 9 UIDVALIDITY 7)\r\n")
    };
    let unasked = "* STATUS Other (MESSAGES 4 UIDNEXT 10)\r\n";
    let folders = "* LIST () \"/\" INBOX\r\n* LIST () \"/\" Other\r\n";
    let with_status = [folders.to_owned(), full("INBOX", 1), full("Other", 3)].concat();
    let asks_both =
        vec![hear(format!("STATUS INBOX {STATUS}")), hear(format!("STATUS Other {STATUS}"))];
    let both = |first: String, second: String| {
        [asks_both.clone(), vec![say(format!("{first}^ OK\r\n{second}$ OK\r\n"))]].concat()
    };
    let lists = |said: String| vec![hear(EXTENDED), say(said + "$ OK\r\n")];
    for (name, script, expected, elsewhere) in [
        ("STATUS", both(full("inbox", 1), full("Other", 3)), [1, 3], false),
        ("STATUS of names spelled oddly", both(full("a", 1), full("b", 3)), [1, 3], false),
        (
            "another's before",
            both(unasked.to_owned() + &full("INBOX", 1), full("Other", 3)),
            [1, 3],
            true,
        ),
        ("another's behind", both(full("INBOX", 1) + unasked, full("Other", 3)), [1, 3], true),
        ("says less", both(full("INBOX", 1), full("Other", 3) + unasked), [1, 3], true),
        (
            "says as much",
            both(full("INBOX", 1), full("Other", 3) + &full("Other", 4)),
            [1, 4],
            true,
        ),
        ("LIST", lists(with_status.clone()), [1, 3], false),
        ("LIST twice", lists(with_status.clone() + folders + &full("Other", 3)), [1, 3], false),
        ("LIST and less", lists(with_status.clone() + unasked), [1, 3], true),
        (
            "LIST and flags",
            lists(with_status.clone() + "* STATUS Other (HIGHESTMODSEQ 9)\r\n"),
            [1, 3],
            true,
        ),
        ("LIST and as much", lists(with_status.clone() + &full("Other", 4)), [1, 4], true),
        (
            "LIST and gone",
            lists(with_status + "* LIST (\\NonExistent) \"/\" Other\r\n"),
            [1, 3],
            true,
        ),
    ] {
        let is_list = name.starts_with("LIST");
        let script = [vec![hear(NOTIFY), say("$ OK\r\n")], script].concat();
        let (mut session, server) = session("NOTIFY LIST-EXTENDED LIST-STATUS", script).await;
        assert!(session.notify().await.unwrap());
        let other = WireName::of_wire(b"Other");
        let found: Vec<FolderStatus> = match is_list {
            true => session.list().await.unwrap().iter().filter_map(|one| one.status).collect(),
            false => {
                let statuses = session.statuses(&[&inbox(), &other]).await.unwrap();
                statuses.into_iter().map(Result::unwrap).collect()
            }
        };
        let messages: Vec<u32> = found.iter().map(|status| status.messages).collect();
        assert_eq!(messages, expected, "{name}");
        assert!(found.iter().all(|status| status.uid_validity == UidValidity(7)), "{name}");
        assert_eq!(session.take_news().elsewhere, elsewhere, "{name}");
        drop(session);
        assert_eq!(server.beyond().await, "", "{name}");
    }
}

const DATE: &str = "INTERNALDATE \" 1-Jan-1970 00:00:07 +0000\"";
const METADATA: &str = "(UID FLAGS INTERNALDATE RFC822.SIZE)";
const MESSAGE: &str = "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])";

#[tokio::test]
async fn listings_of_sloppy_servers() {
    let (mut session, server) = examined(
        "",
        4,
        vec![
            hear(format!("UID FETCH 5:* {METADATA}")),
            say(format!("* 2 FETCH (RFC822.SIZE 5000000000 {DATE} FLAGS ( \\Seen) UID 9)\n")),
            say(format!("* 1 FETCH (UID 4 FLAGS () {DATE} RFC822.SIZE 1)\r\n* 9 EXISTS\r\n")),
            say(format!("* 3 FETCH (UID 7 FLAGS (a) {DATE} RFC822.SIZE 1)\r\n* 5 EXPUNGE\r\n")),
            say("* 3 FETCH (FLAGS (b))\r\n* 3 FETCH (UID 7 FLAGS (c))\r\n* 3 FETCH (UID 99 FLAGS (c))\r\n"),
            say("* 4 FETCH (UID 8 FLAGS () INTERNALDATE NIL RFC822.SIZE 1)\r\n* WEIRD\r\n$ OK\r\n"),
            hear(format!("UID FETCH 8 {METADATA}")),
            say(format!("* 4 FETCH (UID 8 FLAGS () {DATE} RFC822.SIZE 2)\r\n$ OK\r\n")),
            hear(format!("UID FETCH 1:* {METADATA}")),
            say("* 4 FETCH (UID 8 FLAGS () INTERNALDATE NIL RFC822.SIZE 1)\r\n$ OK\r\n"),
            hear(format!("UID FETCH 8 {METADATA}")),
            say("* 4 FETCH (UID 8 FLAGS () INTERNALDATE NIL RFC822.SIZE NIL)\r\n$ OK\r\n"),
        ],
    )
    .await;
    let listed = session.list_messages(uid(5)).await.unwrap();
    let short: Vec<_> =
        listed.iter().map(|one| (one.uid.get(), one.size, format!("{:?}", one.flags))).collect();
    let flags = |text: &str| text.to_owned();
    assert_eq!(
        short,
        [
            (7, 1, flags("{\"c\"}")),
            (8, 2, flags("{}")),
            (9, 5_000_000_000, flags("{\"\\\\Seen\"}"))
        ]
    );
    assert!(listed.iter().all(|message| message.instant == InternalDate(7)));
    let news = session.take_news();
    assert_eq!((news.exists, news.expunged, news.flags_changed), (Some(9), 1, true));
    assert!(matches!(session.list_messages(uid(1)).await, Err(Error::Protocol(_))));
    drop(session);
    assert_eq!(server.beyond().await, "");
}

/// What a fetching tells, in short.
async fn told(fetching: &mut Fetching<'_>) -> String {
    match fetching.next().await {
        Ok(Fetched::Body { message }) => {
            let mut octets = Vec::new();
            loop {
                match fetching.chunk().await {
                    Ok(Some(chunk)) => octets.extend_from_slice(chunk),
                    Ok(None) => break,
                    Err(error) => return format!("{}: {error:?}", message.uid),
                }
            }
            format!("{}{:?}={}", message.uid, message.flags, String::from_utf8_lossy(&octets))
        }
        Ok(Fetched::NoBody { uid }) => format!("{uid} none"),
        Ok(Fetched::WindowDone { refused }) => format!("done {}", refused.is_some()),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn bodies_in_all_shapes() {
    let (mut session, server) = examined(
        "",
        9,
        vec![
            hear(format!("UID FETCH 1:9 {MESSAGE}")),
            say(format!("* 1 FETCH (UID 1 FLAGS (x) {DATE} RFC822.SIZE 1 BODY[] {{3}}\r\na\r\n)\r\n")),
            say("* 3 EXPUNGE\r\n* 1 FETCH (FLAGS (y))\r\n* 1 FETCH (UID 1 FLAGS (z))\r\n* UNKNOWN {2}\r\nxx\r\n"),
            say(format!("* 2 FETCH (BODY[] NIL UID 2 FLAGS () {DATE} RFC822.SIZE 4)\r\n")),
            say(format!("* 3 FETCH (UID 3 FLAGS () {DATE} RFC822.SIZE 4 BODY[] \"a\\\"b\")\r\n")),
            say(format!("* 4 FETCH (UID 4 FLAGS () {DATE} RFC822.SIZE 4 BODY[] \"\")\r\n")),
            say(format!("* 5 FETCH (UID 5 FLAGS () {DATE} RFC822.SIZE 0 BODY[] {{0}}\r\n)\r\n")),
            say(format!("* 6 FETCH (UID 6 FLAGS () {DATE} RFC822.SIZE 9 BODY[] {{0}}\r\n)\r\n")),
            say(format!("* 7 FETCH (UID 7 FLAGS () {DATE} RFC822.SIZE 9)\r\n")),
            say(format!("* 1 FETCH (UID 1 FLAGS (x) {DATE} RFC822.SIZE 3 BODY[] {{3}}\r\nbbb)\r\n")),
            say(format!("* 1 FETCH (UID 77 FLAGS (x) {DATE} RFC822.SIZE 3 BODY[] {{3}}\r\nbbb)\r\n")),
            say(format!("* 8 FETCH (UID 8 {DATE} FLAGS () BODY[] ~{{2}}\r\nhi RFC822.SIZE 2 UID 8)\r\n")),
            say("$ NO [SERVERBUG] sorry\r\n"),
            hear("NOOP"),
            say("$ OK\r\n"),
        ],
    )
    .await;
    let mut fetching = session.fetching();
    let uids: Vec<Uid> = (1..=9).map(uid).collect();
    fetching.request(&uids).await.unwrap();
    let mut all = Vec::new();
    while all.last().is_none_or(|last: &String| !last.starts_with("done")) {
        all.push(told(&mut fetching).await);
    }
    drop(fetching);
    assert_eq!(
        all,
        [
            "1{\"x\"}=a\r\n",
            "2 none",
            "3{}=a\"b",
            "4 none",
            "5{}=",
            "6 none",
            "7 none",
            "8{}=hi",
            "done true"
        ]
    );
    let news = session.take_news();
    assert_eq!((news.expunged, news.flags_changed), (1, true));
    session.noop().await.unwrap();
    drop(session);
    assert_eq!(server.beyond().await, "");
}

#[tokio::test]
async fn bodies_that_come_before_their_uid() {
    let body_first =
        format!("* 1 FETCH (BODY[] {{3}}\r\nabc UID 7 FLAGS (x) {DATE} RFC822.SIZE 3)\r\n$ OK\r\n");
    let other = body_first.replace("UID 7", "UID 8");
    let message =
        Message { uid: uid(7), flags: Flags::default(), instant: InternalDate(7), size: 3 };
    for (said, single, expected) in [
        (&body_first, false, "Err(BodyBeforeUid)"),
        (&body_first, true, "7{}=abc"),
        (&other, true, "7: Protocol("),
    ] {
        let script = vec![hear(format!("UID FETCH 7 {MESSAGE}")), say(said.clone())];
        let (mut session, _server) = examined("", 1, script).await;
        let mut fetching = session.fetching();
        match single {
            true => fetching.request_single(&message).await.unwrap(),
            false => fetching.request(&[uid(7)]).await.unwrap(),
        }
        let found = told(&mut fetching).await;
        assert!(found.starts_with(expected), "{found}");
        drop(fetching);
        if !expected.starts_with("7{}") {
            assert!(matches!(session.noop().await, Err(Error::Protocol(_))));
        }
    }
    // Digests need no identity beforehand.
    let script = vec![hear(format!("UID FETCH 7 {MESSAGE}")), say(body_first)];
    let (mut session, _server) = examined("", 1, script).await;
    let found = session.digests(&[uid(7)]).await.unwrap();
    assert_eq!((found.len(), found[0].0, found[0].1.size), (1, uid(7), 3));
}

/// A message of that UID, as a server gives it with all that is asked for.
fn given(number: u32, section: &str, octets: &str) -> Step {
    let size = octets.len();
    say(format!(
        "* 1 FETCH (UID {number} FLAGS () {DATE} RFC822.SIZE 9 {section} {{{size}}}\r\n{octets})\r\n"
    ))
}

#[tokio::test]
async fn one_message_that_cannot_be_given_does_not_cost_the_others() {
    let no = || say("$ NO [SERVERBUG] sorry\r\n");
    let ok = || say("$ OK\r\n");
    let ask = |uids: &str| hear(format!("UID FETCH {uids} {MESSAGE}"));
    let body = |number| given(number, "BODY[]", "a: b\r\n\r\nx");
    for (uids, script, expected) in [
        (
            &[5, 6, 7, 8][..],
            vec![
                ask("5:8"),
                body(5),
                no(),
                ask("6"),
                no(),
                ask("7"),
                body(7),
                say("* 2 FETCH (FLAGS (x))\r\n"),
                ok(),
                ask("8"),
                ok(),
            ],
            "[5, 7] true",
        ),
        (&[5, 6], vec![ask("5:6"), no(), ask("5"), no(), ask("6"), no()], "No SERVERBUG"),
        (&[5], vec![ask("5"), no()], "No SERVERBUG"),
        (&[5, 6], vec![ask("5:6"), no(), ask("5"), no(), ask("6"), ok()], "[] false"),
        (&[5, 6], vec![ask("5:6"), body(5), say("$ NO [LIMIT] slow down\r\n")], "No LIMIT"),
    ] {
        let script = [script, vec![hear("NOOP"), ok()]].concat();
        let (mut session, server) = examined("", 9, script).await;
        let uids: Vec<Uid> = uids.iter().map(|number| uid(*number)).collect();
        let found = match session.digests(&uids).await {
            Ok(found) => {
                let uids: Vec<_> = found.iter().map(|(uid, _)| *uid).collect();
                format!("{uids:?} {}", session.take_news().flags_changed)
            }
            Err(Error::No { code: Some(code), .. }) => format!("No {}", code.name),
            other => format!("{other:?}"),
        };
        assert_eq!(found, expected);
        session.noop().await.unwrap();
        drop(session);
        assert_eq!(server.beyond().await, "");
    }
}

#[tokio::test]
async fn a_header_that_needs_its_body_is_left_out_without_it() {
    let headers = "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER])";
    let whole = |number| given(number, "BODY[HEADER]", "A: b\r\n\r\n");
    let odd = |number| given(number, "BODY[HEADER]", "A: b\r\n");
    let no = || say("$ NO [SERVERBUG] sorry\r\n");
    let (mut session, server) = examined(
        "",
        9,
        vec![
            hear(format!("UID FETCH 5:7 {headers}")),
            no(),
            hear(format!("UID FETCH 5 {headers}")),
            whole(5),
            say("$ OK\r\n"),
            hear(format!("UID FETCH 6 {headers}")),
            odd(6),
            say("$ OK\r\n"),
            hear(format!("UID FETCH 7 {headers}")),
            no(),
            hear(format!("UID FETCH 6 {MESSAGE}")),
            no(),
            hear(format!("UID FETCH 6 {headers}")),
            odd(6),
            say("$ OK\r\n"),
            hear(format!("UID FETCH 6 {MESSAGE}")),
            no(),
        ],
    )
    .await;
    let seen = session.header_digests(&[uid(5), uid(6), uid(7)]).await.unwrap();
    assert_eq!(seen.iter().map(|one| one.uid).collect::<Vec<_>>(), [uid(5)]);
    let refused = session.header_digests(&[uid(6)]).await;
    assert!(matches!(refused, Err(Error::No { .. })), "{refused:?}");
    drop(session);
    assert_eq!(server.beyond().await, "");
}

#[tokio::test]
async fn a_body_cut_short_is_never_complete() {
    for end in ["abc", "abcdefghij", "abcdefghij UID 7", "abcdefghij BODY[] {1}\r\nx)\r\n"] {
        let said = format!("* 1 FETCH (UID 7 FLAGS () {DATE} RFC822.SIZE 3 BODY[] {{10}}\r\n{end}");
        let script = vec![hear(format!("UID FETCH 7 {MESSAGE}")), say(said), Step::Close];
        let (mut session, _server) = examined("", 1, script).await;
        let mut fetching = session.fetching();
        fetching.request(&[uid(7)]).await.unwrap();
        let found = told(&mut fetching).await;
        assert!(found.starts_with("7: "), "{end}: {found}");
    }
}

#[tokio::test]
async fn silence_is_noticed_and_slowness_is_borne() {
    let (mut session, _server) = session("", vec![hear("NOOP"), Step::Pause(60_000)]).await;
    session
        .noop()
        .await
        .map_err(|error| assert!(matches!(error, Error::TimedOut("NOOP"))))
        .unwrap_err();
    assert!(matches!(session.noop().await, Err(Error::Protocol(_))));

    let mut slowly = vec![hear("NOOP")];
    for piece in ["* O", "K stil", "l her", "e\r\n$ ", "O", "K\r", "\n"] {
        slowly.extend([say(piece), Step::Pause(700)]);
    }
    let (mut session, _server) = self::session("", slowly).await;
    session.noop().await.unwrap();
}

/// What becomes of a command whose answer never comes, because the server says something else
/// for ever, and how long it takes. Silence would be noticed after 150 ms.
async fn babbled_at(command: &str, begin: &str, babble: &str, pause: u64) -> (String, Duration) {
    let mut script = vec![
        say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n"),
        hear("AUTHENTICATE PLAIN AG1hcmlvAHNlZ3JldGE="),
        say("$ OK [CAPABILITY IMAP4rev1 LITERAL+] in\r\n"),
        hear("LIST \"\" \"\""),
        say("$ OK\r\n"),
        hear(command),
        say(begin),
    ];
    for _ in 0..30_000 / pause {
        script.extend([say(babble), Step::Pause(pause)]);
    }
    let server = Scripted::play(script).await;
    let mut dialler = Dialler::new();
    dialler.answer_within = Duration::from_millis(150);
    let mut session = dialler.connect(&endpoint(&server, Tls::None), &login()).await.unwrap();
    let begun = Instant::now();
    let found = match command.split(' ').next() {
        Some("NOOP") => format!("{:?}", session.noop().await),
        Some("IDLE") => format!("{:?}", session.idle_start().await),
        Some("APPEND") => format!("{:?}", append_one(&mut session, 2).await.1),
        _ if babble.len() == 1 => {
            let mut fetching = session.fetching();
            fetching.request(&[uid(7)]).await.unwrap();
            told(&mut fetching).await
        }
        _ => format!("{:?}", session.digests(&[uid(7)]).await.map(|found| found.len())),
    };
    assert!(!session.is_usable(), "{found}");
    (found, begun.elapsed())
}

#[tokio::test]
async fn no_talk_replaces_an_answer_for_ever() {
    let fetch = format!("UID FETCH 7 {MESSAGE}");
    let append = format!("{ARGUMENTS} {{2+}}");
    let body = |uid: u32, size: u32| {
        format!("* 1 FETCH (UID {uid} FLAGS () {DATE} RFC822.SIZE {size} BODY[] {{{size}}}\r\n")
    };
    let foreign = body(99, 3) + "abc)\r\n";
    let here = "* OK Still here\r\n";
    let large = body(7, 100_000);
    let cases = [
        ("NOOP", "", here, 20, "Err(TimedOut(\"NOOP\"))"),
        ("NOOP", "* OK ", "x", 20, "Err(TimedOut(\"NOOP\"))"),
        ("IDLE", "", here, 20, "Err(TimedOut(\"IDLE\"))"),
        (&append, "", here, 20, "Err(TimedOut(\"APPEND\"))"),
        (&fetch, "", &foreign, 20, "Err(TimedOut(\"UID FETCH\"))"),
        (&fetch, &large, "x", 100, "7: TimedOut(\"a body\")"),
    ];
    let all = cases.map(|(command, begin, babble, pause, expected)| async move {
        let (found, after) = babbled_at(command, begin, babble, pause).await;
        assert_eq!(found, expected, "{command} {babble}");
        assert!(after > Duration::from_millis(300), "slowness is borne: {command} {after:?}");
        assert!(after < Duration::from_secs(20), "{command} {after:?}");
    });
    let [a, b, c, d, e, f] = all;
    tokio::join!(a, b, c, d, e, f);
}

#[tokio::test]
async fn no_flood_of_names_or_keywords_fills_memory() {
    let names: String = (0..2100).map(|n| format!("* LIST () \"/\" {n:0>8000}\r\n")).collect();
    let script = vec![hear("LIST \"\" *"), say(names), say("$ OK\r\n")];
    let (mut session, _server) = session("", script).await;
    let refused = session.list().await;
    assert!(matches!(refused, Err(Error::Protocol(_))), "{:?}", refused.map(|all| all.len()));

    let flags: String = (0..35_000).map(|n| format!(" k{:05}", 99_999 - n)).collect();
    let said = format!("* OK [PERMANENTFLAGS ({flags})] x\r\n$ OK\r\n");
    let script = vec![hear("EXAMINE INBOX"), say(said)];
    let (mut session, _server) = self::session("", script).await;
    let permanent = session.examine(&inbox()).await.unwrap().permanent_flags;
    assert_eq!(permanent.flags.names().count(), 1000);
}

/// One message in one batch; what the writer and what the reader got.
async fn append_one(
    session: &mut Session,
    size: u64,
) -> (Result<(), Error>, Result<AppendAnswer, Error>) {
    let (mut writer, mut answers) = session.appending();
    let write = async {
        writer.begin(&inbox()).await?;
        writer.item(&Flags::of_names(["\\Seen"]), InternalDate(7), size, false).await?;
        writer.write(&vec![b'x'; size as usize]).await?;
        writer.hold().await?;
        writer.commit().await
    };
    tokio::join!(write, answers.next())
}

const ARGUMENTS: &str = "APPEND INBOX (\\Seen) \" 1-Jan-1970 00:00:07 +0000\"";

#[tokio::test]
async fn answers_to_an_append() {
    for (said, expected, usable) in [
        (
            "* 5 EXISTS\r\n+ stray\r\n$ OK [APPENDUID 7 9] done\r\n",
            "Ok(Stored { batch: 0, uids: Some((UidValidity(7), [9])) })",
            true,
        ),
        ("$ OK [APPENDUID 7 9:10] done\r\n", "Ok(Stored { batch: 0, uids: None })", true),
        ("$ OK [APPENDUID x] done\r\n", "Ok(Stored { batch: 0, uids: None })", true),
        ("$ OK\r\n", "Ok(Stored { batch: 0, uids: None })", true),
        (
            "$ NO [OVERQUOTA] full\r\n",
            "Ok(Refused { batch: 0, code: Some(Code { name: \"OVERQUOTA\", rest: \"\" }), text: \"full\" })",
            true,
        ),
        ("$ BAD hm\r\n", "Err(Bad {", false),
        ("* BAD hm\r\n", "Err(Bad {", false),
        ("zz9 OK hm\r\n", "Err(Protocol(", false),
        ("zz BAD Unknown command\r\n", "Err(Bad {", false),
        ("* BYE over\r\n", "Err(Closed { bye: Some(\"over\") })", false),
    ] {
        let mut script = vec![hear(format!("{ARGUMENTS} {{4+}}")), octets("xxxx\r\n"), say(said)];
        if usable {
            script.extend([hear("NOOP"), say("$ OK\r\n")]);
        }
        let (mut session, server) = session("LITERAL+", script).await;
        let (written, answer) = append_one(&mut session, 4).await;
        written.unwrap();
        let found = format!("{answer:?}");
        assert!(found.starts_with(expected), "{said:?}: {found}");
        assert_eq!(session.noop().await.is_ok(), usable, "{said:?}");
        drop(session);
        assert_eq!(server.beyond().await, "", "{said:?}");
    }
}

#[tokio::test]
async fn answers_before_all_was_sent() {
    for (said, expected) in
        [("$ OK [APPENDUID 7 9] already\r\n", "Err(Protocol("), ("$ NO no\r\n", "Ok(Refused {")]
    {
        let script = vec![hear(format!("{ARGUMENTS} {{100000+}}")), say(said), Step::Pause(50)];
        let (mut session, _server) = session("LITERAL+", script).await;
        let (mut writer, mut answers) = session.appending();
        writer.begin(&inbox()).await.unwrap();
        let flags = Flags::of_names(["\\Seen"]);
        writer.item(&flags, InternalDate(7), 100_000, false).await.unwrap();
        writer.write(&[b'x'; 70_000]).await.unwrap();
        let found = format!("{:?}", answers.next().await);
        assert!(found.starts_with(expected), "{found}");
        assert!(writer.write(b"x").await.is_err(), "nothing more is sent");
        assert!(matches!(session.noop().await, Err(Error::Protocol(_))));
    }
}

#[tokio::test]
async fn literals_wait_where_they_must() {
    let said = || vec![say("* 1 EXISTS\r\n+\r\n"), octets("xxxx\r\n"), say("$ OK\r\n")];
    let (mut session, server) = session(
        "LITERAL-",
        [
            vec![hear(format!("{ARGUMENTS} {{4+}}")), octets("xxxx\r\n"), say("$ OK\r\n")],
            vec![hear(format!("{ARGUMENTS} {{5000}}")), say("+ go\r\n")],
            vec![octets([vec![b'x'; 5000], b"\r\n".to_vec()].concat()), say("$ OK\r\n")],
            vec![hear(format!("{ARGUMENTS} {{5000}}")), say("$ NO [TOOBIG] no\r\n")],
            vec![hear("NOOP"), say("$ OK\r\n")],
        ]
        .concat(),
    )
    .await;
    for (size, expected) in [(4, "Ok(Stored"), (5000, "Ok(Stored"), (5000, "Ok(Refused")] {
        let (written, answer) = append_one(&mut session, size).await;
        assert!(format!("{answer:?}").starts_with(expected), "{answer:?}");
        assert_eq!(written.is_ok(), expected == "Ok(Stored", "{written:?}");
    }
    session.noop().await.unwrap();
    drop(session);
    assert_eq!(server.beyond().await, "");

    let script = [vec![hear(format!("{ARGUMENTS} {{4}}"))], said()].concat();
    let (mut session, server) = self::session("", script).await;
    let (written, answer) = append_one(&mut session, 4).await;
    written.unwrap();
    assert!(matches!(answer, Ok(AppendAnswer::Stored { .. })));
    drop(session);
    assert_eq!(server.beyond().await, "");
}

#[tokio::test]
async fn a_bare_session_appends_before_it_introduces_itself() {
    let script = vec![
        say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n"),
        hear("AUTHENTICATE PLAIN AG1hcmlvAHNlZ3JldGE="),
        say("$ OK [CAPABILITY IMAP4rev1 LITERAL+ ID NAMESPACE ENABLE CONDSTORE] in\r\n"),
        hear(format!("{ARGUMENTS} {{2+}}")),
        octets("xx\r\n"),
        say("$ OK [APPENDUID 7 9] done\r\n"),
        Step::HearAny,
        say("$ OK x\r\n"),
        hear("ENABLE CONDSTORE"),
        hear("NAMESPACE"),
        say("^ OK x\r\n* NAMESPACE ((\"\" \".\")) NIL NIL\r\n$ OK x\r\n"),
        hear("NOOP"),
        say("$ OK x\r\n"),
    ];
    let server = Scripted::play(script).await;
    let connected = dialler().connect_bare(&endpoint(&server, Tls::None), &login()).await;
    let mut session = connected.unwrap();
    let (written, answer) = append_one(&mut session, 2).await;
    written.unwrap();
    assert!(matches!(answer, Ok(AppendAnswer::Stored { .. })), "{answer:?}");
    session.introduce().await.unwrap();
    assert_eq!(session.namespace().delimiter, Some('.'));
    // Once is enough.
    session.introduce().await.unwrap();
    session.noop().await.unwrap();
    drop(session);
    assert_eq!(server.beyond().await, "");
}

#[tokio::test]
async fn a_batch_of_several_is_one_command() {
    let item = "(\\Seen) \" 1-Jan-1970 00:00:07 +0000\"";
    let (mut session, server) = session(
        "LITERAL+ MULTIAPPEND",
        vec![
            hear(format!("APPEND \"a b\" {item} {{2+}}")),
            octets("aa () \"31-Dec-9999 23:59:59 +0000\" {0}\r\n"),
            say("+ ok\r\n"),
            octets(format!(" {item} {{1+}}\r\nb\r\n")),
            say("$ OK [APPENDUID 3 5,7,9] x\r\n"),
        ],
    )
    .await;
    let flags = Flags::of_names(["\\Seen"]);
    let (mut writer, mut answers) = session.appending();
    let write = async {
        writer.begin(&WireName::of_wire(b"a b")).await?;
        writer.item(&flags, InternalDate(7), 2, false).await?;
        writer.write(b"a").await?;
        writer.write(b"a").await?;
        writer.item(&Flags::default(), InternalDate(i64::MAX), 0, true).await?;
        writer.item(&flags, InternalDate(7), 1, false).await?;
        writer.write(b"b").await?;
        writer.commit().await
    };
    let (written, answer) = tokio::join!(write, answers.next());
    written.unwrap();
    let uids = vec![uid(5), uid(7), uid(9)];
    assert_eq!(
        answer.unwrap(),
        AppendAnswer::Stored { batch: 0, uids: Some((UidValidity(3), uids)) }
    );
    drop(session);
    assert_eq!(server.beyond().await, "");
}

#[tokio::test]
async fn a_literal_is_as_long_as_announced() {
    for (size, written) in [(4u64, 3usize), (4, 5)] {
        let (mut session, _server) = session("LITERAL+", vec![]).await;
        let (mut writer, _answers) = session.appending();
        writer.begin(&inbox()).await.unwrap();
        writer.item(&Flags::default(), InternalDate(7), size, false).await.unwrap();
        let result = match writer.write(&vec![b'x'; written]).await {
            Ok(()) => writer.commit().await,
            error => error,
        };
        assert!(matches!(result, Err(Error::Protocol(_))));
        assert!(session.noop().await.is_err());
    }
    // A write that is dropped halfway is noticed, too.
    let (mut session, _server) = session("LITERAL+", vec![]).await;
    let (mut writer, _answers) = session.appending();
    writer.begin(&inbox()).await.unwrap();
    let size = 100_000_000;
    writer.item(&Flags::default(), InternalDate(7), size, false).await.unwrap();
    let all = vec![b'x'; size as usize];
    let dropped = tokio::time::timeout(Duration::from_millis(1), writer.write(&all)).await;
    assert!(dropped.is_err(), "it takes longer");
    assert!(matches!(writer.commit().await, Err(Error::Protocol(_))));

    let (mut session, _server) = self::session("LITERAL+", vec![]).await;
    let (mut writer, _answers) = session.appending();
    writer.begin(&inbox()).await.unwrap();
    writer.item(&Flags::default(), InternalDate(7), 0, false).await.unwrap();
    let second = writer.item(&Flags::default(), InternalDate(7), 0, false).await;
    assert!(matches!(second, Err(Error::Unsupported(_))), "without MULTIAPPEND");
}

const EXTENDED: &str = "LIST \"\" \"*\" RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY))";

#[tokio::test]
async fn list_falls_back() {
    let plain = [
        hear("LIST \"\" *"),
        say("* LIST () \"/\" inbox\r\n* LIST (\\HasNoChildren \\Sent) \"/\" {4}\r\na\"\r\n\r\n"),
        say(
            "* LIST (\\Noselect) NIL b\r\n* LIST () \"/\" \"a\\\"\r\n* LIST () \"/\" b\r\n$ OK\r\n",
        ),
    ];
    for first in [
        vec![hear(EXTENDED), say("$ BAD what\r\n")],
        vec![hear(EXTENDED), say("$ NO what\r\n")],
        vec![hear(EXTENDED), say("* LIST () \"/\" other\r\n$ OK\r\n")],
    ] {
        let script = [first, plain.to_vec()].concat();
        let (mut session, server) = session("LIST-EXTENDED LIST-STATUS", script).await;
        let listed = session.list().await.unwrap();
        let short: Vec<_> = listed
            .iter()
            .map(|one| (one.name.as_octets(), one.special_use, one.no_select, one.status))
            .collect();
        assert_eq!(
            short,
            [
                (&b"INBOX"[..], None, false, None),
                (b"a\"\r\n", Some(SpecialUse::Sent), false, None),
                (b"b", None, false, None),
            ]
        );
        drop(session);
        assert_eq!(server.beyond().await, "");
    }
}

#[tokio::test]
async fn unusual_literals_do_not_fill_memory() {
    for said in [
        "* LIST () \"/\" {100000000}\r\n".to_owned(),
        format!("* 1 FETCH (UID 1 BODY[] {{100000000}}\r\n{}", "x".repeat(1000)),
        "x".repeat(300_000),
        "* LIST () \"/\" {99999999999999999999999}\r\n".to_owned(),
    ] {
        let (mut session, _server) = session("", vec![hear("LIST \"\" *"), say(said)]).await;
        let refused = session.list().await;
        assert!(matches!(refused, Err(Error::Protocol(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_literal_refused_does_not_hold_up_what_follows() {
    let (mut session, server) = session(
        "",
        vec![
            hear("STATUS {6}"),
            say("$ NO no such name\r\n"),
            hear("STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY)"),
            say("* STATUS inbox (MESSAGES 3 UIDNEXT 0 X (y))\r\n$ OK\r\n"),
            hear("STATUS {6}"),
            say("+ go\r\n"),
            octets("caffè (MESSAGES UIDNEXT UIDVALIDITY)\r\n"),
            say("$ OK\r\n"),
        ],
    )
    .await;
    let raw = WireName::of_wire("caffè".as_bytes());
    let statuses = session.statuses(&[&raw, &inbox()]).await.unwrap();
    assert!(matches!(statuses[0], Err(Error::No { .. })));
    assert!(matches!(statuses[1], Ok(FolderStatus { messages: 3, uid_next: None, .. })));
    let statuses = session.statuses(&[&raw]).await.unwrap();
    assert!(matches!(statuses[0], Err(Error::Protocol(_))), "OK without a status");
    assert!(session.is_usable());
    drop(session);
    assert_eq!(server.beyond().await, "");
}

#[tokio::test]
async fn waiting_for_bodies_is_safe_to_cancel() {
    let mut script = vec![hear(format!("UID FETCH 7 {MESSAGE}"))];
    let said =
        format!("* 1 FETCH (UID 7 FLAGS () {DATE} RFC822.SIZE 3 BODY[] {{3}}\r\nabc)\r\n$ OK\r\n");
    for piece in said.as_bytes().chunks(9) {
        script.extend([say(String::from_utf8_lossy(piece)), Step::Pause(10)]);
    }
    let (mut session, _server) = examined("", 1, script).await;
    let mut fetching = session.fetching();
    fetching.request(&[uid(7)]).await.unwrap();
    let mut all = Vec::new();
    while all.len() < 2 {
        let moment = Duration::from_millis(1);
        if let Ok(fetched) = tokio::time::timeout(moment, fetching.next()).await {
            match fetched.unwrap() {
                Fetched::Body { message } => {
                    let mut octets = Vec::new();
                    while let Some(chunk) = fetching.chunk().await.unwrap() {
                        octets.extend_from_slice(chunk);
                    }
                    all.push(format!("{}={}", message.uid, String::from_utf8_lossy(&octets)));
                }
                other => all.push(format!("{other:?}")),
            }
        }
    }
    assert_eq!(all, ["7=abc", "WindowDone { refused: None }"]);
}

#[tokio::test]
async fn only_a_committed_batch_can_be_overdue() {
    let script = vec![
        say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n"),
        hear("AUTHENTICATE PLAIN AG1hcmlvAHNlZ3JldGE="),
        say("$ OK [CAPABILITY IMAP4rev1 LITERAL+] in\r\n"),
        hear("LIST \"\" \"\""),
        say("$ OK\r\n"),
        hear(format!("{ARGUMENTS} {{2+}}")),
        octets("xy\r\n"),
        say("$ OK\r\n"),
        Step::Pause(60_000),
    ];
    let server = Scripted::play(script).await;
    let mut dialler = Dialler::new();
    dialler.answer_within = Duration::from_millis(200);
    let mut session = dialler.connect(&endpoint(&server, Tls::None), &login()).await.unwrap();
    let (mut writer, mut answers) = session.appending();
    let write = async {
        let flags = Flags::of_names(["\\Seen"]);
        writer.begin(&inbox()).await?;
        writer.item(&flags, InternalDate(7), 2, false).await?;
        writer.write(b"x").await?;
        tokio::time::sleep(Duration::from_millis(900)).await;
        writer.write(b"y").await?;
        writer.commit().await?;
        tokio::time::sleep(Duration::from_millis(900)).await;
        writer.begin(&inbox()).await?;
        writer.item(&flags, InternalDate(7), 0, false).await?;
        writer.commit().await
    };
    let read = async { (answers.next().await, answers.next().await) };
    let (written, (first, second)) = tokio::join!(write, read);
    written.unwrap();
    assert!(matches!(first, Ok(AppendAnswer::Stored { .. })), "{first:?}");
    assert!(matches!(second, Err(Error::TimedOut("APPEND"))), "{second:?}");
    assert!(!session.is_usable());
}
