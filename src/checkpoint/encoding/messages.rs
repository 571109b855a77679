//! Links, refusals and intents ↔ octets: the records there are millions of.

use std::io;

use super::super::octets::{Octets, Put, unreadable};
use super::super::{FolderId, Intended, Intent, IntentId, Known, Link, Origin, Proof};
use super::{Record, bits, read_bits};
use crate::words::{Flags, HeaderDigest, InternalDate, Sha256, SystemFlags, Uid, UidValidity};

const LINKED: u8 = 0;
const REFUSED: u8 = 1;
/// Linked, and some flags are unsure: they follow.
const UNSURE: u8 = 2;

impl Record for Known {
    fn put(&self, octets: &mut Vec<u8>) {
        match self {
            Known::Linked(link) => {
                octets.push(if link.unsure.is_some() { UNSURE } else { LINKED });
                link.put(octets);
                if let Some(flags) = &link.unsure {
                    let keywords = flags.keywords().next().is_some();
                    octets.push(bits([keywords]));
                    put_flags(octets, flags, keywords);
                }
            }
            Known::Refused { by_target, text, tries, last_try } => {
                octets.push(REFUSED);
                octets.push(bits([*by_target]));
                octets.put_octets(text.as_bytes());
                octets.put_number((*tries).into());
                octets.put_signed(*last_try);
            }
        }
    }

    fn read(octets: &mut Octets) -> io::Result<Known> {
        match octets.octet()? {
            LINKED => Link::read(octets).map(Known::Linked),
            UNSURE => {
                let link = Link::read(octets)?;
                let [keywords] = read_bits(octets)?;
                let unsure = Some(Box::new(read_flags(octets, keywords)?));
                Ok(Known::Linked(Link { unsure, ..link }))
            }
            REFUSED => {
                let [by_target] = read_bits(octets)?;
                let text = octets.text()?.to_owned();
                let tries = octets.small()?;
                Ok(Known::Refused { by_target, text, tries, last_try: octets.signed()? })
            }
            _ => Err(unreadable("kind of what is known")),
        }
    }
}

impl Record for Link {
    fn put(&self, octets: &mut Vec<u8>) {
        let keywords = self.flags.keywords().next().is_some();
        octets.push(bits([
            self.target_uid.is_some(),
            self.origin != Origin::Copied,
            self.proof != Proof::Listed,
            self.suspect,
            self.altered.is_some(),
            keywords,
            self.origin == Origin::Twin,
            self.proof == Proof::Verified,
        ]));
        if let Some(uid) = self.target_uid {
            octets.put_number(uid.get().into());
        }
        put_bytes_of_message(octets, self.size, self.instant, &self.header, &self.sha256);
        put_flags(octets, &self.flags, keywords);
        if let Some(altered) = &self.altered {
            octets.put_octets(altered.as_bytes());
        }
    }

    fn read(octets: &mut Octets) -> io::Result<Link> {
        let [has_target, adopted, read_back, suspect, is_altered, keywords, twin, verified] =
            read_bits(octets)?;
        let target_uid = if has_target { Some(read_uid(octets)?) } else { None };
        let (size, instant, header, sha256) = read_bytes_of_message(octets)?;
        let flags = read_flags(octets, keywords)?;
        let altered = if is_altered { Some(octets.text()?.to_owned()) } else { None };
        let origin = match (adopted, twin) {
            (false, _) => Origin::Copied,
            (true, false) => Origin::Adopted,
            (true, true) => Origin::Twin,
        };
        let proof = match (read_back, verified) {
            (false, _) => Proof::Listed,
            (true, false) => Proof::ReadBack,
            (true, true) => Proof::Verified,
        };
        Ok(Link {
            target_uid,
            origin,
            size,
            instant,
            header,
            sha256,
            flags,
            unsure: None,
            proof,
            suspect,
            altered,
        })
    }
}

impl Record for Intent {
    fn put(&self, octets: &mut Vec<u8>) {
        octets.put_number(self.id.0);
        octets.put_number(self.folder.0.into());
        octets.put_number(self.source_uid_validity.0.into());
        octets.put_number(self.target_uid_validity.0.into());
        octets.put_number(self.target_uid_next.into());
        octets.put_signed(self.written_at);
        octets.push(bits([self.repeated]));
        octets.put_number(self.messages.len() as u64);
        self.messages.iter().for_each(|message| put_intended(octets, message));
    }

    fn read(octets: &mut Octets) -> io::Result<Intent> {
        Ok(Intent {
            id: IntentId(octets.number()?),
            folder: FolderId(octets.small()?),
            source_uid_validity: UidValidity(octets.small()?),
            target_uid_validity: UidValidity(octets.small()?),
            target_uid_next: octets.small()?,
            written_at: octets.signed()?,
            repeated: {
                let [repeated] = read_bits(octets)?;
                repeated
            },
            messages: {
                let count = octets.number()?;
                (0..count).map(|_| read_intended(octets)).collect::<io::Result<_>>()?
            },
        })
    }
}

fn put_intended(octets: &mut Vec<u8>, message: &Intended) {
    let keywords = message.flags.keywords().next().is_some();
    octets.push(bits([message.suspect, keywords]));
    octets.put_number(message.source_uid.get().into());
    put_bytes_of_message(octets, message.size, message.instant, &message.header, &message.sha256);
    put_flags(octets, &message.flags, keywords);
}

fn read_intended(octets: &mut Octets) -> io::Result<Intended> {
    let [suspect, keywords] = read_bits(octets)?;
    let source_uid = read_uid(octets)?;
    let (size, instant, header, sha256) = read_bytes_of_message(octets)?;
    let flags = read_flags(octets, keywords)?;
    Ok(Intended { source_uid, size, instant, header, sha256, flags, suspect })
}

fn put_bytes_of_message(
    octets: &mut Vec<u8>,
    size: u64,
    instant: InternalDate,
    header: &HeaderDigest,
    sha256: &Sha256,
) {
    octets.put_number(size);
    octets.put_signed(instant.0);
    octets.extend_from_slice(&header.0);
    octets.extend_from_slice(&sha256.0);
}

fn read_bytes_of_message(
    octets: &mut Octets,
) -> io::Result<(u64, InternalDate, HeaderDigest, Sha256)> {
    let size = octets.number()?;
    let instant = InternalDate(octets.signed()?);
    Ok((size, instant, HeaderDigest(octets.array()?), Sha256(octets.array()?)))
}

fn put_flags(octets: &mut Vec<u8>, flags: &Flags, keywords: bool) {
    octets.push(flags.system().0);
    if keywords {
        octets.put_number(flags.keywords().count() as u64);
        flags.keywords().for_each(|keyword| octets.put_octets(keyword.as_bytes()));
    }
}

fn read_flags(octets: &mut Octets, keywords: bool) -> io::Result<Flags> {
    let system = octets.octet()?;
    let mut flags = Flags::of_system(SystemFlags(system));
    let count = if keywords { octets.number()? } else { 0 };
    for _ in 0..count {
        flags.insert(octets.text()?);
    }
    let storable = SystemFlags::ALL.iter().fold(SystemFlags(0), |all, (flag, _)| all.with(*flag));
    if storable.contains(SystemFlags(system)) { Ok(flags) } else { Err(unreadable("flags")) }
}

fn read_uid(octets: &mut Octets) -> io::Result<Uid> {
    Uid::new(octets.small()?).ok_or_else(|| unreadable("UID"))
}
