//! The pages and completions that a package installs, and the manual in docs/: whole, well formed,
//! and of the same mind as the program.

#[path = "../docs/manual/src/markdown.rs"]
mod markdown;
#[path = "../docs/manual/src/pages.rs"]
mod pages;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pecsync::config::keys::{self, Kind};
use pecsync::config::presets;
use pecsync::daemon::PHASES;
use pecsync::status::REASONS;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
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
fn the_enrollment_page_has_a_page_with_its_commands_options_and_chapters() {
    let (name, page) = pages::portal("2026-02-04");
    assert_eq!(name, "pecsync-portal.8");
    let page = page.replace("\\-", "-");
    assert!(!page.contains("pecsync-portal-run"), "there is no such page: {page}");
    for words in ["COMMANDS", "provision", "--config", "--once", "SETTING IT UP", "METRICS"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (name, text) = pages::portal("2026-02-04");
    let path = dir.path().join(name);
    fs::write(&path, text).expect("written");
    assert_eq!(complaints(&path), Vec::<String>::new());
}

/// What mandoc has to say of a page.
fn complaints(page: &Path) -> Vec<String> {
    let lint = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(page).output();
    let lint = lint.expect("mandoc").stdout;
    let lint = String::from_utf8_lossy(&lint);
    // clap_mangen leaves an empty line more than it needs before possible values.
    let lines = lint.lines().filter(|line| !line.contains("skipping paragraph macro: br"));
    lines.map(str::to_owned).collect()
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
        assert_eq!(complaints(&written.dir.path().join(name)), Vec::<String>::new());
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

/// README and docs/*.md, each with its text.
fn manual() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs =
        fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("listed").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let pages = pages.chain([root.join("README.md")]);
    pages.map(|path| (path.clone(), fs::read_to_string(path).expect("a page"))).collect()
}

fn events(text: &str) -> impl Iterator<Item = Event<'_>> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

/// Command lines of pecsync's in a line of shell.
fn commands(line: &str) -> Vec<Vec<&str>> {
    let line = line.split(" #").next().unwrap_or_default();
    let parts = line.split("&&").flat_map(|part| part.split([';', '|']));
    let parts = parts.map(|part| part.split(['>', '<']).next().unwrap_or_default().trim());
    parts
        .filter(|part| part.starts_with("pecsync "))
        .map(|part| part.split_whitespace().filter(|word| *word != "2").collect())
        .collect()
}

#[test]
fn every_command_that_is_shown_is_one() {
    let mut seen = 0;
    for (path, text) in manual() {
        let mut in_shell = false;
        for event in events(&text) {
            let lines: Vec<String> = match &event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                    in_shell = ["", "sh"].contains(&&**language);
                    continue;
                }
                Event::End(TagEnd::CodeBlock) => {
                    in_shell = false;
                    continue;
                }
                Event::Text(code) if in_shell => code.lines().map(str::to_owned).collect(),
                // What stands for several commands is none.
                Event::Code(code) if !code.contains(['|', '…', '[']) => vec![code.to_string()],
                _ => continue,
            };
            for words in lines.iter().flat_map(|line| commands(line)) {
                let program = pecsync::cli::command();
                // Prose names a command without what it needs.
                let named = matches!(event, Event::Code(_))
                    && words.len() == 2
                    && program.find_subcommand(words[1]).is_some();
                if named {
                    continue;
                }
                let parsed = program.try_get_matches_from(&words);
                assert!(
                    parsed.is_ok(),
                    "{}: {}: {:?}",
                    path.display(),
                    words.join(" "),
                    parsed.err()
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "only {seen}");
}

/// As GitHub makes an anchor of a heading.
fn anchor(heading: &str) -> String {
    let letters = heading.to_lowercase();
    let kept = letters.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> Vec<String> {
    let (mut anchors, mut heading) = (Vec::new(), None);
    for event in events(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                anchors.extend(heading.take().map(|text| anchor(&text)))
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            _ => {}
        }
    }
    anchors
}

#[test]
fn every_link_leads_somewhere_and_every_page_is_linked() {
    let pages = manual();
    let mut linked = Vec::new();
    for (path, text) in &pages {
        for event in events(text) {
            let Event::Start(Tag::Link { dest_url, .. }) = event else { continue };
            if dest_url.contains("://") {
                continue;
            }
            let (file, part) = dest_url.split_once('#').unwrap_or((&dest_url, ""));
            let file = match file {
                "" => path.clone(),
                file => path.parent().expect("a directory").join(file),
            };
            assert!(file.exists(), "{}: {dest_url}", path.display());
            if !part.is_empty() {
                let there = anchors(&fs::read_to_string(&file).expect("a page"));
                assert!(
                    there.iter().any(|it| it == part),
                    "{}: {dest_url}: {there:?}",
                    path.display()
                );
            }
            linked.push(file.canonicalize().expect("it exists"));
        }
    }
    for (path, _) in pages {
        let is_linked = linked.contains(&path) || path.ends_with("README.md");
        assert!(is_linked, "nothing leads to {}", path.display());
    }
}

/// The rows of all tables below a heading, the first cell each and the whole.
fn rows<'t>(page: &'t str, heading: &str) -> Vec<(&'t str, &'t str)> {
    let (_, below) =
        page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{heading}"));
    let below = below.split("\n## ").next().expect("a part");
    let rows = below.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| (row[2..].split(" | ").next().expect("a cell"), row)).collect()
}

/// Whoever answers the telephone finds each word that an operator may read to them, and an answer
/// for each reason about which the operator is told to ask the owner.
#[test]
fn the_help_desk_knows_every_word_of_status() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = |name: &str| fs::read_to_string(root.join("docs").join(name)).expect("a page");
    let (desk, operating) = (page("assistenza.md"), page("operating.md"));
    let words = rows(&desk, "## Che cosa vede l'operatore, che cosa vuol dire per l'utente");
    let words: Vec<&str> = words.iter().map(|(word, _)| word.trim_matches('`')).collect();
    let expected: Vec<&str> = std::iter::once("missing")
        .chain(PHASES)
        .chain(["ok", "retrying", "held", "paused"])
        .collect();
    assert_eq!(words, expected);

    let users = rows(&desk, "## I motivi che toccano l'utente");
    let others = rows(&desk, "## I motivi che non toccano l'utente");
    for code in REASONS {
        let quoted = format!("`{code}`");
        let is_in = |rows: &[(&str, &str)]| rows.iter().any(|(cell, _)| cell.contains(&quoted));
        assert!(is_in(&users) != is_in(&others), "{code} stands nowhere, or twice");
        let remedy = operating.lines().find(|line| line.starts_with(&format!("| {quoted} |")));
        let remedy = remedy.and_then(|row| row.split(" | ").nth(2)).expect("a remedy");
        assert!(!remedy.contains("owner") || is_in(&users), "{code}: {remedy}");
    }
    for (code, row) in users {
        assert_eq!(row.split(" | ").count(), 3, "{code}");
    }
    assert!(desk.matches(presets::LEGALMAIL.host).count() >= 2, "the new parameters");
}
