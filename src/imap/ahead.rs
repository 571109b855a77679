//! Many folders looked at in one flight: each is opened and listed by commands sent ahead, whose
//! answers are taken when their turn comes.

use imap_types::command::CommandBody;

use super::connection::Said;
use super::encode::{self, Asked, Draft};
use super::fetch::everything;
use super::{Error, Session, WireName};

/// Folders sent ahead at most: what they take to ask for fits any socket's buffer, so that it can
/// be sent while nobody reads.
pub const AHEAD_MAX: usize = 32;

/// A command whose answer nobody waits for yet.
pub(super) enum Ahead {
    Open { name: WireName, read_only: bool, tag: u32 },
    List { tag: u32 },
}

impl Session {
    /// Sends the opening of each folder and the listing of all its messages, in one flight.
    ///
    /// [`Session::examine`] (or [`Session::select`]) and [`Session::list_messages`] from UID 1 of
    /// each folder, in this order, take the answers. Until then no other command can be sent, but
    /// the opening of a folder out of turn, which drops what is outstanding.
    pub async fn look_ahead(&mut self, names: &[WireName], read_only: bool) -> Result<(), Error> {
        self.ready().await?;
        for name in &names[..names.len().min(AHEAD_MAX)] {
            let draft = self.opening(name, read_only)?;
            let tag = self.connection.issue(draft);
            self.ahead.push_back(Ahead::Open { name: name.clone(), read_only, tag });
            let draft = Draft::of(encode::fetch(everything()?, Asked::Metadata));
            let tag = self.connection.issue(draft);
            self.ahead.push_back(Ahead::List { tag });
        }
        self.connection.flush("looking ahead").await
    }

    /// Is the answer to something sent ahead still to be taken?
    pub fn is_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Waits for what was sent ahead and drops it. The folder selected then is nobody's.
    pub async fn forget_ahead(&mut self) -> Result<(), Error> {
        while let Some(ahead) = self.ahead.pop_front() {
            self.selected = None;
            match ahead {
                Ahead::Open { tag, .. } => {
                    drop(self.connection.ended(tag, "SELECT", unheard).await?)
                }
                Ahead::List { tag } => self.drop_listing(tag).await?,
            }
        }
        Ok(())
    }

    /// The tag of the opening sent ahead, if it is this folder's turn.
    pub(super) fn opening_ahead(&mut self, wanted: &WireName, mode: bool) -> Option<u32> {
        match self.ahead.front() {
            Some(Ahead::Open { name, read_only, tag }) if name == wanted && *read_only == mode => {
                let tag = *tag;
                self.ahead.pop_front();
                Some(tag)
            }
            _ => None,
        }
    }

    /// The tag of the listing sent ahead of the folder opened last.
    pub(super) fn listing_ahead(&mut self) -> Option<u32> {
        match self.ahead.front() {
            Some(Ahead::List { tag }) => {
                let tag = *tag;
                self.ahead.pop_front();
                Some(tag)
            }
            _ => None,
        }
    }

    /// Whatever is listed, and whether it is refused, does not matter: no folder is selected.
    pub(super) async fn drop_listing(&mut self, tag: u32) -> Result<(), Error> {
        self.connection.inbound.fetching = true;
        let ended = self.connection.ended(tag, "UID FETCH", unheard).await;
        self.connection.inbound.fetching = false;
        ended.map(drop)
    }

    /// CREATE and SUBSCRIBE of several folders in one flight; as [`Session::create`] for each.
    /// Whether one could be subscribed does not matter.
    pub async fn create_all(
        &mut self,
        names: &[WireName],
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let mut made = Vec::with_capacity(names.len());
        for some in names.chunks(AHEAD_MAX) {
            self.ready().await?;
            let mailboxes = some.iter().map(encode::mailbox).collect::<Result<Vec<_>, _>>()?;
            let mut tags = Vec::with_capacity(some.len());
            for mailbox in mailboxes {
                let create = Draft::of(CommandBody::Create { mailbox: mailbox.clone() });
                let create = self.connection.issue(create);
                let subscribe = Draft::of(CommandBody::Subscribe { mailbox });
                tags.push((create, self.connection.issue(subscribe)));
            }
            for (create, subscribe) in tags {
                let created = self.connection.ended(create, "CREATE", unheard).await?.ok();
                let subscribed = self.connection.ended(subscribe, "SUBSCRIBE", unheard).await?.ok();
                made.push(match (created, subscribed) {
                    (Err(error), _) | (_, Err(error)) if !matches!(error, Error::No { .. }) => {
                        return self.note(Err(error));
                    }
                    (created, _) => created.map(drop),
                });
            }
        }
        for (name, made) in names.iter().zip(&mut made) {
            if made.is_err() && self.is_there(name).await? {
                *made = Ok(());
            }
        }
        Ok(made)
    }
}

/// What is said beside an answer that alone matters.
fn unheard(_: Said<'_>) {}
