//! A tiny raw IMAP client for planting and looking: octets go out as they are, literals come back
//! as they are. At Dovecot it speaks to `doveadm exec imap` over a pipe, so it needs no port, TLS
//! or password there; other servers are asked over TCP, and with the extensions they have.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// One IMAP session of one user.
pub struct Imap {
    child: Option<Child>,
    commands: Box<dyn Write>,
    answers: BufReader<Box<dyn Read>>,
    capabilities: BTreeSet<String>,
    tag: u32,
}

/// A message as FETCH shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub uid: u32,
    pub flags: BTreeSet<String>,
    /// Seconds since 1970, whatever zone the server answered in.
    pub instant: i64,
    pub octets: Vec<u8>,
}

impl Imap {
    pub fn open(config: &Path, user: &str, time_zone: &str) -> Imap {
        let mut child = Command::new("doveadm")
            .arg("-c")
            .arg(config)
            .args(["exec", "imap", "-u", user])
            .env("TZ", time_zone)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("doveadm starts");
        let commands = Box::new(child.stdin.take().expect("piped"));
        let answers = Box::new(child.stdout.take().expect("piped"));
        Imap::begin(Some(child), commands, answers, b"* PREAUTH", "NOOP")
    }

    /// Logs in over TCP, in the clear: on loopback only.
    pub fn login(port: u16, user: &str, password: &str) -> Imap {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        let answers = Box::new(stream.try_clone().expect("cloned"));
        let login = format!("LOGIN \"{user}\" \"{password}\"");
        Imap::begin(None, Box::new(stream), answers, b"* OK", &login)
    }

    fn begin(
        child: Option<Child>,
        commands: Box<dyn Write>,
        answers: Box<dyn Read>,
        greeting: &[u8],
        login: &str,
    ) -> Imap {
        let (answers, capabilities) = (BufReader::new(answers), BTreeSet::new());
        let mut imap = Imap { child, commands, answers, capabilities, tag: 0 };
        let said = imap.read_answer();
        assert!(said.starts_with(greeting), "{}", String::from_utf8_lossy(&said));
        imap.run(login);
        let lines = imap.run("CAPABILITY");
        let line = lines.iter().find(|line| line.starts_with(b"* CAPABILITY ")).expect("told");
        let line = String::from_utf8_lossy(line).into_owned();
        imap.capabilities = line.split(' ').map(str::to_owned).collect();
        imap
    }

    fn has(&self, capability: &str) -> bool {
        self.capabilities.contains(capability)
    }

    /// Runs a command that has to succeed; gives its untagged answers.
    pub fn run(&mut self, command: &str) -> Vec<Vec<u8>> {
        self.attempt(command).unwrap_or_else(|refusal| panic!("{command}: {refusal}"))
    }

    /// Runs a command; gives its untagged answers, or the refusal in the server's words.
    pub fn attempt(&mut self, command: &str) -> Result<Vec<Vec<u8>>, String> {
        self.send(&[command.as_bytes()]);
        self.answers_of_command().map(|(untagged, _)| untagged)
    }

    /// Appends octets as they are; gives the new UID.
    pub fn append(&mut self, folder: &str, flags: &str, date: &str, octets: &[u8]) -> u32 {
        self.attempt_append(folder, flags, date, octets)
            .unwrap_or_else(|refusal| panic!("APPEND to {folder}: {refusal}"))
    }

    pub fn attempt_append(
        &mut self,
        folder: &str,
        flags: &str,
        date: &str,
        octets: &[u8],
    ) -> Result<u32, String> {
        let folder = quoted_name(folder);
        let opening = format!("APPEND {folder} ({flags}) \"{date}\" {{{}", octets.len());
        if self.has("LITERAL+") {
            self.send(&[opening.as_bytes(), b"+}\r\n", octets]);
        } else {
            self.send(&[opening.as_bytes(), b"}"]);
            self.wait_for_go_ahead()?;
            let rest = [octets, b"\r\n"].concat();
            self.commands.write_all(&rest).and_then(|()| self.commands.flush()).expect("flushed");
        }
        let (_, closing) = self.answers_of_command()?;
        Ok(append_uid(&closing))
    }

    fn wait_for_go_ahead(&mut self) -> Result<(), String> {
        loop {
            let answer = self.read_answer();
            if answer.starts_with(b"+") {
                return Ok(());
            }
            if !answer.starts_with(b"* ") {
                return Err(String::from_utf8_lossy(&answer).into_owned());
            }
        }
    }

    /// Makes a folder if it does not exist yet.
    pub fn create(&mut self, folder: &str) {
        let made = self.attempt(&format!("CREATE {}", quoted_name(folder)));
        assert!(made.is_ok() || self.list().contains(folder), "CREATE {folder}: {made:?}");
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        self.run(&format!("RENAME {} {}", quoted_name(from), quoted_name(to)));
    }

    pub fn delete_folder(&mut self, folder: &str) {
        self.run(&format!("DELETE {}", quoted_name(folder)));
    }

    /// Sets, adds or takes away flags: `item` is `FLAGS`, `+FLAGS` or `-FLAGS`.
    pub fn store(&mut self, folder: &str, uids: &str, item: &str, flags: &str) {
        self.select(folder);
        self.run(&format!("UID STORE {uids} {item}.SILENT ({flags})"));
        self.unselect();
    }

    pub fn move_messages(&mut self, folder: &str, uids: &str, to: &str) {
        self.select(folder);
        if self.has("MOVE") {
            self.run(&format!("UID MOVE {uids} {}", quoted_name(to)));
            return self.unselect();
        }
        self.run(&format!("UID COPY {uids} {}", quoted_name(to)));
        self.expunge(folder, uids);
    }

    /// Removes these messages and no others.
    pub fn expunge(&mut self, folder: &str, uids: &str) {
        self.select(folder);
        self.run(&format!("UID STORE {uids} +FLAGS.SILENT (\\Deleted)"));
        self.run(&format!("UID EXPUNGE {uids}"));
        self.unselect();
    }

    /// Names of all folders that can be selected, in UTF-8 with the server's delimiter.
    pub fn list(&mut self) -> BTreeSet<String> {
        let lines = self.run("LIST \"\" \"*\"");
        let lists = lines.iter().filter(|line| line.starts_with(b"* LIST "));
        lists.filter_map(|line| listed_name(&line[7..])).collect()
    }

    /// `(UIDVALIDITY, UIDNEXT)` of a folder.
    pub fn uid_status(&mut self, folder: &str) -> (u32, u32) {
        let lines = self.run(&format!("STATUS {} (UIDVALIDITY UIDNEXT)", quoted_name(folder)));
        let line = lines.iter().find(|line| line.starts_with(b"* STATUS")).expect("a STATUS line");
        let counts = parse_all(&line[9..]).pop().expect("STATUS items");
        (number(counts.item("UIDVALIDITY")), number(counts.item("UIDNEXT")))
    }

    /// All messages of a folder by UID. Changes nothing there: EXAMINE and BODY.PEEK.
    pub fn fetch_all(&mut self, folder: &str) -> Vec<Fetched> {
        self.run(&format!("EXAMINE {}", quoted_name(folder)));
        let lines = self.run("UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])");
        self.unselect();
        let mut messages: Vec<Fetched> = lines.iter().filter_map(|line| fetched(line)).collect();
        messages.sort_by_key(|message| message.uid);
        messages
    }

    pub fn count(&mut self, folder: &str) -> u32 {
        let lines = self.run(&format!("STATUS {} (MESSAGES)", quoted_name(folder)));
        let line = lines.iter().find(|line| line.starts_with(b"* STATUS")).expect("a STATUS line");
        number(parse_all(&line[9..]).pop().expect("STATUS items").item("MESSAGES"))
    }

    /// Where there is no UNSELECT the folder stays selected: CLOSE would remove the owner's mail.
    fn unselect(&mut self) {
        if self.has("UNSELECT") {
            self.run("UNSELECT");
        }
    }

    fn select(&mut self, folder: &str) {
        self.run(&format!("SELECT {}", quoted_name(folder)));
    }

    fn send(&mut self, pieces: &[&[u8]]) {
        self.tag += 1;
        write!(self.commands, "t{} ", self.tag).expect("the server reads");
        for piece in pieces {
            self.commands.write_all(piece).expect("the server reads");
        }
        self.commands.write_all(b"\r\n").and_then(|()| self.commands.flush()).expect("flushed");
    }

    fn answers_of_command(&mut self) -> Result<(Vec<Vec<u8>>, String), String> {
        let tagged = format!("t{} ", self.tag);
        let mut untagged = Vec::new();
        loop {
            let answer = self.read_answer();
            let Some(closing) = answer.strip_prefix(tagged.as_bytes()) else {
                untagged.push(answer);
                continue;
            };
            let closing = String::from_utf8_lossy(closing).into_owned();
            return if closing.starts_with("OK") { Ok((untagged, closing)) } else { Err(closing) };
        }
    }

    /// One answer: a line, with its literals and the lines that follow them.
    fn read_answer(&mut self) -> Vec<u8> {
        let mut answer = Vec::new();
        loop {
            let got = self.answers.read_until(b'\n', &mut answer).expect("the server answers");
            assert!(got > 0, "the server hung up after {}", String::from_utf8_lossy(&answer));
            let Some(length) = announced_literal(&answer) else { break };
            let start = answer.len();
            answer.resize(start + length, 0);
            self.answers.read_exact(&mut answer[start..]).expect("a whole literal");
        }
        answer.truncate(answer.len() - b"\r\n".len());
        answer
    }
}

impl Drop for Imap {
    fn drop(&mut self) {
        let _ = self.commands.write_all(b"bye LOGOUT\r\n");
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A folder name as a quoted string in modified UTF-7 (RFC 3501, 5.1.3).
pub fn quoted_name(name: &str) -> String {
    let escaped = modified_utf7(name).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

pub fn modified_utf7(name: &str) -> String {
    let mut encoded = String::new();
    let mut shifted: Vec<u16> = Vec::new();
    for letter in name.chars() {
        if (' '..='~').contains(&letter) {
            unshift(&mut encoded, &mut shifted);
            encoded.push(letter);
            encoded.push_str(if letter == '&' { "-" } else { "" });
        } else {
            shifted.extend(letter.encode_utf16(&mut [0; 2]).iter());
        }
    }
    unshift(&mut encoded, &mut shifted);
    encoded
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

fn unshift(encoded: &mut String, shifted: &mut Vec<u16>) {
    if shifted.is_empty() {
        return;
    }
    encoded.push('&');
    let mut bits: String = shifted.drain(..).map(|unit| format!("{unit:016b}")).collect();
    bits.push_str(&"0".repeat((6 - bits.len() % 6) % 6));
    for at in (0..bits.len()).step_by(6) {
        let digit = usize::from_str_radix(&bits[at..at + 6], 2).expect("six bits");
        encoded.push(BASE64[digit] as char);
    }
    encoded.push('-');
}

pub fn from_modified_utf7(encoded: &str) -> String {
    let mut pieces = encoded.split('&');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (shifted, plain) = piece.split_once('-').unwrap_or((piece, ""));
        name.push_str(if shifted.is_empty() { "&" } else { "" });
        name.push_str(&from_base64_utf16(shifted));
        name.push_str(plain);
    }
    name
}

fn from_base64_utf16(shifted: &str) -> String {
    let digit = |octet| BASE64.iter().position(|known| *known == octet).expect("a base64 digit");
    let bits: String = shifted.bytes().map(|octet| format!("{:06b}", digit(octet))).collect();
    let units: Vec<u16> = (0..bits.len() / 16)
        .map(|n| u16::from_str_radix(&bits[n * 16..n * 16 + 16], 2).expect("sixteen bits"))
        .collect();
    String::from_utf16_lossy(&units)
}

/// Length of the literal that a line announces at its end (`{42}`).
fn announced_literal(answer: &[u8]) -> Option<usize> {
    let line = answer.strip_suffix(b"}\r\n")?;
    let brace = line.iter().rposition(|octet| *octet == b'{')?;
    std::str::from_utf8(&line[brace + 1..]).ok()?.parse().ok()
}

/// What an answer is made of.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Atom(String),
    Text(Vec<u8>),
    List(Vec<Part>),
}

impl Part {
    /// The value that follows a name in a list of names and values.
    fn item(&self, name: &str) -> &Part {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    fn find(&self, name: &str) -> Option<&Part> {
        let Part::List(parts) = self else { panic!("{self:?} is no list") };
        let place = parts.iter().position(|part| *part == Part::Atom(name.to_owned()))?;
        parts.get(place + 1)
    }

    fn text(&self) -> String {
        match self {
            Part::Atom(text) => text.clone(),
            Part::Text(octets) => String::from_utf8_lossy(octets).into_owned(),
            Part::List(_) => panic!("{self:?} is a list"),
        }
    }
}

fn number(part: &Part) -> u32 {
    part.text().parse().expect("a number")
}

fn parse_all(mut rest: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    while let Some((part, after)) = parse(rest) {
        parts.push(part);
        rest = after;
    }
    parts
}

/// The next part, and what follows it; `None` at the end of the line or of a list.
fn parse(rest: &[u8]) -> Option<(Part, &[u8])> {
    let rest = rest.trim_ascii_start();
    match rest.first()? {
        b')' => None,
        b'(' => Some(parse_list(&rest[1..])),
        b'"' => Some(parse_quoted(&rest[1..])),
        b'{' => Some(parse_literal(&rest[1..])),
        _ => Some(parse_atom(rest)),
    }
}

fn parse_list(mut rest: &[u8]) -> (Part, &[u8]) {
    let mut parts = Vec::new();
    while let Some((part, after)) = parse(rest) {
        parts.push(part);
        rest = after;
    }
    let rest = rest.trim_ascii_start().strip_prefix(b")").expect("the end of a list");
    (Part::List(parts), rest)
}

fn parse_quoted(rest: &[u8]) -> (Part, &[u8]) {
    let mut text = Vec::new();
    let mut octets = rest.iter().enumerate();
    while let Some((place, octet)) = octets.next() {
        match octet {
            b'"' => return (Part::Text(text), &rest[place + 1..]),
            b'\\' => text.extend(octets.next().map(|(_, escaped)| *escaped)),
            _ => text.push(*octet),
        }
    }
    panic!("a quoted string without an end")
}

fn parse_literal(rest: &[u8]) -> (Part, &[u8]) {
    let end = rest.iter().position(|octet| *octet == b'}').expect("the end of a length");
    let length: usize = std::str::from_utf8(&rest[..end]).expect("ASCII").parse().expect("digits");
    let (octets, rest) = rest[end + b"}\r\n".len()..].split_at(length);
    (Part::Text(octets.to_vec()), rest)
}

fn parse_atom(rest: &[u8]) -> (Part, &[u8]) {
    let ends = |octet: &u8| matches!(octet, b' ' | b'(' | b')');
    let end = rest.iter().position(ends).unwrap_or(rest.len());
    (Part::Atom(String::from_utf8_lossy(&rest[..end]).into_owned()), &rest[end..])
}

fn listed_name(rest: &[u8]) -> Option<String> {
    let parts = parse_all(rest);
    let Part::List(attributes) = &parts[0] else { panic!("LIST without attributes") };
    let unselectable = ["\\Noselect", "\\NonExistent"];
    let selectable = !attributes.iter().any(|part| unselectable.contains(&part.text().as_str()));
    selectable.then(|| from_modified_utf7(&parts[2].text()))
}

fn fetched(line: &[u8]) -> Option<Fetched> {
    let parts = parse_all(line.strip_prefix(b"* ")?);
    let [_, Part::Atom(name), items] = &parts[..] else { return None };
    if name != "FETCH" {
        return None;
    }
    // A line without a body tells of flags that changed meanwhile; the listing has its own.
    let Some(Part::Text(octets)) = items.find("BODY[]") else { return None };
    let Part::List(flags) = items.item("FLAGS") else { panic!("FLAGS is no list") };
    Some(Fetched {
        uid: number(items.item("UID")),
        flags: flags.iter().map(Part::text).collect(),
        instant: instant(&items.item("INTERNALDATE").text()),
        octets: octets.clone(),
    })
}

fn append_uid(closing: &str) -> u32 {
    let code = closing.split_once("[APPENDUID ").expect("APPENDUID").1;
    let uid = code.split([' ', ']']).nth(1).expect("a UID");
    uid.parse().expect("a number")
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The instant of an INTERNALDATE such as ` 4-Feb-2026 08:00:00 +0100`.
pub fn instant(date: &str) -> i64 {
    let words: Vec<&str> = date.split([' ', '-', ':']).filter(|word| !word.is_empty()).collect();
    let number = |n: usize| -> i64 { words[n].trim_start_matches('+').parse().expect("digits") };
    let month = MONTHS.iter().position(|month| *month == words[1]).expect("a month") as i64 + 1;
    let seconds = number(3) * 3600 + number(4) * 60 + number(5);
    days_since_1970(number(2), month, number(0)) * 86_400 + seconds - zone_seconds(date)
}

fn zone_seconds(date: &str) -> i64 {
    let zone = date.rsplit(' ').next().expect("a zone");
    let minutes: i64 = zone[1..].parse::<i64>().map(|n| n / 100 * 60 + n % 100).expect("digits");
    if zone.starts_with('-') { -minutes * 60 } else { minutes * 60 }
}

/// Days from 1970-01-01 in the Gregorian calendar, years counted from March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era_day = (month + 9) % 12 * 153 + 2;
    year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + era_day / 5
        + day
        - 1
        - 719_468
}
