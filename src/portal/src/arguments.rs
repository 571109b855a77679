//! The command line; its manual page is made from it, too.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};

pub fn command() -> Command {
    let config = Arg::new("config")
        .long("config")
        .global(true)
        .value_name("FILE")
        .default_value("/etc/pecsync/pecsync.toml")
        .value_parser(value_parser!(PathBuf))
        .help("The settings");
    let once = Arg::new("once")
        .long("once")
        .action(ArgAction::SetTrue)
        .help("Ends once nothing can be done now");
    Command::new("pecsync-portal")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The page on which mailboxes are enrolled")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(config)
        .subcommand(Command::new("run").about("Serves the page"))
        .subcommand(
            Command::new("provision")
                .about("Tells the hook of new passwords that wait; needs the daemon's private keys")
                .arg(once),
        )
}
