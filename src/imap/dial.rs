//! TCP and TLS: from an endpoint and a login to an authenticated session.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::{Error, Session};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tls {
    /// TLS from the first octet (port 993).
    Implicit,
    /// STARTTLS after the greeting (port 143).
    StartTls,
    /// No TLS: refused unless the peer's address is loopback.
    None,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// Roots to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Who logs in, and for whom.
#[derive(Clone, Debug)]
pub struct Login {
    /// Authentication identity; for a master user already `account*master`.
    pub user: String,
    pub password: SecretString,
    /// SASL authorization identity: the account a service login acts for.
    pub authzid: Option<String>,
}

/// Makes connections; one per daemon, so that TLS configurations are shared.
#[derive(Debug)]
pub struct Dialler {
    /// How long one answer may take.
    pub answer_within: Duration,
}

impl Dialler {
    pub fn new() -> Dialler {
        todo!()
    }

    /// Connects, secures, authenticates, re-reads capabilities, enables CONDSTORE/QRESYNC and
    /// UTF8-free defaults, sends ID where offered, reads NAMESPACE.
    pub async fn connect(&self, _endpoint: &Endpoint, _login: &Login) -> Result<Session, Error> {
        todo!()
    }
}
