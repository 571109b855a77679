//! Whatever is dropped into conf.d, at whatever moment of its writing: an answer, no panic, and
//! no password in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use pecsync::config::{Context, Settings, enrollment, load_in};
use proptest::prelude::*;

/// Neither has a password that could become a part of a key.
const MAIN: &str = r#"
[limits]
memory = "64MiB"
[limits.host."imap.old.it"]
logins_per_second = 1
[migration.epap]
domains = ["pec.epap.it"]
cutover = 2026-02-04T08:00
[migration.epap.source]
host = "imap.old.it"
[migration.epap.source.service_login]
user = "m"
password = "%%%%%%%hunter2"
[migration.epap.folders]
rename = { "Inviata" = "INBOX/Spedite" }
[migration.epap.sync]
idle = ["INBOX"]
"#;

const ENROLLMENT: &str = r#"
address = "mario@pec.epap.it"
cutover = "2026-02-04"
[source]
user = "mario"
password = "%%%%%%%hunter2"
expires = 2026-04-01
[target]
user = "M1"
password = '%%%%%%%hunter2'
[contact]
email = "mario@example.it"
"#;

const PIECES: [&str; 24] = [
    "\"",
    "'",
    "\"\"\"",
    "=",
    "[",
    "]",
    "[[",
    "{",
    "}",
    ".",
    ",",
    "#",
    "\n",
    "\r",
    "\\",
    " ",
    "\0",
    "è",
    "-",
    "0x",
    "[source]",
    "password",
    "address = 5\n",
    "2026-13-01",
];

#[derive(Clone, Debug)]
enum Slip {
    Insert(prop::sample::Index, usize),
    Delete(prop::sample::Index, usize),
    Cut(prop::sample::Index),
}

fn slips() -> impl Strategy<Value = Vec<Slip>> {
    let place = any::<prop::sample::Index>;
    let slip = prop_oneof![
        4 => (place(), 0..PIECES.len()).prop_map(|(at, piece)| Slip::Insert(at, piece)),
        4 => (place(), 1..3_usize).prop_map(|(at, chars)| Slip::Delete(at, chars)),
        1 => place().prop_map(Slip::Cut),
    ];
    prop::collection::vec(slip, 0..4)
}

fn slipped(text: &str, slips: &[Slip]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for slip in slips {
        match slip {
            Slip::Insert(at, piece) => {
                let at = at.index(chars.len() + 1);
                chars.splice(at..at, PIECES[*piece].chars());
            }
            Slip::Delete(at, count) => {
                let at = at.index(chars.len() + 1);
                chars.drain(at..(at + count).min(chars.len()));
            }
            Slip::Cut(at) => chars.truncate(at.index(chars.len() + 1)),
        }
    }
    chars.into_iter().collect()
}

fn load(text: &str) -> Result<Settings, String> {
    let etc = tempfile::tempdir().unwrap();
    let file = etc.path().join("pecsync.toml");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let now = "2026-01-15T12:00:00Z".parse().unwrap();
    let context = Context { now, credentials: None, checking: false };
    match load_in(&file, &context) {
        Ok((settings, _)) => Ok(settings),
        Err(problems) => {
            assert!(!problems.is_empty());
            Err(problems.iter().map(|problem| format!("{problem}\n")).collect())
        }
    }
}

fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| load(MAIN).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn enrollments(slips in slips()) {
        let text = slipped(ENROLLMENT, &slips);
        let parsed = enrollment::parse(Path::new("/etc/pecsync/conf.d/m.toml"), &text, settings());
        if let Err(problems) = parsed {
            let said: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
            prop_assert!(!said.contains("hunter"), "{said}\nfor {text}");
        }
        enrollment::address_in(&text);
    }

    #[test]
    fn settings_files(slips in slips()) {
        let text = slipped(MAIN, &slips);
        if let Err(said) = load(&text) {
            prop_assert!(!said.contains("hunter"), "{said}\nfor {text}");
        }
    }
}
