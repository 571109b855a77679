//! The target's connection: made when it is needed, kept while there is traffic, and the few
//! things that may be done to copies there – each only after the copy was seen to be the link's
//! in the same SELECT.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::clock::Instant;
use super::connect::{connect, connect_to_append};
use super::copy::{Failure, HostSays};
use super::hosts::Host;
use super::resolve::{is_the_links, may_be_the_links};
use super::shared::{Berth, Shared};
use crate::checkpoint::Link;
use crate::config::Enrollment;
use crate::imap::{Change, CopyUid, Error, HeaderSeen, Selected, Session, WireName};
use crate::words::{Digests, Flags, Side, SystemFlags, Uid};

use super::pass::at_target;

/// A place at a full host is waited for so long.
const CROWDED_FOR: Duration = Duration::from_secs(30);

pub struct Target {
    shared: Arc<Shared>,
    enrollment: Arc<Enrollment>,
    open: Option<Box<(Session, Berth)>>,
    /// A connection that is being made.
    coming: Option<JoinSet<Result<(Session, Berth), Failure>>>,
    pub last_used: Instant,
}

/// Resolves once a host has had no place for long.
async fn crowded(host: &Host) {
    loop {
        tokio::time::sleep(CROWDED_FOR).await;
        if host.crowded() {
            return;
        }
    }
}

/// What was seen of copies just before they are changed, by source UID.
#[derive(Default, Debug)]
pub struct Verified {
    /// The link's copy is there, with these flags.
    pub sure: HashMap<Uid, Flags>,
    /// Another message has the UID.
    pub strange: Vec<Uid>,
    /// No message has it.
    pub absent: Vec<Uid>,
}

impl Target {
    pub fn new(shared: Arc<Shared>, enrollment: Arc<Enrollment>) -> Target {
        Target { shared, enrollment, open: None, coming: None, last_used: Instant::now() }
    }

    /// The session; connects if there is none.
    pub async fn session(&mut self) -> Result<&mut Session, Failure> {
        let session = self.appender().await?;
        session.introduce().await.map_err(at_target)?;
        Ok(session)
    }

    /// The session, which may be good for nothing but to append to folders that are there.
    pub async fn appender(&mut self) -> Result<&mut Session, Failure> {
        self.last_used = Instant::now();
        if self.open.is_none() {
            let host = self.shared.hosts.host(&self.enrollment.migration.target.host);
            // Whoever holds a source connection does not wait for ever for a target's: the two
            // may be one host, and its places all taken by accounts that wait like this one.
            let coming = self.coming.take();
            let connecting = async {
                let joined = match coming {
                    Some(mut coming) => coming.join_next().await.and_then(Result::ok),
                    None => None,
                };
                match joined {
                    Some(connected) => connected,
                    None => connect(&self.shared, &self.enrollment, Side::Target).await,
                }
            };
            let open = tokio::select! {
                biased;
                open = connecting => open?,
                () = crowded(&host) => {
                    let error = Error::TimedOut("a free connection");
                    return Err(Failure::Connect(Side::Target, error, HostSays::Nothing));
                }
            };
            self.open = Some(Box::new(open));
        }
        let open = self.open.as_mut().expect("made above");
        Ok(&mut open.0)
    }

    /// Is there a connection, or one being made?
    pub fn is_open(&self) -> bool {
        self.open.is_some() || self.coming.is_some()
    }

    /// Can it be asked at once?
    pub fn is_ready(&self) -> bool {
        self.open.is_some()
    }

    /// Connects while something else is waited for; [`Target::session`] takes the outcome.
    pub fn connect_ahead(&mut self) {
        let (shared, enrollment) = (self.shared.clone(), self.enrollment.clone());
        self.come(async move { connect(&shared, &enrollment, Side::Target).await });
    }

    /// The same for new mail that is coming: what APPEND can do without is done after it.
    pub fn append_ahead(&mut self) {
        let (shared, enrollment) = (self.shared.clone(), self.enrollment.clone());
        self.come(async move { connect_to_append(&shared, &enrollment).await });
    }

    fn come(
        &mut self,
        connecting: impl Future<Output = Result<(Session, Berth), Failure>> + Send + 'static,
    ) {
        if self.is_open() {
            return;
        }
        self.last_used = Instant::now();
        let mut coming = JoinSet::new();
        coming.spawn(connecting);
        self.coming = Some(coming);
    }

    /// Drops what was sent ahead and not used.
    pub async fn forget_ahead(&mut self) -> Result<(), Failure> {
        match &mut self.open {
            Some(open) => open.0.forget_ahead().await.map_err(at_target),
            None => Ok(()),
        }
    }

    /// Drops a connection that can take no further command.
    pub fn abandon(&mut self) {
        (self.open, self.coming) = (None, None);
    }

    /// Says goodbye.
    pub async fn close(&mut self) {
        self.coming = None;
        if let Some(open) = self.open.take() {
            let (session, _berth) = *open;
            Box::pin(session.logout()).await;
        }
    }

    pub async fn select(&mut self, name: &WireName) -> Result<Selected, Failure> {
        self.session().await?.select(name).await.map_err(at_target)
    }

    /// May messages be removed at all? Without UIDPLUS an EXPUNGE would take the owner's own
    /// deleted mail with it.
    pub async fn can_remove(&mut self) -> Result<bool, Failure> {
        Ok(self.session().await?.capabilities().has("UIDPLUS"))
    }

    /// Is there a command that moves at one stroke?
    pub async fn can_move(&mut self) -> Result<bool, Failure> {
        Ok(self.session().await?.capabilities().has("MOVE"))
    }

    /// Selects the folder and sees which copies are there as linked.
    pub async fn verify(
        &mut self,
        name: &WireName,
        links: &[(Uid, Link)],
    ) -> Result<Verified, Failure> {
        let uids: Vec<Uid> = links.iter().filter_map(|(_, link)| link.target_uid).collect();
        let mut verified = Verified::default();
        if uids.is_empty() {
            return Ok(verified);
        }
        self.select(name).await?;
        let seen = self.session().await?.header_digests(&uids).await.map_err(at_target)?;
        let mut seen: HashMap<Uid, HeaderSeen> =
            seen.into_iter().map(|seen| (seen.uid, seen)).collect();
        let mut unsure = Vec::new();
        for (uid, link) in links {
            match link.target_uid.and_then(|target_uid| seen.remove(&target_uid)) {
                Some(seen) if is_the_links(&seen, link) => {
                    verified.sure.insert(*uid, seen.flags);
                }
                Some(seen) if may_be_the_links(&seen, link) => unsure.push((*uid, link, seen)),
                Some(_) => verified.strange.push(*uid),
                None => verified.absent.push(*uid),
            }
        }
        self.compare(unsure, &mut verified).await?;
        Ok(verified)
    }

    /// Servers tell wrong sizes. Where the size alone is another one, the bytes decide.
    async fn compare(
        &mut self,
        unsure: Vec<(Uid, &Link, HeaderSeen)>,
        verified: &mut Verified,
    ) -> Result<(), Failure> {
        if unsure.is_empty() {
            return Ok(());
        }
        let uids: Vec<Uid> = unsure.iter().map(|(_, _, seen)| seen.uid).collect();
        let digests = self.session().await?.digests(&uids).await.map_err(at_target)?;
        let digests: HashMap<Uid, Digests> = digests.into_iter().collect();
        for (uid, link, seen) in unsure {
            match digests.get(&seen.uid) {
                Some(digests) if digests.sha256 == link.sha256 => {
                    verified.sure.insert(uid, seen.flags);
                }
                Some(_) => verified.strange.push(uid),
                None => verified.absent.push(uid),
            }
        }
        Ok(())
    }

    /// Adds and removes flags of verified copies in the selected folder.
    pub async fn store(
        &mut self,
        uids: &[Uid],
        change: Change,
        flags: &Flags,
    ) -> Result<(), Failure> {
        match flags.is_empty() {
            true => Ok(()),
            false => self.session().await?.store(uids, change, flags).await.map_err(at_target),
        }
    }

    /// Removes verified copies for good.
    pub async fn remove(&mut self, name: &WireName, uids: &[Uid]) -> Result<(), Failure> {
        let session = self.session().await?;
        if session.selected().is_none_or(|selected| selected.name != *name) {
            session.select(name).await.map_err(at_target)?;
        }
        let deleted = Flags::of_system(SystemFlags::DELETED);
        session.store(uids, Change::Add, &deleted).await.map_err(at_target)?;
        session.uid_expunge(uids).await.map_err(at_target)
    }

    /// Moves verified copies out of the selected folder `from`.
    pub async fn move_messages(
        &mut self,
        from: &WireName,
        uids: &[Uid],
        to: &WireName,
    ) -> Result<Option<CopyUid>, Failure> {
        if uids.is_empty() {
            return Ok(None);
        }
        let session = self.session().await?;
        if session.capabilities().has("MOVE") {
            return session.uid_move(uids, to).await.map_err(at_target);
        }
        let copied = session.uid_copy(uids, to).await.map_err(at_target)?;
        self.remove(from, uids).await?;
        Ok(copied)
    }
}
