//! Mail to plant: PEC-like messages, and the odd ones that copiers lose. The same seed makes the
//! same octets.

use std::fmt::Write as _;

/// A message and how it lies in its folder.
#[derive(Clone, Debug)]
pub struct Mail {
    /// What is odd about it, for a reader of a failure.
    pub what: String,
    pub octets: Vec<u8>,
    /// As APPEND takes them: `\Seen $Label1`.
    pub flags: String,
    /// As APPEND takes it.
    pub date: String,
}

impl Mail {
    pub fn new(what: &str, octets: impl Into<Vec<u8>>) -> Mail {
        let (flags, date) = (String::new(), "04-Feb-2025 07:59:59 +0100".to_owned());
        Mail { what: what.to_owned(), octets: octets.into(), flags, date }
    }
}

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Random {
        Random(seed)
    }

    /// A seed that differs from run to run; print it where it matters.
    pub fn fresh_seed() -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("after 1970").as_nanos() as u64
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

const FLAGS: [&str; 8] = [
    "",
    "\\Seen",
    "\\Seen \\Answered",
    "\\Flagged",
    "\\Seen $Forwarded",
    "\\Seen \\Flagged $Label1 daProtocollare",
    "\\Draft",
    "\\Deleted \\Seen",
];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const ZONES: [&str; 4] = ["+0100", "+0200", "+0000", "-0330"];
const RECEIPTS: [&str; 4] =
    ["accettazione", "avvenuta-consegna", "presa-in-carico", "errore-consegna"];

/// `count` messages as a PEC account holds them: mostly receipts, some envelopes of any size up
/// to some 60 KB, with dates, flags and keywords of all kinds.
pub fn pec(seed: u64, count: usize) -> Vec<Mail> {
    let mut random = Random::seeded(seed);
    (0..count).map(|number| pec_message(&mut random, number)).collect()
}

fn pec_message(random: &mut Random, number: usize) -> Mail {
    let receipt = random.below(3) > 0;
    let size = if receipt { 600 + random.below(3000) } else { 3000 + random.below(60_000) };
    let octets = envelope(random, number, receipt, size as usize);
    let what = if receipt { "receipt" } else { "envelope" };
    let flags = (*random.pick(&FLAGS)).to_owned();
    Mail { what: format!("{what} {number}"), octets, flags, date: date(random) }
}

fn date(random: &mut Random) -> String {
    let (day, month) = (1 + random.below(28), *random.pick(&MONTHS));
    let (hour, minute, second) = (random.below(24), random.below(60), random.below(60));
    let (year, zone) = (2014 + random.below(11), *random.pick(&ZONES));
    format!("{day:02}-{month}-{year} {hour:02}:{minute:02}:{second:02} {zone}")
}

/// Shaped like a PEC message; its signature is only shaped like one, too.
fn envelope(random: &mut Random, number: usize, receipt: bool, size: usize) -> Vec<u8> {
    let kind = if receipt {
        format!("X-Ricevuta: {}\r\nX-TipoRicevuta: completa\r\n", random.pick(&RECEIPTS))
    } else {
        "X-Trasporto: posta-certificata\r\n".to_owned()
    };
    let mut text = format!(
        "Return-Path: <posta-certificata@pec.prova.example>\r\nMessage-ID: <opec.{number}@pec.prova.example>\r\n\
         {kind}X-Riferimento-Message-ID: <{:016x}@cliente.example>\r\nSubject: POSTA CERTIFICATA: pratica {number}\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=\"firma\"\r\n\r\n\
         --firma\r\nContent-Type: multipart/mixed; boundary=\"busta\"\r\n\r\n\
         --busta\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nMessaggio di posta certificata\r\n\
         --busta\r\nContent-Type: application/xml; name=\"daticert.xml\"\r\n\r\n<postacert tipo=\"x\"/>\r\n\
         --busta\r\nContent-Type: message/rfc822; name=\"postacert.eml\"\r\n\r\n",
        random.next()
    );
    filler(&mut text, random, size);
    text.push_str("--busta--\r\n\r\n--firma\r\nContent-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\n\r\n");
    filler(&mut text, random, 400);
    text.push_str("--firma--\r\n");
    text.into_bytes()
}

fn filler(text: &mut String, random: &mut Random, size: usize) {
    let end = text.len() + size;
    while text.len() < end {
        for _ in 0..4 {
            write!(text, "{:016x}", random.next()).expect("a string");
        }
        text.push_str("\r\n");
    }
}

/// Every oddity that Dovecot keeps as it is: what comes out is what went in.
pub fn odd() -> Vec<Mail> {
    let mut mails = odd_octets();
    mails.extend(odd_dates());
    mails.extend(odd_flags());
    mails
}

fn odd_octets() -> Vec<Mail> {
    let header = b"From: a@b.example\r\nSubject: uno\r\nMessage-ID: <stesso@b.example>\r\n\r\n";
    let with_body = |body: &[u8]| [&header[..], body].concat();
    let long_line = "x".repeat(70_000);
    vec![
        Mail::new("8-bit header, Latin-1", b"Subject: Perch\xe9 cos\xec\r\n\r\nciao\r\n".to_vec()),
        Mail::new("8-bit header, UTF-8", "Subject: Perché 📬\r\n\r\nciao\r\n"),
        Mail::new("body of all octets but NUL, CR", with_body(&all_octets())),
        Mail::new("line of 70 KB", with_body(format!("{long_line}\r\n").as_bytes())),
        Mail::new("header line of 70 KB", format!("X-Long: {long_line}\r\n\r\nciao\r\n")),
        Mail::new("no newline at the end", with_body(b"ultima riga")),
        Mail::new("no end of the header", b"Subject: senza fine\r\n".to_vec()),
        Mail::new("header cut in mid-line", b"Subject: mozz".to_vec()),
        Mail::new("no header at all", b"\r\nsolo corpo\r\n".to_vec()),
        Mail::new("not a header", b"questo non e' un header\r\n\r\nciao\r\n".to_vec()),
        Mail::new("identical, first", with_body(b"copia identica\r\n")),
        Mail::new("identical, second", with_body(b"copia identica\r\n")),
        Mail::new("identical, third", with_body(b"copia identica\r\n")),
        Mail::new("same header, other body", with_body(b"altro corpo\r\n")),
        Mail::new("same header, body of the same length", with_body(b"altro corpO\r\n")),
        Mail::new("empty body", with_body(b"")),
        Mail::new("body of one octet", with_body(b"x")),
        Mail::new("message of one octet", b"x".to_vec()),
        Mail::new("only a newline", b"\r\n".to_vec()),
        Mail::new("body of newlines", with_body(&b"\r\n".repeat(300))),
        Mail::new(
            "body of IMAP commands",
            with_body(b"zz CREATE PWNED\r\nzy DELETE INBOX\r\n)\r\nzx LOGOUT\r\n"),
        ),
        Mail::new("message of IMAP commands", b"zz CREATE PWNED\r\n".to_vec()),
        Mail::new("looks like a literal", with_body(b"* 1 FETCH (BODY[] {9999}\r\n{3+}\r\n")),
        Mail::new("dots and From", with_body(b".\r\n..\r\nFrom qui\r\n>From la\r\n.\r\n")),
        Mail::new("trailing blanks", with_body(b"a \t \r\n  \r\n\t\r\n")),
        Mail::new("Unicode line ends", with_body("a\u{2028}b\u{85}c\u{feff}\r\n".as_bytes())),
    ]
}

fn all_octets() -> Vec<u8> {
    (1..=255).filter(|octet| !b"\r\n".contains(octet)).chain(*b"\r\n").collect()
}

// None lies ahead: Dovecot takes such a date for now.
fn odd_dates() -> Vec<Mail> {
    let dates = [
        "01-Jan-1990 00:00:00 +1400",
        " 1-Mar-2020 12:00:00 -0330",
        "29-Feb-2024 23:59:59 +0000",
        "30-Mar-2025 02:30:00 +0100",
        "26-Oct-2025 02:30:00 +0200",
        "26-Oct-2025 02:30:00 +0100",
        "02-Jan-1970 00:00:00 +0000",
    ];
    let dated = |date: &str| {
        let octets = format!("Subject: data {date}\r\n\r\nciao\r\n");
        Mail { date: date.to_owned(), ..Mail::new("odd date", octets) }
    };
    dates.into_iter().map(dated).collect()
}

fn odd_flags() -> Vec<Mail> {
    let flags = [
        "\\Seen \\Answered \\Flagged \\Deleted \\Draft",
        "$Forwarded $MDNSent NonJunk",
        "daProtocollare protocollato_2026 a.b-c+d",
        "\\Seen $label1 $Label2",
    ];
    let flagged = |flags: &str| {
        let octets = format!("Subject: segni {flags}\r\n\r\nciao\r\n");
        Mail { flags: flags.to_owned(), ..Mail::new("odd flags", octets) }
    };
    flags.into_iter().map(flagged).collect()
}

/// What Dovecot alters already when it is planted; the copy has to equal what FETCH then shows.
pub fn altered_by_dovecot() -> Vec<Mail> {
    vec![
        Mail::new("NUL in the body", b"Subject: nul\r\n\r\na\0b\r\n".to_vec()),
        Mail::new("NUL in the header", b"Subject: n\0l\r\n\r\nab\r\n".to_vec()),
        Mail::new("bare CR", b"Subject: cr\r\n\r\na\rb\r\n".to_vec()),
        Mail::new("bare LF", b"Subject: lf\n\na\nb\n".to_vec()),
        Mail::new("CR CR LF", b"Subject: crcrlf\r\n\r\na\r\r\nb\r\r\n".to_vec()),
        Mail::new("ends in CR", b"Subject: cr\r\n\r\na\r".to_vec()),
        Mail::new("mixed line ends", b"Subject: misto\n\r\na\r\nb\nc\r\n".to_vec()),
    ]
}

/// What servers do not take from a mail program, but from a delivery agent.
pub fn delivered() -> Vec<Mail> {
    vec![
        Mail::new("delivered: empty", b"".to_vec()),
        Mail::new("delivered: NUL", b"Subject: nul\n\na\0b\n".to_vec()),
        Mail::new("delivered: CR and LF", b"Subject: cr\n\na\rb\nc\r\n".to_vec()),
    ]
}

/// One message of about that size, as a big attachment in base64 makes it.
pub fn big(seed: u64, bytes: usize) -> Mail {
    let mut random = Random::seeded(seed);
    Mail::new(&format!("{bytes} bytes"), envelope(&mut random, 0, false, bytes))
}
