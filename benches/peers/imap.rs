//! As much of an IMAP client as the ceiling and the judge need, apart from the product's.

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::servers::{Dovecot, PASSWORD};

/// What has to be known to log in.
#[derive(Clone)]
pub struct Place {
    pub host: String,
    pub port: u16,
    pub ca_file: String,
    pub user: String,
}

impl Place {
    pub fn of(server: &Dovecot, user: &str) -> Place {
        let ca_file = server.ca_file().display().to_string();
        let host = server.host.to_owned();
        Place { host, port: server.port, ca_file, user: user.to_owned() }
    }

    pub fn arguments(&self) -> [String; 4] {
        [self.host.clone(), self.port.to_string(), self.ca_file.clone(), self.user.clone()]
    }

    pub fn parse(arguments: &[String]) -> Place {
        let [host, port, ca_file, user] = arguments else { panic!("host, port, CA and user") };
        let (host, ca_file, user) = (host.clone(), ca_file.clone(), user.clone());
        Place { host, port: port.parse().expect("a port"), ca_file, user }
    }
}

pub struct Client {
    pub reader: Reader,
    pub writer: Writer,
}

/// Lines and literals as they come.
pub struct Reader {
    stream: ReadHalf<TlsStream<TcpStream>>,
    buffer: Vec<u8>,
    at: usize,
    filled: usize,
}

/// Commands, gathered into large writes.
pub struct Writer {
    stream: WriteHalf<TlsStream<TcpStream>>,
    buffer: Vec<u8>,
}

const BUFFER: usize = 64 * 1024;

impl Client {
    pub async fn log_in(place: &Place) -> Client {
        let mut roots = RootCertStore::empty();
        let pem = CertificateDer::from_pem_file(Path::new(&place.ca_file));
        roots.add(pem.expect("a certificate")).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect((&*place.host, place.port)).await.expect("connected");
        tcp.set_nodelay(true).expect("set");
        let name = ServerName::try_from(place.host.clone()).expect("an address");
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        let (reader, writer) = split(tls.expect("TLS"));
        let buffer = vec![0; BUFFER];
        let mut client = Client {
            reader: Reader { stream: reader, buffer, at: 0, filled: 0 },
            writer: Writer { stream: writer, buffer: Vec::with_capacity(BUFFER) },
        };
        client.reader.line().await.expect("a greeting");
        client.run(&format!("LOGIN {} {PASSWORD}", place.user)).await;
        client
    }

    /// One command; its untagged answers.
    pub async fn run(&mut self, command: &str) -> Vec<Vec<u8>> {
        self.writer.put(format!("x {command}\r\n").as_bytes()).await;
        self.writer.flush().await;
        let mut lines = Vec::new();
        loop {
            let line = self.reader.line().await.expect("an answer");
            if let Some(answer) = line.strip_prefix(b"x ") {
                let answer = String::from_utf8_lossy(answer);
                assert!(answer.starts_with("OK"), "{command}: {answer}");
                return lines;
            }
            lines.push(line);
        }
    }

    /// Names of all folders.
    pub async fn folders(&mut self) -> Vec<String> {
        let lines = self.run("LIST \"\" \"*\"").await;
        let name = |line: &Vec<u8>| {
            let line = String::from_utf8_lossy(line);
            let (_, name) = line.split_once("\" ").expect("a LIST response");
            name.trim_matches('"').to_owned()
        };
        lines.iter().map(name).collect()
    }
}

impl Reader {
    /// The next line without its CRLF; `None` at the end.
    pub async fn line(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let held = &self.buffer[self.at..self.filled];
            if let Some(end) = memchr::memchr(b'\n', held) {
                line.extend_from_slice(&held[..end]);
                self.at += end + 1;
                line.pop();
                return Some(line);
            }
            line.extend_from_slice(held);
            self.at = self.filled;
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Up to `max` octets, at least one.
    pub async fn some(&mut self, max: usize) -> &[u8] {
        if self.at == self.filled {
            assert!(self.fill().await, "the connection ends in a literal");
        }
        let from = self.at;
        self.at = self.filled.min(from + max);
        &self.buffer[from..self.at]
    }

    async fn fill(&mut self) -> bool {
        self.filled = self.stream.read(&mut self.buffer).await.unwrap_or(0);
        self.at = 0;
        self.filled > 0
    }
}

impl Writer {
    pub async fn put(&mut self, octets: &[u8]) {
        if self.buffer.len() + octets.len() > BUFFER {
            self.flush().await;
        }
        self.buffer.extend_from_slice(octets);
    }

    pub async fn flush(&mut self) {
        self.stream.write_all(&self.buffer).await.expect("written");
        self.stream.flush().await.expect("written");
        self.buffer.clear();
    }
}

/// What a FETCH response says before its body.
pub struct Announced {
    pub flags: String,
    pub date: String,
    pub octets: usize,
}

impl Announced {
    /// Of a line that ends in a literal.
    pub fn parse(line: &[u8]) -> Option<Announced> {
        let line = std::str::from_utf8(line).ok()?;
        let (rest, octets) = line.strip_prefix("* ")?.strip_suffix('}')?.rsplit_once('{')?;
        let (_, flags) = rest.split_once("FLAGS (")?;
        let (flags, _) = flags.split_once(')')?;
        let (_, date) = rest.split_once("INTERNALDATE \"")?;
        let (date, _) = date.split_once('"')?;
        let flags: Vec<&str> = flags.split(' ').filter(|flag| *flag != "\\Recent").collect();
        let (flags, date) = (flags.join(" "), date.to_owned());
        Some(Announced { flags, date, octets: octets.parse().ok()? })
    }
}
