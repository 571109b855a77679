//! One response → what it says.
//!
//! Status lines are read here, so that no code and no text is lost; so are sets of UIDs, which
//! the decoders take long for. Other data goes to [`super::decoders`]. Unknown data is
//! [`Data::Unknown`], never an error.

use super::scan::{self, Cursor};
use super::{Code, Quota, decoders};
use crate::words::{Flags, InternalDate, ModSeq, Uid, UidValidity};

/// How much of a server's free text is kept.
pub(super) const TEXT_MAX: usize = 512;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Response {
    Tagged { tag: String, condition: Condition },
    Untagged(Condition),
    Continue,
    Data(Data),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Ok,
    No,
    Bad,
    PreAuth,
    Bye,
}

/// OK, NO, BAD, PREAUTH or BYE with its code and text (RFC 9051, 7.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Condition {
    pub kind: Kind,
    pub code: Option<Code>,
    pub text: String,
}

impl Condition {
    /// What follows the code's name, if it is that code.
    pub fn code(&self, name: &str) -> Option<&str> {
        let code = self.code.as_ref().filter(|code| code.name == name)?;
        Some(&code.rest)
    }

    /// Code and text as the server wrote them, bounded.
    pub fn words(&self) -> String {
        let words = match &self.code {
            Some(Code { name, rest }) if rest.is_empty() => format!("[{name}] {}", self.text),
            Some(Code { name, rest }) => format!("[{name} {rest}] {}", self.text),
            None => return self.text.clone(),
        };
        readable(words.as_bytes())
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Data {
    Exists(u32),
    Expunge,
    /// Boundaries of ranges, each ascending.
    Vanished(Vec<(u32, u32)>),
    /// VANISHED (EARLIER), asked for: what vanished since some MODSEQ, or never was.
    VanishedEarlier(Vec<(u32, u32)>),
    /// What was enabled, in upper case.
    Enabled(Vec<String>),
    Fetch(Attributes),
    List(ListData),
    Status(StatusData),
    Capability(Vec<String>),
    Namespace(NamespaceData),
    /// The server's name for itself.
    Id(Option<String>),
    /// STORAGE of a quota root, if it limits that.
    Quota(Option<Quota>),
    Unknown,
}

/// What a FETCH response says; `None` for what it does not or what cannot be read.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Attributes {
    pub uid: Option<Uid>,
    pub flags: Option<Flags>,
    pub instant: Option<InternalDate>,
    pub size: Option<u64>,
    pub body: Option<Body>,
    /// INTERNALDATE or RFC822.SIZE stands there, be it readable or not: this is an answer to a
    /// question of ours and no change of flags told unasked.
    pub tells_metadata: bool,
}

impl Attributes {
    /// Does it tell all that a listing asks for?
    pub fn is_whole(&self) -> bool {
        self.flags.is_some() && self.instant.is_some() && self.size.is_some()
    }

    /// Takes from `other` what is missing here.
    pub fn complete_from(&mut self, other: Attributes) {
        self.uid = self.uid.or(other.uid);
        self.instant = self.instant.or(other.instant);
        self.size = self.size.or(other.size);
        self.flags = self.flags.take().or(other.flags);
        self.body = self.body.take().or(other.body);
        self.tells_metadata |= other.tells_metadata;
    }

    /// What two readers of one response make of it together. Where they contradict each other it
    /// is too broken for either to be believed.
    pub fn and(self, other: Attributes) -> Attributes {
        Attributes {
            uid: undisputed(self.uid, other.uid),
            flags: undisputed(self.flags, other.flags),
            instant: undisputed(self.instant, other.instant),
            size: undisputed(self.size, other.size),
            body: undisputed(self.body, other.body),
            tells_metadata: self.tells_metadata || other.tells_metadata,
        }
    }
}

fn undisputed<T: PartialEq>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => (one == other).then_some(one),
        (one, other) => one.or(other),
    }
}

/// A body that came inside the response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Body {
    Nil,
    Octets(Vec<u8>),
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct ListData {
    pub name: Vec<u8>,
    pub delimiter: Option<char>,
    pub attributes: Vec<String>,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct StatusData {
    pub name: Vec<u8>,
    pub messages: Option<u32>,
    pub uid_next: Option<u32>,
    pub uid_validity: Option<u32>,
    pub highest_modseq: Option<ModSeq>,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct NamespaceData {
    pub personal: Vec<(Vec<u8>, Option<char>)>,
    /// Other users' and shared ones.
    pub others: Vec<(Vec<u8>, Option<char>)>,
}

/// Reads one response, which ends in CRLF.
pub(super) fn response(octets: &[u8]) -> Response {
    if octets.starts_with(b"+") {
        return Response::Continue;
    }
    let Some(rest) = octets.strip_prefix(b"*") else { return tagged(octets) };
    match condition(rest.trim_ascii()) {
        Some(condition) => Response::Untagged(condition),
        None => Response::Data(data(octets)),
    }
}

fn tagged(octets: &[u8]) -> Response {
    let line = octets.trim_ascii();
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    match condition(line[end..].trim_ascii()) {
        Some(condition) => Response::Tagged { tag: readable(&line[..end]), condition },
        None => Response::Data(Data::Unknown),
    }
}

/// `OK [CODE rest] text`.
fn condition(line: &[u8]) -> Option<Condition> {
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    let kind = match line[..end].to_ascii_uppercase().as_slice() {
        b"OK" => Kind::Ok,
        b"NO" => Kind::No,
        b"BAD" => Kind::Bad,
        b"PREAUTH" => Kind::PreAuth,
        b"BYE" => Kind::Bye,
        _ => return None,
    };
    let rest = line[end..].trim_ascii_start();
    let (code, text) = match rest.strip_prefix(b"[").and_then(split_code) {
        Some((inside, text)) => (code(inside), text),
        None => (None, rest),
    };
    Some(Condition { kind, code, text: readable(text.trim_ascii()) })
}

/// Ends the code at the `]` that is in no parenthesis: keywords may hold one.
fn split_code(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut depth = 0usize;
    for (at, octet) in octets.iter().enumerate() {
        match octet {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b']' if depth == 0 => return Some((&octets[..at], &octets[at + 1..])),
            _ => {}
        }
    }
    let at = memchr::memchr(b']', octets)?;
    Some((&octets[..at], &octets[at + 1..]))
}

fn code(inside: &[u8]) -> Option<Code> {
    let inside = String::from_utf8_lossy(inside.trim_ascii());
    let (name, rest) = inside.split_once(' ').unwrap_or((&inside, ""));
    (!name.is_empty())
        .then(|| Code { name: name.to_ascii_uppercase(), rest: rest.trim().to_owned() })
}

/// A server's free text, bounded.
pub(super) fn readable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(TEXT_MAX)]);
    let ends = text.char_indices().map(|(at, character)| at + character.len_utf8());
    let end = ends.take_while(|end| *end <= TEXT_MAX).last().unwrap_or(0);
    text[..end].to_owned()
}

fn data(octets: &[u8]) -> Data {
    let mut cursor = Cursor::new(&octets[1..]);
    let first = cursor.atom();
    if let Some(number) = scan::number(first) {
        return message_data(octets, number, cursor.atom());
    }
    match first.to_ascii_uppercase().as_slice() {
        b"LIST" => decoders::list(octets).map_or(Data::Unknown, Data::List),
        b"STATUS" => decoders::status(octets).map_or(Data::Unknown, Data::Status),
        b"NAMESPACE" => decoders::namespace(octets).map_or(Data::Unknown, Data::Namespace),
        b"VANISHED" => vanished(cursor).unwrap_or(Data::Unknown),
        b"ENABLED" => Data::Enabled(capabilities(&String::from_utf8_lossy(cursor.rest()))),
        b"CAPABILITY" => Data::Capability(capabilities(&String::from_utf8_lossy(cursor.rest()))),
        b"ID" => Data::Id(decoders::id(octets)),
        b"QUOTA" => Data::Quota(decoders::quota(octets)),
        _ => Data::Unknown,
    }
}

fn message_data(octets: &[u8], number: u64, word: &[u8]) -> Data {
    match word.to_ascii_uppercase().as_slice() {
        b"EXISTS" => u32::try_from(number).map_or(Data::Unknown, Data::Exists),
        b"EXPUNGE" => Data::Expunge,
        b"FETCH" => Data::Fetch(decoders::fetch(octets)),
        _ => Data::Unknown,
    }
}

/// The atoms of a capability list, in upper case. `LITERAL +` with a space is what one server
/// writes for `LITERAL+`.
pub(super) fn capabilities(list: &str) -> Vec<String> {
    let list = list.to_ascii_uppercase().replace("LITERAL +", "LITERAL+");
    list.split_ascii_whitespace().take(256).map(|atom| readable(atom.as_bytes())).collect()
}

/// `VANISHED [(EARLIER)] set` (RFC 7162, section 3.2.10).
fn vanished(cursor: Cursor<'_>) -> Option<Data> {
    let rest = std::str::from_utf8(cursor.rest()).ok()?.trim();
    match rest.split_once(')') {
        Some((earlier, set)) if earlier.eq_ignore_ascii_case("(EARLIER") => {
            ranges(set.trim_start()).map(Data::VanishedEarlier)
        }
        _ => ranges(rest).map(Data::Vanished),
    }
}

/// A set of UIDs in the order written, each range ascending; `None` where it is no such set.
pub(super) fn ranges(set: &str) -> Option<Vec<(u32, u32)>> {
    let range = |text: &str| {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        let first = Uid::new(first.parse().ok()?)?.get();
        let last = Uid::new(last.parse().ok()?)?.get();
        Some((first.min(last), first.max(last)))
    };
    set.split(',').map(range).collect()
}

/// The UIDs of a set in the order written, if they are exactly `count` different ones.
pub(super) fn uids(set: &str, count: usize) -> Option<Vec<Uid>> {
    let ranges = ranges(set)?;
    let total: u64 = ranges.iter().map(|(first, last)| u64::from(last - first) + 1).sum();
    if total != count as u64 {
        return None;
    }
    let uids: Vec<Uid> =
        ranges.into_iter().flat_map(|(first, last)| first..=last).filter_map(Uid::new).collect();
    let distinct: std::collections::HashSet<&Uid> = uids.iter().collect();
    (distinct.len() == count).then_some(uids)
}

/// `UIDVALIDITY set` of APPENDUID, for that many messages; `None` where it is malformed.
pub(super) fn append_uid(rest: &str, count: usize) -> Option<(UidValidity, Vec<Uid>)> {
    let (validity, set) = rest.split_once(' ')?;
    Some((UidValidity(validity.parse().ok()?), uids(set.trim(), count)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_code_and_text() {
        for (line, kind, code, text) in [
            ("* OK\r\n", Kind::Ok, None, ""),
            ("* ok [ALERT]é\r\n", Kind::Ok, Some(("ALERT", "")), "é"),
            ("* NO [overquota] full\r\n", Kind::No, Some(("OVERQUOTA", "")), "full"),
            (
                "* OK [PERMANENTFLAGS (\\* a]b)] x\r\n",
                Kind::Ok,
                Some(("PERMANENTFLAGS", "(\\* a]b)")),
                "x",
            ),
            ("* OK [BROKEN (] x\r\n", Kind::Ok, Some(("BROKEN", "(")), "x"),
            ("* BYE [UNFINISHED x\r\n", Kind::Bye, None, "[UNFINISHED x"),
        ] {
            let Response::Untagged(found) = response(line.as_bytes()) else { panic!("{line}") };
            let found_code = found.code.as_ref().map(|code| (&*code.name, &*code.rest));
            assert_eq!((found.kind, found_code, &*found.text), (kind, code, text), "{line}");
        }
        let long = format!("a NO {}\r\n", "é".repeat(1000));
        let Response::Tagged { tag, condition } = response(long.as_bytes()) else { panic!() };
        assert_eq!((&*tag, condition.text.len()), ("a", TEXT_MAX));
    }

    #[test]
    fn other_data() {
        for (line, expected) in [
            ("* 5 EXISTS \r\n", Data::Exists(5)),
            ("* 5000000000 EXISTS\r\n", Data::Unknown),
            ("* 5 EXPUNGE\r\n", Data::Expunge),
            ("* VANISHED 1:3,9,7:6\r\n", Data::Vanished(vec![(1, 3), (9, 9), (6, 7)])),
            ("* VANISHED (EARLIER) 1:3\r\n", Data::VanishedEarlier(vec![(1, 3)])),
            ("* vanished (earlier) 3 \r\n", Data::VanishedEarlier(vec![(3, 3)])),
            ("* VANISHED (LATER) 1:3\r\n", Data::Unknown),
            ("* VANISHED\r\n", Data::Unknown),
            (
                "* ENABLED CONDSTORE QResync\r\n",
                Data::Enabled(vec!["CONDSTORE".into(), "QRESYNC".into()]),
            ),
            ("* ID (\"name\" \"Dovecot\")\r\n", Data::Id(Some("Dovecot".into()))),
            ("* ID NIL\r\n", Data::Id(None)),
            (
                "* QUOTA \"\" (MESSAGE 1 2 STORAGE 3 10)\r\n",
                Data::Quota(Some(Quota { used_octets: 3072, limit_octets: 10_240 })),
            ),
            ("* QUOTA x ()\r\n", Data::Quota(None)),
            ("* ESEARCH (TAG \"a\") UID ALL 1:9\r\n", Data::Unknown),
            (
                "* CAPABILITY imap4rev1 literal + \r\n",
                Data::Capability(vec!["IMAP4REV1".into(), "LITERAL+".into()]),
            ),
            ("*\r\n", Data::Unknown),
            ("* \r\n", Data::Unknown),
            ("\r\n", Data::Unknown),
            ("rubbish\r\n", Data::Unknown),
        ] {
            assert_eq!(response(line.as_bytes()), Response::Data(expected), "{line:?}");
        }
    }

    #[test]
    fn sets_of_uids() {
        for (rest, count, expected) in [
            ("38505 3955", 1, Some(vec![3955])),
            ("38505 304,319:320", 3, Some(vec![304, 319, 320])),
            ("38505 3955", 2, None),
            ("38505 3955,3955", 2, None),
            ("38505 1:4294967295", 3, None),
            ("38505 0", 1, None),
            ("38505", 1, None),
            ("x 1", 1, None),
            ("1 1:*", 1, None),
        ] {
            let found = append_uid(rest, count).map(|(_, uids)| uids);
            let expected: Option<Vec<_>> =
                expected.map(|uids| uids.into_iter().filter_map(Uid::new).collect());
            assert_eq!(found, expected, "{rest}");
        }
    }

    /// What real servers say, to be mutated.
    const SAID: &str = concat!(
        "* OK [CAPABILITY IMAP4rev1 LITERAL+] hi {5}\r\n",
        "* 1 FETCH (UID 7 FLAGS (\\Seen a]) INTERNALDATE \" 1-Jan-1970 00:00:07 +0000\" RFC822.SIZE 3 BODY[] {3}\r\nabc)\r\n",
        "* 1 FETCH (BODY[HEADER.FIELDS (A)]<0> \"x\\\"\" ENVELOPE (NIL NIL NIL NIL) BODYSTRUCTURE ((\"a\" \"b\") \"c\") MODSEQ (9))\r\n",
        "* LIST (\\HasNoChildren \\Sent) \"/\" {4}\r\na\"\r\n\r\n* LIST () NIL \"a\\\\b\" (\"CHILDINFO\" (\"X\"))\r\n",
        "* STATUS INBOX (MESSAGES 3 UIDNEXT 4 UIDVALIDITY 5 HIGHESTMODSEQ 6)\r\n",
        "* NAMESPACE ((\"INBOX.\" \".\")) NIL ((\"#x/\" \"/\" \"E\" (\"f\")))\r\n",
        "* ID (\"name\" \"x\" \"y\" NIL)\r\n* VANISHED 1:3,9\r\n* 9 EXISTS\r\n* 2 EXPUNGE\r\n* FLAGS (\\Seen)\r\n",
        "+ go\r\na1 OK [APPENDUID 3 4:9,12] done\r\na2 NO [COPYUID 1 2:3 4:5] x\r\n* BYE\r\n",
    );

    #[test]
    fn no_octets_can_make_it_panic() {
        use crate::imap::wire::Framer;
        use proptest::prelude::*;
        let change = (0..SAID.len(), 0..6usize, any::<u8>(), 0..SAID.len());
        let changes = proptest::collection::vec(change, 0..12);
        proptest!(|(changes in changes, step in 1..200usize, stream in any::<bool>())| {
            let mut octets = SAID.as_bytes().to_vec();
            for (at, kind, octet, other) in changes {
                let at = at.min(octets.len() - 1);
                match kind {
                    0 => octets[at] = octet,
                    1 => octets.insert(at, b"(){}[]\"\\ \r\n*"[usize::from(octet) % 12]),
                    2 => { octets.remove(at); }
                    3 => octets.truncate(octets.len() - (octets.len() - at) / 2),
                    4 => octets.splice(at..at, SAID.as_bytes()[other..].iter().take(40).copied()).for_each(drop),
                    _ => octets.splice(at..at, b"99999999999".iter().copied()).for_each(drop),
                }
            }
            let mut framer = Framer::new();
            framer.stream_bodies(stream);
            for mut slice in octets.chunks(step) {
                while !slice.is_empty() {
                    slice = &slice[framer.take_body(slice.len())..];
                    let Ok((taken, frame)) = framer.feed(slice) else { return Ok(()) };
                    slice = &slice[taken..];
                    if frame.is_some() {
                        response(framer.held());
                        response(&[framer.held(), b")\r\n"].concat());
                    }
                }
            }
        });
    }
}
