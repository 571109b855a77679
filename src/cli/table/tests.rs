use super::*;
use crate::status::{ByteCounts, FolderCounts, MessageCounts, MigrationStatus, RejectedFile};

const PLAIN: Style =
    Style { width: 80, height: 24, colour: false, unicode: true, is_terminal: false };

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn account(address: &str) -> AccountStatus {
    let folder = FolderCounts {
        name: "INBOX".into(),
        target: "INBOX".into(),
        source: Some(1204),
        copied: Some(1204),
        refused: Some(0),
        state: "ok".into(),
        reason: None,
    };
    AccountStatus {
        address: address.into(),
        migration: "epap".into(),
        phase: "following".into(),
        condition: "ok".into(),
        removals: "mirrored".into(),
        mode: "idle".into(),
        enrolled_by: "/etc/pecsync/conf.d/portal/c2.toml".into(),
        messages: MessageCounts {
            source: Some(1204),
            copied: Some(1204),
            adopted: Some(3),
            ..MessageCounts::default()
        },
        bytes: ByteCounts { source: Some(145_000_000), copied: Some(145_000_000) },
        folders: vec![folder],
        ..AccountStatus::default()
    }
}

fn held(address: &str) -> AccountStatus {
    let reason = Reason {
        code: "credentials_rejected".into(),
        side: Some("source".into()),
        message: "[AUTHENTICATIONFAILED] Credenziali non valide".into(),
        hint: "ask the owner for the password and replace the enrollment".into(),
        since: "2026-11-21T11:15:00Z".into(),
        next_try: None,
    };
    AccountStatus {
        address: address.into(),
        migration: "epap".into(),
        phase: "enrolled".into(),
        condition: "held".into(),
        reason: Some(reason.clone()),
        reasons: vec![reason],
        ..AccountStatus::default()
    }
}

fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn a_few_accounts_are_listed_with_what_they_need() {
    let status = Status {
        accounts: vec![account("mario.rossi@pec.epap.it"), held("luca.verdi@pec.epap.it")],
        ..Status::default()
    };
    let expected = "\
ADDRESS                 PHASE     STATE    FOLDERS        MESSAGES    BYTES
mario.rossi@pec.epap.it following ok             1     1,204/1,204   145 MB
luca.verdi@pec.epap.it  enrolled  held           -               -        -
    credentials_rejected (source): [AUTHENTICATIONFAILED] Credenziali non valide
    [since 45m ago]
    → ask the owner for the password and replace the enrollment
";
    assert_eq!(overview(&status, false, PLAIN, now()), expected);
}

#[test]
fn a_long_address_is_never_cut() {
    let address = "un.indirizzo.veramente.molto.lungo.da.scrivere@pec.ordineingegneri.example.it";
    let status =
        Status { accounts: vec![account(address), account("a@b.it")], ..Status::default() };
    let text = overview(&status, false, PLAIN, now());
    fits(&text);
    assert!(text.contains(&format!("\n{address}\n")), "{text}");
}

#[test]
fn many_accounts_are_a_line_a_migration_and_those_in_need() {
    let mut accounts: Vec<AccountStatus> =
        (0..60).map(|number| account(&format!("a{number}@pec.epap.it"))).collect();
    accounts[0].phase = "completed".into();
    accounts[1].migration = "pec-istruzione-e-altri".into();
    accounts.push(held("luca.verdi@pec.epap.it"));
    let status = Status { accounts, ..Status::default() };
    let text = overview(&status, false, PLAIN, now());
    fits(&text);
    let expected = "\
MIGRATION      ACCOUNTS ENROLLED COPYING FOLLOWING ENDING  DONE  HELD    BYTES
epap                 60        1       0        58      0     1     1   8.6 GB
pec-istruzione-e-altri
                      1        0       0         1      0     0     0   145 MB

These need somebody:
ADDRESS                PHASE     STATE    FOLDERS        MESSAGES    BYTES
luca.verdi@pec.epap.it enrolled  held           -               -        -
    credentials_rejected (source): [AUTHENTICATIONFAILED] Credenziali non valide
    [since 45m ago]
    → ask the owner for the password and replace the enrollment
";
    assert_eq!(text, expected);
}

#[test]
fn rejected_files_and_missing_people_are_named() {
    let problem = RejectedFile {
        file: "conf.d/x.toml".into(),
        line: 7,
        column: 1,
        message: "unknown key \"pasword\"".into(),
        hint: "did you mean \"password\"?".into(),
    };
    let status = Status {
        rejected: vec![problem],
        missing: vec!["a@b".into()],
        migrations: vec![MigrationStatus::default()],
        ..Status::default()
    };
    let expected = "\
no accounts

Rejected files:
  conf.d/x.toml:7:1: unknown key \"pasword\"; did you mean \"password\"?

Not enrolled yet: 1
  a@b
";
    assert_eq!(overview(&status, false, PLAIN, now()), expected);
    let idle = overview(&Status::default(), false, PLAIN, now());
    assert_eq!(idle, "no accounts: no migration is configured, see pecsync.toml(5)\n");
}

#[test]
fn one_account_in_detail() {
    let mut one = account("mario.rossi@pec.epap.it");
    one.cutover = Some("2026-11-25T14:00:00Z".into());
    one.folders.push(FolderCounts {
        name: "Inviata".into(),
        target: "INBOX/Spedite".into(),
        source: Some(10),
        copied: Some(8),
        refused: Some(2),
        state: "ok".into(),
        reason: None,
    });
    let status = Status { accounts: vec![one], ..Status::default() };
    let style = Style { unicode: false, ..PLAIN };
    let expected = "\
mario.rossi@pec.epap.it (epap)
  phase      following, ok
  messages   1,204/1,204, 3 adopted
  bytes      145 MB/145 MB
  removals   mirrored
  mode       idle
  enrolled   /etc/pecsync/conf.d/portal/c2.toml
  cutover    2026-11-25T14:00:00Z (in 4d 2h)
  FOLDER                                  MESSAGES REFUSED STATE
  INBOX                                1,204/1,204       0 ok
  Inviata -> INBOX/Spedite                    8/10       2 ok
";
    assert_eq!(details(&status, style, now()), expected);
}

#[test]
fn what_a_server_says_cannot_paint_the_terminal() {
    let mut one = held("a@b");
    one.reasons[0].message = "\u{1b}[2Jgone\u{202e}".into();
    let status = Status { accounts: vec![one], ..Status::default() };
    let text = overview(&status, false, PLAIN, now());
    assert!(text.contains("\\x1b[2Jgone\\u202e") && !text.contains('\u{1b}'), "{text}");
}
