//! STATUS (RFC 9051, 6.3.11; RFC 7162 for HIGHESTMODSEQ).

use imap_types::command::CommandBody;
use imap_types::status::StatusDataItemName;

use super::connection::Said;
use super::decode::{Data, Kind, StatusData};
use super::encode::{self, Draft};
use super::notify::Notify;
use super::{Error, Session, WireName, list};
use crate::words::{ModSeq, UidValidity};

/// Commands sent ahead of their answers.
const AHEAD: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FolderStatus {
    pub messages: u32,
    pub uid_next: Option<u32>,
    pub uid_validity: UidValidity,
    pub highest_modseq: Option<ModSeq>,
}

impl FolderStatus {
    /// Of a folder that does not say.
    pub const UNKNOWN: FolderStatus = FolderStatus {
        messages: 0,
        uid_next: None,
        uid_validity: UidValidity(0),
        highest_modseq: None,
    };

    /// Does it say that there is nothing?
    pub fn is_empty(&self) -> bool {
        self.messages == 0 && *self != FolderStatus::UNKNOWN
    }

    /// `None` without a count of messages: that much every server can say.
    pub(super) fn of(data: &StatusData) -> Option<FolderStatus> {
        Some(FolderStatus {
            messages: data.messages?,
            uid_next: data.uid_next.filter(|uid_next| *uid_next != 0),
            uid_validity: UidValidity(data.uid_validity.unwrap_or(0)),
            highest_modseq: data.highest_modseq.filter(|modseq| modseq.0 != 0),
        })
    }

    /// Of two answers about one folder the later counts, unless it came unasked and says less
    /// (RFC 5465, 5.2).
    pub(super) fn or_later(self, later: Option<FolderStatus>) -> FolderStatus {
        let says_as_much = |later: &FolderStatus| {
            (later.uid_validity.0 != 0 || self.uid_validity.0 == 0)
                && (later.uid_next.is_some() || self.uid_next.is_none())
                && (later.highest_modseq.is_some() || self.highest_modseq.is_none())
        };
        later.filter(says_as_much).unwrap_or(self)
    }
}

impl Session {
    /// STATUS of each folder, in order, pipelined; a folder's own refusal does not fail the rest.
    pub async fn statuses(
        &mut self,
        names: &[&WireName],
    ) -> Result<Vec<Result<FolderStatus, Error>>, Error> {
        self.ready().await?;
        let mut found = Vec::with_capacity(names.len());
        for some in names.chunks(AHEAD) {
            let drafts = some.iter().map(|name| self.asking_status(name));
            let drafts = drafts.collect::<Result<Vec<_>, _>>()?;
            let tags: Vec<u32> =
                drafts.into_iter().map(|draft| self.connection.issue(draft)).collect();
            self.connection.inbound.asked.statuses = true;
            for (tag, name) in tags.into_iter().zip(some) {
                found.push(self.one_status(tag, name).await?);
            }
            self.connection.inbound.asked.statuses = false;
        }
        Ok(found)
    }

    /// The answer to one STATUS. Servers spell the name as they like, but they answer in order:
    /// the name matters only where there are several, of which NOTIFY made all but one.
    async fn one_status(
        &mut self,
        tag: u32,
        name: &WireName,
    ) -> Result<Result<FolderStatus, Error>, Error> {
        let (mut heard, mut named, mut only) = (0u32, None::<FolderStatus>, None);
        let on = |said: Said<'_>| {
            if let Said::Data(Data::Status(data)) = said {
                let status = FolderStatus::of(&data);
                heard = heard.saturating_add(1);
                only = status;
                if list::canonical(&data.name) == list::canonical(name.as_octets()) {
                    named = named.map(|known| known.or_later(status)).or(status);
                }
            }
        };
        let ended = self.connection.ended(tag, "STATUS", on).await?;
        let answers = u32::from(ended.condition.kind == Kind::Ok);
        if heard > answers {
            self.connection.inbound.hear_elsewhere();
        }
        let status = match self.connection.inbound.notify {
            Notify::On if heard > 1 => named,
            _ => named.or(only),
        };
        Ok(match ended.ok() {
            Ok(_) => status.ok_or_else(|| Error::Protocol("STATUS without a status".into())),
            Err(refused @ Error::No { .. }) => Err(refused),
            Err(error) => return self.note(Err(error)),
        })
    }

    fn asking_status(&self, name: &WireName) -> Result<Draft, Error> {
        let mut items = vec![
            StatusDataItemName::Messages,
            StatusDataItemName::UidNext,
            StatusDataItemName::UidValidity,
        ];
        if self.capabilities.has("CONDSTORE") {
            items.push(StatusDataItemName::HighestModSeq);
        }
        let mailbox = encode::mailbox(name)?;
        Ok(Draft::of(CommandBody::Status { mailbox, item_names: items.into() }))
    }
}
