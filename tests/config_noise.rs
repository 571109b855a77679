//! Whatever is dropped into conf.d, at whatever moment of its writing: an answer, no panic, and
//! no password in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use pecsync::config::{
    Context, Difference, Enrollment, FileRead, Settings, Snapshot, enrollment, load_in, reconcile,
};
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
    let context = Context { now, credentials: None, checking: false, for_portal: false };
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
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

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

/// What may happen to one of four files between two looks.
#[derive(Clone, Debug)]
enum Change {
    /// Account, source login, target login: few of each, so that they collide.
    Put(u8, u8, u8, u8),
    Garbage(u8),
    Remove(u8),
    Restart,
}

fn changes() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change = prop_oneof![
        6 => (0..4_u8, 0..3_u8, 0..3_u8, 0..3_u8).prop_map(|(f, a, s, t)| Change::Put(f, a, s, t)),
        2 => (0..4_u8).prop_map(Change::Garbage),
        2 => (0..4_u8).prop_map(Change::Remove),
        1 => Just(Change::Restart),
    ];
    prop::collection::vec(prop::collection::vec(change, 0..4), 1..12)
}

/// Without a service login, so that nothing but the files decides.
fn plain_settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        load("[migration.epap]\ndomains = [\"pec.epap.it\"]\n[migration.epap.source]\nhost = \"a\"\n[migration.epap.target]\nhost = \"b\"\n").unwrap()
    })
}

type Files = BTreeMap<PathBuf, String>;

fn apply(files: &mut Files, change: &Change) {
    let path = |file: &u8| PathBuf::from(format!("/etc/pecsync/conf.d/{file}.toml"));
    match change {
        Change::Put(file, account, source, target) => {
            let text = format!(
                "address = \"{account}@pec.epap.it\"\n[source]\nuser = \"s{source}\"\npassword = \"x\"\n\
                 [target]\nuser = \"t{target}\"\npassword = \"x\"\n"
            );
            files.insert(path(file), text);
        }
        Change::Garbage(file) => _ = files.insert(path(file), "garbage".to_owned()),
        Change::Remove(file) => _ = files.remove(&path(file)),
        Change::Restart => {}
    }
}

fn look(
    snapshot: &Snapshot,
    files: &Files,
    known: &BTreeMap<String, PathBuf>,
) -> (Snapshot, Vec<Difference>) {
    let reads = files.iter().map(|(path, text)| FileRead::of_text(path, text)).collect();
    reconcile(snapshot, reads, plain_settings(), known)
}

/// What a daemon that acts on differences alone believes to be active.
fn believe(active: &mut BTreeMap<String, Arc<Enrollment>>, difference: Difference) {
    match difference {
        Difference::Accepted(new) => {
            assert!(active.insert(new.address.clone(), new).is_none(), "accepted twice");
        }
        Difference::Replaced(new) => {
            assert!(active.insert(new.address.clone(), new).is_some(), "replaced out of nothing");
        }
        Difference::Repeated(same) => {
            assert!(active.insert(same.address.clone(), same).is_some(), "repeated out of nothing");
        }
        Difference::Removed(old) => assert!(active.remove(&old.address).is_some(), "removed twice"),
        Difference::Rejected(_) => {}
    }
}

fn logins<'e>(
    enrollments: impl Iterator<Item = &'e Arc<Enrollment>>,
) -> Vec<(String, String, String)> {
    enrollments.map(|e| (e.address.clone(), e.source_user.clone(), e.target_user.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn worlds(rounds in changes()) {
        let (mut files, mut snapshot, mut known) = (Files::new(), Snapshot::default(), BTreeMap::new());
        let mut believed = BTreeMap::new();
        for changes in rounds {
            let before = files.clone();
            changes.iter().for_each(|change| apply(&mut files, change));
            if changes.iter().any(|change| matches!(change, Change::Restart)) {
                known.extend(snapshot.active().values().map(|e| (e.address.clone(), e.file.clone())));
                (snapshot, believed) = (Snapshot::default(), BTreeMap::new());
            }
            let (now, differences) = look(&snapshot, &files, &known);
            differences.into_iter().for_each(|difference| believe(&mut believed, difference));
            prop_assert_eq!(logins(believed.values()), logins(now.active().values()));

            // No two accounts log in as one.
            let active = logins(now.active().values());
            for (n, a) in active.iter().enumerate() {
                for b in &active[..n] {
                    prop_assert!(a.1 != b.1 && a.2 != b.2, "{a:?} and {b:?}");
                }
            }
            // Who was active and whose file did not change stays as it was.
            for (address, enrollment) in snapshot.active() {
                if files.get(&enrollment.file) == before.get(&enrollment.file) {
                    let stays = now.active().get(address).map(|e| &e.file);
                    let own_new_version = now.active().values().any(|e| {
                        e.file == enrollment.file && e.address != *address
                    });
                    prop_assert!(stays == Some(&enrollment.file) || own_new_version, "{address} was disturbed");
                }
            }
            // Whoever is neither active nor refused was forgotten.
            for path in files.keys() {
                let active = now.active().values().any(|e| e.file == *path);
                prop_assert!(active || now.rejected().any(|bad| bad.path == path), "{path:?}");
            }
            // Looking again finds nothing.
            let (again, differences) = look(&now, &files, &known);
            prop_assert!(differences.is_empty(), "{differences:?}");
            snapshot = again;
        }
    }
}
