//! A server that means harm: it lets everybody in, behaves, and at one command shows what it is.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What it says in place of an answer: the tag, the command, and where to. `false`: nothing, let
/// it be answered as usual.
pub type Malice = dyn Fn(&str, &str, &mut TcpStream) -> io::Result<bool> + Send + Sync;

/// Listens until the test ends, on an address of its own: the product budgets by host.
pub fn listen(number: u8, greeting: &'static str, malice: Arc<Malice>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 1, number), 0)).expect("loopback");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let malice = malice.clone();
            std::thread::spawn(move || {
                let _ = serve(stream, greeting, &*malice);
            });
        }
    });
    address
}

pub const GREETING: &str = "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n";
pub const DATE: &str = "INTERNALDATE \"01-Jan-2026 10:00:00 +0000\"";

fn serve(mut stream: TcpStream, greeting: &str, malice: &Malice) -> io::Result<()> {
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
        if command == "IDLE" {
            idling = tag.to_owned();
        }
        if tag == "DONE" {
            stream.write_all(format!("{idling} OK idled\r\n").as_bytes())?;
        } else if !malice(tag, command, &mut stream)? {
            stream.write_all(usual(tag, command).as_bytes())?;
        }
    }
}

/// What an honest server with one message in INBOX says.
fn usual(tag: &str, command: &str) -> String {
    let untagged = match command.split(' ').next().unwrap_or_default() {
        "AUTHENTICATE" => return format!("{tag} OK [CAPABILITY IMAP4rev1 IDLE] in\r\n"),
        "IDLE" => return "+ idling\r\n".to_owned(),
        "LIST" if command.contains('*') => "* LIST () \"/\" INBOX\r\n".to_owned(),
        "LIST" => "* LIST (\\Noselect) \"/\" \"\"\r\n".to_owned(),
        "STATUS" => "* STATUS INBOX (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 7)\r\n".to_owned(),
        "EXAMINE" => "* 1 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 2] x\r\n".to_owned(),
        "UID" if command.contains("BODY") => format!(
            "* 1 FETCH (UID 1 FLAGS () {DATE} RFC822.SIZE 8 BODY[] {{8}}\r\na: b\r\n\r\n)\r\n"
        ),
        "UID" => format!("* 1 FETCH (UID 1 FLAGS () {DATE} RFC822.SIZE 8)\r\n"),
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
