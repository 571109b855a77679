//! A server and its connections: greeting, login, folders, selection, IDLE.
//!
//! Strict on purpose: a command that a server may not get, or that uses what was not offered, is
//! a violation, and the world fails.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;

use tokio::io::DuplexStream;

use super::habits::{Habit, Next, Told, Validity};
use super::model::{Account, Folder};
use super::plan::{Reply, Side, Welcome};
use super::stage::{Fate, Half, Stage};
use super::traits::Traits;
use super::wire::{Command, Token, Wire};

/// Holds what a kernel would.
const PIPE_OCTETS: usize = 64 * 1024;

/// The product connects.
pub fn accept(stage: &Arc<Stage>, side: Side, shows: Shows) -> io::Result<DuplexStream> {
    let (number, welcome) = stage.connection_comes(side);
    if welcome == Some(Welcome::Refused) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let (product, server) = tokio::io::duplex(PIPE_OCTETS);
    tokio::spawn(connection(stage.clone(), (side, shows), number, server, welcome));
    Ok(product)
}

/// What a login shows of its account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shows {
    All,
    /// The archive lies in a second store, with a login of its own.
    AllButArchive,
    Archive,
}

pub const ARCHIVE_HOST: &str = "archive.example";
/// The folder that lies there, with those below it.
pub const ARCHIVE: &str = "Archivio";

/// Source and target have names of their own, because the product budgets by host.
pub fn host(side: Side) -> &'static str {
    match side {
        Side::Source => "source.example",
        Side::Target => "target.example",
    }
}

async fn connection(
    stage: Arc<Stage>,
    (side, shows): (Side, Shows),
    number: usize,
    stream: DuplexStream,
    welcome: Option<Welcome>,
) {
    let wire = Wire::new(stream, stage.clone(), side, number);
    let mut session = Session {
        wire,
        stage: stage.clone(),
        side,
        shows,
        number,
        condstore: false,
        qresync: false,
        notified: None,
        logged_in: false,
        ran_ahead: false,
        command: String::new(),
        view: None,
        half_shown: false,
        gaps: false,
    };
    if let Err(error) = session.talk(welcome).await {
        stage.log(format!("{side:?}#{number} ends: {}", error.kind()));
    }
}

pub struct Session {
    pub wire: Wire,
    pub stage: Arc<Stage>,
    pub side: Side,
    shows: Shows,
    number: usize,
    /// Modification sequences are told with flags.
    pub condstore: bool,
    /// VANISHED is told in place of EXPUNGE.
    pub qresync: bool,
    /// What NOTIFY has told of the folders that are not selected.
    notified: Option<BTreeMap<String, Mark>>,
    logged_in: bool,
    /// The running command held a literal that was not asked for.
    pub ran_ahead: bool,
    /// The command that is being answered.
    command: String,
    pub view: Option<View>,
    /// The storage fails during this command.
    half_shown: bool,
    /// This FETCH leaves out some messages.
    pub gaps: bool,
}

/// The selected folder as the client knows it.
pub struct View {
    pub name: String,
    pub validity: u32,
    pub read_only: bool,
    /// Sequence numbers.
    pub uids: Vec<u32>,
    /// Changes of flags up to here were told.
    pub modseq: u64,
    /// Whose header or body the client has seen since it selected the folder.
    pub seen: HashSet<u32>,
    /// Not all that is there is shown.
    pub half: bool,
    /// The folder as it was selected, where nothing newer is told of it.
    pub frozen: Option<Folder>,
}

/// What tells one state of a folder from another: UIDVALIDITY, UIDNEXT, messages, HIGHESTMODSEQ.
type Mark = (u32, u32, usize, u64);

fn mark(folder: &Folder) -> Mark {
    (folder.validity, folder.next, folder.messages.len(), folder.modseq)
}

/// What an effect is answered with.
pub struct Answer {
    pub untagged: String,
    /// From OK on.
    pub tagged: String,
}

/// What the source may be told: nothing that changes it.
const HARMLESS: [&str; 16] = [
    "CAPABILITY",
    "AUTHENTICATE",
    "LOGIN",
    "ID",
    "ENABLE",
    "NAMESPACE",
    "NOTIFY",
    "GETQUOTAROOT",
    "LIST",
    "STATUS",
    "EXAMINE",
    "UID FETCH",
    "IDLE",
    "NOOP",
    "UNSELECT",
    "LOGOUT",
];

impl Session {
    pub fn half(&self) -> &Half {
        self.stage.half(self.side)
    }

    pub fn traits(&self) -> &Traits {
        &self.half().traits
    }

    /// Is a folder, by its wire name, shown to this login?
    fn is_shown(&self, name: &str) -> bool {
        let shown = self.traits().shown(name);
        let archived = shown == ARCHIVE || shown.starts_with(&format!("{ARCHIVE}/"));
        match self.shows {
            Shows::All => true,
            Shows::AllButArchive => !archived,
            Shows::Archive => archived,
        }
    }

    /// One of the first two connections.
    pub fn is_early(&self) -> bool {
        self.number < 2
    }

    pub fn does(&self, habit: Habit) -> bool {
        self.traits().does(habit)
    }

    fn capabilities(&self) -> String {
        let later = |habit: &Habit| matches!(habit, Habit::OffersLater(_));
        if !self.logged_in && self.traits().habits.iter().any(later) {
            return "CAPABILITY IMAP4rev1 AUTH=PLAIN".to_owned();
        }
        let offers = self.traits().offers();
        match self.does(Habit::Sloppy) {
            true => format!("CAPABILITY {}", offers.replace("LITERAL+", "LITERAL +")),
            false => format!("CAPABILITY {offers}"),
        }
    }

    /// UIDVALIDITY as it is told.
    pub fn told_validity(&self, validity: u32) -> u32 {
        if self.does(Habit::Validity(Validity::Zero)) {
            0
        } else if self.does(Habit::Validity(Validity::PerLogin)) {
            validity + 1000 * self.number as u32
        } else {
            validity
        }
    }

    /// How much UIDVALIDITY differs in this EXAMINE from what it is.
    fn examined(&self, read_only: bool) -> u32 {
        match self.does(Habit::Validity(Validity::PerExamine)) && read_only {
            true => self.stage.commands(self.side) as u32,
            false => 0,
        }
    }

    fn told_next(&self, next: u32) -> u32 {
        if self.does(Habit::Next(Next::Zero)) {
            0
        } else if self.does(Habit::Next(Next::Rewinds)) && self.number % 2 == 1 {
            next / 2 + 1
        } else {
            next
        }
    }

    /// HIGHESTMODSEQ as it is told; empty where it is not.
    fn told_modseq(&self, modseq: u64) -> String {
        let habits = &self.traits().habits;
        let odd = habits.iter().find_map(|habit| match habit {
            Habit::Modseq(text) => Some((*text).to_owned()),
            _ => None,
        });
        odd.unwrap_or_else(|| modseq.to_string())
    }

    async fn talk(&mut self, welcome: Option<Welcome>) -> io::Result<()> {
        match welcome {
            Some(Welcome::Silent) => return self.wire.until_closed().await,
            Some(Welcome::Bye) => return self.wire.send(b"* BYE come back later\r\n").await,
            Some(Welcome::Refused) | None => {}
        }
        let greeting = format!("* OK [{}] simulated\r\n", self.capabilities());
        self.wire.send(greeting.as_bytes()).await?;
        loop {
            let command = self.wire.command().await?;
            let [tag, name, arguments @ ..] = command.tokens.as_slice() else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let (tag, name) = (tag.text(), name.text().to_ascii_uppercase());
            let (name, arguments) = match arguments.first() {
                Some(second) if name == "UID" => {
                    (format!("UID {}", second.text().to_ascii_uppercase()), &arguments[1..])
                }
                _ => (name, arguments),
            };
            self.command.clone_from(&name);
            self.ran_ahead = command.ran_ahead.is_some();
            let text = command.text.split_once(' ').map_or("", |(_, text)| text);
            let reply = self.stage.command_comes(self.side, self.number, text);
            self.gaps = reply == Some(Reply::Gaps);
            self.half_shown = reply == Some(Reply::Half) || self.half().is_failing();
            match reply {
                None | Some(Reply::Half | Reply::Gaps) => {}
                Some(Reply::Mute) => self.wire.deaf = true,
                Some(Reply::Slow(millis)) => tokio::time::sleep(millis_of(millis)).await,
                Some(reply) => {
                    self.reply(&tag, reply).await?;
                    continue;
                }
            }
            self.check(&name, &command);
            if self.is_lost() {
                self.wire.send(b"* BYE the folder is not what it was\r\n").await?;
                return Ok(());
            }
            self.dispatch(&tag, &name, arguments).await?;
            // What is half shown for a moment only goes with its connection.
            let failing = self.view.as_ref().is_some_and(|view| {
                view.half && !self.half().is_failing() && !self.half().is_hiding(&view.name)
            });
            if name == "LOGOUT" || (failing && name == "UID FETCH") {
                return Ok(());
            }
            if reply == Some(Reply::Mute) {
                return self.wire.until_closed().await;
            }
        }
    }

    async fn reply(&mut self, tag: &str, reply: Reply) -> io::Result<()> {
        match reply {
            Reply::No => self.wire.send(format!("{tag} NO not now\r\n").as_bytes()).await,
            Reply::Bad => self.wire.send(format!("{tag} BAD what?\r\n").as_bytes()).await,
            Reply::Bye => {
                self.wire.send(b"* BYE going down\r\n").await?;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Reply::Silence => self.wire.until_closed().await,
            Reply::Close | Reply::Half | Reply::Gaps | Reply::Mute | Reply::Slow(_) => {
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    fn check(&self, name: &str, command: &Command) {
        let what = || format!("{:?} got {:?}", self.side, command.text);
        if self.side == Side::Source && !HARMLESS.contains(&name) {
            self.stage.violate(what());
        }
        let ahead_max = match self.traits() {
            traits if traits.has("LITERAL+") => usize::MAX,
            traits if traits.has("LITERAL-") => 4096,
            _ => 0,
        };
        if command.ran_ahead.is_some_and(|ahead| ahead_max == 0 || ahead > ahead_max) {
            self.stage.violate(format!("{} without LITERAL+", what()));
        }
        if self.does(Habit::ShortLines) && command.line_max > 1000 {
            self.stage.violate(format!("{} in a line of {} octets", what(), command.line_max));
        }
        if name == "ID" && !self.logged_in {
            self.stage.violate("ID before login");
        }
        if name == "ENABLE" && self.view.is_some() {
            self.stage.violate("ENABLE while a folder is selected");
        }
        let needs = match name {
            "ID" | "ENABLE" | "NAMESPACE" | "NOTIFY" | "IDLE" | "UNSELECT" => name,
            "GETQUOTAROOT" => "QUOTA",
            "UID MOVE" => "MOVE",
            "UID EXPUNGE" => "UIDPLUS",
            _ => return,
        };
        if !self.traits().has(needs) {
            self.stage.violate(format!("{} without {needs}", what()));
        }
    }

    /// The selected folder is gone or another one: no command can mean what the client thinks.
    fn is_lost(&self) -> bool {
        self.view.as_ref().is_some_and(|view| {
            self.half().look(|account| {
                account.folders.get(&view.name).is_none_or(|now| now.validity != view.validity)
            })
        })
    }

    async fn dispatch(&mut self, tag: &str, name: &str, arguments: &[Token]) -> io::Result<()> {
        match name {
            "CAPABILITY" => {
                let untagged = format!("* {}\r\n", self.capabilities());
                self.finish(tag, &untagged, "OK done").await
            }
            "AUTHENTICATE" => self.authenticate(tag, arguments).await,
            "LOGIN" => self.log_in(tag).await,
            "ID" => self.finish(tag, "* ID (\"name\" \"simulated\")\r\n", "OK done").await,
            "ENABLE" => {
                let asked = |name: &str| arguments.iter().any(|argument| argument.is(name));
                let granted = ["CONDSTORE", "QRESYNC"]
                    .into_iter()
                    .filter(|name| asked(name) && self.traits().has(name));
                let granted: Vec<&str> = granted.collect();
                self.qresync |= granted.contains(&"QRESYNC");
                self.condstore |= !granted.is_empty();
                let untagged = format!("* ENABLED {}\r\n", granted.join(" "));
                self.finish(tag, &untagged, "OK done").await
            }
            "NOTIFY" => {
                self.notified = Some(self.marks());
                self.finish(tag, "", "OK you will hear").await
            }
            "GETQUOTAROOT" => {
                let untagged = "* QUOTAROOT INBOX \"\"\r\n* QUOTA \"\" (STORAGE 1 9000000)\r\n";
                self.finish(tag, untagged, "OK done").await
            }
            "NAMESPACE" => {
                let Traits { prefix, delimiter, .. } = *self.traits();
                let others = match self.does(Habit::ShowsOthers) {
                    true => format!("((\"Altri{delimiter}\" \"{delimiter}\"))"),
                    false => "NIL".to_owned(),
                };
                let untagged =
                    format!("* NAMESPACE ((\"{prefix}\" \"{delimiter}\")) {others} NIL\r\n");
                self.finish(tag, &untagged, "OK done").await
            }
            "LIST" => self.list(tag, arguments).await,
            "STATUS" => self.status(tag, arguments).await,
            "SELECT" | "EXAMINE" => self.select(tag, arguments, name == "EXAMINE").await,
            "UNSELECT" => {
                self.view = None;
                self.finish(tag, "", "OK done").await
            }
            "NOOP" | "CHECK" => self.finish(tag, "", "OK done").await,
            "IDLE" => self.idle(tag).await,
            "UID FETCH" => self.fetch(tag, arguments).await,
            "LOGOUT" => self.finish(tag, "* BYE bye\r\n", "OK done").await,
            "CREATE" | "SUBSCRIBE" | "APPEND" | "UID STORE" | "UID MOVE" | "UID COPY"
            | "UID EXPUNGE" => self.change(tag, name, arguments).await,
            _ => {
                self.stage.violate(format!("{:?} got {name}", self.side));
                self.finish(tag, "", "BAD not here").await
            }
        }
    }

    /// News of the folder, what the command has to say, and its tagged answer, in one write.
    pub async fn finish(&mut self, tag: &str, untagged: &str, tagged: &str) -> io::Result<()> {
        let news = self.news() + &self.elsewhere();
        let mut text = format!("{untagged}{news}{tag} {tagged}\r\n");
        if self.does(Habit::Sloppy) {
            text = text.replace("\r\n", "  \r\n");
        }
        self.wire.send(text.as_bytes()).await
    }

    async fn authenticate(&mut self, tag: &str, arguments: &[Token]) -> io::Result<()> {
        if arguments.len() < 2 {
            self.wire.send(self.wire.plus("").as_bytes()).await?;
            self.wire.line().await?;
        } else if !self.capabilities().contains("SASL-IR") {
            self.stage.violate("an initial response without SASL-IR");
        }
        self.log_in(tag).await
    }

    async fn log_in(&mut self, tag: &str) -> io::Result<()> {
        let habits = self.traits().habits.clone();
        let throttling = habits.iter().find_map(|habit| match habit {
            Habit::Throttles(words) => Some(*words),
            _ => None,
        });
        if let Some(words) = throttling.filter(|_| self.is_early()) {
            let said =
                if words.starts_with("* ") { words.to_owned() } else { format!("{tag} {words}") };
            self.wire.send(format!("{said}\r\n").as_bytes()).await?;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.logged_in = true;
        let offers = self.capabilities();
        if self.does(Habit::OffersLater(Told::Untagged)) {
            self.finish(tag, &format!("* {offers}\r\n"), "OK welcome").await
        } else if self.does(Habit::OffersLater(Told::WhenAsked)) {
            self.finish(tag, "", "OK welcome").await
        } else {
            self.finish(tag, "", &format!("OK [{offers}] welcome")).await
        }
    }

    async fn list(&mut self, tag: &str, arguments: &[Token]) -> io::Result<()> {
        let pattern = arguments.get(1).map(Token::text).unwrap_or_default();
        let delimiter = self.traits().delimiter;
        if pattern.is_empty() {
            let untagged = format!("* LIST (\\Noselect) \"{delimiter}\" \"\"\r\n");
            return self.finish(tag, &untagged, "OK done").await;
        }
        let items: Vec<String> = arguments.iter().skip(2).map(Token::text).collect();
        let asks = |name: &str| items.iter().any(|item| item.eq_ignore_ascii_case(name));
        let (with_status, with_uses) = (asks("STATUS"), asks("SPECIAL-USE"));
        if with_status && !self.traits().has("LIST-STATUS") {
            self.stage.violate("LIST RETURN without LIST-STATUS");
        }
        if with_uses && !self.traits().has("SPECIAL-USE") {
            self.stage.violate("LIST RETURN SPECIAL-USE without SPECIAL-USE");
        }
        if !items.is_empty() && self.does(Habit::RefusesReturn) {
            return self.finish(tag, "", "BAD Error in IMAP command LIST").await;
        }
        let hides_inbox = !items.is_empty() && self.does(Habit::HidesInbox);
        let mut untagged = self.half().look(|account| {
            let mut untagged = String::new();
            let shown = if self.half_shown { account.folders.len() / 2 } else { usize::MAX };
            let names = account.folders.keys().take(shown);
            let names = names.filter(|name| !hides_inbox || *name != "INBOX");
            let names = names.filter(|name| self.is_shown(name));
            for name in names.filter(|name| pattern == "*" || **name == pattern) {
                let used = self.use_of(name);
                untagged += &format!("* LIST ({used}) \"{delimiter}\" {}\r\n", self.quoted(name));
                if with_status {
                    untagged += &self.status_line(account, name, &items);
                }
            }
            untagged
        });
        if self.does(Habit::ShowsOthers) && pattern == "*" {
            untagged += &format!("* LIST () \"{delimiter}\" Altri{delimiter}anna\r\n");
            untagged +=
                &format!("* LIST (\\All) \"{delimiter}\" \"{}Tutti\"\r\n", self.traits().prefix);
        }
        self.finish(tag, &untagged, "OK done").await
    }

    /// The attribute of a folder with a use of its own.
    fn use_of(&self, wire: &str) -> &'static str {
        let traits = self.traits();
        let found = traits.uses.iter().find(|(name, _)| traits.wire(name) == wire);
        found.filter(|_| traits.has("SPECIAL-USE")).map_or("", |(_, attribute)| attribute)
    }

    /// A folder's name as a quoted string.
    fn quoted(&self, name: &str) -> String {
        match self.does(Habit::Sloppy) {
            true => format!("\"{name}\""),
            false => format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")),
        }
    }

    async fn status(&mut self, tag: &str, arguments: &[Token]) -> io::Result<()> {
        let name = arguments.first().map(Token::text).unwrap_or_default();
        let items: Vec<String> = arguments.iter().skip(1).map(Token::text).collect();
        let line = self.half().look(|account| self.status_line(account, &name, &items));
        match line.is_empty() {
            true => self.finish(tag, "", "NO [NONEXISTENT] no such folder").await,
            false => self.finish(tag, &line, "OK done").await,
        }
    }

    fn status_line(&self, account: &Account, name: &str, items: &[String]) -> String {
        let frozen = self.view.as_ref().filter(|view| view.name == name);
        let frozen = frozen.and_then(|view| view.frozen.as_ref());
        let folder = account.folders.get(name).filter(|_| self.is_shown(name));
        let Some(folder) = frozen.or(folder) else { return String::new() };
        let values = items.iter().filter_map(|item| {
            let value = match item.to_ascii_uppercase().as_str() {
                "MESSAGES" => folder.messages.len().to_string(),
                "UIDNEXT" => self.told_next(folder.next).to_string(),
                "UIDVALIDITY" => self.told_validity(folder.validity).to_string(),
                "HIGHESTMODSEQ" => self.told_modseq(folder.modseq),
                _ => return None,
            };
            let is_told = !value.is_empty() && value != "NOMODSEQ";
            is_told.then(|| format!("{} {value}", item.to_ascii_uppercase()))
        });
        let values = values.collect::<Vec<_>>().join(" ");
        format!("* STATUS {} ({values})\r\n", self.quoted(name))
    }

    async fn select(&mut self, tag: &str, arguments: &[Token], read_only: bool) -> io::Result<()> {
        self.view = None;
        let name = arguments.first().map(Token::text).unwrap_or_default();
        self.condstore |= arguments.iter().any(|argument| argument.is("CONDSTORE"));
        let folder = self.half().look(|account| account.folders.get(&name).cloned());
        let Some(mut folder) = folder.filter(|_| self.is_shown(&name)) else {
            return self.finish(tag, "", "NO [NONEXISTENT] no such folder").await;
        };
        let half = self.half_shown || self.half().is_hiding(&name);
        if half {
            folder.messages.truncate(folder.messages.len() / 2);
        }
        let mut text = format!(
            "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n* {} EXISTS\r\n* 0 RECENT\r\n\
             * OK [UIDVALIDITY {}] ok\r\n",
            folder.messages.len(),
            self.told_validity(folder.validity) + self.examined(read_only),
        );
        if !self.does(Habit::Courier) {
            text += &format!("* OK [UIDNEXT {}] ok\r\n", self.told_next(folder.next));
        }
        match self.told_modseq(folder.modseq).as_str() {
            _ if !self.traits().has("CONDSTORE") => {}
            "" => {}
            "NOMODSEQ" => text += "* OK [NOMODSEQ] none here\r\n",
            modseq => text += &format!("* OK [HIGHESTMODSEQ {modseq}] ok\r\n"),
        }
        let any = if self.traits().keywords { " \\*" } else { "" };
        text += &format!(
            "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft{any})] ok\r\n"
        );
        let code = if read_only { "READ-ONLY" } else { "READ-WRITE" };
        text += &self.elsewhere();
        text += &format!("{tag} OK [{code}] selected\r\n");
        if let Some(notified) = &mut self.notified {
            notified.insert(name.clone(), mark(&folder));
        }
        let frozen = self.does(Habit::StaleWhileSelected).then(|| folder.clone());
        self.view = Some(View {
            frozen,
            validity: folder.validity,
            read_only,
            uids: folder.messages.iter().map(|message| message.uid).collect(),
            modseq: folder.modseq,
            seen: HashSet::new(),
            half,
            name,
        });
        self.wire.send(text.as_bytes()).await
    }

    /// What happened in the selected folder since it was last told.
    pub fn news(&mut self) -> String {
        let side = self.side;
        let (with_modseq, with_vanished) = (self.condstore, self.qresync);
        let asks = ["NOOP", "CHECK", "IDLE", "UID EXPUNGE", "UID MOVE"];
        if self.does(Habit::Courier) && !asks.contains(&self.command.as_str()) {
            return String::new();
        }
        let Some(view) = self.view.as_mut().filter(|view| !view.half && view.frozen.is_none())
        else {
            return String::new();
        };
        self.stage.half(side).look(|account| match account.folders.get(&view.name) {
            Some(folder) if folder.validity == view.validity => {
                told(view, folder, with_modseq, with_vanished)
            }
            _ => String::new(),
        })
    }

    fn marks(&self) -> BTreeMap<String, Mark> {
        let mark_of = |(name, folder): (&String, &Folder)| (name.clone(), mark(folder));
        self.half().look(|account| {
            account.folders.iter().filter(|(name, _)| self.is_shown(name)).map(mark_of).collect()
        })
    }

    /// What NOTIFY tells of the folders that are not selected.
    fn elsewhere(&mut self) -> String {
        let Some(before) = &self.notified else { return String::new() };
        let now = self.marks();
        let delimiter = self.traits().delimiter;
        let selected = self.view.as_ref().map(|view| view.name.as_str());
        let mut text = String::new();
        for (name, mark) in now.iter().filter(|(name, _)| Some(name.as_str()) != selected) {
            let told = before.get(name);
            let name = self.quoted(name);
            match told {
                Some(told) if told == mark => {}
                Some(_) => {
                    let (messages, next) = (mark.2, self.told_next(mark.1));
                    text += &format!("* STATUS {name} (MESSAGES {messages} UIDNEXT {next})\r\n");
                }
                None => text += &format!("* LIST () \"{delimiter}\" {name}\r\n"),
            }
        }
        for name in before.keys().filter(|name| !now.contains_key(*name)) {
            let name = self.quoted(name);
            text += &format!("* LIST (\\NonExistent) \"{delimiter}\" {name}\r\n");
        }
        self.notified = Some(now);
        if self.does(Habit::SilentNotify) { String::new() } else { text }
    }

    async fn idle(&mut self, tag: &str) -> io::Result<()> {
        let mut changed = self.half().changed.subscribe();
        if self.does(Habit::TellsBeforeIdling) {
            let news = self.news();
            self.wire.send(news.as_bytes()).await?;
        }
        self.wire.send(self.wire.plus("idling").as_bytes()).await?;
        if self.does(Habit::ClosesInIdle) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if self.does(Habit::DiesInIdle) && self.number == 0 {
            std::future::pending::<()>().await;
        }
        loop {
            let silent = self.does(Habit::SilentIdle);
            let news = if silent { String::new() } else { self.news() + &self.elsewhere() };
            if !news.is_empty() {
                self.stage.log(format!("{:?}#{} IDLE tells {news}", self.side, self.number));
                self.wire.send(news.as_bytes()).await?;
            }
            tokio::select! {
                biased;
                line = self.wire.line() => {
                    return match line?.eq_ignore_ascii_case(b"DONE") {
                        true => self.finish(tag, "", "OK idled").await,
                        false => Err(io::ErrorKind::InvalidData.into()),
                    };
                }
                _ = changed.changed() => {}
            }
            if self.is_lost() {
                self.wire.send(b"* BYE the folder is not what it was\r\n").await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }

    /// Carries out an effect as the plan has it, and answers.
    pub async fn effect(
        &mut self,
        tag: &str,
        what: &str,
        act: impl FnOnce(&Stage, usize) -> Answer + Send + 'static,
    ) -> io::Result<()> {
        let (number, fate) = self.stage.before_effect(what);
        match fate {
            Fate::Happens => {}
            Fate::Dropped => return Err(io::ErrorKind::ConnectionAborted.into()),
            Fate::Late { millis, silent } => {
                let what = what.to_owned();
                let late = move |stage: &Stage| {
                    stage.log(format!("late: {what}"));
                    act(stage, number);
                };
                if silent {
                    // The product gives up first.
                    let _ = self.wire.until_closed().await;
                }
                self.stage.delay(millis_of(millis), late);
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        let answer = act(&self.stage, number);
        self.wire.deaf |= self.stage.after_effect(number);
        self.finish(tag, &answer.untagged, &answer.tagged).await?;
        self.stage.log(format!("{:?}#{} answers {}", self.side, self.number, answer.tagged));
        self.stage.after_answer(number);
        Ok(())
    }
}

/// What happened in the folder since the view was last told.
fn told(view: &mut View, folder: &Folder, with_modseq: bool, with_vanished: bool) -> String {
    let mut text = String::new();
    for at in (0..view.uids.len()).rev() {
        if folder.message(view.uids[at]).is_none() {
            let uid = view.uids.remove(at);
            text += &match with_vanished {
                true => format!("* VANISHED {uid}\r\n"),
                false => format!("* {} EXPUNGE\r\n", at + 1),
            };
        }
    }
    let known = view.uids.len();
    let highest = view.uids.last().copied().unwrap_or(0);
    view.uids.extend(folder.messages.iter().map(|m| m.uid).filter(|uid| *uid > highest));
    if view.uids.len() > known {
        text += &format!("* {} EXISTS\r\n", view.uids.len());
    }
    for (at, uid) in view.uids[..known].iter().enumerate() {
        let message = folder.message(*uid).filter(|message| message.modseq > view.modseq);
        let Some(message) = message else { continue };
        let flags: Vec<&str> = message.flags.iter().map(String::as_str).collect();
        let (flags, modseq) = (flags.join(" "), message.modseq);
        text += &match with_modseq {
            true => {
                format!("* {} FETCH (UID {uid} MODSEQ ({modseq}) FLAGS ({flags}))\r\n", at + 1)
            }
            false => format!("* {} FETCH (FLAGS ({flags}))\r\n", at + 1),
        };
    }
    view.modseq = folder.modseq;
    text
}

pub fn millis_of(millis: u64) -> std::time::Duration {
    std::time::Duration::from_millis(millis)
}
