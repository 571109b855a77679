//! What may stand behind a key: durations, sizes, hosts, addresses, folder names. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::problem::{Wrong, nearest, quoted};

/// `"90s"`, `"5m"`, `"1h30m"`, `"2d"`, `"500ms"`, `"0"`.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let parts = if text == "0" { Some(0) } else { sum_of_parts(text, &UNITS) };
    parts.map(Duration::from_millis).ok_or_else(|| {
        let hint = "write a number with its unit, like \"90s\", \"5m\", \"1h30m\" or \"2d\"";
        Wrong::new(format!("{} is not a duration", quoted(text)), hint)
    })
}

/// Octets: `"256MiB"`, `"1GiB"`, `"64KiB"`, `"500MB"`.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    const UNITS: [(&str, u64); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    sum_of_parts(text, &UNITS).ok_or_else(|| {
        let hint = "write a number with its unit, like \"256MiB\"";
        Wrong::new(format!("{} is not a size", quoted(text)), hint)
    })
}

/// The sum of one or more numbers with their units; `None` for anything else.
fn sum_of_parts(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let mut rest = text.trim();
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = after;
    }
    (!text.trim().is_empty()).then_some(sum)
}

/// A value that must lie between two others; `show` writes a bound as the file would.
pub(super) fn within<T: PartialOrd + Copy>(
    value: T,
    least: T,
    most: T,
    show: impl Fn(T) -> String,
) -> Result<T, Wrong> {
    if value >= least && value <= most {
        return Ok(value);
    }
    let message = format!("{} is out of range", show(value));
    Err(Wrong::new(message, format!("write {} to {}", show(least), show(most))))
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let known: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    let hint = match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("write one of {}", known.join(", ")),
    };
    Err(Wrong::new(format!("{} is not known here", quoted(text)), hint))
}

/// A host name or address alone, lower case; an IPv6 address without its brackets.
pub(super) fn host(text: &str) -> Result<String, Wrong> {
    let host = text.trim().to_ascii_lowercase();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    if bare.parse::<IpAddr>().is_ok() || is_host_name(bare) {
        return Ok(bare.to_owned());
    }
    let hint = match host.contains(':') {
        true => "write the host alone; the port has a key of its own, `port`",
        false => "write a host name or an IP address",
    };
    Err(Wrong::new(format!("{} is not a host", quoted(text)), hint))
}

/// Whether unencrypted connections to it stay on this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// `pec.epap.it`, case-folded.
pub(super) fn domain(text: &str) -> Result<String, Wrong> {
    let domain = text.trim().to_ascii_lowercase();
    if is_host_name(&domain) {
        return Ok(domain);
    }
    let hint = match domain.rsplit_once('@') {
        Some((_, after)) if is_host_name(after) => format!("write {after:?}"),
        _ => "write it like \"pec.epap.it\"".to_owned(),
    };
    Err(Wrong::new(format!("{} is not a domain", quoted(text)), hint))
}

/// A mail address, case-folded.
pub(super) fn address(text: &str) -> Result<String, Wrong> {
    let folded = text.trim().to_ascii_lowercase();
    let odd = |c: char| !c.is_ascii_graphic() || "\"(),:;<>[\\]".contains(c);
    match folded.split_once('@') {
        Some((local, domain))
            if !local.is_empty()
                && local.len() <= 64
                && !local.contains(odd)
                && is_host_name(domain) =>
        {
            Ok(folded)
        }
        _ => {
            let hint = "write it like \"mario.rossi@pec.epap.it\"";
            Err(Wrong::new(format!("{} is not an address", quoted(text)), hint))
        }
    }
}

/// The domain of a checked address.
pub(super) fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// A mobile number in international form (E.164); spaces, dots and dashes are dropped.
pub(super) fn phone(text: &str) -> Result<String, Wrong> {
    let number: String = text.chars().filter(|c| !" .-()".contains(*c)).collect();
    let digits = number.strip_prefix('+').unwrap_or_default();
    let plausible = (7..=15).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_digit())
        && !digits.starts_with('0');
    plausible.then_some(number).ok_or_else(|| {
        let hint = "write it in international form, like \"+391234567890\"";
        Wrong::new(format!("{} is not a phone number", quoted(text)), hint)
    })
}

/// A login name: what it may not hold would break the protocol or hide in a log.
pub(super) fn user(text: &str) -> Result<String, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new("an empty login", "write the login, or leave the key out"));
    }
    match text.contains(char::is_control) {
        true => Err(Wrong::new("a login with control characters", "is there a line break in it?")),
        false => Ok(text.to_owned()),
    }
}

/// A folder as users see it: UTF-8, `/` between levels.
pub(super) fn folder(text: &str) -> Result<String, Wrong> {
    let hint = "write it as users see it, with \"/\" between levels, like \"INBOX/Spedite\"";
    let levels_named = text.split('/').all(|level| !level.is_empty());
    match levels_named && !text.contains(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new(format!("{} is not a folder name", quoted(text)), hint)),
    }
}

fn is_host_name(text: &str) -> bool {
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label_fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        #[track_caller]
        fn check(text: &str, seconds: Option<f64>) {
            assert_eq!(duration(text).ok().map(|d| d.as_secs_f64()), seconds, "{text}");
        }
        check("0s", Some(0.0));
        check("0", Some(0.0));
        check("90s", Some(90.0));
        check("5m", Some(300.0));
        check("1h30m", Some(5400.0));
        check("1h 30m", None);
        check("2d", Some(172_800.0));
        check("250ms", Some(0.25));
        check("5", None);
        check("m", None);
        check("", None);
        check("-5m", None);
        check("5 minutes", None);
        check("99999999999999999999s", None);
        check("999999999999999999d", None);
    }

    #[test]
    fn sizes() {
        #[track_caller]
        fn check(text: &str, octets: Option<u64>) {
            assert_eq!(size(text).ok(), octets, "{text}");
        }
        check("256MiB", Some(256 << 20));
        check("1GiB", Some(1 << 30));
        check("10MB", Some(10_000_000));
        check("512B", Some(512));
        check("256", None);
        check("256 apples", None);
        check("99999999999GiB", None);
    }

    #[test]
    fn hosts() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(host(text).ok().as_deref(), expected, "{text}");
        }
        check("imaps.pec.aruba.it", Some("imaps.pec.aruba.it"));
        check("IMAP.Example.IT", Some("imap.example.it"));
        check("127.0.0.1", Some("127.0.0.1"));
        check("[::1]", Some("::1"));
        check("::1", Some("::1"));
        check("imap.example.it:993", None);
        check("imaps://imap.example.it", None);
        check("imap .it", None);
        check("", None);
        check("-x.it", None);
    }

    #[test]
    fn loopback() {
        #[track_caller]
        fn check(host: &str, expected: bool) {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
        check("127.0.0.1", true);
        check("127.9.9.9", true);
        check("::1", true);
        check("::ffff:127.0.0.1", true);
        check("localhost", true);
        check("10.0.0.1", false);
        check("localhost.example.it", false);
        check("imap.example.it", false);
    }

    #[test]
    fn addresses() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(address(text).ok().as_deref(), expected, "{text}");
        }
        check("Mario.Rossi@PEC.Epap.it", Some("mario.rossi@pec.epap.it"));
        check("mario", None);
        check("@pec.epap.it", None);
        check("a@b@pec.epap.it", None);
        check("mario rossi@pec.epap.it", None);
        check("Mario <m@pec.epap.it>", None);
        check("mario@pec..it", None);
    }

    #[test]
    fn phones() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(phone(text).ok().as_deref(), expected, "{text}");
        }
        check("+391234567890", Some("+391234567890"));
        check("+39 123 456 7890", Some("+391234567890"));
        check("1234567890", None);
        check("+0391234567", None);
        check("+39abc", None);
    }

    #[test]
    fn folders() {
        #[track_caller]
        fn check(text: &str, ok: bool) {
            assert_eq!(folder(text).is_ok(), ok, "{text}");
        }
        check("INBOX/Spedite", true);
        check("Archivio/**", true);
        check("Posta Indesiderata", true);
        check("", false);
        check("/Archivio", false);
        check("Archivio/", false);
        check("a//b", false);
        check("a\nb", false);
    }
}
