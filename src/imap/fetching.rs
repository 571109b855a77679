//! Bodies as streams: pipelined windows of UID FETCH (RFC 9051, 6.4.5).
//!
//! A body is never held. What [`Fetching::chunk`] gives is borrowed from the receive buffer of
//! the connection, and the end of a body is reported only when the whole response has been read.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use imap_types::sequence::SequenceSet;
use tokio::time::Instant;

use super::connection::{Event, Said, refusal, refused};
use super::decode::{Attributes, Body, Condition, Data, Kind};
use super::encode::{self, Asked, Draft};
use super::{Code, Error, Selected, Session, WireName};
use crate::words::{Message, Uid};

/// Pipelined UID FETCH windows whose bodies are read as streams.
pub struct Fetching<'s> {
    session: &'s mut Session,
    outstanding: VecDeque<Outstanding>,
    reading: Reading,
    /// What the response of the current body said so far.
    attributes: Attributes,
    /// The current body is nobody's: it is read and dropped.
    discarding: bool,
    /// What to tell when the current body has been dropped.
    afterwards: Option<Fetched>,
    /// How long the server has talked of what nobody asked for.
    babbled: Duration,
}

/// A body that comes more slowly than this, after a long grace, never ends.
const BODY_OCTETS_PER_SEC_MIN: u64 = 64;

/// The next thing a [`Fetching`] has to tell, in the order in which the server tells it. Bodies
/// of a window may come before the window before is done: Dovecot runs FETCHes side by side.
#[derive(Debug)]
pub enum Fetched {
    /// A body of `message.size` octets (the literal's length, not RFC822.SIZE) follows: read it
    /// with [`Fetching::chunk`] until `None`. `message.flags` are as fresh as the answer.
    Body { message: Message },
    /// The server had no body to give for this UID (NIL, an empty string for a message that its
    /// RFC822.SIZE says is not empty, or no literal).
    NoBody { uid: Uid },
    /// The oldest window is answered. `refused` is the NO, if it was one; messages of the window
    /// that came before it are complete.
    WindowDone { refused: Option<(Option<Code>, String)> },
    /// The oldest queued EXAMINE is answered.
    Examined(Result<Selected, Error>),
}

enum Outstanding {
    Window(Window),
    Examine { tag: u32, selected: Box<Selected> },
}

#[derive(Default)]
struct Window {
    tags: VecDeque<u32>,
    /// Ascending; whether it was answered.
    uids: Vec<(Uid, bool)>,
    single: Option<Box<Message>>,
    refused: Option<(Option<Code>, String)>,
}

enum Reading {
    Nothing,
    /// On the wire; so many octets of it were given and are still in the receive buffer.
    Wire {
        given: usize,
        taken: u64,
        waited: Duration,
    },
    /// It came as a quoted string.
    Held {
        octets: Vec<u8>,
        given: bool,
    },
}

/// What the server said next, before it is known whose it is.
pub(super) enum Step {
    Body { size: u64 },
    NoBody(Attributes),
    WindowDone { refused: Option<(Option<Code>, String)> },
    Examined(Result<Selected, Error>),
}

impl Session {
    /// Starts a conversation of pipelined body fetches. What is still outstanding when it is
    /// dropped makes the session unusable ([`Error::Protocol`] on the next command).
    pub fn fetching(&mut self) -> Fetching<'_> {
        self.connection.inbound.framer.stream_bodies(true);
        self.connection.inbound.fetching = true;
        Fetching {
            session: self,
            outstanding: VecDeque::new(),
            reading: Reading::Nothing,
            attributes: Attributes::default(),
            discarding: false,
            afterwards: None,
            babbled: Duration::ZERO,
        }
    }
}

impl Session {
    /// Lists messages from a UID on, and asks for the bodies of all of them in the same flight.
    ///
    /// Servers answer the listing itself when they please: Dovecot once the bodies are sent, too.
    /// So it ends as soon as it has told of as many messages as are there. Bodies that come before
    /// that are dropped, and whoever takes the rest has to ask for them again.
    pub(super) async fn fetch_before_bodies(
        &mut self,
        (from, messages): (Uid, usize),
        set: SequenceSet,
        mut each: impl FnMut(Attributes) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.ready().await?;
        for asked in [Asked::Metadata, Asked::Messages] {
            let tag = self.connection.issue(Draft::of(encode::fetch(set.clone(), asked)));
            self.bodies_ahead.push_back(tag);
        }
        let mut told = BTreeSet::new();
        let mut fetching = self.fetching();
        let tags = fetching.session.bodies_ahead.iter();
        let windows =
            tags.map(|tag| Outstanding::Window(Window::sent(VecDeque::from([*tag]), &[])));
        fetching.outstanding = windows.collect();
        while told.len() < messages {
            match fetching.step().await? {
                Step::NoBody(found) => {
                    told.extend(found.uid.filter(|uid| *uid >= from && found.is_whole()));
                    each(found).map_err(|error| fetching.note(error))?;
                }
                Step::Body { .. } => while fetching.chunk().await?.is_some() {},
                Step::WindowDone { refused } => {
                    fetching.session.bodies_ahead.pop_front();
                    return match refused {
                        None => Ok(()),
                        Some((code, text)) => Err(Error::No { command: "UID FETCH", code, text }),
                    };
                }
                Step::Examined(_) => {}
            }
        }
        Ok(())
    }

    /// Are bodies on their way that [`Session::list_with_bodies`] has asked for?
    pub fn has_bodies_ahead(&self) -> bool {
        !self.bodies_ahead.is_empty()
    }

    /// Reads such bodies, which nobody took, and forgets them.
    pub async fn drop_bodies(&mut self) -> Result<(), Error> {
        match self.has_bodies_ahead() {
            false => Ok(()),
            // Boxed: it is rare, and would make every command's future larger.
            true => Box::pin(self.drop_window()).await,
        }
    }

    async fn drop_window(&mut self) -> Result<(), Error> {
        let mut fetching = self.fetching();
        fetching.take_ahead(&[]);
        while !matches!(fetching.step().await?, Step::WindowDone { .. }) {
            while fetching.chunk().await?.is_some() {}
        }
        Ok(())
    }
}

impl Fetching<'_> {
    /// Takes the window that [`Session::list_with_bodies`] has sent behind its listing: of what
    /// comes in it `uids` are wanted. `false` if there is none: ask for it.
    pub fn take_ahead(&mut self, uids: &[Uid]) -> bool {
        let tags = std::mem::take(&mut self.session.bodies_ahead);
        let is_there = !tags.is_empty();
        if is_there {
            self.outstanding.push_back(Outstanding::Window(Window::sent(tags, uids)));
        }
        is_there
    }

    /// Sends `UID FETCH uids (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])`, in as many
    /// commands as line lengths ask for but as one window. Safe to cancel.
    pub async fn request(&mut self, uids: &[Uid]) -> Result<(), Error> {
        self.ask(uids, Asked::Messages).await
    }

    /// For servers that answer BODY before UID: one message, whose identity is known from the
    /// listing. Send the next one only after its [`Fetched::WindowDone`].
    pub async fn request_single(&mut self, message: &Message) -> Result<(), Error> {
        self.queue(&[message.uid], Asked::Messages)?;
        if let Some(Outstanding::Window(window)) = self.outstanding.back_mut() {
            window.single = Some(Box::new(message.clone()));
        }
        self.session.connection.flush("UID FETCH").await
    }

    /// Sends EXAMINE behind the windows already asked for. News of the folder before is
    /// forgotten when it is answered.
    pub async fn examine(&mut self, name: &WireName) -> Result<(), Error> {
        let draft = self.session.opening(name, true)?;
        self.ready()?;
        let tag = self.session.connection.issue(draft);
        let selected = Box::new(Selected::unheard(name, true));
        self.outstanding.push_back(Outstanding::Examine { tag, selected });
        self.session.connection.flush("EXAMINE").await
    }

    /// Waits for the next item. Every body must have been read to its end first. Safe to cancel.
    pub async fn next(&mut self) -> Result<Fetched, Error> {
        loop {
            if self.discarding {
                let begun = Instant::now();
                while self.chunk().await?.is_some() {}
                self.discarding = false;
                self.babbled += begun.elapsed();
            }
            if let Some(fetched) = self.afterwards.take() {
                return Ok(fetched);
            }
            let told = match self.step().await? {
                Step::Body { size } => self.whose(size)?,
                Step::NoBody(attributes) => self.bodiless(&attributes),
                Step::WindowDone { refused } => Some(Fetched::WindowDone { refused }),
                Step::Examined(selected) => Some(Fetched::Examined(selected)),
            };
            if let Some(fetched) = told {
                return Ok(fetched);
            }
        }
    }

    /// The next octets of the current body, borrowed from the receive buffer; `None` at its end.
    /// A connection that ends in mid-body is an error.
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>, Error> {
        match &mut self.reading {
            Reading::Nothing => return Ok(None),
            Reading::Held { octets, given } if *given || octets.is_empty() => {
                self.reading = Reading::Nothing;
                return Ok(None);
            }
            Reading::Held { given, .. } => *given = true,
            Reading::Wire { given, .. } => {
                self.session.connection.link.consume(std::mem::take(given));
                if self.session.connection.inbound.framer.body_left() == 0 {
                    self.end_response().await?;
                    return Ok(None);
                }
            }
        }
        match &mut self.reading {
            Reading::Held { octets, .. } => Ok(Some(octets)),
            Reading::Wire { given, taken, waited } => {
                let connection = &mut self.session.connection;
                let begun = Instant::now();
                let available = match connection.link.received("a body").await {
                    Ok(octets) => octets.len(),
                    Err(error) => return Err(connection.link.note(error)),
                };
                *waited += begun.elapsed();
                let allowed = Duration::from_secs(*taken / BODY_OCTETS_PER_SEC_MIN);
                if *waited > connection.link.command_within().saturating_add(allowed) {
                    return Err(connection.link.note(Error::TimedOut("a body")));
                }
                *given = connection.inbound.framer.take_body(available);
                *taken += *given as u64;
                let octets = connection.link.received("a body").await?;
                Ok(octets.get(..*given))
            }
            Reading::Nothing => Ok(None),
        }
    }

    /// Asks for a section of each message, as one window.
    pub(super) async fn ask(&mut self, uids: &[Uid], asked: Asked) -> Result<(), Error> {
        self.queue(uids, asked)?;
        self.session.connection.flush("UID FETCH").await
    }

    /// The server's next word. Safe to cancel.
    pub(super) async fn step(&mut self) -> Result<Step, Error> {
        if !matches!(self.reading, Reading::Nothing) {
            return Err(self.note(Error::Protocol("a body was not read to its end".into())));
        }
        loop {
            if let Some(done) = self.empty_window() {
                return Ok(done);
            }
            if self.outstanding.is_empty() {
                return Err(self.note(Error::Protocol("nothing was asked for".into())));
            }
            let begun = Instant::now();
            let event = self.session.connection.event("UID FETCH").await?;
            self.babbled += begun.elapsed();
            if self.babbled > self.session.connection.link.command_within() {
                return Err(self.note(Error::TimedOut("UID FETCH")));
            }
            match event {
                Event::Body(size, attributes) => {
                    self.attributes = attributes;
                    self.reading = Reading::Wire { given: 0, taken: 0, waited: Duration::ZERO };
                    return Ok(Step::Body { size });
                }
                Event::Data(Data::Fetch(attributes)) => return Ok(self.without_literal(attributes)),
                Event::Tagged(tag, condition) => {
                    self.babbled = Duration::ZERO;
                    let done = self.answered(tag, condition);
                    if let Some(step) = self.session.note(done)? {
                        return Ok(step);
                    }
                }
                Event::Untagged(condition) => self.hear(&Said::Condition(&condition)),
                Event::Data(data) => self.hear(&Said::Data(data)),
                Event::Continue => {}
            }
        }
    }

    /// What the response of the body read last said, before and after it.
    pub(super) fn take_attributes(&mut self) -> Attributes {
        std::mem::take(&mut self.attributes)
    }

    /// Ticks a UID off; `false` if it was not asked for or was answered before. Behind an EXAMINE
    /// the same UID is another folder's.
    pub(super) fn answer(&mut self, uid: Uid) -> bool {
        let mut here = self.outstanding.iter_mut().map_while(|outstanding| match outstanding {
            Outstanding::Window(window) => Some(window),
            Outstanding::Examine { .. } => None,
        });
        let is_asked = here.any(|window| window.answer(uid));
        if is_asked {
            self.babbled = Duration::ZERO;
        }
        is_asked
    }

    pub(super) fn note(&self, error: Error) -> Error {
        self.session.connection.link.note(error)
    }

    fn ready(&mut self) -> Result<(), Error> {
        if self.outstanding.is_empty() {
            return self.session.usable();
        }
        match self.session.connection.link.is_broken() {
            true => Err(self.session.connection.unusable()),
            false => Ok(()),
        }
    }

    fn queue(&mut self, uids: &[Uid], asked: Asked) -> Result<(), Error> {
        self.ready()?;
        let mut window = Window::of(uids);
        for (set, _) in encode::sets(uids) {
            let draft = Draft::of(encode::fetch(set, asked));
            window.tags.push_back(self.session.connection.issue(draft));
        }
        self.outstanding.push_back(Outstanding::Window(window));
        Ok(())
    }

    /// A window that asked for nothing is done as soon as its turn comes.
    fn empty_window(&mut self) -> Option<Step> {
        match self.outstanding.front() {
            Some(Outstanding::Window(window)) if window.tags.is_empty() => {
                self.outstanding.pop_front();
                Some(Step::WindowDone { refused: None })
            }
            _ => None,
        }
    }

    /// Reads the response after its body: other attributes may follow, even the UID.
    async fn end_response(&mut self) -> Result<(), Error> {
        let rest = match self.session.connection.event("UID FETCH").await? {
            Event::Data(Data::Fetch(rest)) => rest,
            _ => return Err(self.note(Error::Protocol("a body ends in no FETCH response".into()))),
        };
        if matches!((self.attributes.uid, rest.uid), (Some(before), Some(after)) if before != after)
        {
            return Err(self.note(Error::Protocol("one FETCH response names two UIDs".into())));
        }
        self.attributes.complete_from(Attributes { body: None, ..rest });
        self.reading = Reading::Nothing;
        let single = self.single().map(|message| message.uid);
        if single.is_some()
            && !self.discarding
            && self.attributes.uid.is_some_and(|uid| Some(uid) != single)
        {
            return Err(
                self.note(Error::Protocol("a body of another message than asked for".into()))
            );
        }
        Ok(())
    }

    /// A FETCH response without a literal: the body may stand in it as a quoted string.
    fn without_literal(&mut self, mut attributes: Attributes) -> Step {
        match attributes.body.take() {
            Some(Body::Octets(octets)) => {
                let size = octets.len() as u64;
                self.attributes = attributes;
                self.reading = Reading::Held { octets, given: false };
                Step::Body { size }
            }
            _ => Step::NoBody(attributes),
        }
    }

    /// A body begins: of which message? `None` if it is nobody's.
    fn whose(&mut self, size: u64) -> Result<Option<Fetched>, Error> {
        let single = self.single().cloned();
        let said = &self.attributes;
        let uid = said.uid.or(single.as_ref().map(|known| known.uid));
        let flags = said.flags.clone().or(single.as_ref().map(|known| known.flags.clone()));
        let instant = said.instant.or(single.as_ref().map(|known| known.instant));
        let expected = said.size.or(single.map(|known| known.size));
        let (Some(uid), Some(flags), Some(instant)) = (uid, flags, instant) else {
            return Err(self.note(Error::BodyBeforeUid));
        };
        if !self.answer(uid) {
            self.discarding = true;
            return Ok(None);
        }
        if size == 0 && expected.is_some_and(|expected| expected > 0) {
            self.discarding = true;
            self.afterwards = Some(Fetched::NoBody { uid });
            return Ok(None);
        }
        Ok(Some(Fetched::Body { message: Message { uid, flags, instant, size } }))
    }

    /// No body: either there is none to give, or it is an unsolicited change of flags.
    fn bodiless(&mut self, attributes: &Attributes) -> Option<Fetched> {
        let uid = attributes.uid.filter(|_| attributes.tells_metadata);
        match uid {
            Some(uid) if self.answer(uid) => Some(Fetched::NoBody { uid }),
            _ => {
                self.hear_flags();
                None
            }
        }
    }

    /// So long was said what may have been of no use; an answer forgives it.
    pub(super) fn babble(&mut self, this_long: Duration) {
        self.babbled += this_long;
    }

    /// Flags were told unasked.
    pub(super) fn hear_flags(&mut self) {
        self.session.connection.inbound.news.flags_changed = true;
    }

    fn single(&self) -> Option<&Message> {
        match self.outstanding.front() {
            Some(Outstanding::Window(window)) => window.single.as_deref(),
            _ => None,
        }
    }

    /// A tagged answer must be to the oldest command outstanding.
    fn answered(&mut self, tag: u32, condition: Condition) -> Result<Option<Step>, Error> {
        let out_of_order = || Error::Protocol("answers out of order".into());
        match self.outstanding.front_mut().ok_or_else(out_of_order)? {
            Outstanding::Window(window) => {
                if window.tags.pop_front() != Some(tag) {
                    return Err(out_of_order());
                }
                match condition.kind {
                    Kind::Ok => {}
                    Kind::No => window.refused = window.refused.take().or(Some(refused(condition))),
                    _ => return Err(Error::Bad { command: "UID FETCH", text: condition.words() }),
                }
                if !window.tags.is_empty() {
                    return Ok(None);
                }
                let refused = window.refused.take();
                self.outstanding.pop_front();
                Ok(Some(Step::WindowDone { refused }))
            }
            Outstanding::Examine { tag: expected, selected } => {
                if *expected != tag {
                    return Err(out_of_order());
                }
                selected.hear_condition(&condition);
                let selected = (**selected).clone();
                self.outstanding.pop_front();
                self.examined(selected, condition).map(Some)
            }
        }
    }

    fn examined(&mut self, selected: Selected, condition: Condition) -> Result<Step, Error> {
        match condition.kind {
            Kind::Ok => {
                self.session.opened(selected.clone());
                Ok(Step::Examined(Ok(selected)))
            }
            Kind::No => {
                self.session.selected = None;
                Ok(Step::Examined(Err(refusal("EXAMINE", condition))))
            }
            _ => Err(Error::Bad { command: "EXAMINE", text: condition.words() }),
        }
    }

    fn hear(&mut self, said: &Said<'_>) {
        if let Some(Outstanding::Examine { selected, .. }) = self.outstanding.front_mut() {
            selected.hear(said);
        }
    }
}

impl Window {
    fn of(uids: &[Uid]) -> Window {
        let mut uids: Vec<(Uid, bool)> = uids.iter().map(|uid| (*uid, false)).collect();
        uids.sort_unstable();
        Window { uids, ..Window::default() }
    }

    /// Asked for already, by these commands.
    fn sent(tags: VecDeque<u32>, uids: &[Uid]) -> Window {
        Window { tags, ..Window::of(uids) }
    }

    fn answer(&mut self, uid: Uid) -> bool {
        let place = self.uids.binary_search_by_key(&uid, |(uid, _)| *uid);
        place.is_ok_and(|place| !std::mem::replace(&mut self.uids[place].1, true))
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.session.connection.inbound.framer.stream_bodies(false);
        self.session.connection.inbound.fetching = false;
    }
}
