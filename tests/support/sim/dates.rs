//! INTERNALDATE, both ways, by the calendar's arithmetic (days from civil).

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `04-Feb-2025 06:59:59 +0000`, said in a zone of so many minutes.
pub fn format(unix: i64, zone_minutes: i64) -> String {
    let local = unix + zone_minutes * 60;
    let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let sign = if zone_minutes < 0 { '-' } else { '+' };
    let zone = zone_minutes.abs();
    format!(
        "{day:02}-{}-{year:04} {:02}:{:02}:{:02} {sign}{:02}{:02}",
        MONTHS[month - 1],
        second / 3600,
        second / 60 % 60,
        second % 60,
        zone / 60,
        zone % 60
    )
}

/// Unix seconds; `None` for what is no date-time of APPEND.
pub fn parse(text: &str) -> Option<i64> {
    let mut words = text.split_whitespace();
    let (date, time, zone) = (words.next()?, words.next()?, words.next()?);
    let mut date = date.split('-');
    let day: i64 = date.next()?.parse().ok()?;
    let month = date.next()?;
    let month = MONTHS.iter().position(|known| known.eq_ignore_ascii_case(month))? as i64 + 1;
    let year: i64 = date.next()?.parse().ok()?;
    let mut time = time.split(':').map(|part| part.parse::<i64>());
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    let (sign, digits) = zone.split_at_checked(1)?;
    let zone: i64 = digits.parse().ok()?;
    let offset = (zone / 100 * 60 + zone % 100) * 60 * if sign == "-" { -1 } else { 1 };
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil(days: i64) -> (i64, usize, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month as usize, day)
}

#[test]
fn dates_go_there_and_back() {
    for (unix, zone, text) in [
        (0, 0, "01-Jan-1970 00:00:00 +0000"),
        (1_738_652_399, 60, "04-Feb-2025 07:59:59 +0100"),
        (1_709_251_199, -210, "29-Feb-2024 20:29:59 -0330"),
    ] {
        assert_eq!(format(unix, zone), text);
        assert_eq!(parse(text), Some(unix));
    }
}
