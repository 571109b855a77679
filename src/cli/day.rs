//! `status --migration M`: a migration as an operator puts it on a screen on the day. Pure.

use std::cmp::Reverse;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::numbers::{bytes, count, duration, part, relative};
use super::table::{cut, wrapped};
use super::terminal::Style;
use crate::daemon::PHASES;
use crate::daemon::tally::{Tally, is_overdue};
use crate::journal::shown;
use crate::status::{AccountStatus, Bandwidth, Connections, DaemonStatus, MigrationStatus, Reason};

/// Problems that are shown, the freshest first, where nothing limits the height.
const PROBLEMS_MAX: usize = 10;
/// Where the values of the lines begin.
const VALUES_AT: usize = 15;

/// One migration with its accounts, and no others. `lines_max` is what the screen holds.
pub fn day(
    migration: &MigrationStatus,
    accounts: &[AccountStatus],
    daemon: &DaemonStatus,
    lines_max: Option<usize>,
    style: Style,
    now: Timestamp,
) -> String {
    let mut tally = Tally::default();
    for account in accounts {
        tally.add(account, migration.cutover_window_s, now);
    }
    let mut text = wrapped(&headline(migration, now), 0, 4, style.width);
    if let Some((first, rest)) = text.clone().split_once('\n') {
        text = format!("{}\n{rest}", style.heading(first));
    }
    text += "\n";
    text += &phases(&tally, style);
    text += "\n";
    text += &sums(migration, &tally, style, now);
    text += &shared(daemon);
    let used = text.lines().count();
    let room = lines_max.map_or(PROBLEMS_MAX, |lines| lines.saturating_sub(used + 3) / 2);
    text + &problems(migration, accounts, room.min(PROBLEMS_MAX), style, now)
}

/// `epap: cutover in 3h 20m, 2026-02-04 08:00+01`
fn headline(migration: &MigrationStatus, now: Timestamp) -> String {
    let name = shown(&migration.name);
    let cutover = migration.cutover.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
    let mut text = match cutover {
        None => format!("{name}: no cutover yet"),
        Some(cutover) => {
            let zone = TimeZone::get(&migration.timezone).unwrap_or(TimeZone::UTC);
            let local = cutover.to_zoned(zone).strftime("%Y-%m-%d %H:%M %Z").to_string();
            let when = relative(&cutover.to_string(), now);
            let since = now.as_second() - cutover.as_second();
            let left = migration.cutover_window_s as i64 - since;
            match since {
                ..0 => format!("{name}: cutover {when}, {local}"),
                _ if left >= 0 => format!(
                    "{name}: cutover {when}, {local}; its window ends in {}",
                    duration(left.unsigned_abs())
                ),
                _ => format!(
                    "{name}: cutover {when}, {local}; its window ended {} ago",
                    duration(left.unsigned_abs())
                ),
            }
        }
    };
    if migration.paused {
        text += "; paused";
    }
    text
}

/// A line for each phase that somebody is in, with a bar.
fn phases(tally: &Tally, style: Style) -> String {
    let all = tally.counts.accounts;
    let mut text = String::new();
    for phase in PHASES {
        let accounts = tally.in_phase(phase);
        if accounts == 0 {
            continue;
        }
        let bar = bar(accounts, all, style.width.saturating_sub(VALUES_AT + 11), style);
        let line = format!("  {phase:11} {:>9}  {bar}", count(accounts as u64));
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// As long as the part is of the whole; something where there is anybody.
fn bar(part: usize, all: usize, width: usize, style: Style) -> String {
    let length = (part * width).div_ceil(all.max(1));
    style.good_if(length > 0, &style.sign("█", "#").repeat(length))
}

fn sums(migration: &MigrationStatus, tally: &Tally, style: Style, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String, bad: bool| {
        let name = format!("  {name:width$}", width = VALUES_AT - 2);
        let body = wrapped(&value, VALUES_AT, VALUES_AT, style.width);
        let body = body.trim_start();
        text += &if bad { style.bad(&name) } else { name };
        text += body;
    };
    let all = tally.counts.accounts;
    let percent = (tally.sealed * 100).checked_div(all).unwrap_or_default();
    let of_all = |part: usize| format!("{} of {}", count(part as u64), count(all as u64));
    line("sealed", format!("{} ({percent} %)", of_all(tally.sealed)), false);
    let overdue = match tally.overdue {
        0 => String::new(),
        late => format!(", {} of them overdue", count(late as u64)),
    };
    let remaining = format!("{}{overdue}", count(tally.remaining as u64));
    line("remaining", remaining, tally.overdue > 0);
    for condition in ["held", "retrying", "paused"] {
        let accounts = tally.in_condition(condition);
        if accounts > 0 || condition == "held" {
            let value = format!("{:6} {}", count(accounts as u64), tally.reasons_of(condition));
            line(condition, value, condition == "held" && accounts > 0);
        }
    }
    let sums = tally.sums;
    let mut messages = part(Some(sums.copied), Some(sums.source), count);
    for (number, what) in
        [(sums.adopted, "adopted"), (sums.refused, "refused"), (sums.altered, "altered")]
    {
        if number > 0 {
            messages += &format!(", {} {what}", count(number));
        }
    }
    line("messages", messages, false);
    line("bytes", part(Some(sums.copied_bytes), Some(sums.source_bytes), bytes), false);
    if let Some(listed) = migration.listed {
        let missing = migration.missing.len() as u64;
        let until = migration.enroll_until.as_ref().map_or_else(String::new, |until| {
            let over = until.parse::<Timestamp>().is_ok_and(|until| until <= now);
            let verb = if over { "ended" } else { "ends" };
            format!("; enrolling {verb} {}", relative(until, now))
        });
        let value = format!("{} of {}{until}", count(missing), count(listed));
        line("not enrolled", value, false);
    }
    if let Some(until) = &migration.source_until {
        line("source until", format!("{} ({})", shown(until), relative(until, now)), false);
    }
    if tally.secrets_left > 0 {
        let accounts = count(tally.secrets_left as u64);
        let value = format!("{accounts} whose move is over and whose enrollment still has them");
        line("passwords", value, false);
    }
    text
}

/// What all migrations share.
fn shared(daemon: &DaemonStatus) -> String {
    let Connections { source, target } = &daemon.connections;
    let (source, target) = (count((*source).into()), count((*target).into()));
    let Bandwidth { limit, used } = daemon.bandwidth;
    let used = format!("{}/s", bytes(used));
    let allowed = limit.map_or_else(String::new, |limit| format!(" of {}/s", bytes(limit)));
    let connections = format!("{source} connections to sources, {target} to targets");
    format!("  whole daemon {connections}; {used}{allowed}\n")
}

fn problems(
    migration: &MigrationStatus,
    accounts: &[AccountStatus],
    room: usize,
    style: Style,
    now: Timestamp,
) -> String {
    let troubled = accounts.iter().filter_map(|account| Some((account, account.reason.as_ref()?)));
    let mut troubled: Vec<(&AccountStatus, &Reason)> = troubled.collect();
    // RFC 3339 in UTC sorts as it stands.
    troubled.sort_by(|(a, one), (b, other)| {
        Reverse(&one.since).cmp(&Reverse(&other.since)).then(a.address.cmp(&b.address))
    });
    if troubled.is_empty() || room == 0 {
        return String::new();
    }
    let mut text = format!("\n{}\n", style.heading("Freshest problems:"));
    for (account, reason) in troubled.iter().take(room) {
        let late = is_overdue(account, migration.cutover_window_s, now);
        let late = if late { ", overdue" } else { "" };
        let (code, when) = (shown(&reason.code), relative(&reason.since, now));
        let condition = shown(&account.condition);
        let line = format!("{}: {condition} {code}{late}, {when}", shown(&account.address));
        text += &wrapped(&line, 2, 4, style.width);
        if !reason.message.is_empty() {
            let message = cut(&shown(&reason.message), style.width - 4, style);
            text += &format!("    {message}\n");
        }
    }
    let more = troubled.len().saturating_sub(room);
    if more > 0 {
        let name = shown(&migration.name);
        let more = count(more as u64);
        text += &format!("  and {more} more: pecsync status --migration {name} --sort since\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ByteCounts, ContactStatus, MessageCounts, MissingAccount};

    const PLAIN: Style =
        Style { width: 80, height: 24, colour: false, unicode: true, is_terminal: false };

    fn epap() -> MigrationStatus {
        MigrationStatus {
            name: "epap".into(),
            timezone: "Europe/Rome".into(),
            enroll_until: Some("2026-02-03T22:59:59Z".into()),
            cutover: Some("2026-02-04T07:00:00Z".into()),
            cutover_window_s: 6 * 3600,
            source_until: Some("2026-03-31T21:59:59Z".into()),
            paused: false,
            listed: Some(1200),
            missing: vec![MissingAccount {
                address: "tardi@pec.epap.it".into(),
                contact: ContactStatus::default(),
            }],
        }
    }

    fn account(number: usize, phase: &str, condition: &str, code: &str) -> AccountStatus {
        let reason = Reason {
            code: code.into(),
            message: "[AUTHENTICATIONFAILED] Credenziali non valide".into(),
            since: format!("2026-02-04T0{number}:30:00Z"),
            ..Reason::default()
        };
        AccountStatus {
            address: format!("a{number}@pec.epap.it"),
            migration: "epap".into(),
            phase: phase.into(),
            condition: condition.into(),
            reason: (!code.is_empty()).then_some(reason),
            cutover: epap().cutover,
            messages: MessageCounts {
                source: Some(2000),
                copied: Some(1999),
                refused: Some(1),
                ..MessageCounts::default()
            },
            bytes: ByteCounts { source: Some(145_000_000), copied: Some(145_000_000) },
            has_secrets: true,
            ..AccountStatus::default()
        }
    }

    fn accounts() -> Vec<AccountStatus> {
        vec![
            account(0, "completed", "ok", ""),
            account(1, "completed", "ok", ""),
            account(2, "archiving", "ok", ""),
            account(3, "draining", "ok", ""),
            account(4, "draining", "retrying", "unreachable"),
            account(5, "draining", "held", "credentials_rejected"),
            account(6, "draining", "held", "credentials_rejected"),
            account(7, "following", "held", "over_quota"),
        ]
    }

    fn at(now: &str) -> String {
        let daemon = DaemonStatus {
            connections: Connections { source: 1204, target: 3 },
            bandwidth: Bandwidth { limit: Some(2_000_000), used: 1_900_000 },
            ..DaemonStatus::default()
        };
        day(&epap(), &accounts(), &daemon, None, PLAIN, now.parse().unwrap())
    }

    #[test]
    fn the_screen_of_the_day() {
        let expected = "\
epap: cutover 2h 10m ago, 2026-02-04 08:00 CET; its window ends in 3h 50m

  following           1  ███████
  draining            4  ███████████████████████████
  archiving           1  ███████
  completed           2  ██████████████

  sealed       3 of 8 (37 %)
  remaining    5
  held         3      credentials_rejected 2, over_quota 1
  retrying     1      unreachable 1
  messages     15,992/16,000, 8 refused
  bytes        1.2 GB/1.2 GB
  not enrolled 1 of 1,200; enrolling ended 10h 10m ago
  source until 2026-03-31T21:59:59Z (in 55d 12h)
  passwords    2 whose move is over and whose enrollment still has them
  whole daemon 1,204 connections to sources, 3 to targets; 1.9 MB/s of 2.0 MB/s

Freshest problems:
  a7@pec.epap.it: held over_quota, 1h 40m ago
    [AUTHENTICATIONFAILED] Credenziali non valide
";
        let text = at("2026-02-04T09:10:00Z");
        let begins = text.lines().take(expected.lines().count()).collect::<Vec<_>>().join("\n");
        assert_eq!(begins + "\n", expected);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn before_and_past_the_window() {
        let first = |now| at(now).lines().next().unwrap().to_owned();
        let before = "epap: cutover in 1h 00m, 2026-02-04 08:00 CET";
        assert_eq!(first("2026-02-04T06:00:00Z"), before);
        let text = at("2026-02-04T15:00:00Z");
        let ended = "epap: cutover 8h 00m ago, 2026-02-04 08:00 CET; its window ended 2h 00m ago\n";
        assert!(text.starts_with(ended), "{text}");
        assert!(text.contains("  remaining    5, 5 of them overdue\n"), "{text}");
        assert!(
            text.contains("  a6@pec.epap.it: held credentials_rejected, overdue, 8h"),
            "{text}"
        );
    }

    #[test]
    fn it_fits_a_screen_and_says_what_it_left_out() {
        let now = "2026-02-04T09:10:00Z".parse().unwrap();
        let text = day(&epap(), &accounts(), &DaemonStatus::default(), Some(24), PLAIN, now);
        assert!(text.lines().count() <= 24, "{text}");
        let many: Vec<AccountStatus> =
            (0..30).map(|number| account(number % 10, "draining", "held", "x")).collect();
        let text = day(&epap(), &many, &DaemonStatus::default(), None, PLAIN, now);
        let more = "  and 20 more: pecsync status --migration epap --sort since\n";
        assert!(text.ends_with(more), "{text}");
    }

    #[test]
    fn without_a_cutover_and_without_anybody() {
        let migration = MigrationStatus { name: "geometri".into(), ..MigrationStatus::default() };
        let text =
            day(&migration, &[], &DaemonStatus::default(), None, PLAIN, Timestamp::UNIX_EPOCH);
        assert!(text.starts_with("geometri: no cutover yet\n"), "{text}");
        assert!(text.contains("  sealed       0 of 0 (0 %)\n"), "{text}");
        assert!(!text.contains("not enrolled") && !text.contains("problems"), "{text}");
    }
}
