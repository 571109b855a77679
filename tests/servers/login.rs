//! Servers at the door: what they offer, whom they refuse, what they ask for.

use std::time::Duration;

use pecsync::imap::{Dialler, Endpoint, Error, Login, Session, Tls};
use pecsync::sync::trouble::{self, Remedy};
use pecsync::words::Side;

use crate::scripted::{Scripted, Step, hear, octets, say};
use crate::sim::Habit;
use crate::sim::habits::Told;
use crate::{live, odd, told};

async fn connected(
    tls: Tls,
    password: &str,
    script: Vec<Step>,
) -> (Result<Session, Error>, Scripted) {
    let server = Scripted::play(script).await;
    let endpoint = Endpoint { host: "127.0.0.1".into(), port: server.port, tls, ca_file: None };
    let password = password.to_owned().into();
    let login = Login { user: "mario".into(), password, authzid: None };
    let mut dialler = Dialler::new();
    dialler.answer_within = Duration::from_secs(3);
    (dialler.connect(&endpoint, &login).await, server)
}

#[test]
fn changes_capability_after_login() {
    for how in [Told::InCode, Told::Untagged, Told::WhenAsked] {
        live(&odd(&[Habit::OffersLater(how)]));
    }
}

/// LOGIN sends the password as a literal, so that no quoting can go wrong.
#[tokio::test]
async fn breaks_on_login_with_odd_passwords() {
    for password in ["se*ret", "se\"ret", "se\\ret", "se ret", "perché€"] {
        let script = vec![
            say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n"),
            Step::HearAny,
            say("$ BAD Error in IMAP command AUTHENTICATE\r\n"),
            hear(format!("LOGIN mario {{{}}}", password.len())),
            say("+ go\r\n"),
            octets(format!("{password}\r\n")),
            say("$ OK [CAPABILITY IMAP4rev1] in\r\n"),
            hear("LIST \"\" \"\""),
            say("* LIST (\\Noselect) \"/\" \"\"\r\n$ OK\r\n"),
        ];
        let (session, server) = connected(Tls::None, password, script).await;
        assert!(session.is_ok(), "{password}: {:?}", session.err());
        drop(session);
        assert_eq!(server.beyond().await, "", "{password}");
    }
}

/// That ID never comes before the login, nor where it is not offered, every simulated server
/// watches over.
#[tokio::test]
async fn rejects_id_before_login_or_has_none() {
    for (offers, id) in [
        ("ID", vec![Step::HearAny, say("* ID NIL\r\n$ OK\r\n")]),
        ("ID", vec![Step::HearAny, say("$ BAD what\r\n")]),
        ("ID", vec![Step::HearAny, say("$ NO nobody's business\r\n")]),
        ("", vec![]),
    ] {
        let mut script = vec![
            say("* OK [CAPABILITY IMAP4rev1 ID SASL-IR AUTH=PLAIN] hi\r\n"),
            hear("AUTHENTICATE PLAIN AG1hcmlvAHNlZ3JldGE="),
            say(format!("$ OK [CAPABILITY IMAP4rev1 {offers}] in\r\n")),
        ];
        script.extend(id);
        script.extend([hear("LIST \"\" \"\""), say("$ OK\r\n")]);
        let (session, server) = connected(Tls::None, "segreta", script).await;
        assert!(session.is_ok(), "{:?}", session.err());
        drop(session);
        assert_eq!(server.beyond().await, "");
    }
}

#[tokio::test]
async fn says_throttling_only_in_text() {
    for (said, hint) in [
        ("$ BAD Request is throttled. Suggested Backoff Time: 4000", Some(4)),
        ("$ NO [LIMIT] Maximum number of connections from user+IP exceeded", None),
        ("$ NO [THROTTLED] slow down", None),
        ("$ NO Too many login attempts", None),
        ("* BYE Too many connections from your address", None),
    ] {
        let script = vec![
            say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n"),
            hear("AUTHENTICATE PLAIN AG1hcmlvAHNlZ3JldGE="),
            say(format!("{said}\r\n")),
        ];
        let (refused, server) = connected(Tls::None, "segreta", script).await;
        let trouble = trouble::connecting(Side::Source, &refused.err().unwrap());
        assert_eq!(trouble.remedy, Remedy::Throttle(hint.map(Duration::from_secs)), "{said}");
        assert_eq!(server.beyond().await, "", "nothing more is tried: {said}");
    }
    // An account that is sent away so comes back later, and nobody is told that its password is
    // wrong.
    for words in [
        "BAD Request is throttled. Suggested Backoff Time: 100",
        "NO [LIMIT] Maximum number of connections",
        "NO [THROTTLED] slow down",
        "* BYE Too many connections from your address",
    ] {
        let ended = std::thread::spawn(move || live(&odd(&[Habit::Throttles(words)])));
        let ended = ended.join().expect("an exact copy");
        assert_eq!(told(&ended, "account_held"), 0, "{words}");
        assert_eq!(told(&ended, "account_completed"), 1, "{words}");
    }
}

/// What is said instead of an offer of TLS or of a login never draws a credential, and never a
/// connection to somebody else.
#[tokio::test]
async fn greets_with_preauth_before_tls_refers_elsewhere_strips_starttls() {
    let elsewhere = "[REFERRAL imap://mario;AUTH=*@other.example/]";
    let offers = "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n";
    let sasl = || hear("AUTHENTICATE PLAIN AG1hcmlvAHNlZ3JldGE=");
    for (tls, script) in [
        (Tls::StartTls, vec![say("* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n")]),
        (Tls::StartTls, vec![say(offers)]),
        (
            Tls::StartTls,
            vec![say("* OK hi\r\n"), hear("CAPABILITY"), say("* CAPABILITY IMAP4rev1\r\n$ OK\r\n")],
        ),
        (Tls::None, vec![say("* PREAUTH hi\r\n")]),
        (Tls::None, vec![say(format!("* BYE {elsewhere} not here\r\n"))]),
        (Tls::None, vec![say(offers), sasl(), say(format!("$ NO {elsewhere} not here\r\n"))]),
    ] {
        let (session, server) = connected(tls, "segreta", script.clone()).await;
        assert!(session.is_err(), "{script:?}");
        assert_eq!(server.beyond().await, "", "{script:?}");
    }
    // In the OK of a login it is advice that nobody has to take.
    let script = vec![
        say(offers),
        sasl(),
        say(format!("$ OK {elsewhere} in, but there would be nearer\r\n")),
        hear("CAPABILITY"),
        say("* CAPABILITY IMAP4rev1\r\n$ OK\r\n"),
        hear("LIST \"\" \"\""),
        say("$ OK\r\n"),
    ];
    let (session, server) = connected(Tls::None, "segreta", script).await;
    assert!(session.is_ok());
    drop(session);
    assert_eq!(server.beyond().await, "");
}
