//! What in conf.d belongs to one account and to nobody else: for whoever erases it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::conf_dir::{Content, FileRead};
use super::enrollment::{address_in, password_files_in};
use super::files;

/// Deepest table of the settings that is looked into for password files.
const DEPTH_MAX: usize = 8;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Belongings {
    /// Files that ask for the account, good or bad.
    pub enrollments: Vec<PathBuf>,
    /// Password files that nobody else names.
    pub secrets: Vec<PathBuf>,
    /// What else they lead to, and why it is not to be erased with them.
    pub left: Vec<(PathBuf, String)>,
}

/// Finds what belongs to the (case-folded) address among all that was read of `conf_dir`.
///
/// An enrollment can be written by people who may not remove files elsewhere, and whoever erases
/// it may: so only password files below conf.d are given, and none that a link leads to. Blocking.
pub fn belongings(config: &Path, conf_dir: &Path, reads: &[FileRead], address: &str) -> Belongings {
    let mut found = Belongings::default();
    let mut named = Vec::new();
    // Who else needs a password file.
    let mut needed: BTreeMap<PathBuf, PathBuf> = password_files_of_settings(config);
    let mut unread = None;
    for read in reads {
        let Content::Text(content) = &read.content else {
            unread.get_or_insert(&read.path);
            continue;
        };
        let dir = read.path.parent().unwrap_or(conf_dir);
        let named_here = password_files_in(&content.text).into_iter();
        let named_here =
            named_here.filter_map(|written| files::beside_without_climbing(dir, &written).ok());
        if address_in(&content.text).is_some_and(|asked_for| asked_for == address) {
            named.extend(named_here);
            found.enrollments.push(read.path.clone());
        } else {
            needed.extend(named_here.map(|path| (resolved(&path), read.path.clone())));
        }
        needed.insert(resolved(&read.path), read.path.clone());
    }
    for enrollment in &found.enrollments {
        needed.remove(&resolved(enrollment));
        if let Ok(target) = fs::canonicalize(enrollment).and_then(|real| match real {
            real if files::link_below(conf_dir, enrollment).is_some() => Ok(real),
            _ => Err(std::io::ErrorKind::InvalidInput.into()),
        }) {
            let why = format!("{} is a symbolic link to it", enrollment.display());
            found.left.push((target, why));
        }
    }
    named.sort();
    named.dedup();
    for path in named.into_iter().filter(|path| path.symlink_metadata().is_ok()) {
        let kept = if !path.starts_with(conf_dir) {
            Some("it lies outside of conf.d".to_owned())
        } else if files::link_below(conf_dir, &path).is_some() {
            Some("a symbolic link leads to it".to_owned())
        } else if let Some(other) = needed.get(&resolved(&path)) {
            Some(format!("{} needs it, too", other.display()))
        } else {
            unread.map(|file| format!("{} cannot be read and may need it, too", file.display()))
        };
        match kept {
            Some(why) => found.left.push((path, why)),
            None => found.secrets.push(path),
        }
    }
    found
}

fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Those of service logins, with the file that names each; of files that are not quite TOML,
/// whatever can be read.
fn password_files_of_settings(config: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let migrations = config.with_file_name("migrations.d");
    let mut paths = vec![config.to_owned()];
    if let Ok(entries) = fs::read_dir(migrations) {
        paths.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    let mut named = BTreeMap::new();
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let (document, _) = toml::de::DeTable::parse_recoverable(&text);
        let mut written = Vec::new();
        in_table(document.get_ref(), DEPTH_MAX, &mut written);
        let dir = path.parent().unwrap_or(Path::new("/"));
        named.extend(written.iter().map(|written| (resolved(&dir.join(written)), path.clone())));
    }
    named
}

fn in_table(table: &toml::de::DeTable<'_>, depth: usize, written: &mut Vec<String>) {
    for (key, value) in table.iter() {
        let value = value.get_ref();
        match (value.as_table(), value.as_str()) {
            (Some(inner), _) if depth > 0 => in_table(inner, depth - 1, written),
            (_, Some(text)) if key.get_ref() == "password_file" => written.push(text.to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::read_dir_files;

    /// `mario` and what he names; others with what they name. Gives secrets and what is left,
    /// relative to conf.d.
    fn check(
        mario: &str,
        others: &[(&str, &str)],
        settings: &str,
        secrets: &[&str],
        left: &[&str],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let conf_dir = dir.path().join("conf.d");
        fs::create_dir_all(conf_dir.join("secrets")).unwrap();
        for file in ["conf.d/secrets/mario", "conf.d/secrets/shared", "outside"] {
            fs::write(dir.path().join(file), "segreto").unwrap();
        }
        symlink(dir.path().join("outside"), conf_dir.join("secrets/link")).unwrap();
        let enrollment = |name: &str, file: &str| {
            let file = file.replace("DIR", &dir.path().display().to_string());
            format!("address = \"{name}@pec.it\"\n[source]\npassword_file = \"{file}\"\n")
        };
        fs::write(conf_dir.join("m.toml"), enrollment("Mario", mario)).unwrap();
        for (name, file) in others {
            fs::write(conf_dir.join(format!("{name}.toml")), enrollment(name, file)).unwrap();
        }
        let config = dir.path().join("pecsync.toml");
        fs::write(&config, settings).unwrap();
        let reads = read_dir_files(&conf_dir);
        let found = belongings(&config, &conf_dir, &reads, "mario@pec.it");
        let relative = |path: &Path| path.strip_prefix(dir.path()).unwrap().display().to_string();
        assert_eq!(found.enrollments, [conf_dir.join("m.toml")]);
        let found_secrets: Vec<String> = found.secrets.iter().map(|path| relative(path)).collect();
        assert_eq!(found_secrets, secrets, "{mario}");
        let found_left: Vec<String> =
            found.left.iter().map(|(path, why)| format!("{}: {why}", relative(path))).collect();
        assert_eq!(found_left.len(), left.len(), "{found_left:?}");
        for (found, expected) in found_left.iter().zip(left) {
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn only_what_is_the_accounts_own_is_given() {
        let own = &["conf.d/secrets/mario"][..];
        check("secrets/mario", &[("anna", "secrets/shared")], "", own, &[]);
        check("secrets/none", &[], "", &[], &[]);
        let shared = "conf.d/secrets/shared: ";
        check("secrets/shared", &[("anna", "secrets/shared")], "", &[], &[shared]);
        let service = "[migration.epap.source.service_login]\n\
                       password_file = \"conf.d/secrets/shared\"\n";
        check("secrets/shared", &[], service, &[], &[shared]);
        check("DIR/outside", &[], "", &[], &["outside: it lies outside"]);
        check("secrets/link", &[], "", &[], &["conf.d/secrets/link: a symbolic link"]);
        check("../outside", &[], "", &[], &[]);
        let others = &["conf.d/anna.toml: "][..];
        check("anna.toml", &[("anna", "secrets/shared")], "", &[], others);
    }

    #[test]
    fn what_cannot_be_read_may_need_it_and_a_link_leaves_a_password_behind() {
        let dir = tempfile::tempdir().unwrap();
        let conf_dir = dir.path().join("conf.d");
        fs::create_dir_all(&conf_dir).unwrap();
        fs::write(conf_dir.join("secret"), "segreto").unwrap();
        fs::write(conf_dir.join("noise.toml"), [0xff, 0xfe]).unwrap();
        let text = "address = \"mario@pec.it\"\n[source]\npassword_file = \"secret\"\n";
        fs::write(dir.path().join("elsewhere"), text).unwrap();
        symlink(dir.path().join("elsewhere"), conf_dir.join("m.toml")).unwrap();
        let reads = read_dir_files(&conf_dir);
        let config = dir.path().join("pecsync.toml");
        let found = belongings(&config, &conf_dir, &reads, "mario@pec.it");
        assert_eq!(found.enrollments, [conf_dir.join("m.toml")]);
        assert_eq!(found.secrets, Vec::<PathBuf>::new());
        let left: Vec<&Path> = found.left.iter().map(|(path, _)| path.as_path()).collect();
        assert_eq!(left[1], conf_dir.join("secret"));
        assert!(left[0].ends_with("elsewhere"), "{left:?}");
    }
}
