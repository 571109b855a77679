//! `[migration.NAME]`: what all accounts of a domain share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::dates::{self, BareDay};
use super::load::Context;
use super::problem::{Problem, Wrong, quoted};
use super::settings::{Deletions, FolderRules, Migration, ReadBack, SyncRules};
use super::table::{Found, Table};
use super::{endpoint, keys, portal, roster, values};

const CUTOVER_WINDOW: Duration = Duration::from_secs(6 * 60 * 60);
/// How long the source stays open where `source_until` is left out.
const SOURCE_OPEN: SignedDuration = SignedDuration::from_hours(30 * 24);
const SWEEP_INTERVAL: Duration = Duration::from_secs(5 * 60);
const IN_DOUBT_WAIT: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A migration as its table gives it, and its domains with their places: whether another
/// migration has them too is for the caller to see.
pub(super) struct Read<'t> {
    pub name: Found<&'t str>,
    pub domains: Vec<Found<String>>,
    /// `None` if no endpoint could be made of it; the problem is in the sink.
    pub migration: Option<Migration>,
    /// What its enrollment page shows, if it has one.
    pub pages: Option<portal::Pages>,
    /// Of its file of accounts.
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// `dir` is that of the file, `config_dir` that of pecsync.toml.
pub(super) fn read<'t>(
    name: Found<&'t str>,
    table: &Table<'t>,
    config_dir: &Path,
    dir: &Path,
    context: &Context,
) -> Read<'t> {
    table.allow(&keys::MIGRATION);
    check_name(&name, table);
    let domains = domains(table);
    let (timezone, zone) = zone(table);
    let (enroll_from, enroll_until) = enrolling(table, &zone);
    let cutover = cutover(table, &zone, context);
    let source_until = source_until(table, &zone, cutover.as_ref());
    let mut archive = None;
    let source = match table.table("source") {
        Some(source) => {
            archive = source.table("archive");
            endpoint::read(&source, &keys::SOURCE, dir, context)
        }
        None if table.has("source") => None,
        None => {
            let hint = format!("add [migration.{}.source] with a host or a provider", name.value);
            table.missing(Wrong::new("the source is missing", hint));
            None
        }
    };
    let target = match table.table("target") {
        Some(target) => endpoint::read(&target, &keys::TARGET, dir, context),
        None => Some(endpoint::legalmail()),
    };
    let folders = table.table("folders");
    let folders = folders.map(|table| folder_rules(&table, &zone, cutover.is_some(), source_until));
    let folders = folders.unwrap_or_default();
    let archive = archive.and_then(|table| {
        keep_archives_useful(&table, &folders);
        endpoint::read(&table, &keys::ARCHIVE, dir, context)
    });
    let sync = sync(table.table("sync").as_ref());
    let span = |key, most| duration(table, key, Duration::ZERO, most);
    let cutover_window = span("cutover_window", 30 * DAY).unwrap_or(CUTOVER_WINDOW);
    let settle = span("settle", 90 * DAY).unwrap_or(Duration::ZERO);
    let target_is_ours = table.flag("target_is_ours").unwrap_or(false);
    let domain_names: Vec<String> = domains.iter().map(|domain| domain.value.clone()).collect();
    let accounts =
        table.parsed("accounts", |written| roster::read(config_dir, dir, written, &domain_names));
    let accounts = accounts.map(|found| found.value);
    let (accounts, problems, warnings) = match accounts {
        Some(read) => (Some(Arc::new(read.roster)), read.problems, read.warnings),
        None => (None, Vec::new(), Vec::new()),
    };
    let pages = table.table("portal");
    let pages = pages.map(|pages| portal::pages(&pages, dir, target.as_ref()));
    let migration = source.zip(target).map(|(source, target)| Migration {
        name: name.value.to_owned(),
        domains: domain_names,
        timezone,
        enroll_from,
        enroll_until,
        cutover: cutover.map(|cutover| cutover.value),
        cutover_window,
        settle,
        source_until,
        accounts,
        target_is_ours,
        source,
        target,
        folders,
        sync,
        archive: None,
    });
    let migration = migration.map(|migration| {
        let archive = archive.map(|archive| Arc::new(migration.of_archive(archive)));
        Migration { archive, ..migration }
    });
    Read { name, domains, migration, pages, problems, warnings }
}

/// Names go into journal fields, commands and file names.
fn check_name(name: &Found<&str>, table: &Table<'_>) {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.value.is_empty() || !name.value.chars().all(fits) || name.value.starts_with(['-', '.'])
    {
        let message = format!("{} cannot name a migration", quoted(name.value));
        table.wrong(&name.at, Wrong::new(message, "use letters, digits, \"-\" and \"_\""));
    }
}

fn domains(table: &Table<'_>) -> Vec<Found<String>> {
    let domains = table.list("domains", values::domain);
    if !table.has("domains") {
        let hint = "add domains = [\"…\"], the domains whose accounts are moved";
        table.missing(Wrong::new("\"domains\" is missing", hint));
    } else if domains.as_ref().is_some_and(Vec::is_empty) && table.sink().is_empty() {
        let hint = "write domains = [\"pec.epap.it\"]";
        table.wrong(&table.at_key("domains"), Wrong::new("domains: no domain", hint));
    }
    domains.unwrap_or_default()
}

fn zone(table: &Table<'_>) -> (String, TimeZone) {
    let named = |name: &str| Ok((name.to_owned(), dates::zone(name)?));
    match table.parsed("timezone", named) {
        Some(found) => found.value,
        None => {
            let zone = dates::zone(dates::DEFAULT_ZONE).expect("the time zones are built in");
            (dates::DEFAULT_ZONE.to_owned(), zone)
        }
    }
}

/// When enrollments are taken.
fn enrolling(table: &Table<'_>, zone: &TimeZone) -> (Option<Timestamp>, Option<Timestamp>) {
    let from = table.instant("enroll_from", zone, BareDay::FirstInstant);
    let until = table.instant("enroll_until", zone, BareDay::LastInstant);
    if let (Some(from), Some(until)) = (&from, &until)
        && until.value <= from.value
    {
        let wrong = Wrong::new("enroll_until is before enroll_from", "write a later day");
        table.wrong(&until.at, wrong);
    }
    (from.map(|from| from.value), until.map(|until| until.value))
}

fn cutover(table: &Table<'_>, zone: &TimeZone, context: &Context) -> Option<Found<Timestamp>> {
    let cutover = table.instant("cutover", zone, BareDay::FirstInstant)?;
    if cutover.value <= context.now {
        let message = format!("the cutover {} has passed", dates::in_zone(cutover.value, zone));
        let hint = "accounts that are enrolled now are copied once, and nothing is removed";
        table.sink().warn(&cutover.at, Wrong::new(message, hint));
    }
    Some(cutover)
}

fn source_until(
    table: &Table<'_>,
    zone: &TimeZone,
    cutover: Option<&Found<Timestamp>>,
) -> Option<Timestamp> {
    let Some(until) = table.instant("source_until", zone, BareDay::LastInstant) else {
        return cutover.and_then(|cutover| cutover.value.checked_add(SOURCE_OPEN).ok());
    };
    if let Some(cutover) = cutover
        && until.value < cutover.value
    {
        let message = format!("source_until is before the cutover, line {}", {
            table.sink().placed(&cutover.at, Wrong::new("", "")).line
        });
        let hint = "the last pass comes after the cutover: write a later day, or leave it out";
        table.wrong(&until.at, Wrong::new(message, hint));
    }
    Some(until.value)
}

fn folder_rules(
    table: &Table<'_>,
    zone: &TimeZone,
    has_cutover: bool,
    source_until: Option<Timestamp>,
) -> FolderRules {
    table.allow(&keys::FOLDERS);
    let patterns = |key| {
        let found = table.list(key, values::folder).unwrap_or_default();
        found.into_iter().map(|found| found.value).collect::<Vec<String>>()
    };
    let after_cutover = patterns("after_cutover");
    if !after_cutover.is_empty() && !has_cutover {
        let message = "the migration has no cutover after which these folders could be copied";
        let hint = "only accounts with a cutover of their own will have them copied";
        table.sink().warn(&table.at_key("after_cutover"), Wrong::new(message, hint));
    }
    let from = table.instant("after_cutover_from", zone, BareDay::FirstInstant);
    if let (Some(from), Some(until)) = (&from, source_until)
        && from.value > until
    {
        let message = format!("after_cutover_from is after source_until, {}", {
            dates::in_zone(until, zone)
        });
        let hint = "nothing is read from the source after that: write an earlier day";
        table.wrong(&from.at, Wrong::new(message, hint));
    }
    FolderRules {
        exclude: patterns("exclude"),
        after_cutover,
        after_cutover_from: from.map(|from| from.value),
        rename: table.table("rename").map(|table| rename(&table)).unwrap_or_default(),
        ..FolderRules::default()
    }
}

fn keep_archives_useful(table: &Table<'_>, folders: &FolderRules) {
    if folders.after_cutover.is_empty() {
        let message = "no folder is taken from the archive: after_cutover names none";
        let hint = "add after_cutover = [\"archive:**\"], or the folders wanted, under folders";
        table.missing(Wrong::new(message, hint));
    }
}

fn rename(table: &Table<'_>) -> BTreeMap<String, String> {
    let mut renames: BTreeMap<String, String> = BTreeMap::new();
    for source in table.names() {
        if let Err(wrong) = values::folder(source.value) {
            table.wrong(&source.at, wrong);
        }
        let Some(target) = table.parsed(source.value, values::folder) else { continue };
        if let Some((other, _)) = renames.iter().find(|(_, taken)| **taken == target.value) {
            let target = quoted(&target.value);
            let message =
                format!("{} and {} both become {target}", quoted(other), quoted(source.value));
            table.wrong(&source.at, Wrong::new(message, "give each folder a target of its own"));
        }
        renames.insert(source.value.to_owned(), target.value);
    }
    renames
}

fn sync(table: Option<&Table<'_>>) -> SyncRules {
    let defaults = SyncRules {
        deletions: Deletions::Mirror,
        sweep_interval: SWEEP_INTERVAL,
        idle: vec!["INBOX".to_owned()],
        read_back: ReadBack::Suspect,
        in_doubt_wait: IN_DOUBT_WAIT,
    };
    let Some(table) = table else { return defaults };
    table.allow(&keys::SYNC);
    let deletions = [("mirror", Deletions::Mirror), ("keep", Deletions::Keep)];
    let read_back =
        [("suspect", ReadBack::Suspect), ("all", ReadBack::All), ("off", ReadBack::Off)];
    let idle = table.list("idle", values::folder);
    SyncRules {
        deletions: word(table, "deletions", &deletions).unwrap_or(defaults.deletions),
        sweep_interval: duration(table, "sweep_interval", Duration::from_secs(1), DAY)
            .unwrap_or(defaults.sweep_interval),
        idle: idle.map_or(defaults.idle, |idle| idle.into_iter().map(|f| f.value).collect()),
        read_back: word(table, "read_back", &read_back).unwrap_or(defaults.read_back),
        in_doubt_wait: duration(table, "in_doubt_wait", Duration::ZERO, DAY)
            .unwrap_or(defaults.in_doubt_wait),
    }
}

fn word<T: Copy>(table: &Table<'_>, key: &str, words: &[(&str, T)]) -> Option<T> {
    Some(table.parsed(key, |text| values::one_of(text, words))?.value)
}

fn duration(table: &Table<'_>, key: &str, least: Duration, most: Duration) -> Option<Duration> {
    let show = |duration: Duration| match duration.as_secs() {
        0 => "\"0s\"".to_owned(),
        secs if secs % 86_400 == 0 => format!("\"{}d\"", secs / 86_400),
        _ => format!("\"{}s\"", duration.as_secs_f64()),
    };
    let parse = |text: &str| values::within(values::duration(text)?, least, most, show);
    Some(table.parsed(key, parse)?.value)
}
