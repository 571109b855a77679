//! A light IMAP server over TLS: one INBOX an account, whose messages are made up when they are
//! asked for. Of what is appended it keeps which message that is, and nothing else.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
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
    /// So many messages are at the source, with UIDs from 1 on.
    source: u32,
    /// Those at the target, by their UIDs at the source.
    target: Vec<u32>,
    /// When those were told of in IDLE, by UID, that are not at the target yet.
    told: BTreeMap<u32, Instant>,
    /// Connections that idle.
    idling: usize,
}

pub struct Server {
    mailboxes: Vec<(Mutex<Mailbox>, Notify)>,
    /// From being told to being stored.
    latencies: Mutex<Vec<Duration>>,
    /// Accounts of which a connection idles.
    idling: AtomicUsize,
    /// When somebody logged in or tried to, by side.
    logins: [Mutex<Vec<Instant>>; 2],
    /// Whether each side runs.
    up: [watch::Sender<bool>; 2],
    /// Nobody's password is right at the source.
    refuses: AtomicBool,
    refused: AtomicUsize,
    /// Times somebody looked at all folders.
    sweeps: AtomicUsize,
    /// What nobody should have said.
    odd: Mutex<Vec<String>>,
}

impl Server {
    /// Serves both sides; returns it with the certificate that clients are to trust.
    pub async fn start(accounts: usize) -> (Arc<Server>, String) {
        let server = Arc::new(Server {
            mailboxes: (0..accounts).map(|_| Default::default()).collect(),
            latencies: Mutex::default(),
            idling: AtomicUsize::new(0),
            logins: Default::default(),
            up: [watch::Sender::new(true), watch::Sender::new(true)],
            refuses: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            sweeps: AtomicUsize::new(0),
            odd: Mutex::default(),
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
        mailbox.lock().expect("no panic").source += 1;
        news.notify_one();
    }

    /// Accounts that are told of new mail.
    pub fn idling(&self) -> usize {
        self.idling.load(Ordering::Relaxed)
    }

    /// Whether the source runs: one that stops ends all its connections, and nobody listens.
    pub fn source_runs(&self, runs: bool) {
        self.up[0].send_replace(runs);
    }

    /// Whether the source refuses every password.
    pub fn source_refuses(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Passwords refused by now.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Times somebody looked at all folders of an account by now, on either side.
    pub fn sweeps(&self) -> usize {
        self.sweeps.load(Ordering::Relaxed)
    }

    pub fn take_latencies(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.latencies.lock().expect("no panic"))
    }

    /// Logins at source and target since this was last asked: how many, and the most within any
    /// second.
    pub fn take_logins(&self) -> [(usize, usize); 2] {
        self.logins.each_ref().map(|logins| {
            let logins = std::mem::take(&mut *logins.lock().expect("no panic"));
            let within = |at: usize| {
                let second = logins[at] + Duration::from_secs(1);
                logins[at..].partition_point(|login| *login < second)
            };
            (logins.len(), (0..logins.len()).map(within).max().unwrap_or_default())
        })
    }

    /// Accounts whose target holds anything but each of the source's messages once.
    pub fn inexact(&self) -> usize {
        let is_inexact = |mailbox: &Mailbox| {
            let mut target = mailbox.target.clone();
            target.sort_unstable();
            !target.into_iter().eq(1..=mailbox.source)
        };
        let boxes = self.mailboxes.iter();
        boxes.filter(|(mailbox, _)| is_inexact(&mailbox.lock().expect("no panic"))).count()
    }

    /// Panics if somebody said what this server does not understand: it would measure nothing.
    pub fn check(&self) {
        let odd = self.odd.lock().expect("no panic");
        assert!(odd.is_empty(), "{} times, first: {}", odd.len(), odd[0]);
    }

    fn is_odd(&self, what: String) -> String {
        self.odd.lock().expect("no panic").push(what);
        "BAD what?".to_owned()
    }

    /// Messages at all sources.
    pub fn messages(&self) -> usize {
        let boxes = self.mailboxes.iter();
        boxes.map(|(mailbox, _)| mailbox.lock().expect("no panic").source as usize).sum()
    }
}

async fn accept(server: Arc<Server>, acceptor: TlsAcceptor, side: usize, host: &'static str) {
    let mut up = server.up[side].subscribe();
    loop {
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
        let listener = listen(host).expect("it listens");
        while *up.borrow_and_update() {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = up.changed() => continue,
            };
            let Ok((stream, _)) = stream else { continue };
            let (server, acceptor) = (server.clone(), acceptor.clone());
            let mut up = up.clone();
            tokio::spawn(async move {
                // However it ends: the client hears of it.
                tokio::select! {
                    _ = serve(&server, acceptor, side, stream) => {}
                    _ = up.wait_for(|up| !*up) => {}
                }
            });
        }
    }
}

fn listen(host: &str) -> io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(format!("{host}:{PORT}").parse().expect("an address"))?;
    socket.listen(4096)
}

/// Counts an account among those that idle, while a connection of it does.
struct Idling<'s>(&'s Server, usize);

impl<'s> Idling<'s> {
    fn begin(server: &'s Server, account: usize) -> Idling<'s> {
        let (mailbox, _) = &server.mailboxes[account];
        let mut mailbox = mailbox.lock().expect("no panic");
        mailbox.idling += 1;
        server.idling.fetch_add(usize::from(mailbox.idling == 1), Ordering::Relaxed);
        Idling(server, account)
    }
}

impl Drop for Idling<'_> {
    fn drop(&mut self) {
        let (mailbox, _) = &self.0.mailboxes[self.1];
        let mut mailbox = mailbox.lock().expect("no panic");
        mailbox.idling -= 1;
        self.0.idling.fetch_sub(usize::from(mailbox.idling == 0), Ordering::Relaxed);
    }
}

struct Talk<'s> {
    server: &'s Server,
    side: usize,
    stream: BufReader<TlsStream<TcpStream>>,
    out: String,
    account: usize,
    /// A folder is selected.
    selected: bool,
    /// So many messages of it the client knows of.
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
    let mut talk = Talk { server, side, stream, out, account: 0, selected: false, told: 0 };
    loop {
        if talk.stream.buffer().is_empty() {
            talk.flush().await?;
        }
        let Some((command, literals)) = talk.command().await? else { return Ok(()) };
        let (tag, command) = command.split_once(' ').unwrap_or((&command, ""));
        let answer = talk.answer(command, &literals).await?;
        talk.tell_news();
        talk.out += &format!("{tag} {answer}\r\n");
        if command == "LOGOUT" {
            talk.flush().await?;
            return talk.stream.get_mut().shutdown().await;
        }
    }
}

impl Talk<'_> {
    async fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.get_mut().write_all(out.as_bytes()).await?;
        self.stream.get_mut().flush().await
    }

    /// A command without its literals, and which messages they are.
    async fn command(&mut self) -> io::Result<Option<(String, Vec<Option<u32>>)>> {
        let (mut command, mut literals) = (String::new(), Vec::new());
        loop {
            let begun = command.len();
            if self.stream.read_line(&mut command).await? == 0 {
                return Ok(None);
            }
            let line = command[begun..].trim_end();
            let octets = line.strip_suffix("+}").and_then(|line| line.rsplit_once('{'));
            let Some(octets) = octets.and_then(|(_, octets)| octets.parse::<usize>().ok()) else {
                return Ok(Some((command.trim_end().to_owned(), literals)));
            };
            let mut literal = vec![0; octets];
            self.stream.read_exact(&mut literal).await?;
            literals.push(uid_of(self.account, &literal));
        }
    }

    /// What goes before the tagged answer; and that answer without its tag.
    async fn answer(&mut self, command: &str, literals: &[Option<u32>]) -> io::Result<String> {
        let mut words = command.split(' ');
        match words.next().unwrap_or_default() {
            "AUTHENTICATE" => {
                self.account = account_of(words.nth(1).unwrap_or_default());
                self.server.logins[self.side].lock().expect("no panic").push(Instant::now());
                if self.side == 0 && self.server.refuses.load(Ordering::Relaxed) {
                    self.server.refused.fetch_add(1, Ordering::Relaxed);
                    return Ok("NO [AUTHENTICATIONFAILED] wrong password".to_owned());
                }
                return Ok(format!("OK [CAPABILITY {OFFERS_MORE}] done"));
            }
            "ENABLE" => self.out += "* ENABLED CONDSTORE\r\n",
            "NAMESPACE" => self.out += "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n",
            "LIST" => {
                self.server.sweeps.fetch_add(1, Ordering::Relaxed);
                self.out += "* LIST (\\HasNoChildren) \"/\" INBOX\r\n";
                self.status();
            }
            "STATUS" => self.status(),
            "SELECT" | "EXAMINE" => {
                (self.selected, self.told) = (true, self.messages());
                self.out += &format!(
                    "* FLAGS (\\Seen)\r\n* {there} EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n\
                     * OK [PERMANENTFLAGS (\\Seen \\*)] x\r\n* OK [UIDNEXT {next}] x\r\n\
                     * OK [HIGHESTMODSEQ {next}] x\r\n",
                    there = self.told,
                    next = self.told + 1
                );
            }
            "UNSELECT" | "CLOSE" => self.selected = false,
            "UID" => match words.next() {
                Some("FETCH") => self.fetch(words.next().unwrap_or_default(), command),
                _ => return Ok(self.server.is_odd(command.to_owned())),
            },
            "IDLE" => self.idle().await?,
            "APPEND" => match literals.iter().copied().collect::<Option<Vec<u32>>>() {
                Some(messages) => return Ok(format!("OK {} done", self.append(&messages))),
                None => return Ok(self.server.is_odd(format!("no message of u{}", self.account))),
            },
            "LOGOUT" => self.out += "* BYE bye\r\n",
            "ID" | "NOOP" | "CREATE" | "SUBSCRIBE" => {}
            _ => return Ok(self.server.is_odd(command.to_owned())),
        }
        Ok("OK done".to_owned())
    }

    fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        self.server.mailboxes[self.account].0.lock().expect("no panic")
    }

    fn messages(&self) -> u32 {
        let mailbox = self.mailbox();
        if self.side == 0 { mailbox.source } else { mailbox.target.len() as u32 }
    }

    /// The UID at the source of the message with that UID here.
    fn original(&self, uid: u32) -> u32 {
        if self.side == 0 { uid } else { self.mailbox().target[uid as usize - 1] }
    }

    fn status(&mut self) {
        let there = self.messages();
        self.out += &format!(
            "* STATUS INBOX (MESSAGES {there} UIDNEXT {next} UIDVALIDITY 7 HIGHESTMODSEQ {next})\r\n",
            next = there + 1
        );
    }

    /// EXISTS, if there is more than the client knows of.
    fn tell_news(&mut self) {
        let there = self.messages();
        if self.selected && there > self.told {
            self.out += &format!("* {there} EXISTS\r\n");
            self.told = there;
        }
    }

    fn fetch(&mut self, set: &str, command: &str) {
        if command.contains("CHANGEDSINCE") {
            return;
        }
        // What came since is told of first.
        let there = self.told;
        let number = |word: &str| word.parse().unwrap_or(there);
        for range in set.split(',') {
            let (first, last) = range.split_once(':').unwrap_or((range, range));
            // A `*` is the last message, whatever stands beside it.
            let (first, last) = match last {
                "*" => (number(first).min(there), there),
                _ => (number(first), number(last).min(there)),
            };
            for uid in first.max(1)..=last {
                let original = self.original(uid);
                self.out += &format!("* {uid} FETCH (UID {uid}");
                if command.contains("FLAGS") {
                    self.out += " FLAGS (\\Seen)";
                }
                if command.contains("RFC822.SIZE") {
                    let (hour, minute) = (original / 3600 % 24, original / 60 % 60);
                    let time = format!("{hour:02}:{minute:02}:{:02}", original % 60);
                    let date = format!("14-Nov-2023 {time} +0000");
                    self.out += &format!(" INTERNALDATE \"{date}\" RFC822.SIZE {BODY}");
                }
                let header = header_of(self.account, original);
                if command.contains("BODY.PEEK[HEADER]") {
                    self.out += &format!(" BODY[HEADER] {{{}}}\r\n{header}", header.len());
                }
                if command.contains("BODY.PEEK[]") {
                    let body = header.clone() + &"x".repeat(BODY - header.len());
                    self.out += &format!(" BODY[] {{{BODY}}}\r\n{body}");
                }
                self.out += ")\r\n";
            }
        }
    }

    async fn idle(&mut self) -> io::Result<()> {
        self.out += "+ idling\r\n";
        let _idling = Idling::begin(self.server, self.account);
        let (mailbox, news) = &self.server.mailboxes[self.account];
        loop {
            let known = self.told;
            self.tell_news();
            let now = Instant::now();
            let told = (known..self.told).map(|before| (before + 1, now));
            mailbox.lock().expect("no panic").told.extend(told);
            self.flush().await?;
            tokio::select! {
                read = self.stream.fill_buf() => {
                    if read?.is_empty() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    let mut done = String::new();
                    return self.stream.read_line(&mut done).await.map(drop);
                }
                () = news.notified() => {}
            }
        }
    }

    fn append(&mut self, messages: &[u32]) -> String {
        let mut mailbox = self.mailbox();
        let first = mailbox.target.len() + 1;
        mailbox.target.extend(messages);
        let last = mailbox.target.len();
        let told = messages.iter().filter_map(|uid| mailbox.told.remove(uid));
        let latencies: Vec<Duration> = told.map(|told| told.elapsed()).collect();
        drop(mailbox);
        self.server.latencies.lock().expect("no panic").extend(latencies);
        format!("[APPENDUID 7 {first}:{last}]")
    }
}

fn header_of(account: usize, uid: u32) -> String {
    format!("Subject: {account:09} {uid:09}\r\n\r\n")
}

/// The UID of the account's message whose octets these are; none if they are of no such message.
fn uid_of(account: usize, octets: &[u8]) -> Option<u32> {
    let line = std::str::from_utf8(octets).ok()?.lines().next()?;
    let uid = line.rsplit(' ').next()?.parse().ok()?;
    let body = octets.strip_prefix(header_of(account, uid).as_bytes())?;
    (octets.len() == BODY && body.iter().all(|octet| *octet == b'x')).then_some(uid)
}

/// The number in the user's name, `u` and digits between the NULs of PLAIN.
fn account_of(message: &str) -> usize {
    use base64::Engine;
    let octets = base64::engine::general_purpose::STANDARD.decode(message).expect("base64");
    let text = String::from_utf8(octets).expect("text");
    let user = text.split('\0').nth(1).expect("a user");
    user.trim_start_matches('u').parse().expect("a number")
}
