//! Reports of a checkpoint: the digest is what anybody recomputes with the commands of the manual.

use std::fs;
use std::path::Path;
use std::process::Command;

use pecsync::checkpoint::*;
use pecsync::report::{Format, Lang, Row, Writer, gather, write_files};
use pecsync::words::*;
use serde_json::Value;

/// Names that quoting, sorting and formulas trip over.
const NAMES: [&str; 7] = [
    "INBOX",
    "INBOX.Perché, \"così\"",
    "=cmd|' /C calc'!A0",
    "'virgolette",
    "a\tb\\t",
    "<script>alert(1)</script>",
    "x\",\"y",
];

fn uid(number: u32) -> Uid {
    Uid::new(number).unwrap()
}

fn link(folder: u32, number: u32) -> Known {
    let mut sha256 = [number as u8; 32];
    sha256[1] = folder as u8;
    // Identical ones, also across folders.
    if number.is_multiple_of(5) {
        sha256 = [0xee; 32];
    }
    Known::Linked(Link {
        target_uid: (!number.is_multiple_of(7)).then(|| uid(number + 100)),
        origin: if number.is_multiple_of(3) { Origin::Twin } else { Origin::Copied },
        size: u64::from(number) * 100,
        instant: InternalDate(1_700_000_000 - i64::from(number) * 100_000_000),
        header: HeaderDigest([0; 16]),
        sha256: Sha256(sha256),
        flags: Flags::default(),
        unsure: None,
        proof: match number % 4 {
            0 => Proof::Verified,
            1 => Proof::ReadBack,
            _ => Proof::Listed,
        },
        suspect: false,
        altered: number.is_multiple_of(11).then(|| "NUL became 0x80".to_owned()),
    })
}

/// A store with one account: folders of all those names, 40 messages and 2 refused ones in each.
async fn furnished(dir: &Path) -> (Store, AccountRecord) {
    let (store, _) = Store::open(dir).unwrap();
    let place = |user: &str| Place { host: "imap.example".into(), user: user.into() };
    let record = AccountRecord {
        id: store.new_account_id().unwrap(),
        address: "mario@pec.it".into(),
        migration: "epap".into(),
        enrolled_by: String::new(),
        source: place("mario@pec.it"),
        target: place("M1"),
        phase: Phase::Completed,
        sealed_at: Some(1_770_000_000),
        completed_at: Some(1_770_000_100),
        source_seen_until: Some(1_770_000_100),
        first_copy_completed: true,
        removals_suspended: false,
        refused_credentials: None,
        worked_credentials: None,
    };
    let mut edits = vec![Edit::PutAccount(record.clone())];
    for (number, name) in (0..).zip(NAMES) {
        let id = store.new_folder_id().unwrap();
        edits.push(Edit::PutFolder(FolderRecord {
            id,
            account: record.id,
            source_name: name.as_bytes().into(),
            target_name: name.as_bytes().into(),
            source_shown: name.into(),
            target_shown: name.into(),
            exempt: false,
            source_seen: Some(Seen { messages: 43, uid_next: 60, ..Seen::default() }),
            target_seen: None,
            first_copy_completed: true,
            compared_at: 0,
        }));
        edits.extend((1..=40).map(|n| Edit::PutKnown(id, uid(n), link(number, n))));
        let text = "too big\u{1b}[31m".to_owned();
        let refused = Known::Refused { by_target: true, text, tries: 3, last_try: 0 };
        edits.extend([50, 51].map(|n| Edit::PutKnown(id, uid(n), refused.clone())));
    }
    store.writer().commit(edits).await.unwrap();
    (store, record)
}

fn written(store: &Store, record: &AccountRecord, format: Format) -> String {
    let mut writer = Writer::begin(Vec::new(), format, Lang::It).unwrap();
    gather(store, record, &[], 1_770_000_200, &mut |row| writer.take(row)).unwrap();
    String::from_utf8(writer.end().unwrap()).unwrap()
}

/// The shell commands of the manual that name this file.
fn command_of_the_manual(file: &str) -> String {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/report.md");
    let manual = fs::read_to_string(manual).unwrap();
    let blocks = manual.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let mut found = blocks.filter(|block| block.contains(file));
    let command = found.next().unwrap_or_else(|| panic!("no command with {file}")).to_owned();
    assert!(found.next().is_none(), "more than one command with {file}");
    command
}

/// What the manual's command makes of the report; `None` where a tool is not installed.
fn recomputed(dir: &Path, file: &str, report: &str) -> Option<String> {
    fs::write(dir.join(file), report).unwrap();
    let command = command_of_the_manual(file);
    let tool = command.split_whitespace().next().unwrap();
    if Command::new(tool).arg("--version").output().is_err() {
        eprintln!("{tool} is not installed; not tested");
        return None;
    }
    let output = Command::new("sh").arg("-c").arg(&command).current_dir(dir).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    Some(printed.split_whitespace().next().unwrap().to_owned())
}

#[tokio::test]
async fn the_digest_is_what_the_manuals_commands_print() {
    let dir = tempfile::tempdir().unwrap();
    let (store, record) = furnished(dir.path()).await;
    let json = written(&store, &record, Format::Json);
    let report: Value = serde_json::from_str(&json).unwrap();
    let digest = report["accounts"][0]["digest"]["value"].as_str().unwrap().to_owned();
    assert_eq!(digest.len(), 64);
    for (file, format) in [("report.json", Format::Json), ("report.csv", Format::Csv)] {
        let text = written(&store, &record, format);
        if let Some(printed) = recomputed(dir.path(), file, &text) {
            assert_eq!(printed, digest, "{file}");
        }
        // And it depends on every message.
        let changed = text.replacen("2020-09-13T", "2020-09-14T", 1);
        assert_ne!(changed, text);
        if let Some(printed) = recomputed(dir.path(), file, &changed) {
            assert_ne!(printed, digest, "{file}");
        }
    }
    for format in [Format::Text, Format::Html, Format::Csv] {
        assert!(written(&store, &record, format).contains(&digest), "{format:?}");
    }
}

#[tokio::test]
async fn counts_states_and_proofs_are_those_of_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (store, record) = furnished(dir.path()).await;
    let report: Value = serde_json::from_str(&written(&store, &record, Format::Json)).unwrap();
    let account = &report["accounts"][0];
    assert_eq!(account["phase"], "completed");
    assert_eq!(account["folders"].as_array().unwrap().len(), NAMES.len());
    // Of 40: 3 altered (11, 22, 33), 12 more adopted (multiples of 3 but 33).
    let expected =
        [("altered", 3), ("adopted", 12), ("copied", 25), ("refused", 2), ("source", 43)];
    for (name, of_folder) in expected {
        assert_eq!(account["totals"][name], of_folder * NAMES.len(), "{name}");
        assert_eq!(account["folders"][0][name], of_folder, "{name}");
    }
    assert_eq!(account["totals"]["missing"], NAMES.len());
    let messages = account["folders"][0]["messages"].as_array().unwrap();
    let of = |number: u64| messages.iter().find(|one| one["source_uid"] == number).unwrap();
    assert_eq!((&of(4)["proof"], &of(4)["state"]), (&"verified".into(), &"copied".into()));
    assert_eq!((&of(1)["proof"], &of(9)["state"]), (&"read_back".into(), &"adopted".into()));
    assert_eq!((&of(2)["proof"], &of(2)["target_uid"]), (&"listed".into(), &102.into()));
    assert_eq!((&of(14)["proof"], &of(14)["target_uid"]), (&Value::Null, &Value::Null));
    assert_eq!((&of(11)["proof"], &of(11)["reason"]), (&Value::Null, &"NUL became 0x80".into()));
    assert_eq!((&of(50)["refused_by"], &of(50)["sha256"]), (&"target".into(), &Value::Null));
    assert_eq!(of(50)["reason"], "too big\\x1b[31m", "what servers say is escaped");
}

#[tokio::test]
async fn files_are_whole_and_for_the_group() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (store, record) = furnished(dir.path()).await;
    let reports = dir.path().join("reports");
    let page = write_files(&reports, &store, &record, &[], 1_770_000_200).unwrap();
    assert_eq!(page, reports.join("mario@pec.it.html"));
    let mut names: Vec<_> = fs::read_dir(&reports)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), entry.metadata().unwrap().permissions().mode() & 0o777))
        .collect();
    names.sort();
    let expected = ["mario@pec.it.html", "mario@pec.it.json"].map(|name| (name.into(), 0o640));
    assert_eq!(names, expected);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
    let json = fs::read_to_string(reports.join("mario@pec.it.json")).unwrap();
    assert!(serde_json::from_str::<Value>(&json).is_ok());
    // A directory that cannot be made is an error, nothing more.
    fs::write(dir.path().join("file"), "").unwrap();
    let nowhere = dir.path().join("file/reports");
    assert!(write_files(&nowhere, &store, &record, &[], 0).is_err());
}

/// Rows end as soon as nobody wants them.
#[tokio::test]
async fn who_takes_no_more_gets_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (store, record) = furnished(dir.path()).await;
    let mut taken = 0;
    let ended = gather(&store, &record, &[], 0, &mut |row| {
        taken += u32::from(matches!(row, Row::Message(_)));
        if taken == 3 { Err(std::io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    });
    assert_eq!((ended.unwrap_err().kind(), taken), (std::io::ErrorKind::BrokenPipe, 3));
}
