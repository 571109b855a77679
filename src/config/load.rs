//! `pecsync.toml` and `migrations.d/*.toml` → [`Settings`], or every problem in them at once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::files::{self, Text};
use super::migration::{self, Read};
use super::portal::Portal;
use super::problem::{Problem, Sink, Wrong, quoted};
use super::sealing::Keyring;
use super::settings::{Daemon, Hooks, Limits, Migration, Settings};
use super::table::{self, Found, Table};
use super::{hooks, keys, limits, portal};

const FILE_OCTETS_MAX: u64 = 1 << 20;

/// What reading depends on besides the files.
#[derive(Clone, Debug)]
pub struct Context {
    pub now: Timestamp,
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    pub credentials: Option<PathBuf>,
    /// Somebody looks whether all is well, from a shell that has no credentials: that they
    /// cannot be read there is a warning.
    pub checking: bool,
    /// For the enrollment page, which is trusted with no login's password: none is looked for, and
    /// one that it could read is a problem.
    pub for_portal: bool,
}

impl Context {
    /// That of a daemon which reads its configuration now.
    pub fn of_daemon() -> Context {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Context { now: Timestamp::now(), credentials, checking: false, for_portal: false }
    }

    /// That of the enrollment page, which opens no sealed password.
    pub fn of_portal() -> Context {
        Context { credentials: None, checking: true, ..Context::of_provision() }
    }

    /// That of who hands new passwords on, and opens those.
    pub fn of_provision() -> Context {
        Context { for_portal: true, ..Context::of_daemon() }
    }
}

/// Reads all settings. Blocking: some small files.
///
/// Gives the settings with warnings, or all problems at once.
pub fn load(path: &Path) -> Result<(Settings, Vec<Problem>), Vec<Problem>> {
    load_in(path, &Context::of_daemon())
}

/// [`load`] at a given time.
pub fn load_in(path: &Path, context: &Context) -> Result<(Settings, Vec<Problem>), Vec<Problem>> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
    let mut loading = Loading::default();
    let main = loading.main_file(&path, &dir, context);
    let (keyring, warnings) = match context.for_portal && context.checking {
        true => (Keyring::believing(&dir), Vec::new()),
        false => Keyring::read(&dir, context),
    };
    loading.keyring = keyring;
    loading.warnings.extend(
        warnings.into_iter().map(|warning| Problem { file: shown(&dir, &warning.file), ..warning }),
    );
    for file in loading.migration_files(&dir.join("migrations.d"), &dir) {
        loading.migration_file(&file, &dir, context);
    }
    loading.finish(dir, main)
}

/// [`load_in`] for texts that stand in no file: pecsync.toml and one of migrations.d.
pub(super) fn load_texts(
    dir: &Path,
    main: &str,
    migrations: Option<&str>,
    context: &Context,
) -> Result<(Settings, Vec<Problem>), Vec<Problem>> {
    let mut loading = Loading::default();
    let (path, text) = (dir.join("pecsync.toml"), Text::private(main));
    let main = loading.main_text(&path, dir, &text, context);
    if let Some(text) = migrations {
        let path = dir.join("migrations.d/more.toml");
        loading.migration_text(&path, dir, &Text::private(text), context);
    }
    loading.finish(dir.to_owned(), main)
}

/// A file as the operator would name it.
pub(super) fn shown(dir: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(dir).unwrap_or(path).to_owned()
}

/// What pecsync.toml alone may say.
struct Main {
    daemon: Daemon,
    hooks: Hooks,
    limits: Limits,
    portal: Option<portal::Service>,
}

impl Main {
    fn of(root: Option<&Table<'_>>, dir: &Path, context: &Context) -> Main {
        let table = |key: &str| root.and_then(|root| root.table(key));
        Main {
            daemon: limits::daemon(table("daemon").as_ref(), dir),
            hooks: hooks::hooks(table("hooks").as_ref()),
            limits: limits::limits(table("limits").as_ref()),
            portal: portal::service(table("portal").as_ref(), dir, context),
        }
    }
}

#[derive(Default)]
struct Loading {
    migrations: BTreeMap<String, Arc<Migration>>,
    pages: BTreeMap<String, portal::Pages>,
    /// Where a migration or a domain was first seen.
    names: BTreeMap<String, String>,
    domains: BTreeMap<String, (String, String)>,
    keyring: Keyring,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Loading {
    fn main_file(&mut self, path: &Path, dir: &Path, context: &Context) -> Main {
        let Some(text) = self.read(path, dir) else { return Main::of(None, dir, context) };
        self.main_text(path, dir, &text, context)
    }

    fn main_text(&mut self, path: &Path, dir: &Path, text: &Text, context: &Context) -> Main {
        self.text(path, dir, text, |loading, root| {
            root.allow(&keys::TOP);
            loading.migrations_in(&root, dir, dir, context);
            Main::of(Some(&root), dir, context)
        })
    }

    fn migration_file(&mut self, path: &Path, dir: &Path, context: &Context) {
        if let Some(text) = self.read(path, dir) {
            self.migration_text(path, dir, &text, context);
        }
    }

    fn migration_text(&mut self, path: &Path, dir: &Path, text: &Text, context: &Context) {
        let own_dir = path.parent().unwrap_or(dir);
        self.text(path, dir, text, |loading, root| {
            for key in
                ["daemon", "hooks", "limits", "portal"].into_iter().filter(|key| root.has(key))
            {
                let message = format!("[{key}] stands in a file of migrations");
                let wrong = Wrong::new(message, "it belongs in pecsync.toml");
                root.wrong(&root.at_key(key), wrong);
            }
            root.allow(&keys::TOP);
            loading.migrations_in(&root, dir, own_dir, context);
        });
    }

    /// `migrations.d/*.toml` in the order of their names.
    fn migration_files(&mut self, dir: &Path, config_dir: &Path) -> Vec<PathBuf> {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                let wrong = files::cannot_read(dir, &error);
                self.problems.push(Problem::of_file(&shown(config_dir, dir), wrong));
                return Vec::new();
            }
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let names = names.filter(|name| name.ends_with(".toml") && !files::is_ignored(name));
        let mut paths: Vec<PathBuf> = names.map(|name| dir.join(name)).collect();
        paths.sort();
        paths
    }

    fn read(&mut self, path: &Path, dir: &Path) -> Option<Text> {
        let problem = match files::read_text(path, FILE_OCTETS_MAX, true) {
            Ok(Some(text)) => return Some(text),
            Ok(None) => {
                let wrong = files::cannot_read(path, &std::io::ErrorKind::NotFound.into());
                Problem::of_file(&shown(dir, path), wrong)
            }
            Err(unreadable) => unreadable.problem(&shown(dir, path)),
        };
        self.problems.push(problem);
        None
    }

    fn text<T>(
        &mut self,
        path: &Path,
        dir: &Path,
        Text { text, others_read, .. }: &Text,
        read: impl FnOnce(&mut Loading, Table<'_>) -> T,
    ) -> T {
        let name = shown(dir, path);
        let sink = Sink::new(&name, text);
        let value = table::read_document(&sink, text, |root| {
            if *others_read && holds_password(&root) {
                sink.wrong_file(files::others_read(path, "a file with a plain password"));
            }
            read(self, root)
        });
        let (problems, warnings) = sink.finish();
        self.problems.extend(problems);
        self.warnings.extend(warnings);
        value
    }

    fn migrations_in(
        &mut self,
        root: &Table<'_>,
        config_dir: &Path,
        dir: &Path,
        context: &Context,
    ) {
        let Some(migrations) = root.table("migration") else { return };
        for (name, table) in migrations.tables() {
            let read = migration::read(name, &table, config_dir, dir, context);
            let Read { name, domains, migration, pages, problems, warnings } = read;
            self.problems.extend(problems);
            self.warnings.extend(warnings);
            if let Some(first) = self.names.get(name.value) {
                let message = format!("migration {} is already in {first}", quoted(name.value));
                let wrong = Wrong::new(message, "give one of them another name, or remove it");
                root.wrong(&name.at, wrong);
                continue;
            }
            self.names.insert(name.value.to_owned(), place(root, &name.at));
            self.claim_domains(root, name.value, domains);
            if let Some(migration) = migration {
                self.pages.extend(pages.map(|pages| (migration.name.clone(), pages)));
                self.migrations.insert(migration.name.clone(), Arc::new(migration));
            }
        }
    }

    fn claim_domains(&mut self, root: &Table<'_>, migration: &str, domains: Vec<Found<String>>) {
        for Found { at, value: domain } in domains {
            match self.domains.get(&domain) {
                None => {
                    self.domains.insert(domain, (migration.to_owned(), place(root, &at)));
                }
                Some((other, first)) => {
                    let other = quoted(other);
                    let message = format!("{domain} already belongs to migration {other}, {first}");
                    let hint = "a domain is listed once: remove it from one of them";
                    root.wrong(&at, Wrong::new(message, hint));
                }
            }
        }
    }

    fn finish(
        mut self,
        dir: PathBuf,
        Main { daemon, hooks, limits, portal }: Main,
    ) -> Result<(Settings, Vec<Problem>), Vec<Problem>> {
        let main_file = Path::new("pecsync.toml");
        let portal = Portal { service: portal, pages: self.pages };
        if let Err(wrong) = portal::keep_new_passwords(&portal) {
            self.problems.push(Problem::of_file(main_file, wrong));
        }
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        if self.migrations.is_empty() {
            let hint = "add [migration.NAME] to it or to a file in migrations.d";
            let wrong = Wrong::new("no migration is configured", hint);
            self.warnings.push(Problem::of_file(main_file, wrong));
        }
        if !daemon.conf_dir.is_dir() {
            let message = format!("conf_dir {} is not a directory", daemon.conf_dir.display());
            let hint = format!("mkdir {}", files::shell_word(&daemon.conf_dir));
            self.warnings.push(Problem::of_file(main_file, Wrong::new(message, hint)));
        }
        let (migrations, keyring) = (self.migrations, self.keyring);
        Ok((Settings { dir, daemon, hooks, limits, migrations, portal, keyring }, self.warnings))
    }
}

/// `epap.toml:3:1`
fn place(root: &Table<'_>, at: &Range<usize>) -> String {
    let Problem { file, line, column, .. } = root.sink().placed(at, Wrong::new("", ""));
    format!("{}:{line}:{column}", file.display())
}

/// Whether a service login stands there with its password.
fn holds_password(root: &Table<'_>) -> bool {
    let migrations = root.quietly("migration").into_iter().flat_map(|table| table.all_quietly());
    let sides = migrations.flat_map(|table| ["source", "target"].map(|side| table.quietly(side)));
    let logins = sides.flatten().filter_map(|side| side.quietly("service_login"));
    logins.into_iter().any(|login| login.has("password"))
}
