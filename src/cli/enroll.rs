//! `enroll`: one account, or many from a table: the source's password is tried once, then the
//! enrollment is written as a whole into conf.d, with the password sealed where there is a key.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::offline::{self, Refusal};
use super::prompt;
use super::seal::directory;
use super::terminal::{complain, say};
use crate::config::enrolling::{self, Line, Wanted};
use crate::config::{
    Context, Difference, Enrollment, FileRead, Migration, SealingKey, Settings, Snapshot, Wrong,
    address_of, load_in, policy, presets, read_dir_files, reconcile, sealing,
};
use crate::daemon::proofs::{exit_of, worse};
use crate::daemon::protocol::exit;
use crate::journal::shown;
use crate::sync::account::Shared;
use crate::sync::inspect::try_source;
use crate::words::file_of;

/// So often a password for the target is asked for.
const TRIES: usize = 3;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The account
    #[arg(required_unless_present = "csv", conflicts_with = "csv")]
    address: Option<String>,
    /// The source's login, where it is not the address
    #[arg(long, value_name = "USER", conflicts_with = "csv")]
    source_user: Option<String>,
    /// The target's login, where neither the address nor `accounts` says it
    #[arg(long, value_name = "USER", conflicts_with = "csv")]
    target_user: Option<String>,
    /// The owner's e-mail address
    #[arg(long, value_name = "EMAIL", conflicts_with = "csv")]
    email: Option<String>,
    /// The owner's telephone number, in international form (+391234567890)
    #[arg(long, value_name = "NUMBER", conflicts_with = "csv")]
    phone: Option<String>,
    /// Passwords come from stdin, a line each: the source's, then the target's if it is needed
    #[arg(long, conflicts_with = "csv")]
    password_stdin: bool,
    /// Writes over the enrollment that this command wrote before
    #[arg(long, conflicts_with = "csv")]
    replace: bool,
    /// The target's password exists there already: the policy for new ones is not applied
    #[arg(long)]
    no_policy: bool,
    /// Many: address, source_password, and maybe source_user, target_user, target_password,
    /// email, phone
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Says what would be done; tries no password and writes nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(config: &Path, options: &Options) -> u8 {
    enroll(config, options).unwrap_or_else(|(code, text)| {
        complain(&text);
        code
    })
}

fn enroll(config: &Path, options: &Options) -> Result<u8, Refusal> {
    let context = Context { now: Timestamp::now(), checking: true, ..Context::of_daemon() };
    let (settings, _) = load_in(config, &context).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        (exit::CONFIGURATION, lines.join("\npecsync: "))
    })?;
    let mut code = exit::FINE;
    let wanted: Vec<Wanted> = match (&options.csv, &options.address) {
        (Some(file), _) => {
            let wrong = |wrong: Wrong| (exit::NO, format!("{}: {wrong}", file.display()));
            let mut wanted = Vec::new();
            for (line, row) in enrolling::rows(file).map_err(wrong)? {
                match row {
                    Ok(row) => wanted.push(row),
                    Err(wrong) => {
                        code = exit::NO;
                        complain(&format!("{}:{line}: {wrong}", file.display()));
                    }
                }
            }
            wanted
        }
        (None, Some(address)) => vec![asked_for(address, options, &settings)?],
        (None, None) => return Err((exit::USAGE, "whom?".to_owned())),
    };
    let key = sealing::sealing_keys(&directory(config)).into_iter().next();
    let found = look(wanted, &settings, options);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| (exit::NO, error.to_string()))?;
    let one = runtime.block_on(async {
        let shared = offline::knowing_nothing(&settings)?;
        let mut code = exit::FINE;
        for (address, fate) in found {
            let (one, text) = act(&shared, &settings, fate, key.as_ref(), options.dry_run).await;
            let line = format!("{}: {text}", shown(&address));
            match one {
                exit::FINE => say(&line),
                _ => complain(&line),
            }
            code = worse(code, one);
        }
        Ok::<u8, Refusal>(code)
    })?;
    Ok(worse(code, one))
}

/// One account, with its passwords asked for.
fn asked_for(address: &str, options: &Options, settings: &Settings) -> Result<Wanted, Refusal> {
    let address = address_of(address).map_err(|wrong| (exit::USAGE, wrong.to_string()))?;
    let Some(migration) = migration_of(&address, settings) else {
        return Err((exit::NO, format!("{}: its domain belongs to no migration", shown(&address))));
    };
    let ask = |side: &str, endpoint: &crate::config::Endpoint| match endpoint.service_login {
        Some(_) => Ok(None),
        None => {
            let question =
                format!("Password of {} at the {side}, {}", shown(&address), endpoint.host);
            let password = prompt::password(&question, options.password_stdin);
            password.map(Some).map_err(|error| (exit::NO, format!("no password: {error}")))
        }
    };
    let source_password = ask("source", &migration.source)?;
    let mut target_password = ask("target", &migration.target)?;
    // Nobody sees what they type, and the source's password is not to be typed again.
    for _ in 1..TRIES {
        let weak = target_password.as_ref();
        let weak = weak.and_then(|password| weakness(password, &address, migration, options));
        let Some(words) = weak.filter(|_| prompt::is_asked(options.password_stdin)) else { break };
        complain(&words);
        target_password = ask("target", &migration.target)?;
    }
    Ok(Wanted {
        source_user: options.source_user.clone(),
        source_password,
        target_user: options.target_user.clone(),
        target_password,
        email: options.email.clone(),
        phone: options.phone.clone(),
        address: address.clone(),
    })
}

fn migration_of<'s>(address: &str, settings: &'s Settings) -> Option<&'s Migration> {
    let domain = address.rsplit('@').next().unwrap_or_default();
    let mut migrations = settings.migrations.values();
    let found = migrations.find(|migration| migration.domains.iter().any(|it| it == domain));
    found.map(Arc::as_ref)
}

/// Why the target would not take that password, where it is known what it asks of one.
fn weakness(
    password: &SecretString,
    address: &str,
    migration: &Migration,
    options: &Options,
) -> Option<String> {
    let provider = migration.target.provider.as_deref().and_then(presets::by_name);
    let has_policy = provider.is_some_and(|preset| preset.has_policy) && !options.no_policy;
    let broken = match has_policy {
        true => policy::broken_rules(password.expose_secret(), address),
        false => Vec::new(),
    };
    let words = broken.join(", ");
    (!words.is_empty()).then(|| format!("Password non valida at the target: {words}"))
}

/// What is to become of somebody who is to be enrolled.
enum Fate {
    /// By that file.
    Already(PathBuf),
    Wrong(String),
    New {
        wanted: Wanted,
        enrollment: Arc<Enrollment>,
    },
}

/// Decides for all of them at once, as the daemon would if all their files were dropped.
fn look(wanted: Vec<Wanted>, settings: &Settings, options: &Options) -> Vec<(String, Fate)> {
    let replace = options.replace;
    let conf_dir = &settings.daemon.conf_dir;
    let known = BTreeMap::new();
    let files = read_dir_files(conf_dir);
    let there: BTreeSet<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    let (before, _) = reconcile(&Snapshot::default(), files, settings, &known);
    let mut claimed: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (address, enrollment) in before.active() {
        claimed.insert(address.clone(), enrollment.file.clone());
    }
    for file in before.rejected() {
        if let Some(address) = file.address {
            claimed.entry(address.to_owned()).or_insert_with(|| file.path.to_owned());
        }
    }
    let mut fates: Vec<(Wanted, Option<Fate>)> = Vec::new();
    let mut candidates = Vec::new();
    let mut seen = BTreeSet::new();
    for one in wanted {
        let path = file_of(conf_dir, &one.address, "toml");
        let claim = claimed.get(&one.address).filter(|file| !(replace && **file == path));
        let weak = one.target_password.as_ref().zip(migration_of(&one.address, settings));
        let weak = weak.and_then(|(it, of)| weakness(it, &one.address, of, options));
        let fate = match claim {
            _ if !seen.insert(one.address.clone()) => {
                Some(Fate::Wrong("it stands in the table twice".to_owned()))
            }
            Some(file) => Some(Fate::Already(file.clone())),
            None if has_own_archive(&before, &one.address) => {
                let file = path.display();
                let why = format!("{file} has [source.archive], which would be lost: edit it");
                Some(Fate::Wrong(why))
            }
            None if weak.is_some() => weak.map(Fate::Wrong),
            None if there.contains(&path) && claimed.get(&one.address) != Some(&path) => {
                Some(Fate::Wrong(format!("{} is there and asks for somebody else", path.display())))
            }
            None => {
                // With passwords as they are: sealed ones may not open here.
                let plain = one.text(|secret, _| Ok(Line::plain(secret))).unwrap_or_default();
                candidates.push(FileRead::of_text(&path, &plain).written_at(Timestamp::now()));
                None
            }
        };
        fates.push((one, fate));
    }
    let paths: BTreeSet<PathBuf> = candidates.iter().map(|file| file.path.clone()).collect();
    let mut all = read_dir_files(conf_dir);
    all.retain(|file| !paths.contains(&file.path));
    all.extend(candidates);
    let (after, differences) = reconcile(&before, all, settings, &known);
    let mut problems: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for difference in differences {
        if let Difference::Rejected(problem) = difference {
            let path = settings.dir.join(&problem.file);
            let text = match problem.hint.as_str() {
                "" => problem.message,
                hint => format!("{}; {hint}", problem.message),
            };
            problems.entry(path).or_default().push(text);
        }
    }
    let settle = |(wanted, fate): (Wanted, Option<Fate>)| {
        let address = wanted.address.clone();
        let path = file_of(conf_dir, &address, "toml");
        let fate =
            fate.unwrap_or_else(|| match (problems.get(&path), after.active().get(&address)) {
                (None, Some(enrollment)) => Fate::New { wanted, enrollment: enrollment.clone() },
                (problems, _) => {
                    let why = problems.map(|problems| problems.join("; ")).unwrap_or_default();
                    Fate::Wrong(why)
                }
            });
        (address, fate)
    };
    fates.into_iter().map(settle).collect()
}

/// Does its enrollment name a login that no row of a table has?
fn has_own_archive(before: &Snapshot, address: &str) -> bool {
    before.active().get(address).is_some_and(|enrollment| enrollment.archive.is_some())
}

/// An exit code, and what to say.
async fn act(
    shared: &Shared,
    settings: &Settings,
    fate: Fate,
    key: Option<&SealingKey>,
    dry_run: bool,
) -> (u8, String) {
    let (wanted, enrollment) = match fate {
        Fate::Already(file) => {
            return (exit::FINE, format!("already enrolled by {}", file.display()));
        }
        Fate::Wrong(why) => return (exit::NO, shown(&why)),
        Fate::New { wanted, enrollment } => (wanted, enrollment),
    };
    let how = match (key, wanted.source_password.is_some() || wanted.target_password.is_some()) {
        (_, false) => "",
        (Some(_), true) => ", sealed",
        (None, true) => ", its password in plain",
    };
    if dry_run {
        return (exit::FINE, format!("would be enrolled in {}{how}", enrollment.migration.name));
    }
    // A service login is its migration's affair, and may only be known to the service.
    if wanted.source_password.is_some()
        && let Err((code, words)) = try_source(shared, &enrollment).await
    {
        let words = shown(&words);
        return match exit_of(&code) {
            exit::CREDENTIALS => (exit::CREDENTIALS, format!("Credenziali non valide: {words}")),
            other => (other, format!("not enrolled: {code}: {words}")),
        };
    }
    let text = wanted.text(|secret, side| match key {
        None => Ok(Line::plain(secret)),
        Some(key) => {
            let sealed = key.seal(secret, &wanted.address, side)?;
            Ok(Line { key: "sealed_password", value: Zeroizing::new(sealed) })
        }
    });
    let text = match text {
        Ok(text) => text,
        Err(wrong) => return (exit::NO, wrong.to_string()),
    };
    let path = file_of(&settings.daemon.conf_dir, &wanted.address, "toml");
    match write(&path, text.as_bytes(), &settings.daemon.state_dir) {
        Ok(()) => (exit::FINE, format!("enrolled in {}{how}", enrollment.migration.name)),
        Err(error) => (exit::NO, format!("{}: {error}", path.display())),
    }
}

/// Whole or not at all; for its owner, and the daemon's group where root writes it.
fn write(path: &Path, octets: &[u8], state_dir: &Path) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Hidden, so that nobody takes half of it for an enrollment.
    let draft = dir.join(format!(".{name}.draft"));
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(octets)?;
    let group = state_dir.metadata().ok().map(|state| state.gid());
    // Only root can give it away; whoever else writes it is told by the daemon what it lacks.
    let given = group.map(|group| fchown(&file, None, Some(group)));
    if given.is_some_and(|given| given.is_ok()) {
        file.set_permissions(PermissionsExt::from_mode(0o640))?;
    }
    file.sync_all()?;
    fs::rename(&draft, path)?;
    fs::File::open(dir)?.sync_all()
}
