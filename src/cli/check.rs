//! `pecsync check`: reads all configuration as the daemon would, prints every problem on stderr
//! and a summary on stdout, or all of it as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::config::{
    Context, Difference, Enrollment, FileRead, Migration, Problem, Settings, Snapshot, dates,
    load_in, read_dir_files, reconcile,
};

/// All is well.
const FINE: u8 = 0;
/// EX_CONFIG of sysexits.h.
const CONFIGURATION: u8 = 78;

/// What reading all configuration, or some files beside it, came to.
#[derive(Default)]
pub struct Found {
    /// Of pecsync.toml and migrations.d: with one of them nothing else was read.
    settings: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Of enrollments.
    enrollments: Vec<Problem>,
    /// What is said of names that conf.d would pass over.
    passed_over: Vec<String>,
    /// The files that were asked about and are fine.
    pub accepted: Vec<Arc<Enrollment>>,
    /// Unless it was asked about files.
    whole: Option<Whole>,
}

/// What all of conf.d comes to.
struct Whole {
    /// Accounts, rejected files.
    counts: [usize; 2],
    /// Plain, in files, sealed.
    passwords: [usize; 3],
    /// With their accounts.
    migrations: Vec<(Arc<Migration>, usize)>,
}

/// Checks everything, or `files` as if they were dropped into conf.d.
pub fn look(config: &Path, files: &[PathBuf], now: Timestamp) -> Found {
    let context = Context { now, checking: true, ..Context::of_daemon() };
    let (settings, warnings) = match load_in(config, &context) {
        Ok(loaded) => loaded,
        Err(settings) => return Found { settings, ..Found::default() },
    };
    let mut found = Found { warnings, ..Found::default() };
    match files {
        [] => look_at_all(&settings, &mut found),
        files => look_at(files, &settings, &mut found),
    }
    found
}

/// What would change if `files` were dropped into conf.d; those that are not there; and what is to be
/// said of names that conf.d would pass over.
pub fn dropped(
    files: &[PathBuf],
    settings: &Settings,
) -> (Vec<Difference>, Vec<Problem>, Vec<String>) {
    let (mut candidates, mut problems, mut passed_over) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        let path = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        if path.extension().is_none_or(|extension| extension != "toml") {
            passed_over.push(format!(
                "{}: in conf.d only names that end in .toml are read",
                file.display()
            ));
        }
        match FileRead::of_path(&path) {
            Some(read) => candidates.push(read),
            None => problems.push(no_such_file(file)),
        }
    }
    // One that is there already, or that bears the name of one, takes its place.
    let replaced: Vec<_> = candidates.iter().filter_map(|file| file.path.file_name()).collect();
    let others = || {
        let mut others = read_dir_files(&settings.daemon.conf_dir);
        others.retain(|other| other.path.file_name().is_none_or(|name| !replaced.contains(&name)));
        others
    };
    let known = BTreeMap::new();
    let (before, _) = reconcile(&Snapshot::default(), others(), settings, &known);
    let mut all = others();
    all.extend(candidates);
    let (_, differences) = reconcile(&before, all, settings, &known);
    (differences, problems, passed_over)
}

fn look_at(files: &[PathBuf], settings: &Settings, found: &mut Found) {
    let (differences, problems, passed_over) = dropped(files, settings);
    found.enrollments = problems;
    found.passed_over = passed_over;
    for difference in differences {
        match difference {
            Difference::Accepted(enrollment) | Difference::Replaced(enrollment) => {
                found.accepted.push(enrollment);
            }
            Difference::Rejected(problem) => found.enrollments.push(problem),
            Difference::Repeated(_) | Difference::Removed(_) => {}
        }
    }
}

fn look_at_all(settings: &Settings, found: &mut Found) {
    let files = read_dir_files(&settings.daemon.conf_dir);
    let passwords = files
        .iter()
        .map(FileRead::passwords)
        .fold([0; 3], |sums, passwords| std::array::from_fn(|kind| sums[kind] + passwords[kind]));
    let (snapshot, _) = reconcile(&Snapshot::default(), files, settings, &BTreeMap::new());
    let of = |migration: &Migration| {
        let accounts = snapshot.active().values();
        accounts.filter(|enrollment| enrollment.migration.name == migration.name).count()
    };
    let migrations = settings.migrations.values();
    let migrations = migrations.map(|migration| (migration.clone(), of(migration))).collect();
    let counts = [snapshot.active().len(), snapshot.rejected().count()];
    found.whole = Some(Whole { counts, passwords, migrations });
    found.enrollments = snapshot.problems().cloned().collect();
}

impl Found {
    /// 78 if there is any problem.
    pub fn code(&self) -> u8 {
        match self.settings.is_empty() && self.enrollments.is_empty() {
            true => FINE,
            false => CONFIGURATION,
        }
    }

    /// For people: a summary, and every problem.
    pub fn print(&self, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
        print(err, "warning: ", &self.warnings)?;
        self.passed_over.iter().try_for_each(|words| writeln!(err, "warning: {words}"))?;
        print(err, "", &self.settings)?;
        if !self.settings.is_empty() {
            let problems = count(self.settings.len(), "problem");
            return writeln!(out, "{problems}; enrollments were not checked");
        }
        if let Some(Whole { counts, passwords, migrations }) = &self.whole {
            let [plain, in_files, sealed] = passwords;
            writeln!(
                out,
                "{}, {}, {} rejected; \
                 passwords: {plain} plain, {in_files} in files, {sealed} sealed",
                count(migrations.len(), "migration"),
                count(counts[0], "enrollment"),
                counts[1],
            )?;
            for (migration, accounts) in migrations {
                let cutover = shown(migration.cutover, migration);
                let accounts = count(*accounts, "enrollment");
                writeln!(out, "{}: {accounts}, {cutover}", migration.name)?;
            }
        }
        for enrollment in &self.accepted {
            let (address, migration) = (&enrollment.address, &enrollment.migration);
            let cutover = shown(enrollment.cutover, migration);
            writeln!(out, "{address}: migration {}, {cutover}", migration.name)?;
        }
        print(err, "", &self.enrollments)
    }

    /// For programs: what is wrong with settings, and what with enrollments. `accounts` is what
    /// both servers said of each, and `code` what the command ends with.
    pub fn json(&self, accounts: &Value, code: u8) -> Value {
        let cutover = |cutover: Option<Timestamp>| cutover.map(|cutover| cutover.to_string());
        let whole = self.whole.as_ref().map(|Whole { counts, passwords, migrations }| {
            let [plain, in_files, sealed] = passwords;
            let migrations: Vec<Value> = migrations
                .iter()
                .map(|(migration, accounts)| {
                    let Migration { name, .. } = &**migration;
                    json!({ "name": name, "enrollments": accounts, "cutover": cutover(migration.cutover) })
                })
                .collect();
            json!({
                "enrollments": counts[0], "rejected": counts[1], "migrations": migrations,
                "passwords": { "plain": plain, "in_files": in_files, "sealed": sealed },
            })
        });
        let accepted: Vec<Value> = self
            .accepted
            .iter()
            .map(|it| json!({ "address": it.address, "migration": it.migration.name, "cutover": cutover(it.cutover) }))
            .collect();
        json!({
            "schema": 1,
            "exit": code,
            "settings": told(&self.settings),
            "warnings": told(&self.warnings),
            "enrollments": told(&self.enrollments),
            "accepted": accepted,
            "whole": whole,
            "accounts": accounts,
        })
    }
}

/// As `rejected` of `status --json` has them.
fn told(problems: &[Problem]) -> Vec<Value> {
    let told = |Problem { file, line, column, message, hint }: &Problem| {
        json!({
            "file": file.to_string_lossy(), "line": line, "column": column,
            "message": message, "hint": hint,
        })
    };
    problems.iter().map(told).collect()
}

fn no_such_file(file: &Path) -> Problem {
    let message = "cannot be read: no such file".to_owned();
    Problem { file: file.to_owned(), line: 0, column: 0, message, hint: String::new() }
}

/// By the clocks of the migration, and in UTC.
fn shown(cutover: Option<Timestamp>, migration: &Migration) -> String {
    let zone = TimeZone::get(&migration.timezone).unwrap_or(TimeZone::UTC);
    match cutover {
        Some(cutover) => {
            let local = dates::in_zone(cutover, &zone);
            format!("cutover {local} ({})", cutover.strftime("%Y-%m-%dT%H:%M:%SZ"))
        }
        None => "no cutover".to_owned(),
    }
}

fn print(err: &mut dyn Write, prefix: &str, problems: &[Problem]) -> io::Result<()> {
    problems.iter().try_for_each(|problem| writeln!(err, "{prefix}{problem}"))
}

fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}
