//! Our own tolerant reading of responses, for what the decoders refuse, alter or drop: FETCH in
//! any order and spacing, folder names in any octets, STATUS with unknown items, NAMESPACE.
//!
//! Nothing here can panic or recurse: a [`Cursor`] only moves forward over the octets it has.

use std::borrow::Cow;

use super::dates;
use super::decode::{Attributes, Body, ListData, NamespaceData, StatusData};
use crate::words::{Flags, ModSeq, Uid};

/// Flags of one message that are looked at: [`Flags`] keeps them sorted, which takes time.
pub(super) const FLAGS_MAX: usize = 1000;

#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(octets: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: octets }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Skips blanks; says whether anything follows before the line ends.
    pub fn more(&mut self) -> bool {
        self.rest = self.rest.trim_ascii_start();
        !self.rest.is_empty()
    }

    /// Takes `octet` if it is next, after blanks.
    pub fn accept(&mut self, octet: u8) -> bool {
        self.more();
        let Some(rest) = self.rest.strip_prefix(&[octet]) else { return false };
        self.rest = rest;
        true
    }

    /// A run of octets other than blanks and parentheses; possibly empty.
    pub fn atom(&mut self) -> &'a [u8] {
        self.more();
        self.until(|octet| matches!(octet, b' ' | b'(' | b')' | b'\r' | b'\n' | b'\t'))
    }

    /// An atom in which `[…]` may hold anything, as in `BODY[HEADER.FIELDS (DATE)]<0>`; header
    /// names may hold a `]`. `None` where the line ends inside: in a literal, which nobody asks for.
    pub fn item_name(&mut self) -> Option<&'a [u8]> {
        self.more();
        let (mut inside, mut depth) = (false, 0u32);
        let name = self.until(|octet| {
            match octet {
                b'[' => inside = true,
                b']' => inside &= depth > 0,
                b'(' if inside => depth += 1,
                b')' if inside => depth = depth.saturating_sub(1),
                _ => {}
            }
            matches!(octet, b'\r' | b'\n') || (!inside && matches!(octet, b' ' | b'(' | b')'))
        });
        (!inside).then_some(name)
    }

    /// An atom, quoted string or literal; `None` for NIL and for what is none of them.
    pub fn string(&mut self) -> Option<Cow<'a, [u8]>> {
        self.more();
        match self.rest.first()? {
            b'"' => self.quoted(),
            b'{' => Some(Cow::Borrowed(self.literal().unwrap_or_else(|| self.atom()))),
            b'(' | b')' => None,
            _ => {
                let atom = self.atom();
                (!atom.eq_ignore_ascii_case(b"NIL")).then_some(Cow::Borrowed(atom))
            }
        }
    }

    pub fn number(&mut self) -> Option<u64> {
        number(&self.string()?)
    }

    /// Skips one value, however deep.
    pub fn skip_value(&mut self) {
        let mut depth = 0u32;
        while self.more() {
            if self.accept(b'(') {
                depth += 1;
            } else if self.rest.starts_with(b")") {
                if depth == 0 {
                    return;
                }
                self.rest = &self.rest[1..];
                depth -= 1;
            } else {
                let before = self.rest.len();
                self.string();
                if self.rest.len() == before {
                    self.rest = &self.rest[1..];
                }
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn until(&mut self, mut end: impl FnMut(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().position(|octet| end(*octet)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn quoted(&mut self) -> Option<Cow<'a, [u8]>> {
        let inner = self.rest.strip_prefix(b"\"")?;
        let end = memchr::memchr2(b'"', b'\\', inner)?;
        if inner[end] == b'"' {
            self.rest = &inner[end + 1..];
            return Some(Cow::Borrowed(&inner[..end]));
        }
        let mut unescaped = Vec::new();
        let mut octets = inner.iter().enumerate();
        while let Some((at, octet)) = octets.next() {
            match octet {
                b'"' => {
                    self.rest = &inner[at + 1..];
                    return Some(Cow::Owned(unescaped));
                }
                b'\\' => unescaped.extend(octets.next().map(|(_, escaped)| *escaped)),
                _ => unescaped.push(*octet),
            }
        }
        self.rest = &[];
        None
    }

    fn literal(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'}', &self.rest[..self.rest.len().min(24)])?;
        let length = number(&self.rest[1..end])?;
        let after = &self.rest[end + 1..];
        let after = after.strip_prefix(b"\r\n").unwrap_or(after);
        let (literal, rest) = after.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(literal)
    }
}

/// Digits only, within 64 bits.
pub(super) fn number(octets: &[u8]) -> Option<u64> {
    if octets.is_empty() || !octets.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(octets).ok()?.parse().ok()
}

/// The attributes of `* n FETCH (…)`, as many as can be read, in any order.
pub(super) fn fetch(response: &[u8]) -> Attributes {
    let mut found = Attributes::default();
    let Some(start) = memchr::memchr(b'(', response) else { return found };
    let mut cursor = Cursor::new(&response[start + 1..]);
    while cursor.more() && !cursor.accept(b')') {
        let before = cursor.rest().len();
        let Some(name) = cursor.item_name().map(<[u8]>::to_ascii_uppercase) else { break };
        found.tells_metadata |= matches!(name.as_slice(), b"RFC822.SIZE" | b"INTERNALDATE");
        match name.as_slice() {
            b"UID" => found.uid = cursor.number().and_then(uid),
            b"RFC822.SIZE" => found.size = cursor.number(),
            b"INTERNALDATE" => {
                found.instant = cursor.string().and_then(|text| dates::parse(&text));
            }
            b"FLAGS" => {
                found.flags = flags(&mut cursor.clone());
                cursor.skip_value();
            }
            b"BODY" | b"RFC822.HEADER" | b"RFC822.TEXT" => cursor.skip_value(),
            section if section.starts_with(b"BODY[") || section == b"RFC822" => {
                found.body = Some(match cursor.string() {
                    Some(octets) => Body::Octets(octets.into_owned()),
                    None => Body::Nil,
                });
            }
            _ => cursor.skip_value(),
        }
        if cursor.rest().len() == before {
            break;
        }
    }
    found
}

/// A parenthesised list of flags, blanks anywhere.
pub(super) fn flags(cursor: &mut Cursor<'_>) -> Option<Flags> {
    Some(Flags::of_names(words(cursor)?.iter().take(FLAGS_MAX).map(|word| &**word)))
}

/// A parenthesised list of atoms.
pub(super) fn words<'a>(cursor: &mut Cursor<'a>) -> Option<Vec<Cow<'a, str>>> {
    if !cursor.accept(b'(') {
        return None;
    }
    let mut words = Vec::new();
    while cursor.more() && !cursor.accept(b')') {
        let word = cursor.atom();
        if word.is_empty() {
            return None;
        }
        words.push(String::from_utf8_lossy(word));
    }
    Some(words)
}

/// `* LIST (attributes) delimiter name [extended data]`.
pub(super) fn list(response: &[u8]) -> Option<ListData> {
    let mut cursor = Cursor::new(response.strip_prefix(b"* ")?);
    if !cursor.atom().eq_ignore_ascii_case(b"LIST") {
        return None;
    }
    let attributes = words(&mut cursor)?;
    let delimiter = cursor.string();
    cursor.more();
    let start = cursor.rest();
    let mut name = cursor.string()?;
    if start.starts_with(b"\"") && cursor.more() && !cursor.rest().starts_with(b"(") {
        // Some servers forget to escape quotes: the last one ends the name.
        let last = memchr::memrchr(b'"', start).filter(|last| *last > 0)?;
        name = Cow::Borrowed(&start[1..last]);
    }
    Some(ListData {
        name: name.into_owned(),
        delimiter: delimiter.and_then(|text| text.first().map(|octet| char::from(*octet))),
        attributes: attributes.into_iter().map(Cow::into_owned).collect(),
    })
}

/// `* STATUS name (item value …)`.
pub(super) fn status(response: &[u8]) -> Option<StatusData> {
    let mut cursor = Cursor::new(response.strip_prefix(b"* ")?);
    if !cursor.atom().eq_ignore_ascii_case(b"STATUS") {
        return None;
    }
    let mut found = StatusData { name: cursor.string()?.into_owned(), ..StatusData::default() };
    if !cursor.accept(b'(') {
        return None;
    }
    while cursor.more() && !cursor.accept(b')') {
        let before = cursor.rest().len();
        let item = cursor.atom().to_ascii_uppercase();
        let mut value = cursor;
        cursor.skip_value();
        match item.as_slice() {
            b"MESSAGES" => found.messages = value.number().and_then(small),
            b"UIDNEXT" => found.uid_next = value.number().and_then(small),
            b"UIDVALIDITY" => found.uid_validity = value.number().and_then(small),
            b"HIGHESTMODSEQ" => found.highest_modseq = value.number().map(ModSeq),
            _ => {}
        }
        if cursor.rest().len() == before {
            break;
        }
    }
    Some(found)
}

/// `* NAMESPACE personal others shared`, each NIL or a list of `("prefix" "delimiter" …)`.
pub(super) fn namespace(response: &[u8]) -> Option<NamespaceData> {
    let mut cursor = Cursor::new(response.strip_prefix(b"* ")?);
    if !cursor.atom().eq_ignore_ascii_case(b"NAMESPACE") {
        return None;
    }
    Some(NamespaceData {
        personal: prefixes(&mut cursor),
        others: [prefixes(&mut cursor), prefixes(&mut cursor)].concat(),
    })
}

fn prefixes(cursor: &mut Cursor<'_>) -> Vec<(Vec<u8>, Option<char>)> {
    let mut found = Vec::new();
    if !cursor.accept(b'(') {
        cursor.string();
        return found;
    }
    while cursor.accept(b'(') {
        let prefix = cursor.string();
        let delimiter = cursor.string();
        while cursor.more() && !cursor.accept(b')') {
            let before = cursor.rest().len();
            cursor.skip_value();
            if cursor.rest().len() == before {
                return found;
            }
        }
        let delimiter = delimiter.and_then(|text| text.first().map(|octet| char::from(*octet)));
        found.extend(prefix.map(|prefix| (prefix.into_owned(), delimiter)));
    }
    cursor.accept(b')');
    found
}

fn uid(number: u64) -> Option<Uid> {
    Uid::new(small(number)?)
}

fn small(number: u64) -> Option<u32> {
    u32::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::InternalDate;

    #[test]
    fn fetch_in_any_order_and_spacing() {
        let odd = b"* 7 FETCH (  RFC822.SIZE 5000000000 X-GM-LABELS (\"a)\" (b)) FLAGS ( \\Seen  $a]) \
            BODY[HEADER.FIELDS (A B])] {3}\r\n)(\" INTERNALDATE \" 1-Jan-1970 00:00:07 +0000\" UID 9 )\r\n";
        let found = fetch(odd);
        assert_eq!(found.uid, Uid::new(9));
        assert_eq!(found.size, Some(5_000_000_000));
        assert_eq!(found.instant, Some(InternalDate(7)));
        assert_eq!(found.flags, Some(Flags::of_names(["\\Seen", "$a]"])));
        assert_eq!(found.body, Some(Body::Octets(b")(\"".to_vec())));
    }

    #[test]
    fn fetch_of_what_cannot_be_read() {
        for (response, expected) in [
            (
                &b"* 1 FETCH (UID 0 FLAGS NIL INTERNALDATE NIL RFC822.SIZE -1 BODY[] NIL)\r\n"[..],
                true,
            ),
            (b"* 1 FETCH (BODY[", false),
            (b"* 1 FETCH (BODY[HEADER.FIELDS (A]B {2}\r\nCD)] {1}\r\nE)\r\n", false),
            (b"* 1 FETCH", false),
            (b"* 1 FETCH (UID", false),
            (b"* 1 FETCH (FLAGS (a (b", false),
        ] {
            let found = fetch(response);
            let nil = found.body == Some(Body::Nil);
            assert_eq!(nil, expected, "{found:?}");
            assert!(found.uid.is_none() && found.size.is_none() && found.instant.is_none());
        }
    }

    #[test]
    fn names_in_any_octets() {
        for (response, name, delimiter) in [
            (
                &b"* LIST (\\HasNoChildren) \"/\" \"a \\\"b\\\\\"\r\n"[..],
                &b"a \"b\\"[..],
                Some('/'),
            ),
            (b"* LIST () NIL {4}\r\n\xff\r\n \r\n", b"\xff\r\n ", None),
            (
                b"* LIST (\\A) \"\\\\\" atom (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n",
                b"atom",
                Some('\\'),
            ),
            (b"* LIST () \"/\" \"a \"b\" c\" \r\n", b"a \"b\" c", Some('/')),
            (b"* list ( \\A  \\B ) \".\"  \"\"\r\n", b"", Some('.')),
        ] {
            let found = list(response).unwrap();
            assert_eq!((found.name.as_slice(), found.delimiter), (name, delimiter));
        }
        assert!(list(b"* LIST (\\A \".\" x\r\n").is_none());
    }

    #[test]
    fn status_with_unknown_items() {
        let response = b"* STATUS \"a b\" (APPENDLIMIT NIL MESSAGES 3 MAILBOXID (x) UIDVALIDITY 0 UIDNEXT 9 HIGHESTMODSEQ -1 )\r\n";
        let found = status(response).unwrap();
        assert_eq!(found.name, b"a b");
        assert_eq!(
            (found.messages, found.uid_validity, found.uid_next),
            (Some(3), Some(0), Some(9))
        );
        assert_eq!(found.highest_modseq, None);
    }

    #[test]
    fn namespaces() {
        let found = namespace(
            b"* NAMESPACE ((\"INBOX.\" \".\" \"X\" (\"y\"))) ((\"user.\" \".\")) ((\"\" NIL)(\"b/\" \"/\"))\r\n",
        )
        .unwrap();
        assert_eq!(found.personal, [(b"INBOX.".to_vec(), Some('.'))]);
        assert_eq!(found.others.len(), 3);
        assert_eq!(found.others[1], (b"".to_vec(), None));
        let none = namespace(b"* NAMESPACE NIL NIL NIL\r\n").unwrap();
        assert!(none.personal.is_empty() && none.others.is_empty());
    }
}
