//! `status --watch`: redrawn every second, with bars, rates and what remains. Where stdout is no
//! terminal the plain table is repeated.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::numbers::{bytes, duration, part, short_count};
use super::status::{Asker, Options, chosen, overview};
use super::table::{self, cut};
use super::terminal::{Style, complain, write};
use crate::daemon::Counts;
use crate::daemon::protocol::exit;
use crate::journal::shown;
use crate::status::{AccountStatus, Status};

const EVERY: Duration = Duration::from_secs(1);
const HIDE_CURSOR: &str = "\x1b[?1049h\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h\x1b[?1049l";

/// Until Ctrl-C, or until nobody reads.
pub fn run(asker: &Asker, options: &Options) -> u8 {
    let style = Style::of_stdout();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Without it Ctrl-C ends the process as it always does.
        let _ = signal_hook::flag::register(signal, stop.clone());
    }
    let mut rates = Rates::default();
    let mut code = exit::FINE;
    let mut last = String::new();
    if style.is_terminal {
        write(HIDE_CURSOR);
    }
    while !stop.load(Ordering::Relaxed) {
        match asker.ask() {
            Ok(status) => {
                code = exit::FINE;
                let (mut status, _) = chosen(status, options);
                rates.learn(&status, Instant::now());
                let style = Style::of_stdout();
                if !style.unicode {
                    spell_in_ascii(&mut status);
                }
                last = frame(&status, options, &rates, style);
            }
            Err((no, text)) => {
                code = no;
                last = format!("pecsync: {text}\n");
            }
        }
        let drawn = match style.is_terminal {
            true => write(&format!("\x1b[H{}\x1b[J", last.replace('\n', "\x1b[K\n"))),
            false => write(&format!("{last}\n")),
        };
        if !drawn {
            return code;
        }
        pause(&stop);
    }
    if style.is_terminal {
        write(SHOW_CURSOR);
        write(&last);
    }
    if code != exit::FINE {
        complain("the daemon did not answer in the end");
    }
    code
}

/// A second, but a signal is heard sooner.
fn pause(stop: &AtomicBool) {
    let until = Instant::now() + EVERY;
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What servers and we say, for a terminal that shows nothing beyond ASCII. Before it is laid out,
/// since some signs become longer.
pub fn spell_in_ascii(status: &mut Status) {
    let spell = |text: &mut String| {
        let mut spelled = text.replace('…', "...").replace('→', "->").replace('–', "-");
        if !spelled.is_ascii() {
            spelled = spelled.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
        }
        *text = spelled;
    };
    for account in &mut status.accounts {
        for reason in account.reason.iter_mut().chain(&mut account.reasons) {
            [&mut reason.message, &mut reason.hint].into_iter().for_each(spell);
        }
    }
    for file in &mut status.rejected {
        [&mut file.file, &mut file.message, &mut file.hint].into_iter().for_each(spell);
    }
}

/// What is drawn. Without a terminal: the table of `status`.
fn frame(status: &Status, options: &Options, rates: &Rates, style: Style) -> String {
    let now = Timestamp::now();
    if !style.is_terminal {
        let time = now.round(jiff::Unit::Second).unwrap_or(now);
        return format!("{time}\n{}", overview(status, options, style, now));
    }
    if options.is_day() {
        return fitting(&overview(status, options, style, now), style.height);
    }
    let mut lines = vec![style.heading(&headline(status)), String::new()];
    lines.extend(migration_bars(status, rates, style));
    lines.push(String::new());
    let room = style.height.saturating_sub(lines.len() + 2);
    let copying = status.accounts.iter().filter(|account| account.phase == "copying");
    // Those that wait for their turn know no counts yet: a bar would show nothing.
    let (mut busy, waiting): (Vec<&AccountStatus>, Vec<&AccountStatus>) =
        copying.partition(|account| account.messages.source.is_some());
    busy.sort_by_key(|account| std::cmp::Reverse(rates.of(&account.address) as u64));
    let hidden = busy.len().saturating_sub(room) + waiting.len();
    lines.extend(busy.iter().take(room).map(|account| account_bar(account, rates, style)));
    if hidden > 0 {
        lines.push(format!("  and {hidden} more in their first copy"));
    }
    let left = style.height.saturating_sub(lines.len() + 2);
    let needy = needy(status);
    if left > 2 && !(needy.accounts.is_empty() && needy.rejected.is_empty()) {
        lines.push(String::new());
        let table = table::overview(&needy, true, style, now);
        // That nobody is in need is no news where files are.
        let told = if needy.accounts.is_empty() { 2 } else { 0 };
        lines.extend(table.lines().skip(told).take(left - 1).map(str::to_owned));
    }
    lines.join("\n") + "\n"
}

/// As much as a screen holds: one line more would scroll it.
fn fitting(text: &str, height: usize) -> String {
    let lines: Vec<&str> = text.lines().take(height.saturating_sub(1)).collect();
    lines.join("\n") + "\n"
}

fn needy(status: &Status) -> Status {
    let mut status = status.clone();
    status.accounts.retain(|account| account.condition != "ok");
    status.missing.clear();
    status
}

fn headline(status: &Status) -> String {
    let mut counts = Counts { rejected: status.rejected.len(), ..Counts::default() };
    status.accounts.iter().for_each(|account| counts.count(account));
    format!("pecsync {}: {counts}", shown(&status.daemon.version))
}

/// A bar a migration: bytes where they are known, else messages.
fn migration_bars(status: &Status, rates: &Rates, style: Style) -> Vec<String> {
    let mut by_name: BTreeMap<&str, (Progress, f64)> = BTreeMap::new();
    for account in &status.accounts {
        let (sum, rate) = by_name.entry(&account.migration).or_default();
        sum.add(&Progress::of(account));
        *rate += rates.of(&account.address);
    }
    let lines = by_name
        .into_iter()
        .map(|(name, (sum, rate))| progress_line(&shown(name), &sum, rate, None, style));
    lines.collect()
}

fn account_bar(account: &AccountStatus, rates: &Rates, style: Style) -> String {
    let rate = rates.of(&account.address);
    let name = format!("  {}", shown(&account.address));
    progress_line(&name, &Progress::of(account), rate, account.eta_s, style)
}

#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Progress {
    messages: [u64; 2],
    bytes: [u64; 2],
    /// Some source count is not known: the whole is not, either.
    partial: bool,
}

impl Progress {
    fn of(account: &AccountStatus) -> Progress {
        let AccountStatus { messages, bytes, .. } = account;
        Progress {
            messages: [messages.copied.unwrap_or(0), messages.source.unwrap_or(0)],
            bytes: [bytes.copied.unwrap_or(0), bytes.source.unwrap_or(0)],
            partial: messages.source.is_none(),
        }
    }

    fn add(&mut self, other: &Progress) {
        for side in 0..2 {
            self.messages[side] += other.messages[side];
            self.bytes[side] += other.bytes[side];
        }
        self.partial |= other.partial;
    }

    fn fraction(&self) -> f64 {
        let [copied, source] = if self.bytes[1] > 0 { self.bytes } else { self.messages };
        match source {
            0 => 0.0,
            _ => (copied as f64 / source as f64).min(1.0),
        }
    }
}

fn progress_line(
    name: &str,
    progress: &Progress,
    rate: f64,
    eta_s: Option<u64>,
    style: Style,
) -> String {
    let [copied, source] = progress.messages;
    let remaining = progress.bytes[1].saturating_sub(progress.bytes[0]);
    let eta = eta_s.or((rate > 1.0 && remaining > 0 && !progress.partial)
        .then(|| (remaining as f64 / rate) as u64));
    let numbers = format!(
        "{:>3.0}%{} {:>13} {:>7}/s {}",
        // 100 % is for what is whole.
        (progress.fraction() * 100.0).floor(),
        if progress.partial { "?" } else { " " },
        part(Some(copied), (source > 0).then_some(source), short_count),
        bytes(rate as u64),
        eta.map_or_else(String::new, |eta| format!("{} left", duration(eta))),
    );
    let name_width = (style.width / 3).clamp(26, 40);
    let name = cut(name, name_width, style);
    let bar_width = style.width.saturating_sub(name_width + 42).clamp(6, 60);
    format!("{name:name_width$} {} {numbers}", bar(progress.fraction(), bar_width, style))
        .trim_end()
        .to_owned()
}

fn bar(fraction: f64, width: usize, style: Style) -> String {
    let filled = ((fraction * width as f64).floor() as usize).min(width);
    let (full, empty) = if style.unicode { ("█", "░") } else { ("#", ".") };
    let drawn = if filled > 0 { style.good(&full.repeat(filled)) } else { String::new() };
    match style.unicode {
        true => format!("{drawn}{}", empty.repeat(width - filled)),
        false => format!("[{drawn}{}]", empty.repeat(width - filled)),
    }
}

/// Octets copied a second, by account, smoothed.
#[derive(Default)]
struct Rates {
    seen: HashMap<String, Seen>,
}

struct Seen {
    bytes: u64,
    at: Instant,
    rate: f64,
}

impl Rates {
    fn learn(&mut self, status: &Status, now: Instant) {
        /// How much the newest second counts.
        const NEWEST: f64 = 0.3;
        for account in &status.accounts {
            let Some(bytes) = account.bytes.copied else { continue };
            let first = Seen { bytes, at: now, rate: 0.0 };
            let seen = self.seen.entry(account.address.clone()).or_insert(first);
            let seconds = now.duration_since(seen.at).as_secs_f64();
            if seconds < 0.1 {
                continue;
            }
            let newest = bytes.saturating_sub(seen.bytes) as f64 / seconds;
            let before = if seen.rate == 0.0 { newest } else { seen.rate };
            let rate = before + NEWEST * (newest - before);
            *seen = Seen { bytes, at: now, rate: if rate < 1.0 { 0.0 } else { rate } };
        }
    }

    fn of(&self, address: &str) -> f64 {
        self.seen.get(address).map_or(0.0, |seen| seen.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ByteCounts, MessageCounts, Reason, RejectedFile};

    const TERMINAL: Style =
        Style { width: 80, height: 24, colour: false, unicode: true, is_terminal: true };

    fn copying(address: &str, copied: u64) -> AccountStatus {
        AccountStatus {
            address: address.into(),
            migration: "epap".into(),
            phase: "copying".into(),
            condition: "ok".into(),
            messages: MessageCounts {
                source: Some(2000),
                copied: Some(copied / 1000),
                ..MessageCounts::default()
            },
            bytes: ByteCounts { source: Some(2_000_000), copied: Some(copied) },
            ..AccountStatus::default()
        }
    }

    #[test]
    fn a_frame_fits_and_shows_rates() {
        let status = |copied| Status {
            accounts: (0..40).map(|n| copying(&format!("a{n}@pec.epap.it"), copied)).collect(),
            ..Status::default()
        };
        let mut rates = Rates::default();
        let begun = Instant::now();
        rates.learn(&status(500_000), begun);
        rates.learn(&status(1_000_000), begun + Duration::from_secs(1));
        let text = frame(&status(1_000_000), &Options::default(), &rates, TERMINAL);
        assert!(text.lines().count() < 24, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("  a0@pec.epap.it           ██████░░░░░░  50%"), "{text}");
        assert!(text.contains(" 50%") && text.contains("500 KB/s 2s left"), "{text}");
        assert!(text.contains("more in their first copy"), "{text}");
    }

    /// Whatever is wrong, and however large or small the terminal is.
    #[test]
    fn a_frame_fits_every_terminal() {
        let mut status = Status::default();
        for number in 0..30 {
            let mut account = copying(&format!("casella.numero.{number}@pec.epap.it"), 7 * number);
            if number % 3 == 0 {
                let reason = Reason {
                    code: "credentials_rejected".into(),
                    side: Some("source".into()),
                    message: "[AUTHENTICATIONFAILED] così non va, perché … "
                        .repeat(number as usize),
                    hint: "Ask the owner → then drop the enrollment again.".into(),
                    since: "2026-02-01T12:00:00Z".into(),
                    next_try: None,
                };
                account.condition = "held".into();
                account.reason = Some(reason.clone());
                account.reasons = vec![reason];
            }
            status.accounts.push(account);
        }
        status.rejected.push(RejectedFile {
            file: "conf.d/perché.toml".into(),
            line: 3,
            column: 1,
            message: "unknown key".into(),
            hint: "write address = \"…\"".into(),
        });
        let mut ascii = status.clone();
        spell_in_ascii(&mut ascii);
        for width in [60, 80, 132] {
            for height in [10, 24, 60] {
                for (unicode, colour) in
                    [(true, true), (true, false), (false, true), (false, false)]
                {
                    let style = Style { width, height, colour, unicode, is_terminal: true };
                    let status = if unicode { &status } else { &ascii };
                    let text = frame(status, &Options::default(), &Rates::default(), style);
                    assert_eq!(text.contains('\u{1b}'), colour, "{text}");
                    assert!(unicode || text.is_ascii(), "{text}");
                    let painted =
                        ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m"];
                    let plain = painted.iter().fold(text, |text, code| text.replace(code, ""));
                    assert!(plain.lines().count() < height, "{width}x{height}: {plain}");
                    // Below 80 the numbers of a bar need their room.
                    let most = width.max(80);
                    let wide = plain.lines().find(|line| line.chars().count() > most);
                    assert!(wide.is_none(), "{width}x{height}: {wide:?}");
                }
            }
        }
        let only_files = Status { accounts: Vec::new(), ..status };
        let text = frame(&only_files, &Options::default(), &Rates::default(), TERMINAL);
        assert!(text.contains("Rejected files:") && !text.contains("no accounts"), "{text}");
    }

    #[test]
    fn bars_in_two_alphabets() {
        let ascii = Style { unicode: false, ..TERMINAL };
        assert_eq!(bar(0.5, 6, ascii), "[###...]");
        assert_eq!(bar(1.0, 4, TERMINAL), "████");
        assert_eq!(bar(0.999, 4, TERMINAL), "███░", "not whole");
    }

    #[test]
    fn no_terminal_no_escapes() {
        let status = Status { accounts: vec![copying("a@b", 5)], ..Status::default() };
        let style = Style { is_terminal: false, ..TERMINAL };
        let text = frame(&status, &Options::default(), &Rates::default(), style);
        assert!(text.contains("ADDRESS") && !text.contains('\u{1b}'), "{text}");
    }
}
