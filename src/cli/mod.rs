//! The commands: one file each. argv becomes a `Command`, which becomes an exit code.

pub mod check;
mod connect;
mod day;
mod enroll;
mod forget;
mod numbers;
mod offline;
mod orders;
mod place;
mod plan;
mod prompt;
mod report;
mod seal;
mod sheet;
mod status;
mod table;
mod terminal;
mod verdict;
mod verify;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::daemon::protocol::{Consent, Request, Scope};
use crate::journal::{Output, shown_json};

/// Moves certified mailboxes (PEC) between two IMAP servers, each message exactly once.
#[derive(Parser, Debug)]
#[command(name = "pecsync", version, propagate_version = true)]
struct Cli {
    /// The settings; sockets and the state directory are found through them
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/pecsync/pecsync.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The daemon, in the foreground
    Run {
        /// Where entries go; default: journald when stderr is the journal, else readable lines
        #[arg(long, value_name = "WHERE")]
        log: Option<Log>,
    },
    /// Reads all configuration and prints every problem
    Check {
        /// Only these, as if they were dropped into conf.d
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Then logs in on both sides of every account, or of those in FILE, and says what stands
        /// in the way
        #[arg(long)]
        connect: bool,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// What each account is doing
    Status(status::Options),
    /// Wakes held or waiting accounts; consents to nothing
    Retry {
        /// The account
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        address: Option<String>,
        /// Every account
        #[arg(long)]
        all: bool,
    },
    /// Consents to what an account waits for
    Approve {
        /// The account
        address: String,
        /// What it waits for
        what: What,
    },
    /// Re-reads settings, migrations and enrollments; returns when done
    Reload,
    /// Does nothing more for accounts, also after a restart, until they are resumed
    Pause(Whom),
    /// Ends a pause
    Resume(Whom),
    /// Moves the cutover of an account or of a migration
    Cutover {
        #[command(flatten)]
        of: Which,
        /// At this instant
        #[arg(long, required_unless_present = "at", conflicts_with = "at")]
        now: bool,
        /// When, as in the configuration: local time of the migration without an offset
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// Returns sealed accounts to following: what is missing is added, nothing else
    Reopen(Which),
    /// Downloads the target and compares it with what was copied; 1 on differences
    Verify(verify::Options),
    /// Asks for the source's password, tries it once, and writes the enrollment
    Enroll(enroll::Options),
    /// Seals a password, so that only the daemon can read it; makes keys for that
    Seal(seal::Options),
    /// What the next pass would copy, flag, move and remove; changes nothing
    Plan(plan::Options),
    /// Erases enrollment, secrets and checkpoint of accounts that have ended or were withdrawn
    Forget(forget::Options),
    /// The proof of the move: counts, every message with how it was proved, one digest
    Report(report::Options),
}

/// An account, or all of a migration or host.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Whom {
    /// The account
    address: Option<String>,
    /// All accounts of the migration
    #[arg(long, value_name = "NAME")]
    migration: Option<String>,
    /// All accounts with that host on either side
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

/// An account, or all of a migration.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Which {
    /// The account
    address: Option<String>,
    /// All accounts of the migration
    #[arg(long, value_name = "NAME")]
    migration: Option<String>,
}

impl Whom {
    fn scope(self) -> Scope {
        match self.host {
            Some(host) => Scope::Host(host),
            None => Which { address: self.address, migration: self.migration }.scope(),
        }
    }
}

impl Which {
    fn scope(self) -> Scope {
        match (self.address, self.migration) {
            (_, Some(migration)) => Scope::Migration(migration),
            (address, None) => Scope::Account(address.unwrap_or_default()),
        }
    }
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum Log {
    /// With fields, for `journalctl`
    Journald,
    /// Readable lines
    Stderr,
    /// One JSON object a line, on stderr, with the fields of the journal
    Json,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum What {
    /// Remove at the target what vanished from the source in great number
    Deletions,
    /// Go on with another server or login than the checkpoint was made with
    Endpoint,
    /// Begin, or go on, after the cutover without a checkpoint (state_lost)
    Late,
    /// Move again an account that is on record as completed
    Completed,
}

/// The definition of the command line, of which its manual pages and completions are made.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    // Usage errors end here, with 2 and clap's words.
    let Cli { config, command } = Cli::parse();
    let code = match command {
        Command::Run { log } => {
            let output = match log {
                None => Output::fitting(),
                Some(Log::Journald) => Output::Journald,
                Some(Log::Stderr) => Output::Lines,
                Some(Log::Json) => Output::Json,
            };
            crate::daemon::run(&config, output)
        }
        Command::Check { files, connect, json } => checked(&config, &files, connect, json),
        Command::Status(options) => status::run(&config, &options),
        Command::Retry { address, .. } => orders::run(&config, &Request::Retry { address }),
        Command::Approve { address, what } => {
            let what = match what {
                What::Deletions => Consent::Deletions,
                What::Endpoint => Consent::Endpoint,
                What::Late => Consent::Late,
                What::Completed => Consent::Completed,
            };
            orders::run(&config, &Request::Approve { address, what })
        }
        Command::Reload => orders::run(&config, &Request::Reload {}),
        Command::Pause(whom) => orders::run(&config, &Request::Pause { of: whom.scope() }),
        Command::Resume(whom) => orders::run(&config, &Request::Resume { of: whom.scope() }),
        Command::Cutover { of, at, .. } => {
            orders::run(&config, &Request::Cutover { of: of.scope(), at })
        }
        Command::Reopen(which) => orders::run(&config, &Request::Reopen { of: which.scope() }),
        Command::Verify(options) => verify::run(&config, &options),
        Command::Enroll(options) => enroll::run(&config, &options),
        Command::Seal(options) => seal::run(&config, &options),
        Command::Plan(options) => plan::run(&config, &options),
        Command::Forget(options) => forget::run(&config, &options),
        Command::Report(options) => report::run(&config, &options),
    };
    ExitCode::from(code)
}

/// `check`, and what its flags add.
fn checked(config: &Path, files: &[PathBuf], connect: bool, json: bool) -> u8 {
    let found = check::look(config, files, jiff::Timestamp::now());
    if !json {
        // A pipe that closes early is the reader's decision, not an error.
        let _ = found.print(&mut io::stdout().lock(), &mut io::stderr().lock());
    }
    let (code, accounts) = match connect {
        true => connect::run(config, files, &found, json),
        false => (found.code(), serde_json::Value::Null),
    };
    if json {
        terminal::say(&shown_json(&found.json(&accounts, code).to_string()));
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn what_does_not_exist_yet_is_an_error() {
        #[track_caller]
        fn check(arguments: &str, good: bool) {
            let parsed = Cli::try_parse_from(arguments.split(' '));
            assert_eq!(parsed.is_ok(), good, "{arguments}: {parsed:?}");
        }
        check("pecsync run --log json", true);
        check("pecsync run --log syslog", false);
        check("pecsync --config /x status a@b c@d --json", true);
        check("pecsync status --config /x", true);
        check("pecsync status --json --watch", false);
        check("pecsync status --csv --migration epap", true);
        check("pecsync status --csv --json", false);
        check("pecsync status --sort bytes --held", true);
        check("pecsync status --sort beauty", false);
        check("pecsync check", true);
        check("pecsync check a.toml b.toml", true);
        check("pecsync check --connect", true);
        check("pecsync check a.toml --connect --json", true);
        check("pecsync retry a@b", true);
        check("pecsync retry --all", true);
        check("pecsync retry", false);
        check("pecsync retry a@b --all", false);
        check("pecsync approve a@b deletions", true);
        check("pecsync approve a@b everything", false);
        check("pecsync verify a@b --source --repair --json", true);
        check("pecsync verify --all", true);
        check("pecsync verify", false);
        check("pecsync verify a@b --all", false);
        check("pecsync report a@b", true);
        check("pecsync report --migration epap --format html --lang en", true);
        check("pecsync report", false);
        check("pecsync report a@b --migration epap", false);
        check("pecsync report a@b --format pdf", false);
        check("pecsync enroll a@b --password-stdin --target-user M1", true);
        check("pecsync enroll --csv f --dry-run", true);
        check("pecsync enroll", false);
        check("pecsync enroll a@b --csv f", false);
        check("pecsync enroll --csv f --no-policy", true);
        check("pecsync seal a@b --target", true);
        check("pecsync seal --new-key", true);
        check("pecsync seal", false);
        check("pecsync seal a@b --new-key", false);
        check("pecsync forget a@b --keep-report", true);
        check("pecsync forget --completed", true);
        check("pecsync forget", false);
        check("pecsync forget a@b --completed", false);
        check("pecsync plan a@b --json", true);
        check("pecsync plan", false);
        check("pecsync pause a@b", true);
        check("pecsync pause --migration epap", true);
        check("pecsync resume --host imap.it", true);
        check("pecsync pause", false);
        check("pecsync pause a@b --migration epap", false);
        check("pecsync pause --host imap.it --migration epap", false);
        check("pecsync cutover a@b --now", true);
        check("pecsync cutover --migration epap --at 2026-02-04T08:00", true);
        check("pecsync cutover a@b", false);
        check("pecsync cutover a@b --now --at 2026-02-04", false);
        check("pecsync cutover --host x --now", false);
        check("pecsync reopen --migration epap", true);
        check("pecsync", false);
    }
}
