//! `[limits] schedule`: how fast message bodies may flow, by time of day. Pure.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::problem::{Wrong, quoted};
use super::{dates, values};

/// Less would stall connections in the middle of messages for longer than servers bear.
const OCTETS_LEAST: u64 = 64_000;
const OCTETS_MOST: u64 = 1 << 40;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const HINT: &str = "write it like \"mon-fri 08:00-18:00 2MB/s\" or \"22:00-06:00 500kB/s\"";

/// When which limit holds. Without rules there is none.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub zone: TimeZone,
    pub rules: Vec<Rule>,
}

/// One line of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// From Monday on: the days on which the span begins.
    days: [bool; 7],
    /// Minutes since midnight, up to 1440. A span that ends before it begins goes past midnight.
    from: u16,
    to: u16,
    /// Octets a second.
    bandwidth: u64,
}

impl Schedule {
    /// Without rules, by the clocks of the default zone.
    pub fn none() -> Schedule {
        Schedule::of_zone(dates::zone(dates::DEFAULT_ZONE).expect("the time zones are built in"))
    }

    pub(super) fn of_zone(zone: TimeZone) -> Schedule {
        Schedule { zone, rules: Vec::new() }
    }

    /// Octets a second that are allowed at an instant: of the rules that hold, the lowest.
    pub fn at(&self, now: Timestamp) -> Option<u64> {
        let local = now.to_zoned(self.zone.clone());
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        let today = day_of(local.weekday());
        let yesterday = day_of(local.checked_sub(1.day()).ok()?.weekday());
        let holds = self.rules.iter().filter(|rule| rule.holds(minute, today, yesterday));
        holds.map(|rule| rule.bandwidth).min()
    }
}

impl Rule {
    fn holds(&self, minute: u16, today: usize, yesterday: usize) -> bool {
        match self.from < self.to {
            true => self.days[today] && (self.from..self.to).contains(&minute),
            false => {
                (self.days[today] && minute >= self.from)
                    || (self.days[yesterday] && minute < self.to)
            }
        }
    }
}

fn day_of(day: Weekday) -> usize {
    day.to_monday_zero_offset() as usize
}

/// `mon-fri 08:00-18:00 2MB/s`; the days may be left out.
pub(super) fn rule(text: &str) -> Result<Rule, Wrong> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let wrong = |what: &str| Wrong::new(format!("{} {what}", quoted(text)), HINT);
    let (days, span, bandwidth) = match words[..] {
        [span, bandwidth] => ([true; 7], span, bandwidth),
        [days, span, bandwidth] => {
            (days_of(days).ok_or_else(|| wrong("begins with no days"))?, span, bandwidth)
        }
        _ => return Err(wrong("is no rule")),
    };
    let (from, to) = span_of(span).ok_or_else(|| wrong("has no span of time"))?;
    let size = bandwidth.strip_suffix("/s").ok_or_else(|| wrong("has no size a second"))?;
    let show = |octets: u64| format!("\"{}kB/s\"", octets / 1000);
    let bandwidth = values::within(values::size(size)?, OCTETS_LEAST, OCTETS_MOST, show)?;
    Ok(Rule { days, from, to, bandwidth })
}

/// `mon-fri`, `sat,sun`, `fri-mon,wed`.
fn days_of(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + 7 - first) % 7;
        (0..=count).for_each(|step| days[(first + step) % 7] = true);
    }
    Some(days)
}

/// `08:00-18:00`
fn span_of(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minute_of(from)?, minute_of(to)?);
    (from != to && from < 1440).then_some((from, to))
}

/// `08:00`; `24:00` is the end of the day.
fn minute_of(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str| {
        let fits = digits.len() == 2 && digits.bytes().all(|octet| octet.is_ascii_digit());
        fits.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let at = hour * 60 + minute;
    (minute < 60 && at <= 1440).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rules: &[&str]) -> Schedule {
        let rules = rules.iter().map(|text| rule(text).unwrap()).collect();
        Schedule { zone: TimeZone::get("Europe/Rome").unwrap(), rules }
    }

    #[test]
    fn the_lowest_that_holds_by_the_clocks_of_the_zone() {
        let schedule = schedule(&[
            "mon-fri 08:00-18:00 2MB/s",
            "wed 12:00-14:00 500kB/s",
            "fri 22:00-06:00 1MB/s",
        ]);
        #[track_caller]
        fn check(schedule: &Schedule, local: &str, expected: Option<u64>) {
            let at: jiff::civil::DateTime = local.parse().unwrap();
            let now = at.to_zoned(schedule.zone.clone()).unwrap().timestamp();
            assert_eq!(schedule.at(now), expected, "{local}");
        }
        // 4 February 2026 is a Wednesday.
        check(&schedule, "2026-02-04T07:59", None);
        check(&schedule, "2026-02-04T08:00", Some(2_000_000));
        check(&schedule, "2026-02-04T13:59", Some(500_000));
        check(&schedule, "2026-02-04T14:00", Some(2_000_000));
        check(&schedule, "2026-02-04T18:00", None);
        check(&schedule, "2026-07-01T08:00", Some(2_000_000));
        check(&schedule, "2026-02-06T21:59", None);
        check(&schedule, "2026-02-06T22:00", Some(1_000_000));
        check(&schedule, "2026-02-07T05:59", Some(1_000_000));
        check(&schedule, "2026-02-07T06:00", None);
        check(&schedule, "2026-02-07T22:00", None);
        assert_eq!(self::schedule(&[]).at(Timestamp::UNIX_EPOCH), None);
        let always = self::schedule(&["00:00-24:00 64kB/s"]);
        assert_eq!(always.at(Timestamp::UNIX_EPOCH), Some(64_000));
    }

    #[test]
    fn rules_and_what_is_none() {
        for good in
            ["08:00-18:00 2MB/s", "sat,sun 00:00-24:00 1GiB/s", "fri-mon,wed 23:30-00:00 64kB/s"]
        {
            assert!(rule(good).is_ok(), "{good}");
        }
        let days = rule("fri-mon 08:00-09:00 1MB/s").unwrap().days;
        assert_eq!(days, [true, false, false, false, true, true, true]);
        for bad in [
            "",
            "2MB/s",
            "08:00-18:00",
            "08:00-18:00 2MB",
            "08:00-08:00 2MB/s",
            "8:00-18:00 2MB/s",
            "08:60-18:00 2MB/s",
            "24:00-06:00 2MB/s",
            "08:00-24:01 2MB/s",
            "lun-ven 08:00-18:00 2MB/s",
            "mon- 08:00-18:00 2MB/s",
            "mon 08:00-18:00 2MB/s now",
            "08:00-18:00 63kB/s",
            "08:00-18:00 fast/s",
            "+1:00-18:00 2MB/s",
        ] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }
}
