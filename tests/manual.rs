//! The pages and completions that a package installs: whole, well formed, and of the same mind as
//! the program.

#[path = "../docs/manual/src/markdown.rs"]
mod markdown;
#[path = "../docs/manual/src/pages.rs"]
mod pages;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use pecsync::config::keys::{self, Kind};
use tempfile::TempDir;

struct Written {
    dir: TempDir,
    files: BTreeMap<String, String>,
}

fn written() -> Written {
    let dir = tempfile::tempdir().expect("a directory");
    let files: BTreeMap<String, String> = pages::all("2026-02-04").into_iter().collect();
    for (name, text) in &files {
        fs::write(dir.path().join(name), text).expect("written");
    }
    Written { dir, files }
}

/// What a program prints that must succeed and not complain.
fn said(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(file).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{program} {file:?}: {complaint}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn every_command_has_a_page_with_all_its_arguments() {
    let written = written();
    let mut command = pecsync::cli::command().disable_help_subcommand(true);
    command.build();
    let names = command.get_subcommands().map(|sub| format!("pecsync-{}.8", sub.get_name()));
    let commands = std::iter::once(&command).chain(command.get_subcommands());
    for (name, command) in std::iter::once("pecsync.8".to_owned()).chain(names).zip(commands) {
        let page = &written.files[&name].replace("\\-", "-").replace("\\*(Aq", "'");
        for argument in command.get_arguments() {
            // These two are clap's own.
            if ["help", "version"].contains(&argument.get_id().as_str()) {
                continue;
            }
            let help =
                argument.get_help().unwrap_or_else(|| panic!("{name}: {argument} says nothing"));
            assert!(page.contains(&format!("\n{help}\n")), "{name}: {help}");
            if let Some(long) = argument.get_long() {
                assert!(page.contains(&format!("\\fB--{long}\\fR")), "{name}: --{long}");
            }
            for value in argument.get_possible_values() {
                assert!(page.contains(&format!("\n{}", value.get_name())), "{name}: {value:?}");
            }
        }
        assert!(page.contains("\n.SH \"EXIT CODES\"\n"), "{name}");
    }
    let pages = written.files.keys().filter(|name| name.ends_with(".8")).count();
    assert_eq!(pages, command.get_subcommands().count() + 1);
    let whole = &written.files["pecsync.8"].replace("\\-", "-");
    for sub in command.get_subcommands() {
        assert!(whole.contains(&format!("pecsync-{}(8)", sub.get_name())), "{whole}");
    }
}

#[test]
fn every_key_stands_below_its_table() {
    let written = written();
    let pages = [(Kind::Settings, "pecsync.toml.5"), (Kind::Enrollment, "pecsync-enrollment.5")];
    for (kind, name) in pages {
        let page = &written.files[name].replace("\\-", "-");
        for table in keys::ALL.iter().filter(|table| table.kind == kind) {
            let heading = match (table.table, kind) {
                ("", Kind::Settings) | ("[migration.NAME]", _) => "MIGRATIONS: [migration.NAME]",
                ("", Kind::Enrollment) => "ENROLLMENTS",
                (table, _) => &table.replace('"', "\\(dq"),
            };
            let mut sections = page.split("\n.S").skip(1);
            let fits = |section: &&str| section.lines().next().is_some_and(|l| l.contains(heading));
            let section = sections.find(fits).unwrap_or_else(|| panic!("{name}: no {heading}"));
            for key in table.supported {
                let explained = section.contains(&format!("\\fB{key}\\fR"))
                    || section.contains(&format!("\\fB[{key}."));
                // The tables at the top of pecsync.toml have headings of their own.
                let heads = page.contains(&format!(".SS [{key}]"));
                assert!(explained || heads, "{name}: {key} below {heading}");
            }
        }
    }
}

#[test]
fn programs_that_read_pages_have_nothing_to_complain_of() {
    let written = written();
    for name in written.files.keys().filter(|name| name.ends_with(['5', '8'])) {
        let page = written.dir.path().join(name);
        let lint = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&page).output();
        let lint = lint.expect("mandoc").stdout;
        let lint = String::from_utf8_lossy(&lint);
        // clap_mangen leaves an empty line more than it needs before possible values.
        let complaints: Vec<&str> =
            lint.lines().filter(|line| !line.contains("skipping paragraph macro: br")).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

#[test]
fn shells_complete_commands_options_and_values() {
    let written = written();
    #[track_caller]
    fn check(said: &str, expected: &[&str]) {
        let words: Vec<&str> = said.split_whitespace().collect();
        expected.iter().for_each(|word| assert!(words.contains(word), "{word}: {said}"));
    }
    let bash = |words: &str, current: &str| {
        let script = format!(
            "source \"$0\"; COMP_WORDS=({words} {current}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _pecsync pecsync '{current}' ''; echo \"${{COMPREPLY[@]}}\""
        );
        said("bash", &["-c", &script], &written.dir.path().join("pecsync.bash"))
    };
    check(&bash("pecsync", "re"), &["retry", "report", "reload", "resume", "reopen"]);
    check(&bash("pecsync status", "--"), &["--json", "--held", "--config"]);
    let fish = |line: &str| {
        let script = format!("source $argv[1]; complete -C '{line}'");
        said("fish", &["--no-config", "-c", &script], &written.dir.path().join("pecsync.fish"))
    };
    check(&fish("pecsync re"), &["retry", "report", "reload", "resume", "reopen"]);
    check(&fish("pecsync status --"), &["--json", "--held", "--config"]);
    check(&fish("pecsync status --sort "), &["bytes"]);
    said("zsh", &["-n"], &written.dir.path().join("_pecsync"));
    let zsh = &written.files["_pecsync"];
    for sub in pecsync::cli::command().get_subcommands() {
        assert!(zsh.contains(&format!("_pecsync__subcmd__{}_commands()", sub.get_name())), "{zsh}");
    }
}
