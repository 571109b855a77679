//! Folder names on the wire and as users see them (modified UTF-7, RFC 3501, 5.1.3).

use std::fmt;

/// A folder's name exactly as the server's LIST gave it (modified UTF-7 or raw UTF-8, with the
/// server's prefix and delimiter).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireName(Box<[u8]>);

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

impl WireName {
    pub fn of_wire(octets: &[u8]) -> WireName {
        WireName(octets.into())
    }

    pub fn as_octets(&self) -> &[u8] {
        &self.0
    }

    /// Encodes a name as users see it, in modified UTF-7.
    pub fn encode(utf8: &str) -> WireName {
        let mut wire = Vec::with_capacity(utf8.len());
        let mut rest = utf8;
        while let Some(first) = rest.chars().next() {
            let plain = is_plain(first);
            let end = rest.find(|other| is_plain(other) != plain).unwrap_or(rest.len());
            let (run, after) = rest.split_at(end);
            match plain {
                true => wire.extend_from_slice(run.replace('&', "&-").as_bytes()),
                false => shift(run, &mut wire),
            }
            rest = after;
        }
        WireName(wire.into())
    }

    /// The name as users see it. What is not valid modified UTF-7 is shown as it stands.
    pub fn decode(&self) -> String {
        let decoded = decoded(&self.0).filter(|name| WireName::encode(name) == *self);
        decoded.unwrap_or_else(|| String::from_utf8_lossy(&self.0).into_owned())
    }

    pub fn is_inbox(&self) -> bool {
        self.0.eq_ignore_ascii_case(b"INBOX")
    }
}

impl fmt::Debug for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

fn is_plain(character: char) -> bool {
    matches!(character, ' '..='~')
}

/// `&`, the base64 of UTF-16, `-`.
fn shift(run: &str, wire: &mut Vec<u8>) {
    wire.push(b'&');
    let (mut bits, mut held) = (0u32, 0u32);
    for octet in run.encode_utf16().flat_map(u16::to_be_bytes) {
        bits = (bits & 0xff) << 8 | u32::from(octet);
        held += 8;
        while held >= 6 {
            held -= 6;
            wire.push(BASE64[(bits >> held & 63) as usize]);
        }
    }
    if held > 0 {
        wire.push(BASE64[(bits << (6 - held) & 63) as usize]);
    }
    wire.push(b'-');
}

/// `None` where an octet cannot be part of modified UTF-7. Spellings that [`WireName::encode`]
/// would not choose are sorted out by the caller: two folders must never show one name.
fn decoded(wire: &[u8]) -> Option<String> {
    let mut name = String::with_capacity(wire.len());
    let mut rest = wire;
    while let Some((first, after)) = rest.split_first() {
        if *first != b'&' {
            name.push(char::from(*first).is_ascii().then(|| char::from(*first))?);
            rest = after;
            continue;
        }
        let end = memchr::memchr(b'-', after)?;
        match end {
            0 => name.push('&'),
            _ => name.push_str(&unshift(&after[..end])?),
        }
        rest = &after[end + 1..];
    }
    Some(name)
}

fn unshift(base64: &[u8]) -> Option<String> {
    let (mut bits, mut held) = (0u32, 0u32);
    let mut units = Vec::new();
    for octet in base64 {
        let value = BASE64.iter().position(|known| known == octet)? as u32;
        bits = (bits & 0xffff) << 6 | value;
        held += 6;
        if held >= 16 {
            held -= 16;
            units.push((bits >> held) as u16);
        }
    }
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (shown, wire) in [
            ("INBOX", "INBOX"),
            ("Ricevute & altro", "Ricevute &- altro"),
            ("Città", "Citt&AOA-"),
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("😀-", "&2D3eAA--"),
            ("a\tb\u{7f}", "a&AAk-b&AH8-"),
            ("", ""),
        ] {
            assert_eq!(WireName::encode(shown), WireName::of_wire(wire.as_bytes()), "{shown}");
            assert_eq!(WireName::of_wire(wire.as_bytes()).decode(), shown);
        }
    }

    #[test]
    fn what_is_no_utf7_is_shown_as_it_stands() {
        for wire in ["a&b", "&AGE-", "&U,BTFw-&ZeVnLIqe-", "&2D3-", "&AOA", "a&é-", "caffè", "a\tb"]
        {
            assert_eq!(WireName::of_wire(wire.as_bytes()).decode(), wire);
        }
        assert_eq!(WireName::of_wire(b"a\xff").decode(), "a\u{fffd}");
    }

    #[test]
    fn any_text_survives() {
        use proptest::prelude::*;
        proptest!(|(text in any::<String>(), octets in any::<Vec<u8>>())| {
            prop_assert_eq!(WireName::encode(&text).decode(), text);
            let _ = WireName::of_wire(&octets).decode();
        });
    }
}
