//! UID FETCH: listings and digests. Bodies as streams are in [`super::fetching`].

use std::collections::HashMap;
use std::num::NonZeroU64;

use imap_types::command::{CommandBody, FetchModifier};
use imap_types::sequence::SequenceSet;
use tokio::time::Instant;

use super::connection::{Ended, Said};
use super::decode::{Attributes, Data, Kind};
use super::encode::{self, Asked, Draft};
use super::fetching::{Fetching, Step};
use super::{Error, Selected, Session, quirks};
use crate::digest::Digester;
use crate::words::{Digests, Flags, HeaderDigest, InternalDate, Message, ModSeq, Uid};

/// Messages asked for at once when they are digested.
const WINDOW: usize = 64;
/// How many more messages than EXISTS a listing may hold before it is taken for an attack.
const SURPLUS_MAX: usize = 10_000;
/// What a listing may take in memory of a folder that is empty, and for each message that EXISTS
/// tells of: keywords may be long.
const LISTING_OCTETS: usize = 1024 * 1024;
const LISTED_OCTETS: usize = 1024;
/// Messages of one listing whose size or date cannot be read.
const UNREADABLE_MAX: usize = 100_000;

/// Ranges of vanished UIDs that are kept; the rest has to be found missing twice.
const VANISHED_RANGES_MAX: usize = 2_000;

/// What a message at the target looked like just before it is changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderSeen {
    pub uid: Uid,
    /// RFC822.SIZE.
    pub size: u64,
    pub instant: InternalDate,
    pub header: HeaderDigest,
    pub flags: Flags,
}

/// What changed in a folder since some MODSEQ.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Changes {
    /// Ascending.
    pub flags: Vec<(Uid, Flags)>,
    /// Ranges of UIDs that the server says vanished, if QRESYNC is enabled. Servers name more
    /// than did: also what never was.
    pub vanished: Vec<(u32, u32)>,
}

impl Changes {
    pub fn has_vanished(&self, uid: Uid) -> bool {
        self.vanished.iter().any(|(first, last)| (*first..=*last).contains(&uid.get()))
    }
}

/// A message that was downloaded and digested.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WholeSeen {
    pub uid: Uid,
    pub instant: InternalDate,
    pub flags: Flags,
    pub digests: Digests,
}

/// How a listing is asked for.
#[derive(Clone, Copy)]
enum How {
    Now,
    /// It was, by the command of that tag.
    Ahead(u32),
    /// With the bodies behind it, of so many messages.
    WithBodies {
        messages: usize,
    },
}

impl Session {
    /// Every message with UID ≥ `from` of the selected folder: UID FETCH from:* (UID FLAGS
    /// INTERNALDATE RFC822.SIZE), ascending, each once. UIDs below `from` are dropped (a server
    /// answers `n:*` with the last message even if its UID is lower).
    ///
    /// A message whose size or date cannot be read is asked for once more; if it still cannot be
    /// read, that is an error: it must not look as if it were not there.
    pub async fn list_messages(&mut self, from: Uid) -> Result<Vec<Message>, Error> {
        let ahead = if from.get() == 1 { self.listing_ahead() } else { None };
        self.list_from(from, ahead.map_or(How::Now, How::Ahead)).await
    }

    /// The same where so many messages must be there, and the bodies of all are asked for in the
    /// same flight, for [`Fetching::take_ahead`]. Any other command reads and drops them first.
    pub async fn list_with_bodies(
        &mut self,
        from: Uid,
        messages: usize,
    ) -> Result<Vec<Message>, Error> {
        self.list_from(from, How::WithBodies { messages }).await
    }

    async fn list_from(&mut self, from: Uid, how: How) -> Result<Vec<Message>, Error> {
        let mut listing = self.new_listing(|message: &Message| message.uid);
        listing.weight = |message| keyword_octets(&message.flags);
        let unreadable = self.list_into(&mut listing, since(from)?, from, how).await?;
        if self.is_ahead() && !unreadable.is_empty() {
            // The server has gone on to other folders: all of it once more, out of turn.
            let selected = self.selected.clone();
            self.forget_ahead().await?;
            if let Some(Selected { name, read_only, .. }) = selected {
                self.open(if read_only { "EXAMINE" } else { "SELECT" }, &name, read_only).await?;
            }
            return Box::pin(self.list_messages(from)).await;
        }
        for (set, _) in encode::sets(&unreadable) {
            let still = self.list_into(&mut listing, set, from, How::Now).await?;
            if let Some(uid) = still.first() {
                let text = format!("size or date of the message with UID {uid} cannot be read");
                return self.note(Err(Error::Protocol(text)));
            }
        }
        self.note(listing.finish())
    }

    /// Fetches metadata into the listing; returns the UIDs whose metadata could not be read.
    async fn list_into(
        &mut self,
        listing: &mut Listing<Message>,
        set: SequenceSet,
        from: Uid,
        how: How,
    ) -> Result<Vec<Uid>, Error> {
        let mut unreadable = Vec::new();
        let mut flags_changed = false;
        let each = |found: Attributes| {
            let Some(uid) = found.uid else {
                flags_changed = true;
                return Ok(());
            };
            match (found.flags, found.instant, found.size) {
                _ if uid < from => {}
                (Some(flags), Some(instant), Some(size)) => {
                    listing.push(Message { uid, flags, instant, size });
                }
                // Told unasked in between: newer flags, but no message.
                (Some(flags), None, None) if !found.tells_metadata => {
                    flags_changed = true;
                    listing.change(uid, |message| message.flags = flags);
                }
                _ if unreadable.len() < listing.most.min(UNREADABLE_MAX) => unreadable.push(uid),
                _ => listing.full = true,
            }
            listing.checked()
        };
        match how {
            How::Ahead(tag) => self.fetched_ahead(tag, each).await?,
            How::WithBodies { messages } => {
                self.fetch_before_bodies((from, messages), set, each).await?;
            }
            How::Now => {
                self.fetch_each(Draft::of(encode::fetch(set, Asked::Metadata)), each).await?;
            }
        }
        self.connection.inbound.news.flags_changed |= flags_changed;
        unreadable.retain(|uid| !listing.holds(*uid));
        Ok(unreadable)
    }

    /// UID FETCH 1:* (UID FLAGS) (CHANGEDSINCE n), with VANISHED where QRESYNC is enabled
    /// (RFC 7162, section 3.2.6). A server that enabled it and calls VANISHED nonsense is asked
    /// without it from then on.
    pub async fn list_changes(&mut self, since: ModSeq) -> Result<Changes, Error> {
        let mut listing = self.new_listing(|(uid, _): &(Uid, Flags)| *uid);
        listing.weight = |(_, flags)| keyword_octets(flags);
        let mut vanished = Vec::new();
        loop {
            let with_vanished = self.qresync;
            let draft = changed_since(since, with_vanished)?;
            let on = |said: Said<'_>| {
                match said {
                    Said::Data(Data::Fetch(found)) => {
                        if let (Some(uid), Some(flags)) = (found.uid, found.flags) {
                            listing.push((uid, flags));
                        }
                    }
                    Said::Data(Data::VanishedEarlier(ranges)) => {
                        let room = VANISHED_RANGES_MAX.saturating_sub(vanished.len());
                        vanished.extend(ranges.into_iter().take(room));
                    }
                    _ => {}
                }
                listing.checked()
            };
            let ended = self.fetch_with(draft, on).await?;
            if with_vanished && ended.condition.kind == Kind::Bad {
                self.qresync = false;
                continue;
            }
            self.note(ended.ok())?;
            let flags = self.note(listing.finish())?;
            return Ok(Changes { flags, vanished });
        }
    }

    /// UIDs of all messages of the selected folder, ascending.
    pub async fn list_uids(&mut self) -> Result<Vec<Uid>, Error> {
        let mut listing = self.new_listing(|uid: &Uid| *uid);
        let each = |found: Attributes| {
            if let Some(uid) = found.uid {
                listing.push(uid);
            }
            listing.checked()
        };
        self.fetch_each(Draft::of(encode::fetch(everything()?, Asked::Uids)), each).await?;
        self.note(listing.finish())
    }

    async fn fetch_each(
        &mut self,
        draft: Draft,
        mut each: impl FnMut(Attributes) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let on = |said: Said<'_>| match said {
            Said::Data(Data::Fetch(attributes)) => each(attributes),
            _ => Ok(()),
        };
        let ended = self.fetch_with(draft, on).await?;
        self.note(ended.ok()).map(|_| ())
    }

    async fn fetched_ahead(
        &mut self,
        tag: u32,
        mut each: impl FnMut(Attributes) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let on = |said: Said<'_>| match said {
            Said::Data(Data::Fetch(attributes)) => each(attributes),
            _ => Ok(()),
        };
        self.connection.inbound.fetching = true;
        let ended = self.connection.ended_unless(tag, "UID FETCH", on).await;
        self.connection.inbound.fetching = false;
        let ended = ended?;
        self.note(ended.ok()).map(|_| ())
    }

    async fn fetch_with(
        &mut self,
        draft: Draft,
        on: impl FnMut(Said<'_>) -> Result<(), Error>,
    ) -> Result<Ended, Error> {
        self.ready().await?;
        self.connection.inbound.fetching = true;
        let ended = self.connection.run_unless("UID FETCH", draft, on).await;
        self.connection.inbound.fetching = false;
        ended
    }

    fn new_listing<T>(&self, uid: fn(&T) -> Uid) -> Listing<T> {
        let exists = self.connection.inbound.exists as usize;
        let octets_max = LISTING_OCTETS.saturating_add(LISTED_OCTETS.saturating_mul(exists));
        // A vector that grows takes twice its size.
        let octets_max = octets_max.min(self.listing_octets_max / 2);
        Listing::new(uid, exists.saturating_add(SURPLUS_MAX), octets_max)
    }

    /// Size, instant, flags and header digest of each of `uids` that exists and that the server
    /// can give, as [`Session::digests`] says.
    ///
    /// Servers disagree about the header of a message without an empty line, so the odd ones are
    /// downloaded whole; without their body they are left out.
    pub async fn header_digests(&mut self, uids: &[Uid]) -> Result<Vec<HeaderSeen>, Error> {
        let (mut seen, mut odd) = (Vec::new(), Vec::new());
        let mut each = |attributes: &Attributes, digests: Digests| {
            let (Some(uid), Some(size), Some(instant)) =
                (attributes.uid, attributes.size, attributes.instant)
            else {
                return Err(Error::Protocol("a header came without its UID, size or date".into()));
            };
            if digests.suspect || digests.size >= size {
                odd.push(uid);
            }
            let flags = attributes.flags.clone().unwrap_or_default();
            seen.push(HeaderSeen { uid, size, instant, header: digests.header, flags });
            Ok(())
        };
        if let Some(refusal) = self.digest_each(uids, Asked::Headers, &mut each).await? {
            return Err(refusal);
        }
        let mut whole = HashMap::new();
        let mut each = |attributes: &Attributes, digests: Digests| {
            whole.extend(attributes.uid.map(|uid| (uid, digests.header)));
            Ok(())
        };
        let refusal = self.digest_each(&odd, Asked::Messages, &mut each).await?;
        match refusal.filter(|_| odd.len() == seen.len()) {
            Some(refusal) => Err(refusal),
            None => {
                seen.retain_mut(|one| match whole.get(&one.uid) {
                    Some(header) => {
                        one.header = *header;
                        true
                    }
                    None => !odd.contains(&one.uid),
                });
                Ok(seen)
            }
        }
    }

    /// Downloads and digests each of `uids` that exists and that the server can give.
    ///
    /// A message that is refused with NO (`[SERVERBUG]`, RFC 5530) is left out, like one that is
    /// not there. [`Error::No`] says that every one was refused, or that the server is throttling.
    pub async fn digests(&mut self, uids: &[Uid]) -> Result<Vec<(Uid, Digests)>, Error> {
        let mut found = Vec::new();
        let mut each = |attributes: &Attributes, digests: Digests| {
            let uid = attributes.uid;
            let uid = uid.ok_or_else(|| Error::Protocol("a body came without its UID".into()))?;
            found.push((uid, digests));
            Ok(())
        };
        match self.digest_each(uids, Asked::Messages, &mut each).await? {
            Some(refusal) => Err(refusal),
            None => Ok(found),
        }
    }

    /// The same with what the server says of each message beside its octets. A message that is
    /// refused is left out; so is one whose size or date cannot be read.
    pub async fn whole_messages(&mut self, uids: &[Uid]) -> Result<Vec<WholeSeen>, Error> {
        let mut seen = Vec::new();
        let mut each = |attributes: &Attributes, digests: Digests| {
            if let (Some(uid), Some(instant)) = (attributes.uid, attributes.instant) {
                let flags = attributes.flags.clone().unwrap_or_default();
                seen.push(WholeSeen { uid, instant, flags, digests });
            }
            Ok(())
        };
        match self.digest_each(uids, Asked::Messages, &mut each).await? {
            Some(refusal) => Err(refusal),
            None => Ok(seen),
        }
    }

    /// Streams what is asked for through the digests; the refusal, if there was nothing else. The
    /// order of attributes does not matter here: whose body it was may be said after it.
    ///
    /// One message can cost the answer to a whole command, so what a refused window did not give
    /// is asked for once more, one by one.
    async fn digest_each(
        &mut self,
        uids: &[Uid],
        asked: Asked,
        each: &mut Each<'_>,
    ) -> Result<Option<Error>, Error> {
        self.ready().await?;
        let mut fetching = self.fetching();
        let (mut accepted, mut refusal) = (false, None);
        for window in uids.chunks(WINDOW) {
            let mut left = window.to_vec();
            let Some(refused) = fetching.digest(window, asked, each, &mut left).await? else {
                accepted = true;
                continue;
            };
            accepted |= left.len() < window.len();
            refusal = Some(refused);
            for uid in left.into_iter().filter(|_| window.len() > 1) {
                match fetching.digest(&[uid], asked, each, &mut Vec::new()).await? {
                    None => accepted = true,
                    refused => refusal = refused,
                }
            }
        }
        Ok(refusal.filter(|_| !accepted))
    }
}

/// Is told what was said about a message, and its digests.
type Each<'e> = dyn FnMut(&Attributes, Digests) -> Result<(), Error> + Send + 'e;

impl Fetching<'_> {
    /// One window through the digests; its refusal, if it was one. What came is taken out of
    /// `left`.
    async fn digest(
        &mut self,
        uids: &[Uid],
        asked: Asked,
        each: &mut Each<'_>,
        left: &mut Vec<Uid>,
    ) -> Result<Option<Error>, Error> {
        self.ask(uids, asked).await?;
        loop {
            match self.step().await? {
                Step::Body { .. } => {
                    let begun = Instant::now();
                    let mut digester = Digester::new();
                    while let Some(octets) = self.chunk().await? {
                        digester.update(octets);
                    }
                    self.babble(begun.elapsed());
                    let attributes = self.take_attributes();
                    if attributes.uid.is_none_or(|uid| self.answer(uid)) {
                        each(&attributes, digester.finish()).map_err(|error| self.note(error))?;
                        left.retain(|uid| Some(*uid) != attributes.uid);
                    }
                }
                Step::NoBody(attributes) if !attributes.tells_metadata => self.hear_flags(),
                Step::NoBody(_) | Step::Examined(_) => {}
                Step::WindowDone { refused: None } => return Ok(None),
                Step::WindowDone { refused: Some((code, text)) } => {
                    let throttled = quirks::is_throttling(code.as_ref(), &text);
                    let refusal = Error::No { command: "UID FETCH", code, text };
                    return if throttled { Err(refusal) } else { Ok(Some(refusal)) };
                }
            }
        }
    }
}

fn since(from: Uid) -> Result<SequenceSet, Error> {
    set_of(&format!("{from}:*"))
}

fn changed_since(since: ModSeq, with_vanished: bool) -> Result<Draft, Error> {
    let mut body = encode::fetch(everything()?, Asked::UidsAndFlags);
    let since = NonZeroU64::new(since.0);
    if let (CommandBody::Fetch { modifiers, .. }, Some(since)) = (&mut body, since) {
        modifiers.push(FetchModifier::ChangedSince(since));
        if with_vanished {
            modifiers.push(FetchModifier::Vanished);
        }
    }
    Ok(Draft::of(body))
}

pub(super) fn everything() -> Result<SequenceSet, Error> {
    set_of("1:*")
}

fn set_of(text: &str) -> Result<SequenceSet, Error> {
    text.parse().map_err(|_| Error::Protocol(format!("{text} is no set of UIDs")))
}

/// What a FETCH lists, to be ascending and each once; of two answers the later counts.
struct Listing<T> {
    items: Vec<T>,
    uid: fn(&T) -> Uid,
    /// Octets that an item takes besides its own size.
    weight: fn(&T) -> usize,
    octets: usize,
    octets_max: usize,
    sorted: bool,
    most: usize,
    full: bool,
}

fn keyword_octets(flags: &Flags) -> usize {
    flags.keywords().map(|keyword| keyword.len() + size_of::<Box<str>>()).sum()
}

impl<T> Listing<T> {
    fn new(uid: fn(&T) -> Uid, most: usize, octets_max: usize) -> Listing<T> {
        Listing {
            items: Vec::new(),
            uid,
            weight: |_| 0,
            octets: 0,
            octets_max,
            sorted: true,
            most,
            full: false,
        }
    }

    fn push(&mut self, item: T) {
        let uid = (self.uid)(&item);
        self.sorted &= self.items.last().is_none_or(|last| (self.uid)(last) < uid);
        if self.items.len() >= self.most {
            self.sort();
            self.full |= self.items.len() >= self.most;
        }
        self.octets += size_of::<T>() + (self.weight)(&item);
        self.full |= self.octets > self.octets_max;
        if !self.full {
            self.items.push(item);
        }
    }

    fn change(&mut self, uid: Uid, change: impl FnOnce(&mut T)) {
        if let Ok(place) = self.place(uid) {
            change(&mut self.items[place]);
        }
    }

    fn holds(&mut self, uid: Uid) -> bool {
        self.place(uid).is_ok()
    }

    fn place(&mut self, uid: Uid) -> Result<usize, usize> {
        self.sort();
        self.items.binary_search_by_key(&uid, self.uid)
    }

    fn sort(&mut self) {
        if self.sorted {
            return;
        }
        let uid = self.uid;
        self.items.sort_by_key(uid);
        self.items.dedup_by(|later, earlier| {
            let same = uid(later) == uid(earlier);
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        self.sorted = true;
    }

    /// An error once there is more than can be.
    fn checked(&self) -> Result<(), Error> {
        match self.full {
            true => Err(Error::Protocol("a listing holds far more than can be".into())),
            false => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Vec<T>, Error> {
        self.sort();
        self.checked().map(|()| self.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_ascending_and_the_later_answer_counts() {
        let mut listing = Listing::new(|(uid, _): &(Uid, char)| *uid, 6, 1000);
        for (uid, said) in [(3, 'a'), (1, 'b'), (3, 'c'), (2, 'd'), (3, 'e')] {
            listing.push((Uid::new(uid).unwrap(), said));
        }
        listing.change(Uid::new(2).unwrap(), |(_, said)| *said = 'f');
        listing.change(Uid::new(9).unwrap(), |(_, said)| *said = 'g');
        let found: Vec<_> =
            listing.finish().unwrap().into_iter().map(|(uid, said)| (uid.get(), said)).collect();
        assert_eq!(found, [(1, 'b'), (2, 'f'), (3, 'e')]);
    }

    #[test]
    fn listings_are_bounded() {
        let mut listing = Listing::new(|uid: &Uid| *uid, 3, 1000);
        (1..9).for_each(|uid| listing.push(Uid::new(uid).unwrap()));
        assert!(listing.finish().is_err());

        let mut heavy = Listing::new(|uid: &Uid| *uid, usize::MAX, 1000);
        heavy.weight = |_| 300;
        (1..9).for_each(|uid| heavy.push(Uid::new(uid).unwrap()));
        assert_eq!(heavy.items.len(), 3);
        assert!(heavy.finish().is_err());
    }
}
