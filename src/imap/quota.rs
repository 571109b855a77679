//! QUOTA and APPENDLIMIT (RFC 9208, RFC 7889): what will fit.

use imap_types::command::CommandBody;

use super::connection::Said;
use super::decode::Data;
use super::encode::{self, Draft};
use super::{Capabilities, Error, Session, WireName};

/// STORAGE of a quota root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    pub used_octets: u64,
    pub limit_octets: u64,
}

impl Quota {
    pub fn left_octets(&self) -> u64 {
        self.limit_octets.saturating_sub(self.used_octets)
    }
}

impl Session {
    /// The storage quota of a folder; of several roots the one with the least left. `None` where
    /// there is none, or where QUOTA is not offered.
    pub async fn quota(&mut self, folder: &WireName) -> Result<Option<Quota>, Error> {
        if !self.capabilities.has("QUOTA") {
            return Ok(None);
        }
        self.ready().await?;
        let mailbox = encode::mailbox(folder)?;
        let mut tightest: Option<Quota> = None;
        let on = |said: Said<'_>| {
            if let Said::Data(Data::Quota(Some(quota))) = said {
                let is_tighter = tightest.is_none_or(|one| quota.left_octets() < one.left_octets());
                tightest = if is_tighter { Some(quota) } else { tightest };
            }
        };
        let draft = Draft::of(CommandBody::GetQuotaRoot { mailbox });
        let ended = self.connection.run("GETQUOTAROOT", draft, on).await?;
        self.note(ended.ok())?;
        Ok(tightest)
    }
}

impl Capabilities {
    /// The largest message APPEND takes, where the server says so for all folders.
    pub fn append_limit(&self) -> Option<u64> {
        let limit = self.atoms.iter().find_map(|atom| atom.strip_prefix("APPENDLIMIT="));
        limit.and_then(|octets| octets.parse().ok())
    }
}
