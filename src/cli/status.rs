//! `status`: what each account is doing, from the daemon or, without one, as last known.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::orders::unanswered;
use super::place::Place;
use super::terminal::{Style, complain, say, write};
use super::{day, sheet, table};
use super::{verdict, watch};
use crate::daemon::PHASES;
use crate::daemon::last_state;
use crate::daemon::protocol::{Request, StatusOf, ask, exit, status_socket};
use crate::journal::{shown, shown_json};
use crate::status::{AccountStatus, Status};

/// A daemon that starts answers only when it has read conf.d.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args, Clone, Default, Debug)]
pub struct Options {
    /// Only these accounts, in detail
    #[arg(value_name = "ADDRESS")]
    pub addresses: Vec<String>,
    /// For programs
    #[arg(long, conflicts_with_all = ["watch", "check"])]
    pub json: bool,
    /// A row an account, and one for each that has not enrolled, with contacts
    #[arg(long, conflicts_with_all = ["json", "watch", "check"])]
    pub csv: bool,
    /// Redraw every second, with rates; Ctrl-C ends it
    #[arg(long, conflicts_with = "check")]
    pub watch: bool,
    /// For monitoring: one line, and exit 0 (well), 1 (somebody is needed) or 2 (critical)
    #[arg(long)]
    pub check: bool,
    /// Only accounts that are held
    #[arg(long)]
    pub held: bool,
    /// Only accounts of this migration; alone: a screen for the day of its cutover
    #[arg(long, value_name = "NAME")]
    pub migration: Option<String>,
    /// All accounts, in this order
    #[arg(long, value_name = "KEY")]
    pub sort: Option<SortKey>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum SortKey {
    Address,
    Migration,
    /// As it is lived through
    Phase,
    /// Held first, then retrying, paused, well
    Condition,
    /// By the reason's code
    Reason,
    /// The freshest trouble first
    Since,
    /// The earliest first
    Cutover,
    /// What is still to be copied, most first
    Remaining,
    /// The largest first
    Bytes,
}

/// A request has its bound.
const ASKED_BY_NAME_MAX: usize = 30;

impl Options {
    /// Is the screen of a migration wanted?
    pub fn is_day(&self) -> bool {
        self.migration.is_some() && self.addresses.is_empty() && !self.held && self.sort.is_none()
    }

    /// What of it the daemon is asked for: folders are most of what it could say.
    fn wanted(&self) -> StatusOf {
        if !self.addresses.is_empty() && self.addresses.len() <= ASKED_BY_NAME_MAX {
            let addresses = self.addresses.iter().map(|address| address.to_lowercase());
            return StatusOf { addresses: addresses.collect(), brief: false };
        }
        let shows_folders = self.json || self.csv || !self.addresses.is_empty();
        StatusOf { addresses: Vec::new(), brief: !shows_folders }
    }

    /// Are all accounts to be listed, however many?
    pub fn lists_all(&self) -> bool {
        self.held || self.sort.is_some()
    }
}

pub fn run(config: &Path, options: &Options) -> u8 {
    let asker = match Place::of(config) {
        Ok(place) => {
            let socket = status_socket(&place.control_socket);
            Asker { socket, place, wanted: options.wanted() }
        }
        Err((code, text)) => {
            complain(&text);
            return code;
        }
    };
    match asker.ask() {
        Ok(_) if options.watch => watch::run(&asker, options),
        Ok(status) => show(status, options, exit::FINE),
        Err((code, text)) if options.check => {
            let critical = matches!(code, exit::UNAVAILABLE);
            say(&format!("PECSYNC {} - {text}", if critical { "CRITICAL" } else { "UNKNOWN" }));
            if critical { 2 } else { 3 }
        }
        Err((exit::UNAVAILABLE, text)) => {
            complain(&text);
            show_last_known(&asker.place.state_dir, options)
        }
        Err((code, text)) => {
            complain(&text);
            code
        }
    }
}

pub struct Asker {
    socket: PathBuf,
    place: Place,
    wanted: StatusOf,
}

impl Asker {
    /// An exit code and what to say where there is no answer.
    pub fn ask(&self) -> Result<Status, (u8, String)> {
        let answer = ask(&self.socket, &Request::Status(self.wanted.clone()), PATIENCE)
            .map_err(|error| unanswered(&self.socket, &error))?;
        answer.status.map(|status| *status).ok_or((exit::NO, shown(&answer.message)))
    }
}

fn show_last_known(state_dir: &Path, options: &Options) -> u8 {
    match last_state::read(state_dir) {
        Ok((status, written)) => {
            complain(&format!("what follows was last known at {written}"));
            show(status, options, exit::UNAVAILABLE)
        }
        Err(error) => {
            let text = format!("no last known state in {}: {error}", state_dir.display());
            complain(&text);
            exit::UNAVAILABLE
        }
    }
}

fn show(status: Status, options: &Options, code: u8) -> u8 {
    let now = Timestamp::now();
    let (status, unknown) = chosen(status, options);
    unknown.iter().for_each(|text| complain(text));
    let code = if unknown.is_empty() || code != exit::FINE { code } else { exit::NO };
    if options.check {
        let (level, line) = verdict::verdict(&status, now);
        say(&line);
        return if unknown.is_empty() { level } else { level.max(1) };
    }
    if options.csv {
        write(&sheet::sheet(&status));
        if !status.rejected.is_empty() {
            complain(&format!("{} rejected files are in no row", status.rejected.len()));
        }
        return code;
    }
    if options.json {
        say(&shown_json(&serde_json::to_string_pretty(&status).unwrap_or_default()));
        return code;
    }
    let style = Style::of_stdout();
    let mut status = status;
    if style.is_terminal && !style.unicode {
        watch::spell_in_ascii(&mut status);
    }
    let in_detail = !options.addresses.is_empty();
    write(&match in_detail {
        true => table::details(&status, style, now),
        false => overview(&status, options, style, now),
    });
    code
}

/// The screen of one migration, or the table.
pub fn overview(status: &Status, options: &Options, style: Style, now: Timestamp) -> String {
    let lines_max = style.is_terminal.then_some(style.height);
    match status.migrations.first().filter(|_| options.is_day()) {
        Some(migration) => {
            day::day(migration, &status.accounts, &status.daemon, lines_max, style, now)
        }
        None => table::overview(status, options.lists_all(), style, now),
    }
}

/// Only what was asked for; and what to say of that which was asked for in vain.
pub fn chosen(mut status: Status, options: &Options) -> (Status, Vec<String>) {
    let wanted: Vec<String> =
        options.addresses.iter().map(|address| address.to_lowercase()).collect();
    let is_wanted = |address: &String| wanted.is_empty() || wanted.contains(address);
    // Who is missing has a row of the sheet, and nothing else.
    let missing = |address: &String| options.csv && status.missing.contains(address);
    let known = |address: &String| status.accounts.iter().any(|known| known.address == *address);
    let unknown = wanted.iter().filter(|address| !known(address) && !missing(address));
    let unknown = unknown.map(|address| format!("{}: no such account", shown(address)));
    let mut unknown: Vec<String> = unknown.collect();
    if let Some(name) = &options.migration {
        let of_it = |account: &AccountStatus| account.migration == *name;
        let known = status.migrations.iter().any(|migration| migration.name == *name);
        if !known && !status.accounts.iter().any(of_it) {
            unknown.push(format!("{}: no such migration", shown(name)));
        }
        status.accounts.retain(of_it);
        status.migrations.retain(|migration| migration.name == *name);
        let missing = status.migrations.iter().flat_map(|migration| &migration.missing);
        status.missing = missing.map(|missing| missing.address.clone()).collect();
    }
    status.accounts.retain(|account| {
        is_wanted(&account.address) && (!options.held || account.condition == "held")
    });
    for migration in &mut status.migrations {
        migration.missing.retain(|missing| !options.held && is_wanted(&missing.address));
    }
    if let Some(key) = options.sort {
        sort(&mut status.accounts, key);
    }
    (status, unknown)
}

/// Accounts come by address; what is equal stays so.
fn sort(accounts: &mut [AccountStatus], key: SortKey) {
    let place = |names: &[&str], name: &str| names.iter().position(|known| *known == name);
    let code = |account: &AccountStatus| account.reason.as_ref().map(|reason| reason.code.clone());
    let since = |account: &AccountStatus| account.reason.as_ref().map(|r| r.since.clone());
    match key {
        SortKey::Address => {}
        SortKey::Migration => accounts.sort_by(|a, b| a.migration.cmp(&b.migration)),
        SortKey::Phase => accounts.sort_by_key(|account| place(&PHASES, &account.phase)),
        SortKey::Condition => accounts.sort_by_key(|account| {
            place(&["held", "retrying", "paused", "ok"], &account.condition)
        }),
        // Whoever has none comes last.
        SortKey::Reason => {
            accounts.sort_by_cached_key(|account| (account.reason.is_none(), code(account)));
        }
        // RFC 3339 in UTC sorts as it stands.
        SortKey::Since => accounts.sort_by_cached_key(|account| Reverse(since(account))),
        SortKey::Cutover => {
            accounts.sort_by_key(|account| (account.cutover.is_none(), account.cutover.clone()));
        }
        SortKey::Remaining => accounts.sort_by_key(|account| {
            let bytes = account.bytes;
            let left = bytes.source.unwrap_or(0).saturating_sub(bytes.copied.unwrap_or(0));
            Reverse((left, account.messages.source.is_none()))
        }),
        SortKey::Bytes => accounts.sort_by_key(|account| Reverse(account.bytes.source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ByteCounts, MigrationStatus, MissingAccount, Reason};

    fn account(address: &str, phase: &str, code: &str, since: &str, bytes: u64) -> AccountStatus {
        let reason = Reason { code: code.into(), since: since.into(), ..Reason::default() };
        AccountStatus {
            address: address.into(),
            migration: if address.ends_with("epap.it") { "epap" } else { "fnofi" }.into(),
            phase: phase.into(),
            condition: if code.is_empty() { "ok" } else { "held" }.into(),
            reason: (!code.is_empty()).then_some(reason),
            bytes: ByteCounts { source: Some(bytes), copied: Some(10) },
            ..AccountStatus::default()
        }
    }

    fn status() -> Status {
        let migration = |name: &str, missing: &str| MigrationStatus {
            name: name.into(),
            missing: vec![MissingAccount { address: missing.into(), ..Default::default() }],
            ..MigrationStatus::default()
        };
        Status {
            accounts: vec![
                account("a@epap.it", "following", "", "", 30),
                account("b@epap.it", "copying", "unreachable", "2026-01-01T00:00:00Z", 20),
                account("c@fnofi.it", "completed", "over_quota", "2026-01-02T00:00:00Z", 40),
            ],
            missing: vec!["x@epap.it".into(), "y@fnofi.it".into()],
            migrations: vec![migration("epap", "x@epap.it"), migration("fnofi", "y@fnofi.it")],
            ..Status::default()
        }
    }

    #[test]
    fn sorted_by_each_key() {
        #[track_caller]
        fn check(key: SortKey, expected: &str) {
            let options = Options { sort: Some(key), ..Options::default() };
            let (status, _) = chosen(status(), &options);
            let order: String =
                status.accounts.iter().map(|account| &account.address[..1]).collect();
            assert_eq!(order, expected, "{key:?}");
        }
        check(SortKey::Address, "abc");
        check(SortKey::Migration, "abc");
        check(SortKey::Phase, "bac");
        check(SortKey::Condition, "bca");
        check(SortKey::Reason, "cba");
        check(SortKey::Since, "cba");
        check(SortKey::Cutover, "abc");
        check(SortKey::Remaining, "cab");
        check(SortKey::Bytes, "cab");
    }

    #[test]
    fn only_what_was_asked_for() {
        let options = Options { migration: Some("fnofi".into()), ..Options::default() };
        assert!(options.is_day());
        let (chosen_status, unknown) = chosen(status(), &options);
        assert_eq!(chosen_status.accounts.len(), 1);
        assert_eq!((chosen_status.missing, unknown), (vec!["y@fnofi.it".to_owned()], vec![]));

        let options = Options { migration: Some("fnof".into()), ..Options::default() };
        assert_eq!(chosen(status(), &options).1, ["fnof: no such migration"]);

        let addresses = vec!["X@epap.it".to_owned(), "z@epap.it".to_owned()];
        let options = Options { addresses, csv: true, ..Options::default() };
        let (chosen_status, unknown) = chosen(status(), &options);
        assert_eq!(unknown, ["z@epap.it: no such account"]);
        let missing: usize = chosen_status.migrations.iter().map(|m| m.missing.len()).sum();
        assert_eq!((chosen_status.accounts.len(), missing), (0, 1));

        let options = Options { held: true, csv: true, ..Options::default() };
        let (chosen_status, _) = chosen(status(), &options);
        let missing: usize = chosen_status.migrations.iter().map(|m| m.missing.len()).sum();
        assert_eq!((chosen_status.accounts.len(), missing), (2, 0));
    }
}
