//! The source, compared with what was copied from it.

use super::{Stop, Verification, WINDOW};
use crate::checkpoint::{self, FolderRecord, Known, Link};
use crate::config::Enrollment;
use crate::imap::{Error, Session, WholeSeen, WireName};
use crate::sync::beside::may_log_in;
use crate::sync::compare::{self, Kind, Terms};
use crate::sync::connect::{connect, place};
use crate::sync::pass::at_source;
use crate::sync::source::name_there;
use crate::sync::trouble;
use crate::words::Side;

impl Verification<'_> {
    pub(super) async fn source(&mut self) -> Result<(), Stop> {
        self.summary.source_messages = Some(0);
        self.holding(self.enrollment, None).await?;
        let Some(archive) = self.enrollment.of_archive() else { return Ok(()) };
        let at = place(&archive, Side::Source);
        let lies_there = |folder: &FolderRecord| folder.archive().as_ref() == Some(&at);
        if self.folders.iter().any(lies_there) {
            may_log_in(&archive, &self.record, Side::Source)?;
            self.holding(&archive, Some(&at)).await?;
        }
        Ok(())
    }

    /// The account's own store, or its archive.
    async fn holding(
        &mut self,
        login: &Enrollment,
        archive: Option<&checkpoint::Place>,
    ) -> Result<(), Stop> {
        let (mut session, _berth) = connect(self.shared, login, Side::Source).await?;
        for folder in 0..self.folders.len() {
            if self.folders[folder].archive().as_ref() == archive {
                self.source_folder(&mut session, folder).await?;
            }
        }
        session.logout().await;
        Ok(())
    }

    async fn source_folder(&mut self, session: &mut Session, folder: usize) -> Result<(), Stop> {
        let name = name_there(&WireName::of_wire(&self.folders[folder].source_name));
        let selected = match session.examine(&name).await {
            Ok(selected) => selected,
            Err(Error::No { code, text, .. }) if trouble::is_nonexistent(code.as_ref(), &text) => {
                let detail = "the folder is gone from the source".to_owned();
                return self.tell(Side::Source, Kind::Removed, folder, None, None, detail).await;
            }
            Err(error) => return Err(at_source(error).into()),
        };
        let id = self.folders[folder].id;
        let records = self.shared.store.folders(self.record.id)?;
        let last = records.iter().find(|record| record.id == id);
        let last = last.and_then(|record| record.source_seen).unwrap_or_default();
        if last.uid_validity != selected.uid_validity {
            let detail = "the source renumbered the folder: the next pass pairs it anew".to_owned();
            return self.tell(Side::Source, Kind::NotCopied, folder, None, None, detail).await;
        }
        let present = session.list_uids().await.map_err(at_source)?;
        self.progress(|progress| progress.messages_of += present.len() as u64);
        for window in present.chunks(WINDOW) {
            let seen = session.whole_messages(window).await.map_err(at_source)?;
            for seen in seen {
                self.source_message(folder, &seen, last.uid_next).await?;
            }
        }
        let mut gone = Vec::new();
        self.shared.store.visit_known(id, |uid, known| {
            if matches!(known, Known::Linked(_)) && present.binary_search(&uid).is_err() {
                gone.push(uid);
            }
        })?;
        for uid in gone {
            let detail = "it left the source".to_owned();
            self.tell(Side::Source, Kind::Removed, folder, Some(uid), None, detail).await?;
        }
        Ok(())
    }

    async fn source_message(
        &mut self,
        folder: usize,
        seen: &WholeSeen,
        uid_next: u32,
    ) -> Result<(), Stop> {
        self.summary.source_messages = self.summary.source_messages.map(|messages| messages + 1);
        self.progress(|progress| {
            progress.messages += 1;
            progress.bytes += seen.digests.size;
        });
        let uid = Some(seen.uid);
        let known = self.shared.store.known_one(self.folders[folder].id, seen.uid)?;
        let link = match known {
            Some(Known::Linked(link)) => link,
            Some(Known::Refused { .. }) => return Ok(()),
            None => {
                let is_new = seen.uid.get() >= uid_next;
                let kind = if is_new { Kind::Arrived } else { Kind::NotCopied };
                return self.tell(Side::Source, kind, folder, uid, None, String::new()).await;
            }
        };
        // Flags of the source may have changed a moment ago; they are the next pass's business.
        let flags = link.flags.clone();
        let seen = WholeSeen { flags, ..seen.clone() };
        let link = Link { altered: None, ..link };
        let terms = Terms { permanent: None, ..self.terms(None) };
        for (kind, detail) in compare::differences(&link, &seen, &terms) {
            self.tell(Side::Source, kind, folder, uid, link.target_uid, detail).await?;
        }
        Ok(())
    }
}
