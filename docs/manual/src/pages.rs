//! What is written: a page for each command, for pecsync.toml and for enrollments; completions.

#[path = "../../../src/portal/src/arguments.rs"]
mod arguments;

use clap_complete::Shell;
use clap_mangen::Man;
use pecsync::config::keys::{self, Kind};
use roff::{Roff, bold, roman};

use super::markdown::{append, chapter, heading, verbatim};

const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");
const OPERATING: &str = include_str!("../../../docs/operating.md");
const PORTAL: &str = include_str!("../../../docs/portal.md");
const SETTINGS: &str = include_str!("../../../docs/examples/pecsync.toml");
const MIGRATION: &str = include_str!("../../../docs/examples/migrations.d/epap.toml");
const ENROLLMENT: &str = include_str!("../../../conf.d/mario.rossi.toml.example");

/// Chapters of `docs/operating.md` that belong on a command's page.
const CHAPTERS: &[(&str, &[&str])] = &[
    ("pecsync", &["Move to another machine", "Stop, kill, lose"]),
    ("run", &["Signals", "The journal", "Tuning"]),
    ("check", &["Ask both sides first"]),
    ("status", &["Watch"]),
    ("retry", &["When an account is held"]),
    ("approve", &["When an account is held"]),
    ("reload", &["Enroll, change, withdraw"]),
    ("pause", &["Pause, move the cutover, reopen"]),
    ("resume", &["Pause, move the cutover, reopen"]),
    ("cutover", &["Pause, move the cutover, reopen"]),
    ("reopen", &["Pause, move the cutover, reopen"]),
    ("verify", &["Prove it"]),
    ("report", &["Prove it"]),
    ("enroll", &["Enroll with one command, seal passwords"]),
    ("seal", &["Enroll with one command, seal passwords"]),
    ("plan", &["Look ahead"]),
    ("forget", &["Forget"]),
];

/// Chapters of `docs/portal.md` that belong on the page of the page's own program.
const PORTAL_CHAPTERS: &[&str] = &[
    "Setting it up",
    "New passwords",
    "What is told when it does not work",
    "What guards it",
    "Privacy",
    "Metrics",
    "Exit codes of the program",
];

/// Names of files with what is to stand in them. The date is for their footers.
pub fn all(date: &str) -> Vec<(String, String)> {
    let mut files = commands(date);
    files.push(settings(date));
    files.push(enrollment(date));
    files.extend(completions());
    files
}

/// The enrollment page's, which is a package of its own.
pub fn portal(date: &str) -> (String, String) {
    let mut command = arguments::command().disable_help_subcommand(true);
    command.build();
    let source = format!("pecsync {}", pecsync::cli::command().get_version().unwrap_or_default());
    let man = Man::new(command.clone()).section("8").date(date).source(source).manual("pecsync");
    let mut text = Vec::new();
    let parts = [
        Man::render_title,
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section,
    ];
    for part in parts {
        part(&man, &mut text).expect("written to memory");
    }
    let mut page = Roff::new();
    page.control("SH", ["COMMANDS"]);
    for sub in command.get_subcommands() {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        page.control("TP", []).text([bold(sub.get_name())]).text([roman(about)]);
    }
    for title in PORTAL_CHAPTERS {
        section(&mut page, PORTAL, title);
    }
    see_also(&mut page, &["pecsync(8)", "pecsync.toml(5)", "pecsync-seal(8)"]);
    page.to_writer(&mut text).expect("written to memory");
    (man.get_filename(), String::from_utf8(text).expect("UTF-8"))
}

fn commands(date: &str) -> Vec<(String, String)> {
    let mut whole = pecsync::cli::command().disable_help_subcommand(true);
    whole.build();
    let mut pages = vec![command(&whole, "pecsync", date)];
    for sub in whole.get_subcommands() {
        pages.push(command(sub, sub.get_name(), date));
    }
    pages
}

fn command(command: &clap::Command, name: &str, date: &str) -> (String, String) {
    let man = Man::new(command.clone()).section("8").date(date).manual("pecsync");
    let mut text = Vec::new();
    let parts = [
        Man::render_title,
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section,
    ];
    for part in parts {
        part(&man, &mut text).expect("written to memory");
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text).expect("written to memory");
    }
    let mut page = Roff::new();
    let chapters = CHAPTERS.iter().find(|(of, _)| *of == name);
    let (_, chapters) = chapters.unwrap_or_else(|| panic!("which chapters belong to {name}?"));
    for title in chapters.iter().chain(&["Exit codes"]) {
        section(&mut page, OPERATING, title);
    }
    see_also(&mut page, &["pecsync(8)", "pecsync.toml(5)", "pecsync-enrollment(5)"]);
    page.to_writer(&mut text).expect("written to memory");
    (man.get_filename(), String::from_utf8(text).expect("UTF-8"))
}

fn settings(date: &str) -> (String, String) {
    let mut page = titled("pecsync.toml", "settings and migrations of pecsync", date);
    synopsis(
        &mut page,
        Kind::Settings,
        &["/etc/pecsync/pecsync.toml", "/etc/pecsync/migrations.d/*.toml"],
    );
    for title in ["How values are written", "pecsync.toml", "Migrations: [migration.NAME]"] {
        section(&mut page, CONFIGURATION, title);
    }
    page.control("SH", ["EXAMPLES"]);
    verbatim(&mut page, SETTINGS);
    verbatim(&mut page, MIGRATION);
    see_also(&mut page, &["pecsync(8)", "pecsync-check(8)", "pecsync-enrollment(5)"]);
    ("pecsync.toml.5".to_owned(), page.render())
}

fn enrollment(date: &str) -> (String, String) {
    let mut page = titled("pecsync-enrollment", "an account that pecsync is to move", date);
    synopsis(&mut page, Kind::Enrollment, &["/etc/pecsync/conf.d/*.toml"]);
    for title in ["Enrollments", "How values are written"] {
        section(&mut page, CONFIGURATION, title);
    }
    page.control("SH", ["EXAMPLES"]);
    verbatim(&mut page, ENROLLMENT);
    let others = ["pecsync(8)", "pecsync-enroll(8)", "pecsync-seal(8)", "pecsync.toml(5)"];
    see_also(&mut page, &others);
    ("pecsync-enrollment.5".to_owned(), page.render())
}

fn titled(name: &str, about: &str, date: &str) -> Roff {
    let mut page = Roff::new();
    let command = pecsync::cli::command();
    let source = format!("pecsync {}", command.get_version().unwrap_or_default());
    page.control("TH", [name, "5", date, &source, "pecsync"]);
    page.control("SH", ["NAME"]).text([roman(format!("{name} - {about}"))]);
    page
}

/// Where such a file lies, and every table with every key that is supported.
fn synopsis(page: &mut Roff, kind: Kind, places: &[&str]) {
    page.control("SH", ["SYNOPSIS"]);
    for place in places {
        page.text([bold(*place)]).control("br", []);
    }
    for table in keys::ALL.iter().filter(|table| table.kind == kind) {
        let name = if table.table.is_empty() { "At the top of the file" } else { table.table };
        page.control("TP", []).text([bold(name)]);
        page.text([roman(table.supported.join(", "))]);
    }
}

/// A chapter of a manual.
fn section(page: &mut Roff, manual: &str, title: &str) {
    // What follows a colon is a name.
    let (words, name) = title.split_at(title.find(':').unwrap_or(title.len()));
    heading(page, "SH", &(words.to_uppercase() + name));
    append(page, chapter(manual, &format!("## {title}")));
}

fn see_also(page: &mut Roff, others: &[&str]) {
    page.control("SH", ["SEE ALSO"]).text([roman(others.join(", "))]);
}

fn completions() -> Vec<(String, String)> {
    let mut command = pecsync::cli::command();
    let shells =
        [(Shell::Bash, "pecsync.bash"), (Shell::Zsh, "_pecsync"), (Shell::Fish, "pecsync.fish")];
    let written = shells.map(|(shell, name)| {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, "pecsync", &mut text);
        (name.to_owned(), String::from_utf8(text).expect("UTF-8"))
    });
    written.into()
}
