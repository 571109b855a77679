//! `status`: what each account is doing, from the daemon or, without one, as last known.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::orders::unanswered;
use super::place::Place;
use super::table;
use super::terminal::{Style, complain, say, write};
use super::{verdict, watch};
use crate::daemon::last_state;
use crate::daemon::protocol::{Request, ask, exit, status_socket};
use crate::journal::{shown, shown_json};
use crate::status::Status;

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
    /// Redraw every second, with rates; Ctrl-C ends it
    #[arg(long, conflicts_with = "check")]
    pub watch: bool,
    /// For monitoring: one line, and exit 0 (well), 1 (somebody is needed) or 2 (critical)
    #[arg(long)]
    pub check: bool,
    /// Only accounts that are held
    #[arg(long)]
    pub held: bool,
    /// Only accounts of this migration
    #[arg(long, value_name = "NAME")]
    pub migration: Option<String>,
}

pub fn run(config: &Path, options: &Options) -> u8 {
    let asker = match Place::of(config) {
        Ok(place) => Asker { socket: status_socket(&place.control_socket), place },
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
}

impl Asker {
    /// An exit code and what to say where there is no answer.
    pub fn ask(&self) -> Result<Status, (u8, String)> {
        let answer = ask(&self.socket, &Request::Status {}, PATIENCE)
            .map_err(|error| unanswered(&self.socket, &error))?;
        answer.status.ok_or((exit::NO, shown(&answer.message)))
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
    for address in &unknown {
        complain(&format!("{}: no such account", shown(address)));
    }
    let code = if unknown.is_empty() || code != exit::FINE { code } else { exit::NO };
    if options.check {
        let (level, line) = verdict::verdict(&status, now);
        say(&line);
        return if unknown.is_empty() { level } else { level.max(1) };
    }
    if options.json {
        say(&shown_json(&serde_json::to_string_pretty(&status).unwrap_or_default()));
        return code;
    }
    let style = Style::of_stdout();
    let in_detail = !options.addresses.is_empty();
    write(&match in_detail {
        true => table::details(&status, style, now),
        false => table::overview(&status, options.held, style, now),
    });
    code
}

/// Only what was asked for; and the addresses that were asked for in vain.
pub fn chosen(mut status: Status, options: &Options) -> (Status, Vec<String>) {
    let wanted: Vec<String> =
        options.addresses.iter().map(|address| address.to_lowercase()).collect();
    let known = |address: &String| status.accounts.iter().any(|known| known.address == *address);
    let unknown = wanted.iter().filter(|address| !known(address)).cloned().collect();
    status.accounts.retain(|account| {
        (wanted.is_empty() || wanted.contains(&account.address))
            && (!options.held || account.condition == "held")
            && options.migration.as_ref().is_none_or(|name| account.migration == *name)
    });
    (status, unknown)
}
