//! Holds the import rules of docs/architecture.md.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a room of the house") {
            let path = entry.expect("listed").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("source text");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{dir} has no sources");
    found
}

/// Code lines only: prose may name what it likes.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

fn forbid(dir: &str, words: &[&str], but_in: &[&str]) {
    for (path, text) in sources(dir) {
        let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("inside").to_string_lossy();
        if but_in.iter().any(|allowed| name.starts_with(allowed)) {
            continue;
        }
        for line in lines(&text) {
            let found = words.iter().find(|word| line.contains(*word));
            assert!(found.is_none(), "{name} must not use {found:?}: {line}");
        }
    }
}

#[test]
fn imports_go_one_way() {
    let above_adapters = ["crate::sync", "crate::daemon", "crate::cli"];
    forbid("src/imap", &above_adapters, &[]);
    forbid("src/checkpoint", &above_adapters, &[]);
    forbid("src/config", &above_adapters, &[]);
    forbid("src/journal", &above_adapters, &[]);
    forbid("src/report", &above_adapters, &[]);
    forbid("src/report", &["crate::imap", "crate::config", "tokio"], &[]);
    forbid("src/sync", &["crate::daemon", "crate::cli"], &[]);
    forbid("src/daemon", &["crate::cli"], &[]);
    // The enrollment page is another program: it knows the daemon by its files and its status.
    let rooms = ["sync::account", "sync::shared", "checkpoint", "cli::", "report::"];
    let rooms = rooms.map(|room| format!("pecsync::{room}"));
    forbid("src/portal", &rooms.each_ref().map(String::as_str), &[]);
}

#[test]
fn adapters_do_not_import_each_other() {
    forbid("src/imap", &["crate::checkpoint", "crate::config", "crate::journal"], &[]);
    forbid("src/checkpoint", &["crate::imap", "crate::config", "crate::journal"], &[]);
    forbid("src/config", &["crate::imap", "crate::checkpoint", "crate::journal"], &[]);
    forbid("src/journal", &["crate::imap", "crate::checkpoint", "crate::config"], &[]);
}

#[test]
fn each_dependency_lives_in_one_place() {
    forbid("src", &["sled::"], &["src/checkpoint/"]);
    forbid("src", &["use notify::"], &["src/config/watcher"]);
    forbid("src", &["imap_codec", "imap_types", "imap_proto"], &["src/imap/"]);
    // Towards servers, and towards browsers; the page's tests are browsers, too.
    forbid("src", &["rustls"], &["src/imap/", "src/portal/src/tls.rs", "src/portal/tests/"]);
    forbid("src", &["clap::", "rpassword"], &["src/cli/", "src/portal/"]);
    forbid("src", &["axum", "hyper", "maud", "governor", "altcha"], &["src/portal/"]);
    forbid("src", &["hpke"], &["src/config/sealing.rs"]);
    forbid("src", &["prometheus_client"], &["src/daemon/metrics.rs"]);
}

#[test]
fn decisions_are_pure() {
    let impure =
        ["tokio", "std::fs", "Instant::now", "Timestamp::now", "SystemTime", "RandomState"];
    for file in
        ["plan", "adopt", "folders", "gone", "cutover", "trouble", "backoff", "compare", "forecast"]
    {
        let path = format!("{}/src/sync/{file}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).expect("a pure module");
        let code = text.split("#[cfg(test)]").next().expect("code");
        for line in lines(code) {
            let found = impure.iter().find(|word| line.contains(*word));
            assert!(found.is_none(), "sync/{file}.rs must stay pure: {line}");
        }
    }
}

/// What `docs/reliability.md` names holds a promise only if it exists.
#[test]
fn the_tests_that_hold_promises_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = fs::read_to_string(root.join("docs/reliability.md")).expect("the manual");
    let sources = ["tests", "src"].into_iter().flat_map(sources);
    let tests: String = sources.map(|(_, text)| text).collect();
    let mut named = 0;
    for row in manual.lines().filter(|line| line.starts_with("| ") && line.contains(".rs`")) {
        let cell = row.rsplit(" | ").next().expect("a cell");
        for name in cell.split('`').skip(1).step_by(2).filter(|name| !name.ends_with('/')) {
            let exists = match name.ends_with(".rs") {
                true => ["tests", "src"].iter().any(|dir| root.join(dir).join(name).exists()),
                false => tests.contains(&format!("fn {name}(")),
            };
            assert!(exists, "{name} is nowhere");
            named += 1;
        }
    }
    assert!(named > 30, "only {named} are named");
}
