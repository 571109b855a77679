//! `pecsync check`: reads all configuration as the daemon would, prints every problem on stderr
//! and a summary on stdout.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::{
    Context, Difference, FileRead, Migration, Problem, Settings, Snapshot, dates, load_in,
    read_dir_files, reconcile,
};

/// All is well.
const FINE: u8 = 0;
/// EX_CONFIG of sysexits.h.
const CONFIGURATION: u8 = 78;

/// Checks everything, or `files` as if they were dropped into conf.d. Gives the exit code.
pub fn run(config: &Path, files: &[PathBuf], now: Timestamp) -> u8 {
    // A pipe that closes early is the reader's decision, not an error.
    check(config, files, now, &mut io::stdout().lock(), &mut io::stderr().lock()).unwrap_or(FINE)
}

/// [`run`] with its outputs given.
pub fn check(
    config: &Path,
    files: &[PathBuf],
    now: Timestamp,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let context = Context { now, checking: true, ..Context::of_daemon() };
    let (settings, warnings) = match load_in(config, &context) {
        Ok(loaded) => loaded,
        Err(problems) => {
            print(err, "", &problems)?;
            writeln!(out, "{}; enrollments were not checked", count(problems.len(), "problem"))?;
            return Ok(CONFIGURATION);
        }
    };
    print(err, "warning: ", &warnings)?;
    let problems = match files {
        [] => check_all(&settings, out)?,
        files => check_files(&settings, files, out, err)?,
    };
    print(err, "", &problems)?;
    Ok(if problems.is_empty() { FINE } else { CONFIGURATION })
}

fn check_all(settings: &Settings, out: &mut dyn Write) -> io::Result<Vec<Problem>> {
    let files = read_dir_files(&settings.daemon.conf_dir);
    let [plain, in_files, sealed] = files
        .iter()
        .map(FileRead::passwords)
        .fold([0; 3], |sums, passwords| std::array::from_fn(|kind| sums[kind] + passwords[kind]));
    let (snapshot, _) = reconcile(&Snapshot::default(), files, settings, &BTreeMap::new());
    let rejected = snapshot.rejected().count();
    writeln!(
        out,
        "{}, {}, {rejected} rejected; passwords: {plain} plain, {in_files} in files, {sealed} sealed",
        count(settings.migrations.len(), "migration"),
        count(snapshot.active().len(), "enrollment"),
    )?;
    for migration in settings.migrations.values() {
        let accounts = snapshot.active().values();
        let accounts = accounts.filter(|e| e.migration.name == migration.name).count();
        let cutover = shown(migration.cutover, migration);
        writeln!(out, "{}: {}, {cutover}", migration.name, count(accounts, "enrollment"))?;
    }
    Ok(snapshot.problems().cloned().collect())
}

/// Files as they would be beside the others; one that is there already, or that bears the name
/// of one, takes its place.
fn check_files(
    settings: &Settings,
    files: &[PathBuf],
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let mut candidates = Vec::new();
    for file in files {
        let path = std::path::absolute(file)?;
        if path.extension().is_none_or(|extension| extension != "toml") {
            let name = file.display();
            writeln!(err, "warning: {name}: in conf.d only names that end in .toml are read")?;
        }
        match FileRead::of_path(&path) {
            Some(read) => candidates.push(read),
            None => problems.push(no_such_file(file)),
        }
    }
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
    for difference in differences {
        match difference {
            Difference::Accepted(enrollment) | Difference::Replaced(enrollment) => {
                let (address, migration) = (&enrollment.address, &enrollment.migration);
                let cutover = shown(enrollment.cutover, migration);
                writeln!(out, "{address}: migration {}, {cutover}", migration.name)?;
            }
            Difference::Rejected(problem) => problems.push(problem),
            Difference::Removed(_) => {}
        }
    }
    Ok(problems)
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
