//! What must hold whatever stands in a file of the configuration.

use std::path::Path;
use std::sync::OnceLock;

use secrecy::{ExposeSecret, SecretString};

use super::enrolling::{self, Line};
use super::enrollment;
use super::load::{Context, load_texts};
use super::problem::{PROBLEMS_PER_FILE_MAX, Problem, Wrong};
use super::settings::Settings;

/// The halves of the corpus' password: their like is in no message of ours.
const PASSWORD: [&str; 2] = ["Zq7Xk", "hunter2"];

/// Between pecsync.toml and a file of migrations.d.
const DIVIDER: &str = "\n%%\n";

/// pecsync.toml and, behind a line of `%%`, a file of migrations.d: settings, or problems that
/// have a place and tell no password.
pub fn settings(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let files: Vec<&str> = text.splitn(2, DIVIDER).collect();
    let dir = Path::new("/nonexistent/pecsync");
    match load_texts(dir, files[0], files.get(1).copied(), &context()) {
        Ok((settings, warnings)) => {
            check_told(text, &format!("{settings:?}"));
            check_settings(&settings);
            check_problems(text, &files, &warnings);
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(problems.len() <= 2 * (PROBLEMS_PER_FILE_MAX + 1), "{}", problems.len());
            check_problems(text, &files, &problems);
        }
    }
}

/// A file of conf.d: an account, or problems that have a place and tell no password. The same text
/// as a table of accounts that are to be enrolled: rows whose file says what they say.
pub fn enrollment(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    rows(text);
    let settings = settings_of_corpus();
    let file = settings.dir.join("conf.d/m.toml");
    let password_file = |written: &str| match written.is_empty() {
        true => Err(Wrong::new("no such file", "")),
        false => Ok(SecretString::from(PASSWORD.concat())),
    };
    match enrollment::parse_with(&file, text, false, settings, &password_file) {
        Ok(parsed) => {
            let account = parsed.enrollment;
            check_told(text, &format!("{account:?}"));
            assert_eq!(enrollment::address_in(text).as_ref(), Some(&account.address));
            assert_eq!(account.address, account.address.to_lowercase());
            assert!(account.migration.domains.iter().any(|d| account.address.ends_with(d)));
            assert!(account.source_password.is_some() && account.target_password.is_some());
        }
        Err(problems) => {
            assert!(!problems.is_empty() && problems.len() <= PROBLEMS_PER_FILE_MAX + 1);
            check_problems(text, &[text], &problems);
            let _ = enrollment::address_in(text);
        }
    }
}

fn rows(text: &str) {
    for (_, row) in enrolling::rows_of(text).unwrap_or_default() {
        let Ok(wanted) = row else { continue };
        let written = wanted.text(|secret, _| Ok(Line::plain(secret))).expect("nothing is sealed");
        let read: toml::Table = toml::from_str(&written).expect("it is TOML");
        assert_eq!(read["address"].as_str(), Some(wanted.address.as_str()));
        let said = |table: &str, key: &str| {
            let value = read.get(table).and_then(|table| table.get(key)?.as_str());
            value.map(str::to_owned)
        };
        let secret =
            wanted.source_password.as_ref().map(|secret| secret.expose_secret().to_owned());
        assert_eq!(said("source", "password"), secret);
        assert_eq!(said("source", "user"), wanted.source_user);
        assert_eq!(said("contact", "email"), wanted.email);
    }
}

fn settings_of_corpus() -> &'static Settings {
    const MAIN: &str = "[migration.epap]\ndomains = [\"pec.epap.it\", \"epap.it\"]\n\
        source.host = \"old.example\"\ntarget.host = \"new.example\"\n\
        [migration.geometri]\ndomains = [\"geopec.it\"]\nsource.host = \"old.example\"\n\
        cutover = 2026-02-04T08:00\nsource_until = 2026-03-31\n";
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    let dir = Path::new("/nonexistent/pecsync");
    SETTINGS.get_or_init(|| load_texts(dir, MAIN, None, &context()).expect("it is right").0)
}

fn context() -> Context {
    let now = jiff::Timestamp::from_second(1_768_500_000).expect("a moment in 2026");
    Context { now, credentials: None, checking: false, for_portal: false }
}

fn check_settings(settings: &Settings) {
    for (name, migration) in &settings.migrations {
        assert_eq!(*name, migration.name);
        assert!(!migration.domains.is_empty());
        assert!(!migration.source.host.is_empty() && !migration.target.host.is_empty());
        if let (Some(cutover), Some(until)) = (migration.cutover, migration.source_until) {
            assert!(cutover <= until);
        }
    }
}

fn check_problems(text: &str, files: &[&str], problems: &[Problem]) {
    for problem in problems {
        let shown = problem.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
        check_told(text, &shown);
        check_told(text, &format!("{problem:?}"));
        check_place(files, problem);
    }
}

fn check_place(files: &[&str], problem: &Problem) {
    let Problem { line, column, .. } = problem;
    if *line == 0 {
        assert_eq!(*column, 0, "{problem}");
        return;
    }
    let length = |file: &&str| file.split('\n').nth(line - 1).map(|line| line.chars().count());
    let fits = files.iter().filter_map(length).any(|chars| (1..=chars + 1).contains(column));
    assert!(fits, "no such place: {problem}");
}

/// A password that stands once in the file, behind its key, is told by nothing, nor is half of it.
fn check_told(text: &str, told: &str) {
    let [first, second] = PASSWORD;
    let once = |half: &str| text.matches(half).count() == 1;
    let Some(at) = text.find(&PASSWORD.concat()).filter(|_| once(first) && once(second)) else {
        return;
    };
    let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let key = text[line_start..at].trim_start().strip_prefix("password").map(str::trim_start);
    let value = key.and_then(|rest| rest.strip_prefix('='));
    if value.is_some_and(|value| value.trim_matches(['"', '\'', ' ']).is_empty()) {
        let tells = told.contains(first) || told.contains(second);
        assert!(!tells, "a password is told: {told}");
    }
}
