//! `seal`: a password that only the daemon can read, for one address and side; and the keys.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::offline::Refusal;
use super::place::Place;
use super::prompt;
use super::terminal::{complain, say};
use crate::config::sealing::{self, Login};
use crate::config::{SealingKey, address_of};
use crate::daemon::protocol::exit;
use crate::journal::shown;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Whose password
    #[arg(required_unless_present = "new_key")]
    address: Option<String>,
    /// The target's password; without it, the source's
    #[arg(long)]
    target: bool,
    /// The archive's password
    #[arg(long, conflicts_with = "target")]
    archive: bool,
    /// Another key than the newest
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Makes a key pair; what is sealed from now on is sealed for it
    #[arg(long, conflicts_with_all = ["address", "target", "archive", "key"])]
    new_key: bool,
}

pub fn run(config: &Path, options: &Options) -> u8 {
    let said = match &options.address {
        None => new_key(config),
        Some(address) => seal(config, address, options),
    };
    match said {
        Ok(line) => {
            say(&line);
            exit::FINE
        }
        Err((code, text)) => {
            complain(&text);
            code
        }
    }
}

fn new_key(config: &Path) -> Result<String, Refusal> {
    let place = Place::of(config)?;
    let dir = directory(config);
    // systemd hands it to the daemon, so that it can be root's alone. Elsewhere the daemon's group
    // has to read it: that of the state's owner.
    let by_systemd = is_root() && Path::new("/run/systemd/system").exists();
    let group = place.state_dir.metadata().ok().map(|state| state.gid());
    let made = sealing::new_key(&dir, group.filter(|_| !by_systemd), Timestamp::now());
    let (name, file) =
        made.map_err(|error| (exit::NO, format!("{}: {error}", dir.join("keys").display())))?;
    let then = match by_systemd {
        true => {
            "the daemon is handed it when it starts, so: systemctl restart pecsync (or pecsync@NAME)"
        }
        false => "then: pecsync reload",
    };
    Ok(format!("key {name}: {} opens what is sealed; {then}", file.display()))
}

fn is_root() -> bool {
    // SAFETY: it takes and touches nothing.
    unsafe { libc::geteuid() == 0 }
}

fn seal(config: &Path, address: &str, options: &Options) -> Result<String, Refusal> {
    let address = address_of(address).map_err(|wrong| (exit::USAGE, wrong.to_string()))?;
    let key = key(config, options.key.as_deref())?;
    let login = match (options.target, options.archive) {
        (true, _) => Login::Target,
        (false, true) => Login::Archive,
        (false, false) => Login::Source,
    };
    let question = format!("Password of {} at the {login}", shown(&address));
    let password = prompt::password(&question, false)
        .map_err(|error| (exit::NO, format!("no password: {error}")))?;
    let sealed = key.seal(&password, &address, login);
    let sealed = sealed.map_err(|wrong| (exit::USAGE, wrong.to_string()))?;
    Ok(format!("sealed_password = \"{sealed}\""))
}

/// The newest, or the one of that name.
fn key(config: &Path, name: Option<&str>) -> Result<SealingKey, Refusal> {
    let keys = sealing::sealing_keys(&directory(config));
    let mut fitting = keys.into_iter().filter(|key| name.is_none_or(|name| key.name == name));
    fitting.next().ok_or_else(|| match name {
        Some(name) => (exit::NO, format!("there is no public key {}", shown(name))),
        None => (exit::NO, "there is no public key: pecsync seal --new-key".to_owned()),
    })
}

/// That of pecsync.toml.
pub fn directory(config: &Path) -> PathBuf {
    let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    config.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}
