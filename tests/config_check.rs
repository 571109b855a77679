//! `pecsync check`: what it prints and how it exits.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pecsync::cli::check;
use serde_json::Value;
use tempfile::TempDir;

const MAIN: &str = "[migration.epap]\ndomains = [\"pec.epap.it\"]\ncutover = \"2026-02-04T08:00\"\n\
    [migration.epap.source]\nprovider = \"aruba\"\n\
    [migration.geometri]\ndomains = [\"geopec.it\"]\n[migration.geometri.source]\nhost = \"imap.old.it\"\n";

fn asks_for(address: &str, code: &str) -> String {
    format!(
        "address = \"{address}\"\n[source]\npassword = \"old\"\n\
         [target]\nuser = \"{code}\"\npassword = \"new\"\n"
    )
}

fn etc(main: &str) -> TempDir {
    let etc = tempfile::tempdir().unwrap();
    fs::create_dir(etc.path().join("conf.d")).unwrap();
    put(&etc.path().join("pecsync.toml"), main);
    etc
}

fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Exit code, stdout, stderr.
fn run(etc: &TempDir, files: &[PathBuf]) -> (u8, String, String) {
    let now = "2026-01-15T12:00:00Z".parse().unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let config = etc.path().join("pecsync.toml");
    let found = check::look(&config, files, now);
    found.print(&mut out, &mut err).unwrap();
    let code = found.code();
    let text = |octets| String::from_utf8(octets).unwrap();
    let shown = |octets| text(octets).replace(&etc.path().display().to_string(), "ETC");
    (code, shown(out), shown(err))
}

#[test]
fn a_fine_configuration_is_summed_up() {
    let etc = etc(MAIN);
    put(&etc.path().join("conf.d/a.toml"), &asks_for("a@pec.epap.it", "M1"));
    put(&etc.path().join("conf.d/b.toml"), &asks_for("b@pec.epap.it", "M2"));
    let expected = "2 migrations, 2 enrollments, 0 rejected; passwords: 4 plain, 0 in files, 0 sealed\n\
        epap: 2 enrollments, cutover 2026-02-04T08:00:00+01:00 (2026-02-04T07:00:00Z)\n\
        geometri: 0 enrollments, no cutover\n";
    assert_eq!(run(&etc, &[]), (0, expected.to_owned(), String::new()));
}

#[test]
fn every_problem_is_printed() {
    let etc = etc(MAIN);
    put(&etc.path().join("conf.d/a.toml"), &asks_for("a@pec.epap.it", "M1"));
    put(&etc.path().join("conf.d/b.toml"), &asks_for("a@pec.epap.it", "M2"));
    put(&etc.path().join("conf.d/c.toml"), &asks_for("c@pec.epap.it", "M3").replace("user", "usr"));
    let (code, out, err) = run(&etc, &[]);
    assert_eq!(code, 78);
    assert!(out.starts_with("2 migrations, 1 enrollment, 2 rejected"), "{out}");
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 4, "{err}");
    assert!(lines[0].starts_with(
        "conf.d/b.toml:1:1: the account a@pec.epap.it is already enrolled by conf.d/a.toml"
    ));
    assert!(lines[1].starts_with("conf.d/b.toml:1:1: the source login"));
    assert!(lines[2].starts_with("conf.d/c.toml:4:1: \"user\" of the target is missing"));
    assert_eq!(lines[3], "conf.d/c.toml:5:1: unknown key \"usr\"; did you mean \"user\"?");
}

#[test]
fn bad_settings() {
    let etc = etc(&MAIN.replace("provider", "provder"));
    let (code, out, err) = run(&etc, &[]);
    assert_eq!((code, out.as_str()), (78, "2 problems; enrollments were not checked\n"));
    assert_eq!(
        err,
        "pecsync.toml:4:1: \"host\" is missing; add host = \"…\", or provider = one of \"aruba\", \"legalmail\"\n\
         pecsync.toml:5:1: unknown key \"provder\"; did you mean \"provider\"?\n"
    );
}

#[test]
fn warnings_do_not_change_the_exit_code() {
    let etc = etc(&MAIN.replace("2026-02", "2026-01"));
    let (code, _, err) = run(&etc, &[]);
    assert_eq!(code, 0);
    assert!(err.starts_with(
        "warning: pecsync.toml:3:11: the cutover 2026-01-04T08:00:00+01:00 has passed"
    ));
}

#[test]
fn a_file_is_checked_as_if_it_were_dropped() {
    let etc = etc(MAIN);
    put(&etc.path().join("conf.d/a.toml"), &asks_for("a@pec.epap.it", "M1"));
    put(&etc.path().join("conf.d/bad.toml"), "garbage");
    let (new, same) = (etc.path().join("new.toml"), etc.path().join("a.toml"));
    put(&new, &asks_for("b@pec.epap.it", "M2"));
    let fine =
        "b@pec.epap.it: migration epap, cutover 2026-02-04T08:00:00+01:00 (2026-02-04T07:00:00Z)\n";
    assert_eq!(run(&etc, std::slice::from_ref(&new)), (0, fine.to_owned(), String::new()));
    put(&new, &asks_for("b@pec.epap.it", "M1"));
    let (code, out, err) = run(&etc, std::slice::from_ref(&new));
    assert_eq!((code, out.as_str()), (78, ""));
    assert!(err.starts_with("new.toml:5:1: the target login m1 at mbox.cert.legalmail.it is already enrolled by conf.d/a.toml"), "{err}");
    // A new version of a file that is there.
    put(&same, &asks_for("a@pec.epap.it", "M9"));
    assert_eq!(run(&etc, &[same]).0, 0);
    assert_eq!(run(&etc, &[etc.path().join("conf.d/a.toml")]).0, 0);
    let (code, _, err) =
        run(&etc, &[etc.path().join("conf.d/bad.toml"), etc.path().join("none.toml")]);
    assert_eq!(code, 78);
    assert!(err.contains("ETC/none.toml: cannot be read: no such file\n"), "{err}");
    assert!(err.contains("conf.d/bad.toml:1:"), "{err}");
}

/// A script tells settings that stop everything from an enrollment that stops only itself.
#[test]
fn json_tells_settings_from_enrollments() {
    #[track_caller]
    fn check(etc: &TempDir, files: &[PathBuf], lengths: [usize; 4], code: u8) -> Value {
        let now = "2026-01-15T12:00:00Z".parse().unwrap();
        let found = check::look(&etc.path().join("pecsync.toml"), files, now);
        let json = found.json(&Value::Null, found.code());
        let length = |key: &str| json[key].as_array().unwrap().len();
        let seen = ["settings", "warnings", "enrollments", "accepted"].map(length);
        assert_eq!((seen, json["exit"].as_u64()), (lengths, Some(code.into())), "{json}");
        json
    }
    let good = etc(&MAIN.replace("2026-02", "2026-01"));
    put(&good.path().join("conf.d/a.toml"), &asks_for("a@pec.epap.it", "M1"));
    let json = check(&good, &[], [0, 1, 0, 0], 0);
    let whole = &json["whole"];
    assert_eq!(
        (whole["enrollments"].as_u64(), whole["passwords"]["plain"].as_u64()),
        (Some(1), Some(2))
    );
    assert_eq!(whole["migrations"][0]["cutover"], "2026-01-04T07:00:00Z");
    let new = good.path().join("new.toml");
    put(&new, &asks_for("b@pec.epap.it", "M2"));
    let json = check(&good, &[new], [0, 1, 0, 1], 0);
    assert_eq!(json["accepted"][0]["address"], "b@pec.epap.it");
    put(&good.path().join("conf.d/bad.toml"), "address = 7\n");
    let json = check(&good, &[], [0, 1, 1, 0], 78);
    let problem = &json["enrollments"][0];
    assert_eq!(
        (problem["file"].as_str(), problem["line"].as_u64()),
        (Some("conf.d/bad.toml"), Some(1))
    );
    check(&etc(&MAIN.replace("provider", "provder")), &[], [2, 0, 0, 0], 78);
}
