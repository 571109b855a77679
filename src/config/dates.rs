//! Dates as operators write them → instants. Pure: no clock; the time zones are built in.
//!
//! A date is a string or a TOML date(-time); seconds and offset may be left out. Without an
//! offset it is local time in the migration's zone, and a local time that the clocks skip or
//! repeat is refused, because either guess would move a cutover by an hour.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};
use toml::value::{Datetime, Offset as TomlOffset};

use super::problem::{Wrong, nearest, quoted};

/// Where no `timezone` is given.
pub const DEFAULT_ZONE: &str = "Europe/Rome";

/// A year outside is a slip of the finger.
const YEARS: std::ops::RangeInclusive<u16> = 2000..=2199;

const FORMS: &str = "write it like 2026-02-04, 2026-02-04T08:00 or 2026-02-04T08:00+01:00";

/// Which instant a bare day stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BareDay {
    /// In `cutover` and `*_from`.
    FirstInstant,
    /// In `expires` and `*_until`.
    LastInstant,
}

/// The zone of an IANA name.
pub fn zone(name: &str) -> Result<TimeZone, Wrong> {
    if let Ok(zone) = TimeZone::get(name)
        && name.contains(|c: char| c.is_ascii_alphabetic())
    {
        return Ok(zone);
    }
    let known: Vec<String> =
        jiff::tz::db().available().map(|known| known.as_str().to_owned()).collect();
    let hint = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("write an IANA name like {DEFAULT_ZONE:?}"),
    };
    Err(Wrong::new(format!("unknown time zone {}", quoted(name)), hint))
}

/// The instant a string stands for.
pub fn instant_of_text(text: &str, zone: &TimeZone, bare: BareDay) -> Result<Timestamp, Wrong> {
    match text.trim().parse::<Datetime>() {
        Ok(written) => instant(&written, zone, bare),
        Err(error) => {
            let message = format!("{} is not a date: {error}", quoted(text));
            Err(Wrong::new(message, FORMS))
        }
    }
}

/// The instant a TOML date or date-time stands for.
pub fn instant(written: &Datetime, zone: &TimeZone, bare: BareDay) -> Result<Timestamp, Wrong> {
    let date = date(written)?;
    let Some(time) = time(written)? else {
        return bare_day(date, zone, bare).ok_or_else(|| nonsense(written));
    };
    match written.offset {
        Some(offset) => {
            let offset = self::offset(offset).ok_or_else(|| nonsense(written))?;
            offset.to_timestamp(date.to_datetime(time)).map_err(|_| nonsense(written))
        }
        None => local(date.to_datetime(time), zone),
    }
}

/// `2026-02-04T08:00:00+01:00`: an instant by the clocks of a zone.
pub fn in_zone(instant: Timestamp, zone: &TimeZone) -> String {
    let offset = zone.to_offset(instant);
    format!("{}{}", offset.to_datetime(instant).strftime("%Y-%m-%dT%H:%M:%S"), hours(offset))
}

fn date(written: &Datetime) -> Result<Date, Wrong> {
    let date = written
        .date
        .ok_or_else(|| Wrong::new(format!("{written} is a time of day without a date"), FORMS))?;
    if !YEARS.contains(&date.year) {
        let (from, to) = (YEARS.start(), YEARS.end());
        let message = format!("{written} is not between the years {from} and {to}");
        return Err(Wrong::new(message, "is the year right?"));
    }
    Date::new(date.year as i16, date.month as i8, date.day as i8).map_err(|_| nonsense(written))
}

fn time(written: &Datetime) -> Result<Option<Time>, Wrong> {
    let Some(time) = written.time else { return Ok(None) };
    let (hour, minute, second) = (time.hour, time.minute, time.second.unwrap_or(0));
    let nanosecond = time.nanosecond.unwrap_or(0) as i32;
    match Time::new(hour as i8, minute as i8, second as i8, nanosecond) {
        Ok(time) => Ok(Some(time)),
        Err(_) => Err(nonsense(written)),
    }
}

fn offset(written: TomlOffset) -> Option<Offset> {
    match written {
        TomlOffset::Z => Some(Offset::UTC),
        TomlOffset::Custom { minutes } => Offset::from_seconds(i32::from(minutes) * 60).ok(),
    }
}

fn nonsense(written: &Datetime) -> Wrong {
    Wrong::new(format!("{written} does not exist"), FORMS)
}

fn bare_day(date: Date, zone: &TimeZone, bare: BareDay) -> Option<Timestamp> {
    let first_instant = |date: Date| {
        let noon = date.at(12, 0, 0, 0).to_zoned(zone.clone()).ok()?;
        Some(noon.start_of_day().ok()?.timestamp())
    };
    match bare {
        BareDay::FirstInstant => first_instant(date),
        BareDay::LastInstant => {
            let next = first_instant(date.checked_add(1.day()).ok()?)?;
            next.checked_sub(SignedDuration::from_nanos(1)).ok()
        }
    }
}

fn local(written: DateTime, zone: &TimeZone) -> Result<Timestamp, Wrong> {
    let name = zone.iana_name().unwrap_or("its zone");
    let (why, readings) = match zone.to_ambiguous_timestamp(written).offset() {
        AmbiguousOffset::Unambiguous { offset } => {
            let instant = offset.to_timestamp(written);
            return instant.map_err(|error| Wrong::new(error.to_string(), FORMS));
        }
        AmbiguousOffset::Gap { before, after } => (
            format!("does not exist in {name}: the clocks skip it"),
            skipped(written, before, after),
        ),
        AmbiguousOffset::Fold { before, after } => (
            format!("happens twice in {name}: the clocks are put back"),
            [before, after].map(|offset| pasted(written, offset)),
        ),
    };
    let [first, second] = readings;
    let message = format!("{} {why}", minutes(written));
    Err(Wrong::new(message, format!("write {first} or {second}")))
}

/// Both readings of a time that the clocks skip, each with what they show at that instant.
fn skipped(written: DateTime, before: Offset, after: Offset) -> [String; 2] {
    [(before, after), (after, before)].map(|(read_in, shown_in)| {
        let shown = read_in.to_timestamp(written).map(|instant| shown_in.to_datetime(instant));
        let shown = shown.unwrap_or(written).strftime("%H:%M");
        format!("{} (the clocks show {shown})", pasted(written, read_in))
    })
}

/// A reading that can be pasted into the file.
fn pasted(written: DateTime, offset: Offset) -> String {
    format!("\"{}{}\"", minutes(written), hours(offset))
}

/// Seconds only where there are any.
fn minutes(written: DateTime) -> String {
    match (written.second(), written.subsec_nanosecond()) {
        (0, 0) => written.strftime("%Y-%m-%dT%H:%M").to_string(),
        _ => written.to_string(),
    }
}

/// `+01:00`
fn hours(offset: Offset) -> String {
    let minutes = offset.seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}
