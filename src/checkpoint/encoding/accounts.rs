//! Accounts and folders ↔ octets.

use std::io;

use super::super::octets::{Octets, Put, unreadable};
use super::super::{AccountId, AccountRecord, FolderId, FolderRecord, Phase, Place, Refused, Seen};
use super::{Record, bits, put_option, read_bits, read_option};
use crate::words::{ModSeq, UidValidity};

impl Record for AccountRecord {
    fn put(&self, octets: &mut Vec<u8>) {
        octets.put_number(self.id.0.into());
        for text in [&self.address, &self.migration, &self.enrolled_by] {
            octets.put_octets(text.as_bytes());
        }
        for place in [&self.source, &self.target] {
            octets.put_octets(place.host.as_bytes());
            octets.put_octets(place.user.as_bytes());
        }
        octets.push(phase_octet(self.phase));
        octets.push(bits([self.first_copy_completed, self.removals_suspended]));
        for moment in [self.sealed_at, self.completed_at, self.source_seen_until] {
            put_option(octets, moment, |octets, moment| octets.put_signed(moment));
        }
        put_option(octets, self.refused_credentials.as_ref(), put_refused);
        put_option(octets, self.worked_credentials, |octets, digest| {
            octets.extend_from_slice(&digest);
        });
    }

    fn read(octets: &mut Octets) -> io::Result<AccountRecord> {
        let id = AccountId(octets.small()?);
        let address = octets.text()?.to_owned();
        let migration = octets.text()?.to_owned();
        let enrolled_by = octets.text()?.to_owned();
        let source = read_place(octets)?;
        let target = read_place(octets)?;
        let phase = read_phase(octets)?;
        let [first_copy_completed, removals_suspended] = read_bits(octets)?;
        Ok(AccountRecord {
            id,
            address,
            migration,
            enrolled_by,
            source,
            target,
            phase,
            sealed_at: read_option(octets, Octets::signed)?,
            completed_at: read_option(octets, Octets::signed)?,
            source_seen_until: read_option(octets, Octets::signed)?,
            first_copy_completed,
            removals_suspended,
            refused_credentials: read_option(octets, read_refused)?,
            worked_credentials: read_option(octets, Octets::array)?,
        })
    }
}

impl Record for FolderRecord {
    fn put(&self, octets: &mut Vec<u8>) {
        octets.put_number(self.id.0.into());
        octets.put_number(self.account.0.into());
        octets.put_octets(&self.source_name);
        octets.put_octets(&self.target_name);
        octets.put_octets(self.source_shown.as_bytes());
        octets.put_octets(self.target_shown.as_bytes());
        put_option(octets, self.source_seen, put_seen);
        put_option(octets, self.target_seen, put_seen);
        octets.push(bits([self.first_copy_completed, self.exempt]));
        octets.put_signed(self.compared_at);
    }

    fn read(octets: &mut Octets) -> io::Result<FolderRecord> {
        let mut record = FolderRecord {
            id: FolderId(octets.small()?),
            account: AccountId(octets.small()?),
            source_name: octets.counted()?.into(),
            target_name: octets.counted()?.into(),
            source_shown: octets.text()?.to_owned(),
            target_shown: octets.text()?.to_owned(),
            source_seen: read_option(octets, read_seen)?,
            target_seen: read_option(octets, read_seen)?,
            first_copy_completed: false,
            exempt: false,
            compared_at: 0,
        };
        let [completed, exempt] = read_bits(octets)?;
        (record.first_copy_completed, record.exempt) = (completed, exempt);
        record.compared_at = octets.signed()?;
        Ok(record)
    }
}

fn put_seen(octets: &mut Vec<u8>, seen: Seen) {
    octets.put_number(seen.uid_validity.0.into());
    octets.put_number(seen.uid_next.into());
    octets.put_number(seen.messages.into());
    octets.put_number(seen.highest_modseq.0);
}

fn read_seen(octets: &mut Octets) -> io::Result<Seen> {
    Ok(Seen {
        uid_validity: UidValidity(octets.small()?),
        uid_next: octets.small()?,
        messages: octets.small()?,
        highest_modseq: ModSeq(octets.number()?),
    })
}

fn put_refused(octets: &mut Vec<u8>, refused: &Refused) {
    octets.extend_from_slice(&refused.digest);
    octets.push(bits([refused.at_target]));
    octets.put_signed(refused.since);
    octets.put_octets(refused.text.as_bytes());
}

fn read_refused(octets: &mut Octets) -> io::Result<Refused> {
    let digest = octets.array()?;
    let [at_target] = read_bits(octets)?;
    Ok(Refused { digest, at_target, since: octets.signed()?, text: octets.text()?.to_owned() })
}

fn read_place(octets: &mut Octets) -> io::Result<Place> {
    Ok(Place { host: octets.text()?.to_owned(), user: octets.text()?.to_owned() })
}

pub(super) const PHASES: [Phase; 7] = [
    Phase::Enrolled,
    Phase::Copying,
    Phase::Following,
    Phase::Draining,
    Phase::Archiving,
    Phase::Completed,
    Phase::Closed,
];

/// The octets are what the store holds: new phases go last.
fn phase_octet(phase: Phase) -> u8 {
    match phase {
        Phase::Enrolled => 0,
        Phase::Copying => 1,
        Phase::Following => 2,
        Phase::Draining => 3,
        Phase::Archiving => 4,
        Phase::Completed => 5,
        Phase::Closed => 6,
    }
}

fn read_phase(octets: &mut Octets) -> io::Result<Phase> {
    let octet = octets.octet()?;
    let phase = PHASES.into_iter().find(|phase| phase_octet(*phase) == octet);
    phase.ok_or_else(|| unreadable("phase"))
}
