//! Folders that are copied only after the cutover: gigabytes of archive must not compete with last
//! passes. Until then nothing is appended to them; but a message that its owner moves there keeps
//! its one copy, which is moved at the target.

use std::collections::{HashMap, HashSet};

use super::copy::Failure;
use super::folders;
use super::pass::{LISTED_FREELY, Look, Pass, Scope, at_source};
use super::source::is_archived;
use super::trouble;
use crate::checkpoint::{Known, Phase};
use crate::imap::{Error, FolderStatus, WireName};
use crate::words::{InternalDate, Message, Uid};

/// So often the last pass asks in vain; then the account is sealed without an answer.
const ASKED_IN_VAIN_MAX: u32 = 6;

/// Whether it could be told what was moved into folders that wait, from session to session.
#[derive(Default)]
pub struct Learned {
    /// Last passes that did not find out.
    in_vain: u32,
    /// Copies that stay because nobody could tell.
    pub kept: usize,
}

impl Learned {
    /// A last pass has not found out where all that left is.
    pub fn was_in_vain(&mut self) {
        self.in_vain += 1;
    }
}

/// When messages were received: all that names them before their bytes are compared, for some
/// servers tell wrong sizes.
pub(super) type Instants = HashSet<InternalDate>;

impl Pass<'_> {
    /// Is the folder, also named as users see it, left alone for now?
    pub fn is_deferred(&self, source: &WireName, shown: &str) -> bool {
        let rules = &self.enrollment.migration.folders;
        self.deferring && (is_archived(source) || folders::is_deferred(rules, shown))
    }

    /// The seal waits no more for who does not tell where what left is.
    pub(super) fn is_given_up(&self) -> bool {
        let learned = &self.book.learned;
        let in_vain = learned.deferred.in_vain >= ASKED_IN_VAIN_MAX;
        self.phase() == Phase::Draining && (in_vain || learned.archive.is_refused())
    }

    /// A folder that was copied before it was deferred stays a folder like any other.
    pub(super) fn mark_deferred(&mut self) {
        for at in 0..self.book.pairs.len() {
            let pair = &self.book.pairs[at];
            let deferred =
                !pair.record.first_copy_completed && self.is_deferred(&pair.source, pair.shown());
            self.book.pairs[at].deferred = deferred;
        }
    }

    /// Of deferred folders only those messages are wanted that may have left another folder. A
    /// folder where such a message lies becomes a pair, so that the copy can follow.
    pub(super) async fn look_into_deferred(
        &mut self,
        looks: &mut Vec<Look>,
        statuses: &HashMap<WireName, FolderStatus>,
    ) -> Result<(), Failure> {
        let left = self.left_elsewhere(looks);
        let hides = |state: &str| state == "held" || self.deferring && state == "deferred";
        if self.may_change() && !left.is_empty() {
            match self.scope {
                // Nobody listed the folders for such a pass: the next sweep asks.
                Scope::Told => {
                    self.silent |= self.book.left_out.iter().any(|one| hides(one.state))
                        || self.book.pairs.iter().any(|pair| pair.deferred);
                }
                _ => {
                    self.look_into_held(&left, statuses).await?;
                    self.look_again(looks, statuses).await?;
                }
            }
        }
        if !self.deferring {
            return Ok(());
        }
        for look in looks.iter_mut().filter(|look| self.book.pairs[look.pair].deferred) {
            look.wants.retain(|_, message| may_be(message, &left));
        }
        if left.is_empty() || !self.may_change() {
            return Ok(());
        }
        let waiting = self.book.left_out.iter().filter(|one| one.state == "deferred");
        let waiting: Vec<_> = waiting
            .filter(|one| statuses.get(&one.source).is_some_and(|status| !status.is_empty()))
            .cloned()
            .collect();
        for folder in waiting {
            let Some((target, target_shown)) = folder.target else { continue };
            match self.holds_any(&folder.source, &left).await? {
                Some(true) => {}
                Some(false) => continue,
                None => {
                    self.silent = true;
                    continue;
                }
            }
            self.make_folder(&target).await?;
            let source = folder.source.clone();
            self.open_pair(source, folder.shown, target, target_shown, false).await?;
            let at = self.book.pairs.len() - 1;
            if let Some(mut look) = self.look_at(at, None).await? {
                look.wants.retain(|_, message| may_be(message, &left));
                looks.push(look);
            }
        }
        Ok(())
    }

    /// What left may lie in a deferred folder that has a place at the target since something else
    /// was moved there: nothing of it is linked but that, however long it has been there.
    async fn look_again(
        &mut self,
        looks: &mut Vec<Look>,
        statuses: &HashMap<WireName, FolderStatus>,
    ) -> Result<(), Failure> {
        for at in 0..self.book.pairs.len() {
            let pair = &self.book.pairs[at];
            let is_seen = looks.iter().any(|look| look.pair == at);
            let is_here = !is_archived(&pair.source) && statuses.contains_key(&pair.source);
            if pair.deferred && !is_seen && is_here {
                looks.extend(self.look_at(at, None).await?);
            }
            // Who does not tell, or not all, is not believed to have nothing.
            let is_whole = looks.iter().any(|look| look.pair == at && look.complete);
            self.silent |= self.book.pairs[at].deferred && is_here && !is_whole;
        }
        Ok(())
    }

    /// What left may lie in a folder that has no place at the target yet.
    async fn look_into_held(
        &mut self,
        left: &Instants,
        statuses: &HashMap<WireName, FolderStatus>,
    ) -> Result<(), Failure> {
        let held = self.book.left_out.iter().filter(|one| one.state == "held");
        let held = held.filter(|one| statuses.get(&one.source).is_some_and(|it| !it.is_empty()));
        let held: Vec<WireName> = held.map(|one| one.source.clone()).collect();
        for name in held {
            if self.silent {
                return Ok(());
            }
            self.silent = self.holds_any(&name, left).await? != Some(false);
        }
        Ok(())
    }

    /// What no other folder held has to wait; what is just being moved there does not, nor what
    /// may have been, until the seal can wait no longer.
    pub(super) fn leave_deferred(&mut self, looks: &mut [Look]) {
        let given_up = self.is_given_up();
        for look in looks.iter_mut().filter(|look| self.book.pairs[look.pair].deferred) {
            let doubted = look.troubled || look.all_blocked;
            let in_doubt = |uid: &Uid| look.all_blocked || look.blocked.contains(uid);
            let kept = look.wants.iter().filter(|(uid, _)| doubted || in_doubt(uid));
            self.kept.extend(kept.map(|(_, message)| message.instant));
            look.wants.retain(|uid, _| !given_up && in_doubt(uid));
        }
    }

    /// Copies of ours whose message is no longer where it was.
    pub(super) fn left_elsewhere(&self, looks: &[Look]) -> Instants {
        let missing = looks.iter().flat_map(|look| {
            look.missing.iter().filter_map(|uid| match look.known.get(uid) {
                Some(Known::Linked(link)) if self.is_ours(link) => Some(link.instant),
                _ => None,
            })
        });
        missing.collect()
    }

    /// `None`: it does not say, or not all.
    pub(super) async fn holds_any(
        &mut self,
        name: &WireName,
        left: &Instants,
    ) -> Result<Option<bool>, Failure> {
        match self.source.examine(name).await {
            Ok(_) => {}
            // What is not there holds nothing; whoever will not say may.
            Err(Error::No { code, text, .. }) => {
                return Ok((trouble::is_nonexistent(code.as_ref(), &text)).then_some(false));
            }
            Err(error) => return Err(at_source(error)),
        }
        let exists = u64::from(self.source.exists());
        let memory = (exists > LISTED_FREELY).then(|| self.shared.memory.at_once(exists));
        if memory.as_ref().is_some_and(Option::is_none) {
            return Ok(None);
        }
        let first = Uid::new(1).expect("1 is a UID");
        let messages = self.source.list_messages(first).await.map_err(at_source)?;
        let whole = messages.len() == self.source.exists() as usize;
        match messages.iter().any(|message| may_be(message, left)) {
            true => Ok(Some(true)),
            false => Ok(whole.then_some(false)),
        }
    }
}

fn may_be(message: &Message, left: &Instants) -> bool {
    left.contains(&message.instant)
}
