//! Hands new passwords on to who sets them at the new provider: a hook, again and again until it
//! succeeds. It runs apart from the page, as another user, since it needs the daemon's private keys.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pecsync::config::portal::{NewPassword, file_name};
use pecsync::config::sealing::Login;
use pecsync::config::{Settings, address_of};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::server::log;
use crate::{CONFIGURATION, Refusal, enrolled};

const LOOKS_EVERY: Duration = Duration::from_secs(5);
const HOOK_WITHIN: Duration = Duration::from_secs(60);
const WAIT_LEAST: Duration = Duration::from_secs(30);
const WAIT_MOST: Duration = Duration::from_secs(3600);
const FILE_OCTETS_MAX: u64 = 16 << 10;

/// Works through the queue for ever, or, `once`, until each has been tried.
pub fn run(settings: &Settings, once: bool) -> Result<(), Refusal> {
    let service = settings.portal.service.as_ref();
    let Some((service, hook)) = service.and_then(|it| Some((it, it.new_password_hook.as_ref()?)))
    else {
        return Err((CONFIGURATION, "[portal] has no new_password_hook".to_owned()));
    };
    let queue = enrolled::queue(&service.state_dir);
    // Who waits: how long, and until when.
    let mut waits: BTreeMap<PathBuf, (Duration, Instant)> = BTreeMap::new();
    loop {
        let files =
            waiting(&queue).map_err(|error| (1, format!("{}: {error}", queue.display())))?;
        waits.retain(|file, _| files.contains(file));
        for file in files {
            if waits.get(&file).is_some_and(|(_, until)| Instant::now() < *until) {
                continue;
            }
            match hand_on(settings, hook, &file) {
                Ok(address) => {
                    waits.remove(&file);
                    log(&format!("{address}: the new password was handed on"));
                }
                Err(why) => {
                    let wait = waits.get(&file).map_or(WAIT_LEAST, |(wait, _)| *wait * 2);
                    let wait = wait.min(WAIT_MOST);
                    log(&format!("{}: {why}; again in {} s", file.display(), wait.as_secs()));
                    waits.insert(file, (wait, Instant::now() + wait));
                }
            }
        }
        if once {
            return match waits.is_empty() {
                true => Ok(()),
                false => Err((1, format!("{} new passwords wait", waits.len()))),
            };
        }
        std::thread::sleep(LOOKS_EVERY);
    }
}

fn waiting(queue: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(queue)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".json") && !name.starts_with('.') {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Gives the address.
fn hand_on(settings: &Settings, hook: &[String], file: &Path) -> Result<String, String> {
    let text = read(file).map_err(|error| error.to_string())?;
    let waiting: Value = serde_json::from_slice(&text).map_err(|_| "not JSON".to_owned())?;
    let field = |name: &str| waiting[name].as_str().ok_or_else(|| format!("no {name}"));
    let address = address_of(field("address")?).map_err(|wrong| wrong.to_string())?;
    if file.with_extension("toml").file_name() != Some(file_name(&address).as_ref()) {
        return Err(format!("it is not called as {address} would be"));
    }
    // The page's word alone sets no password: it may seal for anybody.
    if !may_tell(settings, field("migration")?, &address) {
        return Err(format!("no page takes a new password for {address}"));
    }
    let sealed = field("sealed_password")?;
    let opened = settings.keyring.open(sealed, &address, Login::Target);
    let password = opened.map_err(|wrong| wrong.to_string())?;
    if password.expose_secret().is_empty() {
        return Err("no private key opens it here".to_owned());
    }
    tell(hook, &told(&address, field("migration")?, &password), HOOK_WITHIN)?;
    // What was queued anew meanwhile is another file's content, and stays.
    if read(file).is_ok_and(|now| now == text) {
        fs::remove_file(file).map_err(|error| format!("handed on, but: {error}"))?;
    }
    Ok(address)
}

/// The page's directory: no link is followed, and nothing long is read.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(file)?;
    let facts = file.metadata()?;
    if !facts.is_file() || facts.len() > FILE_OCTETS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a small regular file"));
    }
    let mut octets = Vec::new();
    file.take(FILE_OCTETS_MAX).read_to_end(&mut octets)?;
    Ok(octets)
}

fn told(address: &str, migration: &str, password: &SecretString) -> Zeroizing<Vec<u8>> {
    // Room for every letter as an escape: a buffer that grows leaves copies behind.
    let room = 256 + 6 * (address.len() + migration.len() + password.expose_secret().len());
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    let mut put = |before: &str, value: &str| {
        text.extend_from_slice(before.as_bytes());
        serde_json::to_writer(&mut *text, value).expect("a string is JSON");
    };
    put("{\"schema\":1,\"event\":\"new_password\",\"address\":", address);
    put(",\"migration\":", migration);
    put(",\"new_password\":", password.expose_secret());
    text.extend_from_slice(b"}\n");
    text
}

/// Does the migration's page ask for new passwords, and is the address one of its domains?
fn may_tell(settings: &Settings, migration: &str, address: &str) -> bool {
    let asks = settings.portal.pages.get(migration);
    let asks = asks.is_some_and(|pages| pages.new_password != NewPassword::None);
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    let domains = settings.migrations.get(migration).map(|it| &it.domains);
    asks && domains.is_some_and(|domains| domains.iter().any(|one| one == domain))
}

/// Success is exit code 0 within the time. What it writes is not kept: it was told a password.
fn tell(hook: &[String], text: &[u8], within: Duration) -> Result<(), String> {
    let (program, arguments) = hook.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(arguments).env_remove("CREDENTIALS_DIRECTORY");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("the hook: {error}"))?;
    // It is short enough for a pipe: nobody waits for a hook that does not read.
    let told = child.stdin.take().map(|mut input| input.write_all(text));
    let ended = wait(&mut child, within);
    match (told, ended) {
        (_, None) => Err(format!("the hook was stopped after {} s", within.as_secs())),
        (Some(Err(error)), Some(_)) => Err(format!("the hook did not read: {error}")),
        (_, Some(Ok(status))) if status.success() => Ok(()),
        (_, Some(Ok(status))) => Err(format!("the hook ended with {status}")),
        (_, Some(Err(error))) => Err(format!("the hook: {error}")),
    }
}

fn wait(child: &mut Child, within: Duration) -> Option<io::Result<std::process::ExitStatus>> {
    let deadline = Instant::now() + within;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(Ok(status)),
            Err(error) => return Some(Err(error)),
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(None) => {
                // With whatever it has started: an older password is not set after a newer one.
                if let Ok(group) = libc::pid_t::try_from(child.id()) {
                    // SAFETY: it touches no memory; the group is the child's own, not yet waited for.
                    unsafe { libc::kill(-group, libc::SIGKILL) };
                }
                let _ = child.wait();
                return None;
            }
        }
    }
}
