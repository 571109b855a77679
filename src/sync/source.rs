//! What an account's messages come from: its own store at the source and, where its archive lies
//! in a second one with a login of its own, that store beside it.
//!
//! Folders of the archive are folders of the account like any other, by names that no server can
//! give (see [`archived_name`](crate::checkpoint::archived_name)); here they are told apart.

use std::ops::{Deref, DerefMut};

use super::shared::Berth;
use crate::checkpoint::{Place, archived_name, of_archived_name};
use crate::imap::{Error, FolderStatus, Listed, Namespace, Selected, Session, WireName};

/// The session of the account's own store, and while it is needed that of its archive.
///
/// Dereferences to the session whose folder was examined last.
pub struct Source {
    own: Session,
    archive: Option<Box<Archive>>,
    now: Holding,
}

/// Which of an account's stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holding {
    Own,
    Archive,
}

impl Holding {
    /// The one where the folder of that name lies.
    pub fn of(name: &WireName) -> Holding {
        if is_archived(name) { Holding::Archive } else { Holding::Own }
    }
}

struct Archive {
    session: Session,
    place: Place,
    _berth: Berth,
}

impl Source {
    pub fn new(own: Session) -> Source {
        Source { own, archive: None, now: Holding::Own }
    }

    /// The account's own store.
    pub fn own(&mut self) -> &mut Session {
        self.now = Holding::Own;
        &mut self.own
    }

    /// The archive's, while it is open.
    pub fn archive(&mut self) -> Option<&mut Session> {
        self.archive.as_mut().map(|archive| &mut archive.session)
    }

    pub fn add_archive(&mut self, session: Session, place: Place, berth: Berth) {
        self.archive = Some(Box::new(Archive { session, place, _berth: berth }));
    }

    /// Was the archive asked last?
    pub fn is_at_archive(&self) -> bool {
        self.now == Holding::Archive
    }

    /// The session of a store, which is asked from now on.
    pub fn turn_to(&mut self, holding: Holding) -> Result<&mut Session, Error> {
        if holding == Holding::Own {
            return Ok(self.own());
        }
        let archive = self.archive.as_mut().ok_or(Error::Closed { bye: None })?;
        self.now = holding;
        Ok(&mut archive.session)
    }

    pub async fn close_archive(&mut self) {
        self.now = Holding::Own;
        if let Some(archive) = self.archive.take() {
            Box::pin(archive.session.logout()).await;
        }
    }

    /// Drops the archive's connection as it stands.
    pub fn abandon_archive(&mut self) {
        self.now = Holding::Own;
        self.archive = None;
    }

    /// Of the account's own store.
    pub async fn list(&mut self) -> Result<Vec<Listed>, Error> {
        let mut listed = self.own().list().await?;
        // Not even a server that minds no rule gives an archive's name.
        listed.retain(|listed| !is_archived(&listed.name));
        Ok(listed)
    }

    /// Of the account's own store.
    pub async fn statuses(
        &mut self,
        names: &[&WireName],
    ) -> Result<Vec<Result<FolderStatus, Error>>, Error> {
        self.own().statuses(names).await
    }

    /// Of the account's own store.
    pub fn namespace(&self) -> &Namespace {
        self.own.namespace()
    }

    /// Is the folder of that name the one that is selected?
    pub fn is_on(&self, name: &WireName) -> bool {
        let selected = self.selected().map(|selected| &selected.name);
        match of_archived_name(name.as_octets()) {
            None => self.now == Holding::Own && selected == Some(name),
            Some((_, there)) => {
                self.now == Holding::Archive
                    && selected.is_some_and(|name| name.as_octets() == there)
            }
        }
    }

    /// Opens a folder of either store.
    pub async fn examine(&mut self, name: &WireName) -> Result<Selected, Error> {
        let Some((place, there)) = of_archived_name(name.as_octets()) else {
            return self.own().examine(name).await;
        };
        let archive = self.archive.as_mut().filter(|archive| archive.place == place);
        let archive = archive.ok_or(Error::Closed { bye: None })?;
        self.now = Holding::Archive;
        archive.session.examine(&WireName::of_wire(there)).await
    }

    /// Of the account's own store; see [`Session::look_ahead`].
    pub async fn look_ahead(&mut self, names: &[WireName]) -> Result<(), Error> {
        self.own().look_ahead(names, true).await
    }

    pub fn is_ahead(&self) -> bool {
        self.own.is_ahead()
    }

    pub async fn forget_ahead(&mut self) -> Result<(), Error> {
        self.own.forget_ahead().await
    }

    pub async fn logout(mut self) {
        self.close_archive().await;
        self.own.logout().await;
    }
}

impl Deref for Source {
    type Target = Session;

    fn deref(&self) -> &Session {
        match &self.archive {
            Some(archive) if self.now == Holding::Archive => &archive.session,
            _ => &self.own,
        }
    }
}

impl DerefMut for Source {
    fn deref_mut(&mut self) -> &mut Session {
        match &mut self.archive {
            Some(archive) if self.now == Holding::Archive => &mut archive.session,
            _ => &mut self.own,
        }
    }
}

/// The name by which a folder of the archive is known here.
pub fn in_archive(place: &Place, name: &WireName) -> WireName {
    WireName::of_wire(&archived_name(place, name.as_octets()))
}

/// Does the folder of that name lie in an archive?
pub fn is_archived(name: &WireName) -> bool {
    of_archived_name(name.as_octets()).is_some()
}

/// The name by which a folder's own server knows it.
pub fn name_there(name: &WireName) -> WireName {
    let there = of_archived_name(name.as_octets());
    there.map_or_else(|| name.clone(), |(_, there)| WireName::of_wire(there))
}
