//! TCP and TLS: from an endpoint and a login to an authenticated session.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError};

use super::gathered::Gathered;
use super::link::Link;
use super::stream::Stream;
use super::{Capabilities, Error, Session, login, tls};

/// How long one address may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Addresses of one host that are tried.
const ADDRESSES_MAX: usize = 8;
/// Different sets of capabilities kept for sharing.
const CAPABILITIES_MAX: usize = 64;

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
pub struct Dialler {
    /// How long one answer may take.
    pub answer_within: Duration,
    /// Connects to simulated servers instead.
    pub pipes: Option<Pipes>,
    /// What one listing of messages may take in memory, whatever EXISTS claims.
    pub listing_octets_max: usize,
    configs: Mutex<HashMap<Roots, Arc<ClientConfig>>>,
    capabilities: Mutex<Vec<Arc<Capabilities>>>,
}

/// Pipes to servers in this process, which speak no TLS.
pub type Pipes = Box<dyn Fn(&Endpoint) -> io::Result<DuplexStream> + Send + Sync>;

/// Which roots a TLS configuration trusts: the system's, or those of a file as of some time.
type Roots = Option<(PathBuf, Option<SystemTime>)>;

impl Dialler {
    pub fn new() -> Dialler {
        Dialler {
            answer_within: Duration::from_secs(60),
            pipes: None,
            listing_octets_max: 256 << 20,
            configs: Mutex::default(),
            capabilities: Mutex::default(),
        }
    }

    /// Connects, secures, authenticates, re-reads capabilities, enables CONDSTORE, sends ID where
    /// offered, reads NAMESPACE.
    pub async fn connect(&self, endpoint: &Endpoint, login: &Login) -> Result<Session, Error> {
        let mut session = self.connect_bare(endpoint, login).await?;
        session.introduce().await?;
        Ok(session)
    }

    /// The same without ID, ENABLE and NAMESPACE: such a session can append, and has to
    /// [introduce itself](Session::introduce) before it does anything else.
    pub async fn connect_bare(&self, endpoint: &Endpoint, login: &Login) -> Result<Session, Error> {
        // Boxed: the handshake's state is large, and what is left of it when it is over must not
        // stay in the caller's task.
        let (connection, greeting) = Box::pin(self.greeted(endpoint)).await?;
        let logged_in = Box::pin(login::log_in(connection, greeting, login));
        // Each answer has its deadline; this one is for servers that keep talking instead.
        let logged_in = timeout(self.answer_within.saturating_mul(3), logged_in).await;
        let mut session = logged_in.map_err(|_| Error::TimedOut("the login"))??;
        session.capabilities = self.shared(session.capabilities);
        session.listing_octets_max = self.listing_octets_max;
        Ok(session)
    }

    async fn greeted(&self, endpoint: &Endpoint) -> Result<login::Greeted, Error> {
        if let Some(pipes) = &self.pipes {
            let pipe = pipes(endpoint).map_err(|error| Error::Unreachable(error.to_string()))?;
            return login::greeted(self.link(Stream::pipe(pipe))).await;
        }
        let tcp = connect_tcp(endpoint, self.answer_within.min(CONNECT_WITHIN)).await?;
        match endpoint.tls {
            Tls::None => login::greeted(self.link(Stream::plain(tcp))).await,
            Tls::Implicit => {
                let tls = self.secured(endpoint, tcp).await?;
                login::greeted(self.link(tls)).await
            }
            Tls::StartTls => {
                let tcp = login::start_tls(self.link(Stream::plain(tcp))).await?;
                let tls = self.secured(endpoint, tcp).await?;
                // What was said in the clear counts for nothing: capabilities are asked anew.
                Ok(login::ungreeted(self.link(tls)))
            }
        }
    }

    fn link(&self, stream: Stream) -> Link {
        Link::new(stream, self.answer_within)
    }

    async fn secured(&self, endpoint: &Endpoint, tcp: TcpStream) -> Result<Stream, Error> {
        let name = ServerName::try_from(endpoint.host.clone())
            .map_err(|_| Error::TlsUntrusted(format!("{:?} is no host name", endpoint.host)))?;
        let connector = TlsConnector::from(self.config(endpoint.ca_file.as_deref())?);
        let handshake =
            timeout(self.answer_within, Box::pin(connector.connect(name, Gathered::new(tcp))))
                .await;
        match handshake.map_err(|_| Error::TimedOut("the TLS handshake"))? {
            Ok(tls) => Ok(Stream::Tls(Box::new(tls))),
            Err(error) => Err(handshake_failed(&endpoint.host, &error)),
        }
    }

    /// One configuration for each set of roots: a connection's own would cost it 18 KiB.
    fn config(&self, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
        let modified = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
        let roots = ca_file.map(|path| (path.to_owned(), modified(path)));
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(&roots) {
            return Ok(config.clone());
        }
        let config = tls::config(ca_file)?;
        configs.retain(|known, _| {
            known.as_ref().map(|known| &known.0) != roots.as_ref().map(|new| &new.0)
        });
        configs.insert(roots, config.clone());
        Ok(config)
    }

    /// Thousands of connections to one server share one list of capabilities.
    fn shared(&self, told: Arc<Capabilities>) -> Arc<Capabilities> {
        let mut known = self.capabilities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.iter().find(|known| **known == told) {
            return same.clone();
        }
        if known.len() < CAPABILITIES_MAX {
            known.push(told.clone());
        }
        told
    }
}

impl Default for Dialler {
    fn default() -> Dialler {
        Dialler::new()
    }
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler")
            .field("answer_within", &self.answer_within)
            .finish_non_exhaustive()
    }
}

/// Tries each address of the host in turn.
async fn connect_tcp(endpoint: &Endpoint, within: Duration) -> Result<TcpStream, Error> {
    let unreachable = |text: String| Error::Unreachable(format!("{}: {text}", endpoint.host));
    let lookup = timeout(within, tokio::net::lookup_host((&*endpoint.host, endpoint.port))).await;
    let addresses = lookup.map_err(|_| unreachable("no answer from DNS in time".into()))?;
    let addresses = addresses.map_err(|error| unreachable(error.to_string()))?;
    let mut last = unreachable("the name has no address".into());
    let (allowed, refused) = admitted(endpoint.tls, addresses);
    if let Some(address) = refused {
        last = Error::TlsUntrusted(format!("{address} is not loopback: TLS is needed"));
    }
    for address in allowed.into_iter().take(ADDRESSES_MAX) {
        match timeout(within, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                tune(&tcp).map_err(|error| unreachable(error.to_string()))?;
                return Ok(tcp);
            }
            Ok(Err(error)) => last = unreachable(format!("{address}: {error}")),
            Err(_) => last = unreachable(format!("{address}: no answer in time")),
        }
    }
    Err(last)
}

/// The addresses that may be connected to, and the first of those that may not: without TLS only
/// loopback, whatever else the name stands for.
fn admitted(
    tls: Tls,
    addresses: impl Iterator<Item = SocketAddr>,
) -> (Vec<SocketAddr>, Option<SocketAddr>) {
    let (allowed, refused): (Vec<_>, Vec<_>) =
        addresses.partition(|address| tls != Tls::None || is_loopback(*address));
    (allowed, refused.first().copied())
}

fn is_loopback(address: SocketAddr) -> bool {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    }
}

/// A peer that is silently gone is noticed: while quiet by keepalive after 60 + 3 · 20 seconds,
/// while writing by TCP_USER_TIMEOUT.
fn tune(tcp: &TcpStream) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    for (level, option, value) in [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 60),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 20),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 120_000),
    ] {
        set_option(tcp, level, option, value)?;
    }
    Ok(())
}

fn set_option(
    tcp: &TcpStream,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> std::io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as `tcp` lives, and `value` outlives the call.
    let done = unsafe {
        libc::setsockopt(tcp.as_raw_fd(), level, option, (&raw const value).cast(), length)
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Tells a certificate that proves nothing from a connection that broke.
fn handshake_failed(host: &str, error: &std::io::Error) -> Error {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        return Error::Unreachable(format!("{host}: closed in the TLS handshake: {error}"));
    };
    let reason = match tls {
        TlsError::InvalidCertificate(reason) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the certificate has expired".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate is not valid yet; is the clock right?".into()
            }
            CertificateError::UnknownIssuer => "the certificate's issuer is not trusted".into(),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the certificate is not for {host}")
            }
            other => format!("the certificate is not valid: {other}"),
        },
        TlsError::InvalidMessage(_) => "the server does not speak TLS on this port".into(),
        other => other.to_string(),
    };
    Error::TlsUntrusted(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_notices_a_peer_that_is_silently_gone() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&tcp).unwrap();
        for (level, option, expected) in [
            (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
            (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 60),
            (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 20),
            (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3),
            (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 120_000),
        ] {
            let (mut value, mut length): (libc::c_int, _) = (0, size_of::<libc::c_int>() as u32);
            // SAFETY: both pointers are to locals, and `length` is that of `value`.
            let done = unsafe {
                let value = (&raw mut value).cast();
                libc::getsockopt(tcp.as_raw_fd(), level, option, value, &raw mut length)
            };
            assert_eq!((done, value), (0, expected), "{option}");
        }
    }

    #[test]
    fn loopback_is_what_never_leaves_the_machine() {
        for (address, expected) in [
            ("127.0.0.1:143", true),
            ("127.9.9.9:143", true),
            ("[::1]:143", true),
            ("[::ffff:127.0.0.1]:143", true),
            ("[::ffff:192.0.2.1]:143", false),
            ("0.0.0.0:143", false),
            ("[::]:143", false),
            ("10.0.0.1:143", false),
            ("[fe80::1]:143", false),
        ] {
            assert_eq!(is_loopback(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn of_mixed_addresses_plain_text_takes_loopback_only() {
        let addresses: Vec<SocketAddr> =
            ["192.0.2.1:143", "127.0.0.1:143", "[2001:db8::1]:143", "[::1]:143"]
                .map(|address| address.parse().unwrap())
                .to_vec();
        let (allowed, refused) = admitted(Tls::None, addresses.clone().into_iter());
        assert_eq!(allowed, [addresses[1], addresses[3]]);
        assert_eq!(refused, Some(addresses[0]));
        let (allowed, refused) = admitted(Tls::StartTls, addresses.clone().into_iter());
        assert_eq!((allowed, refused), (addresses, None));
    }
}
