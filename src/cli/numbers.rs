//! Numbers and times as people read them.

use jiff::Timestamp;

/// `1,204,311`
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1,204,311` while that is short, else `12.0M`: at most seven letters.
pub fn short_count(number: u64) -> String {
    match number {
        0..1_000_000 => count(number),
        _ => scaled(number, &["", "k", "M", "G", "T"]),
    }
}

/// `145 MB`: powers of 1000, three digits.
pub fn bytes(number: u64) -> String {
    scaled(number, &[" B", " KB", " MB", " GB", " TB", " PB"])
}

fn scaled(number: u64, units: &[&str]) -> String {
    let mut value = number as f64;
    let mut unit = 0;
    // What would be rounded up to 1000 belongs to the next unit.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{number}{}", units[0]),
        _ if value < 9.95 => format!("{value:.1}{}", units[unit]),
        _ => format!("{value:.0}{}", units[unit]),
    }
}

/// `310/2,048`; `?` for what is not known, `-` where nothing is.
pub fn part(copied: Option<u64>, source: Option<u64>, show: impl Fn(u64) -> String) -> String {
    match (copied, source) {
        (None, None) => "-".to_owned(),
        (copied, source) => {
            let known = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), &show);
            format!("{}/{}", known(copied), known(source))
        }
    }
}

/// `45s`, `12m`, `3h 20m`, `4d 2h`
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `12m ago`, `in 3h 20m`; the text itself where it is no time.
pub fn relative(time: &str, now: Timestamp) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return crate::journal::shown(time) };
    let seconds = time.as_second() - now.as_second();
    match seconds {
        1.. => format!("in {}", duration(seconds.unsigned_abs())),
        _ => format!("{} ago", duration(seconds.unsigned_abs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let cases = [(0, "0"), (999, "999"), (1204, "1,204"), (1_204_311, "1,204,311")];
        for (number, expected) in cases {
            assert_eq!(count(number), expected);
        }
        assert_eq!([999_999, 1_000_000, 12_345_678].map(short_count), ["999,999", "1.0M", "12M"]);
    }

    #[test]
    fn sizes() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KB"),
            (4400, "4.4 KB"),
            (9_960, "10 KB"),
            (145_000_000, "145 MB"),
            (999_600_000, "1.0 GB"),
            (u64::MAX, "18447 PB"),
        ];
        for (number, expected) in cases {
            assert_eq!(bytes(number), expected);
        }
    }

    #[test]
    fn parts_say_what_is_not_known() {
        assert_eq!(part(None, None, count), "-");
        assert_eq!(part(Some(310), None, count), "310/?");
        assert_eq!(part(Some(310), Some(2048), count), "310/2,048");
    }

    #[test]
    fn times() {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let cases = [
            ("2026-11-21T11:59:15Z", "45s ago"),
            ("2026-11-21T08:40:00Z", "3h 20m ago"),
            ("2026-11-25T14:00:00Z", "in 4d 2h"),
            ("never\u{1b}", "never\\x1b"),
        ];
        for (time, expected) in cases {
            assert_eq!(relative(time, now), expected);
        }
    }
}
