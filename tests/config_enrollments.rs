//! Enrollments: one file, and the directory of them as it changes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use pecsync::config::{
    Context, Difference, FileRead, Problem, Settings, Snapshot, enrollment, load_in,
    read_dir_files, reconcile,
};
use secrecy::ExposeSecret;
use tempfile::TempDir;

const MAIN: &str = r#"
[migration.epap]
domains = ["pec.epap.it"]
cutover = "2026-02-04T08:00"
[migration.epap.source]
host = "imap.old.it"
[migration.epap.target]
host = "imap.new.it"

[migration.geometri]
domains = ["geopec.it", "geopec2.it"]
[migration.geometri.source]
provider = "aruba"

[migration.service]
domains = ["service.it"]
[migration.service.source]
host = "imap.old.it"
service_login = { user = "m", password = "x" }
[migration.service.target]
provider = "legalmail"
service_login = { user = "m", password = "x" }

[migration.master]
domains = ["master.it"]
[migration.master.source]
host = "imap.old.it"
[migration.master.target]
provider = "legalmail"
service_login = { user = "m", password = "x", style = "master" }
"#;

const MARIO: &str = "address = \"Mario.Rossi@pec.epap.it\"\n\
    [source]\npassword = \"old\"\n[target]\npassword = \"new\"\n";

/// Settings from a directory of their own, which stays as long as they are used.
fn settings_of(main: &str) -> (TempDir, Settings) {
    let etc = tempfile::tempdir().unwrap();
    fs::create_dir(etc.path().join("conf.d")).unwrap();
    let file = etc.path().join("pecsync.toml");
    fs::write(&file, main).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let now = "2026-01-15T12:00:00Z".parse().unwrap();
    let context = Context { now, credentials: None, checking: false, for_portal: false };
    let (settings, _) = load_in(&file, &context).unwrap();
    (etc, settings)
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

fn problems_of(text: &str) -> String {
    let (etc, settings) = settings_of(MAIN);
    match enrollment::parse(&etc.path().join("conf.d/m.toml"), text, &settings) {
        Ok(_) => String::new(),
        Err(problems) => lines(&problems).replace(&etc.path().display().to_string(), "ETC"),
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(problems_of(text), expected, "for:\n{text}");
}

#[test]
fn what_is_left_out_has_a_default() {
    let (etc, settings) = settings_of(MAIN);
    let file = etc.path().join("conf.d/m.toml");
    let mario = enrollment::parse(&file, MARIO, &settings).unwrap();
    assert_eq!(mario.address, "mario.rossi@pec.epap.it");
    assert_eq!(
        (mario.source_user.as_str(), mario.target_user.as_str()),
        (mario.address.as_str(), mario.address.as_str())
    );
    assert_eq!(mario.cutover, mario.migration.cutover);
    assert_eq!(mario.migration.name, "epap");
    assert_eq!(mario.source_password.as_ref().unwrap().expose_secret(), "old");
    assert_eq!(mario.target_password.as_ref().unwrap().expose_secret(), "new");
    assert_eq!((mario.source_expires, &mario.contact), (None, &Default::default()));
    assert_eq!(mario.file, file);
    let debug = format!("{mario:?}");
    assert!(!debug.contains("old\"") && !debug.contains("\"new\""), "{debug}");
}

#[test]
fn what_is_written_arrives() {
    let (etc, settings) = settings_of(MAIN);
    fs::write(etc.path().join("conf.d/pass"), "from a file\n").unwrap();
    fs::set_permissions(etc.path().join("conf.d/pass"), fs::Permissions::from_mode(0o600)).unwrap();
    let text = r#"
address = "anna@geopec.it"
migration = "geometri"
cutover = "2026-01-20"
[source]
user = "anna"
password_file = "pass"
expires = "2026-04-01"
[target]
user = "M1234567"
password = "it's \"new\""
[contact]
email = "anna@example.it"
phone = "+39 123 456 7890"
"#;
    let anna = enrollment::parse(&etc.path().join("conf.d/a.toml"), text, &settings).unwrap();
    assert_eq!(anna.cutover.unwrap().to_string(), "2026-01-19T23:00:00Z");
    assert_eq!(anna.source_expires.unwrap().to_string(), "2026-04-01T21:59:59.999999999Z");
    assert_eq!((anna.source_user.as_str(), anna.target_user.as_str()), ("anna", "M1234567"));
    assert_eq!(anna.source_password.unwrap().expose_secret(), "from a file");
    assert_eq!(anna.target_password.unwrap().expose_secret(), "it's \"new\"");
    assert_eq!(anna.contact.email.as_deref(), Some("anna@example.it"));
    assert_eq!(anna.contact.phone.as_deref(), Some("+391234567890"));
}

#[test]
fn a_service_login_stands_in_for_passwords_and_authorises_by_address() {
    let (etc, settings) = settings_of(MAIN);
    let file = etc.path().join("conf.d/m.toml");
    let served = enrollment::parse(&file, "address = \"a@service.it\"", &settings).unwrap();
    assert!(served.source_password.is_none() && served.target_password.is_none());
    assert_eq!(served.target_user, "a@service.it");
    // A master login is appended to the account's own, which is a code at Legalmail.
    check(
        "address = \"a@master.it\"\n[source]\npassword = \"x\"",
        "conf.d/m.toml:1:1: \"user\" of the target is missing: legalmail logins are codes; add user = \"M…\" under [target]",
    );
}

#[test]
fn mistakes() {
    let m = |place: &str, rest: &str| format!("conf.d/m.toml:{place}: {rest}");
    check(
        &MARIO.replace("password = \"old\"", "pasword = \"old\""),
        &format!(
            "{}\n{}",
            m(
                "2:1",
                "the source has no password; add sealed_password, password_file or password under [source]"
            ),
            m("3:1", "unknown key \"pasword\"; did you mean \"password\"?"),
        ),
    );
    check("", &m("1:1", "\"address\" is missing; add address = \"…@…\", the account to be moved"));
    check(
        &MARIO.replace("pec.epap.it", "pec.epap.com"),
        &m(
            "1:11",
            "pec.epap.com belongs to no migration; known domains are: pec.epap.it, geopec.it, geopec2.it, master.it, service.it",
        ),
    );
    check(
        &format!("migration = \"epapp\"\n{MARIO}"),
        &m("1:13", "unknown migration \"epapp\"; did you mean \"epap\"?"),
    );
    check(
        &format!("migration = \"geometri\"\n{MARIO}"),
        &m(
            "1:13",
            "pec.epap.it does not belong to migration \"geometri\"; its domains are: geopec.it, geopec2.it",
        ),
    );
    check(
        &MARIO.replace("@pec", " pec"),
        &m(
            "1:11",
            "address: \"Mario.Rossi pec.epap.it\" is not an address; write it like \"mario.rossi@pec.epap.it\"",
        ),
    );
    check(
        &format!("password = \"x\"\n{MARIO}"),
        &m(
            "1:1",
            "unknown key \"password\"; it belongs in [source] or [source.archive] or [target]",
        ),
    );
    check(
        &MARIO.replace("password = \"old\"", "sealed_password = \"v1:x\""),
        &m(
            "3:19",
            "sealed_password: not a sealed password: it begins with v1:KEY:; seal it anew: pecsync \
             seal mario.rossi@pec.epap.it",
        ),
    );
    check(
        &MARIO.replace("password = \"old\"", "password = \"old\"\npassword_file = \"x\""),
        &m("4:1", "both password_file and password; keep one of them").replace("4:1", "3:1"),
    );
    check(
        &format!("cutover = 2026-06-01\n{MARIO}"),
        &m(
            "1:11",
            "the cutover is after source_until of the migration, 2026-03-06T08:00:00+01:00; the last pass comes after the cutover: write an earlier one",
        ),
    );
    check(
        &format!("{MARIO}[contact]\nphone = \"123\"\nemail = \"x\""),
        &format!(
            "{}\n{}",
            m(
                "7:9",
                "phone: \"123\" is not a phone number; write it in international form, like \"+391234567890\""
            ),
            m("8:9", "email: \"x\" is not an address; write it like \"mario.rossi@pec.epap.it\""),
        ),
    );
    check(
        "address = \"a@geopec.it\"\n[source]\npassword = \"x\"\n[target]\npassword = \"y\"",
        &m(
            "4:1",
            "\"user\" of the target is missing: legalmail logins are codes; add user = \"M…\" under [target]",
        ),
    );
}

#[test]
fn an_account_is_not_its_own_target() {
    let (etc, settings) = settings_of(&MAIN.replace("imap.new.it", "imap.old.it"));
    let problems =
        enrollment::parse(&etc.path().join("conf.d/m.toml"), MARIO, &settings).unwrap_err();
    assert!(lines(&problems).contains("source and target are both"), "{}", lines(&problems));
}

#[test]
fn no_message_repeats_a_password() {
    for line in [
        "password = hunter2",
        "password = \"hunter2",
        "password = \"hunter2\" hunter2",
        "password = \"hunter2\\q\"",
        "password = [\"hunter2\"]",
        "password = { hunter2 = \"hunter2\" }",
        "pasword = \"hunter2\"",
        "password = 'hunter2'hunter2'",
        "password = \"\"\"hunter2",
        "password: hunter2",
        "password hunter2",
        "password = \"x\"\nhunter2",
    ] {
        let problems = problems_of(&format!("address = \"m@pec.epap.it\"\n[source]\n{line}\n"));
        assert!(!problems.is_empty(), "{line} is accepted");
        assert!(!problems.contains("hunter2"), "{line}: {problems}");
    }
}

// ---- the directory, as it changes ----

/// conf.d in memory: files are put and removed, and `look` says what changed.
struct World {
    etc: TempDir,
    settings: Settings,
    files: BTreeMap<PathBuf, String>,
    known: BTreeMap<String, PathBuf>,
    snapshot: Snapshot,
}

impl World {
    fn new() -> World {
        let (etc, settings) = settings_of(MAIN);
        World {
            etc,
            settings,
            files: BTreeMap::new(),
            known: BTreeMap::new(),
            snapshot: Snapshot::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.settings.daemon.conf_dir.join(name)
    }

    fn put(&mut self, name: &str, text: &str) -> &mut World {
        self.files.insert(self.path(name), text.to_owned());
        self
    }

    fn remove(&mut self, name: &str) -> &mut World {
        self.files.remove(&self.path(name)).unwrap();
        self
    }

    fn restart(&mut self) -> &mut World {
        let active = self.snapshot.active().values();
        self.known.extend(active.map(|e| (e.address.clone(), e.file.clone())));
        self.snapshot = Snapshot::default();
        self
    }

    /// Differences as `+ address`, `* address`, `- address`, `! problem`.
    fn look(&mut self) -> String {
        let files = self.files.iter().map(|(path, text)| FileRead::of_text(path, text)).collect();
        let (snapshot, differences) = reconcile(&self.snapshot, files, &self.settings, &self.known);
        self.snapshot = snapshot;
        shown(&differences)
    }

    fn active(&self) -> String {
        let active = self.snapshot.active().values().map(|e| {
            format!("{} from {}", e.address, e.file.file_name().unwrap().to_str().unwrap())
        });
        active.collect::<Vec<_>>().join(", ")
    }
}

fn shown(differences: &[Difference]) -> String {
    let shown = differences.iter().map(|difference| match difference {
        Difference::Accepted(enrollment) => format!("+ {}", enrollment.address),
        Difference::Replaced(enrollment) => format!("* {}", enrollment.address),
        Difference::Repeated(enrollment) => format!("= {}", enrollment.address),
        Difference::Removed(enrollment) => format!("- {}", enrollment.address),
        Difference::Rejected(problem) => format!("! {problem}"),
    });
    shown.collect::<Vec<_>>().join("\n")
}

fn asks_for(address: &str) -> String {
    format!("address = \"{address}\"\n[source]\npassword = \"old\"\n[target]\npassword = \"new\"\n")
}

fn asks_as(address: &str, source: &str, target: &str) -> String {
    format!(
        "address = \"{address}\"\n[source]\nuser = \"{source}\"\npassword = \"old\"\n\
         [target]\nuser = \"{target}\"\npassword = \"new\"\n"
    )
}

#[test]
fn accounts_supply_what_the_file_leaves_out() {
    let main = MAIN.replace(
        "domains = [\"geopec.it\"",
        "accounts = \"accounts.csv\"\ndomains = [\"geopec.it\"",
    );
    let etc = tempfile::tempdir().unwrap();
    fs::create_dir(etc.path().join("conf.d")).unwrap();
    let rows = "address;target_user;email;phone\na@geopec.it;M7;a@x.it;+39061234567\n";
    fs::write(etc.path().join("accounts.csv"), rows).unwrap();
    fs::write(etc.path().join("pecsync.toml"), main).unwrap();
    let file = etc.path().join("pecsync.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let now = "2026-01-15T12:00:00Z".parse().unwrap();
    let (settings, _) =
        load_in(&file, &Context { now, credentials: None, checking: false, for_portal: false })
            .unwrap();
    let parse = |text: &str| {
        let parsed = enrollment::parse(&etc.path().join("conf.d/m.toml"), text, &settings);
        parsed.map_err(|problems| lines(&problems))
    };
    let listed = parse(&asks_for("a@geopec.it")).unwrap();
    let contact = (listed.contact.email.as_deref(), listed.contact.phone.as_deref());
    assert_eq!(
        (listed.target_user.as_str(), contact),
        ("M7", (Some("a@x.it"), Some("+39061234567")))
    );
    let own = asks_as("a@geopec.it", "a@geopec.it", "M8") + "[contact]\nemail = \"b@x.it\"\n";
    let own = parse(&own).unwrap();
    let contact = (own.contact.email.as_deref(), own.contact.phone.as_deref());
    assert_eq!((own.target_user.as_str(), contact), ("M8", (Some("b@x.it"), Some("+39061234567"))));
    let unlisted = parse(&asks_for("b@geopec.it")).unwrap_err();
    assert!(
        unlisted.ends_with("add user = \"M…\" under [target], or its row to the accounts"),
        "{unlisted}"
    );
}

/// A file written after the window is rejected, unless its account is known already.
#[test]
fn who_comes_after_the_window_is_rejected() {
    let main = MAIN.replace(
        "cutover = \"2026-02-04T08:00\"",
        "enroll_until = \"2026-01-20\"\ncutover = \"2026-02-04T08:00\"",
    );
    let (_etc, settings) = settings_of(&main);
    let path = settings.daemon.conf_dir.join("a.toml");
    let file = |text: &str, written: &str| {
        FileRead::of_text(&path, text).written_at(written.parse().unwrap())
    };
    let look = |before: &Snapshot, file: FileRead, known: &[&str]| {
        let known = known.iter().map(|known| ((*known).to_owned(), path.clone())).collect();
        let (snapshot, differences) = reconcile(before, vec![file], &settings, &known);
        (snapshot, shown(&differences))
    };
    let (in_time, late) = ("2026-01-20T22:59:00Z", "2026-01-20T23:00:00Z");
    let none = Snapshot::default();
    let (active, said) = look(&none, file(&asks_for(A), in_time), &[]);
    assert_eq!(said, format!("+ {A}"));
    let (_, said) = look(&none, file(&asks_for(A), late), &[]);
    assert_eq!(
        said,
        "! conf.d/a.toml: enrolling for migration \"epap\" ended at \
         2026-01-20T23:59:59+01:00; move enroll_until in the migration and reload, if \
         it is to be moved all the same"
    );
    let another = asks_for(A).replace("old", "older");
    let (_, said) = look(&active, file(&another, late), &[]);
    assert_eq!(said, format!("* {A}"), "a new password is taken at any time");
    let (_, said) = look(&none, file(&another, late), &[A]);
    assert_eq!(said, format!("+ {A}"), "also after a restart");
}

const A: &str = "a@pec.epap.it";
const B: &str = "b@pec.epap.it";

#[test]
fn accepted_replaced_removed() {
    let mut world = World::new();
    world.put("a.toml", &asks_for(A)).put("b.toml", &asks_for(B));
    assert_eq!(world.look(), format!("+ {A}\n+ {B}"));
    assert_eq!(world.look(), "");
    world.put("a.toml", &asks_for(A).replace("old", "older"));
    assert_eq!(world.look(), format!("* {A}"));
    world.remove("b.toml");
    assert_eq!(world.look(), format!("- {B}"));
    // The name of the file means nothing, but the daemon must know it.
    world.remove("a.toml").put("c.toml", &asks_for(A).replace("old", "older"));
    assert_eq!(world.look(), format!("* {A}"));
    world.put("c.toml", &asks_for(B));
    assert_eq!(world.look(), format!("- {A}\n+ {B}"));
}

#[test]
fn a_bad_file_is_said_once_per_content_and_disturbs_nobody() {
    let mut world = World::new();
    world.put("a.toml", &asks_for(A)).put("b.toml", "address = ");
    let said = world.look();
    assert!(said.starts_with(&format!("+ {A}\n! conf.d/b.toml:1:")), "{said}");
    assert_eq!(world.look(), "");
    world.put("b.toml", "adress = 5");
    assert!(
        world
            .look()
            .contains("! conf.d/b.toml:1:1: unknown key \"adress\"; did you mean \"address\"?")
    );
    assert_eq!(world.look(), "");
    world.put("b.toml", &asks_for(B));
    assert_eq!(world.look(), format!("+ {B}"));
}

#[test]
fn the_last_good_version_of_a_bad_file_stays() {
    let mut world = World::new();
    world.put("a.toml", &asks_for(A));
    world.look();
    world.put("a.toml", &asks_for(A).replace("password", "pasword"));
    let said = world.look();
    assert!(said.starts_with("! ") && !said.contains("- "), "{said}");
    assert_eq!(world.active(), format!("{A} from a.toml"));
    let rejected: Vec<_> = world.snapshot.rejected().collect();
    assert_eq!((rejected.len(), rejected[0].last_good, rejected[0].address), (1, true, Some(A)));
    // Mended as it was: nothing has happened.
    world.put("a.toml", &asks_for(A));
    assert_eq!(world.look(), "");
    assert_eq!(world.snapshot.rejected().count(), 0);
    // Bad again, and removed.
    world.put("a.toml", "");
    world.look();
    world.remove("a.toml");
    assert_eq!(world.look(), format!("- {A}"));
}

#[test]
fn of_two_files_for_one_account_the_first_stays() {
    let taken = |file: &str, first: &str| {
        format!(
            "! conf.d/{file}:1:1: the account {A} is already enrolled by conf.d/{first}; the first stays: remove one of the two files\n\
             ! conf.d/{file}:1:1: the source login {A} at imap.old.it is already enrolled by conf.d/{first}; the first stays: remove one of the two files\n\
             ! conf.d/{file}:1:1: the target login {A} at imap.new.it is already enrolled by conf.d/{first}; the first stays: remove one of the two files"
        )
    };
    // Dropped at once: by name.
    let mut world = World::new();
    world.put("n.toml", &asks_for(A)).put("m.toml", &asks_for(A));
    assert_eq!(world.look(), format!("+ {A}\n{}", taken("n.toml", "m.toml")));
    assert_eq!(world.look(), "");
    // Dropped later, with a name that sorts first.
    world.remove("n.toml");
    assert_eq!(world.look(), "");
    world.put("a.toml", &asks_for(&A.to_uppercase()));
    assert_eq!(world.look(), taken("a.toml", "m.toml"));
    assert_eq!(world.active(), format!("{A} from m.toml"));
    // Also after a restart.
    assert_eq!(world.restart().look(), format!("+ {A}\n{}", taken("a.toml", "m.toml")));
    assert_eq!(world.active(), format!("{A} from m.toml"));
    // When the first goes, the second takes its place.
    world.remove("m.toml");
    assert_eq!(world.look(), format!("* {A}"));
    assert_eq!(world.active(), format!("{A} from a.toml"));
    assert_eq!(world.snapshot.problems().count(), 0);
}

#[test]
fn a_bad_first_keeps_its_account_also_after_a_restart() {
    let mut world = World::new();
    world.put("m.toml", &asks_for(A));
    world.look();
    world.restart();
    world.put("m.toml", "garbage").put("a.toml", &asks_for(A));
    let said = world.look();
    assert!(
        said.contains(&format!("the account {A} is already enrolled by conf.d/m.toml")),
        "{said}"
    );
    assert_eq!(world.active(), "");
    // It asks for somebody else, however badly: then the account is free.
    world.put("m.toml", "address = \"b@pec.epap.it\"");
    assert!(world.look().starts_with(&format!("+ {A}")));
    // Or it is gone.
    world.restart().remove("m.toml");
    assert_eq!(world.look(), format!("+ {A}"));
}

#[test]
fn logins_belong_to_one_account() {
    let mut world = World::new();
    world.put("a.toml", &asks_as(A, "one", "one")).put("b.toml", &asks_as(B, "ONE", "two"));
    assert_eq!(
        world.look(),
        format!(
            "+ {A}\n! conf.d/b.toml:3:1: the source login one at imap.old.it is already enrolled by conf.d/a.toml; the first stays: remove one of the two files"
        )
    );
    world.put("b.toml", &asks_as(B, "two", "one"));
    assert_eq!(
        world.look(),
        "! conf.d/b.toml:6:1: the target login one at imap.new.it is already enrolled by conf.d/a.toml; the first stays: remove one of the two files"
    );
    world.put("b.toml", &asks_as(B, "two", "two"));
    assert_eq!(world.look(), format!("+ {B}"));
}

#[test]
fn a_new_version_that_comes_too_late_leaves_the_old_one() {
    let mut world = World::new();
    world.put("a.toml", &asks_as(A, "one", "one")).put("b.toml", &asks_as(B, "two", "two"));
    world.look();
    world.put("b.toml", &asks_as(B, "one", "two"));
    assert!(world.look().starts_with("! conf.d/b.toml:3:1: the source login one"));
    assert_eq!(world.look(), "");
    assert_eq!(world.snapshot.active()[B].source_user, "two");
    // What it still has is not free for others either.
    world.put("c.toml", &asks_as("c@pec.epap.it", "two", "three"));
    assert!(
        world
            .look()
            .contains("the source login two at imap.old.it is already enrolled by conf.d/b.toml")
    );
    // As soon as the other goes, the new version holds.
    world.remove("a.toml").remove("c.toml");
    assert_eq!(world.look(), format!("- {A}\n* {B}"));
    assert_eq!(world.snapshot.active()[B].source_user, "one");
}

#[test]
fn two_accounts_may_swap_logins_at_once() {
    let mut world = World::new();
    world.put("a.toml", &asks_as(A, "one", "one")).put("b.toml", &asks_as(B, "two", "two"));
    world.look();
    world.put("a.toml", &asks_as(A, "two", "one")).put("b.toml", &asks_as(B, "one", "two"));
    assert_eq!(world.look(), format!("* {A}\n* {B}"));
}

#[test]
fn settings_that_change_replace_only_whom_they_concern() {
    let mut world = World::new();
    let g = "g@geopec.it";
    world.put("a.toml", &asks_for(A)).put("g.toml", &asks_as(g, "g", "M1"));
    assert_eq!(world.look(), format!("+ {A}\n+ {g}"));
    let reload = |world: &mut World, main: &str| {
        let (etc, mut settings) = settings_of(main);
        settings.dir = world.settings.dir.clone();
        settings.daemon.conf_dir = world.settings.daemon.conf_dir.clone();
        world.settings = settings;
        drop(etc);
        world.look()
    };
    assert_eq!(reload(&mut world, MAIN), "");
    let later = MAIN.replace("2026-02-04", "2026-02-05");
    assert_eq!(reload(&mut world, &later), format!("* {A}"));
    assert_eq!(world.snapshot.active()[A].cutover.unwrap().to_string(), "2026-02-05T07:00:00Z");
    // A bad file is still asked for under the settings as they are now.
    world.put("a.toml", "garbage");
    world.look();
    assert_eq!(reload(&mut world, MAIN), format!("* {A}"));
    assert_eq!(world.snapshot.active()[A].cutover.unwrap().to_string(), "2026-02-04T07:00:00Z");
    // A migration that is gone takes its accounts along.
    let gone = MAIN.replace("[\"geopec.it\", \"geopec2.it\"]", "[\"other.it\"]");
    let said = reload(&mut world, &gone);
    assert!(
        said.starts_with(&format!(
            "- {g}\n! conf.d/g.toml:1:11: geopec.it belongs to no migration"
        )),
        "{said}"
    );
    assert_eq!(reload(&mut world, MAIN), format!("+ {g}"));
}

#[test]
fn a_service_password_that_changes_replaces_its_accounts() {
    let mut world = World::new();
    world.put("s.toml", "address = \"a@service.it\"");
    world.look();
    let (_etc, mut settings) = settings_of(&MAIN.replace("password = \"x\"", "password = \"y\""));
    settings.dir = world.settings.dir.clone();
    world.settings = settings;
    assert_eq!(world.look(), "* a@service.it");
}

// ---- the directory on disk ----

/// The world with its files on disk.
struct Disk {
    world: World,
}

impl Disk {
    fn new() -> Disk {
        Disk { world: World::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn look(&mut self) -> String {
        let files = read_dir_files(&self.world.settings.daemon.conf_dir);
        let World { snapshot, settings, known, etc, .. } = &mut self.world;
        let (now, differences) = reconcile(snapshot, files, settings, known);
        *snapshot = now;
        shown(&differences).replace(&etc.path().display().to_string(), "ETC")
    }
}

#[test]
fn what_is_read_and_what_is_not() {
    let mut disk = Disk::new();
    disk.put("a.toml", &asks_for(A));
    disk.put("team/b.toml", &asks_for(B));
    for ignored in [
        ".a.toml",
        "a.toml~",
        ".a.toml.swp",
        "a.toml.tmp",
        "README",
        "x.toml.example",
        ".git/x.toml",
        "team/deep/x.toml",
        "team/.x.toml",
        "team~/x.toml",
    ] {
        disk.put(ignored, "garbage");
    }
    assert_eq!(disk.look(), format!("+ {A}\n+ {B}"));
    let order: Vec<PathBuf> =
        read_dir_files(&disk.path("")).into_iter().map(|file| file.path).collect();
    assert_eq!(order, [disk.path("a.toml"), disk.path("team/b.toml")]);
}

#[test]
fn kubernetes_swaps_links() {
    let mut disk = Disk::new();
    disk.put("..v1/a.toml", &asks_for(A));
    disk.put("..v2/a.toml", &asks_for(A).replace("old", "older"));
    symlink("..v1", disk.path("..data")).unwrap();
    symlink("..data/a.toml", disk.path("a.toml")).unwrap();
    assert_eq!(disk.look(), format!("+ {A}"));
    symlink("..v2", disk.path("..new")).unwrap();
    fs::rename(disk.path("..new"), disk.path("..data")).unwrap();
    assert_eq!(disk.look(), format!("* {A}"));
    fs::remove_dir_all(disk.path("..v2")).unwrap();
    assert_eq!(
        disk.look(),
        "! conf.d/a.toml: a symbolic link that leads nowhere; mend or remove it"
    );
    assert_eq!(disk.look(), "");
    assert_eq!(disk.world.active(), format!("{A} from a.toml"));
}

#[test]
fn permissions() {
    let mut disk = Disk::new();
    let path = disk.put("a.toml", &asks_for(A));
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&path, 0o644);
    let refused = "a file with a plain password that everybody on this machine can read; chmod o-rwx ETC/conf.d/a.toml";
    assert_eq!(
        disk.look(),
        format!("! conf.d/a.toml:3:1: {refused}\n! conf.d/a.toml:5:1: {refused}")
    );
    mode(&path, 0o640);
    assert_eq!(disk.look(), format!("+ {A}"));
    // Without a plain password anybody may read it.
    let text = asks_for(A).replace("password = \"old\"", "password_file = \"p\"");
    let text = text.replace("password = \"new\"", "password_file = \"p\"");
    mode(&disk.put("p", "secret"), 0o600);
    mode(&disk.put("a.toml", &text), 0o644);
    assert_eq!(disk.look(), format!("* {A}"));
    mode(&disk.path("p"), 0o604);
    let refused = "password_file: a file with a password that everybody on this machine can read; chmod o-rwx ETC/conf.d/p";
    assert_eq!(
        disk.look(),
        format!("! conf.d/a.toml:3:17: {refused}\n! conf.d/a.toml:5:17: {refused}")
    );
}

/// Root reads everything: this says something only where the tests run as somebody else.
#[test]
fn what_the_daemon_cannot_read() {
    if unsafe { libc::geteuid() } == 0 {
        return;
    }
    let mut disk = Disk::new();
    let path = disk.put("a.toml", &asks_for(A));
    disk.put("team/b.toml", &asks_for(B));
    disk.look();
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&path, 0o000);
    mode(&disk.path("team"), 0o000);
    assert_eq!(
        disk.look(),
        "! conf.d/a.toml: cannot be read: permission denied; \
         chown root:pecsync ETC/conf.d/a.toml && chmod 640 ETC/conf.d/a.toml\n\
         ! conf.d/team: cannot be read: permission denied; \
         chown root:pecsync ETC/conf.d/team && chmod 750 ETC/conf.d/team"
    );
    assert_eq!(disk.world.active(), format!("{A} from a.toml, {B} from b.toml"));
    mode(&disk.path("team"), 0o700);
    mode(&path, 0o600);
    assert_eq!(disk.look(), "");
}

#[test]
fn a_new_password_in_a_password_file_is_a_new_version() {
    let mut disk = Disk::new();
    disk.put("a.toml", &asks_for(A).replace("password = \"old\"", "password_file = \"p\""));
    disk.put("p", "one");
    assert_eq!(disk.look(), format!("+ {A}"));
    disk.put("p", "two");
    assert_eq!(disk.look(), format!("* {A}"));
    let password = disk.world.snapshot.active()[A].source_password.clone().unwrap();
    assert_eq!(password.expose_secret(), "two");
    fs::remove_file(disk.path("p")).unwrap();
    assert!(disk.look().starts_with(
        "! conf.d/a.toml:3:17: password_file: ETC/conf.d/p cannot be read: no such file"
    ));
    assert_eq!(disk.world.active(), format!("{A} from a.toml"));
}

#[test]
fn odd_files() {
    let mut disk = Disk::new();
    disk.put("big.toml", &"#".repeat(70_000));
    fs::write(disk.path("latin.toml"), b"address = \"\xe8\"").unwrap();
    let fifo = std::ffi::CString::new(disk.path("fifo.toml").to_str().unwrap()).unwrap();
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    symlink("loop.toml", disk.path("loop.toml")).unwrap();
    disk.put("a.toml", &asks_for(A));
    let said = disk.look();
    assert!(
        said.contains("! conf.d/big.toml: longer than 64 KiB; is it the right file?"),
        "{said}"
    );
    assert!(
        said.contains("! conf.d/fifo.toml: not a regular file; put a file of text there"),
        "{said}"
    );
    assert!(said.contains("! conf.d/latin.toml:1:12: not UTF-8; save the file as UTF-8"), "{said}");
    assert!(said.contains("! conf.d/loop.toml: "), "{said}");
    assert!(said.contains(&format!("+ {A}")), "{said}");
}

#[test]
fn a_directory_that_is_not_there_says_nothing_about_its_accounts() {
    let mut disk = Disk::new();
    disk.put("a.toml", &asks_for(A));
    disk.put("team/b.toml", &asks_for(B));
    disk.look();
    let (conf_dir, away) = (disk.path(""), disk.world.etc.path().join("away"));
    fs::rename(&conf_dir, &away).unwrap();
    assert_eq!(
        disk.look(),
        "! conf.d: cannot be read: no such file; create it, or correct its name"
    );
    assert_eq!(disk.look(), "");
    assert_eq!(disk.world.active(), format!("{A} from a.toml, {B} from b.toml"));
    fs::rename(&away, &conf_dir).unwrap();
    assert_eq!(disk.look(), "");
    fs::remove_dir_all(disk.path("team")).unwrap();
    assert_eq!(disk.look(), format!("- {B}"));
}

#[test]
fn thousands_at_once() {
    let mut disk = Disk::new();
    for n in 0..3000 {
        disk.put(&format!("{n}.toml"), &asks_for(&format!("{n}@pec.epap.it")));
    }
    assert_eq!(disk.look().lines().count(), 3000);
    let start = std::time::Instant::now();
    assert_eq!(disk.look(), "");
    println!("3000 unchanged files took {:?}", start.elapsed());
}
