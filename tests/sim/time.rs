//! Clocks that are set, machines that sleep, daemons that die in the middle of a cutover: nothing
//! closes without its last pass, and nothing is opened again by itself.

use crate::sim::calendar::Row::*;
use crate::sim::calendar::live;

const CUT: &str = r#"
[migration.prova]
domains      = ["pec.example.it"]
cutover      = "2026-02-04T08:00"
source_until = "2026-03-06"
source       = { provider = "aruba" }
"#;

const DAY: i64 = 86_400;

#[test]
fn a_clock_set_back_past_the_cutover_opens_nothing() {
    live(
        CUT,
        "pec.example.it",
        &[
            ("2026-02-03T09:00", Mail("INBOX", 2)),
            ("2026-02-03T09:00", Enroll),
            ("2026-02-04T08:10", Phase("completed", None)),
            ("2026-02-04T08:10", SetClock(-2 * DAY)),
            ("2026-02-02T09:00", Mail("INBOX", 1)),
            ("2026-02-02T09:00", Restart),
            ("2026-02-02T12:00", Phase("completed", None)),
            ("2026-02-02T12:00", Quiet),
            ("2026-02-02T12:00", Target(2, 0)),
        ],
    );
}

#[test]
fn a_clock_set_back_in_the_last_pass_does_not_go_back() {
    let settling = format!("{CUT}\n[migration.prova.sync]\nsweep_interval = \"1m\"\n");
    let settling = settling.replace("source_until", "settle = \"6h\"\nsource_until");
    live(
        &settling,
        "pec.example.it",
        &[
            ("2026-02-03T09:00", Mail("INBOX", 2)),
            ("2026-02-03T09:00", Enroll),
            ("2026-02-04T08:10", Phase("archiving", None)),
            ("2026-02-04T08:10", SetClock(-DAY)),
            ("2026-02-03T09:00", Told("clock_suspect", 1)),
            // The source still counts for what is added, and for nothing else.
            ("2026-02-03T09:00", SourceRemoves),
            ("2026-02-03T09:00", Mail("INBOX", 1)),
            ("2026-02-03T12:00", Phase("archiving", None)),
            ("2026-02-03T12:00", Target(3, 0)),
            ("2026-02-03T12:00", SetClock(DAY)),
            ("2026-02-04T15:00", Phase("completed", None)),
            ("2026-02-04T15:00", Target(3, 0)),
        ],
    );
}

#[test]
fn a_clock_set_forward_by_a_day_and_back_seals_nothing_early() {
    live(
        CUT,
        "pec.example.it",
        &[
            ("2026-02-03T09:00", Mail("INBOX", 2)),
            ("2026-02-03T09:00", Enroll),
            ("2026-02-03T12:00", SetClock(DAY)),
            ("2026-02-04T12:05", Phase("following", None)),
            ("2026-02-04T12:05", Told("clock_suspect", 1)),
            ("2026-02-04T12:05", SetClock(-DAY)),
            ("2026-02-03T13:00", Phase("following", None)),
            ("2026-02-03T13:00", Told("clock_suspect", 2)),
            ("2026-02-03T13:00", Mail("INBOX", 1)),
            ("2026-02-03T13:10", Target(3, 0)),
            ("2026-02-04T07:59", Told("cutover_started", 0)),
            ("2026-02-04T08:10", Phase("completed", None)),
            ("2026-02-04T08:10", Target(3, 0)),
        ],
    );
}

#[test]
fn a_clock_set_past_the_end_and_back_closes_nothing() {
    live(
        CUT,
        "pec.example.it",
        &[
            ("2026-02-03T09:00", Mail("INBOX", 2)),
            ("2026-02-03T09:00", Enroll),
            ("2026-02-03T12:00", SetClock(90 * DAY)),
            ("2026-05-04T13:05", Phase("following", None)),
            ("2026-05-04T13:05", SetClock(-90 * DAY)),
            ("2026-02-04T07:59", Phase("following", None)),
            ("2026-02-04T08:10", Phase("completed", None)),
            ("2026-02-04T08:10", Told("account_closed", 0)),
        ],
    );
}

#[test]
fn a_machine_that_slept_over_the_cutover_makes_its_last_pass() {
    live(
        CUT,
        "pec.example.it",
        &[
            ("2026-02-03T09:00", Mail("INBOX", 2)),
            ("2026-02-03T09:00", Enroll),
            ("2026-02-03T22:00", Suspend(12 * 3600)),
            ("2026-02-04T10:00", Mail("INBOX", 1)),
            ("2026-02-04T10:10", Told("clock_suspect", 0)),
            ("2026-02-04T10:10", Phase("completed", None)),
            ("2026-02-04T10:10", Target(3, 0)),
        ],
    );
}

#[test]
fn a_clock_that_stays_forward_is_believed_in_the_end() {
    live(
        CUT,
        "pec.example.it",
        &[
            ("2026-02-02T09:00", Mail("INBOX", 2)),
            ("2026-02-02T09:00", Enroll),
            ("2026-02-02T12:00", SetClock(2 * DAY)),
            ("2026-02-04T12:05", Phase("following", None)),
            ("2026-02-04T12:20", Phase("completed", None)),
            ("2026-02-04T12:20", Target(2, 0)),
        ],
    );
}

#[test]
fn a_small_step_moves_the_cutover_with_it() {
    live(
        CUT,
        "pec.example.it",
        &[
            ("2026-02-03T09:00", Mail("INBOX", 2)),
            ("2026-02-03T09:00", Enroll),
            ("2026-02-04T07:50", SetClock(240)),
            ("2026-02-04T07:59", Phase("following", None)),
            ("2026-02-04T08:05", Phase("completed", None)),
            ("2026-02-04T08:05", SetClock(-240)),
            ("2026-02-04T08:05", Told("clock_suspect", 0)),
            ("2026-02-04T08:05", Phase("completed", None)),
        ],
    );
}

#[test]
fn a_daemon_that_was_away_over_the_cutover_makes_its_last_pass() {
    live(
        CUT,
        "pec.example.it",
        &[
            ("2026-02-03T09:00", Mail("INBOX", 2)),
            ("2026-02-03T09:00", Enroll),
            ("2026-02-03T20:00", Dies),
            ("2026-02-03T21:00", Mail("INBOX", 2)),
            ("2026-02-03T21:00", SourceRemoves),
            ("2026-02-05T09:00", Quiet),
            ("2026-02-05T09:00", Starts),
            ("2026-02-05T09:15", Phase("completed", None)),
            ("2026-02-05T09:15", Target(3, 0)),
            ("2026-02-05T09:15", Told("account_sealed", 1)),
        ],
    );
}

#[test]
fn it_dies_in_the_middle_of_its_cutover() {
    for second in 0..12 {
        let (dies, starts) =
            (format!("2026-02-04T08:00:{second:02}"), format!("2026-02-04T08:02:{second:02}"));
        live(
            CUT,
            "pec.example.it",
            &[
                ("2026-02-03T09:00", Mail("INBOX", 2)),
                ("2026-02-03T09:00", Enroll),
                ("2026-02-04T07:59:59", Mail("INBOX", 2)),
                (&dies, Dies),
                (&starts, Starts),
                ("2026-02-04T08:20", Phase("completed", None)),
                ("2026-02-04T08:20", Target(4, 0)),
            ],
        );
    }
}
