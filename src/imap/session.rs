//! One authenticated connection: capabilities, the selected folder, and what was said unasked.

use super::{Error, Namespace, WireName};
use crate::words::{Flags, ModSeq, Uid, UidValidity};

/// What the server offers after login.
#[derive(Clone, Default, Debug)]
pub struct Capabilities {
    /// Upper-case atoms as offered, e.g. `LITERAL+`.
    pub atoms: Vec<String>,
}

impl Capabilities {
    pub fn has(&self, atom: &str) -> bool {
        self.atoms.iter().any(|offered| offered.eq_ignore_ascii_case(atom))
    }
}

/// PERMANENTFLAGS of a selected folder.
#[derive(Clone, Default, Debug)]
pub struct PermanentFlags {
    pub flags: Flags,
    /// `\*`: new keywords may be created.
    pub any_keyword: bool,
    /// The server sent none: everything may be tried (RFC 3501, 6.3.1).
    pub unstated: bool,
}

impl PermanentFlags {
    /// May the flag of that wire name be stored, and is it safe to send?
    pub fn admits(&self, _name: &str) -> bool {
        todo!()
    }
}

/// What SELECT or EXAMINE said.
#[derive(Clone, Debug)]
pub struct Selected {
    pub name: WireName,
    pub uid_validity: UidValidity,
    /// Absent where the server does not say (Courier).
    pub uid_next: Option<u32>,
    pub exists: u32,
    /// `None` where the folder keeps no modification sequences.
    pub highest_modseq: Option<ModSeq>,
    pub permanent_flags: PermanentFlags,
    pub read_only: bool,
}

/// What the server said unasked about the selected folder since it was last taken.
#[derive(Clone, Default, Debug)]
pub struct News {
    /// The last EXISTS, if there was one.
    pub exists: Option<u32>,
    /// How many EXPUNGE responses came.
    pub expunged: u32,
    /// UIDs named by VANISHED.
    pub vanished: Vec<Uid>,
    /// Some FETCH told new flags.
    pub flags_changed: bool,
}

pub struct Session {
    _private: (),
}

impl Session {
    pub fn capabilities(&self) -> &Capabilities {
        todo!()
    }

    /// The personal namespace.
    pub fn namespace(&self) -> &Namespace {
        todo!()
    }

    /// The server's own name for itself (ID), or the text of its greeting.
    pub fn server_name(&self) -> &str {
        todo!()
    }

    pub async fn examine(&mut self, _name: &WireName) -> Result<Selected, Error> {
        todo!()
    }

    pub async fn select(&mut self, _name: &WireName) -> Result<Selected, Error> {
        todo!()
    }

    /// The folder selected now.
    pub fn selected(&self) -> Option<&Selected> {
        todo!()
    }

    /// Leaves the selected folder without expunging: UNSELECT, or EXAMINE of a folder that does
    /// not exist where UNSELECT is not offered. Never CLOSE on a folder opened read-write.
    pub async fn unselect(&mut self) -> Result<(), Error> {
        todo!()
    }

    pub fn take_news(&mut self) -> News {
        todo!()
    }

    pub async fn noop(&mut self) -> Result<(), Error> {
        todo!()
    }

    /// LOGOUT, politely and briefly.
    pub async fn logout(self) {
        todo!()
    }
}
