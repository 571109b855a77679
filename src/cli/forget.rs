//! `forget`: erases enrollment, secrets and checkpoint of accounts, with or without a daemon.
//!
//! Files of conf.d are removed here, by whoever runs the command: the daemon may not write there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::offline::{self, Refusal};
use super::orders::unanswered;
use super::place::Place;
use super::terminal::{complain, say};
use crate::checkpoint::{Completed, Phase, Store};
use crate::config::{Belongings, belongings, portal, read_dir_files};
use crate::daemon::forget::without_daemon;
use crate::daemon::protocol::{Request, StatusOf, ask, exit};
use crate::journal::shown;

/// conf.d is read again first, a task may take seconds to stop, and a large account to be erased.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The account
    #[arg(required_unless_present = "completed", conflicts_with = "completed")]
    address: Option<String>,
    /// Every account that has completed
    #[arg(long)]
    completed: bool,
    /// Leave the proof of the move where it is
    #[arg(long)]
    keep_report: bool,
}

pub fn run(config: &Path, options: &Options) -> u8 {
    forget(config, options).unwrap_or_else(|(code, text)| {
        complain(&text);
        code
    })
}

fn forget(config: &Path, options: &Options) -> Result<u8, Refusal> {
    let place = Place::of(config)?;
    let state = State::ask(&place)?;
    let reads = read_dir_files(&place.conf_dir);
    let address = options.address.as_ref().map(|address| address.to_lowercase());
    let addresses = match &address {
        Some(address) => vec![address.clone()],
        None => state.completed(),
    };
    let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    let all: Vec<(&String, Belongings)> = addresses
        .iter()
        .map(|address| (address, belongings(&config, &place.conf_dir, &reads, address)))
        .collect();
    for (address, belongings) in &all {
        state.refuse_who_moves(address, belongings)?;
    }
    let mut left = 0;
    for (address, belongings) in &all {
        left += erase_files(belongings)?;
        // A new password of theirs that nobody was told yet.
        let queued = portal::queued(&place.portal_state_dir, address);
        remove(&queued.with_extension(portal::TELLING))?;
        remove(&queued)?;
    }
    let said = state.erase(&place, address, &addresses, options.keep_report)?;
    say(&said);
    Ok(if left == 0 { exit::FINE } else { exit::NO })
}

/// How far accounts have come, by address, as whoever works on the state tells.
struct State {
    phases: BTreeMap<String, String>,
    by_daemon: bool,
}

impl State {
    fn ask(place: &Place) -> Result<State, Refusal> {
        let wanted = StatusOf { brief: true, ..StatusOf::default() };
        let answer = match ask(&place.control_socket, &Request::Status(wanted), PATIENCE) {
            Ok(answer) => answer,
            Err(error) => {
                return match error.kind() {
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused => State::read(place),
                    _ => Err(unanswered(&place.control_socket, &error)),
                };
            }
        };
        let accounts = answer.status.unwrap_or_default().accounts.into_iter();
        let phases = accounts.map(|account| (account.address, account.phase)).collect();
        Ok(State { phases, by_daemon: true })
    }

    /// Of accounts on record as completed the record is believed: the checkpoint may be older.
    fn read(place: &Place) -> Result<State, Refusal> {
        let phases = with_store(place, |store| {
            let Some(store) = store else { return Ok(BTreeMap::new()) };
            let completed = Completed::open(&place.state_dir)?;
            let records = store.accounts()?.into_iter();
            let phases = records.map(|record| {
                let done = completed.get(&record.address).map(|done| done.phase);
                (record.address, done.unwrap_or(record.phase).as_str().to_owned())
            });
            Ok(phases.collect())
        })?;
        Ok(State { phases, by_daemon: false })
    }

    fn completed(&self) -> Vec<String> {
        let completed = self.phases.iter().filter(|(_, phase)| *phase == Phase::Completed.as_str());
        completed.map(|(address, _)| address.clone()).collect()
    }

    /// An account that is enrolled and has not ended is withdrawn first, by whoever withdraws it:
    /// one word must not stop a move and forget it.
    fn refuse_who_moves(&self, address: &str, belongings: &Belongings) -> Result<(), Refusal> {
        let over = [Phase::Completed, Phase::Closed].map(Phase::as_str);
        let phase = self.phases.get(address).map(String::as_str);
        if belongings.enrollments.is_empty() || phase.is_some_and(|phase| over.contains(&phase)) {
            return Ok(());
        }
        let files = belongings.enrollments.iter().chain(&belongings.secrets);
        let files: Vec<String> = files.map(|file| file.display().to_string()).collect();
        let (address, phase) = (shown(address), shown(phase.unwrap_or("enrolled")));
        let text = format!(
            "{address}: it is still to be moved ({phase}): withdraw it first, then forget it: \
             rm {}",
            files.join(" ")
        );
        Err((exit::NO, text))
    }

    /// Everything but the files of conf.d, which are gone by now. Gives what to say.
    fn erase(
        &self,
        place: &Place,
        address: Option<String>,
        addresses: &[String],
        keep_report: bool,
    ) -> Result<String, Refusal> {
        if self.by_daemon {
            let request = Request::Forget { address, keep_report };
            let answer = ask(&place.control_socket, &request, PATIENCE)
                .map_err(|error| unanswered(&place.control_socket, &error))?;
            return match answer.exit {
                exit::FINE => Ok(shown(&answer.message)),
                code => Err((code, shown(&answer.message))),
            };
        }
        let known = with_store(place, |store| {
            let Some(store) = store else { return Ok(0) };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(without_daemon(store, &place.state_dir, addresses, keep_report))
        })?;
        let said = match known {
            0 => "nothing was remembered".to_owned(),
            1 => "forgotten".to_owned(),
            count => format!("{count} accounts forgotten"),
        };
        Ok(match address {
            Some(address) => format!("{}: {said}", shown(&address)),
            None => said,
        })
    }
}

/// Opens the store that a daemon left behind, does something with it and closes it; `None` where
/// none was ever made. It is done as the daemon's user, so that root leaves no files of its own.
fn with_store<T>(
    place: &Place,
    work: impl FnOnce(Option<&Store>) -> io::Result<T>,
) -> Result<T, Refusal> {
    let state_dir = &place.state_dir;
    let failed = |error: io::Error| (exit::NO, shown(&error.to_string()));
    if !state_dir.exists() {
        return work(None).map_err(failed);
    }
    let done = offline::as_owner(state_dir, || match state_dir.join("checkpoint").exists() {
        true => work(Some(&offline::store(state_dir)?)).map_err(failed),
        false => work(None).map_err(failed),
    });
    done.unwrap_or_else(|error| Err((exit::NO, format!("{}: {error}", state_dir.display()))))
}

fn remove(path: &Path) -> Result<(), Refusal> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            let text = format!("{}: {error}; nothing more was erased", path.display());
            Err((exit::NO, text))
        }
        _ => Ok(()),
    }
}

/// Removes what is the account's alone and names what is left, of which it gives the number.
fn erase_files(belongings: &Belongings) -> Result<usize, Refusal> {
    for path in belongings.enrollments.iter().chain(&belongings.secrets) {
        remove(path)?;
    }
    for (path, why) in &belongings.left {
        complain(&format!("{} is left: {}", path.display(), shown(why)));
    }
    Ok(belongings.left.len())
}
