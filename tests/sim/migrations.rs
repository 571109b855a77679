//! The four migrations whose guides were published, as configurations, and their days: what must
//! be true of an account on each. What no guide states is marked as assumed.

use crate::sim::calendar::Row::*;
use crate::sim::calendar::live;

/// EPAP: enrolling until the cutover on 4 February 2026.
const EPAP: &str = r#"
[migration.epap]
domains      = ["pec.epap.it"]
enroll_from  = "2026-01-07"         # assumed
enroll_until = "2026-02-03"         # guide: until the cutover
cutover      = "2026-02-04T08:00"   # guide: the day; the hour is assumed
source_until = "2026-03-06"         # assumed
source       = { provider = "aruba" }  # assumed
"#;

/// Geometri: no cutover is stated, and the name is not the domain's.
const GEOMETRI: &str = r#"
[migration.geometri]
domains = ["geopec.it"]
source  = { provider = "aruba" }    # assumed
"#;

/// FNOFI: enrolling goes on for weeks after the cutover.
const FNOFI: &str = r#"
[migration.fnofi]
domains      = ["pec.fnofi.it"]
enroll_from  = "2024-01-31"         # guide
enroll_until = "2024-03-31"         # guide
cutover      = "2024-02-05T08:00"   # guide: the day; the hour is assumed
source_until = "2024-04-15"         # assumed; it cannot be before enrolling ends
source       = { provider = "aruba" }  # guide
"#;

/// pec.istruzione.it and postacert.istruzione.it: six hours, and the archive after them.
const ISTRUZIONE: &str = r#"
[migration.pec-istruzione]
domains        = ["pec.istruzione.it", "postacert.istruzione.it"]
enroll_from    = "2022-11-11"       # guide
enroll_until   = "2022-11-22"       # guide
cutover        = "2022-11-23T14:00" # guide
cutover_window = "6h"               # guide: until 20:00
settle         = "6h"               # assumed
source_until   = "2022-12-23"       # assumed
source         = { provider = "aruba" }  # assumed
[migration.pec-istruzione.folders]
after_cutover      = ["Archivio", "Archivio/**"]  # guide
after_cutover_from = "2022-11-24"   # guide: after the cutover; the day is assumed
"#;

#[test]
fn epap_from_the_first_day_to_the_last() {
    live(
        EPAP,
        "pec.epap.it",
        &[
            ("2026-01-05T09:00", Mail("INBOX", 3)),
            ("2026-01-05T09:00", Mail("Inviata", 2)),
            // Two days early: it waits, and nobody is asked anything.
            ("2026-01-05T10:00", Enroll),
            ("2026-01-06T23:59", Phase("enrolled", Some("window_not_open"))),
            ("2026-01-06T23:59", Untouched),
            ("2026-01-07T00:10", Phase("following", None)),
            ("2026-01-07T00:10", Target(3, 2)),
            // Weeks of ordinary days.
            ("2026-01-20T11:00", Mail("INBOX", 1)),
            ("2026-01-20T11:02", Target(4, 2)),
            ("2026-01-28T09:00", SourceRemoves),
            ("2026-01-28T09:20", Target(3, 2)),
            ("2026-02-04T07:58", Mail("INBOX", 1)),
            ("2026-02-04T07:59", Phase("following", None)),
            ("2026-02-04T07:59", Told("cutover_started", 0)),
            ("2026-02-04T08:10", Told("account_sealed", 1)),
            ("2026-02-04T08:10", Phase("completed", None)),
            ("2026-02-04T08:10", Target(4, 2)),
            // From now on the target is its owner's and the source is left alone.
            ("2026-02-04T09:00", Mail("INBOX", 1)),
            ("2026-02-20T09:00", Quiet),
            ("2026-02-20T09:00", Target(4, 2)),
            ("2026-02-20T09:00", Told("cutover_overdue", 0)),
        ],
    );
}

#[test]
fn epap_takes_nobody_after_the_cutover() {
    live(
        EPAP,
        "pec.epap.it",
        &[
            ("2026-02-03T23:58", Mail("INBOX", 2)),
            // The last day counts to its end.
            ("2026-02-03T23:59", Enroll),
            ("2026-02-04T00:10", Phase("following", None)),
            ("2026-02-04T08:10", Phase("completed", None)),
            ("2026-02-04T08:10", Target(2, 0)),
        ],
    );
    live(
        EPAP,
        "pec.epap.it",
        &[("2026-02-04T00:00", Rejected("2026-02-03")), ("2026-02-04T09:00", Untouched)],
    );
}

#[test]
fn epap_has_pilots() {
    live(
        EPAP,
        "pec.epap.it",
        &[
            ("2026-01-10T09:00", Mail("INBOX", 2)),
            ("2026-01-10T09:00", EnrollWith("cutover = \"2026-01-15T10:00\"")),
            ("2026-01-15T09:59", Phase("following", None)),
            ("2026-01-15T10:10", Phase("completed", None)),
            ("2026-01-15T10:10", Target(2, 0)),
        ],
    );
}

#[test]
fn epap_puts_the_cutover_off_and_back() {
    live(
        EPAP,
        "pec.epap.it",
        &[
            ("2026-02-01T09:00", Mail("INBOX", 2)),
            ("2026-02-01T09:00", Enroll),
            ("2026-02-03T18:00", Cutover("2026-02-05T20:00")),
            ("2026-02-05T19:59", Phase("following", None)),
            ("2026-02-05T19:59", Cutover("2026-02-05T19:59:30")),
            ("2026-02-05T20:10", Phase("completed", None)),
            ("2026-02-05T20:10", Target(2, 0)),
        ],
    );
}

#[test]
fn geometri_are_followed_until_somebody_says_when() {
    live(
        GEOMETRI,
        "geopec.it",
        &[
            ("2026-03-01T09:00", Mail("INBOX", 2)),
            ("2026-03-01T09:00", Enroll),
            ("2026-03-29T01:59", Phase("following", None)),
            // The clocks go forward at two.
            ("2026-03-29T03:05", Mail("INBOX", 1)),
            ("2026-03-29T03:10", Target(3, 0)),
            ("2026-05-01T09:00", Phase("following", None)),
            ("2026-05-01T09:00", Cutover("2026-05-02T08:00")),
            ("2026-05-02T08:10", Phase("completed", None)),
        ],
    );
}

#[test]
fn fnofi_before_the_cutover_and_weeks_after_it() {
    live(
        FNOFI,
        "pec.fnofi.it",
        &[
            ("2024-01-31T00:00", Mail("INBOX", 2)),
            ("2024-01-31T00:00", Enroll),
            ("2024-02-05T07:59", Phase("following", None)),
            ("2024-02-05T08:10", Phase("completed", None)),
            ("2024-02-05T08:10", Target(2, 0)),
        ],
    );
    // Five weeks late: copied once, into a mailbox that is in use.
    live(
        FNOFI,
        "pec.fnofi.it",
        &[
            ("2024-03-10T09:00", Mail("INBOX", 3)),
            ("2024-03-10T09:00", Mail("Inviata", 1)),
            ("2024-03-10T09:00", Enroll),
            ("2024-03-10T09:10", Phase("completed", None)),
            ("2024-03-10T09:10", Target(3, 1)),
            ("2024-03-10T10:00", OwnerRemoves),
            ("2024-03-10T10:00", Mail("INBOX", 1)),
            ("2024-04-01T09:00", Target(2, 1)),
            ("2024-04-01T09:00", Told("cutover_overdue", 0)),
        ],
    );
    live(FNOFI, "pec.fnofi.it", &[("2024-04-01T00:00", Rejected("2024-03-31"))]);
}

#[test]
fn istruzione_has_six_hours_and_the_archive_the_day_after() {
    live(
        ISTRUZIONE,
        "postacert.istruzione.it",
        &[
            ("2022-11-12T09:00", Mail("INBOX", 3)),
            ("2022-11-12T09:00", Mail("Archivio", 4)),
            ("2022-11-12T09:00", Mail("Archivio/2021", 2)),
            ("2022-11-12T09:00", Enroll),
            ("2022-11-12T09:10", Phase("following", None)),
            ("2022-11-12T09:10", Target(3, 0)),
            ("2022-11-23T13:59", Phase("following", None)),
            ("2022-11-23T13:59", Target(3, 0)),
            ("2022-11-23T14:10", Phase("archiving", None)),
            ("2022-11-23T14:10", Told("account_sealed", 1)),
            // A receipt that reaches the old provider at five is added, and nothing is taken away.
            ("2022-11-23T15:00", OwnerRemoves),
            ("2022-11-23T17:00", Mail("INBOX", 1)),
            ("2022-11-23T17:10", Target(3, 0)),
            ("2022-11-23T17:30", SourceRemoves),
            ("2022-11-23T20:30", Target(3, 0)),
            ("2022-11-23T23:59", Phase("archiving", None)),
            ("2022-11-23T23:59", Target(3, 0)),
            ("2022-11-24T00:10", Target(3, 6)),
            ("2022-11-24T00:10", Phase("completed", None)),
            ("2022-12-24T00:10", Quiet),
            ("2022-12-24T00:10", Told("account_closed", 0)),
        ],
    );
}

/// While thousands of archives wait for their turn, nobody's folders are compared over and over.
#[test]
fn who_waits_for_a_place_to_copy_an_archive_compares_nothing_meanwhile() {
    const SETTINGS: &str = r#"
[migration.prova]
domains      = ["pec.example.it"]
cutover      = "2026-02-04T08:00"
source_until = "2026-03-06"
[migration.prova.source]
provider = "aruba"
[migration.prova.source.archive]
host = "archive.example.it"
[migration.prova.folders]
after_cutover = ["archive:**"]
[migration.prova.sync]
sweep_interval = "5m"
"#;
    live(
        SETTINGS,
        "pec.example.it",
        &[
            ("2026-02-03T09:00", Mail("INBOX", 2)),
            ("2026-02-03T09:00", Mail("Archivio", 4)),
            ("2026-02-03T09:00", Enroll),
            ("2026-02-03T09:10", Target(2, 0)),
            ("2026-02-03T09:10", NoPlace),
            ("2026-02-04T08:30", Phase("archiving", None)),
            ("2026-02-04T08:30", Target(2, 0)),
            ("2026-02-04T13:59", Listed(0)),
            ("2026-02-04T14:30", Listed(1)),
            ("2026-02-04T20:30", Listed(0)),
            ("2026-02-04T20:30", Mail("INBOX", 1)),
            ("2026-02-04T20:40", Target(3, 0)),
            ("2026-02-04T20:40", Place),
            ("2026-02-04T21:00", Target(3, 4)),
            ("2026-02-04T21:00", Phase("completed", None)),
        ],
    );
}
