//! One byte a minute, for ever: every wait has its end, also where something comes all the time. A
//! minute is a few milliseconds here.

use std::time::Duration;

use pecsync::imap::{Dialler, Endpoint, Error, Login, Tls};
use pecsync::sync::trouble;
use pecsync::words::Side;

use super::scripted::{Scripted, Step, hear, say};

/// Much longer than any wait here lasts, and shorter than octets keep coming.
const WAITED: Duration = Duration::from_secs(50);

/// The text, octet by octet, and then more of it.
fn dribble(text: &str) -> Vec<Step> {
    let octets = text.chars().chain(std::iter::repeat('x')).take(3000);
    octets.flat_map(|octet| [say(octet), Step::Pause(20)]).collect()
}

#[tokio::test]
async fn one_byte_a_minute_for_ever() {
    let offers = say("* OK [CAPABILITY IMAP4rev1 STARTTLS SASL-IR AUTH=PLAIN] hi\r\n");
    let sasl = || hear("AUTHENTICATE PLAIN AG1hcmlvAHNlZ3JldGE=");
    let cases = [
        ("the greeting", Tls::None, dribble("* OK hello")),
        ("the TLS handshake", Tls::Implicit, dribble("\u{16}\u{3}\u{1}")),
        (
            "STARTTLS",
            Tls::StartTls,
            [vec![offers.clone(), hear("STARTTLS")], dribble("* OK ")].concat(),
        ),
        ("the login", Tls::None, [vec![offers, sasl()], dribble("* OK wait ")].concat()),
        (
            "capabilities",
            Tls::None,
            [vec![say("* OK hi\r\n"), hear("CAPABILITY")], dribble("* CAPABILITY ")].concat(),
        ),
    ];
    let all = cases.map(|(name, tls, script)| async move {
        let server = Scripted::play(script).await;
        let endpoint = Endpoint { host: "127.0.0.1".into(), port: server.port, tls, ca_file: None };
        let password = "segreta".to_owned().into();
        let login = Login { user: "mario".into(), password, authzid: None };
        let mut dialler = Dialler::new();
        dialler.answer_within = Duration::from_millis(100);
        let connected = tokio::time::timeout(WAITED, dialler.connect(&endpoint, &login)).await;
        let connected = connected.unwrap_or_else(|_| panic!("{name}: it waits for ever"));
        let error = connected.expect_err("nobody waits for ever");
        // Not trusted is what a handshake is that is none.
        let ended = matches!(error, Error::TimedOut(_) | Error::TlsUntrusted(_));
        assert!(ended, "{name}: {error:?}");
        let reason = trouble::connecting(Side::Source, &error);
        assert!(["timed_out", "tls_untrusted"].contains(&reason.code), "{name}: {reason:?}");
    });
    let [a, b, c, d, e] = all;
    tokio::join!(a, b, c, d, e);
}
