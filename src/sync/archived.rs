//! Messages that left for the archive before the cutover. The archive is not copied yet, but who
//! moved a message there has not deleted it: its one copy follows, where the target can move it.
//! Until the archive can be asked, and after the seal, copies stay where they are.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::beside::{Stop, known_account, may_log_in};
use super::clock::Instant;
use super::connect::{connect, new_record, note_refusal};
use super::copy::Failure;
use super::folders::Fate;
use super::pass::{LISTED_FREELY, Look, Pass, at_source, at_target};
use super::plan;
use super::preview::{list_all, map_folders};
use crate::checkpoint::{
    AccountRecord, Edit, FolderId, FolderRecord, Known, Link, Orphan, Phase, Seen, archive_key,
};
use crate::config::Enrollment;
use crate::imap::{Error, Listed, Namespace, Session, WireName};
use crate::journal::{Entry, Event};
use crate::words::{Digests, InternalDate, Side, Uid, UidValidity};

/// An archive that does not answer within this is asked again later.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// Mail is copied meanwhile: what left can wait.
const UNANSWERED_AGAIN: Duration = Duration::from_secs(600);

/// A copy of ours whose message is gone from its folder.
struct Left {
    /// Among the looks of the pass.
    look: usize,
    uid: Uid,
    link: Link,
}

/// A folder of the archive in which some of them may lie.
struct Place {
    source: WireName,
    shown: String,
    target: WireName,
    target_shown: String,
    uid_validity: UidValidity,
    messages: Vec<(Uid, InternalDate, Digests)>,
}

/// What is known of the archive, and of where its folders go.
struct Ways<'w> {
    archive: &'w Enrollment,
    record: Option<AccountRecord>,
    folders: Vec<FolderRecord>,
    target_listed: Vec<Listed>,
    target_space: Namespace,
}

impl Pass<'_> {
    /// Copies whose messages turn up in the archive are moved to where the archive's go.
    pub async fn follow_into_archive(&mut self, looks: &mut [Look]) -> Result<(), Failure> {
        let Some(archive) = self.enrollment.of_archive() else { return Ok(()) };
        let left = self.left_for_good(looks);
        // While removals are suspended nothing happens to any of them.
        if left.is_empty() || self.book.record.removals_suspended {
            return Ok(());
        }
        let is_last = self.phase() >= Phase::Draining;
        let (now, again) = (Instant::now(), self.book.learned.archive_asked_again);
        if let Some(again) = again.filter(|again| *again > now && !is_last) {
            self.due_at(again);
            return self.keep(looks, &left).await;
        }
        let session = self.target.session().await?;
        let target_listed = session.list().await.map_err(at_target)?;
        let target_space = session.namespace().clone();
        let record = match known_account(self.shared, &archive) {
            Ok(record) => record,
            Err(_) => return self.keep(looks, &left).await,
        };
        let folders = match &record {
            Some(record) => self.shared.store.folders(record.id)?,
            None => Vec::new(),
        };
        let ways = Ways { archive: &archive, record, folders, target_listed, target_space };
        let asked = timeout(ANSWERS_WITHIN, self.look_into_archive(&ways, &left)).await;
        let (now, apart) = (Instant::now(), self.shared.apart);
        let Ok(Ok(found)) = asked else {
            self.book.learned.archive_asked_again = Some(now + UNANSWERED_AGAIN);
            return self.keep(looks, &left).await;
        };
        // A login each time: an owner who tidies up causes one a minute.
        self.book.learned.archive_asked_again = Some(now + apart);
        if found.is_empty() {
            return Ok(());
        }
        let pairs = paired(left, &found);
        if !self.target.can_move().await? {
            let stay: Vec<Left> = pairs.into_values().flatten().map(|(left, _)| left).collect();
            return self.keep_for_good(looks, &stay).await;
        }
        for ((look, place), moved) in pairs {
            self.move_into_archive(looks, look, &ways, &found[place], moved).await?;
        }
        Ok(())
    }

    fn left_for_good(&self, looks: &[Look]) -> Vec<Left> {
        let mut left = Vec::new();
        for (at, look) in looks.iter().enumerate().filter(|(_, look)| !look.troubled) {
            for uid in &look.gone {
                if let Some(Known::Linked(link)) = look.known.get(uid)
                    && self.is_ours(link)
                {
                    left.push(Left { look: at, uid: *uid, link: link.clone() });
                }
            }
        }
        left
    }

    /// Whether they are in the archive is not known: nothing is removed until it is. The last pass
    /// waits for nobody.
    async fn keep(&mut self, looks: &mut [Look], left: &[Left]) -> Result<(), Failure> {
        if self.phase() >= Phase::Draining {
            let text = format!(
                "the archive could not be asked whether {} messages were moved there: their \
                 copies stay",
                left.len()
            );
            self.emit(Entry::new(Event::ArchiveUnanswered, text));
            return self.keep_for_good(looks, left).await;
        }
        for Left { look, uid, .. } in left {
            looks[*look].gone.retain(|gone| gone != uid);
            looks[*look].unfinished = true;
        }
        Ok(())
    }

    /// Their copies stay where they are, and [`Pass::leave_what_stays`] knows them.
    async fn keep_for_good(&mut self, looks: &mut [Look], left: &[Left]) -> Result<(), Failure> {
        let mut edits = Vec::new();
        for Left { look, uid, link } in left {
            let look = &mut looks[*look];
            let Some(target_uid) = link.target_uid else { continue };
            edits.push(Edit::DropKnown(look.folder, *uid));
            edits.push(Edit::PutOrphan(look.folder, Orphan { target_uid, link: link.clone() }));
            self.forget_gone(look, *uid);
        }
        self.writer.commit(edits).await?;
        Ok(())
    }

    fn forget_gone(&mut self, look: &mut Look, uid: Uid) {
        look.gone.retain(|gone| *gone != uid);
        look.known.remove(&uid);
        self.book.learned.missing.settled((look.folder, uid));
    }

    /// Folders of the archive that hold messages with the size and date of some of `left`.
    async fn look_into_archive(
        &mut self,
        ways: &Ways<'_>,
        left: &[Left],
    ) -> Result<Vec<Place>, Stop> {
        if let Some(record) = &ways.record {
            may_log_in(ways.archive, record, Side::Source)?;
        }
        let connected = connect(self.shared, ways.archive, Side::Source).await;
        let (mut session, _berth) = match connected {
            Ok(connected) => connected,
            Err(failure) => {
                note_refusal(self.shared, self.writer, ways.archive, &failure).await?;
                return Err(failure.into());
            }
        };
        let listed = session.list().await.map_err(at_source)?;
        let spaces = (session.namespace().clone(), ways.target_space.clone());
        let mapped =
            map_folders(ways.archive, &ways.folders, &listed, &ways.target_listed, &spaces);
        let wanted: HashSet<(u64, InternalDate)> =
            left.iter().map(|left| (left.link.size, left.link.instant)).collect();
        let mut places = Vec::new();
        for mapped in mapped {
            let Fate::Copy { target, target_shown } = mapped.fate else { continue };
            let selected = session.examine(&mapped.source).await.map_err(at_source)?;
            let known = self.known_of_archive(ways, &mapped.source, selected.uid_validity)?;
            let messages = self.some_of(&mut session, &wanted, &known).await?;
            if !messages.is_empty() {
                places.push(Place {
                    source: mapped.source,
                    shown: mapped.source_shown,
                    target,
                    target_shown,
                    uid_validity: selected.uid_validity,
                    messages,
                });
            }
        }
        session.logout().await;
        Ok(places)
    }

    /// Messages of a folder whose copies have followed before.
    fn known_of_archive(
        &self,
        ways: &Ways<'_>,
        source: &WireName,
        validity: UidValidity,
    ) -> Result<HashSet<Uid>, Stop> {
        let Some(folder) = record_of(&ways.folders, source) else { return Ok(HashSet::new()) };
        let known = self.shared.store.known(folder.id)?;
        if folder.source_seen.is_some_and(|seen| seen.uid_validity != validity) {
            let text = "the archive has renumbered a folder".to_owned();
            return Err(Stop::Refused("protocol_error", text));
        }
        Ok(known.into_iter().map(|(uid, _)| uid).collect())
    }

    /// Those messages of the selected folder that have one of these sizes and dates and are not
    /// known, with their digests. All of it must be seen, for what is not seen may be there.
    async fn some_of(
        &mut self,
        session: &mut Session,
        wanted: &HashSet<(u64, InternalDate)>,
        known: &HashSet<Uid>,
    ) -> Result<Vec<(Uid, InternalDate, Digests)>, Stop> {
        let incomplete = || Stop::from(at_source(Error::TimedOut("the archive's listing")));
        let exists = session.exists();
        let _memory: Option<SemaphorePermit<'_>> = match u64::from(exists) {
            0 => return Ok(Vec::new()),
            few if few <= LISTED_FREELY => None,
            // Who has memory already does not wait for more.
            many => Some(self.shared.memory.at_once(many).ok_or_else(incomplete)?),
        };
        let messages = list_all(session).await.map_err(at_source)?;
        if messages.len() != exists as usize {
            return Err(incomplete());
        }
        let may_be = messages.into_iter().filter(|message| {
            wanted.contains(&(message.size, message.instant)) && !known.contains(&message.uid)
        });
        let dates: HashMap<Uid, InternalDate> =
            may_be.map(|message| (message.uid, message.instant)).collect();
        if dates.is_empty() {
            return Ok(Vec::new());
        }
        let mut uids: Vec<Uid> = dates.keys().copied().collect();
        uids.sort();
        let digests = session.digests(&uids).await.map_err(at_source)?;
        if digests.len() < uids.len() {
            return Err(incomplete());
        }
        Ok(digests.into_iter().map(|(uid, digests)| (uid, dates[&uid], digests)).collect())
    }

    /// A MOVE that is done twice is done once, and if its answer is lost the copy is found in its
    /// new place by content when the archive is copied.
    async fn move_into_archive(
        &mut self,
        looks: &mut [Look],
        from: usize,
        ways: &Ways<'_>,
        place: &Place,
        moved: Vec<(Left, Uid)>,
    ) -> Result<(), Failure> {
        let look = &mut looks[from];
        let from_name = self.book.pairs[look.pair].target.clone();
        let links: Vec<(Uid, Link)> =
            moved.iter().map(|(left, _)| (left.uid, left.link.clone())).collect();
        let verified = self.target.verify(&from_name, &links).await?;
        self.lose_strangers(look, &verified).await?;
        let pair = look.pair;
        let sure = |left: &Left| self.may_touch(&verified, pair, left.uid, &left.link);
        let moved: Vec<(Left, Uid)> = moved.into_iter().filter(|(left, _)| sure(left)).collect();
        if moved.is_empty() {
            return Ok(());
        }
        let mut folder = self.folder_of_archive(ways, place).await?;
        let uids: Vec<Uid> = moved.iter().filter_map(|(left, _)| left.link.target_uid).collect();
        let mut places: HashMap<Uid, Uid> = HashMap::new();
        if from_name == place.target {
            places.extend(uids.iter().map(|uid| (*uid, *uid)));
        } else if let Some(told) =
            self.target.move_messages(&from_name, &uids, &place.target).await?
        {
            let uid_validity = told.uid_validity;
            folder.target_seen = Some(Seen { uid_validity, ..Seen::default() });
            places.extend(told.pairs);
        }
        let mut edits = vec![Edit::PutFolder(folder.clone())];
        for (Left { uid, mut link, .. }, new) in moved {
            link.target_uid = link.target_uid.and_then(|uid| places.get(&uid).copied());
            let text = format!("moved from {}", self.book.pairs[pair].shown());
            let entry = Entry::new(Event::MessageMoved, text).folder(&folder.source_shown);
            self.emit(entry.source_uid(new).target_uid(link.target_uid));
            edits.push(Edit::DropKnown(look.folder, uid));
            edits.push(Edit::PutKnown(folder.id, new, Known::Linked(link)));
            self.forget_gone(look, uid);
        }
        self.writer.commit(edits).await?;
        if from_name != place.target {
            self.book.pairs[pair].expect_fewer(uids.len());
            for pair in self.book.pairs.iter_mut().filter(|pair| pair.target == place.target) {
                pair.look_at_target = true;
            }
        }
        Ok(())
    }

    /// The record of a folder of the archive, made where there is none; and its target.
    async fn folder_of_archive(
        &mut self,
        ways: &Ways<'_>,
        place: &Place,
    ) -> Result<FolderRecord, Failure> {
        let is_there = ways.target_listed.iter().any(|listed| listed.name == place.target);
        if !is_there && !place.target.is_inbox() {
            self.make_folder(&place.target).await?;
        }
        let account = match self.shared.store.account(&archive_key(&self.enrollment.address))? {
            Some(record) => record,
            None => {
                let now = self.shared.clock.now();
                let record = new_record(self.shared, ways.archive, Some(now))?;
                self.writer.commit(vec![Edit::PutAccount(record.clone())]).await?;
                record
            }
        };
        let folders = self.shared.store.folders(account.id)?;
        if let Some(folder) = record_of(&folders, &place.source) {
            return Ok(folder.clone());
        }
        let uid_validity = place.uid_validity;
        let folder = FolderRecord {
            id: self.shared.store.new_folder_id()?,
            account: account.id,
            source_name: place.source.as_octets().into(),
            target_name: place.target.as_octets().into(),
            source_shown: place.shown.clone(),
            target_shown: place.target_shown.clone(),
            exempt: false,
            source_seen: Some(Seen { uid_validity, ..Seen::default() }),
            target_seen: None,
            first_copy_completed: false,
            compared_at: 0,
        };
        self.writer.commit(vec![Edit::PutFolder(folder.clone())]).await?;
        Ok(folder)
    }

    /// Messages of the archive whose copies had to stay elsewhere when they were moved there have
    /// no second one made: after the seal nothing is moved any more. They are listed.
    pub async fn leave_what_stays(&mut self, looks: &mut [Look]) -> Result<(), Failure> {
        if !self.enrollment.is_archive {
            return Ok(());
        }
        let mut staying: Vec<(FolderId, String, Orphan)> = Vec::new();
        for folder in self.folders_beside()? {
            let orphans = self.shared.store.orphans(folder.id)?.into_iter();
            let shown = &folder.target_shown;
            staying.extend(orphans.map(|orphan| (folder.id, shown.clone(), orphan)));
        }
        for look in looks {
            let may_be = |size: u64, instant: InternalDate| {
                let mut links = staying.iter().map(|(_, _, orphan)| &orphan.link);
                links.any(|link| link.size == size && link.instant == instant)
            };
            let wants = look.not_in_doubt().filter(|want| may_be(want.size, want.instant));
            let uids: Vec<Uid> = wants.map(|want| want.uid).collect();
            let digests = match self.source_digests(look.pair, &uids).await {
                Ok(digests) => digests,
                Err(failure) => {
                    self.tolerate(look, Err(failure))?;
                    continue;
                }
            };
            for (uid, digests) in digests {
                let instant = look.wants[&uid].instant;
                let same = |link: &Link| link.sha256 == digests.sha256 && link.instant == instant;
                let found = staying.iter().position(|(_, _, orphan)| same(&orphan.link));
                let Some(found) = found else { continue };
                let (folder, shown, orphan) = staying.swap_remove(found);
                self.list_as_staying(look, uid, (folder, orphan), &shown).await?;
            }
        }
        Ok(())
    }

    async fn list_as_staying(
        &mut self,
        look: &mut Look,
        uid: Uid,
        (folder, orphan): (FolderId, Orphan),
        shown: &str,
    ) -> Result<(), Failure> {
        let text = format!("its copy stays in {shown}, from where it was moved to the archive");
        let known = Known::Refused {
            by_target: true,
            text: text.clone(),
            tries: plan::REFUSED_TRIES_MAX,
            last_try: self.shared.clock.now(),
        };
        self.writer
            .commit(vec![
                Edit::DropOrphan(folder, orphan.target_uid),
                Edit::PutKnown(look.folder, uid, known.clone()),
            ])
            .await?;
        look.wants.remove(&uid);
        look.known.insert(uid, known);
        let entry = Entry::new(Event::MessageRefused, text);
        self.emit(entry.folder(self.book.pairs[look.pair].shown()).source_uid(uid));
        Ok(())
    }

    /// Folders of the account's other login: of its archive, or of its own where this is that.
    pub fn folders_beside(&self) -> Result<Vec<FolderRecord>, Failure> {
        let address = &self.enrollment.address;
        let beside = match self.enrollment.is_archive {
            true => address.clone(),
            false if self.enrollment.has_archive() => archive_key(address),
            false => return Ok(Vec::new()),
        };
        let record = self.shared.store.account(&beside)?;
        Ok(record.map_or(Ok(Vec::new()), |record| self.shared.store.folders(record.id))?)
    }
}

fn record_of<'f>(folders: &'f [FolderRecord], source: &WireName) -> Option<&'f FolderRecord> {
    folders.iter().find(|folder| *folder.source_name == *source.as_octets())
}

/// Which of them lies where, by its bytes, each message of the archive once: by look and place.
fn paired(left: Vec<Left>, places: &[Place]) -> HashMap<(usize, usize), Vec<(Left, Uid)>> {
    let mut pairs: HashMap<(usize, usize), Vec<(Left, Uid)>> = HashMap::new();
    let mut taken: HashSet<(usize, Uid)> = HashSet::new();
    for left in left {
        let mut all = places.iter().enumerate().flat_map(|(at, place)| {
            place.messages.iter().map(move |(uid, instant, digests)| (at, *uid, *instant, digests))
        });
        let found = all.find(|(at, uid, instant, digests)| {
            digests.sha256 == left.link.sha256
                && *instant == left.link.instant
                && !taken.contains(&(*at, *uid))
        });
        if let Some((place, uid, ..)) = found {
            taken.insert((place, uid));
            pairs.entry((left.look, place)).or_default().push((left, uid));
        }
    }
    pairs
}
