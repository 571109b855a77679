//! Hands new passwords on to who sets them at the new provider: a hook, again and again until it
//! succeeds. It runs apart from the page, as another user, since it needs the daemon's private keys.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pecsync::config::portal::{NewPassword, QUEUE, TELLING, WAITING, queued};
use pecsync::config::sealing::Login;
use pecsync::config::{Settings, address_of};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::server::log;
use crate::{CONFIGURATION, Refusal};

const LOOKS_EVERY: Duration = Duration::from_secs(5);
const HOOK_WITHIN: Duration = Duration::from_secs(60);
const WAIT_LEAST: Duration = Duration::from_secs(30);
const WAIT_MOST: Duration = Duration::from_secs(3600);
const FILE_OCTETS_MAX: u64 = 16 << 10;
/// Programs that run at once.
const TOLD_AT_ONCE_MAX: usize = 8;

/// Works through the queue for ever, or, `once`, until each has been tried.
pub fn run(settings: &Settings, once: bool) -> Result<(), Refusal> {
    let service = settings.portal.service.as_ref();
    let Some((service, hook)) = service.and_then(|it| Some((it, it.new_password_hook.as_ref()?)))
    else {
        return Err((CONFIGURATION, "[portal] has no new_password_hook".to_owned()));
    };
    let queue = service.state_dir.join(QUEUE);
    let cannot = |error: String| (1, format!("{}: {error}", queue.display()));
    // Two of us would tell an older password after a newer one.
    let alone = File::open(&queue).map_err(|error| cannot(error.to_string()))?;
    alone.try_lock().map_err(|_| cannot("another one works through it".to_owned()))?;
    let tell_one = |file: &Path| hand_on(settings, hook, file);
    thread::scope(|threads| {
        let (ended, ends) = mpsc::channel();
        let mut rounds = Rounds::default();
        loop {
            let files = waiting(&queue).map_err(|error| cannot(error.to_string()))?;
            for file in rounds.begin(&files, Instant::now()) {
                let (ended, tell_one) = (ended.clone(), &tell_one);
                threads.spawn(move || {
                    let outcome = claim(&file).and_then(|()| tell_one(&file));
                    // Nobody listens any more where the queue has gone.
                    let _ = ended.send((file, outcome));
                });
            }
            if once && rounds.told_now.is_empty() {
                return match rounds.waits.len() {
                    0 => Ok(()),
                    count => Err((1, format!("{count} new passwords wait"))),
                };
            }
            let first = ends.recv_timeout(LOOKS_EVERY).ok();
            for (file, outcome) in first.into_iter().chain(ends.try_iter()) {
                rounds.end(file, outcome, Instant::now());
            }
        }
    })
}

/// Who is told now, and who waits.
#[derive(Default)]
struct Rounds {
    told_now: BTreeSet<PathBuf>,
    /// How long, and until when.
    waits: BTreeMap<PathBuf, (Duration, Instant)>,
}

impl Rounds {
    /// Chooses whom to tell now. A program that hangs keeps its own address waiting: an older
    /// password is never told beside or after a newer one.
    fn begin(&mut self, files: &BTreeMap<PathBuf, bool>, now: Instant) -> Vec<PathBuf> {
        self.waits.retain(|file, _| files.contains_key(file));
        let due = files.iter().filter(|(file, is_new)| {
            let waits = self.waits.get(*file).is_some_and(|(_, until)| now < *until);
            !self.told_now.contains(*file) && (**is_new || !waits)
        });
        let free = TOLD_AT_ONCE_MAX.saturating_sub(self.told_now.len());
        let chosen: Vec<PathBuf> = due.map(|(file, _)| file.clone()).take(free).collect();
        self.told_now.extend(chosen.iter().cloned());
        chosen
    }

    fn end(&mut self, file: PathBuf, outcome: Result<String, String>, now: Instant) {
        self.told_now.remove(&file);
        match outcome {
            Ok(address) => {
                self.waits.remove(&file);
                log(&format!("{address}: the new password was handed on"));
            }
            Err(why) => {
                let wait = self.waits.get(&file).map_or(WAIT_LEAST, |(wait, _)| *wait * 2);
                let wait = wait.min(WAIT_MOST);
                log(&format!("{}: {why}; again in {} s", file.display(), wait.as_secs()));
                self.waits.insert(file, (wait, now + wait));
            }
        }
    }
}

/// The files to tell of, as they are called while that is done; and whether something new waits.
fn waiting(queue: &Path) -> io::Result<BTreeMap<PathBuf, bool>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(queue)? {
        let path = entry?.path();
        let is_hidden = path.file_name().unwrap_or_default().to_string_lossy().starts_with('.');
        let is_new = path.extension().is_some_and(|it| it == WAITING);
        if !is_hidden && (is_new || path.extension().is_some_and(|it| it == TELLING)) {
            *files.entry(path.with_extension(TELLING)).or_default() |= is_new;
        }
    }
    Ok(files)
}

/// Takes what waits out of the page's hands, in the place of an older one that nobody could be told.
fn claim(file: &Path) -> Result<(), String> {
    match fs::rename(file.with_extension(WAITING), file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// Gives the address.
fn hand_on(settings: &Settings, hook: &[String], file: &Path) -> Result<String, String> {
    let text = read(file).map_err(|error| error.to_string())?;
    let waiting: Value = serde_json::from_slice(&text).map_err(|_| "not JSON".to_owned())?;
    let field = |name: &str| waiting[name].as_str().ok_or_else(|| format!("no {name}"));
    let address = address_of(field("address")?).map_err(|wrong| wrong.to_string())?;
    if file.file_stem() != queued(Path::new(""), &address).file_stem() {
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
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("handed on, but: {error}"))
        }
        _ => Ok(address),
    }
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
                thread::sleep(Duration::from_millis(50));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_password_is_told_at_once_and_never_beside_an_older_one() {
        let (mut rounds, now) = (Rounds::default(), Instant::now());
        let (one, other) = (PathBuf::from("1.telling"), PathBuf::from("2.telling"));
        let files = |is_new| BTreeMap::from([(one.clone(), is_new), (other.clone(), false)]);
        assert_eq!(rounds.begin(&files(true), now), [one.clone(), other.clone()]);
        // The program hangs, and its owner comes back.
        assert!(rounds.begin(&files(true), now + WAIT_MOST).is_empty());
        rounds.end(one.clone(), Err("it hung".to_owned()), now);
        rounds.end(other.clone(), Err("it failed".to_owned()), now);
        assert_eq!(
            rounds.begin(&files(true), now),
            vec![one.clone()],
            "others wait for their time"
        );
        rounds.end(one.clone(), Err("it failed".to_owned()), now);
        assert!(rounds.begin(&files(false), now + WAIT_LEAST - Duration::from_secs(1)).is_empty());
        assert_eq!(
            rounds.begin(&files(false), now + WAIT_LEAST),
            vec![other.clone()],
            "half as long"
        );
        assert_eq!(rounds.begin(&files(false), now + 2 * WAIT_LEAST), [one]);
    }

    #[test]
    fn what_is_queued_while_an_older_one_is_told_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a.json"), "older").unwrap();
        fs::write(path(".a.json.x"), "half").unwrap();
        let (file, _) = waiting(dir.path()).unwrap().pop_first().unwrap();
        claim(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "older");
        fs::write(path("a.json"), "newer").unwrap();
        assert_eq!(waiting(dir.path()).unwrap(), BTreeMap::from([(file.clone(), true)]));
        fs::remove_file(&file).unwrap();
        assert_eq!(waiting(dir.path()).unwrap(), BTreeMap::from([(file.clone(), true)]));
        claim(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "newer");
        claim(&file).unwrap();
        assert_eq!(waiting(dir.path()).unwrap(), BTreeMap::from([(file, false)]));
    }
}
