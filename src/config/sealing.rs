//! Sealed passwords: anybody who has a public key can write one, only who has the private key can
//! read it, and it opens for one address and one login only.
//!
//! HPKE (RFC 9180), mode base: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.
//! `sealed_password = "v1:KEY:DATA"`: KEY names the key pair, DATA is the base64 (RFC 4648, 5,
//! without padding) of the encapsulated key followed by the ciphertext. Associated data: address
//! and login (`source`, `archive`, `target`).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal,
};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::files::{self, Text};
use super::load::Context;
use super::problem::{Problem, Wrong, quoted};
use super::secrets;
use crate::words::Side;

type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

const INFO: &[u8] = b"pecsync sealed password v1";
const ENCAPPED_OCTETS: usize = 32;
const KEY_FILE_OCTETS_MAX: u64 = 1024;
const PRIVATE: &str = "pecsync-private-key";
const PUBLIC: &str = "pecsync-public-key";
/// When a key was made, in its file.
const MADE: &str = "%Y-%m-%dT%H:%M:%SZ";
/// Credentials of systemd's with this name; with one that begins with it and a dot; and the private
/// keys of a directory with this name, each of which is called `sealing-key_FILE`.
const CREDENTIAL: &str = "sealing-key";

/// For which login of an account a password is sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Login {
    Source,
    Archive,
    Target,
}

impl From<Side> for Login {
    fn from(side: Side) -> Login {
        match side {
            Side::Source => Login::Source,
            Side::Target => Login::Target,
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::Source => "source",
            Login::Archive => "archive",
            Login::Target => "target",
        })
    }
}

/// The private keys a daemon has, by name.
#[derive(Clone, Default)]
pub struct Keyring {
    keys: Arc<BTreeMap<String, PrivateKey>>,
    /// Somebody looks from a shell, which has no credentials: passwords sealed for these keys,
    /// whose public halves are there, are believed.
    believed: Arc<Vec<String>>,
}

/// What seals.
#[derive(Clone)]
pub struct SealingKey {
    pub name: String,
    /// RFC 3339.
    pub made: Timestamp,
    public: PublicKey,
}

/// Names only.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

/// Where key files lie: `keys/NAME.private` and `keys/NAME.public` beside pecsync.toml.
pub fn directory(config_dir: &Path) -> PathBuf {
    config_dir.join("keys")
}

impl Keyring {
    /// All keys of systemd's credentials and of `keys/`. A private key that cannot be read is a
    /// warning: whoever needs it says so.
    pub(super) fn read(config_dir: &Path, context: &Context) -> (Keyring, Vec<Problem>) {
        let mut keys = BTreeMap::new();
        let mut warnings = Vec::new();
        let handed = match &context.credentials {
            Some(dir) => listed(dir, is_handed),
            None => Vec::new(),
        };
        for path in &handed {
            match private_key(path, true) {
                Ok((name, key)) => drop(keys.insert(name, key)),
                Err(wrong) => warnings.push(Problem::of_file(path, wrong)),
            }
        }
        let believes = context.checking && context.credentials.is_none();
        let public = if believes { sealing_keys(config_dir) } else { Vec::new() };
        let believed: Vec<String> = public.into_iter().map(|key| key.name).collect();
        for path in listed(&directory(config_dir), |name| name.ends_with(".private")) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            // That it is root's alone is how it is meant to be.
            let denied = || {
                let error = fs::File::open(&path).err();
                error.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
            };
            match private_key(&path, false) {
                Ok((name, key)) => drop(keys.insert(name, key)),
                Err(_) if denied() && (keys.contains_key(&name) || believed.contains(&name)) => {}
                Err(_) if denied() && !handed.is_empty() => {
                    let message =
                        "made since the daemon was started, which is handed its keys then";
                    let wrong = Wrong::new(message, "systemctl restart pecsync");
                    warnings.push(Problem::of_file(&path, wrong));
                }
                Err(wrong) => warnings.push(Problem::of_file(&path, wrong)),
            }
        }
        (Keyring { keys: Arc::new(keys), believed: Arc::new(believed) }, warnings)
    }

    /// Believes what is sealed for the public keys that are there, and opens nothing.
    pub(super) fn believing(config_dir: &Path) -> Keyring {
        let believed = sealing_keys(config_dir).into_iter().map(|key| key.name).collect();
        Keyring { believed: Arc::new(believed), ..Keyring::default() }
    }

    /// The password in `sealed`, for that (case-folded) address and login.
    pub fn open(
        &self,
        sealed: &str,
        address: &str,
        login: impl Into<Login>,
    ) -> Result<SecretString, Wrong> {
        let login = login.into();
        let again = || format!("seal it anew: pecsync seal {address}{}", option_of(login));
        let mut parts = sealed.split(':');
        let (Some("v1"), Some(name), Some(data), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Wrong::new("not a sealed password: it begins with v1:KEY:", again()));
        };
        let Some(key) = self.keys.get(name) else {
            if self.believed.iter().any(|believed| believed == name) {
                return Ok(SecretString::from(String::new()));
            }
            let message = format!("sealed for the key {}, which is not here", quoted(name));
            let known: Vec<&str> = self.keys.keys().map(String::as_str).collect();
            let hint = match known.is_empty() {
                true => {
                    "no private key is here: see keys/ and LoadCredential= in the manual".into()
                }
                false => format!(
                    "keys here: {}; a new one: systemctl restart pecsync; or {}",
                    known.join(", "),
                    again()
                ),
            };
            return Err(Wrong::new(message, hint));
        };
        let damaged = || Wrong::new("the sealed password is damaged", again());
        let octets = BASE64.decode(data).map_err(|_| damaged())?;
        let (encapped, ciphertext) =
            octets.split_at_checked(ENCAPPED_OCTETS).ok_or_else(damaged)?;
        let encapped = EncappedKey::from_bytes(encapped).map_err(|_| damaged())?;
        let opened = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            key,
            &encapped,
            INFO,
            ciphertext,
            &associated(address, login),
        );
        let opened = Zeroizing::new(opened.map_err(|_| {
            let message = format!("not sealed for {address} and the {login}, or damaged");
            Wrong::new(message, again())
        })?);
        let text = std::str::from_utf8(&opened).map_err(|_| damaged())?;
        secrets::password(text).map(SecretString::from)
    }
}

impl SealingKey {
    /// A value for `sealed_password`, good for that (case-folded) address and login only.
    pub fn seal(
        &self,
        password: &SecretString,
        address: &str,
        login: impl Into<Login>,
    ) -> Result<String, Wrong> {
        let password = Zeroizing::new(secrets::password(password.expose_secret())?);
        let sealed = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &self.public,
            INFO,
            password.as_bytes(),
            &associated(address, login.into()),
        );
        let (encapped, ciphertext) =
            sealed.map_err(|error| Wrong::new(format!("sealing failed: {error}"), ""))?;
        let data = BASE64.encode([&encapped.to_bytes()[..], &ciphertext].concat());
        Ok(format!("v1:{}:{data}", self.name))
    }
}

fn associated(address: &str, login: Login) -> Vec<u8> {
    format!("{address}\0{login}").into_bytes()
}

fn option_of(login: Login) -> &'static str {
    match login {
        Login::Source => "",
        Login::Archive => " --archive",
        Login::Target => " --target",
    }
}

/// The public keys beside pecsync.toml, the newest first. What cannot be read is left out.
pub fn sealing_keys(config_dir: &Path) -> Vec<SealingKey> {
    let paths = listed(&directory(config_dir), |name| name.ends_with(".public"));
    let mut keys: Vec<SealingKey> = paths.iter().filter_map(|path| public_key(path)).collect();
    keys.sort_by(|a, b| (&b.made, &b.name).cmp(&(&a.made, &a.name)));
    keys
}

/// Makes a key pair in `keys/` and gives its name and the private key's file. `group` may read
/// that: the daemon's.
pub fn new_key(
    config_dir: &Path,
    group: Option<u32>,
    now: Timestamp,
) -> io::Result<(String, PathBuf)> {
    let (private, public) = X25519HkdfSha256::gen_keypair();
    let name = name_of(&public);
    let made = later_than_all(&sealing_keys(config_dir), now).strftime(MADE).to_string();
    let dir = directory(config_dir);
    fs::create_dir_all(&dir)?;
    let private_octets = Zeroizing::new(private.to_bytes().to_vec());
    let encoded = Zeroizing::new(BASE64.encode(&*private_octets));
    let line = Zeroizing::new(format!("{PRIVATE} v1 {name} {made} {}\n", *encoded));
    let private_file = dir.join(format!("{name}.private"));
    write_new(&private_file, line.as_bytes(), 0o600, group)?;
    let encoded = BASE64.encode(public.to_bytes());
    let line = format!("{PUBLIC} v1 {name} {made} {encoded}\n");
    write_new(&dir.join(format!("{name}.public")), line.as_bytes(), 0o644, None)?;
    fs::File::open(&dir)?.sync_all()?;
    Ok((name, private_file))
}

/// `now`, or the second after the newest of `keys`: two keys in one second, or a clock set back,
/// and the new one would not seal.
fn later_than_all(keys: &[SealingKey], now: Timestamp) -> Timestamp {
    let newest = keys.iter().map(|key| key.made).max();
    let next = newest.and_then(|made| made.checked_add(SignedDuration::from_secs(1)).ok());
    next.map_or(now, |next| next.max(now))
}

/// Is that the name of a credential which holds a private key?
fn is_handed(name: &str) -> bool {
    name.strip_prefix(CREDENTIAL).is_some_and(|rest| {
        rest.is_empty()
            || rest.starts_with('.')
            || (rest.starts_with('_') && rest.ends_with(".private"))
    })
}

/// Never in the place of a file that is there.
fn write_new(path: &Path, octets: &[u8], mode: u32, group: Option<u32>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(octets)?;
    // Only root can give it away.
    if group.is_some_and(|group| fchown(&file, None, Some(group)).is_ok()) {
        file.set_permissions(PermissionsExt::from_mode(mode | 0o040))?;
    }
    file.sync_all()
}

/// The first eight octets of the public key's SHA-256.
fn name_of(public: &PublicKey) -> String {
    let digest = Sha256::digest(public.to_bytes());
    digest[..8].iter().map(|octet| format!("{octet:02x}")).collect()
}

fn listed(dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut paths: Vec<PathBuf> =
        names.filter(|name| wanted(name)).map(|name| dir.join(name)).collect();
    paths.sort();
    paths
}

fn private_key(path: &Path, follow_links: bool) -> Result<(String, PrivateKey), Wrong> {
    let text = files::read_text(path, KEY_FILE_OCTETS_MAX, follow_links);
    let Text { text, others_read, .. } = match text {
        Ok(Some(text)) => text,
        Ok(None) => return Err(files::cannot_read(path, &io::ErrorKind::NotFound.into())),
        Err(unreadable) => return Err(unreadable.wrong),
    };
    // What systemd hands over is its affair.
    if others_read && !follow_links {
        return Err(files::others_read(path, "a private key"));
    }
    let wrong = || Wrong::new("not a private key of pecsync", "restore it, or make another one");
    let (name, _, octets) = fields(&text, PRIVATE).ok_or_else(wrong)?;
    let key = PrivateKey::from_bytes(&octets).map_err(|_| wrong())?;
    match name_of(&X25519HkdfSha256::sk_to_pk(&key)) == name {
        true => Ok((name, key)),
        false => Err(Wrong::new("a private key under another's name", "restore it")),
    }
}

fn public_key(path: &Path) -> Option<SealingKey> {
    let text = files::read_text(path, KEY_FILE_OCTETS_MAX, true).ok()??.text;
    let (name, made, octets) = fields(&text, PUBLIC)?;
    let made = made.parse().ok()?;
    let public = PublicKey::from_bytes(&octets).ok()?;
    (name_of(&public) == name).then_some(SealingKey { name, made, public })
}

/// `KIND v1 NAME MADE DATA`: name, made, octets.
fn fields(text: &str, kind: &str) -> Option<(String, String, Zeroizing<Vec<u8>>)> {
    let mut words = text.split_whitespace();
    if (words.next()?, words.next()?) != (kind, "v1") {
        return None;
    }
    let (name, made, data) = (words.next()?, words.next()?, words.next()?);
    let octets = Zeroizing::new(BASE64.decode(data).ok()?);
    words.next().is_none().then(|| (name.to_owned(), made.to_owned(), octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(dir: &Path) -> Keyring {
        let context = Context {
            now: Timestamp::UNIX_EPOCH,
            credentials: None,
            checking: false,
            for_portal: false,
        };
        let (keyring, warnings) = Keyring::read(dir, &context);
        assert!(warnings.is_empty(), "{warnings:?}");
        keyring
    }

    #[test]
    fn what_is_sealed_opens_for_its_address_and_side_only() {
        let dir = tempfile::tempdir().unwrap();
        let (name, _) = new_key(dir.path(), None, Timestamp::UNIX_EPOCH).unwrap();
        let key = &sealing_keys(dir.path())[0];
        let secret = SecretString::from("segreto àè".to_owned());
        let sealed = key.seal(&secret, "a@b.it", Side::Source).unwrap();
        assert!(sealed.starts_with(&format!("v1:{name}:")), "{sealed}");
        assert_ne!(sealed, key.seal(&secret, "a@b.it", Side::Source).unwrap(), "fresh each time");
        let keyring = keyring(dir.path());
        let opened = keyring.open(&sealed, "a@b.it", Side::Source).unwrap();
        assert_eq!(opened.expose_secret(), "segreto àè");
        let of_archive = key.seal(&secret, "a@b.it", Login::Archive).unwrap();
        assert!(keyring.open(&of_archive, "a@b.it", Login::Archive).is_ok());
        assert!(keyring.open(&of_archive, "a@b.it", Side::Source).is_err());
        assert!(keyring.open(&sealed, "a@b.it", Login::Archive).is_err());
        for (address, side) in [("a@b.it", Side::Target), ("c@b.it", Side::Source)] {
            assert!(keyring.open(&sealed, address, side).is_err(), "{address} {side}");
        }
        let mut damaged = sealed.clone();
        let last = if damaged.pop() == Some('A') { 'B' } else { 'A' };
        damaged.push(last);
        for bad in [damaged.as_str(), "", "v1", "v1:x:y", "v2:x:y", &sealed[..30], "v1:a:b:c"] {
            let wrong = keyring.open(bad, "a@b.it", Side::Source).unwrap_err();
            assert!(!wrong.to_string().contains("segreto"), "{wrong}");
        }
        let shown = format!("{keyring:?}");
        assert_eq!(shown, format!("{{\"{name}\"}}"));
    }

    #[test]
    fn keys_are_rotated_by_adding_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let (old, old_file) = new_key(dir.path(), None, at(100)).unwrap();
        let secret = SecretString::from("segreto".to_owned());
        let sealed = sealing_keys(dir.path())[0].seal(&secret, "a@b", Side::Target).unwrap();
        let (new, _) = new_key(dir.path(), None, at(200)).unwrap();
        let names: Vec<String> = sealing_keys(dir.path()).into_iter().map(|key| key.name).collect();
        assert_eq!(names, [new, old.clone()], "the newest seals");
        assert!(
            keyring(dir.path()).open(&sealed, "a@b", Side::Target).is_ok(),
            "the old one opens"
        );
        for second in [200, 150] {
            let (newest, _) = new_key(dir.path(), None, at(second)).unwrap();
            assert_eq!(sealing_keys(dir.path())[0].name, newest, "in its second, a clock set back");
        }
        fs::remove_file(old_file).unwrap();
        let wrong = keyring(dir.path()).open(&sealed, "a@b", Side::Target).unwrap_err();
        assert!(wrong.message.contains(&old), "{wrong}");

        // From a shell without credentials the public half is enough to believe it.
        let context = Context { now: at(0), credentials: None, checking: true, for_portal: false };
        let (checking, _) = Keyring::read(dir.path(), &context);
        assert!(checking.open(&sealed, "a@b", Side::Target).is_ok());
        assert!(checking.open("v1:unknown:x", "a@b", Side::Target).is_err());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_and_one_from_systemd_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (name, file) = new_key(dir.path(), None, Timestamp::UNIX_EPOCH).unwrap();
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let credentials = dir.path().join("credentials");
        fs::create_dir(&credentials).unwrap();
        fs::copy(&file, credentials.join("sealing-key.2")).unwrap();
        fs::copy(&file, credentials.join("sealing-keys")).unwrap();
        fs::write(credentials.join("sealing-key_x.public"), "no private key").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        let mut context = Context {
            now: Timestamp::UNIX_EPOCH,
            credentials: None,
            checking: false,
            for_portal: false,
        };
        let (keyring, warnings) = Keyring::read(dir.path(), &context);
        assert_eq!((format!("{keyring:?}").as_str(), warnings.len()), ("{}", 1));
        context.credentials = Some(credentials);
        let (keyring, warnings) = Keyring::read(dir.path(), &context);
        assert_eq!((format!("{keyring:?}"), warnings.len()), (format!("{{\"{name}\"}}"), 1));
    }

    /// As systemd hands over a directory: each file under its own name, and root's alone on disk.
    #[test]
    fn a_directory_of_keys_is_handed_over_whole() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = dir.path().join("credentials");
        fs::create_dir(&credentials).unwrap();
        let mut made = Vec::new();
        for second in [100, 200] {
            let at = Timestamp::from_second(second).unwrap();
            let (name, file) = new_key(dir.path(), None, at).unwrap();
            fs::rename(&file, credentials.join(format!("sealing-key_{name}.private"))).unwrap();
            made.push(name);
        }
        made.sort();
        let context = Context {
            now: Timestamp::UNIX_EPOCH,
            credentials: Some(credentials),
            checking: false,
            for_portal: false,
        };
        let (keyring, warnings) = Keyring::read(dir.path(), &context);
        assert!(warnings.is_empty(), "{warnings:?}");
        let names: Vec<&String> = keyring.keys.keys().collect();
        assert_eq!(names, made.iter().collect::<Vec<_>>());
    }
}
