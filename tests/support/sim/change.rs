//! What changes the target, and what the product must never do there: touch a message that is
//! not its own, or one that it has not looked at in the same SELECT.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use super::dates;
use super::habits::{Habit, is_marked, oddity};
use super::judge::Print;
use super::model::{Letter, Message};
use super::plan::{Lie, Side};
use super::session::{Answer, Session};
use super::stage::Stage;
use super::wire::Token;

impl Session {
    pub async fn change(&mut self, tag: &str, name: &str, arguments: &[Token]) -> io::Result<()> {
        if self.side == Side::Source {
            return self.finish(tag, "", "NO [NOPERM] the source is not to be changed").await;
        }
        match name {
            "CREATE" => self.create(tag, arguments).await,
            "SUBSCRIBE" => {
                let what = format!("SUBSCRIBE {}", text(arguments, 0));
                self.effect(tag, &what, |_, _| ok("OK subscribed")).await
            }
            "APPEND" => self.append(tag, arguments).await,
            _ => self.touch(tag, name, arguments).await,
        }
    }

    async fn create(&mut self, tag: &str, arguments: &[Token]) -> io::Result<()> {
        let folder = text(arguments, 0);
        let folds = self.does(Habit::FoldsCase);
        let is_it = |name: &String| *name == folder || folds && name.eq_ignore_ascii_case(&folder);
        if self.half().look(|account| account.folders.keys().any(is_it)) {
            return self.finish(tag, "", "NO [ALREADYEXISTS] it is there").await;
        }
        let what = format!("CREATE {folder}");
        self.effect(tag, &what, move |stage, _| {
            stage.target.with(|account| account.create(&folder));
            ok("OK created")
        })
        .await
    }

    async fn append(&mut self, tag: &str, arguments: &[Token]) -> io::Result<()> {
        let folder = text(arguments, 0);
        let Some(mut letters) = letters(arguments.get(1..).unwrap_or_default()) else {
            self.stage.violate("an APPEND that no server understands");
            return self.finish(tag, "", "BAD what is that?").await;
        };
        if letters.len() > 1 && !self.traits().has("MULTIAPPEND") {
            self.stage.violate("several messages in an APPEND without MULTIAPPEND");
        }
        let any_keyword = self.traits().keywords;
        let flags = letters.iter().flat_map(|letter| &letter.flags);
        if flags.clone().any(|flag| !any_keyword && !flag.starts_with('\\')) {
            self.stage.violate("a keyword that PERMANENTFLAGS does not admit");
        }
        let admitted = ["\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft"];
        let is_odd = |flag: &String| flag.starts_with('\\') && !admitted.contains(&flag.as_str());
        if flags.clone().any(is_odd) {
            self.stage.violate("a system flag that PERMANENTFLAGS does not admit");
        }
        if !self.half().look(|account| account.folders.contains_key(&folder)) {
            return self.finish(tag, "", "NO [TRYCREATE] no such folder").await;
        }
        let limit = self.traits().append_limit().unwrap_or(usize::MAX);
        if letters.iter().any(|letter| letter.octets.len() > limit) {
            return self.finish(tag, "", "NO [TOOBIG] Message too large").await;
        }
        let odd = letters.iter().find_map(|letter| oddity(&letter.octets));
        if let Some(why) = odd.filter(|_| self.does(Habit::RefusesOddMail)) {
            return self.finish(tag, "", &format!("NO {why}")).await;
        }
        let marked = letters.iter().position(|letter| is_marked(&letter.octets));
        if let Some(marked) = marked.filter(|_| self.does(Habit::ExecutesRefused)) {
            return self.carry_out(tag, &letters[marked..]).await;
        }
        for letter in &mut letters {
            letter.octets = self.traits().stored(&letter.octets);
        }
        let what = format!("APPEND {folder} of {}", letters.len());
        let offset = self.told_validity(0);
        let zero = self.does(Habit::Validity(super::habits::Validity::Zero));
        self.effect(tag, &what, move |stage, number| {
            let (validity, uids) = stage.target.with(|account| {
                let validity = account.folders.get(&folder).map_or(0, |folder| folder.validity);
                (validity, account.append(&folder, letters))
            });
            let validity = if zero { 0 } else { validity + offset };
            ok(&format!("OK {}appended", append_uid(stage, number, validity, &uids)))
        })
        .await
    }

    /// Refuses an APPEND with BAD; what the client has sent of it without being asked is taken for
    /// commands, as Dovecot does.
    async fn carry_out(&mut self, tag: &str, letters: &[Letter]) -> io::Result<()> {
        let mut text = format!("{tag} BAD Error in IMAP command APPEND: Invalid arguments.\r\n");
        if self.traits().has("LITERAL+") && self.ran_ahead {
            let octets = letters.iter().flat_map(|letter| letter.octets.iter().copied());
            let octets: Vec<u8> = octets.collect();
            for line in String::from_utf8_lossy(&octets).lines() {
                let (tag, command) = line.split_once(' ').unwrap_or((line, ""));
                text += &match command.strip_prefix("CREATE ") {
                    Some(name) => {
                        self.half().with(|account| account.create(name));
                        format!("{tag} OK Create completed.\r\n")
                    }
                    None => format!("{tag} BAD Error in IMAP command: Unknown command.\r\n"),
                };
            }
        }
        self.wire.send(text.as_bytes()).await
    }

    async fn touch(&mut self, tag: &str, name: &str, arguments: &[Token]) -> io::Result<()> {
        let Some(view) = &self.view else {
            return self.finish(tag, "", "BAD no folder is selected").await;
        };
        let folder = view.name.clone();
        let read_only = view.read_only;
        let found = self.half().look(|account| account.folders.get(&folder).cloned());
        let Some(found) = found.filter(|_| !read_only) else {
            return self.finish(tag, "", "NO not here").await;
        };
        let mut uids = found.uids_in(&text(arguments, 0));
        for uid in &uids {
            let foreign = found.message(*uid).is_some_and(|message| message.foreign);
            let seen = view.seen.contains(uid);
            if foreign && name != "UID COPY" {
                self.stage.violate(format!("{name} of the foreign message {folder} {uid}"));
            }
            if !seen {
                self.stage.violate(format!("{name} of {folder} {uid}, which was not looked at"));
            }
        }
        if name == "UID EXPUNGE" {
            let is_deleted = |uid: &u32| {
                found.message(*uid).is_some_and(|message| message.flags.contains("\\Deleted"))
            };
            uids.retain(is_deleted);
        }
        let what = format!("{name} {folder} {uids:?}");
        let rest: Vec<String> = arguments.iter().skip(1).map(Token::text).collect();
        let plus = self.traits().has("UIDPLUS");
        let offset = self.told_validity(0);
        let sloppy = self.does(Habit::Sloppy);
        match name {
            "UID STORE" => {
                let add = rest.first().is_some_and(|item| item.starts_with('+'));
                let flags: Vec<String> =
                    rest.into_iter().skip(1).filter(|word| word != "(" && word != ")").collect();
                self.effect(tag, &format!("{what} {add} {flags:?}"), move |stage, _| {
                    stage.target.with(|account| account.store(&folder, &uids, &flags, add));
                    ok("OK stored")
                })
                .await
            }
            "UID EXPUNGE" => {
                self.effect(tag, &what, move |stage, _| {
                    let removed = stage.target.with(|account| account.remove(&folder, &uids));
                    check_removed(stage, &folder, &removed);
                    ok("OK expunged")
                })
                .await
            }
            _ => {
                let to = rest.first().cloned().unwrap_or_default();
                if !self.half().look(|account| account.folders.contains_key(&to)) {
                    return self.finish(tag, "", "NO [TRYCREATE] no such folder").await;
                }
                let moves = name == "UID MOVE";
                self.effect(tag, &format!("{what} to {to}"), move |stage, _| {
                    let pairs = stage.target.with(|account| account.copy(&folder, &uids, &to));
                    if moves {
                        let removed = stage.target.with(|account| account.remove(&folder, &uids));
                        check_removed(stage, &folder, &removed);
                    }
                    transferred(stage, &to, &pairs, offset, (moves, plus, sloppy))
                })
                .await
            }
        }
    }
}

/// A message that has been at the source for longer than any listing is old; those that were
/// there from the beginning have, too.
const LONG_THERE: Duration = Duration::from_secs(240);

/// A copy may go only when its message has: those that the source has had for long are all still
/// to be at the target. Of one that lies elsewhere now, the last copy stays until it has another.
fn check_removed(stage: &Stage, wire: &str, removed: &[Message]) {
    let shown = stage.target.traits.shown(wire);
    for message in removed {
        let print = Print::of(message);
        let is_same = |other: &Message| Print::of(other) == print;
        let is_long = |message: &Message| {
            message.since == stage.began || message.since.elapsed() >= LONG_THERE
        };
        let count = |counts: &dyn Fn(&str, &Message) -> bool| {
            stage.source.look(|account| {
                let all = account.folders.iter().flat_map(|(name, folder)| {
                    folder.messages.iter().map(move |message| (name, message))
                });
                let counted = all.filter(|(name, message)| counts(name, message));
                counted.filter(|(_, message)| is_same(message) && is_long(message)).count()
            })
        };
        let needed = count(&|name, _| stage.goes_to(name) == shown);
        // One that was never shown, or has no folder yet, is not known to lie elsewhere.
        let there = |name: &str, message: &Message| {
            let wire = stage.target.traits.wire(&stage.goes_to(name));
            // What only lies in a folder that waits is copied later, whatever goes; what was moved
            // there keeps its copy.
            let put_off = stage.put_off.lock().expect("no panic while held");
            let waits = stage.waits(name) && !put_off.contains(&Print::of(message));
            !waits && stage.target.look(|account| account.folders.contains_key(&wire))
        };
        let anywhere = if stage.source.has_failed() { 0 } else { count(&there).min(1) };
        let needed = needed.max(anywhere);
        // What was found in another folder was moved there.
        let left: usize = stage.target.look(|account| {
            let messages = account.folders.values().flat_map(|folder| &folder.messages);
            messages.filter(|message| is_same(message)).count()
        });
        // A twin's copy that the target has lost is not what this one is to make up for.
        let vanished = stage.vanished.lock().expect("no panic while held");
        let lost = vanished.iter().filter(|lost| **lost == print).count();
        if left + lost < needed {
            let text = format!("{shown}: a copy is removed, {left} stay, the source has {needed}");
            stage.violate(text);
        }
    }
}

fn ok(tagged: &str) -> Answer {
    Answer { untagged: String::new(), tagged: tagged.to_owned() }
}

fn text(arguments: &[Token], at: usize) -> String {
    arguments.get(at).map(Token::text).unwrap_or_default()
}

/// `(flags) "date" literal`, once or several times.
fn letters(mut rest: &[Token]) -> Option<Vec<Letter>> {
    let mut letters = Vec::new();
    while !rest.is_empty() {
        let mut flags = BTreeSet::new();
        if let [Token::Open, inner @ ..] = rest {
            let end = inner.iter().position(|token| *token == Token::Close)?;
            flags.extend(inner[..end].iter().map(Token::text));
            rest = &inner[end + 1..];
        }
        let [Token::Text(date), Token::Text(octets), after @ ..] = rest else { return None };
        let instant = dates::parse(std::str::from_utf8(date).ok()?)?;
        letters.push(Letter { octets: octets.clone().into(), instant, flags, foreign: false });
        rest = after;
    }
    (!letters.is_empty()).then_some(letters)
}

fn append_uid(stage: &Stage, number: usize, validity: u32, uids: &[u32]) -> String {
    if !stage.target.traits.has("UIDPLUS") {
        return String::new();
    }
    let lie = stage.lie(number);
    let uids = match lie {
        Some(Lie::TooFew) => &uids[..uids.len() - 1],
        _ => uids,
    };
    let first = uids.first().copied().unwrap_or(0);
    let last = uids.last().copied().unwrap_or(0);
    let set = if first == last { first.to_string() } else { format!("{first}:{last}") };
    match lie {
        None | Some(Lie::TooFew) => format!("[APPENDUID {validity} {set}] "),
        Some(Lie::None) => String::new(),
        Some(Lie::Malformed) => "[APPENDUID 7 x:y] ".to_owned(),
        Some(Lie::OtherValidity) => format!("[APPENDUID {} {set}] ", validity + 1),
        Some(Lie::Descending) => {
            let set: Vec<String> = uids.iter().rev().map(u32::to_string).collect();
            format!("[APPENDUID {validity} {}] ", set.join(","))
        }
        Some(Lie::TooMany) => format!("[APPENDUID {validity} {first}:{}] ", last + 1),
    }
}

fn transferred(
    stage: &Stage,
    to: &str,
    pairs: &[(u32, u32)],
    offset: u32,
    (moves, plus, sloppy): (bool, bool, bool),
) -> Answer {
    if !plus || pairs.is_empty() {
        return ok("OK moved");
    }
    let list = |of: fn(&(u32, u32)) -> u32| {
        let mut uids: Vec<String> = pairs.iter().map(|pair| of(pair).to_string()).collect();
        if sloppy {
            uids.reverse();
        }
        uids.join(",")
    };
    let validity = stage.target.look(|account| account.folders.get(to).map_or(0, |to| to.validity));
    let validity = validity + offset;
    let code = format!("[COPYUID {validity} {} {}]", list(|pair| pair.0), list(|pair| pair.1));
    match moves || sloppy {
        // RFC 6851, 4.3: before the EXPUNGEs.
        true => Answer { untagged: format!("* OK {code} moved\r\n"), tagged: "OK done".to_owned() },
        false => ok(&format!("OK {code} copied")),
    }
}
