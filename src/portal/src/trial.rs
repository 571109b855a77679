//! A password tried once at the source, and what came of it in the terms of the page.

use std::time::Duration;

use pecsync::config::{self, Migration};
use pecsync::imap::{Dialler, Endpoint, Error, Login, Tls};
use pecsync::sync::trouble;
use pecsync::words::Side;
use secrecy::SecretString;

/// One answer of the server's.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failed {
    /// Name or password: nobody is told which.
    Credentials,
    SecondFactor,
    ImapOff,
    /// The server wants fewer connections or logins.
    Busy,
    /// It does not answer, or in no way that can be used.
    Unanswered,
}

impl Failed {
    /// For the journal and for counting.
    pub fn name(self) -> &'static str {
        match self {
            Failed::Credentials => "credentials_rejected",
            Failed::SecondFactor => "second_factor_suspected",
            Failed::ImapOff => "imap_disabled",
            Failed::Busy => "too_many_connections",
            Failed::Unanswered => "unreachable",
        }
    }
}

pub fn dialler() -> Dialler {
    let mut dialler = Dialler::new();
    dialler.answer_within = ANSWER_WITHIN;
    dialler
}

/// Logs in, and out again.
pub async fn try_once(
    dialler: &Dialler,
    migration: &Migration,
    address: &str,
    password: &SecretString,
) -> Result<(), Failed> {
    let source = &migration.source;
    let endpoint = Endpoint {
        host: source.host.clone(),
        port: source.port,
        tls: match source.tls {
            config::Tls::Implicit => Tls::Implicit,
            config::Tls::StartTls => Tls::StartTls,
            config::Tls::None => Tls::None,
        },
        ca_file: source.ca_file.clone(),
    };
    let login = Login { user: address.to_owned(), password: password.clone(), authzid: None };
    let session = dialler.connect(&endpoint, &login).await.map_err(|error| failed(&error))?;
    session.logout().await;
    Ok(())
}

fn failed(error: &Error) -> Failed {
    match trouble::connecting(Side::Source, error).code {
        "credentials_rejected" | "credentials_expired" => Failed::Credentials,
        "second_factor_suspected" => Failed::SecondFactor,
        "imap_disabled" => Failed::ImapOff,
        "too_many_connections" | "throttled" => Failed::Busy,
        _ => Failed::Unanswered,
    }
}

#[cfg(test)]
mod tests {
    use pecsync::imap::Code;

    use super::*;

    #[test]
    fn what_servers_say() {
        #[track_caller]
        fn check(code: &str, text: &str, expected: Failed) {
            let code = Some(Code { name: code.to_owned(), rest: String::new() });
            let error = Error::No { command: "LOGIN", code, text: text.to_owned() };
            assert_eq!(failed(&error), expected, "{text}");
        }
        check("AUTHENTICATIONFAILED", "Authentication failed.", Failed::Credentials);
        check("ALERT", "Two-factor authentication is on", Failed::SecondFactor);
        check("ALERT", "IMAP access is disabled for your account", Failed::ImapOff);
        check("LIMIT", "Too many connections", Failed::Busy);
        check("UNAVAILABLE", "Temporary authentication failure.", Failed::Unanswered);
        assert_eq!(failed(&Error::TimedOut("the greeting")), Failed::Unanswered);
        assert_eq!(failed(&Error::Unreachable("refused".into())), Failed::Unanswered);
        assert_eq!(failed(&Error::TlsUntrusted("expired".into())), Failed::Unanswered);
    }
}
