//! Passwords from where they are kept: in the file, in a file of their own, or in a credential
//! of systemd's. No message repeats one.

use std::path::Path;

use secrecy::SecretString;

use super::files::{self, Text, Unreadable};
use super::problem::{Wrong, quoted};

const PASSWORD_OCTETS_MAX: u64 = 1024;

/// A password that could be sent at all.
pub(super) fn password(text: &str) -> Result<String, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new("an empty password", "write the password, or leave the key out"));
    }
    if text.len() as u64 > PASSWORD_OCTETS_MAX {
        return Err(Wrong::new("longer than 1 KiB", "is it the password?"));
    }
    match text.contains(['\r', '\n', '\0']) {
        true => Err(Wrong::new("a line break or NUL within the password", "take it out")),
        false => Ok(text.to_owned()),
    }
}

/// The password in a file of its own, one line, named by a file in `dir`.
pub(super) fn password_file(dir: &Path, written: &str) -> Result<SecretString, Wrong> {
    let path = files::beside_without_climbing(dir, written)?;
    if let Some(wrong) = files::link_below(dir, &path) {
        return Err(wrong);
    }
    let Text { text, others_read, .. } = read_secret(&path, false)?;
    if others_read {
        return Err(files::others_read(&path, "a file with a password"));
    }
    only_line(&path, &text)
}

/// A credential that systemd handed over (LoadCredential=), from $CREDENTIALS_DIRECTORY.
pub(super) fn credential(dir: Option<&Path>, name: &str) -> Result<SecretString, Wrong> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0', ':']) {
        let message = format!("{} is not the name of a credential", quoted(name));
        return Err(Wrong::new(message, "write the name given to LoadCredential="));
    }
    let Some(dir) = dir else {
        let message = "no credentials: the service was not started by systemd with any";
        return Err(Wrong::new(message, load_credential(name)));
    };
    let path = dir.join(name);
    // systemd's own directory: whatever stands there was put there by it.
    let Text { text, .. } = read_secret(&path, true).map_err(|wrong| match path.exists() {
        true => wrong,
        false => Wrong::new(format!("no credential {name:?}"), load_credential(name)),
    })?;
    only_line(&path, &text)
}

fn load_credential(name: &str) -> String {
    format!("add LoadCredential={name}:/path/to/the/file to the unit's [Service]")
}

fn read_secret(path: &Path, follow_links: bool) -> Result<Text, Wrong> {
    let named = |wrong: Wrong| match wrong.message.contains(&*path.to_string_lossy()) {
        true => wrong,
        false => Wrong::new(format!("{} {}", path.display(), wrong.message), wrong.hint),
    };
    match files::read_text(path, PASSWORD_OCTETS_MAX + 2, follow_links) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(named(files::cannot_read(path, &std::io::ErrorKind::NotFound.into()))),
        Err(Unreadable { wrong, .. }) => Err(named(wrong)),
    }
}

fn only_line(path: &Path, text: &str) -> Result<SecretString, Wrong> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains('\n') {
        let message = format!("{} holds more than one line", path.display());
        return Err(Wrong::new(message, "keep the password alone in it, on one line"));
    }
    password(line).map(SecretString::from).map_err(|Wrong { message, hint }| {
        Wrong::new(format!("{} holds {message}", path.display()), hint)
    })
}
