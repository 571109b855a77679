//! Dates: what operators write, and what is refused with both readings named.

use jiff::Timestamp;
use pecsync::config::dates::{BareDay, in_zone, instant_of_text, zone};

#[track_caller]
fn check_in(zone_name: &str, written: &str, bare: BareDay, expected: &str) {
    let zone = zone(zone_name).unwrap();
    let shown = match instant_of_text(written, &zone, bare) {
        Ok(instant) => instant.to_string(),
        Err(wrong) => wrong.to_string(),
    };
    assert_eq!(shown, expected, "{written}");
}

#[track_caller]
fn check(written: &str, expected: &str) {
    check_in("Europe/Rome", written, BareDay::FirstInstant, expected);
}

#[track_caller]
fn check_last(written: &str, expected: &str) {
    check_in("Europe/Rome", written, BareDay::LastInstant, expected);
}

#[track_caller]
fn check_refused(written: &str, part: &str) {
    let zone = zone("Europe/Rome").unwrap();
    let wrong = instant_of_text(written, &zone, BareDay::FirstInstant).unwrap_err().to_string();
    assert!(wrong.contains(part), "{written}: {wrong}");
    assert!(wrong.contains("; "), "{written} has no remedy: {wrong}");
}

#[test]
fn local_time_without_an_offset() {
    check("2026-02-04T08:00", "2026-02-04T07:00:00Z");
    check("2026-02-04T08:00:30", "2026-02-04T07:00:30Z");
    check("2026-02-04 08:00", "2026-02-04T07:00:00Z");
    check("2026-07-01T08:00", "2026-07-01T06:00:00Z");
    check(" 2026-02-04T08:00 ", "2026-02-04T07:00:00Z");
    check("2026-02-04T08:00:00.5", "2026-02-04T07:00:00.5Z");
    check_in("UTC", "2026-02-04T08:00", BareDay::FirstInstant, "2026-02-04T08:00:00Z");
}

#[test]
fn an_offset_says_it_all() {
    check("2026-02-04T08:00Z", "2026-02-04T08:00:00Z");
    check("2026-02-04t08:00z", "2026-02-04T08:00:00Z");
    check("2026-02-04T08:00+01:00", "2026-02-04T07:00:00Z");
    check("2026-02-04T08:00:00-05:30", "2026-02-04T13:30:00Z");
    check("2026-03-29T02:30+01:00", "2026-03-29T01:30:00Z");
}

#[test]
fn a_bare_day_is_its_first_or_last_instant() {
    check("2026-02-04", "2026-02-03T23:00:00Z");
    check_last("2026-02-04", "2026-02-04T22:59:59.999999999Z");
    // Days of 23 and 25 hours.
    check_last("2026-03-29", "2026-03-29T21:59:59.999999999Z");
    check_last("2026-10-25", "2026-10-25T22:59:59.999999999Z");
    check("2026-10-25", "2026-10-24T22:00:00Z");
    check_last("2026-12-31", "2026-12-31T22:59:59.999999999Z");
    check_last("2026-03-31T12:00", "2026-03-31T10:00:00Z");
    // Where the clocks skip midnight, the day begins at one.
    check_in("Africa/Cairo", "2026-04-24", BareDay::FirstInstant, "2026-04-23T22:00:00Z");
    check_in("Africa/Cairo", "2026-04-23", BareDay::LastInstant, "2026-04-23T21:59:59.999999999Z");
}

#[test]
fn times_that_the_clocks_skip_or_repeat_are_refused() {
    check(
        "2026-03-29T02:30",
        "2026-03-29T02:30 does not exist in Europe/Rome: the clocks skip it; \
         write \"2026-03-29T02:30+01:00\" (the clocks show 03:30) \
         or \"2026-03-29T02:30+02:00\" (the clocks show 01:30)",
    );
    check(
        "2026-10-25T02:30",
        "2026-10-25T02:30 happens twice in Europe/Rome: the clocks are put back; \
         write \"2026-10-25T02:30+02:00\" or \"2026-10-25T02:30+01:00\"",
    );
    check("2026-03-29T01:59:59", "2026-03-29T00:59:59Z");
    check_refused("2026-03-29T02:00", "the clocks skip it");
    check("2026-03-29T03:00", "2026-03-29T01:00:00Z");
    check("2026-10-25T01:59:59", "2026-10-24T23:59:59Z");
    check_refused("2026-10-25T02:00:01", "happens twice");
    check("2026-10-25T03:00", "2026-10-25T02:00:00Z");
}

/// What a refusal offers can be pasted.
#[test]
fn both_readings_are_accepted() {
    let rome = zone("Europe/Rome").unwrap();
    for written in ["2026-03-29T02:30", "2026-10-25T02:30", "2030-03-31T02:15:07"] {
        let wrong = instant_of_text(written, &rome, BareDay::FirstInstant).unwrap_err();
        let readings: Vec<Timestamp> = wrong
            .hint
            .split('"')
            .skip(1)
            .step_by(2)
            .map(|pasted| instant_of_text(pasted, &rome, BareDay::FirstInstant).unwrap())
            .collect();
        assert_eq!(readings.len(), 2, "{}", wrong.hint);
        assert_eq!((readings[1].as_second() - readings[0].as_second()).abs(), 3600);
    }
}

#[test]
fn nonsense_is_refused() {
    check_refused("2026-02-30", "is not a date");
    check_refused("2025-02-29", "is not a date");
    check_refused("2026-13-01", "is not a date");
    check_refused("2026-02-04T25:00", "is not a date");
    check_refused("2026-02-04T24:00", "is not a date");
    check_refused("2026-02-04T08:60", "is not a date");
    check_refused("2026-02-04T23:59:60", "does not exist");
    check_refused("04/02/2026", "is not a date");
    check_refused("4 febbraio 2026", "is not a date");
    check_refused("domani", "is not a date");
    check_refused("", "is not a date");
    check_refused("08:00", "without a date");
    check_refused("2026-2-4", "is not a date");
    check_refused("0206-02-04", "is not between the years");
    check_refused("9999-12-31", "is not between the years");
    check_refused("2026-02-04T08:00+01:00[Europe/Rome]", "is not a date");
}

#[test]
fn a_date_with_an_escape_cannot_colour_a_terminal() {
    check_refused("\u{1b}[31m", r"\u{1b}");
}

#[test]
fn zones() {
    #[track_caller]
    fn check(name: &str, hint: &str) {
        assert_eq!(zone(name).unwrap_err().hint, hint);
    }
    check("Europe/Roma", "did you mean \"Europe/Rome\"?");
    check("Italia", "write an IANA name like \"Europe/Rome\"");
    check("", "write an IANA name like \"Europe/Rome\"");
    check("+01:00", "write an IANA name like \"Europe/Rome\"");
}

#[test]
fn shown_by_the_clocks_of_a_zone() {
    let instant: Timestamp = "2026-07-01T06:00:00Z".parse().unwrap();
    assert_eq!(in_zone(instant, &zone("Europe/Rome").unwrap()), "2026-07-01T08:00:00+02:00");
    assert_eq!(in_zone(instant, &zone("America/St_Johns").unwrap()), "2026-07-01T03:30:00-02:30");
}
