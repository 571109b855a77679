//! One file of `conf.d` → one [`Enrollment`], or every problem in it at once.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use secrecy::SecretString;

use super::dates::{self, BareDay};
use super::endpoint::one_at_most;
use super::load::shown;
use super::problem::{Problem, Sink, Wrong, nearest, quoted};
use super::sealing::Login;
use super::settings::{
    ArchiveLogin, Contact, Decree, Endpoint, Enrollment, Migration, ServiceStyle, Settings,
};
use super::table::{self, Table};
use super::{files, keys, portal, presets, secrets, values};

/// Where the password in a file of its own comes from.
pub(super) type PasswordFile<'a> = &'a dyn Fn(&str) -> Result<SecretString, Wrong>;

/// Reads an enrollment. Blocking where it names a `password_file`, which is read at once;
/// pure otherwise.
pub fn parse(file: &Path, text: &str, settings: &Settings) -> Result<Enrollment, Vec<Problem>> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let password_file = |written: &str| secrets::password_file(dir, written);
    Ok(parse_with(file, text, false, settings, &password_file)?.enrollment)
}

/// An enrollment and where its file says what nobody else may: for conflicts with other files.
pub(super) struct Parsed {
    pub enrollment: Enrollment,
    pub claimed_at: ClaimedAt,
}

/// Line and column of each claim, in the order of [`super::conflicts::Claim::all_of`].
pub(super) type ClaimedAt = [(usize, usize); 4];

/// [`parse`] with what is known of the file's permissions, and password files read before.
pub(super) fn parse_with(
    file: &Path,
    text: &str,
    others_read: bool,
    settings: &Settings,
    password_file: PasswordFile<'_>,
) -> Result<Parsed, Vec<Problem>> {
    let name = shown(&settings.dir, file);
    let sink = Sink::new(&name, text);
    let reading = Reading { file, others_read, settings, password_file };
    let enrollment = table::read_document(&sink, text, |root| {
        let enrollment = reading.enrollment(&root)?;
        Some(Parsed { enrollment, claimed_at: claimed_at(&root) })
    });
    match (enrollment, sink.finish().0) {
        (Some(parsed), problems) if problems.is_empty() => Ok(parsed),
        (_, problems) => {
            assert!(!problems.is_empty(), "{} is refused without a reason", name.display());
            Err(problems)
        }
    }
}

/// The account that a file asks for, as far as it can be read although the file is bad.
pub fn address_in(text: &str) -> Option<String> {
    let (document, _) = toml::de::DeTable::parse_recoverable(text);
    let address = document.get_ref().get("address")?.get_ref().as_str()?;
    values::address(address).ok()
}

/// What a file of the portal's says of its owner, to be used over an administrator's enrollment.
#[derive(Clone, Debug)]
pub struct Owner {
    pub address: String,
    pub migration: Arc<Migration>,
    pub source_password: SecretString,
}

impl Owner {
    /// Reads a file of the portal's for that alone: the rest of the enrollment is an
    /// administrator's. `None` where the file says what it may not, or not enough. Pure.
    pub fn parse(file: &Path, text: &str, settings: &Settings) -> Option<Owner> {
        let name = shown(&settings.dir, file);
        let sink = Sink::new(&name, text);
        let none = |_: &str| Err(Wrong::new("not the portal's to say", "remove it"));
        let reading = Reading { file, others_read: false, settings, password_file: &none };
        let owner = table::read_document(&sink, text, |root| reading.owner(&root));
        owner.filter(|_| sink.finish().0.is_empty())
    }
}

struct Reading<'r> {
    file: &'r Path,
    others_read: bool,
    settings: &'r Settings,
    password_file: PasswordFile<'r>,
}

impl Reading<'_> {
    fn enrollment(&self, root: &Table<'_>) -> Option<Enrollment> {
        root.allow(&keys::ENROLLMENT);
        let address = address(root);
        if portal::is_portals(&self.settings.daemon.conf_dir, self.file) {
            portal::keep_within(root, self.file, address.as_deref());
        }
        let migration = self.migration(root, address.as_deref());
        let contact = root.table("contact").map(|table| contact(&table)).unwrap_or_default();
        let side = |key: &str| root.table(key);
        let (source, target) = (side("source"), side("target"));
        if let Some(table) = &source {
            table.allow(&keys::ENROLLMENT_SOURCE);
        }
        if let Some(table) = &target {
            table.allow(&keys::ENROLLMENT_TARGET);
        }
        let (address, migration) = (address?, migration?);
        let zone = dates::zone(&migration.timezone).ok()?;
        let cutover = own_cutover(root, &zone, &migration).or(migration.cutover);
        let source_expires = source
            .as_ref()
            .and_then(|table| Some(table.instant("expires", &zone, BareDay::LastInstant)?.value));
        let source_user = user(source.as_ref()).unwrap_or_else(|| address.clone());
        let row = migration.accounts.as_ref().and_then(|accounts| accounts.get(&address));
        let listed_user = row.and_then(|row| row.target_user.clone());
        let target_user = match target.as_ref().filter(|target| target.has("user")) {
            Some(target) => user(Some(target)),
            None => {
                listed_user.or_else(|| target_user(root, target.as_ref(), &address, &migration))
            }
        };
        let contact = merged(contact, row.map(|row| &row.contact));
        let login = |login, table: &Option<Table<'_>>, endpoint: &Endpoint| {
            let service_login = endpoint.service_login.is_some();
            self.password(root, (&address, login), table.as_ref(), service_login)
        };
        let source_password = login(Login::Source, &source, &migration.source);
        let target_password = login(Login::Target, &target, &migration.target);
        let archive_table = archive_table(source.as_ref(), &migration);
        let archive = match (&archive_table, &migration.archive) {
            (Some(table), Some(archive)) => Some(ArchiveLogin {
                user: user(Some(table)).unwrap_or_else(|| address.clone()),
                password: login(Login::Archive, &archive_table, &archive.source),
            }),
            _ => None,
        };
        let enrollment = Enrollment {
            address,
            cutover,
            source_user,
            source_password,
            source_expires,
            target_user: target_user?,
            target_password,
            archive,
            is_archive: false,
            contact,
            file: self.file.to_owned(),
            owners_file: None,
            decree: Decree::default(),
            migration,
        };
        keep_sides_apart(root, &enrollment);
        Some(enrollment)
    }

    fn owner(&self, root: &Table<'_>) -> Option<Owner> {
        root.allow(&keys::ENROLLMENT);
        let address = address(root)?;
        portal::keep_within(root, self.file, Some(&address));
        let migration = self.migration(root, Some(&address))?;
        if let Some(table) = root.table("contact") {
            contact(&table);
        }
        let source = root.table("source");
        let password = self.password(root, (&address, Login::Source), source.as_ref(), false)?;
        Some(Owner { address, migration, source_password: password })
    }

    /// The one that is named, else the one the domain belongs to.
    fn migration(&self, root: &Table<'_>, address: Option<&str>) -> Option<Arc<Migration>> {
        let migrations = &self.settings.migrations;
        let Some(name) = root.text("migration") else {
            return self.migration_of_domain(root, address.filter(|_| !root.has("migration"))?);
        };
        let Some(migration) = migrations.get(name.value) else {
            let hint = match nearest(name.value, migrations.keys().map(String::as_str)) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("configured are: {}", listed(migrations.keys())),
            };
            let message = format!("unknown migration {}", quoted(name.value));
            root.wrong(&name.at, Wrong::new(message, hint));
            return None;
        };
        let domain = values::domain_of(address?);
        if !migration.domains.iter().any(|known| known == domain) {
            let message = format!("{domain} does not belong to migration {:?}", migration.name);
            let hint = format!("its domains are: {}", listed(&migration.domains));
            root.wrong(&name.at, Wrong::new(message, hint));
            return None;
        }
        Some(migration.clone())
    }

    fn migration_of_domain(&self, root: &Table<'_>, address: &str) -> Option<Arc<Migration>> {
        let domain = values::domain_of(address);
        let migrations = self.settings.migrations.values();
        let found = migrations.clone().find(|m| m.domains.iter().any(|known| known == domain));
        if found.is_none() {
            let known: Vec<&String> = migrations.flat_map(|m| &m.domains).collect();
            let hint = match known.is_empty() {
                true => "no migration is configured".to_owned(),
                false => format!("known domains are: {}", listed(known)),
            };
            let message = format!("{domain} belongs to no migration");
            let at = root.text("address").map_or(root.at.clone(), |address| address.at);
            root.wrong(&at, Wrong::new(message, hint));
        }
        found.cloned()
    }

    /// `None` where there is none, be it that a service login stands in or that it is a problem.
    fn password(
        &self,
        root: &Table<'_>,
        (address, login): (&str, Login),
        table: Option<&Table<'_>>,
        service_login: bool,
    ) -> Option<SecretString> {
        const KEYS: [&str; 3] = ["sealed_password", "password_file", "password"];
        let given = table.filter(|table| KEYS.iter().any(|key| table.has(key)));
        let Some(table) = given else {
            if !service_login {
                let message = format!("the {login} has no password");
                let under =
                    if login == Login::Archive { "source.archive" } else { &login.to_string() };
                let hint =
                    format!("add sealed_password, password_file or password under [{under}]");
                let nearest_table = table.unwrap_or(root);
                nearest_table.missing(Wrong::new(message, hint));
            }
            return None;
        };
        one_at_most(table, &KEYS);
        if table.has("password") && self.others_read {
            let wrong = files::others_read(self.file, "a file with a plain password");
            table.wrong(&table.at_key("password"), wrong);
        }
        let password = table.secret("password");
        let from_file = || table.parsed("password_file", self.password_file);
        let unseal = |sealed: &str| self.settings.keyring.open(sealed, address, login);
        let sealed = || table.parsed("sealed_password", unseal);
        Some(password.or_else(from_file).or_else(sealed)?.value)
    }
}

fn address(root: &Table<'_>) -> Option<String> {
    if !root.has("address") {
        let hint = "add address = \"…@…\", the account to be moved";
        root.missing(Wrong::new("\"address\" is missing", hint));
    }
    Some(root.parsed("address", values::address)?.value)
}

fn contact(table: &Table<'_>) -> Contact {
    table.allow(&keys::CONTACT);
    Contact {
        email: table.parsed("email", values::address).map(|email| email.value),
        phone: table.parsed("phone", values::phone).map(|phone| phone.value),
    }
}

fn own_cutover(root: &Table<'_>, zone: &TimeZone, migration: &Migration) -> Option<Timestamp> {
    let cutover = root.instant("cutover", zone, BareDay::FirstInstant)?;
    if let Some(until) = migration.source_until
        && cutover.value > until
    {
        let until = dates::in_zone(until, zone);
        let message = format!("the cutover is after source_until of the migration, {until}");
        let hint = "the last pass comes after the cutover: write an earlier one";
        root.wrong(&cutover.at, Wrong::new(message, hint));
    }
    Some(cutover.value)
}

fn user(table: Option<&Table<'_>>) -> Option<String> {
    Some(table?.parsed("user", values::user)?.value)
}

/// What the file says, else what is known of the account.
fn merged(contact: Contact, known: Option<&Contact>) -> Contact {
    let known = known.cloned().unwrap_or_default();
    Contact { email: contact.email.or(known.email), phone: contact.phone.or(known.phone) }
}

/// `[source.archive]`, where the migration says which server that is.
fn archive_table<'t>(source: Option<&Table<'t>>, migration: &Migration) -> Option<Table<'t>> {
    let table = source?.table("archive")?;
    table.allow(&keys::ENROLLMENT_ARCHIVE);
    if migration.archive.is_none() {
        let message = format!("migration {:?} has no archive", migration.name);
        let hint = format!("add [migration.{}.source.archive] there", migration.name);
        table.wrong(&table.at, Wrong::new(message, hint));
    }
    Some(table)
}

/// Where neither the file nor the migration's accounts name it: the address, unless the
/// provider's logins are codes.
fn target_user(
    root: &Table<'_>,
    table: Option<&Table<'_>>,
    address: &str,
    migration: &Migration,
) -> Option<String> {
    let endpoint = &migration.target;
    let preset = endpoint.provider.as_deref().and_then(presets::by_name);
    let by_address = endpoint.service_login.as_ref().is_some_and(|login| {
        // A master login appends itself to the account's own login, so it needs the code too.
        login.style == ServiceStyle::Authzid
    });
    match preset.filter(|preset| preset.login_is_a_code && !by_address) {
        None => Some(address.to_owned()),
        Some(preset) => {
            let message =
                format!("\"user\" of the target is missing: {} logins are codes", preset.name);
            let hint = match &migration.accounts {
                Some(_) => "add user = \"M…\" under [target], or its row to the accounts",
                None => "add user = \"M…\" under [target]",
            };
            table.unwrap_or(root).missing(Wrong::new(message, hint));
            None
        }
    }
}

/// An account that is its own target would copy itself into itself.
fn keep_sides_apart(root: &Table<'_>, enrollment: &Enrollment) {
    let (source, target) = (&enrollment.migration.source, &enrollment.migration.target);
    let source = ("source", source, &enrollment.source_user);
    let target = ("target", target, &enrollment.target_user);
    let mut pairs = vec![(source, target, "write the target's own login under [target]")];
    if let (Some(login), Some(migration)) = (&enrollment.archive, &enrollment.migration.archive) {
        let archive = ("archive", &migration.source, &login.user);
        let hint = "write the archive's own login under [source.archive]";
        pairs.extend([(source, archive, hint), (target, archive, hint)]);
    }
    for ((one, at_one, user), (other, at_other, other_user), hint) in pairs {
        let same_port = at_one.port == at_other.port || !values::is_loopback(&at_one.host);
        if at_one.host == at_other.host && same_port && user.eq_ignore_ascii_case(other_user) {
            let message = format!("{one} and {other} are both {user} at {}", at_one.host);
            root.wrong(&root.at, Wrong::new(message, hint));
        }
    }
}

fn listed<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
    names.join(", ")
}

/// A login that is not written out is claimed by the address.
fn claimed_at(root: &Table<'_>) -> ClaimedAt {
    let login = |table: Option<Table<'_>>| match table.filter(|table| table.has("user")) {
        Some(table) => table.at_key("user"),
        None => root.at_key("address"),
    };
    let source = root.table("source");
    let archive = source.as_ref().and_then(|source| source.table("archive"));
    let logins = [login(source), login(root.table("target")), login(archive)];
    let [source, target, archive] = logins;
    [root.at_key("address"), source, target, archive].map(|at| {
        let placed = root.sink().placed(&at, Wrong::new("", ""));
        (placed.line, placed.column)
    })
}

/// `[source] password_file` and its like of a file, to be read before it is parsed.
pub(super) fn password_files_in(text: &str) -> Vec<String> {
    of_all_logins(text, "password_file", |written| written.to_owned())
}

/// How many passwords the file holds by that key.
pub(super) fn passwords_in(text: &str, key: &str) -> usize {
    of_all_logins(text, key, |_| ()).len()
}

fn of_all_logins<T>(text: &str, key: &str, take: impl Fn(&str) -> T) -> Vec<T> {
    if !text.contains(key) {
        return Vec::new();
    }
    let (document, _) = toml::de::DeTable::parse_recoverable(text);
    let side = |name: &str| document.get_ref().get(name);
    let archive = side("source").and_then(|source| source.get_ref().get("archive"));
    let logins = [side("source"), archive, side("target")].into_iter().flatten();
    let values = logins.filter_map(|login| login.get_ref().get(key));
    values.filter_map(|value| value.get_ref().as_str()).map(take).collect()
}
