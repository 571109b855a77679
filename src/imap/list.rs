//! NAMESPACE, LIST and folder names (RFC 2342, 5258, 5819, 6154; modified UTF-7 of RFC 3501).

use std::fmt;

use super::{Error, FolderStatus, Session};

/// A folder's name exactly as the server's LIST gave it (modified UTF-7 or raw UTF-8, with the
/// server's prefix and delimiter).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireName(Box<[u8]>);

impl WireName {
    pub fn of_wire(octets: &[u8]) -> WireName {
        WireName(octets.into())
    }

    pub fn as_octets(&self) -> &[u8] {
        &self.0
    }

    /// Encodes a name as users see it, in modified UTF-7.
    pub fn encode(_utf8: &str) -> WireName {
        todo!()
    }

    /// The name as users see it. What is not valid modified UTF-7 is shown as it stands.
    pub fn decode(&self) -> String {
        todo!()
    }

    pub fn is_inbox(&self) -> bool {
        self.0.eq_ignore_ascii_case(b"INBOX")
    }
}

impl fmt::Debug for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// Special uses a folder can be marked with (RFC 6154).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SpecialUse {
    All,
    Archive,
    Drafts,
    Flagged,
    Junk,
    Sent,
    Trash,
}

/// The personal namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Namespace {
    /// Prefix of every personal folder but INBOX, e.g. `INBOX.`; wire form.
    pub prefix: String,
    pub delimiter: Option<char>,
}

/// One folder of LIST.
#[derive(Clone, Debug)]
pub struct Listed {
    pub name: WireName,
    pub delimiter: Option<char>,
    pub special_use: Option<SpecialUse>,
    /// `\Noselect` or `\NonExistent`: a place in the hierarchy, no folder.
    pub no_select: bool,
    /// Where LIST-STATUS is offered.
    pub status: Option<FolderStatus>,
}

impl Session {
    /// All folders of the personal namespace, each once, with their status where one command
    /// gives both. Falls back to plain LIST where extended LIST is refused.
    pub async fn list(&mut self) -> Result<Vec<Listed>, Error> {
        todo!()
    }

    /// Creates a folder (with its parents, where the server does so); one that is there already
    /// is success.
    pub async fn create(&mut self, _name: &WireName) -> Result<(), Error> {
        todo!()
    }

    pub async fn subscribe(&mut self, _name: &WireName) -> Result<(), Error> {
        todo!()
    }
}
