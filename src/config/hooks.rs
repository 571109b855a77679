//! `[hooks]`: programs that are told of events.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::keys;
use super::problem::{Wrong, quoted};
use super::settings::Hooks;
use super::table::{Found, Table};

/// Looks at the programs, whether they are there.
pub(super) fn hooks(table: Option<&Table<'_>>) -> Hooks {
    let Some(table) = table else { return Hooks::new() };
    table.allow(&keys::HOOKS);
    let mut hooks = Hooks::new();
    for key in keys::HOOKS.supported {
        if let Some(argv) = program(table, key) {
            hooks.insert(key, argv);
        }
    }
    hooks
}

/// A program and its arguments.
pub(super) fn program(table: &Table<'_>, key: &str) -> Option<Vec<String>> {
    let argv = table.list(key, argument)?;
    let Some(program) = argv.first() else {
        let hint = format!("write {key} = [\"/path/of/a/program\"], or take the line out");
        table.wrong(&table.at_key(key), Wrong::new(format!("{key}: no program"), hint));
        return None;
    };
    look_at(table, program);
    Some(argv.into_iter().map(|found| found.value).collect())
}

fn argument(text: &str) -> Result<String, Wrong> {
    match text.contains('\0') {
        true => Err(Wrong::new("an argument cannot hold NUL", "take it out")),
        false => Ok(text.to_owned()),
    }
}

fn look_at(table: &Table<'_>, Found { at, value }: &Found<String>) {
    let program = Path::new(value);
    if !program.is_absolute() {
        let message = format!("{} is not the full path of a program", quoted(value));
        table.wrong(at, Wrong::new(message, "no shell looks for it: write it from \"/\" on"));
        return;
    }
    let is_program = std::fs::metadata(program)
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    if !is_program {
        let message = format!("{} is no program that can be run", quoted(value));
        table.sink().warn(at, Wrong::new(message, "put it there, and chmod +x"));
    }
}
