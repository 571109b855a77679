//! UID FETCH: listings, headers and bodies, and what was seen of whom.

use std::io;

use super::dates;
use super::habits::{Habit, Withheld, is_marked};
use super::model::{Folder, Message, RENUMBERED};
use super::plan::Side;
use super::session::Session;
use super::wire::Token;

#[derive(Default)]
struct Asked {
    flags: bool,
    date: bool,
    size: bool,
    header: bool,
    body: bool,
    since: Option<u64>,
    vanished: bool,
}

impl Asked {
    fn of(items: &[Token]) -> Asked {
        let has = |name: &str| items.iter().any(|item| item.is(name));
        let since = items.iter().position(|item| item.is("CHANGEDSINCE"));
        Asked {
            flags: has("FLAGS"),
            date: has("INTERNALDATE"),
            size: has("RFC822.SIZE"),
            header: has("BODY.PEEK[HEADER]"),
            body: has("BODY.PEEK[]"),
            since: since.and_then(|at| items.get(at + 1)?.text().parse().ok()),
            vanished: has("VANISHED"),
        }
    }
}

impl Session {
    pub async fn fetch(&mut self, tag: &str, arguments: &[Token]) -> io::Result<()> {
        if arguments.iter().any(|item| item.text().to_ascii_uppercase().starts_with("BODY[")) {
            self.stage.violate("a FETCH that sets \\Seen");
        }
        let Some(set) = arguments.first().map(Token::text) else {
            return self.finish(tag, "", "BAD of what?").await;
        };
        let asked = Asked::of(&arguments[1..]);
        let Some(view) = &self.view else {
            return self.finish(tag, "", "BAD no folder is selected").await;
        };
        let found = self.half().look(|account| {
            let folder = account.folders.get(&view.name)?;
            let mut found = Vec::new();
            for message in folder.in_set(&set) {
                // A message that has come since is told of first, by its EXISTS.
                let Ok(at) = view.uids.binary_search(&message.uid) else { continue };
                if asked.since.is_none_or(|since| message.modseq > since) {
                    found.push((at + 1, message.clone()));
                }
            }
            Some((found, self.vanished_earlier(folder, &asked)))
        });
        let Some((mut found, vanished)) = found else {
            return self.finish(tag, "", "NO the folder is gone").await;
        };
        if self.gaps {
            let mut left_out = false;
            found.retain(|_| {
                left_out = !left_out;
                !left_out
            });
        }
        self.stage.shuffle(self.side, &mut found);
        let mut octets = vanished.into_bytes();
        let content = asked.header || asked.body;
        let withheld = |how| self.does(Habit::Withholds(how));
        let is_renumbered = self.view.as_ref().is_some_and(|view| view.validity > RENUMBERED);
        let is_silent = withheld(Withheld::Silent) || withheld(Withheld::Lost) && is_renumbered;
        for (sequence, message) in &found {
            let marked = content && is_marked(&message.octets);
            if marked && withheld(Withheld::Refused) {
                self.wire.send(&octets).await?;
                return self.finish(tag, "", "NO [SERVERBUG] Internal error occurred").await;
            }
            if marked && is_silent {
                continue;
            }
            self.write_message(&mut octets, *sequence, message, &asked);
            if marked && asked.body && self.does(Habit::DiesInBody) && self.is_early() {
                octets.truncate(octets.len() - message.octets.len() / 2);
                self.wire.send(&octets).await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        if let Some(view) = self.view.as_mut().filter(|_| asked.header || asked.body) {
            view.seen.extend(found.iter().map(|(_, message)| message.uid));
        }
        self.wire.send(&octets).await?;
        self.finish(tag, "", "OK done").await
    }

    /// What is gone since the modification sequence asked for.
    fn vanished_earlier(&self, folder: &Folder, asked: &Asked) -> String {
        let Some(since) = asked.since.filter(|_| asked.vanished) else { return String::new() };
        if !self.qresync {
            self.stage.violate("VANISHED where QRESYNC was not enabled");
        }
        let gone = match self.does(Habit::WrongVanished) {
            true => folder.messages.iter().map(|message| message.uid).collect(),
            false => folder.vanished_since(since),
        };
        match gone.is_empty() {
            true => String::new(),
            false => format!("* VANISHED (EARLIER) {}\r\n", set_of(&gone)),
        }
    }

    fn write_message(&self, out: &mut Vec<u8>, sequence: usize, message: &Message, asked: &Asked) {
        let mut items: Vec<Vec<u8>> = vec![format!("UID {}", message.uid).into_bytes()];
        if asked.since.is_some() {
            items.push(format!("MODSEQ ({})", message.modseq).into_bytes());
        }
        if asked.flags {
            let mut flags: Vec<&str> = message.flags.iter().map(String::as_str).collect();
            if self.does(Habit::OddFlags) {
                flags.extend(["\\Recent", "\\Forwarded"]);
            }
            items.push(format!("FLAGS ({})", flags.join(" ")).into_bytes());
        }
        if asked.date {
            // Every server has a zone of its own, and the instant is the same.
            let zone = if self.side == Side::Source { 60 } else { -210 };
            let date = dates::format(message.instant, zone);
            items.push(format!("INTERNALDATE \"{date}\"").into_bytes());
        }
        if asked.size {
            let wrong = if self.does(Habit::WrongSizes) { 7 } else { 0 };
            items.push(format!("RFC822.SIZE {}", message.octets.len() + wrong).into_bytes());
        }
        let section = match (asked.header, asked.body) {
            (true, _) => Some(("BODY[HEADER]", message.header())),
            (_, true) => Some(("BODY[]", &*message.octets)),
            _ => None,
        };
        if let Some((name, octets)) = section {
            let head = format!("{name} {{{}}}\r\n", octets.len());
            let nothing = is_marked(&message.octets).then(|| self.nothing()).flatten();
            let item = match nothing {
                Some(nothing) => format!("{name} {nothing}").into_bytes(),
                None => [head.as_bytes(), octets].concat(),
            };
            let at = if self.traits().body_first { 0 } else { items.len() };
            items.insert(at, item);
        }
        out.extend_from_slice(format!("* {sequence} FETCH (").as_bytes());
        out.extend_from_slice(&items.join(&b' '));
        out.extend_from_slice(b")\r\n");
    }

    /// What stands for the body of a message that is not given.
    fn nothing(&self) -> Option<&'static str> {
        let withheld = [(Withheld::Nil, "NIL"), (Withheld::Empty, "\"\"")];
        let found = withheld.into_iter().find(|(how, _)| self.does(Habit::Withholds(*how)));
        found.map(|(_, text)| text)
    }
}

/// `1:4,7`: who forgot what vanished names hundreds of thousands of UIDs that were jumped over.
fn set_of(uids: &[u32]) -> String {
    let runs = uids.chunk_by(|one, next| one + 1 == *next);
    let runs = runs.map(|run| match run {
        [first, .., last] => format!("{first}:{last}"),
        _ => run[0].to_string(),
    });
    runs.collect::<Vec<_>>().join(",")
}
