//! The file that asks for an account: what the portal leaves behind in `conf.d/portal`. And where
//! new passwords wait for the hook.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pecsync::config::enrolling::{Line, Wanted};
use pecsync::config::enrollment::Owner;
use pecsync::config::portal::{DIRECTORY, FILE_OCTETS_MAX, file_name, queued};
use pecsync::config::{Contact, Settings, enrollment};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Where that address's file lies.
pub fn file(settings: &Settings, address: &str) -> PathBuf {
    settings.daemon.conf_dir.join(DIRECTORY).join(file_name(address))
}

/// Has the portal enrolled it? With the contacts it was given. Blocking.
pub fn known(settings: &Settings, address: &str) -> Option<Contact> {
    let path = file(settings, address);
    let text = fs::read_to_string(&path).ok()?;
    let enrollment = enrollment::parse(&path, &text, settings).ok();
    Some(enrollment.map(|enrollment| enrollment.contact).unwrap_or_default())
}

/// A digest of an enrollment: another enrollment has another.
pub type Mark = [u8; 32];

/// That of the portal's for the address, if there is one. Blocking.
pub fn mark(settings: &Settings, address: &str) -> Option<Mark> {
    fs::read(file(settings, address)).ok().map(|octets| Sha256::digest(octets).into())
}

/// Whose the rest of the enrollment is, besides the source's password.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    Own,
    Administrators,
}

/// The text of the file, if the daemon would take it.
pub fn text(
    settings: &Settings,
    address: &str,
    sealed: &str,
    (email, phone): (&Option<String>, &Option<String>),
    rest: Rest,
) -> Result<Zeroizing<String>, String> {
    let wanted = Wanted {
        address: address.to_owned(),
        // Stands for what is sealed already.
        source_password: Some(SecretString::from("")),
        email: email.clone(),
        phone: phone.clone(),
        ..Wanted::default()
    };
    let line = || Line { key: "sealed_password", value: Zeroizing::new(sealed.to_owned()) };
    let text = wanted.text(|_, _| Ok(line())).map_err(|wrong| wrong.to_string())?;
    if text.len() as u64 > FILE_OCTETS_MAX {
        return Err("the file would be too long".to_owned());
    }
    let file = file(settings, address);
    if rest == Rest::Administrators && Owner::parse(&file, &text, settings).is_some() {
        return Ok(text);
    }
    match enrollment::parse(&file, &text, settings) {
        Ok(_) => Ok(text),
        Err(problems) => Err(problems.first().map(ToString::to_string).unwrap_or_default()),
    }
}

/// When a file says that it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Time {
    Now,
    /// When the one was whose place it takes: who comes back has enrolled then. The daemon goes by it
    /// where it knows nothing else of an account, as to who came after the window or the cutover.
    Kept,
}

/// Whole or not at all, over what was there. Blocking.
pub fn write(path: &Path, octets: &[u8], time: Time) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Hidden, so that nobody takes half of it for an enrollment; of its own, should somebody
    // press the button twice.
    let draft = dir.join(format!(".{name}.{}", crate::token::new()));
    // The directory's group, that of the daemon, reads it.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&draft)?;
    let readable = file.set_permissions(PermissionsExt::from_mode(0o640));
    let dated = || match (time, fs::metadata(path).and_then(|facts| facts.modified())) {
        (Time::Kept, Ok(written)) => file.set_modified(written),
        _ => Ok(()),
    };
    let written = readable.and_then(|()| (&file).write_all(octets)).and_then(|()| dated());
    let written = written.and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&draft, path)) {
        let _ = fs::remove_file(&draft);
        return Err(error);
    }
    fs::File::open(dir)?.sync_all()
}

/// Lets a new password, sealed for the target, wait for the hook. A newer one takes the place of an
/// older one. Blocking.
pub fn queue_password(
    state_dir: &Path,
    migration: &str,
    address: &str,
    sealed: &str,
) -> io::Result<()> {
    let waiting = serde_json::json!({
        "address": address, "migration": migration, "sealed_password": sealed,
    });
    write(&queued(state_dir, address), waiting.to_string().as_bytes(), Time::Now)
}
