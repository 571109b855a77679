//! Commands out, answers in: pairs tags with answers, and keeps what a server says unasked.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use tokio::time::timeout;

use super::decode::{self, Attributes, Condition, Data, Kind, Response};
use super::encode::Draft;
use super::link::Link;
use super::notify::Notify;
use super::outbound::Outbound;
use super::wire::{Frame, Framer};
use super::{Code, Error, News};
use crate::words::Uid;

/// How many UIDs of VANISHED are remembered; those beyond count as expunged.
const VANISHED_MAX: usize = 10_000;

pub(super) struct Connection {
    pub link: Link,
    pub inbound: Inbound,
    pub outbound: Outbound,
}

/// Something the server said.
#[derive(Debug)]
pub(super) enum Event {
    /// A body of that many octets begins, with what its response said before it.
    Body(u64, Attributes),
    Tagged(u32, Condition),
    Untagged(Condition),
    Continue,
    Data(Data),
}

/// A command's tagged answer.
#[derive(Debug)]
pub(super) struct Ended {
    pub condition: Condition,
    command: &'static str,
}

impl Ended {
    /// OK, or the refusal as an error.
    pub fn ok(self) -> Result<Condition, Error> {
        match self.condition.kind {
            Kind::Ok => Ok(self.condition),
            Kind::No => Err(refusal(self.command, self.condition)),
            _ => Err(Error::Bad { command: self.command, text: self.condition.words() }),
        }
    }
}

/// A NO as an error, its code cut to a bound.
pub(super) fn refusal(command: &'static str, condition: Condition) -> Error {
    let (code, text) = refused(condition);
    Error::No { command, code, text }
}

/// Code and text of a NO, bounded.
pub(super) fn refused(condition: Condition) -> (Option<Code>, String) {
    let code = condition.code.map(|code| Code {
        name: decode::readable(code.name.as_bytes()),
        rest: decode::readable(code.rest.as_bytes()),
    });
    (code, condition.text)
}

impl Connection {
    pub fn new(link: Link) -> Connection {
        let prefix = random_prefix();
        Connection { link, inbound: Inbound::new(&prefix), outbound: Outbound::new(&prefix) }
    }

    /// Can a new command be sent? Not after a fatal error, nor while the answer to a command
    /// whose future was dropped is still to come.
    pub fn ready(&mut self) -> Result<(), Error> {
        self.idle_done();
        if !self.link.is_broken() && self.inbound.nothing_awaited() {
            return Ok(());
        }
        Err(self.unusable())
    }

    pub fn unusable(&self) -> Error {
        self.link.note(Error::Protocol("this connection can no longer be used".into()))
    }

    /// Queues a command; it goes out with the next wait for an answer.
    pub fn issue(&mut self, draft: Draft) -> u32 {
        let tag = self.outbound.command(draft);
        self.inbound.awaiting.push_back(tag);
        tag
    }

    pub async fn flush(&mut self, what: &'static str) -> Result<(), Error> {
        let flushed = self.outbound.flush(&self.link, what).await;
        flushed.map_err(|error| self.link.note(error))
    }

    /// Sends what can be sent, then waits for the server's next word. Safe to cancel.
    pub async fn event(&mut self, what: &'static str) -> Result<Event, Error> {
        let event = self.next_event(what).await;
        event.map_err(|error| self.link.note(error))
    }

    async fn next_event(&mut self, what: &'static str) -> Result<Event, Error> {
        loop {
            self.outbound.flush(&self.link, what).await?;
            let event = self.inbound.event(&self.link, what).await?;
            if let Some(event) = self.account_for(event)? {
                return Ok(event);
            }
        }
    }

    /// Like [`Connection::event`], for as long as the server pleases. Safe to cancel.
    pub async fn unhurried_event(&mut self, what: &'static str) -> Result<Event, Error> {
        let event = async {
            self.outbound.flush(&self.link, what).await?;
            loop {
                let Some(frame) = self.link.feed(&mut self.inbound.framer).await? else { continue };
                let event = self.inbound.understand(frame, what)?;
                if let Some(event) = self.account_for(event)? {
                    return Ok(event);
                }
            }
        };
        let event = event.await;
        event.map_err(|error| self.link.note(error))
    }

    /// Opens gates and ticks off tags; what remains is for the caller.
    fn account_for(&mut self, event: Event) -> Result<Option<Event>, Error> {
        match &event {
            Event::Continue if self.outbound.open_gate() => return Ok(None),
            Event::Tagged(tag, condition) => {
                self.outbound.forget(*tag);
                if self.inbound.ends_idle(*tag, condition)? {
                    return Ok(None);
                }
                self.inbound.answered(*tag)?;
            }
            _ => {}
        }
        Ok(Some(event))
    }

    /// Waits for the answer to `tag`; everything untagged is shown to `on` as it comes. A server
    /// that keeps talking instead has its limit, too.
    pub async fn ended(
        &mut self,
        tag: u32,
        command: &'static str,
        mut on: impl FnMut(Said<'_>),
    ) -> Result<Ended, Error> {
        let on = |said: Said<'_>| {
            on(said);
            Ok(())
        };
        self.ended_unless(tag, command, on).await
    }

    /// Like [`Connection::ended`], until `on` has had enough.
    pub async fn ended_unless(
        &mut self,
        tag: u32,
        command: &'static str,
        on: impl FnMut(Said<'_>) -> Result<(), Error>,
    ) -> Result<Ended, Error> {
        let within = self.link.command_within();
        let ended = timeout(within, self.answer_to(tag, command, on)).await;
        ended.unwrap_or_else(|_| Err(self.link.note(Error::TimedOut(command))))
    }

    async fn answer_to(
        &mut self,
        tag: u32,
        command: &'static str,
        mut on: impl FnMut(Said<'_>) -> Result<(), Error>,
    ) -> Result<Ended, Error> {
        loop {
            let heard = match self.event(command).await? {
                Event::Tagged(ended, condition) if ended == tag => {
                    return Ok(Ended { condition, command });
                }
                Event::Tagged(..) => {
                    return Err(self.link.note(Error::Protocol("answers out of order".into())));
                }
                Event::Body(..) => {
                    return Err(self.link.note(Error::Protocol("a body nobody asked for".into())));
                }
                Event::Untagged(condition) => on(Said::Condition(&condition)),
                Event::Data(data) => on(Said::Data(data)),
                Event::Continue => Ok(()),
            };
            heard.map_err(|error| self.link.note(error))?;
        }
    }

    /// An answer whose command was not waited for with [`Connection::ended`].
    pub fn as_ended(&self, command: &'static str, condition: Condition) -> Ended {
        Ended { condition, command }
    }

    /// One command, start to end.
    pub async fn run(
        &mut self,
        command: &'static str,
        draft: Draft,
        on: impl FnMut(Said<'_>),
    ) -> Result<Ended, Error> {
        self.ready()?;
        let tag = self.issue(draft);
        self.ended(tag, command, on).await
    }

    /// Like [`Connection::run`], until `on` has had enough: the connection is of no use then.
    pub async fn run_unless(
        &mut self,
        command: &'static str,
        draft: Draft,
        on: impl FnMut(Said<'_>) -> Result<(), Error>,
    ) -> Result<Ended, Error> {
        self.ready()?;
        let tag = self.issue(draft);
        self.ended_unless(tag, command, on).await
    }

    /// One command of which only the answer matters; a BAD makes the connection unusable.
    pub async fn simple(
        &mut self,
        command: &'static str,
        draft: Draft,
    ) -> Result<Condition, Error> {
        let ended = self.run(command, draft, |_| {}).await?;
        ended.ok().map_err(|error| self.link.note(error))
    }

    /// If the server idles, queues DONE.
    pub fn idle_done(&mut self) {
        if let Idle::Idling(tag) = self.inbound.idle {
            self.outbound.raw(b"DONE\r\n");
            self.inbound.idle = Idle::Ending(tag);
        }
    }
}

/// What comes untagged during a command.
pub(super) enum Said<'a> {
    Condition(&'a Condition),
    Data(Data),
}

/// Where the connection stands with IDLE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Idle {
    No,
    Idling(u32),
    /// DONE is queued or sent; the tagged answer is still to come.
    Ending(u32),
}

/// Which of the responses that also come unasked (RFC 5465) were asked for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub lists: bool,
    pub statuses: bool,
}

pub(super) struct Inbound {
    pub framer: Framer,
    awaiting: VecDeque<u32>,
    pub idle: Idle,
    pub news: News,
    /// The last EXISTS of the selected folder; taking the news does not forget it.
    pub exists: u32,
    /// News came that no [`super::Session::idle_wait`] has told yet.
    pub untold: bool,
    /// A FETCH is running: its answers are no news, whoever reads them tells the rest.
    pub fetching: bool,
    /// What the running command asks for: such answers are no news of elsewhere either.
    pub asked: Asked,
    pub notify: Notify,
    /// Capabilities told unasked.
    pub capabilities: Option<Vec<String>>,
    prefix: String,
}

impl Inbound {
    fn new(prefix: &str) -> Inbound {
        Inbound {
            framer: Framer::new(),
            awaiting: VecDeque::new(),
            idle: Idle::No,
            news: News::default(),
            exists: 0,
            untold: false,
            fetching: false,
            asked: Asked::default(),
            notify: Notify::Off,
            capabilities: None,
            prefix: prefix.to_owned(),
        }
    }

    fn nothing_awaited(&self) -> bool {
        let idle = match self.idle {
            Idle::Ending(tag) | Idle::Idling(tag) => Some(tag),
            Idle::No => None,
        };
        self.framer.body_left() == 0 && self.awaiting.iter().all(|tag| Some(*tag) == idle)
    }

    /// The next thing the server says. BYE, an untagged BAD and anything that cannot be framed
    /// are errors. Tags are not checked here. Safe to cancel.
    pub async fn event(&mut self, link: &Link, what: &'static str) -> Result<Event, Error> {
        let frame = link.frame(&mut self.framer, what).await?;
        self.understand(frame, what)
    }

    /// What a complete frame means.
    pub fn understand(&mut self, frame: Frame, what: &'static str) -> Result<Event, Error> {
        if let Frame::Body(size) = frame {
            return Ok(Event::Body(size, self.attributes_so_far()));
        }
        match decode::response(self.framer.held()) {
            Response::Tagged { tag, condition } => {
                let number = tag.strip_prefix(&self.prefix).and_then(|rest| rest.parse().ok());
                match number {
                    Some(number) => Ok(Event::Tagged(number, condition)),
                    None if condition.kind == Kind::Bad => {
                        Err(Error::Bad { command: what, text: condition.words() })
                    }
                    None => Err(Error::Protocol("an answer to a tag we never sent".into())),
                }
            }
            Response::Untagged(condition) => self.untagged(condition, what),
            Response::Continue => Ok(Event::Continue),
            Response::Data(data) => {
                self.hear(&data);
                Ok(Event::Data(data))
            }
        }
    }

    /// The response up to its body is closed for the decoders.
    fn attributes_so_far(&self) -> Attributes {
        let closed = [self.framer.held(), b")\r\n"].concat();
        match decode::response(&closed) {
            Response::Data(Data::Fetch(attributes)) => Attributes { body: None, ..attributes },
            _ => Attributes::default(),
        }
    }

    fn untagged(&mut self, condition: Condition, what: &'static str) -> Result<Event, Error> {
        match condition.kind {
            Kind::Bye => Err(Error::Closed { bye: Some(condition.words()) }),
            Kind::Bad => Err(Error::Bad { command: what, text: condition.words() }),
            _ => {
                if let Some(list) = condition.code("CAPABILITY") {
                    self.capabilities = Some(decode::capabilities(list));
                }
                if condition.code("NOTIFICATIONOVERFLOW").is_some() {
                    self.hear_elsewhere();
                    self.notify = Notify::Off;
                }
                Ok(Event::Untagged(condition))
            }
        }
    }

    fn hear(&mut self, data: &Data) {
        match data {
            Data::Exists(exists) => {
                self.news.exists = Some(*exists);
                self.exists = *exists;
            }
            Data::Expunge => {
                self.news.expunged = self.news.expunged.saturating_add(1);
                self.exists = self.exists.saturating_sub(1);
            }
            Data::Vanished(ranges) => self.hear_vanished(ranges),
            Data::Fetch(attributes) if attributes.flags.is_some() && !self.fetching => {
                self.news.flags_changed = true;
            }
            Data::Capability(atoms) => {
                self.capabilities = Some(atoms.clone());
                return;
            }
            Data::List(_) if !self.asked.lists => return self.hear_elsewhere(),
            Data::Status(_) if !self.asked.statuses => return self.hear_elsewhere(),
            _ => return,
        }
        self.untold = true;
    }

    /// Something was said unasked about another folder. Without NOTIFY it means nothing.
    pub fn hear_elsewhere(&mut self) {
        if self.notify == Notify::On {
            self.news.elsewhere = true;
            self.untold = true;
        }
    }

    fn hear_vanished(&mut self, ranges: &[(u32, u32)]) {
        let uids = ranges.iter().flat_map(|(first, last)| *first..=*last);
        let room = VANISHED_MAX.saturating_sub(self.news.vanished.len());
        let total: u64 = ranges.iter().map(|(first, last)| u64::from(last - first) + 1).sum();
        let gone = u32::try_from(total).unwrap_or(u32::MAX);
        self.exists = self.exists.saturating_sub(gone);
        self.news.vanished.extend(uids.take(room).filter_map(Uid::new));
        let beyond = u32::try_from(total.saturating_sub(room as u64)).unwrap_or(u32::MAX);
        self.news.expunged = self.news.expunged.saturating_add(beyond);
    }

    fn answered(&mut self, tag: u32) -> Result<(), Error> {
        let place = self.awaiting.iter().position(|awaited| *awaited == tag);
        let place = place.ok_or_else(|| Error::Protocol("a second answer to one tag".into()))?;
        self.awaiting.remove(place);
        Ok(())
    }

    /// Is this the answer to an IDLE that was told DONE? It is nobody's business then.
    pub fn ends_idle(&mut self, tag: u32, condition: &Condition) -> Result<bool, Error> {
        if self.idle != Idle::Ending(tag) {
            return Ok(false);
        }
        self.idle = Idle::No;
        self.answered(tag)?;
        match condition.kind {
            Kind::Ok | Kind::No => Ok(true),
            _ => Err(Error::Bad { command: "IDLE", text: condition.words() }),
        }
    }
}

/// Five letters that a message planted in advance cannot know.
fn random_prefix() -> String {
    let random = RandomState::new().hash_one(0u8);
    (0..5).map(|at| char::from(b'a' + (random >> (8 * at) & 0xff) as u8 % 26)).collect()
}
