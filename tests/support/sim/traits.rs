//! What a simulated server is like: its capabilities, its namespace, its habits.

use std::sync::Arc;

use super::habits::Habit;

/// Everything a server may offer that the product has a use for.
pub const ALL: [&str; 22] = [
    "IMAP4rev1",
    "AUTH=PLAIN",
    "SASL-IR",
    "LITERAL+",
    // Told only where LITERAL+ is not offered (RFC 7888, section 4).
    "LITERAL-",
    "ID",
    "ENABLE",
    "IDLE",
    "NOTIFY",
    "NAMESPACE",
    "UIDPLUS",
    "MULTIAPPEND",
    "MOVE",
    "UNSELECT",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "SPECIAL-USE",
    "CONDSTORE",
    "QRESYNC",
    "QUOTA",
    "APPENDLIMIT=52428800",
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
    /// Special uses of folders, given as `Clienti/2024`; told where SPECIAL-USE is offered.
    pub uses: Vec<(&'static str, &'static str)>,
    /// What is odd about it.
    pub habits: Vec<Habit>,
    /// Messages get UIDs from the first on, in steps.
    pub uids: (u32, u32),
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
            uses: vec![("Archivio", "\\Archive")],
            habits: Vec::new(),
            uids: (1, 1),
            shuffled: false,
        }
    }

    pub fn without(mut self, absent: &[&str]) -> Traits {
        self.capabilities.retain(|capability| !absent.contains(capability));
        self
    }

    pub fn with(mut self, habit: Habit) -> Traits {
        self.habits.push(habit);
        self
    }

    pub fn has(&self, capability: &str) -> bool {
        self.capabilities.contains(&capability)
    }

    pub fn does(&self, habit: Habit) -> bool {
        self.habits.contains(&habit)
    }

    /// As CAPABILITY lists them.
    pub fn offers(&self) -> String {
        let told =
            self.capabilities.iter().filter(|one| **one != "LITERAL-" || !self.has("LITERAL+"));
        told.copied().collect::<Vec<_>>().join(" ")
    }

    /// The other side's folder of the same use.
    pub fn twin(&self, shown: &str, other: &Traits) -> Option<String> {
        let (_, used) = self.uses.iter().find(|(name, _)| *name == shown)?;
        let (twin, _) = other.uses.iter().find(|(_, attribute)| attribute == used)?;
        let told = self.has("SPECIAL-USE") && other.has("SPECIAL-USE");
        told.then(|| (*twin).to_owned())
    }

    /// What is stored of a message.
    pub fn stored(&self, octets: &Arc<[u8]>) -> Arc<[u8]> {
        match self.does(Habit::AltersNul) {
            true => octets.iter().map(|octet| if *octet == 0 { 0x80 } else { *octet }).collect(),
            false => octets.clone(),
        }
    }

    /// What APPEND takes, where that is limited.
    pub fn append_limit(&self) -> Option<usize> {
        let limit = self.capabilities.iter().find_map(|one| one.strip_prefix("APPENDLIMIT="));
        limit.and_then(|octets| octets.parse().ok())
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
        let name = wire.strip_prefix(prefix).unwrap_or(wire).replace(self.delimiter, "/");
        // Some servers write UTF-8, which is shown as any other spelling of the name is.
        name.replace('è', "&AOg-")
    }
}
