//! `status` as text: pure functions from a status to what fits 80 columns.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::numbers::{bytes, count, part, relative, short_count};
use super::orders::problem_line;
use super::terminal::Style;
use crate::daemon::Counts;
use crate::journal::shown;
use crate::status::{AccountStatus, Bandwidth, Reason, Status};

/// More accounts than this are shown as a line a migration.
const LISTED_MAX: usize = 50;
/// Of those that need somebody, when nobody asked for all of them.
const NEEDY_MAX: usize = 100;

/// All accounts, or a line a migration and then those that need somebody.
pub fn overview(status: &Status, all: bool, style: Style, now: Timestamp) -> String {
    let mut text = String::new();
    let accounts: Vec<&AccountStatus> = status.accounts.iter().collect();
    if accounts.is_empty() {
        text += match status.migrations.is_empty() {
            true => "no accounts: no migration is configured, see pecsync.toml(5)\n",
            false => "no accounts\n",
        };
    } else if all || accounts.len() <= LISTED_MAX {
        text += &listed(&accounts, style, now);
    } else {
        text += &migrations(&accounts, style);
        let needy: Vec<&AccountStatus> =
            accounts.into_iter().filter(|account| account.condition == "held").collect();
        if !needy.is_empty() {
            text += &format!("\n{}\n", style.heading("These need somebody:"));
            text += &listed(&needy[..needy.len().min(NEEDY_MAX)], style, now);
        }
        if needy.len() > NEEDY_MAX {
            let more = count((needy.len() - NEEDY_MAX) as u64);
            text += &format!("and {more} more: pecsync status --held\n");
        }
    }
    text + &bandwidth(status) + &files(status, style)
}

/// Shown while it is limited.
fn bandwidth(status: &Status) -> String {
    let Bandwidth { limit, used } = status.daemon.bandwidth;
    limit.map_or_else(String::new, |limit| {
        format!("\nBandwidth: {}/s used, {}/s allowed\n", bytes(used), bytes(limit))
    })
}

/// Each account with its folders.
pub fn details(status: &Status, style: Style, now: Timestamp) -> String {
    let one = |account| detail(account, style, now);
    status.accounts.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// Widths of everything behind the address, the spaces before them included.
const COLUMNS: usize = 10 + 9 + 8 + 16 + 9;

fn listed(accounts: &[&AccountStatus], style: Style, now: Timestamp) -> String {
    let longest = accounts.iter().map(|account| width(&account.address)).max().unwrap_or(0);
    let address = longest.clamp(7, style.width.saturating_sub(COLUMNS).max(7));
    let titles = format!(
        "{:address$} {:9} {:8} {:>7} {:>15} {:>8}",
        "ADDRESS", "PHASE", "STATE", "FOLDERS", "MESSAGES", "BYTES"
    );
    let mut text = format!("{}\n", style.heading(&titles));
    for account in accounts {
        text += &row(account, address, style);
        for reason in reasons(account) {
            text += &explained(reason, style, now);
        }
    }
    text
}

fn row(account: &AccountStatus, address: usize, style: Style) -> String {
    let name = shown(&account.address);
    // A cut address cannot be copied into the next command: one too long has its own line.
    let name = match width(&name) <= address {
        true => format!("{name:address$}"),
        false => format!("{name}\n{:address$}", ""),
    };
    let folders = match account.whole_folders() {
        (_, 0) => "-".to_owned(),
        (copied, all) if copied == all => all.to_string(),
        (copied, all) => format!("{copied}/{all}"),
    };
    let messages = &account.messages;
    format!(
        "{name} {:9} {} {folders:>7} {:>15} {:>8}\n",
        shown(&account.phase),
        painted(&account.condition, 8, style),
        part(messages.copied, messages.source, short_count),
        account.bytes.copied.map_or_else(|| "-".to_owned(), bytes),
    )
}

fn painted(condition: &str, width: usize, style: Style) -> String {
    let padded = format!("{:width$}", shown(condition));
    match condition {
        "ok" => style.good(&padded),
        "held" => style.bad(&padded),
        _ => style.warning(&padded),
    }
}

fn reasons(account: &AccountStatus) -> impl Iterator<Item = &Reason> {
    // `reason` is the first of `reasons`; one of them may stand alone.
    let alone = account.reason.iter().filter(|_| account.reasons.is_empty());
    account.reasons.iter().chain(alone)
}

/// What is wrong in the server's words, and what to do about it.
fn explained(reason: &Reason, style: Style, now: Timestamp) -> String {
    let side = reason.side.as_ref().map(|side| format!(" ({side})")).unwrap_or_default();
    let next = reason.next_try.as_ref().map(|time| format!(", next try {}", relative(time, now)));
    let what = format!(
        "{}{side}: {} [since {}{}]",
        shown(&reason.code),
        shown(&reason.message),
        relative(&reason.since, now),
        next.unwrap_or_default(),
    );
    let mut text = wrapped(&what, 4, 4, style.width);
    if !reason.hint.is_empty() {
        let arrow = style.sign("→", "->");
        text += &wrapped(&format!("{arrow} {}", shown(&reason.hint)), 4, 6, style.width);
    }
    text
}

/// A line a migration.
fn migrations(accounts: &[&AccountStatus], style: Style) -> String {
    let mut by_name: BTreeMap<&str, Vec<&AccountStatus>> = BTreeMap::new();
    for account in accounts {
        by_name.entry(&account.migration).or_default().push(account);
    }
    let titles = format!(
        "{:14} {:>8} {:>8} {:>7} {:>9} {:>6} {:>5} {:>5} {:>8}",
        "MIGRATION",
        "ACCOUNTS",
        "ENROLLED",
        "COPYING",
        "FOLLOWING",
        "ENDING",
        "DONE",
        "HELD",
        "BYTES"
    );
    let mut text = format!("{}\n", style.heading(&titles));
    for (name, accounts) in by_name {
        let mut counts = Counts::default();
        accounts.iter().for_each(|account| counts.count(account));
        let phases = |names: &[&str]| {
            let counted = names.iter().filter_map(|name| counts.phases.get(*name));
            short_count(counted.sum::<usize>() as u64)
        };
        let held = counts.conditions.get("held").copied().unwrap_or(0);
        let padded = format!("{:>5}", short_count(held as u64));
        let held = if held > 0 { style.bad(&padded) } else { padded };
        let copied: u64 = accounts.iter().filter_map(|account| account.bytes.copied).sum();
        let name = shown(name);
        let name =
            if width(&name) > 14 { format!("{name}\n{:14}", "") } else { format!("{name:14}") };
        text += &format!(
            "{name} {:>8} {:>8} {:>7} {:>9} {:>6} {:>5} {held} {:>8}\n",
            short_count(counts.accounts as u64),
            phases(&["enrolled"]),
            phases(&["copying"]),
            phases(&["following"]),
            phases(&["draining", "archiving"]),
            phases(&["completed", "closed"]),
            bytes(copied),
        );
    }
    text
}

fn files(status: &Status, style: Style) -> String {
    const NAMED_MAX: usize = 20;
    let mut text = String::new();
    if !status.rejected.is_empty() {
        text += &format!("\n{}\n", style.heading("Rejected files:"));
        for problem in &status.rejected {
            text += &wrapped(&problem_line(problem), 2, 4, style.width);
        }
    }
    if !status.missing.is_empty() {
        let missing = count(status.missing.len() as u64);
        text += &format!("\n{}\n", style.heading(&format!("Not enrolled yet: {missing}")));
        for address in status.missing.iter().take(NAMED_MAX) {
            text += &format!("  {}\n", shown(address));
        }
        if status.missing.len() > NAMED_MAX {
            text += "  …\n".replace('…', style.sign("…", "...")).as_str();
        }
    }
    text
}

fn detail(account: &AccountStatus, style: Style, now: Timestamp) -> String {
    let AccountStatus { messages, bytes: octets, .. } = account;
    let migration = shown(&account.migration);
    let mut text = style.heading(&format!("{} ({migration})", shown(&account.address))) + "\n";
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text += &wrapped(&format!("{name:10} {value}"), 2, 13, style.width);
        }
    };
    let condition = painted(&account.condition, 0, style);
    line("phase", format!("{}, {condition}", shown(&account.phase)));
    let mut exact = part(messages.copied, messages.source, count);
    for (number, what) in [
        (messages.adopted, "adopted"),
        (messages.refused, "refused"),
        (messages.altered, "altered"),
        (messages.in_doubt, "in doubt"),
        (messages.verified, "verified"),
    ] {
        if let Some(number) = number.filter(|number| *number > 0) {
            exact += &format!(", {} {what}", count(number));
        }
    }
    line("messages", exact);
    line("bytes", part(octets.copied, octets.source, bytes));
    line("removals", shown(&account.removals));
    line("mode", shown(&account.mode));
    line("enrolled", shown(&account.enrolled_by));
    let by_page = account.owners_password_from.as_ref();
    if let Some(file) = by_page.filter(|file| **file != account.enrolled_by) {
        line("password", format!("its owner's, from {}", shown(file)));
    }
    for (name, time) in [
        ("cutover", &account.cutover),
        ("sealed", &account.sealed_at),
        ("source", &account.source_seen_until),
        ("alive", &account.proved_alive_at),
        ("last copy", &account.last_copied_at),
    ] {
        let said = time.as_ref().map(|time| format!("{} ({})", shown(time), relative(time, now)));
        line(name, said.unwrap_or_default());
    }
    let eta = account.eta_s.map(super::numbers::duration);
    line("remaining", eta.unwrap_or_default());
    for reason in reasons(account) {
        text += &explained(reason, style, now);
    }
    text + &folders(account, style)
}

fn folders(account: &AccountStatus, style: Style) -> String {
    if account.folders.is_empty() {
        return String::new();
    }
    let titles = format!("  {:32} {:>15} {:>7} {}", "FOLDER", "MESSAGES", "REFUSED", "STATE");
    let mut text = format!("{}\n", style.heading(&titles));
    for folder in &account.folders {
        let (name, target) = (shown(&folder.name), shown(&folder.target));
        let name = match name == target || target.is_empty() {
            true => name,
            false => format!("{name} {} {target}", style.sign("→", "->")),
        };
        let name =
            if width(&name) > 32 { format!("{name}\n  {:32}", "") } else { format!("{name:32}") };
        let reason = folder
            .reason
            .as_ref()
            .map(|reason| format!(": {} {}", shown(&reason.code), shown(&reason.message)));
        let messages = part(folder.copied, folder.source, short_count);
        let refused = folder.refused.map_or_else(|| "-".to_owned(), short_count);
        let (state, reason) = (shown(&folder.state), reason.unwrap_or_default());
        text += &format!("  {name} {messages:>15} {refused:>7} {state}{reason}\n");
    }
    text
}

/// Letters, which is columns for what names and addresses are made of.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// At most so many letters.
pub fn cut(text: &str, width: usize, style: Style) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mark = style.sign("…", "~");
    text.chars().take(width - 1).collect::<String>() + mark
}

/// Breaks a text at spaces; its first line begins at column `first`, the others at `rest`.
pub fn wrapped(text: &str, first: usize, rest: usize, columns: usize) -> String {
    let mut lines = String::new();
    let mut line = " ".repeat(first);
    let mut is_empty = true;
    for word in text.split(' ') {
        if !is_empty && width(&line) + 1 + width(word) > columns {
            lines += line.trim_end();
            lines.push('\n');
            line = " ".repeat(rest);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    lines + line.trim_end() + "\n"
}

#[cfg(test)]
mod tests;
