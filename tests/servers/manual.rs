//! docs/servers.md: the list of what servers do names the tests there are, and all of these.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Functions of all Rust files below a directory of the repository.
fn functions(dir: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut dirs: Vec<PathBuf> = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("it is there") {
            let path = entry.expect("listed").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let lines = read(&path);
                let lines = lines.lines().filter_map(|line| line.trim().split_once("fn "));
                let names = lines.filter_map(|(_, rest)| rest.split_once('('));
                found.extend(names.map(|(name, _)| name.to_owned()));
            }
        }
    }
    found
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_list_names_tests_that_exist_and_all_of_these() {
    let manual = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/servers.md"));
    let rows = manual.lines().filter(|line| line.starts_with("| ") && !line.contains("| shown by"));
    let mut named = BTreeSet::new();
    for row in rows {
        let columns: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [_, _, shown_by] = columns.as_slice() else { panic!("not three columns: {row}") };
        let tests: Vec<&str> = quoted(shown_by).collect();
        assert!(!tests.is_empty(), "nothing shows it: {row}");
        named.extend(tests.into_iter().map(str::to_owned));
    }
    let there: BTreeSet<String> = functions("tests").into_iter().chain(functions("src")).collect();
    let missing: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
    let helpers = ["live", "live_lagging", "told", "connected", "marked", "quoted", "functions"];
    let helpers =
        helpers.into_iter().chain(["odd", "odd_post", "odd_source", "odd_target", "read"]);
    let helpers: BTreeSet<String> = helpers.map(str::to_owned).collect();
    let own: BTreeSet<String> = functions("tests/servers")
        .into_iter()
        .filter(|name| !helpers.contains(name) && !name.starts_with("the_list_names"))
        .collect();
    let unnamed: Vec<_> = own.difference(&named).collect();
    assert!(unnamed.is_empty(), "docs/servers.md does not name {unnamed:?}");
}
