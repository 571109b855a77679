//! The folders of an account: found, mapped, created at the target, missed.

use std::collections::{HashMap, HashSet};

use super::book::{Counts, LeftOut, Pair};
use super::clock::Instant;
use super::copy::Failure;
use super::folders::{self, Fate, Mapped, SideFolders};
use super::pass::{Absence, Pass, Scope, at_source, at_target};
use super::target::Target;
use super::trouble;
use crate::checkpoint::{Edit, FolderRecord, Seen};
use crate::config::FolderUse;
use crate::imap::{Error, FolderStatus, Listed, SpecialUse, WireName};
use crate::journal::{Entry, Event};
use crate::words::Side;

impl Pass<'_> {
    /// Lists the source; new folders are mapped and made at the target. Returns the status of
    /// each folder that can be selected.
    pub async fn survey(&mut self) -> Result<HashMap<WireName, FolderStatus>, Failure> {
        let (listed, target_listed) = match self.book.pairs.is_empty() {
            true => {
                let (source, target) = (&mut *self.source, &mut *self.target);
                let (source, target) =
                    tokio::join!(source.list(), async { list_target(target).await });
                (source.map_err(at_source)?, Some(target?))
            }
            false => (self.source.list().await.map_err(at_source)?, None),
        };
        let known: HashSet<&WireName> = self.book.pairs.iter().map(|pair| &pair.source).collect();
        // A refusal may have been for that moment: a full pass tries held folders again.
        let retry = self.scope == Scope::Full;
        let left_out = self.book.left_out.iter().filter(|one| match one.state {
            "held" => !retry,
            "deferred" => self.deferring,
            _ => true,
        });
        let left_out: HashSet<&WireName> = left_out.map(|left_out| &left_out.source).collect();
        let is_new = |listed: &&Listed| {
            !listed.no_select && !known.contains(&listed.name) && !left_out.contains(&listed.name)
        };
        if listed.iter().any(|listed| is_new(&listed)) {
            let target_listed = match target_listed {
                Some(listed) => listed,
                None => list_target(self.target).await?,
            };
            self.map_folders(&listed, target_listed).await?;
        }
        self.book.surveyed = true;
        let mut statuses = self.source_statuses(&listed).await?;
        statuses.extend(self.survey_archive().await?);
        Ok(statuses)
    }

    async fn source_statuses(
        &mut self,
        listed: &[Listed],
    ) -> Result<HashMap<WireName, FolderStatus>, Failure> {
        let mut statuses = HashMap::new();
        let mut unasked = Vec::new();
        for listed in listed.iter().filter(|listed| !listed.no_select) {
            match listed.status {
                Some(status) => drop(statuses.insert(listed.name.clone(), status)),
                None => unasked.push(&listed.name),
            }
        }
        let told = self.source.statuses(&unasked).await.map_err(at_source)?;
        for (name, status) in unasked.into_iter().zip(told) {
            // A folder that refuses STATUS may still be selected: it is looked at.
            statuses.insert(name.clone(), status.unwrap_or(FolderStatus::UNKNOWN));
        }
        Ok(statuses)
    }

    /// Maps all listed folders, creates missing targets, opens records for new pairs.
    async fn map_folders(
        &mut self,
        listed: &[Listed],
        target_listed: Vec<Listed>,
    ) -> Result<(), Failure> {
        let migration = self.enrollment.migration.clone();
        let source_space = self.source.namespace().clone();
        let target_space = self.target.session().await?.namespace().clone();
        let fixed: HashMap<WireName, WireName> =
            self.book.pairs.iter().map(|pair| (pair.source.clone(), pair.target.clone())).collect();
        let source_side = SideFolders {
            listed,
            namespace: &source_space,
            well_known: &migration.source.well_known,
        };
        let target_side = SideFolders {
            listed: &target_listed,
            namespace: &target_space,
            well_known: &migration.target.well_known,
        };
        let mapped = folders::map(&source_side, &target_side, &migration.folders, &fixed);
        let there: HashSet<WireName> = target_listed
            .iter()
            .filter(|listed| !listed.no_select)
            .map(|listed| listed.name.clone())
            .collect();
        let mut made = self.make_folders(&mapped, &there).await?;
        for mapped in mapped {
            let exempt = is_exempt(&mapped, listed, &migration.source.well_known);
            self.place(mapped, &mut made, exempt).await?;
        }
        self.book.pairs.sort_by_key(|pair| (!pair.source.is_inbox(), pair.record.id));
        self.board.show_book(self.book);
        Ok(())
    }

    /// Makes the targets of new pairs that are not there, in one flight.
    async fn make_folders(
        &mut self,
        mapped: &[Mapped],
        there: &HashSet<WireName>,
    ) -> Result<HashMap<WireName, Result<(), Error>>, Failure> {
        let mut wanted: Vec<WireName> = Vec::new();
        for mapped in mapped.iter().filter(|mapped| !(mapped.deferred && self.deferring)) {
            let Fate::Copy { target, .. } = &mapped.fate else { continue };
            let is_paired = self.book.pairs.iter().any(|pair| pair.source == mapped.source);
            let is_there = there.contains(target) || target.is_inbox() || wanted.contains(target);
            if !is_paired && !is_there {
                wanted.push(target.clone());
            }
        }
        let target = self.target.session().await?;
        let made = target.create_all(&wanted).await.map_err(at_target)?;
        Ok(wanted.into_iter().zip(made).collect())
    }

    /// Acts on one folder's fate.
    async fn place(
        &mut self,
        mapped: Mapped,
        made: &mut HashMap<WireName, Result<(), Error>>,
        exempt: bool,
    ) -> Result<(), Failure> {
        let (target, target_shown) = match mapped.fate {
            Fate::Copy { target, target_shown } => (target, target_shown),
            Fate::Excluded => {
                self.leave_out(mapped.source, mapped.source_shown, "excluded", String::new(), None);
                return Ok(());
            }
            Fate::Virtual => {
                let why = "a view of messages that lie in other folders".to_owned();
                self.leave_out(mapped.source, mapped.source_shown, "excluded", why, None);
                return Ok(());
            }
            Fate::Conflict(why) => {
                self.leave_out(mapped.source, mapped.source_shown, "held", why, None);
                return Ok(());
            }
        };
        if let Some(pair) = self.book.pairs.iter_mut().find(|pair| pair.source == mapped.source) {
            pair.record.exempt = exempt;
            return Ok(());
        }
        if mapped.deferred && self.deferring {
            let (source, shown) = (mapped.source, mapped.source_shown);
            let place = Some((target, target_shown));
            self.leave_out(source, shown, "deferred", String::new(), place);
            return Ok(());
        }
        if let Some(Err(Error::No { code, text, .. })) = made.get(&target)
            && trouble::is_of_folder(code.as_ref(), text)
        {
            let side = Side::Target;
            let why = format!("the {side} refuses to create {target_shown:?}: {text}");
            self.leave_out(mapped.source, mapped.source_shown, "held", why, None);
            return Ok(());
        }
        made.remove(&target).unwrap_or(Ok(())).map_err(at_target)?;
        self.open_pair(mapped.source, mapped.source_shown, target, target_shown, exempt).await
    }

    /// A folder that is to be copied: it is remembered from now on.
    pub async fn open_pair(
        &mut self,
        source: WireName,
        source_shown: String,
        target: WireName,
        target_shown: String,
        exempt: bool,
    ) -> Result<(), Failure> {
        let deferred = self.is_deferred(&source, &source_shown);
        let record = FolderRecord {
            id: self.shared.store.new_folder_id()?,
            account: self.book.record.id,
            source_name: source.as_octets().into(),
            target_name: target.as_octets().into(),
            source_shown,
            target_shown,
            exempt,
            source_seen: None,
            target_seen: None,
            first_copy_completed: false,
            compared_at: 0,
        };
        self.writer.commit(vec![Edit::PutFolder(record.clone())]).await?;
        self.book.left_out.retain(|left_out| left_out.source != source);
        self.book.pairs.push(Pair {
            record,
            source,
            target,
            permanent: None,
            counts: Counts::default(),
            look_at_target: true,
            unfinished: true,
            deferred,
            in_doubt: 0,
            listed_to: None,
            trouble: None,
        });
        Ok(())
    }

    pub async fn make_folder(&mut self, name: &WireName) -> Result<(), Failure> {
        let target = self.target.session().await?;
        target.create(name).await.map_err(at_target)?;
        // A folder that cannot be subscribed is still a folder.
        match target.subscribe(name).await {
            Ok(()) | Err(Error::No { .. }) => Ok(()),
            Err(error) => Err(at_target(error)),
        }
    }

    pub(super) fn leave_out(
        &mut self,
        source: WireName,
        shown: String,
        state: &'static str,
        why: String,
        target: Option<(WireName, String)>,
    ) {
        let before = self.book.left_out.iter().position(|left_out| left_out.source == source);
        if let Some(before) = before {
            if self.book.left_out[before].state == state {
                return;
            }
            // One that waited, and now has no place, waits no more: it is held.
            self.book.left_out.remove(before);
        }
        if state == "held" {
            let entry = Entry::new(Event::FolderConflict, &why).folder(&shown);
            self.emit(entry.reason("folder_conflict"));
        }
        self.book.left_out.push(LeftOut { source, shown, state, why, target });
    }

    /// A source folder is gone when two LISTs a minute apart lack it and it cannot be selected:
    /// then all its messages are missing. Its target folder stays.
    pub async fn absence(&mut self, at: usize) -> Result<Absence, Failure> {
        let pair = &self.book.pairs[at];
        let folder = pair.record.id;
        let missing = &mut self.book.learned.folders_missing;
        let gone = missing.missing(folder, false, self.begun, Instant::now());
        let name = pair.source.clone();
        match self.source.examine(&name).await {
            Ok(_) => {
                self.book.learned.folders_missing.settled(folder);
                Ok(Absence::Suspected)
            }
            Err(Error::No { code, text, .. }) => {
                if trouble::is_nonexistent(code.as_ref(), &text) {
                    return Ok(if gone { Absence::Certain } else { Absence::Unselectable });
                }
                let long = self.book.learned.folders_missing.for_long(folder, Instant::now());
                Ok(if long { Absence::Unknown } else { Absence::Suspected })
            }
            Err(error) => Err(at_source(error)),
        }
    }

    /// At the start of a session: folders whose target differs from what is remembered.
    pub async fn suspect_targets(&mut self) -> Result<(), Failure> {
        let names: Vec<WireName> = self.book.pairs.iter().map(|pair| pair.target.clone()).collect();
        let target = self.target.session().await?;
        let statuses =
            target.statuses(&names.iter().collect::<Vec<_>>()).await.map_err(at_target)?;
        for (at, status) in statuses.into_iter().enumerate() {
            let expected = self.book.pairs[at].record.target_seen;
            match status {
                Ok(status) => {
                    let same = expected.is_some_and(|seen| is_expected(&seen, &status));
                    self.book.pairs[at].look_at_target |= !same;
                }
                // The target's folder is gone: it is made again, and what was in it has vanished.
                Err(Error::No { code, text, .. }) => {
                    if trouble::is_nonexistent(code.as_ref(), &text) {
                        self.make_folder(&names[at]).await?;
                    }
                    self.book.pairs[at].look_at_target = true;
                }
                Err(error) => return Err(at_target(error)),
            }
        }
        Ok(())
    }
}

async fn list_target(target: &mut Target) -> Result<Vec<Listed>, Failure> {
    target.session().await?.list().await.map_err(at_target)
}

fn is_expected(seen: &Seen, status: &FolderStatus) -> bool {
    seen.uid_validity == status.uid_validity
        && seen.messages == status.messages
        && Some(seen.uid_next) == status.uid_next
}

/// Trash and Junk may be emptied at a stroke.
pub fn is_exempt(mapped: &Mapped, listed: &[Listed], well_known: &[(FolderUse, String)]) -> bool {
    let marked = listed.iter().any(|listed| {
        listed.name == mapped.source
            && matches!(listed.special_use, Some(SpecialUse::Trash | SpecialUse::Junk))
    });
    let named = well_known.iter().any(|(folder_use, name)| {
        *name == mapped.source_shown && matches!(folder_use, FolderUse::Trash | FolderUse::Junk)
    });
    marked || named
}
