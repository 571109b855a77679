//! INTERNALDATE ↔ instants (RFC 9051, date-time).

use crate::words::InternalDate;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_SECS: i64 = 86_400;
/// 9999-12-31T23:59:59Z: the last instant a date-time can say.
const LAST: i64 = 253_402_300_799;

/// The instant of `dd-Mon-yyyy hh:mm:ss +zzzz`. The day may be one digit, padded or not; a
/// missing zone and names of UTC count as UTC. `None` for anything that is no date.
pub(super) fn parse(text: &[u8]) -> Option<InternalDate> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let (date, time, zone) = (words.next()?, words.next()?, words.next());
    if words.next().is_some() {
        return None;
    }
    let mut date = date.split('-');
    let (day, month, year) = (date.next()?, date.next()?, date.next()?);
    let mut time = time.split(':');
    let (hour, minute, second) = (time.next()?, time.next()?, time.next()?);
    if date.next().is_some() || time.next().is_some() || year.len() != 4 {
        return None;
    }
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))? as i64 + 1;
    let (year, day) = (number(year, 9999)?, number(day, 31)?);
    if day < 1 || day > days_in(year, month) {
        return None;
    }
    let clock = number(hour, 23)? * 3600 + number(minute, 59)? * 60 + number(second, 60)?;
    let zone = zone.map_or(Some(0), zone_secs)?;
    Some(InternalDate(days_from_civil(year, month, day) * DAY_SECS + clock - zone))
}

/// `dd-Mon-yyyy hh:mm:ss +0000`, in UTC and without its quotes.
///
/// An instant before 1970 or after 9999 is moved to the nearest that can be said: servers answer
/// other dates with BAD (Dovecot), which under LITERAL+ is dangerous.
pub(super) fn format(instant: InternalDate) -> String {
    let secs = instant.0.clamp(0, LAST);
    let (year, month, day) = civil_from_days(secs.div_euclid(DAY_SECS));
    let clock = secs.rem_euclid(DAY_SECS);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    let month = MONTHS[month as usize - 1];
    format!("{day:>2}-{month}-{year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

fn number(digits: &str, at_most: i64) -> Option<i64> {
    let plain =
        (1..=4).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| plain)?;
    (number <= at_most).then_some(number)
}

fn zone_secs(zone: &str) -> Option<i64> {
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return ["UTC", "UT", "GMT", "Z"].contains(&zone).then_some(0),
    };
    let digits = digits.replace(':', "");
    if digits.len() != 4 {
        return None;
    }
    let offset = number(&digits, 2359)?;
    (offset % 100 < 60).then_some(sign * (offset / 100 * 3600 + offset % 100 * 60))
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_servers_write() {
        for (text, instant) in [
            ("01-Jan-1970 00:00:00 +0000", Some(0)),
            (" 1-Jan-1970 01:00:00 +0100", Some(0)),
            ("1-jan-1970 00:00:01", Some(1)),
            ("17-Jul-1996 02:44:25 -0700", Some(837_596_665)),
            ("29-Feb-2024 23:59:60 +00:00", Some(1_709_251_200)),
            ("31-Dec-1969 23:59:59 GMT", Some(-1)),
            ("31-Dec-9999 23:59:59 +0000", Some(LAST)),
            ("29-Feb-2023 00:00:00 +0000", None),
            ("00-Jan-2023 00:00:00 +0000", None),
            ("01-Foo-2023 00:00:00 +0000", None),
            ("01-Jan-23 00:00:00 +0000", None),
            ("01-Jan-2023 24:00:00 +0000", None),
            ("01-Jan-2023 00:00:00 +0060", None),
            ("01-Jan-2023 00:00:00 +1", None),
            ("01-Jan-2023 00:00:00 é", None),
            ("01-Jan-2023", None),
            ("", None),
        ] {
            assert_eq!(parse(text.as_bytes()), instant.map(InternalDate), "{text:?}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for secs in (0..LAST).step_by(86_399 * 997).chain([0, LAST, 951_782_400]) {
            let text = format(InternalDate(secs));
            assert_eq!(parse(text.as_bytes()), Some(InternalDate(secs)), "{text}");
        }
        assert_eq!(format(InternalDate(1_700_000_000)), "14-Nov-2023 22:13:20 +0000");
        assert_eq!(format(InternalDate(-5)), " 1-Jan-1970 00:00:00 +0000");
        assert_eq!(format(InternalDate(i64::MAX)), "31-Dec-9999 23:59:59 +0000");
    }
}
