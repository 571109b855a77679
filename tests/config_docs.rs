//! The manual and the samples: every key is explained, and what is shown works.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pecsync::cli::check;
use pecsync::config::keys::{self, Keys};
use pecsync::config::{Context, enrollment, load_in, presets};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap()
}

/// The part of the manual under a table's heading, up to the next heading.
fn chapter<'m>(manual: &'m str, table: &str) -> &'m str {
    let heading = manual
        .match_indices("\n#")
        .find(|(at, _)| manual[at + 1..].lines().next().unwrap().contains(table))
        .unwrap_or_else(|| panic!("the manual has no heading {table}"))
        .0;
    let body = &manual[heading + 1..];
    &body[..body.find("\n#").unwrap_or(body.len())]
}

#[test]
fn the_manual_explains_every_key_where_it_belongs() {
    let manual = read("docs/configuration.md");
    for Keys { table, kind, supported, not_yet } in keys::ALL {
        let heading = match (*table, kind) {
            ("", keys::Kind::Settings) => "Migrations: [migration.NAME]",
            ("", keys::Kind::Enrollment) => "Enrollments",
            (table, _) => table,
        };
        let chapter = chapter(&manual, heading);
        for key in *supported {
            let named =
                chapter.contains(&format!("`{key}`")) || chapter.contains(&format!("[{key}."));
            assert!(named, "{key} is not explained under {heading}");
        }
        for key in *not_yet {
            assert!(!manual.contains(&format!("`{key}`")), "{key} is explained but not supported");
        }
    }
    for preset in presets::ALL {
        let row = format!("| `{}` | {}:993 |", preset.name, preset.host);
        let row = manual.lines().find(|line| line.starts_with(&row)).unwrap();
        preset.well_known.iter().for_each(|(_, name)| assert!(row.contains(name), "{name}"));
    }
}

#[test]
fn the_samples_are_accepted_and_the_enrollment_shows_every_key() {
    let etc = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = etc.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        path
    };
    let main = put("pecsync.toml", &read("docs/examples/pecsync.toml"));
    put("migrations.d/epap.toml", &read("docs/examples/migrations.d/epap.toml"));
    put("credentials/epap-target", "secret");
    let now = "2026-01-15T12:00:00Z".parse().unwrap();
    let credentials = Some(etc.path().join("credentials"));
    let (settings, _) =
        load_in(&main, &Context { now, credentials, checking: false, for_portal: false }).unwrap();

    let sample = read("conf.d/mario.rossi.toml.example");
    let file = put("conf.d/mario.toml", &sample);
    let mario = enrollment::parse(&file, &sample, &settings).unwrap();
    assert_eq!(mario.address, "mario.rossi@pec.epap.it");
    for Keys { supported, .. } in keys::ALL.iter().filter(|k| k.kind == keys::Kind::Enrollment) {
        supported.iter().for_each(|key| assert!(sample.contains(key), "{key}"));
    }
}

/// With each comment sign before a key taken away, a sample is still right.
#[test]
fn what_is_commented_out_in_the_samples_is_right_too() {
    let uncommented = |text: String| {
        let key = |line: &str| {
            line.strip_prefix('#')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
        };
        let lines = text.lines().map(|line| if key(line) { &line[1..] } else { line });
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let etc = tempfile::tempdir().unwrap();
    let main = etc.path().join("pecsync.toml");
    let migrations = uncommented(read("docs/examples/migrations.d/epap.toml"));
    let migrations = migrations.replace("credential ", "password ");
    fs::write(&main, uncommented(read("docs/examples/pecsync.toml")) + &migrations).unwrap();
    fs::set_permissions(&main, fs::Permissions::from_mode(0o600)).unwrap();
    let now = "2026-01-15T12:00:00Z".parse().unwrap();
    let context = Context { now, credentials: None, checking: false, for_portal: false };
    let (settings, _) = load_in(&main, &context).unwrap();
    assert_eq!(settings.limits.hosts["imaps.pec.aruba.it"].connections, 500);
    // It shows all ways to give a password, of which one may be used.
    let mario = uncommented(read("conf.d/mario.rossi.toml.example"))
        .lines()
        .filter(|line| !line.starts_with("password_file") && !line.starts_with("sealed_password"))
        .map(|line| format!("{line}\n"))
        .collect::<String>();
    let mario = enrollment::parse(&etc.path().join("m.toml"), &mario, &settings).unwrap();
    assert_eq!(mario.cutover.unwrap().to_string(), "2026-01-20T07:00:00Z");
    assert_eq!(mario.of_archive().unwrap().source_user, "archive.mario.rossi");
}

/// The samples for the four migrations that were published, side by side: `pecsync check` has nothing
/// to say against them, nor against an enrollment of each that came in time.
#[test]
fn check_accepts_the_samples_of_four_migrations() {
    let etc = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str, written: &str| {
        let path = etc.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let written: Timestamp = written.parse().unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(written.into()).unwrap();
    };
    let samples = fs::read_dir(repository("docs/examples/migrations.d")).unwrap();
    let mut names: Vec<String> =
        samples.map(|sample| sample.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["epap.toml", "fnofi.toml", "geometri.toml", "pec-istruzione.toml"]);
    put("pecsync.toml", &read("docs/examples/pecsync.toml"), "2022-01-01T00:00:00Z");
    for name in &names {
        let sample = format!("docs/examples/migrations.d/{name}");
        // A credential is systemd's to hand over.
        let text = read(&sample).replace("credential    =", "password      =");
        put(&format!("migrations.d/{name}"), &text, "2022-01-01T00:00:00Z");
    }
    let enrollment = read("conf.d/mario.rossi.toml.example");
    for (number, (address, written, cutover)) in [
        ("mario@pec.epap.it", "2026-02-03T22:00:00Z", "cutover 2026-02-04T08:00:00+01:00"),
        ("mario@geopec.it", "2026-01-15T12:00:00Z", "no cutover"),
        // After the cutover, before the end.
        ("mario@pec.fnofi.it", "2024-03-31T20:00:00Z", "cutover 2024-02-05T00:00:00+01:00"),
        ("mario@pec.istruzione.it", "2022-11-22T22:00:00Z", "cutover 2022-11-23T14:00:00+01:00"),
        (
            "mario@postacert.istruzione.it",
            "2022-11-11T08:00:00Z",
            "cutover 2022-11-23T14:00:00+01:00",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let text = enrollment.replace("mario.rossi@pec.epap.it", address);
        let text = text.replace("M1234567", &format!("M{number}"));
        let name = format!("conf.d/{address}.toml");
        put(&name, &text, written);
        let config = etc.path().join("pecsync.toml");
        for files in [vec![etc.path().join(&name)], Vec::new()] {
            let found = check::look(&config, &files, written.parse().unwrap());
            let (mut out, mut err) = (Vec::new(), Vec::new());
            found.print(&mut out, &mut err).unwrap();
            let said = [out, err].map(|octets| String::from_utf8(octets).unwrap());
            assert_eq!(found.code(), 0, "{address}: {said:?}");
            assert!(said[0].contains(cutover), "{address}: {said:?}");
        }
    }
}
