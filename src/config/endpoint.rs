//! `[migration.NAME.source]` and `[migration.NAME.target]`: where to connect, and a service
//! login if there is one.

use std::ops::Range;
use std::path::Path;

use secrecy::SecretString;

use super::keys::{self, Keys};
use super::load::Context;
use super::presets::{self, Preset};
use super::problem::{Wrong, quoted};
use super::settings::{Endpoint, ServiceLogin, ServiceStyle, Tls};
use super::table::{Found, Table};
use super::{files, secrets, values};

const PORT_IMPLICIT: u16 = 993;
const PORT_CLEAR: u16 = 143;

/// Reads an endpoint; `None` if it has no host that could be connected to.
pub(super) fn read(
    table: &Table<'_>,
    keys: &Keys,
    dir: &Path,
    context: &Context,
) -> Option<Endpoint> {
    table.allow(keys);
    let preset = table.parsed("provider", provider);
    let preset_named = table.has("provider");
    let tls = table.parsed("tls", tls);
    let port = table.count("port", 1, u16::MAX.into());
    let ca_file = table.parsed("ca_file", |written| certificates(dir, written));
    let service_login = table.table("service_login");
    let service_login = service_login.and_then(|table| service_login_of(&table, dir, context));

    let preset = preset.map(|found| found.value);
    let host = match (table.parsed("host", values::host), preset) {
        (Some(host), _) => Some(host),
        (None, Some(preset)) => Some(Found { at: table.at.clone(), value: preset.host.to_owned() }),
        (None, None) => None,
    };
    if host.is_none() && !table.has("host") && !preset_named {
        table.missing(Wrong::new(
            "\"host\" is missing",
            format!("add host = \"…\", or provider = one of {}", presets::names()),
        ));
    }
    let host = host?;
    let tls_at = tls.as_ref().map_or(host.at.clone(), |tls| tls.at.clone());
    let tls = tls.map_or(Tls::Implicit, |tls| tls.value);
    keep_clear_text_local(table, tls, &tls_at, &host.value);
    Some(Endpoint {
        port: port.map_or(default_port(tls), |port| port.value as u16),
        tls,
        ca_file: ca_file.map(|path| path.value),
        service_login,
        ..endpoint_of(preset, host.value)
    })
}

/// The target where `[target]` is left out.
pub(super) fn legalmail() -> Endpoint {
    endpoint_of(Some(&presets::LEGALMAIL), presets::LEGALMAIL.host.to_owned())
}

fn endpoint_of(preset: Option<&'static Preset>, host: String) -> Endpoint {
    let well_known = preset.map_or(&[][..], |preset| preset.well_known);
    Endpoint {
        provider: preset.map(|preset| preset.name.to_owned()),
        host,
        port: PORT_IMPLICIT,
        tls: Tls::Implicit,
        ca_file: None,
        service_login: None,
        well_known: well_known.iter().map(|(usage, name)| (*usage, (*name).to_owned())).collect(),
    }
}

fn provider(name: &str) -> Result<&'static Preset, Wrong> {
    presets::by_name(name).ok_or_else(|| {
        let hint = format!("known presets: {}; for others write host = \"…\"", presets::names());
        Wrong::new(format!("unknown provider {}", quoted(name)), hint)
    })
}

fn tls(text: &str) -> Result<Tls, Wrong> {
    let words = [("implicit", Tls::Implicit), ("starttls", Tls::StartTls), ("none", Tls::None)];
    values::one_of(text, &words)
}

fn default_port(tls: Tls) -> u16 {
    match tls {
        Tls::Implicit => PORT_IMPLICIT,
        Tls::StartTls | Tls::None => PORT_CLEAR,
    }
}

/// The dialler looks at the peer's address again; here the mistake has a line.
fn keep_clear_text_local(table: &Table<'_>, tls: Tls, at: &Range<usize>, host: &str) {
    if tls == Tls::None && !values::is_loopback(host) {
        let message = format!("tls = \"none\" would send passwords to {host} in the clear");
        let hint = "write tls = \"implicit\" or \"starttls\"; \"none\" is for this machine only";
        table.wrong(at, Wrong::new(message, hint));
    }
}

fn certificates(dir: &Path, written: &str) -> Result<std::path::PathBuf, Wrong> {
    let path = files::beside(dir, written)?;
    match std::fs::File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => {
            let Wrong { message, hint } = files::cannot_read(&path, &error);
            Err(Wrong::new(format!("{} {message}", path.display()), hint))
        }
    }
}

fn service_login_of(table: &Table<'_>, dir: &Path, context: &Context) -> Option<ServiceLogin> {
    table.allow(&keys::SERVICE_LOGIN);
    if !table.has("user") {
        table.missing(Wrong::new("\"user\" is missing", "add user = \"…\", the service's login"));
    }
    let user = table.parsed("user", values::user);
    let password = password_of(table, dir, context);
    let style = style_of(table);
    Some(ServiceLogin { user: user?.value, password: password?, style })
}

fn style_of(table: &Table<'_>) -> ServiceStyle {
    let styles = [("authzid", false), ("master", true)];
    let style = table.parsed("style", |text| values::one_of(text, &styles));
    let is_master = style.is_some_and(|style| style.value);
    let separator = table.parsed("master_separator", separator);
    if !is_master && let Some(separator) = &separator {
        let wrong = Wrong::new("master_separator goes with style = \"master\"", "take it out");
        table.wrong(&separator.at, wrong);
    }
    match is_master {
        false => ServiceStyle::Authzid,
        true => {
            let separator = separator.map_or_else(|| "*".to_owned(), |found| found.value);
            ServiceStyle::Master { separator }
        }
    }
}

fn separator(text: &str) -> Result<String, Wrong> {
    match text.is_empty() || text.contains(|c: char| c.is_control() || c == '@') {
        true => Err(Wrong::new(format!("{} separates nothing", quoted(text)), "write \"*\"")),
        false => Ok(text.to_owned()),
    }
}

fn password_of(table: &Table<'_>, dir: &Path, context: &Context) -> Option<SecretString> {
    const KEYS: [&str; 3] = ["password", "password_file", "credential"];
    one_at_most(table, &KEYS);
    if context.for_portal {
        if table.has("password") {
            let message = "the portal can read this password, which is not for it";
            let hint = "put it into a password_file that only the daemon can read";
            table.wrong(&table.at_key("password"), Wrong::new(message, hint));
        }
        return Some(SecretString::from(String::new()));
    }
    if let Some(secret) = table.secret("password") {
        return Some(secret.value);
    }
    let from_file = |written: &str| secrets::password_file(dir, written);
    if let Some(secret) = table.parsed("password_file", from_file) {
        return Some(secret.value);
    }
    if let Some(Found { at, value: name }) = table.text("credential") {
        return credential(table, &at, name, context);
    }
    if !KEYS.iter().any(|key| table.has(key)) {
        let hint = "add exactly one of password_file, credential, password";
        table.missing(Wrong::new("the service login has no password", hint));
    }
    None
}

fn credential(
    table: &Table<'_>,
    at: &Range<usize>,
    name: &str,
    context: &Context,
) -> Option<SecretString> {
    match secrets::credential(context.credentials.as_deref(), name) {
        Ok(secret) => Some(secret),
        // `check` from a shell sees no credentials: only the service does.
        Err(Wrong { message, hint }) if context.credentials.is_none() && context.checking => {
            table.sink().warn(at, Wrong::new(format!("credential: {message}"), hint));
            Some(SecretString::from(String::new()))
        }
        Err(Wrong { message, hint }) => {
            table.wrong(at, Wrong::new(format!("credential: {message}"), hint));
            None
        }
    }
}

/// Of keys that exclude each other, every one after the first is refused.
pub(super) fn one_at_most(table: &Table<'_>, keys: &[&str]) {
    let mut present = keys.iter().filter(|key| table.has(key));
    let Some(first) = present.next() else { return };
    for second in present {
        let message = format!("both {first} and {second}");
        table.wrong(&table.at_key(second), Wrong::new(message, "keep one of them"));
    }
}
