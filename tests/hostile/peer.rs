//! A server that means harm: it lets everybody in, behaves, and at one command shows what it is.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What it says in place of an answer: the tag, the command, and where to. `false`: nothing, let
/// it be answered as usual.
pub type Malice = dyn Fn(&str, &str, &mut TcpStream) -> io::Result<bool> + Send + Sync;

/// Listens until the test ends, on an address of its own: the product budgets by host.
pub fn listen(number: u8, greeting: &'static str, malice: Arc<Malice>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 1, number), 0)).expect("loopback");
    let address = listener.local_addr().expect("bound");
    let appended = Arc::new(AtomicU32::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (malice, appended) = (malice.clone(), appended.clone());
            std::thread::spawn(move || {
                let _ = serve(stream, greeting, &*malice, &appended);
            });
        }
    });
    address
}

pub const GREETING: &str = "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n";
pub const DATE: &str = "INTERNALDATE \"01-Jan-2026 10:00:00 +0000\"";

/// How INBOX was opened.
enum Inbox {
    Read,
    Written,
}

fn serve(
    mut stream: TcpStream,
    greeting: &str,
    malice: &Malice,
    appended: &AtomicU32,
) -> io::Result<()> {
    let mut inbox = Inbox::Read;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(greeting.as_bytes())?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let (mut line, mut idling) = (String::new(), String::new());
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let (tag, command) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        if let Some(octets) = announced(command) {
            stream.write_all(b"+ go on\r\n")?;
            io::copy(&mut lines.by_ref().take(octets), &mut io::sink())?;
            lines.read_line(&mut String::new())?;
        }
        if command == "IDLE" {
            idling = tag.to_owned();
        }
        if tag == "DONE" {
            stream.write_all(format!("{idling} OK idled\r\n").as_bytes())?;
        } else if !malice(tag, command, &mut stream)? {
            stream.write_all(usual(tag, command, &mut inbox, appended).as_bytes())?;
        }
    }
}

/// The octets of the literal that a command ends with.
fn announced(command: &str) -> Option<u64> {
    command.strip_suffix('}')?.rsplit_once('{')?.1.parse().ok()
}

/// What an honest server says: with one message in INBOX, or, where it is written to, with those
/// that were appended. They are all the same.
fn usual(tag: &str, command: &str, inbox: &mut Inbox, appended: &AtomicU32) -> String {
    let word = command.split(' ').next().unwrap_or_default();
    if word == "APPEND" {
        appended.fetch_add(1, Ordering::Relaxed);
    }
    if word == "SELECT" || word == "EXAMINE" {
        *inbox = if word == "SELECT" { Inbox::Written } else { Inbox::Read };
    }
    let count = match inbox {
        Inbox::Written => appended.load(Ordering::Relaxed),
        Inbox::Read => 1,
    };
    let each = |what: &str| {
        let one =
            |uid| format!("* {uid} FETCH (UID {uid} FLAGS () {DATE} RFC822.SIZE 8{what})\r\n");
        (1..=count).map(one).collect::<String>()
    };
    let next = count + 1;
    let untagged = match word {
        "AUTHENTICATE" => return format!("{tag} OK [CAPABILITY IMAP4rev1 IDLE] in\r\n"),
        "IDLE" => return "+ idling\r\n".to_owned(),
        "LIST" if command.contains('*') => "* LIST () \"/\" INBOX\r\n".to_owned(),
        "LIST" => "* LIST (\\Noselect) \"/\" \"\"\r\n".to_owned(),
        "STATUS" => {
            format!("* STATUS INBOX (MESSAGES {count} UIDNEXT {next} UIDVALIDITY 7)\r\n")
        }
        "SELECT" | "EXAMINE" => {
            format!("* {count} EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT {next}] x\r\n")
        }
        "UID" if command.contains("BODY") => each(" BODY[] {8}\r\na: b\r\n\r\n"),
        "UID" => each(""),
        _ => String::new(),
    };
    format!("{untagged}{tag} OK done\r\n")
}

/// Says it again and again, until nobody listens, for two minutes at most.
pub fn for_ever(stream: &mut TcpStream, text: &[u8]) -> io::Result<bool> {
    let begun = Instant::now();
    let many = text.repeat(1 + 16_384 / text.len());
    while begun.elapsed() < Duration::from_secs(120) {
        stream.write_all(&many)?;
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Says it once, instead of an answer.
pub fn say(stream: &mut TcpStream, text: &str) -> io::Result<bool> {
    stream.write_all(text.as_bytes()).map(|()| true)
}
