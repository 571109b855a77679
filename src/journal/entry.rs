//! One journal entry: an event with the fields that apply, and how they are named outside.

use jiff::Timestamp;

use super::Event;
use super::shown::{shown, shown_within};
use crate::words::Uid;

/// MESSAGE is composed by us around words of others, which were cut by [`shown`] before; this
/// bound is for the whole of it.
const MESSAGE_MAX: usize = 2048;

/// An event with the fields that apply. Build it with the setters. What servers and users wrote
/// may be put in raw: it is escaped where it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub event: Event,
    /// Overrides the event's own priority (7 for messages of a first copy).
    pub priority: Option<u8>,
    /// Words of servers and users in it belong through [`shown`], which cuts them.
    pub message: String,
    pub account: Option<String>,
    pub migration: Option<String>,
    pub host: Option<String>,
    pub folder: Option<String>,
    pub source_uid: Option<Uid>,
    pub target_uid: Option<Uid>,
    pub bytes: Option<u64>,
    pub duration_ms: Option<u64>,
    pub reason: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
}

impl Entry {
    pub fn new(event: Event, message: impl Into<String>) -> Entry {
        Entry {
            event,
            priority: None,
            message: message.into(),
            account: None,
            migration: None,
            host: None,
            folder: None,
            source_uid: None,
            target_uid: None,
            bytes: None,
            duration_ms: None,
            reason: None,
            file: None,
            line: None,
        }
    }

    /// From 3 to 7; what lies beyond counts as the nearest.
    pub fn priority(self, priority: u8) -> Entry {
        Entry { priority: Some(priority.clamp(3, 7)), ..self }
    }

    pub fn account(self, address: &str) -> Entry {
        Entry { account: Some(address.to_owned()), ..self }
    }

    pub fn migration(self, name: &str) -> Entry {
        Entry { migration: Some(name.to_owned()), ..self }
    }

    pub fn host(self, host: &str) -> Entry {
        Entry { host: Some(host.to_owned()), ..self }
    }

    pub fn folder(self, name: &str) -> Entry {
        Entry { folder: Some(name.to_owned()), ..self }
    }

    pub fn source_uid(self, uid: Uid) -> Entry {
        Entry { source_uid: Some(uid), ..self }
    }

    pub fn target_uid(self, uid: Option<Uid>) -> Entry {
        Entry { target_uid: uid, ..self }
    }

    pub fn bytes(self, bytes: u64) -> Entry {
        Entry { bytes: Some(bytes), ..self }
    }

    pub fn duration_ms(self, duration: std::time::Duration) -> Entry {
        Entry { duration_ms: Some(duration.as_millis() as u64), ..self }
    }

    /// A reason code of the contract.
    pub fn reason(self, code: &str) -> Entry {
        Entry { reason: Some(code.to_owned()), ..self }
    }

    pub fn file(self, file: &std::path::Path, line: usize) -> Entry {
        let line = u32::try_from(line).ok().filter(|line| *line > 0);
        Entry { file: Some(file.display().to_string()), line, ..self }
    }

    /// PRIORITY: the entry's own, else its event's.
    pub fn level(&self) -> u8 {
        self.priority.unwrap_or(self.event.priority())
    }

    /// MESSAGE: one line, without anything a terminal would obey.
    pub fn text(&self) -> String {
        shown_within(&self.message, MESSAGE_MAX)
    }

    /// The fields beyond MESSAGE and PRIORITY that the entry carries, by their outside names.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let words = [
            ("PECSYNC_ACCOUNT", &self.account),
            ("PECSYNC_MIGRATION", &self.migration),
            ("PECSYNC_HOST", &self.host),
            ("PECSYNC_FOLDER", &self.folder),
            ("PECSYNC_REASON", &self.reason),
            ("PECSYNC_FILE", &self.file),
        ];
        let numbers = [
            ("PECSYNC_SOURCE_UID", self.source_uid.map(|uid| uid.get().into())),
            ("PECSYNC_TARGET_UID", self.target_uid.map(|uid| uid.get().into())),
            ("PECSYNC_BYTES", self.bytes),
            ("PECSYNC_DURATION_MS", self.duration_ms),
            ("PECSYNC_LINE", self.line.map(u64::from)),
        ];
        let mut fields = vec![
            ("MESSAGE_ID", self.event.message_id().to_owned()),
            ("PECSYNC_EVENT", self.event.name().to_owned()),
        ];
        let words = words.into_iter().filter_map(|(name, word)| Some((name, word.as_ref()?)));
        fields.extend(words.map(|(name, word)| (name, shown(word))));
        let numbers = numbers.into_iter().filter_map(|(name, number)| Some((name, number?)));
        fields.extend(numbers.map(|(name, number)| (name, number.to_string())));
        fields
    }

    /// For people: `2026-11-21T22:30:00Z account_held mario.rossi@pec.epap.it: text`.
    pub fn line_at(&self, time: Timestamp) -> String {
        let second = time.round(jiff::Unit::Second).unwrap_or(time);
        let of_whom = [&self.account, &self.migration, &self.host, &self.file];
        let of_whom = of_whom.into_iter().flatten().next();
        let of_whom = of_whom.map(|word| format!(" {}", shown(word))).unwrap_or_default();
        format!("{second} {}{of_whom}: {}", self.event.name(), self.text())
    }

    /// For programs: the fields of journald, all of them strings as `journalctl -o json` has
    /// them, and TIME.
    pub fn json_at(&self, time: Timestamp) -> String {
        let mut object = serde_json::Map::new();
        object.insert("TIME".to_owned(), time.to_string().into());
        object.insert("PRIORITY".to_owned(), self.level().to_string().into());
        object.insert("MESSAGE".to_owned(), self.text().into());
        for (name, value) in self.fields() {
            object.insert(name.to_owned(), value.into());
        }
        serde_json::Value::Object(object).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Entry {
        Entry::new(Event::AccountHeld, "NO \u{1b}[31mbad\r\npassword")
            .account("mario.rossi@pec.epap.it")
            .folder("INBOX/\u{202e}txt")
            .source_uid(Uid::new(7).unwrap())
            .bytes(4400)
            .reason("credentials_rejected")
    }

    #[test]
    fn a_line_for_people() {
        let time = "2026-11-21T22:30:00.4Z".parse().unwrap();
        assert_eq!(
            held().line_at(time),
            "2026-11-21T22:30:00Z account_held mario.rossi@pec.epap.it: \
             NO \\x1b[31mbad\\r\\npassword"
        );
    }

    #[test]
    fn a_line_for_programs() {
        let time = "2026-11-21T22:30:00.4Z".parse().unwrap();
        let value: serde_json::Value = serde_json::from_str(&held().json_at(time)).unwrap();
        let expected = serde_json::json!({
            "TIME": "2026-11-21T22:30:00.4Z",
            "PRIORITY": "4",
            "MESSAGE": "NO \\x1b[31mbad\\r\\npassword",
            "MESSAGE_ID": Event::AccountHeld.message_id(),
            "PECSYNC_EVENT": "account_held",
            "PECSYNC_ACCOUNT": "mario.rossi@pec.epap.it",
            "PECSYNC_FOLDER": "INBOX/\\u202etxt",
            "PECSYNC_SOURCE_UID": "7",
            "PECSYNC_BYTES": "4400",
            "PECSYNC_REASON": "credentials_rejected",
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_first_copy_speaks_low() {
        let entry = Entry::new(Event::MessageCopied, "");
        assert_eq!((entry.level(), entry.priority(7).level()), (6, 7));
    }
}
