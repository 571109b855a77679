//! Commands → octets. imap-codec encodes; what it cannot say is built here from its pieces.
//!
//! A [`Draft`] is a command without its tag. Its literals stay apart until the tag is given,
//! because how they go out (RFC 7888) depends on the server.

use imap_codec::CommandCodec;
use imap_codec::encode::{Encoder, Fragment};
use imap_types::command::{Command, CommandBody};
use imap_types::core::Tag;
use imap_types::fetch::{MacroOrMessageDataItemNames, MessageDataItemName, Section};
use imap_types::mailbox::Mailbox;
use imap_types::sequence::SequenceSet;

use super::{Error, WireName};
use crate::words::{Flags, SystemFlags, Uid};

/// Octets a UID set may take on a line: some servers stop reading a line at 1000 octets.
const SET_MAX: usize = 900;
/// Keywords longer than this are refused by Dovecot (`mail_max_keyword_length`).
const KEYWORD_MAX: usize = 50;

/// It may hold a password, so it cannot be shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(Vec<u8>),
    Literal(Vec<u8>),
}

/// A command without its tag, ending in CRLF.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub pieces: Vec<Piece>,
}

impl Draft {
    /// A command that imap-codec knows.
    pub fn of(body: CommandBody<'_>) -> Draft {
        let command = Command { tag: Tag::unvalidated("t"), body };
        let mut pieces = Vec::new();
        for fragment in CommandCodec::new().encode(&command) {
            match fragment {
                Fragment::Line { data } => pieces.push(Piece::Text(data)),
                Fragment::Literal { data, .. } => {
                    if let Some(Piece::Text(line)) = pieces.last_mut() {
                        take_off_announcement(line);
                    }
                    pieces.push(Piece::Literal(data));
                }
            }
        }
        if let Some(Piece::Text(line)) = pieces.first_mut() {
            line.drain(..b"t ".len());
        }
        Draft { pieces }
    }

    /// Text of our own, for commands that imap-codec cannot say; to be ended by [`Draft::end`].
    pub fn text(text: &str) -> Draft {
        Draft { pieces: vec![Piece::Text(text.as_bytes().to_vec())] }
    }

    pub fn push_text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(line)) => line.extend_from_slice(text.as_bytes()),
            _ => self.pieces.push(Piece::Text(text.as_bytes().to_vec())),
        }
    }

    /// A folder's name as imap-codec writes it: atom, quoted string or literal.
    pub fn push_folder(&mut self, name: &WireName) -> Result<(), Error> {
        for piece in folder(name)? {
            match (piece, self.pieces.last_mut()) {
                (Piece::Text(text), Some(Piece::Text(line))) => line.extend_from_slice(&text),
                (piece, _) => self.pieces.push(piece),
            }
        }
        Ok(())
    }

    pub fn end(mut self) -> Draft {
        self.push_text("\r\n");
        self
    }
}

/// `{n}\r\n` at the end of a line is written again when the command goes out.
fn take_off_announcement(line: &mut Vec<u8>) {
    if let Some(brace) = memchr::memrchr(b'{', line) {
        line.truncate(brace);
    }
}

fn folder(name: &WireName) -> Result<Vec<Piece>, Error> {
    let mut pieces = Draft::of(CommandBody::Create { mailbox: mailbox(name)? }).pieces;
    if let Some(Piece::Text(line)) = pieces.first_mut() {
        line.drain(..b"CREATE ".len());
    }
    if let Some(Piece::Text(line)) = pieces.last_mut() {
        line.truncate(line.len() - b"\r\n".len());
    }
    Ok(pieces)
}

pub(super) fn mailbox(name: &WireName) -> Result<Mailbox<'_>, Error> {
    Mailbox::try_from(name.as_octets())
        .map_err(|_| Error::Protocol(format!("no command can hold the folder name {name:?}")))
}

/// Which section of a message a FETCH asks for, besides UID, FLAGS, INTERNALDATE, RFC822.SIZE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Uids,
    UidsAndFlags,
    Metadata,
    Headers,
    Messages,
}

/// `UID FETCH set (…)`; bodies are peeked at (RFC 9051, 6.4.5).
pub(super) fn fetch(sequence_set: SequenceSet, asked: Asked) -> CommandBody<'static> {
    let section = |section| MessageDataItemName::BodyExt { section, partial: None, peek: true };
    let mut items = vec![MessageDataItemName::Uid];
    if asked != Asked::Uids {
        items.push(MessageDataItemName::Flags);
    }
    if matches!(asked, Asked::Metadata | Asked::Headers | Asked::Messages) {
        items.extend([MessageDataItemName::InternalDate, MessageDataItemName::Rfc822Size]);
    }
    match asked {
        Asked::Headers => items.push(section(Some(Section::Header(None)))),
        Asked::Messages => items.push(section(None)),
        _ => {}
    }
    let items = MacroOrMessageDataItemNames::MessageDataItemNames(items);
    CommandBody::Fetch { sequence_set, macro_or_item_names: items, uid: true, modifiers: vec![] }
}

/// UIDs (in any order) as sets of ranges, each short enough for one line, with how many UIDs
/// each holds.
pub(super) fn sets(uids: &[Uid]) -> Vec<(SequenceSet, usize)> {
    let mut sorted = uids.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let runs = sorted.chunk_by(|a, b| a.get() + 1 == b.get());
    let mut sets: Vec<(String, usize)> = Vec::new();
    for run in runs {
        let range = match run {
            [single] => single.to_string(),
            [first, .., last] => format!("{first}:{last}"),
            [] => continue,
        };
        match sets.last_mut() {
            Some((set, count)) if set.len() + 1 + range.len() <= SET_MAX => {
                set.push(',');
                set.push_str(&range);
                *count += run.len();
            }
            _ => sets.push((range, run.len())),
        }
    }
    let parsed = |(set, count): (String, usize)| Some((set.parse().ok()?, count));
    sets.into_iter().filter_map(parsed).collect()
}

/// Is the flag one of the five, or a keyword of octets that no server can misread?
pub(super) fn is_safe_flag(name: &str) -> bool {
    SystemFlags::of_name(name).is_some() || is_safe_keyword(name)
}

fn is_safe_keyword(name: &str) -> bool {
    let safe = |octet: u8| octet.is_ascii_graphic() && !b"(){}%*\"\\[]".contains(&octet);
    (1..=KEYWORD_MAX).contains(&name.len()) && name.bytes().all(safe)
}

/// `(flags)`, without those that are not safe to send.
pub(super) fn flag_list(flags: &Flags) -> String {
    let names: Vec<&str> = flags.names().filter(|name| is_safe_flag(name)).collect();
    format!("({})", names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(draft: &Draft) -> String {
        let show = |piece: &Piece| match piece {
            Piece::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Piece::Literal(literal) => format!("<{}>", String::from_utf8_lossy(literal)),
        };
        draft.pieces.iter().map(show).collect()
    }

    #[test]
    fn folder_names() {
        for (name, expected) in [
            (&b"inbox"[..], "INBOX"),
            (b"INBOX/Posta inviata", "\"INBOX/Posta inviata\""),
            (b"a\"b\\c", "\"a\\\"b\\\\c\""),
            (b"caff\xc3\xa8", "<caffè>"),
            (b"a\r\nx LOGOUT", "<a\r\nx LOGOUT>"),
            (b"Bozze&AOg-", "Bozze&AOg-"),
            (b"", "\"\""),
            (b"%*", "\"%*\""),
        ] {
            let mut draft = Draft::text("STATUS ");
            draft.push_folder(&WireName::of_wire(name)).unwrap();
            draft.push_text(" (X)");
            assert_eq!(shown(&draft.end()), format!("STATUS {expected} (X)\r\n"));
        }
        assert!(folder(&WireName::of_wire(b"a\0b")).is_err());
    }

    #[test]
    fn uid_sets_are_ranges_in_short_lines() {
        let uids =
            |numbers: &[u32]| numbers.iter().filter_map(|n| Uid::new(*n)).collect::<Vec<_>>();
        let one = sets(&uids(&[7, 3, 1, 2, 3, 9, 10]));
        assert_eq!(one.len(), 1);
        let line = shown(&Draft::of(fetch(one[0].0.clone(), Asked::Messages)));
        let items = "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])";
        assert_eq!(line, format!("UID FETCH 1:3,7,9:10 {items}\r\n"));
        let odd: Vec<u32> = (0..5000).map(|n| 4_000_000_001 + 2 * n).collect();
        let many = sets(&uids(&odd));
        assert_eq!(many.iter().map(|(_, count)| count).sum::<usize>(), 5000);
        for (set, _) in many {
            assert!(shown(&Draft::of(fetch(set, Asked::Metadata))).len() < 1000);
        }
        assert!(sets(&[]).is_empty());
        assert_eq!(sets(&uids(&[u32::MAX])).len(), 1);
    }

    #[test]
    fn flags_that_are_safe() {
        let flags = Flags::of_names(["\\seen", "$Forwarded", "a(b", "c\r\nx", "è", "[x]", "\\*"]);
        assert_eq!(flag_list(&flags), "(\\Seen $Forwarded)");
        assert!(!is_safe_flag("\\Recent") && !is_safe_flag("") && !is_safe_flag(&"k".repeat(51)));
    }
}
