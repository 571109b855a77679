//! An archive with a login of its own: in the migration, in the enrollment, and every mistake.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pecsync::config::{
    Context, Difference, Enrollment, FileRead, Problem, Settings, Snapshot, enrollment, load_in,
    reconcile,
};
use secrecy::ExposeSecret;
use tempfile::TempDir;

const MAIN: &str = "[migration.epap]\ndomains = [\"pec.epap.it\"]\ncutover = \"2026-02-04\"\n\
    settle = \"1d\"\nsource = { host = \"old.it\", archive = { host = \"archive.it\" } }\n\
    target.host = \"new.it\"\nfolders.after_cutover = [\"Archivio\"]\n";

const MARIO: &str = "address = \"mario@pec.epap.it\"\n[source]\npassword = \"old\"\n\
    [source.archive]\nuser = \"am\"\npassword = \"third\"\n[target]\npassword = \"new\"\n";

struct Etc(TempDir);

impl Etc {
    fn new(main: &str) -> Etc {
        let etc = Etc(tempfile::tempdir().unwrap());
        fs::create_dir(etc.path("conf.d")).unwrap();
        etc.put("pecsync.toml", main);
        etc
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn load(&self) -> Result<Settings, Vec<Problem>> {
        let now = "2026-01-15T12:00:00Z".parse().unwrap();
        let context = Context { now, credentials: None, checking: false, for_portal: false };
        Ok(load_in(&self.path("pecsync.toml"), &context)?.0)
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn parse(main: &str, text: &str) -> Result<Enrollment, String> {
    let etc = Etc::new(main);
    let settings = etc.load().map_err(|problems| lines(&problems))?;
    let file = etc.path("conf.d/m.toml");
    enrollment::parse(&file, text, &settings).map_err(|problems| lines(&problems))
}

#[test]
fn the_account_as_its_archive_login_sees_it() {
    let mario = parse(MAIN, MARIO).unwrap();
    assert!(mario.has_archive() && !mario.is_archive);
    let archive = mario.of_archive().unwrap();
    assert!(archive.is_archive && !archive.has_archive());
    assert_eq!((&*archive.address, &*archive.source_user), ("mario@pec.epap.it", "am"));
    assert_eq!(archive.source_password.unwrap().expose_secret(), "third");
    let (own, migration) = (&mario.migration, archive.migration);
    assert_eq!((&*own.source.host, &*migration.source.host), ("old.it", "archive.it"));
    assert_eq!(migration.target.host, own.target.host);
    assert_eq!(migration.folders.only, own.folders.after_cutover);
    assert!(migration.folders.after_cutover.is_empty() && migration.settle.is_zero());
    assert_eq!(migration.cutover, own.cutover);
}

#[test]
fn a_login_at_the_archive_is_for_each_account_or_for_all() {
    let without = MARIO.replace("[source.archive]\nuser = \"am\"\npassword = \"third\"\n", "");
    assert!(!parse(MAIN, &without).unwrap().has_archive());
    let service = "host = \"archive.it\", service_login = { user = \"s\", password = \"p\" }";
    let main = MAIN.replace("host = \"archive.it\"", service);
    // Not everybody has an archive: who has one says so.
    assert!(!parse(&main, &without).unwrap().has_archive());
    let mario = without.replace("[target]", "[source.archive]\n[target]");
    let mario = parse(&main, &mario).unwrap();
    let archive = mario.of_archive().unwrap();
    assert_eq!(archive.source_user, "mario@pec.epap.it");
    assert!(archive.source_password.is_none() && mario.has_secrets());
}

#[test]
fn mistakes() {
    #[track_caller]
    fn check(main: &str, text: &str, expected: &str) {
        let said = parse(main, text).unwrap_err();
        assert!(said.contains(expected), "{said}");
    }
    check(
        &MAIN.replace("folders.after_cutover = [\"Archivio\"]\n", ""),
        MARIO,
        "no folder is taken from the archive: after_cutover names none; add after_cutover",
    );
    check(&MAIN.replace("archive.it\"", "archive.it\", archive = 1"), MARIO, "unknown key");
    check(
        &MAIN.replace(", archive = { host = \"archive.it\" }", ""),
        MARIO,
        "conf.d/m.toml:4:1: migration \"epap\" has no archive; add [migration.epap.source.archive]",
    );
    let text = MARIO.replace("password = \"third\"\n", "");
    check(
        MAIN,
        &text,
        "4:1: the archive has no password; add sealed_password, password_file or password under \
         [source.archive]",
    );
    check(MAIN, &MARIO.replace("\"third\"", "\"third\"\nexpires = 1"), "unknown key \"expires\"");
    let same = MAIN.replace("archive.it", "old.it");
    let text = MARIO.replace("\"am\"", "\"mario@pec.epap.it\"");
    check(&same, &text, "source and archive are both mario@pec.epap.it at old.it");
    let same = MAIN.replace("archive.it", "new.it");
    check(&same, &text, "target and archive are both mario@pec.epap.it at new.it");
}

#[test]
fn one_login_at_the_archive_is_one_accounts_and_its_secrets_are_found() {
    let etc = Etc::new(MAIN);
    let settings = etc.load().unwrap();
    etc.put("conf.d/secret", "third\n");
    let text = MARIO.replace("password = \"third\"", "password_file = \"secret\"");
    let look = |files: &[(&str, &str)]| {
        let read = |(name, text): &(&str, &str)| FileRead::of_text(&etc.path(name), text);
        let files = files.iter().map(read).collect();
        reconcile(&Snapshot::default(), files, &settings, &BTreeMap::new()).1
    };
    let one = look(&[("conf.d/a.toml", &text)]);
    let [Difference::Accepted(mario)] = &one[..] else { panic!("{one:?}") };
    let password = mario.of_archive().unwrap().source_password.unwrap();
    assert_eq!(password.expose_secret(), "third");
    let luigi = MARIO.replace("mario@", "luigi@").replace("\"am\"", "\"AM\"");
    let two = look(&[("conf.d/a.toml", &text), ("conf.d/b.toml", &luigi)]);
    let refused = two.iter().find_map(|difference| match difference {
        Difference::Rejected(problem) => Some(problem.to_string()),
        _ => None,
    });
    let expected = "5:1: the source login am at archive.it is already enrolled by conf.d/a.toml";
    assert!(refused.as_ref().is_some_and(|said| said.contains(expected)), "{refused:?}");
    let passwords = FileRead::of_text(Path::new("conf.d/a.toml"), MARIO).passwords();
    assert_eq!(passwords, [3, 0, 0]);
}
