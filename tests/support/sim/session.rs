//! A server and its connections: greeting, login, folders, selection, IDLE.
//!
//! Strict on purpose: a command that a server may not get, or that uses what was not offered, is
//! a violation, and the world fails.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use tokio::io::DuplexStream;

use super::model::{Account, Folder};
use super::plan::{Reply, Side, Welcome};
use super::stage::{Fate, Half, Stage};
use super::traits::Traits;
use super::wire::{Command, Token, Wire};

/// Holds what a kernel would.
const PIPE_OCTETS: usize = 64 * 1024;

/// The product connects.
pub fn accept(stage: &Arc<Stage>, side: Side) -> io::Result<DuplexStream> {
    let (number, welcome) = stage.connection_comes(side);
    if welcome == Some(Welcome::Refused) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let (product, server) = tokio::io::duplex(PIPE_OCTETS);
    tokio::spawn(connection(stage.clone(), side, number, server, welcome));
    Ok(product)
}

/// Source and target have names of their own, because the product budgets by host.
pub fn host(side: Side) -> &'static str {
    match side {
        Side::Source => "source.example",
        Side::Target => "target.example",
    }
}

async fn connection(
    stage: Arc<Stage>,
    side: Side,
    number: usize,
    stream: DuplexStream,
    welcome: Option<Welcome>,
) {
    let wire = Wire::new(stream, stage.clone(), side, number);
    let mut session = Session {
        wire,
        stage: stage.clone(),
        side,
        number,
        condstore: false,
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
    number: usize,
    /// Modification sequences are told with flags.
    pub condstore: bool,
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
}

/// What an effect is answered with.
pub struct Answer {
    pub untagged: String,
    /// From OK on.
    pub tagged: String,
}

/// What the source may be told: nothing that changes it.
const HARMLESS: [&str; 14] = [
    "CAPABILITY",
    "AUTHENTICATE",
    "LOGIN",
    "ID",
    "ENABLE",
    "NAMESPACE",
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

    fn capabilities(&self) -> String {
        format!("CAPABILITY {}", self.traits().capabilities.join(" "))
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
            let failing = self.view.as_ref().is_some_and(|view| view.half);
            if name == "LOGOUT" || (failing && name == "UID FETCH" && !self.half().is_failing()) {
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
        if command.ran_ahead && !self.traits().has("LITERAL+") {
            self.stage.violate(format!("{} without LITERAL+", what()));
        }
        let needs = match name {
            "ID" | "ENABLE" | "NAMESPACE" | "IDLE" | "UNSELECT" => name,
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
            "LOGIN" => {
                let code = format!("OK [{}] welcome", self.capabilities());
                self.finish(tag, "", &code).await
            }
            "ID" => self.finish(tag, "* ID (\"name\" \"simulated\")\r\n", "OK done").await,
            "ENABLE" => {
                self.condstore = self.traits().has("CONDSTORE");
                self.finish(tag, "* ENABLED CONDSTORE\r\n", "OK done").await
            }
            "NAMESPACE" => {
                let Traits { prefix, delimiter, .. } = *self.traits();
                let untagged = format!("* NAMESPACE ((\"{prefix}\" \"{delimiter}\")) NIL NIL\r\n");
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
        let news = self.news();
        let text = format!("{untagged}{news}{tag} {tagged}\r\n");
        self.wire.send(text.as_bytes()).await
    }

    async fn authenticate(&mut self, tag: &str, arguments: &[Token]) -> io::Result<()> {
        if arguments.len() < 2 {
            self.wire.send(b"+ \r\n").await?;
            self.wire.line().await?;
        } else if !self.traits().has("SASL-IR") {
            self.stage.violate("an initial response without SASL-IR");
        }
        let code = format!("OK [{}] welcome", self.capabilities());
        self.finish(tag, "", &code).await
    }

    async fn list(&mut self, tag: &str, arguments: &[Token]) -> io::Result<()> {
        let pattern = arguments.get(1).map(Token::text).unwrap_or_default();
        let delimiter = self.traits().delimiter;
        if pattern.is_empty() {
            let untagged = format!("* LIST (\\Noselect) \"{delimiter}\" \"\"\r\n");
            return self.finish(tag, &untagged, "OK done").await;
        }
        if arguments.len() > 2 && !self.traits().has("LIST-STATUS") {
            self.stage.violate("LIST RETURN without LIST-STATUS");
        }
        let items: Vec<String> = arguments.iter().skip(2).map(Token::text).collect();
        let with_status = items.iter().any(|item| item.eq_ignore_ascii_case("STATUS"));
        let untagged = self.half().look(|account| {
            let mut untagged = String::new();
            let shown = if self.half_shown { account.folders.len() / 2 } else { usize::MAX };
            let names = account.folders.keys().take(shown);
            for name in names.filter(|name| pattern == "*" || **name == pattern) {
                untagged += &format!("* LIST () \"{delimiter}\" \"{name}\"\r\n");
                if with_status {
                    untagged += &status_line(account, name, &items);
                }
            }
            untagged
        });
        self.finish(tag, &untagged, "OK done").await
    }

    async fn status(&mut self, tag: &str, arguments: &[Token]) -> io::Result<()> {
        let name = arguments.first().map(Token::text).unwrap_or_default();
        let items: Vec<String> = arguments.iter().skip(1).map(Token::text).collect();
        let line = self.half().look(|account| status_line(account, &name, &items));
        match line.is_empty() {
            true => self.finish(tag, "", "NO [NONEXISTENT] no such folder").await,
            false => self.finish(tag, &line, "OK done").await,
        }
    }

    async fn select(&mut self, tag: &str, arguments: &[Token], read_only: bool) -> io::Result<()> {
        self.view = None;
        let name = arguments.first().map(Token::text).unwrap_or_default();
        self.condstore |= arguments.iter().any(|argument| argument.is("CONDSTORE"));
        let folder = self.half().look(|account| account.folders.get(&name).cloned());
        let Some(mut folder) = folder else {
            return self.finish(tag, "", "NO [NONEXISTENT] no such folder").await;
        };
        let half = self.half_shown;
        if half {
            folder.messages.truncate(folder.messages.len() / 2);
        }
        let mut text = format!(
            "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n* {} EXISTS\r\n* 0 RECENT\r\n\
             * OK [UIDVALIDITY {}] ok\r\n* OK [UIDNEXT {}] ok\r\n",
            folder.messages.len(),
            folder.validity,
            folder.next
        );
        if self.traits().has("CONDSTORE") {
            text += &format!("* OK [HIGHESTMODSEQ {}] ok\r\n", folder.modseq);
        }
        let any = if self.traits().keywords { " \\*" } else { "" };
        text += &format!(
            "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft{any})] ok\r\n"
        );
        let code = if read_only { "READ-ONLY" } else { "READ-WRITE" };
        text += &format!("{tag} OK [{code}] selected\r\n");
        self.view = Some(View {
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
        let with_modseq = self.condstore;
        let Some(view) = self.view.as_mut().filter(|view| !view.half) else {
            return String::new();
        };
        self.stage.half(side).look(|account| match account.folders.get(&view.name) {
            Some(folder) if folder.validity == view.validity => told(view, folder, with_modseq),
            _ => String::new(),
        })
    }

    async fn idle(&mut self, tag: &str) -> io::Result<()> {
        let mut changed = self.half().changed.subscribe();
        self.wire.send(b"+ idling\r\n").await?;
        loop {
            let news = self.news();
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
fn told(view: &mut View, folder: &Folder, with_modseq: bool) -> String {
    let mut text = String::new();
    for at in (0..view.uids.len()).rev() {
        if folder.message(view.uids[at]).is_none() {
            text += &format!("* {} EXPUNGE\r\n", at + 1);
            view.uids.remove(at);
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

fn status_line(account: &Account, name: &str, items: &[String]) -> String {
    let Some(folder) = account.folders.get(name) else { return String::new() };
    let values = items.iter().filter_map(|item| {
        let value = match item.to_ascii_uppercase().as_str() {
            "MESSAGES" => folder.messages.len() as u64,
            "UIDNEXT" => folder.next.into(),
            "UIDVALIDITY" => folder.validity.into(),
            "HIGHESTMODSEQ" => folder.modseq,
            _ => return None,
        };
        Some(format!("{} {value}", item.to_ascii_uppercase()))
    });
    format!("* STATUS \"{name}\" ({})\r\n", values.collect::<Vec<_>>().join(" "))
}

pub fn millis_of(millis: u64) -> std::time::Duration {
    std::time::Duration::from_millis(millis)
}
