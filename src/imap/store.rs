//! UID STORE, UID MOVE, UID EXPUNGE (RFC 9051, 6851, 4315): what changes a folder.

use imap_types::command::CommandBody;
use imap_types::flag::{Flag, StoreResponse, StoreType};

use super::connection::Said;
use super::decode::{self, Condition};
use super::encode::{self, Draft};
use super::{Error, Session, WireName};
use crate::words::{Flags, Uid, UidValidity};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Add,
    Remove,
}

/// COPYUID (RFC 4315): where moved messages went, in pairs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyUid {
    pub uid_validity: UidValidity,
    pub pairs: Vec<(Uid, Uid)>,
}

impl Session {
    /// `UID STORE … ±FLAGS.SILENT`, chunked by line length. Flags that are not safe to send are
    /// left out; without any, nothing is sent.
    pub async fn store(
        &mut self,
        uids: &[Uid],
        change: Change,
        flags: &Flags,
    ) -> Result<(), Error> {
        let flags = flags.retain(encode::is_safe_flag);
        if flags.is_empty() {
            return Ok(());
        }
        for (sequence_set, _) in encode::sets(uids) {
            let flags = flags.names().filter_map(|name| Flag::try_from(name).ok()).collect();
            let kind = match change {
                Change::Add => StoreType::Add,
                Change::Remove => StoreType::Remove,
            };
            let response = StoreResponse::Silent;
            let modifiers = vec![];
            let draft = Draft::of(CommandBody::Store {
                sequence_set,
                kind,
                response,
                flags,
                uid: true,
                modifiers,
            });
            self.simple("UID STORE", draft).await?;
        }
        Ok(())
    }

    /// UID MOVE; call only where MOVE is offered. `None` where the server does not tell the UIDs.
    pub async fn uid_move(
        &mut self,
        uids: &[Uid],
        to: &WireName,
    ) -> Result<Option<CopyUid>, Error> {
        self.transfer("UID MOVE", uids, to).await
    }

    /// UID COPY, for servers without MOVE.
    pub async fn uid_copy(
        &mut self,
        uids: &[Uid],
        to: &WireName,
    ) -> Result<Option<CopyUid>, Error> {
        self.transfer("UID COPY", uids, to).await
    }

    /// UID EXPUNGE; call only where UIDPLUS is offered. The UIDs must be `\Deleted` already.
    pub async fn uid_expunge(&mut self, uids: &[Uid]) -> Result<(), Error> {
        for (sequence_set, _) in encode::sets(uids) {
            let draft = Draft::of(CommandBody::ExpungeUid { sequence_set });
            self.simple("UID EXPUNGE", draft).await?;
        }
        Ok(())
    }

    async fn transfer(
        &mut self,
        command: &'static str,
        uids: &[Uid],
        to: &WireName,
    ) -> Result<Option<CopyUid>, Error> {
        let mut whole: Option<CopyUid> = None;
        let mut told = true;
        for (sequence_set, count) in encode::sets(uids) {
            let mailbox = encode::mailbox(to)?;
            let draft = Draft::of(match command {
                "UID MOVE" => CommandBody::Move { sequence_set, mailbox, uid: true },
                _ => CommandBody::Copy { sequence_set, mailbox, uid: true },
            });
            let part = self.transfer_some(command, draft, count).await?;
            match (part, &mut whole) {
                (Some(part), None) => whole = Some(part),
                (Some(part), Some(whole)) if part.uid_validity == whole.uid_validity => {
                    whole.pairs.extend(part.pairs);
                }
                _ => told = false,
            }
        }
        Ok(whole.filter(|_| told))
    }

    /// COPYUID comes in the tagged OK, or before it in an untagged one (RFC 6851, 4.3).
    async fn transfer_some(
        &mut self,
        command: &'static str,
        draft: Draft,
        count: usize,
    ) -> Result<Option<CopyUid>, Error> {
        self.ready().await?;
        let mut copied = None;
        let on = |said: Said<'_>| {
            if let Said::Condition(condition) = said {
                copied = copied.take().or(copy_uid(condition, count));
            }
        };
        let ended = self.connection.run(command, draft, on).await?;
        let condition = self.note(ended.ok())?;
        Ok(copied.or(copy_uid(&condition, count)))
    }
}

/// The pairs of COPYUID, at most `count`; `None` where they do not fit together.
fn copy_uid(condition: &Condition, count: usize) -> Option<CopyUid> {
    let mut words = condition.code("COPYUID")?.split_ascii_whitespace();
    let (validity, from, to) = (words.next()?, words.next()?, words.next()?);
    let total = |set| -> Option<u64> {
        let ranges = decode::ranges(set)?;
        Some(ranges.iter().map(|(first, last)| u64::from(last - first) + 1).sum())
    };
    let total = total(from).filter(|total| *total <= count as u64)?;
    let from = decode::uids(from, total as usize)?;
    let to = decode::uids(to, total as usize)?;
    let uid_validity = UidValidity(validity.parse().ok()?);
    Some(CopyUid { uid_validity, pairs: from.into_iter().zip(to).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::Code;
    use crate::imap::decode::Kind;

    #[test]
    fn copy_uid_pairs_up_or_says_nothing() {
        for (rest, pairs) in [
            ("7 1:2,9 11:13", Some(vec![(1, 11), (2, 12), (9, 13)])),
            ("7 3 5", Some(vec![(3, 5)])),
            ("7 1:3 5:6", None),
            ("7 1:4000000000 1:4000000000", None),
            ("7 1", None),
            ("7  ", None),
        ] {
            let code = Some(Code { name: "COPYUID".into(), rest: rest.into() });
            let condition = Condition { kind: Kind::Ok, code, text: String::new() };
            let expected = pairs.map(|pairs| {
                pairs.into_iter().filter_map(|(a, b)| Some((Uid::new(a)?, Uid::new(b)?))).collect()
            });
            assert_eq!(copy_uid(&condition, 3).map(|copied| copied.pairs), expected, "{rest}");
        }
    }
}
