//! A light IMAP server over TLS: one INBOX an account, whose messages are made up when they are
//! asked for. What is at the source by number is at the target by number.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::server::TlsStream;

pub const SOURCE: &str = "127.0.0.21";
pub const TARGET: &str = "127.0.0.22";
pub const PORT: u16 = 9943;
const BODY: usize = 5_000;
const OFFERS: &str = "IMAP4rev1 SASL-IR AUTH=PLAIN";
const OFFERS_MORE: &str = "IMAP4rev1 IDLE LITERAL+ MULTIAPPEND UIDPLUS ENABLE CONDSTORE UNSELECT \
                           NAMESPACE LIST-EXTENDED LIST-STATUS";

/// One account, on both sides.
#[derive(Default)]
struct Mailbox {
    /// Messages at the source, at the target.
    messages: [u32; 2],
    /// When those were told of in IDLE that are not at the target yet.
    told: VecDeque<Instant>,
}

pub struct Server {
    mailboxes: Vec<(Mutex<Mailbox>, Notify)>,
    /// From being told to being stored.
    latencies: Mutex<Vec<Duration>>,
    idling: AtomicUsize,
    logins: AtomicUsize,
}

impl Server {
    /// Serves both sides; returns it with the certificate that clients are to trust.
    pub async fn start(accounts: usize) -> (Arc<Server>, String) {
        let server = Arc::new(Server {
            mailboxes: (0..accounts).map(|_| Default::default()).collect(),
            latencies: Mutex::default(),
            idling: AtomicUsize::new(0),
            logins: AtomicUsize::new(0),
        });
        let key = rcgen::KeyPair::generate().expect("a key");
        let names = vec![SOURCE.to_owned(), TARGET.to_owned()];
        let params = rcgen::CertificateParams::new(names).expect("parameters");
        let certificate = params.self_signed(&key).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate.der().to_vec())], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("a configuration")));
        for (side, host) in [SOURCE, TARGET].into_iter().enumerate() {
            tokio::spawn(accept(server.clone(), acceptor.clone(), side, host));
        }
        (server, certificate.pem())
    }

    pub fn deliver(&self, account: usize) {
        let (mailbox, news) = &self.mailboxes[account];
        mailbox.lock().expect("no panic").messages[0] += 1;
        news.notify_one();
    }

    pub fn idling(&self) -> usize {
        self.idling.load(Ordering::Relaxed)
    }

    pub fn logins(&self) -> usize {
        self.logins.load(Ordering::Relaxed)
    }

    pub fn take_latencies(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.latencies.lock().expect("no panic"))
    }
}

async fn accept(server: Arc<Server>, acceptor: TlsAcceptor, side: usize, host: &str) {
    let listener = listen(host).expect("it listens");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (server, acceptor) = (server.clone(), acceptor.clone());
        // However it ends: the client hears of it.
        tokio::spawn(async move { drop(serve(&server, acceptor, side, stream).await) });
    }
}

fn listen(host: &str) -> io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(format!("{host}:{PORT}").parse().expect("an address"))?;
    socket.listen(4096)
}

/// Counts a connection among those that idle, while it does.
struct Idling<'s>(&'s Server);

impl Drop for Idling<'_> {
    fn drop(&mut self) {
        self.0.idling.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Talk<'s> {
    server: &'s Server,
    side: usize,
    stream: BufReader<TlsStream<TcpStream>>,
    out: String,
    account: usize,
    /// So many messages the client knows of.
    told: u32,
}

async fn serve(
    server: &Server,
    acceptor: TlsAcceptor,
    side: usize,
    stream: TcpStream,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = BufReader::with_capacity(2048, acceptor.accept(stream).await?);
    let out = format!("* OK [CAPABILITY {OFFERS}] ready\r\n");
    let mut talk = Talk { server, side, stream, out, account: 0, told: 0 };
    loop {
        if talk.stream.buffer().is_empty() {
            talk.flush().await?;
        }
        let Some((command, literals)) = talk.command().await? else { return Ok(()) };
        let (tag, command) = command.split_once(' ').unwrap_or((&command, ""));
        let code = talk.answer(command, literals).await?;
        talk.out += &format!("{tag} OK {code}done\r\n");
        if command == "LOGOUT" {
            return talk.flush().await;
        }
    }
}

impl Talk<'_> {
    async fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.get_mut().write_all(out.as_bytes()).await?;
        self.stream.get_mut().flush().await
    }

    /// A command without its literals, and how many they were.
    async fn command(&mut self) -> io::Result<Option<(String, u32)>> {
        let (mut command, mut literals) = (String::new(), 0);
        loop {
            let begun = command.len();
            if self.stream.read_line(&mut command).await? == 0 {
                return Ok(None);
            }
            let line = command[begun..].trim_end();
            let octets = line.strip_suffix("+}").and_then(|line| line.rsplit_once('{'));
            let Some(octets) = octets.and_then(|(_, octets)| octets.parse::<u64>().ok()) else {
                return Ok(Some((command.trim_end().to_owned(), literals)));
            };
            literals += 1;
            let mut literal = (&mut self.stream).take(octets);
            tokio::io::copy(&mut literal, &mut tokio::io::sink()).await?;
        }
    }

    /// What goes before the tagged OK; the code in it.
    async fn answer(&mut self, command: &str, literals: u32) -> io::Result<String> {
        let mut words = command.split(' ');
        match words.next().unwrap_or_default() {
            "AUTHENTICATE" => {
                self.account = account_of(words.nth(1).unwrap_or_default());
                self.server.logins.fetch_add(1, Ordering::Relaxed);
                return Ok(format!("[CAPABILITY {OFFERS_MORE}] "));
            }
            "ENABLE" => self.out += "* ENABLED CONDSTORE\r\n",
            "NAMESPACE" => self.out += "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n",
            "LIST" => {
                let there = self.messages();
                self.out += "* LIST (\\HasNoChildren) \"/\" INBOX\r\n";
                self.out += &format!(
                    "* STATUS INBOX (MESSAGES {there} UIDNEXT {next} UIDVALIDITY 7 \
                     HIGHESTMODSEQ {next})\r\n",
                    next = there + 1
                );
            }
            "SELECT" | "EXAMINE" => {
                self.told = self.messages();
                self.out += &format!(
                    "* FLAGS (\\Seen)\r\n* {there} EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n\
                     * OK [PERMANENTFLAGS (\\Seen \\*)] x\r\n* OK [UIDNEXT {next}] x\r\n\
                     * OK [HIGHESTMODSEQ {next}] x\r\n",
                    there = self.told,
                    next = self.told + 1
                );
            }
            "UID" => self.fetch(words.nth(1).unwrap_or_default(), command),
            "IDLE" => self.idle().await?,
            "APPEND" => return Ok(self.append(literals)),
            _ => {}
        }
        Ok(String::new())
    }

    fn messages(&self) -> u32 {
        let (mailbox, _) = &self.server.mailboxes[self.account];
        mailbox.lock().expect("no panic").messages[self.side]
    }

    fn fetch(&mut self, set: &str, command: &str) {
        if command.contains("CHANGEDSINCE") {
            return;
        }
        let there = self.messages();
        let number = |word: &str| word.parse().unwrap_or(there);
        for range in set.split(',') {
            let (first, last) = range.split_once(':').unwrap_or((range, range));
            // A `*` is the last message, whatever stands beside it.
            let (first, last) = (number(first).min(there), number(last).min(there));
            for uid in first.max(1)..=last {
                self.out += &format!("* {uid} FETCH (UID {uid}");
                if command.contains("FLAGS") {
                    self.out += " FLAGS (\\Seen)";
                }
                if command.contains("RFC822.SIZE") {
                    let (hour, minute, second) = (uid / 3600 % 24, uid / 60 % 60, uid % 60);
                    let time = format!("{hour:02}:{minute:02}:{second:02}");
                    let date = format!("14-Nov-2023 {time} +0000");
                    self.out += &format!(" INTERNALDATE \"{date}\" RFC822.SIZE {BODY}");
                }
                if command.contains("BODY.PEEK[]") {
                    let header = format!("Subject: {:09} {uid:09}\r\n\r\n", self.account);
                    let body = header.clone() + &"x".repeat(BODY - header.len());
                    self.out += &format!(" BODY[] {{{BODY}}}\r\n{body}");
                }
                self.out += ")\r\n";
            }
        }
    }

    async fn idle(&mut self) -> io::Result<()> {
        self.out += "+ idling\r\n";
        self.server.idling.fetch_add(1, Ordering::Relaxed);
        let _idling = Idling(self.server);
        let (mailbox, news) = &self.server.mailboxes[self.account];
        let mut line = String::new();
        loop {
            let there = self.messages();
            if there > self.told {
                self.out += &format!("* {there} EXISTS\r\n");
                let now = Instant::now();
                let told = (self.told..there).map(|_| now);
                mailbox.lock().expect("no panic").told.extend(told);
                self.told = there;
            }
            self.flush().await?;
            tokio::select! {
                read = self.stream.read_line(&mut line) => {
                    return match read? {
                        0 => Err(io::ErrorKind::UnexpectedEof.into()),
                        _ => Ok(()),
                    };
                }
                () = news.notified() => {}
            }
        }
    }

    fn append(&mut self, messages: u32) -> String {
        let (mailbox, _) = &self.server.mailboxes[self.account];
        let mut mailbox = mailbox.lock().expect("no panic");
        let first = mailbox.messages[self.side] + 1;
        mailbox.messages[self.side] += messages;
        let last = mailbox.messages[self.side];
        let told = (0..messages).filter_map(|_| mailbox.told.pop_front());
        let latencies = told.map(|told| told.elapsed());
        self.server.latencies.lock().expect("no panic").extend(latencies);
        format!("[APPENDUID 7 {first}:{last}] ")
    }
}

/// The number in the user's name, `u` and digits between the NULs of PLAIN.
fn account_of(message: &str) -> usize {
    use base64::Engine;
    let octets = base64::engine::general_purpose::STANDARD.decode(message).expect("base64");
    let text = String::from_utf8(octets).expect("text");
    let user = text.split('\0').nth(1).expect("a user");
    user.trim_start_matches('u').parse().expect("a number")
}
