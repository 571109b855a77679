//! What is installed beside the binary: the unit, the catalogs, the operator's page. Each must say
//! what the code says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pecsync::journal::Event;
use pecsync::status::REASONS;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(repository(path)).expect(path)
}

/// `None` where systemd's tools are not installed.
fn tool(name: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(name).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("{name}: {error}; not tested");
            None
        }
    }
}

const UNITS: [&str; 3] =
    ["pecsync.service", "pecsync-portal.service", "pecsync-portal-provision.service"];

/// The unit as it would be on a machine where the binary is installed.
fn installed_unit(dir: &Path, name: &str) -> PathBuf {
    let unit = dir.join(name);
    // Any program stands for that of the portal, which is built by another package.
    let here = text(&format!("systemd/{name}"))
        .replace("/usr/bin/pecsync-portal", "/usr/bin/pecsync")
        .replace("/usr/bin/pecsync", env!("CARGO_BIN_EXE_pecsync"));
    fs::write(&unit, here).expect("written");
    unit
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    for name in UNITS {
        let unit = installed_unit(dir.path(), name);
        let verify = ["verify", "--man=no", unit.to_str().unwrap()];
        let Some(output) = tool("systemd-analyze", &verify) else { return };
        // It ends with 0 where it only complains.
        let said = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("pecsync")).collect();
        assert!(ours.is_empty() && output.status.success(), "{said}");
    }
}

#[test]
fn the_unit_is_hardened() {
    let dir = tempfile::tempdir().unwrap();
    for name in UNITS {
        let unit = installed_unit(dir.path(), name);
        let unit = unit.to_str().unwrap();
        let security = ["security", "--offline=true", "--threshold=12", "--no-pager", unit];
        let Some(output) = tool("systemd-analyze", &security) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn accounts_and_directories_are_understood() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap();
    let sysusers = repository("systemd/pecsync.sysusers");
    let of_portal = repository("systemd/pecsync-portal.sysusers");
    fs::create_dir_all(root.path().join("etc")).unwrap();
    let files = [&sysusers, &of_portal].map(|file| file.to_str().unwrap());
    let arguments = ["--root", path, files[0], files[1]];
    if let Some(output) = tool("systemd-sysusers", &arguments) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let groups = fs::read_to_string(root.path().join("etc/group")).unwrap();
        assert!(groups.contains("pecsync:") && groups.contains("pecsync-admin:"), "{groups}");
        let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
        assert!(
            users.contains("pecsync-portal:") && users.contains("pecsync-provision:"),
            "{users}"
        );
    }
}

#[test]
fn both_catalogs_explain_every_event_and_nothing_else() {
    let events: BTreeMap<String, String> = Event::ALL
        .iter()
        .map(|event| (event.message_id().to_owned(), event.name().to_owned()))
        .collect();
    for path in ["systemd/pecsync.catalog", "systemd/pecsync.it.catalog"] {
        assert_eq!(explained(&text(path), path), events, "{path}");
    }
}

/// MESSAGE_IDs of a catalog and the names in the comments above them.
fn explained(catalog: &str, path: &str) -> BTreeMap<String, String> {
    let mut explained = BTreeMap::new();
    for entry in catalog.split("\n# ").skip(2) {
        let (name, rest) = entry.split_once("\n-- ").unwrap_or_else(|| panic!("{path}: {entry}"));
        let (id, rest) = rest.split_once('\n').expect("an id and a text");
        let (head, body) = rest.split_once("\n\n").expect("a head and a body");
        assert!(head.starts_with("Subject: ") && head.contains("Defined-By: pecsync"), "{entry}");
        assert!(body.trim().len() > 20, "{path}: {name} says nothing");
        assert!(explained.insert(id.to_owned(), name.to_owned()).is_none(), "{id} twice");
    }
    explained
}

#[test]
fn journald_reads_both_catalogs() {
    let root = tempfile::tempdir().unwrap();
    let catalogs = root.path().join("usr/lib/systemd/catalog");
    fs::create_dir_all(&catalogs).unwrap();
    fs::create_dir_all(root.path().join("var/lib/systemd/catalog")).unwrap();
    for name in ["pecsync.catalog", "pecsync.it.catalog"] {
        fs::copy(repository("systemd").join(name), catalogs.join(name)).unwrap();
    }
    let path = root.path().to_str().unwrap();
    let update = ["--update-catalog", "--root", path];
    let Some(output) = tool("journalctl", &update) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = tool("journalctl", &["--list-catalog", "--root", path]).expect("it was there");
    let listed = String::from_utf8_lossy(&list.stdout);
    for event in Event::ALL {
        assert!(listed.contains(event.message_id()), "{}: {listed}", event.name());
    }
}

#[test]
fn the_operators_page_lists_every_event_as_it_is() {
    let page = text("docs/operating.md");
    let expected: Vec<String> = Event::ALL
        .iter()
        .map(|event| format!("| `{}` | {} | {} |", event.name(), event.priority(), event.meaning()))
        .collect();
    assert_eq!(rows(&page, "### Events"), expected);
}

#[test]
fn the_operators_page_explains_every_reason_and_no_other() {
    let page = text("docs/operating.md");
    let codes: Vec<String> = rows(&page, "### Reasons")
        .iter()
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            assert!(cells.len() == 3 && cells.iter().all(|cell| cell.len() > 3), "{row}");
            cells[0].trim_matches(['|', ' ', '`']).to_owned()
        })
        .collect();
    assert_eq!(codes, REASONS);
}

/// The rows of the table under a heading.
fn rows<'p>(page: &'p str, heading: &str) -> Vec<&'p str> {
    let (_, below) = page.split_once(&format!("\n{heading}\n")).expect(heading);
    let table = below.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    table.take_while(|line| line.starts_with('|')).collect()
}
