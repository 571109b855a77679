//! The words every room uses: UIDs, dates, flags, digests. No I/O, no policy.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// One end of a move.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// The old provider: only ever read.
    Source,
    /// The new provider: appended to.
    Target,
}

impl Side {
    /// `"source"` or `"target"`, as the contract spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Target => "target",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A unique identifier of a message in a folder, never 0 (RFC 9051, 2.3.1.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(NonZeroU32);

impl Uid {
    /// `None` for 0, which no message has.
    pub fn new(uid: u32) -> Option<Uid> {
        NonZeroU32::new(uid).map(Uid)
    }

    /// The number as the wire has it.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// UIDVALIDITY of a folder. 0 is invalid by RFC 9051 but sent by real servers, so it is accepted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UidValidity(pub u32);

/// A modification sequence (RFC 7162); 0 means the folder has none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ModSeq(pub u64);

/// The instant of an INTERNALDATE in seconds since 1970-01-01T00:00:00Z.
///
/// Servers answer the same date in whatever zone they like, so only the instant is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InternalDate(pub i64);

/// SHA-256 over the octets of a message exactly as FETCH gave them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

/// The first 16 octets of SHA-256 over the header block (up to and including the empty line),
/// folded so that it survives what servers alter ([`crate::digest::Digester`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderDigest(pub [u8; 16]);

/// SHA-256 over the whole message without its line ends, folded like [`HeaderDigest`]: two
/// messages with equal loose digests differ at most as servers are known to alter them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LooseDigest(pub [u8; 32]);

macro_rules! hex_digest {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
hex_digest!(Sha256);
hex_digest!(HeaderDigest);
hex_digest!(LooseDigest);

/// The five system flags that may be stored (`\Recent` is the server's own), as a bit set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SystemFlags(pub u8);

impl SystemFlags {
    /// Every storable system flag with its wire name, in bit order.
    pub const ALL: [(SystemFlags, &'static str); 5] = [
        (SystemFlags(1), "\\Seen"),
        (SystemFlags(2), "\\Answered"),
        (SystemFlags(4), "\\Flagged"),
        (SystemFlags(8), "\\Deleted"),
        (SystemFlags(16), "\\Draft"),
    ];
    pub const SEEN: SystemFlags = SystemFlags(1);
    pub const DELETED: SystemFlags = SystemFlags(8);

    /// The flag of that wire name, case-blind; `None` for `\Recent` and anything unknown.
    pub fn of_name(name: &str) -> Option<SystemFlags> {
        let found = SystemFlags::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        found.map(|(flag, _)| *flag)
    }

    pub fn contains(self, other: SystemFlags) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn with(self, other: SystemFlags) -> SystemFlags {
        SystemFlags(self.0 | other.0)
    }

    pub fn without(self, other: SystemFlags) -> SystemFlags {
        SystemFlags(self.0 & !other.0)
    }

    /// Wire names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let set = SystemFlags::ALL.into_iter().filter(move |(flag, _)| self.contains(*flag));
        set.map(|(_, name)| name)
    }
}

/// The flags of one message: system flags and keywords. Keywords compare case-blind (RFC 9051,
/// 2.3.2) and are kept sorted, each once, in the spelling first seen.
#[derive(Clone, Default)]
pub struct Flags {
    system: SystemFlags,
    keywords: Vec<Box<str>>,
}

impl Flags {
    /// Flags from wire names; `\Recent` and unknown `\Names` are dropped.
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Flags {
        let mut flags = Flags::default();
        for name in names {
            flags.insert(name);
        }
        flags
    }

    /// System flags alone.
    pub fn of_system(system: SystemFlags) -> Flags {
        Flags { system, keywords: Vec::new() }
    }

    /// Adds a flag by its wire name, unless it is one that cannot be stored.
    pub fn insert(&mut self, name: &str) {
        if let Some(flag) = SystemFlags::of_name(name) {
            self.system = self.system.with(flag);
        } else if !name.starts_with('\\')
            && !name.is_empty()
            && let Err(place) = self.place(name)
        {
            self.keywords.insert(place, name.into());
        }
    }

    pub fn system(&self) -> SystemFlags {
        self.system
    }

    /// Sorted case-blind, each once.
    pub fn keywords(&self) -> impl Iterator<Item = &str> {
        self.keywords.iter().map(|keyword| &**keyword)
    }

    pub fn is_empty(&self) -> bool {
        self.system == SystemFlags::default() && self.keywords.is_empty()
    }

    /// The flags of `self` that `other` lacks.
    pub fn minus(&self, other: &Flags) -> Flags {
        let lacking = self.keywords.iter().filter(|keyword| other.place(keyword).is_err());
        Flags { system: self.system.without(other.system), keywords: lacking.cloned().collect() }
    }

    /// The flags of either.
    pub fn with(&self, other: &Flags) -> Flags {
        Flags::of_names(self.names().chain(other.names()))
    }

    /// Only the flags for which `keep` holds, by wire name.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) -> Flags {
        Flags::of_names(self.names().filter(|name| keep(name)))
    }

    /// Wire names, system flags first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.system.names().map(|name| -> &str { name }).chain(self.keywords())
    }

    fn place(&self, keyword: &str) -> Result<usize, usize> {
        self.keywords.binary_search_by(|known| folded(known).cmp(folded(keyword)))
    }
}

fn folded(keyword: &str) -> impl Iterator<Item = u8> + '_ {
    keyword.bytes().map(|octet| octet.to_ascii_lowercase())
}

impl PartialEq for Flags {
    fn eq(&self, other: &Flags) -> bool {
        self.system == other.system
            && self.keywords.len() == other.keywords.len()
            && self.keywords.iter().zip(&other.keywords).all(|(a, b)| a.eq_ignore_ascii_case(b))
    }
}

impl Eq for Flags {}

impl Hash for Flags {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.system.hash(state);
        for keyword in &self.keywords {
            folded(keyword).for_each(|octet| state.write_u8(octet));
            state.write_u8(b' ');
        }
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// One message as a listing shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    pub uid: Uid,
    pub flags: Flags,
    pub instant: InternalDate,
    /// RFC822.SIZE in octets: a hint, servers get it wrong.
    pub size: u64,
}

/// What streaming a whole message through the digests tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digests {
    /// Octets of the literal.
    pub size: u64,
    pub sha256: Sha256,
    pub header: HeaderDigest,
    pub loose: LooseDigest,
    /// The message holds octets that some servers alter: NUL, a bare CR or LF, 8-bit headers,
    /// or no end of the header.
    pub suspect: bool,
}

/// The file of an address: it holds no slash, and what else file systems and shells mind is written
/// as `%XX`, so that each address has one of its own.
pub fn file_of(dir: &Path, address: &str, ending: &str) -> PathBuf {
    let mut name = String::new();
    for octet in address.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'@' | b'_' | b'+' | b'-' => {
                name.push(char::from(octet));
            }
            b'.' if !name.is_empty() => name.push('.'),
            octet => name.push_str(&format!("%{octet:02X}")),
        }
    }
    dir.join(format!("{name}.{ending}"))
}
