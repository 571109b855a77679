//! One authenticated connection: capabilities, the selected folder, and what was said unasked.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use imap_types::command::{CommandBody, SelectParameter};
use tokio::time::timeout;

use super::ahead::Ahead;
use super::append::Exchange;
use super::connection::{Connection, Said};
use super::decode::{Condition, Data};
use super::encode::{self, Draft};
use super::scan::{self, Cursor};
use super::{Error, Namespace, WireName};
use crate::words::{Flags, ModSeq, SystemFlags, Uid, UidValidity};

/// What the server offers after login.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// Upper-case atoms as offered, e.g. `LITERAL+`.
    pub atoms: Vec<String>,
}

impl Capabilities {
    pub fn has(&self, atom: &str) -> bool {
        self.atoms.iter().any(|offered| offered.eq_ignore_ascii_case(atom))
    }
}

/// PERMANENTFLAGS of a selected folder.
#[derive(Clone, Default, Debug)]
pub struct PermanentFlags {
    pub flags: Flags,
    /// `\*`: new keywords may be created.
    pub any_keyword: bool,
    /// The server sent none: everything may be tried (RFC 3501, 6.3.1).
    pub unstated: bool,
}

impl PermanentFlags {
    /// May the flag of that wire name be stored, and is it safe to send?
    pub fn admits(&self, name: &str) -> bool {
        let is_keyword = SystemFlags::of_name(name).is_none();
        encode::is_safe_flag(name)
            && (self.unstated
                || (self.any_keyword && is_keyword)
                || self.flags.names().any(|listed| listed.eq_ignore_ascii_case(name)))
    }

    fn parse(list: &str) -> PermanentFlags {
        let words = scan::words(&mut Cursor::new(list.as_bytes())).unwrap_or_default();
        PermanentFlags {
            flags: Flags::of_names(words.iter().take(scan::FLAGS_MAX).map(|word| &**word)),
            any_keyword: words.iter().any(|word| word == "\\*"),
            unstated: false,
        }
    }
}

/// What SELECT or EXAMINE said.
#[derive(Clone, Debug)]
pub struct Selected {
    pub name: WireName,
    pub uid_validity: UidValidity,
    /// Absent where the server does not say (Courier): see [`Selected::numbers_may_change`].
    pub uid_next: Option<u32>,
    pub exists: u32,
    /// `None` where the folder keeps no modification sequences.
    pub highest_modseq: Option<ModSeq>,
    pub permanent_flags: PermanentFlags,
    pub read_only: bool,
}

impl Selected {
    /// May a UID mean another message the next time, at the same UIDVALIDITY? Courier's EXAMINE
    /// numbers what came since the last SELECT by itself and keeps nothing of it, not even the
    /// UIDVALIDITY of a folder that nobody has selected. It tells no UIDNEXT; others do.
    pub fn numbers_may_change(&self) -> bool {
        self.uid_next.is_none()
    }

    /// Nothing heard yet.
    pub(super) fn unheard(name: &WireName, read_only: bool) -> Selected {
        Selected {
            name: name.clone(),
            uid_validity: UidValidity(0),
            uid_next: None,
            exists: 0,
            highest_modseq: None,
            permanent_flags: PermanentFlags { unstated: true, ..PermanentFlags::default() },
            read_only,
        }
    }

    pub(super) fn hear(&mut self, said: &Said<'_>) {
        match said {
            Said::Condition(condition) => self.hear_condition(condition),
            Said::Data(Data::Exists(exists)) => self.exists = *exists,
            Said::Data(_) => {}
        }
    }

    /// The codes of RFC 9051, 6.3.2 and RFC 7162, 3.1.2, tagged or not. A value that cannot be
    /// read counts as not said.
    pub(super) fn hear_condition(&mut self, condition: &Condition) {
        let Some(code) = &condition.code else { return };
        match code.name.as_str() {
            "UIDVALIDITY" => self.uid_validity = UidValidity(code.rest.parse().unwrap_or(0)),
            "UIDNEXT" => self.uid_next = code.rest.parse().ok().filter(|uid_next| *uid_next != 0),
            "HIGHESTMODSEQ" => {
                let modseq = code.rest.parse().ok().filter(|modseq| *modseq != 0);
                self.highest_modseq = modseq.map(ModSeq);
            }
            "NOMODSEQ" => self.highest_modseq = None,
            "PERMANENTFLAGS" => self.permanent_flags = PermanentFlags::parse(&code.rest),
            "READ-ONLY" => self.read_only = true,
            _ => {}
        }
    }
}

/// What the server said unasked since it was last taken: about the selected folder, and that
/// something happened elsewhere.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct News {
    /// The last EXISTS, if there was one.
    pub exists: Option<u32>,
    /// How many EXPUNGE responses came.
    pub expunged: u32,
    /// UIDs named by VANISHED.
    pub vanished: Vec<Uid>,
    /// Some FETCH told new flags.
    pub flags_changed: bool,
    /// Something happened in another folder, or to the folders themselves; only after
    /// [`Session::notify`] (RFC 5465). Selecting another folder does not forget it.
    pub elsewhere: bool,
}

/// An authenticated connection. Dropping it closes the connection without a word.
///
/// A future of one of its methods that is dropped before its end leaves the session unusable
/// ([`Error::Protocol`] from then on), unless the method says that it is safe to cancel.
pub struct Session {
    pub(super) connection: Connection,
    pub(super) capabilities: Arc<Capabilities>,
    pub(super) namespace: Namespace,
    /// Prefixes of other users' and shared folders.
    pub(super) others: Vec<Vec<u8>>,
    pub(super) server_name: String,
    pub(super) selected: Option<Selected>,
    pub(super) skipped: Vec<WireName>,
    /// QRESYNC was enabled, and the server has not been found not to mean it.
    pub(super) qresync: bool,
    /// What one listing may take in memory.
    pub(super) listing_octets_max: usize,
    pub(super) exchange: Box<Exchange>,
    /// Commands sent ahead, whose answers are still to be taken.
    pub(super) ahead: VecDeque<Ahead>,
    /// The command that asks for the bodies of what was listed last, sent behind the listing, and
    /// before it that of the listing if it is not answered yet.
    pub(super) bodies_ahead: VecDeque<u32>,
    /// ID, ENABLE and NAMESPACE were sent.
    pub(super) introduced: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Session");
        shown.field("server_name", &self.server_name).field("selected", &self.selected);
        shown.finish_non_exhaustive()
    }
}

impl News {
    /// Did the server itself say that all of `missing` went? EXPUNGE does not say which.
    pub fn explains<'a>(&self, missing: impl IntoIterator<Item = &'a Uid>) -> bool {
        let named: BTreeSet<&Uid> = self.vanished.iter().collect();
        let unnamed = missing.into_iter().filter(|uid| !named.contains(uid)).count();
        unnamed <= self.expunged as usize
    }
}

impl Session {
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// `false` after an error that left the connection in doubt: every command would fail.
    pub fn is_usable(&self) -> bool {
        !self.connection.link.is_broken()
    }

    /// The personal namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The server's own name for itself (ID), or the text of its greeting.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    pub async fn examine(&mut self, name: &WireName) -> Result<Selected, Error> {
        self.open("EXAMINE", name, true).await
    }

    pub async fn select(&mut self, name: &WireName) -> Result<Selected, Error> {
        self.open("SELECT", name, false).await
    }

    pub(super) async fn open(
        &mut self,
        command: &'static str,
        name: &WireName,
        read_only: bool,
    ) -> Result<Selected, Error> {
        let ahead = self.opening_ahead(name, read_only);
        let tag = match ahead {
            Some(tag) => tag,
            None => {
                let draft = self.opening(name, read_only)?;
                self.forget_ahead().await?;
                self.ready().await?;
                self.connection.issue(draft)
            }
        };
        self.selected = None;
        let mut selected = Selected::unheard(name, read_only);
        let ended = self.connection.ended(tag, command, |said| selected.hear(&said)).await?;
        let opened = self.note(ended.ok());
        if opened.is_err()
            && ahead.is_some()
            && let Some(tag) = self.listing_ahead()
            && self.is_usable()
        {
            self.drop_listing(tag).await?;
        }
        let condition = opened?;
        selected.hear_condition(&condition);
        self.opened(selected.clone());
        Ok(selected)
    }

    /// SELECT or EXAMINE; CONDSTORE is asked for where ENABLE could not.
    pub(super) fn opening(&self, name: &WireName, read_only: bool) -> Result<Draft, Error> {
        let mailbox = encode::mailbox(name)?;
        let condstore = self.capabilities.has("CONDSTORE") && !self.capabilities.has("ENABLE");
        let parameters = if condstore { vec![SelectParameter::CondStore] } else { vec![] };
        Ok(Draft::of(match read_only {
            true => CommandBody::Examine { mailbox, parameters },
            false => CommandBody::Select { mailbox, parameters },
        }))
    }

    /// From here on all news but that of elsewhere is of this folder.
    pub(super) fn opened(&mut self, selected: Selected) {
        let inbound = &mut self.connection.inbound;
        inbound.news = News { elsewhere: inbound.news.elsewhere, ..News::default() };
        inbound.untold = inbound.news.elsewhere;
        inbound.exists = selected.exists;
        self.selected = Some(selected);
    }

    /// The folder selected now.
    pub fn selected(&self) -> Option<&Selected> {
        self.selected.as_ref()
    }

    /// How many messages the selected folder holds now, by all that was said since it was opened.
    pub fn exists(&self) -> u32 {
        self.connection.inbound.exists
    }

    /// Leaves the selected folder without expunging: UNSELECT, or EXAMINE of a folder that does
    /// not exist where UNSELECT is not offered. Never CLOSE on a folder opened read-write.
    pub async fn unselect(&mut self) -> Result<(), Error> {
        self.ready().await?;
        self.selected = None;
        if self.capabilities.has("UNSELECT") {
            let draft = Draft::of(CommandBody::Unselect);
            return self.connection.simple("UNSELECT", draft).await.map(|_| ());
        }
        let nowhere = WireName::of_wire(b"no folder of this name, it is to be left");
        let draft = self.opening(&nowhere, true)?;
        match self.connection.simple("EXAMINE", draft).await {
            Ok(_) | Err(Error::No { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub fn take_news(&mut self) -> News {
        self.connection.inbound.untold = false;
        std::mem::take(&mut self.connection.inbound.news)
    }

    pub async fn noop(&mut self) -> Result<(), Error> {
        self.simple("NOOP", Draft::of(CommandBody::Noop)).await.map(|_| ())
    }

    /// LOGOUT, politely and briefly.
    pub async fn logout(mut self) {
        let draft = Draft::of(CommandBody::Logout);
        let _ = timeout(Duration::from_secs(5), self.simple("LOGOUT", draft)).await;
        self.connection.link.shutdown().await;
    }

    /// One command of which only the answer matters.
    pub(super) async fn simple(
        &mut self,
        command: &'static str,
        draft: Draft,
    ) -> Result<Condition, Error> {
        self.ready().await?;
        self.connection.simple(command, draft).await
    }

    /// Can a new command be sent? Bodies sent ahead are read first, and dropped.
    pub(super) async fn ready(&mut self) -> Result<(), Error> {
        self.drop_bodies().await?;
        self.usable()
    }

    /// The same while windows of bodies are read.
    pub(super) fn usable(&mut self) -> Result<(), Error> {
        match self.exchange.is_idle() {
            true => self.connection.ready(),
            false => Err(self.connection.unusable()),
        }
    }

    pub(super) fn note<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| self.connection.link.note(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_is_explained_by_name_or_by_number() {
        let uids = |numbers: &[u32]| -> Vec<Uid> {
            numbers.iter().filter_map(|number| Uid::new(*number)).collect()
        };
        for (vanished, expunged, missing, expected) in [
            (&[2, 3][..], 0, &[3, 2][..], true),
            (&[2, 3], 0, &[4], false),
            (&[2, 3], 1, &[4, 2], true),
            (&[], 2, &[4, 2], true),
            (&[], 2, &[4, 2, 1], false),
        ] {
            let news = News { vanished: uids(vanished), expunged, ..News::default() };
            assert_eq!(news.explains(&uids(missing)), expected, "{vanished:?} {missing:?}");
        }
    }

    #[test]
    fn permanent_flags_admit_what_is_listed_and_safe() {
        let some = PermanentFlags::parse("(\\Seen $a]b NonJunk)");
        let any = PermanentFlags::parse("(\\Seen \\*)");
        let unstated = PermanentFlags { unstated: true, ..PermanentFlags::default() };
        for (name, in_some, in_any, in_unstated) in [
            ("\\seen", true, true, true),
            ("\\Flagged", false, false, true),
            ("nonjunk", true, true, true),
            ("other", false, true, true),
            ("$a]b", false, false, false),
            ("\\Recent", false, false, false),
            ("\\*", false, false, false),
            ("a b", false, false, false),
        ] {
            let admitted = (some.admits(name), any.admits(name), unstated.admits(name));
            assert_eq!(admitted, (in_some, in_any, in_unstated), "{name}");
        }
    }
}
