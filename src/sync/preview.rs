//! What the next pass would do to an account: looked at with connections of its own, in folders
//! that are only ever opened with EXAMINE, and not done. Nothing is written down either.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use tokio::sync::SemaphorePermit;

use super::beside::{Stop, is_not_paused, is_over, known_account, may_log_in, may_read_source};
use super::connect::connect;
use super::copy::Failure;
use super::folders::{self, Fate, Mapped, SideFolders};
use super::forecast::{self, FolderPlan, Seen, Terms};
use super::pass::{at_source, at_target};
use super::plan::{self, SourceLook, TargetDiff};
use super::shared::Shared;
use super::source::name_there;
use super::survey::is_exempt;
use super::trouble;
use crate::checkpoint::{AccountRecord, FolderRecord, Known, Origin, Phase};
use crate::config::{Deletions, Enrollment};
use crate::imap::{Changes, Error, Listed, Namespace, Session, WireName};
use crate::journal::shown;
use crate::words::{Message, Side, Uid};

/// What is known of a folder's source UIDs.
type Remembered = BTreeMap<Uid, Known>;

/// What the next pass would do.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Preview {
    pub address: String,
    pub phase: String,
    /// In copying order.
    pub folders: Vec<FolderPlan>,
    /// Removals would be suspended, or are, until somebody approves them.
    pub removals_suspended: bool,
    /// What concerns the account as a whole.
    pub notes: Vec<String>,
    /// Why nothing could be foreseen: a reason code, and words.
    pub error: Option<(String, String)>,
}

/// Foresees the next pass of an account. Dropping it is safe.
pub async fn preview(shared: &Shared, enrollment: &Enrollment) -> Preview {
    let address = enrollment.address.clone();
    match foresee(shared, enrollment).await {
        Ok(preview) => preview,
        Err(stop) => Preview { address, error: Some(stop.told()), ..Preview::default() },
    }
}

async fn foresee(shared: &Shared, enrollment: &Enrollment) -> Result<Preview, Stop> {
    is_not_paused(enrollment)?;
    let over = is_over(shared, enrollment);
    let record = if over { None } else { known_account(shared, enrollment)? };
    let begun = record.as_ref().map_or(Phase::Enrolled, |record| record.phase);
    let phase = if over { Phase::Completed } else { begun };
    let mut preview = Preview {
        address: enrollment.address.clone(),
        phase: phase.as_str().to_owned(),
        ..Preview::default()
    };
    if phase >= Phase::Completed {
        preview.notes.push("it is over: there is no next pass".to_owned());
        return Ok(preview);
    }
    let opens = enrollment.migration.enroll_from;
    if let Some(opens) = opens.filter(|opens| shared.clock.now() < opens.as_second()) {
        preview.notes.push(format!("it begins when its enrolling window opens, at {opens}"));
    }
    may_read_source(shared, enrollment)?;
    for side in [Side::Source, Side::Target] {
        record.as_ref().map_or(Ok(()), |record| may_log_in(enrollment, record, side))?;
    }
    let folders = match &record {
        Some(record) => shared.store.folders(record.id)?,
        None => Vec::new(),
    };
    let (source, _source_berth) = connect(shared, enrollment, Side::Source).await?;
    let (target, _target_berth) = connect(shared, enrollment, Side::Target).await?;
    let mut looking = Looking { shared, enrollment, record, folders, source, target, preview };
    looking.look().await?;
    let Looking { source, target, preview, .. } = looking;
    source.logout().await;
    target.logout().await;
    Ok(preview)
}

struct Looking<'a> {
    shared: &'a Shared,
    enrollment: &'a Enrollment,
    /// `None` before the first pass.
    record: Option<AccountRecord>,
    folders: Vec<FolderRecord>,
    source: Session,
    target: Session,
    preview: Preview,
}

impl Looking<'_> {
    async fn look(&mut self) -> Result<(), Stop> {
        let listed = self.source.list().await.map_err(at_source)?;
        let target_listed = self.target.list().await.map_err(at_target)?;
        let _memory = memory_for(self.shared, &mut self.source, &listed).await?;
        let namespaces = (self.source.namespace().clone(), self.target.namespace().clone());
        let own = self.folders.iter().filter(|folder| folder.archive().is_none());
        let own: Vec<FolderRecord> = own.cloned().collect();
        let mut mapped = map_folders(self.enrollment, &own, &listed, &target_listed, &namespaces);
        mapped.sort_by_key(|mapped| (!mapped.source.is_inbox(), mapped.source_shown.clone()));
        let mut seen = Vec::new();
        let mut left_out = Vec::new();
        for one in mapped {
            let there = target_listed
                .iter()
                .any(|listed| !listed.no_select && is_target_of(&one, &listed.name));
            match self.look_at(&one, there, &listed).await? {
                Ok(folder) => seen.push(folder),
                Err(plan) => left_out.push(plan),
            }
        }
        if self.folders.iter().any(|folder| folder.archive().is_some()) {
            self.preview.notes.push("what it does to the archive is not foreseen".to_owned());
        }
        let missing = own.iter().filter(|folder| {
            listed.iter().all(|listed| listed.name.as_octets() != &*folder.source_name)
        });
        let missing: Vec<String> = missing.map(|folder| folder.source_shown.clone()).collect();
        for name in missing {
            let text = format!(
                "{}: the source no longer lists it; a pass waits for a second look",
                shown(&name)
            );
            self.preview.notes.push(text);
        }
        let (plans, suspended) = forecast::forecast(&seen, self.terms());
        self.preview.folders.extend(plans);
        self.preview.folders.extend(left_out);
        self.preview.removals_suspended = suspended;
        Ok(())
    }

    fn terms(&self) -> Terms {
        let migration = &self.enrollment.migration;
        let phase = self.record.as_ref().map_or(Phase::Enrolled, |record| record.phase);
        let can_remove = self.target.capabilities().has("UIDPLUS");
        Terms {
            may_change: phase < Phase::Archiving,
            mirrors: migration.sync.deletions == Deletions::Mirror && can_remove,
            suspended: self.record.as_ref().is_some_and(|record| record.removals_suspended),
            target_is_ours: migration.target_is_ours,
        }
    }

    /// A folder as it is seen, or why it is left out.
    async fn look_at(
        &mut self,
        mapped: &Mapped,
        there: bool,
        listed: &[Listed],
    ) -> Result<Result<Seen, FolderPlan>, Stop> {
        let name = shown(&mapped.source_shown);
        let left_out = |state: &str, why: &str| FolderPlan {
            name: name.clone(),
            state: state.to_owned(),
            why: shown(why),
            ..FolderPlan::default()
        };
        let (target, target_shown) = match &mapped.fate {
            Fate::Copy { target, target_shown } => (target, target_shown),
            Fate::Excluded => return Ok(Err(left_out("excluded", ""))),
            Fate::Virtual => {
                let why = "a view of messages that lie in other folders";
                return Ok(Err(left_out("excluded", why)));
            }
            Fate::Conflict(why) => return Ok(Err(left_out("held", why))),
        };
        let mut folders = self.folders.iter();
        let record = folders.find(|folder| *folder.source_name == *mapped.source.as_octets());
        let record = record.cloned();
        let there = there || target.is_inbox();
        let sides = self.look_at_both(mapped, target, there, record.as_ref()).await;
        let (known, look, on_target) = match sides {
            Err(Stop::Failure(Failure::Imap(side, Error::No { code, text, .. })))
                if trouble::is_of_folder(code.as_ref(), &text) =>
            {
                return Ok(Err(left_out("held", &format!("the {side} says: {text}"))));
            }
            sides => sides?,
        };
        let apart_secs = self.shared.apart.as_secs() as i64;
        let source = plan::source_diff(&known, &look, self.shared.clock.now(), apart_secs);
        let copied = record.as_ref().is_some_and(|record| record.first_copy_completed);
        let phase = self.record.as_ref().map_or(Phase::Enrolled, |record| record.phase);
        Ok(Ok(Seen {
            name,
            target: shown(target_shown),
            to_be_made: !there,
            known,
            source,
            on_target,
            exempt: is_exempt(mapped, listed, &self.enrollment.migration.source.well_known),
            deferred: mapped.deferred && !copied && phase < Phase::Archiving,
        }))
    }

    async fn look_at_both(
        &mut self,
        mapped: &Mapped,
        target: &WireName,
        there: bool,
        record: Option<&FolderRecord>,
    ) -> Result<(Remembered, SourceLook, TargetDiff), Stop> {
        let (known, look) = self.look_at_source(mapped, record).await?;
        let on_target = match there {
            true => self.look_at_target(target, record, &known).await?,
            false => {
                let vanished = plan::links(&known).map(|(uid, _)| uid).collect();
                TargetDiff { vanished, ..TargetDiff::default() }
            }
        };
        Ok((known, look, on_target))
    }

    /// All that a complete listing shows, beside what is known of the folder.
    async fn look_at_source(
        &mut self,
        mapped: &Mapped,
        record: Option<&FolderRecord>,
    ) -> Result<(Remembered, SourceLook), Stop> {
        let selected = self.source.examine(&mapped.source).await.map_err(at_source)?;
        let messages = list_all(&mut self.source).await.map_err(at_source)?;
        let seen = record.and_then(|record| record.source_seen);
        let renumbered = seen.is_some_and(|seen| seen.uid_validity != selected.uid_validity);
        let known = match record {
            Some(record) if !renumbered => self.shared.store.known(record.id)?,
            _ => Vec::new(),
        };
        if renumbered {
            let text = format!(
                "{}: the source has renumbered it: messages are paired with their copies by \
                 content",
                shown(&mapped.source_shown)
            );
            self.preview.notes.push(text);
        }
        let uids: BTreeSet<Uid> = messages.iter().map(|message| message.uid).collect();
        let complete = uids.len() == self.source.exists() as usize;
        let present = complete.then_some(uids);
        let look = SourceLook { messages, changes: Changes::default(), present };
        Ok((known.into_iter().collect(), look))
    }

    /// Which of them no message needs is known once all have their copies.
    fn note_orphans(&mut self, target: &WireName, orphans: usize) {
        if orphans > 0 {
            let text = format!(
                "{}: {orphans} copies are of messages that the source has numbered anew; those that \
                 none of its messages turns out to need are removed later, where deletions are mirrored",
                shown(&String::from_utf8_lossy(target.as_octets()))
            );
            self.preview.notes.push(text);
        }
    }

    async fn look_at_target(
        &mut self,
        target: &WireName,
        record: Option<&FolderRecord>,
        known: &Remembered,
    ) -> Result<TargetDiff, Stop> {
        let selected = self.target.examine(target).await.map_err(at_target)?;
        let seen = record.and_then(|record| record.target_seen);
        let renumbered = seen.is_some_and(|seen| seen.uid_validity != selected.uid_validity);
        let listing = list_all(&mut self.target).await.map_err(at_target)?;
        // Another folder that shares the target explains some of what lies there.
        let mut others = BTreeSet::new();
        let mut orphans = BTreeSet::new();
        let mut left = 0;
        for folder in &self.folders {
            if *folder.target_name != *target.as_octets() {
                continue;
            }
            let own = record.is_some_and(|record| record.id == folder.id);
            let lost = self.shared.store.orphans(folder.id)?;
            let ours = lost.iter().filter(|orphan| orphan.link.origin == Origin::Copied);
            left += if own { ours.count() } else { 0 };
            orphans.extend(lost.into_iter().map(|orphan| orphan.target_uid));
            if !own {
                self.shared.store.visit_known(folder.id, |_, known| {
                    if let Known::Linked(link) = known {
                        others.extend(link.target_uid);
                    }
                })?;
            }
        }
        self.note_orphans(target, left);
        let mut diff = plan::target_diff(known, &orphans, &others, &listing);
        if renumbered {
            let text = format!(
                "{}: the target has renumbered it: copies are found again by content",
                shown(&String::from_utf8_lossy(target.as_octets()))
            );
            self.preview.notes.push(text);
            return Ok(TargetDiff::default());
        }
        if listing.len() != self.target.exists() as usize {
            // Fewer than EXISTS is no complete listing: nothing has vanished on its word.
            diff.vanished.clear();
        }
        Ok(diff)
    }
}

fn is_target_of(mapped: &Mapped, name: &WireName) -> bool {
    matches!(&mapped.fate, Fate::Copy { target, .. } if target == name)
}

/// All messages of the selected folder.
pub async fn list_all(session: &mut Session) -> Result<Vec<Message>, Error> {
    match Uid::new(1) {
        Some(first) => session.list_messages(first).await,
        None => Ok(Vec::new()),
    }
}

/// For the listings of all folders of the source, and of as much at the target, taken at once:
/// who has some memory never waits for more.
pub async fn memory_for<'s>(
    shared: &'s Shared,
    source: &mut Session,
    listed: &[Listed],
) -> Result<Option<SemaphorePermit<'s>>, Stop> {
    let names = listed.iter().filter(|listed| !listed.no_select).map(|listed| &listed.name);
    let names: Vec<&WireName> = names.collect();
    let statuses = source.statuses(&names).await.map_err(at_source)?;
    let messages: u64 = statuses.iter().flatten().map(|status| u64::from(status.messages)).sum();
    Ok(shared.memory.of_messages(messages * 2).await)
}

/// Where each folder of the source goes, as a pass would decide it now.
pub fn map_folders(
    enrollment: &Enrollment,
    known: &[FolderRecord],
    listed: &[Listed],
    target_listed: &[Listed],
    (source, target): &(Namespace, Namespace),
) -> Vec<Mapped> {
    let migration = &enrollment.migration;
    let name = |octets: &[u8]| WireName::of_wire(octets);
    let there = |folder: &FolderRecord| name_there(&name(&folder.source_name));
    let fixed = known.iter().map(|folder| (there(folder), name(&folder.target_name)));
    let fixed: HashMap<WireName, WireName> = fixed.collect();
    let (source_names, target_names) = (&migration.source.well_known, &migration.target.well_known);
    let source_side = SideFolders { listed, namespace: source, well_known: source_names };
    let target_side =
        SideFolders { listed: target_listed, namespace: target, well_known: target_names };
    folders::map(&source_side, &target_side, &migration.folders, &fixed)
}
