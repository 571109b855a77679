//! What the enrollment page (`pecsync-portal`) is told: `[portal]` and `[migration.NAME.portal]`.
//! And what it may say: the rules of `conf.d/portal`, the one place it writes to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::load::Context;
use super::presets;
use super::problem::{Wrong, quoted};
use super::settings::Endpoint;
use super::table::Table;
use super::{files, hooks, keys, values};

/// Its directory below conf.d.
pub const DIRECTORY: &str = "portal";
/// The longest file the daemon takes from it.
pub const FILE_OCTETS_MAX: u64 = 16 << 10;

const LOGO_KINDS: [&str; 2] = ["png", "svg"];

/// All that is configured for the page.
#[derive(Clone, Debug, Default)]
pub struct Portal {
    pub service: Option<Service>,
    /// By migration.
    pub pages: BTreeMap<String, Pages>,
}

/// `[portal]`: the program.
#[derive(Clone, Debug)]
pub struct Service {
    /// Where it listens: for browsers with a certificate, else for a reverse proxy of this machine.
    pub listen: SocketAddr,
    pub certificate: Option<Certificate>,
    /// Where Prometheus asks; on this machine only.
    pub metrics_listen: Option<SocketAddr>,
    /// Where browsers find it: scheme, host, maybe a port, and the path, which ends in `/`.
    pub public_url: PublicUrl,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Where new passwords wait, sealed, for the hook.
    pub state_dir: PathBuf,
    /// Program and arguments that are told of each new password.
    pub new_password_hook: Option<Vec<String>>,
}

/// The PEM files with which the page speaks TLS itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Its own first, then those that lead to a root.
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// What stands in them.
pub struct CertificateTexts {
    pub chain: Zeroizing<Vec<u8>>,
    /// Wiped when dropped.
    pub key: Zeroizing<Vec<u8>>,
}

/// Of either file.
const PEM_OCTETS_MAX: u64 = 256 << 10;

impl Certificate {
    /// As they are now; or why they cannot be used, in words that tell nothing of what stands in
    /// them. Links are followed: those who renew certificates lay them. Blocking.
    pub fn read(&self) -> Result<CertificateTexts, String> {
        let read = |path| files::read_octets(path, PEM_OCTETS_MAX, true);
        let told = |name, path: &Path, wrong| format!("{name} {}: {wrong}", path.display());
        let found = |name, path| match read(path) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => {
                let wrong = Wrong::new("no such file", "create it, or correct its name");
                Err(told(name, path, wrong))
            }
            Err(unreadable) => Err(told(name, path, for_page(path, unreadable.wrong))),
        };
        let chain = found("certificate", &self.chain)?.octets;
        let key = found("certificate_key", &self.key)?;
        match key.others_read {
            true => {
                let wrong = files::others_read(&self.key, PRIVATE_KEY);
                Err(told("certificate_key", &self.key, wrong))
            }
            false => Ok(CertificateTexts { chain, key: key.octets }),
        }
    }
}

const PRIVATE_KEY: &str = "a private key";

/// It is the page that is to be let in, not the daemon.
fn for_page(path: &Path, wrong: Wrong) -> Wrong {
    match wrong.hint.starts_with("chown") {
        false => wrong,
        true => {
            let file = files::shell_word(path);
            Wrong::new(
                wrong.message,
                format!("chown root:pecsync-portal {file} && chmod 640 {file}"),
            )
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicUrl {
    /// `https://migrazione.example.it`, as browsers send it in `Origin`.
    pub origin: String,
    pub host: String,
    /// Begins and ends with `/`.
    pub path: String,
    pub is_https: bool,
}

/// `[migration.NAME.portal]`: what the page shows and asks for.
#[derive(Clone, Debug)]
pub struct Pages {
    pub title: String,
    pub logo: Option<PathBuf>,
    /// As users know the new provider.
    pub new_provider: String,
    pub contacts: bool,
    pub new_password: NewPassword,
    /// The provider's guide to switching two-factor off; with it, a notice comes first.
    pub two_factor: Option<String>,
    pub webmail: Option<String>,
    /// Paragraphs below the first step.
    pub notice: Vec<String>,
    /// Lines with what mail programs need after the cutover.
    pub client: Vec<String>,
    /// Lines that say who helps.
    pub help: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewPassword {
    /// It is not asked for.
    None,
    /// Always asked for; it may be the old one.
    Free,
    /// Asked for only where the old one breaks the policy.
    SameUnlessNoncompliant,
}

/// The file that asks for that (case-folded) address, and for no other.
pub fn file_name(address: &str) -> String {
    let digest = Sha256::digest(address);
    let hex: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{hex}.toml")
}

/// Below the page's state: where new passwords wait, sealed, for the hook.
pub const QUEUE: &str = "queue";
/// What waits, in the page's hands: a newer password takes the place of an older one.
pub const WAITING: &str = "json";
/// What the hook is told of, in its teller's hands. The page writes to no such file, so what is
/// removed once it was told is what was told.
pub const TELLING: &str = "telling";
pub const STATE_DIR: &str = "/var/lib/pecsync-portal";

/// Where a new password of that (case-folded) address waits, in the page's state.
pub fn queued(state_dir: &Path, address: &str) -> PathBuf {
    state_dir.join(QUEUE).join(file_name(address)).with_extension(WAITING)
}

/// Is it one that the page writes?
pub(super) fn is_portals(conf_dir: &Path, file: &Path) -> bool {
    file.parent() == Some(&*conf_dir.join(DIRECTORY))
}

/// Refuses in a file of the page's what an administrator alone may say.
pub(super) fn keep_within(root: &Table<'_>, file: &Path, address: Option<&str>) {
    let only = |table: &Table<'_>, keys: &[&str]| {
        for key in table.names().iter().filter(|key| !keys.contains(&key.value)) {
            let message = format!("{} may not stand in a file of the portal's", quoted(key.value));
            let hint = "an administrator's file goes into conf.d itself";
            table.wrong(&key.at, Wrong::new(message, hint));
        }
    };
    only(root, &["address", "migration", "source", "contact"]);
    let source = root.quietly("source");
    if let Some(source) = &source {
        only(source, &["sealed_password"]);
    }
    // A service login would stand in: it is not the portal's to say for whom.
    if source.is_none_or(|source| !source.has("sealed_password")) {
        let message = "\"sealed_password\" of the source is missing";
        let hint = "a file of the portal's holds a password that its owner typed";
        root.missing(Wrong::new(message, hint));
    }
    let Some(address) = address else { return };
    let name = file_name(address);
    if file.file_name().is_none_or(|own| own.to_string_lossy() != name) {
        let message = format!("a file of the portal's for {address} is called {name}");
        root.missing(Wrong::new(message, "remove it: the portal writes its files itself"));
    }
}

/// `[portal]`; `dir` is that of pecsync.toml.
pub(super) fn service(table: Option<&Table<'_>>, dir: &Path, context: &Context) -> Option<Service> {
    let table = table?;
    table.allow(&keys::PORTAL);
    if !table.has("public_url") {
        let hint = "add public_url = \"https://…/\", where browsers find the page";
        table.missing(Wrong::new("\"public_url\" is missing", hint));
    }
    let url = table.parsed("public_url", public_url);
    let certificate = certificate(table, dir, context);
    let listens = table.parsed("listen", |text| match table.has("certificate") {
        true => listen(text, "0.0.0.0:443"),
        false => {
            let hint = "add certificate and certificate_key, or write it like \"127.0.0.1:8465\"";
            listen_here(text, hint, "would have passwords sent over the network in the clear")
        }
    });
    if let Some(url) = url.as_ref().filter(|url| certificate.is_some() && !url.value.is_https) {
        let wrong = Wrong::new("the page speaks TLS itself", "write https:// in public_url");
        table.wrong(&url.at, wrong);
    }
    let metrics_listen = table.parsed("metrics_listen", |text| {
        listen_here(text, "write it like \"127.0.0.1:9465\"", "is not on this machine only")
    });
    let proxies = table.list("trusted_proxies", |text| {
        text.parse::<IpAddr>().map(|address| address.to_canonical()).map_err(|_| {
            Wrong::new(format!("{} is not an IP address", quoted(text)), "write it like \"::1\"")
        })
    });
    let state_dir = table.parsed("state_dir", |path| files::beside(dir, path));
    let hook = hooks::program(table, "new_password_hook");
    Some(Service {
        listen: listens.map_or(SocketAddr::from(([127, 0, 0, 1], 8465)), |found| found.value),
        certificate,
        metrics_listen: metrics_listen.map(|found| found.value),
        public_url: url?.value,
        trusted_proxies: proxies.unwrap_or_default().into_iter().map(|it| it.value).collect(),
        state_dir: state_dir.map_or_else(|| STATE_DIR.into(), |it| it.value),
        new_password_hook: hook,
    })
}

fn listen(text: &str, example: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        let message = format!("{} is not an address with a port", quoted(text));
        Wrong::new(message, format!("write it like {example:?}"))
    })
}

fn listen_here(text: &str, hint: &str, else_: &str) -> Result<SocketAddr, Wrong> {
    let address = listen(text, "127.0.0.1:8465")?;
    match address.ip().to_canonical().is_loopback() {
        true => Ok(address),
        false => Err(Wrong::new(format!("{} {else_}", quoted(text)), hint)),
    }
}

/// Both files or none. That they can be read is the page's matter: neither the daemon nor who asks
/// `pecsync check` is let in, maybe.
fn certificate(table: &Table<'_>, dir: &Path, context: &Context) -> Option<Certificate> {
    for (one, other) in [("certificate", "certificate_key"), ("certificate_key", "certificate")] {
        if table.has(one) && !table.has(other) {
            let wrong = Wrong::new(format!("{one:?} without {other:?}"), format!("add {other}"));
            table.wrong(&table.at_key(one), wrong);
        }
    }
    let file = |key: &str| table.parsed(key, |written| files::beside(dir, written));
    let (chain, key) = (file("certificate"), file("certificate_key"));
    if let Some(key) = key.as_ref().filter(|_| context.checking) {
        let mode = key.value.metadata().map_or(0, |facts| facts.permissions().mode());
        if mode & 0o004 != 0 {
            table.wrong(&key.at, files::others_read(&key.value, PRIVATE_KEY));
        }
    }
    Some(Certificate { chain: chain?.value, key: key?.value })
}

/// Passwords are typed into it: TLS, or this machine.
fn public_url(text: &str) -> Result<PublicUrl, Wrong> {
    let hint = "write it like \"https://migrazione.example.it/\"";
    let wrong = || Wrong::new(format!("{} is not the address of a page", quoted(text)), hint);
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((name, port)) => (name, Some(port.parse::<u16>().map_err(|_| wrong())?)),
        None => (authority, None),
    };
    let host = values::host(name).map_err(|_| wrong())?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    if !path.chars().all(fits) || path.contains("//") {
        return Err(wrong());
    }
    let is_https = scheme == "https";
    let stays_here = scheme == "http" && values::is_loopback(&host);
    if !is_https && !stays_here {
        let message = format!("{} would send passwords in the clear", quoted(text));
        return Err(Wrong::new(message, hint));
    }
    let default = if is_https { 443 } else { 80 };
    let port = port.filter(|port| *port != default).map(|port| format!(":{port}"));
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let path = path.trim_matches('/');
    Ok(PublicUrl {
        origin: format!("{scheme}://{shown}{}", port.unwrap_or_default()),
        host,
        path: if path.is_empty() { "/".to_owned() } else { format!("/{path}/") },
        is_https,
    })
}

/// `[migration.NAME.portal]` of a migration with that target.
pub(super) fn pages(table: &Table<'_>, dir: &Path, target: Option<&Endpoint>) -> Pages {
    table.allow(&keys::MIGRATION_PORTAL);
    let text = |key: &str| table.parsed(key, shown_text).map(|found| found.value);
    let lines = |key: &str| {
        let lines = table.list(key, shown_text)?;
        Some(lines.into_iter().map(|line| line.value).collect::<Vec<String>>())
    };
    let link = |key: &str| table.parsed(key, link).map(|found| found.value);
    let words = [
        ("none", NewPassword::None),
        ("free", NewPassword::Free),
        ("same-unless-noncompliant", NewPassword::SameUnlessNoncompliant),
    ];
    let new_password = table.parsed("new_password", |text| values::one_of(text, &words));
    let is_legalmail =
        target.is_some_and(|target| target.provider.as_deref() == Some(presets::LEGALMAIL.name));
    let new_provider = text("new_provider").unwrap_or_else(|| match (is_legalmail, target) {
        (true, _) => "InfoCert".to_owned(),
        (false, target) => target.map(|target| target.host.clone()).unwrap_or_default(),
    });
    let client = lines("client").unwrap_or_else(|| match is_legalmail {
        true => LEGALMAIL_CLIENT.map(str::to_owned).to_vec(),
        false => Vec::new(),
    });
    Pages {
        title: text("title").unwrap_or_else(|| new_provider.clone()),
        logo: table.parsed("logo", |written| logo(dir, written)).map(|found| found.value),
        new_provider,
        contacts: table.flag("contacts").unwrap_or(false),
        new_password: new_password.map_or(NewPassword::None, |found| found.value),
        two_factor: link("two_factor"),
        webmail: link("webmail"),
        notice: lines("notice").unwrap_or_default(),
        client,
        help: lines("help").unwrap_or_default(),
    }
}

/// What the guides tell users of Legalmail.
const LEGALMAIL_CLIENT: [&str; 4] = [
    "IMAP: mbox.cert.legalmail.it, 993, SSL/TLS",
    "POP3: mbox.cert.legalmail.it, 995, SSL/TLS",
    "SMTP: sendm.cert.legalmail.it, 465, SSL/TLS",
    "SMTP: sendm.cert.legalmail.it, 25, STARTTLS",
];

/// A new password that nobody is told of would be lost.
pub(super) fn keep_new_passwords(portal: &Portal) -> Result<(), Wrong> {
    let has_hook = portal.service.as_ref().is_none_or(|it| it.new_password_hook.is_some());
    let asking = portal.pages.iter().find(|(_, it)| it.new_password != NewPassword::None);
    match asking.filter(|_| !has_hook) {
        None => Ok(()),
        Some((name, _)) => {
            let message =
                format!("migration {name:?} asks for new passwords, which nobody is told");
            let hint = "add new_password_hook = [\"/path/of/a/program\"] under [portal]";
            Err(Wrong::new(message, hint))
        }
    }
}

fn shown_text(text: &str) -> Result<String, Wrong> {
    match text.trim().is_empty() || text.contains(char::is_control) {
        true => Err(Wrong::new("not a line of text", "write a line, or leave it out")),
        false => Ok(text.trim().to_owned()),
    }
}

fn link(text: &str) -> Result<String, Wrong> {
    let odd = |c: char| !c.is_ascii_graphic() || "\"'<>\\^`{|}".contains(c);
    match text.strip_prefix("https://").filter(|rest| !rest.is_empty() && !rest.contains(odd)) {
        Some(_) => Ok(text.to_owned()),
        None => {
            let message = format!("{} is not a link", quoted(text));
            Err(Wrong::new(message, "write it like \"https://guide.pec.it/…\""))
        }
    }
}

fn logo(dir: &Path, written: &str) -> Result<PathBuf, Wrong> {
    let path = files::beside(dir, written)?;
    let ending = path.extension().map(|ending| ending.to_string_lossy().into_owned());
    if !ending.is_some_and(|ending| LOGO_KINDS.contains(&ending.as_str())) {
        let message = format!("{} is no picture the page can show", quoted(written));
        return Err(Wrong::new(message, "write a file that ends in .png or .svg"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn it_is_the_page_that_is_let_in() {
        let path = Path::new("/etc/pecsync/portal-tls/privkey.pem");
        let hint =
            |kind: io::ErrorKind| for_page(path, files::cannot_read(path, &kind.into())).hint;
        assert_eq!(
            hint(io::ErrorKind::PermissionDenied),
            "chown root:pecsync-portal /etc/pecsync/portal-tls/privkey.pem && \
             chmod 640 /etc/pecsync/portal-tls/privkey.pem"
        );
        assert_eq!(hint(io::ErrorKind::NotFound), "create it, or correct its name");
    }
}
