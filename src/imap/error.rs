//! What can go wrong on a connection, by what the caller can do about it.

/// A response code as the server wrote it, e.g. `TRYCREATE` or `APPENDUID 1 2` (RFC 5530).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Code {
    /// The atom, in upper case.
    pub name: String,
    /// What follows it inside the brackets.
    pub rest: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No TCP connection: refused, unreachable, unknown host.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The certificate does not prove the host, or the TLS handshake failed.
    #[error("TLS: {0}")]
    TlsUntrusted(String),
    /// The connection ended; `bye` is the server's last word.
    #[error("the server closed the connection{}", said(.bye))]
    Closed { bye: Option<String> },
    /// No answer in time to what is named.
    #[error("no answer in time to {0}")]
    TimedOut(&'static str),
    /// A tagged NO: the command had no effect and the connection is fine.
    #[error("{command} was refused: {text}")]
    No { command: &'static str, code: Option<Code>, text: String },
    /// A tagged or untagged BAD. The connection must not be used further.
    #[error("{command} was not understood: {text}")]
    Bad { command: &'static str, text: String },
    /// The server broke the protocol or a bound of ours. The connection must not be used further.
    #[error("protocol: {0}")]
    Protocol(String),
    /// The server lacks what cannot be done without.
    #[error("unsupported server: {0}")]
    Unsupported(String),
    /// A body arrived before the UID that says whose it is; ask for one message at a time.
    #[error("the server sends BODY before UID")]
    BodyBeforeUid,
}

fn said(bye: &Option<String>) -> String {
    bye.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
}
