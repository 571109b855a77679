//! The target, compared with what was copied there. Whatever looks wrong is looked at a second
//! time, with the links as they are then, before it is told.

use std::collections::HashSet;
use std::time::Duration;

use super::index::Index;
use super::{Place, Stop, Verification, WINDOW};
use crate::checkpoint::{Edit, FolderId, Known, Link, Proof, Seen};
use crate::imap::{Error, Selected, Session, WholeSeen};
use crate::journal::shown;
use crate::sync::compare::{self, Absent, Kind, Stranger, Terms};
use crate::sync::connect::connect;
use crate::sync::pass::at_target;
use crate::sync::{board, trouble};
use crate::words::{InternalDate, Sha256, Side, Uid};

/// What looks wrong is looked at again after so long: whatever was under way is written down then.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// So many of what is missing, and of what nothing explains, are looked for elsewhere.
const MATCHED_MAX: usize = 100_000;
/// A message costs a listing some twenty times as much as it costs here.
const LIGHTER: u64 = 16;

/// What one look does with what looks wrong.
enum Round<'o> {
    /// It is looked at again: a pass may be under way.
    Doubting(Only),
    /// It is told. All messages are looked at, or those of the round before.
    Telling(Option<&'o Only>),
}

impl Round<'_> {
    /// Those that the round is about; `None`: all.
    fn only(&self) -> Option<&Only> {
        match self {
            Round::Doubting(_) => None,
            Round::Telling(only) => *only,
        }
    }
}

/// What looked wrong.
#[derive(Default)]
struct Only {
    target_uids: HashSet<Uid>,
    /// By folder.
    sources: HashSet<(usize, Uid)>,
}

/// What is judged only when all places have been looked at: it may have gone from one to another.
#[derive(Default)]
pub(super) struct Open {
    absent: Vec<Gone>,
    strangers: Vec<Strange>,
}

/// A link whose copy was not found.
struct Gone {
    folder: u32,
    source_uid: Uid,
    target_uid: Option<Uid>,
    how: Absent,
}

/// A message that no link explains.
struct Strange {
    uid: Uid,
    /// Some folder of the place it lies in.
    folder: usize,
    sha256: Sha256,
    instant: InternalDate,
    old: bool,
}

impl Verification<'_> {
    /// Compares the target; gives what is missing there.
    pub(super) async fn target(&mut self, places: &[Place]) -> Result<Vec<(FolderId, Uid)>, Stop> {
        let (mut session, _berth) = connect(self.shared, self.enrollment, Side::Target).await?;
        let _memory = self.shared.memory.of_messages(self.links()? / LIGHTER).await;
        for place in places {
            if self.is_sealed() {
                // No pass changes a copy any more.
                self.look(&mut session, place, &mut Round::Telling(None)).await?;
                continue;
            }
            let mut round = Round::Doubting(Only::default());
            self.look(&mut session, place, &mut round).await?;
            let Round::Doubting(doubts) = round else { continue };
            if !doubts.target_uids.is_empty() || !doubts.sources.is_empty() {
                tokio::time::sleep(AGAIN_AFTER).await;
                self.look(&mut session, place, &mut Round::Telling(Some(&doubts))).await?;
            }
        }
        session.logout().await;
        self.judge().await
    }

    /// How many links there are, for progress and memory.
    fn links(&self) -> Result<u64, Stop> {
        let mut links = 0;
        for folder in &self.folders {
            self.shared.store.visit_known(folder.id, |_, known| {
                links += u64::from(matches!(known, Known::Linked(_)));
            })?;
        }
        self.progress(|progress| progress.messages_of = links);
        Ok(links)
    }

    /// Downloads a place's messages and compares them.
    async fn look(
        &mut self,
        session: &mut Session,
        place: &Place,
        round: &mut Round<'_>,
    ) -> Result<(), Stop> {
        if let Some(record) = self.shared.store.account(&self.enrollment.address)? {
            self.record = record;
        }
        let selected = self.open_place(session, place).await?;
        let present = match &selected {
            Some(_) => session.list_uids().await.map_err(at_target)?,
            None => Vec::new(),
        };
        let last = self.last_seen(place)?;
        let now = selected.as_ref().map(|selected| selected.uid_validity);
        let renumbered = now.zip(last).is_some_and(|(now, last)| now != last.uid_validity);
        let mut index = self.index(place, renumbered)?;
        let is_wanted = |uid: &Uid| {
            round.only().is_none_or(|only| {
                only.target_uids.contains(uid)
                    || index.of_uid(*uid).is_some_and(|source| only.sources.contains(&source))
            })
        };
        let wanted: Vec<Uid> = present.iter().copied().filter(is_wanted).collect();
        let terms = self.terms(selected.as_ref());
        let old_below = last.filter(|_| !renumbered).map_or(0, |last| last.uid_next);
        for window in wanted.chunks(WINDOW) {
            let seen = session.whole_messages(window).await.map_err(at_target)?;
            self.unreadable(window, &seen, &index, round).await?;
            let mut edits = Vec::new();
            for seen in &seen {
                if round.only().is_none() {
                    self.count(seen);
                }
                let linked = index.of_uid(seen.uid);
                match linked.or_else(|| index.take_bytes(seen.digests.sha256)) {
                    Some(source) => edits.extend(self.copy(source, seen, &terms, round).await?),
                    None if index.explains(seen) => {}
                    None => self.stranger(place.folders[0], seen, old_below, round).await?,
                }
            }
            self.writer.commit_lazily(edits).await?;
        }
        let uid_next = selected.as_ref().and_then(|selected| selected.uid_next);
        self.absent(&index, &present, uid_next, renumbered, round);
        Ok(())
    }

    /// Selects the place; `None` if it does not exist any more. Until the seal its PERMANENTFLAGS
    /// matter, which only SELECT tells.
    async fn open_place(
        &self,
        session: &mut Session,
        place: &Place,
    ) -> Result<Option<Selected>, Stop> {
        let opened = match self.is_sealed() {
            true => session.examine(&place.name).await,
            false => session.select(&place.name).await,
        };
        match opened {
            Ok(selected) => Ok(Some(selected)),
            Err(Error::No { code, text, .. }) if trouble::is_nonexistent(code.as_ref(), &text) => {
                Ok(None)
            }
            Err(error) => Err(at_target(error).into()),
        }
    }

    /// What a pass saw when it last looked at the place.
    fn last_seen(&self, place: &Place) -> Result<Option<Seen>, Stop> {
        let mine: HashSet<FolderId> = place.folders.iter().map(|at| self.folders[*at].id).collect();
        let records = self.shared.store.folders(self.record.id)?;
        let seen = records.iter().filter(|record| mine.contains(&record.id));
        Ok(seen.filter_map(|record| record.target_seen).max_by_key(|seen| seen.uid_next))
    }

    fn link(&self, folder: usize, source_uid: Uid) -> Result<Option<Link>, Stop> {
        match self.shared.store.known_one(self.folders[folder].id, source_uid)? {
            Some(Known::Linked(link)) => Ok(Some(link)),
            _ => Ok(None),
        }
    }

    /// Compares a copy with its link; what was found equal is proved.
    async fn copy(
        &mut self,
        (folder, source_uid): (usize, Uid),
        seen: &WholeSeen,
        terms: &Terms<'_>,
        round: &mut Round<'_>,
    ) -> Result<Option<Edit>, Stop> {
        // A link that has changed by now belongs to the pass that changed it.
        let Some(link) = self.link(folder, source_uid)? else { return Ok(None) };
        for (kind, detail) in compare::differences(&link, seen, terms) {
            self.differs(folder, source_uid, seen.uid, (kind, detail), round).await?;
        }
        let equal = seen.digests.sha256 == link.sha256;
        let new = equal && link.altered.is_none() && link.proof != Proof::Verified;
        let id = self.folders[folder].id;
        Ok(new.then_some(Edit::Prove(id, source_uid, seen.uid, link.sha256)))
    }

    /// Messages of the window that are listed and whose bytes did not come.
    async fn unreadable(
        &mut self,
        window: &[Uid],
        seen: &[WholeSeen],
        index: &Index,
        round: &mut Round<'_>,
    ) -> Result<(), Stop> {
        let came: HashSet<Uid> = seen.iter().map(|seen| seen.uid).collect();
        for uid in window.iter().filter(|uid| !came.contains(uid)) {
            if let Some((folder, source_uid)) = index.of_uid(*uid) {
                let what = (Kind::Unreadable, "its bytes are not given".to_owned());
                self.differs(folder, source_uid, *uid, what, round).await?;
            }
        }
        Ok(())
    }

    async fn differs(
        &mut self,
        folder: usize,
        source_uid: Uid,
        target_uid: Uid,
        (kind, detail): (Kind, String),
        round: &mut Round<'_>,
    ) -> Result<(), Stop> {
        match round {
            Round::Doubting(doubts) => {
                doubts.target_uids.insert(target_uid);
                doubts.sources.insert((folder, source_uid));
                Ok(())
            }
            Round::Telling(_) => {
                let (source, target) = (Some(source_uid), Some(target_uid));
                self.tell(Side::Target, kind, folder, source, target, detail).await
            }
        }
    }

    async fn stranger(
        &mut self,
        folder: usize,
        seen: &WholeSeen,
        old_below: u32,
        round: &mut Round<'_>,
    ) -> Result<(), Stop> {
        let old = seen.uid.get() < old_below;
        let (sha256, instant) = (seen.digests.sha256, seen.instant);
        let strange = Strange { uid: seen.uid, folder, sha256, instant, old };
        match round {
            Round::Doubting(doubts) => drop(doubts.target_uids.insert(seen.uid)),
            Round::Telling(_) if self.open.strangers.len() < MATCHED_MAX => {
                self.open.strangers.push(strange);
            }
            Round::Telling(_) => self.tell_stranger(strange, false).await?,
        }
        Ok(())
    }

    /// Links that no message explains.
    fn absent(
        &mut self,
        index: &Index,
        present: &[Uid],
        uid_next: Option<u32>,
        renumbered: bool,
        round: &mut Round<'_>,
    ) {
        for (uid, folder, source_uid) in &index.by_uid {
            if present.binary_search(uid).is_err() {
                let continuous = uid_next.is_none_or(|uid_next| uid.get() < uid_next);
                let how = Absent { told: true, continuous, elsewhere: false };
                let (folder, source_uid, target_uid) = (*folder, *source_uid, Some(*uid));
                self.gone(Gone { folder, source_uid, target_uid, how }, round);
            }
        }
        for one in index.by_bytes.iter().filter(|one| !one.found) {
            let how = Absent { told: renumbered, continuous: false, elsewhere: false };
            let (folder, source_uid) = (one.folder, one.source_uid);
            self.gone(Gone { folder, source_uid, target_uid: None, how }, round);
        }
    }

    fn gone(&mut self, gone: Gone, round: &mut Round<'_>) {
        let source = (gone.folder as usize, gone.source_uid);
        match round {
            Round::Doubting(doubts) => drop(doubts.sources.insert(source)),
            Round::Telling(Some(only)) if !only.sources.contains(&source) => {}
            Round::Telling(_) => self.open.absent.push(gone),
        }
    }

    /// What is missing is looked for among what nothing explains, over all folders; then both are
    /// judged and told.
    async fn judge(&mut self) -> Result<Vec<(FolderId, Uid)>, Stop> {
        let Open { absent, mut strangers } = std::mem::take(&mut self.open);
        let mut missing = Vec::new();
        strangers.sort_unstable_by_key(|strange| (strange.sha256, strange.uid));
        let mut taken = vec![false; strangers.len()];
        for gone in absent {
            let (folder, source_uid) = (gone.folder as usize, gone.source_uid);
            let Some(link) = self.link(folder, source_uid)? else { continue };
            let first = strangers.partition_point(|strange| strange.sha256 < link.sha256);
            let found = (first..strangers.len())
                .take_while(|at| strangers[*at].sha256 == link.sha256)
                .find(|at| !taken[*at]);
            let how = Absent { elsewhere: found.is_some(), ..gone.how };
            let kind = compare::absent(how, &self.terms(None));
            let mut detail = String::new();
            if let Some(at) = found {
                let lies_in = &self.folders[strangers[at].folder].target_shown;
                detail = format!("the same bytes lie in {}", shown(lies_in));
                taken[at] = kind == Kind::Moved;
            } else if gone.how.told && !gone.how.continuous {
                detail = "the folder was restored or made anew at the target".to_owned();
            }
            if kind == Kind::Missing {
                missing.push((self.folders[folder].id, source_uid));
            }
            let source = Some(source_uid);
            self.tell(Side::Target, kind, folder, source, gone.target_uid, detail).await?;
        }
        let twins = self.twins(&strangers)?;
        for (strange, taken) in strangers.into_iter().zip(taken) {
            if !taken {
                let twin = twins.contains(&strange.sha256);
                self.tell_stranger(strange, twin).await?;
            }
        }
        Ok(missing)
    }

    /// Whose bytes are those of a message that has its copy?
    fn twins(&self, strangers: &[Strange]) -> Result<HashSet<Sha256>, Stop> {
        let strange: HashSet<Sha256> = strangers.iter().map(|strange| strange.sha256).collect();
        let mut twins = HashSet::new();
        for folder in self.folders.iter().filter(|_| !strange.is_empty()) {
            self.shared.store.visit_known(folder.id, |_, known| {
                if let Known::Linked(link) = known
                    && strange.contains(&link.sha256)
                {
                    twins.insert(link.sha256);
                }
            })?;
        }
        Ok(twins)
    }

    async fn tell_stranger(&mut self, strange: Strange, twin: bool) -> Result<(), Stop> {
        let what = Stranger { twin, old: strange.old, instant: strange.instant.0 };
        let kind = compare::stranger(what, &self.terms(None));
        let detail = match twin {
            true => "a second copy of a message".to_owned(),
            false => format!("dated {}", board::rfc3339(strange.instant.0)),
        };
        self.tell(Side::Target, kind, strange.folder, None, Some(strange.uid), detail).await
    }
}
