//! What a simulated server is like: its capabilities, its namespace, its habits.

/// Everything a server may offer that the product has a use for.
pub const ALL: [&str; 17] = [
    "IMAP4rev1",
    "AUTH=PLAIN",
    "SASL-IR",
    "LITERAL+",
    "ID",
    "ENABLE",
    "IDLE",
    "NAMESPACE",
    "UIDPLUS",
    "MULTIAPPEND",
    "MOVE",
    "UNSELECT",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "SPECIAL-USE",
    "CONDSTORE",
    "CHILDREN",
];

#[derive(Clone, Debug)]
pub struct Traits {
    pub capabilities: Vec<&'static str>,
    /// Of every personal folder but INBOX.
    pub prefix: &'static str,
    pub delimiter: char,
    /// New keywords may be created.
    pub keywords: bool,
    /// FETCH answers the body before the UID.
    pub body_first: bool,
    /// Untagged responses come in any order.
    pub shuffled: bool,
}

impl Traits {
    /// As Aruba's: everything under `INBOX.`.
    pub fn source() -> Traits {
        Traits { prefix: "INBOX.", delimiter: '.', ..Traits::target() }
    }

    pub fn target() -> Traits {
        Traits {
            capabilities: ALL.to_vec(),
            prefix: "",
            delimiter: '/',
            keywords: true,
            body_first: false,
            shuffled: false,
        }
    }

    pub fn without(mut self, absent: &[&str]) -> Traits {
        self.capabilities.retain(|capability| !absent.contains(capability));
        self
    }

    pub fn has(&self, capability: &str) -> bool {
        self.capabilities.contains(&capability)
    }

    /// The wire name of a folder, given as `Clienti/2024`.
    pub fn wire(&self, name: &str) -> String {
        if name.eq_ignore_ascii_case("INBOX") {
            return "INBOX".to_owned();
        }
        let name = name.replace('/', &self.delimiter.to_string());
        // Without NAMESPACE nobody can know the prefix, so there is none.
        format!("{}{name}", if self.has("NAMESPACE") { self.prefix } else { "" })
    }

    /// The folder's name as users see it.
    pub fn shown(&self, wire: &str) -> String {
        let prefix = if self.has("NAMESPACE") { self.prefix } else { "" };
        wire.strip_prefix(prefix).unwrap_or(wire).replace(self.delimiter, "/")
    }
}
