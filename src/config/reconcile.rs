//! What changed in conf.d: a pure function from what was and what is read to what is now, and
//! the differences the daemon acts on.
//!
//! A wrong file never disturbs the others, nor the last good version of itself: that stays
//! active until the file is mended or removed. Which of two files wins that ask for the same is
//! decided in `conflicts`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::conf_dir::{Content, EnrollmentText, FileRead};
use super::conflicts;
use super::dates;
use super::enrollment::{self, ClaimedAt, Owner, Parsed};
use super::load::shown;
use super::owners;
use super::portal;
use super::problem::{Problem, Wrong};
use super::settings::{Endpoint, Enrollment, Migration, Settings};

/// How often accounts that take over from each other are followed at once.
const STEPS_MAX: usize = 8;

/// What conf.d said when it was last read.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    files: BTreeMap<PathBuf, File>,
    /// By address.
    active: BTreeMap<String, Arc<Enrollment>>,
    /// Those that the files were read under.
    migrations: BTreeMap<String, Arc<Migration>>,
}

/// One file as it was read last.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub digest: [u8; 32],
    pub written: Option<Timestamp>,
    /// What it says now; `None` if it is wrong in itself.
    pub parsed: Option<Arc<Enrollment>>,
    /// Where it says so: lines and columns of what it claims.
    pub claimed_at: ClaimedAt,
    /// What of it is active: `parsed`, or the last good version, or nothing.
    pub active: Option<Arc<Enrollment>>,
    /// Which version of the file `active` is, and when that was written.
    pub active_digest: [u8; 32],
    pub active_written: Option<Timestamp>,
    /// What is wrong in itself.
    own_problems: Vec<Problem>,
    /// What is wrong beside the others.
    pub conflicts: Vec<Problem>,
    /// The account it asks for, as far as that can be read.
    pub address: Option<String>,
    /// Of a file of the portal's: what may be used over an administrator's.
    pub owner: Option<Arc<Owner>>,
    /// And it is: whatever else is wrong with it does not matter.
    pub is_used: bool,
}

/// What the daemon must act on.
#[derive(Clone, Debug)]
pub enum Difference {
    Accepted(Arc<Enrollment>),
    /// A new version of an active account's enrollment, or the same under changed settings.
    Replaced(Arc<Enrollment>),
    /// The portal wrote what was known: the mailbox's owner came back and proved the same password.
    Repeated(Arc<Enrollment>),
    Removed(Arc<Enrollment>),
    /// Said once per content of a file; each problem on its own.
    Rejected(Problem),
}

/// A file that is not (or not in its present version) followed.
#[derive(Clone, Copy, Debug)]
pub struct RejectedFile<'s> {
    pub path: &'s Path,
    /// The account it asks for, as far as that can be read.
    pub address: Option<&'s str>,
    pub problems: (&'s [Problem], &'s [Problem]),
    /// An older version of it is still active.
    pub last_good: bool,
}

impl Snapshot {
    /// All accounts that are to be moved, by address.
    pub fn active(&self) -> &BTreeMap<String, Arc<Enrollment>> {
        &self.active
    }

    /// Every problem there is, in the order of the files.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.files.values().flat_map(File::problems)
    }

    pub fn rejected(&self) -> impl Iterator<Item = RejectedFile<'_>> {
        let bad = |file: &&File| file.problems().next().is_some();
        let files = self.files.iter().filter(move |(_, file)| bad(file));
        files.map(|(path, file)| RejectedFile {
            path,
            address: file.address.as_deref(),
            problems: (&file.own_problems, &file.conflicts),
            last_good: file.active.is_some(),
        })
    }
}

/// Compares what is read with what was.
///
/// `known` are the accounts the checkpoint remembers and the file each came from: it decides who
/// is first after a restart.
pub fn reconcile(
    previous: &Snapshot,
    files: Vec<FileRead>,
    settings: &Settings,
    known: &BTreeMap<String, PathBuf>,
) -> (Snapshot, Vec<Difference>) {
    let conf_dir = &settings.daemon.conf_dir;
    let mut snapshot = step(previous, &files, settings, known);
    // A file that fell back to its last good version may have freed what another was refused:
    // looking again finds it, so that the next look finds nothing.
    for _ in 0..STEPS_MAX {
        if snapshot.files.values().all(|file| file.conflicts.is_empty()) {
            break;
        }
        let next = step(&snapshot, &files, settings, known);
        let settled = differences(&snapshot, &next, conf_dir).is_empty();
        snapshot = next;
        if settled {
            break;
        }
    }
    let differences = differences(previous, &snapshot, conf_dir);
    (snapshot, differences)
}

fn step(
    previous: &Snapshot,
    files: &[FileRead],
    settings: &Settings,
    known: &BTreeMap<String, PathBuf>,
) -> Snapshot {
    let mut now = parse_all(previous, files, settings, known);
    let unlisted = keep_unlisted(previous, files, &mut now, settings);
    conflicts::resolve(&previous.files, &mut now, settings, known);
    let active = now.values().filter_map(|file| file.active.clone());
    let mut active: BTreeMap<String, Arc<Enrollment>> =
        active.map(|enrollment| (enrollment.address.clone(), enrollment)).collect();
    owners::apply(&mut now, &mut active, settings);
    now.extend(unlisted);
    Snapshot { files: now, active, migrations: settings.migrations.clone() }
}

/// Every file by itself. What has not changed is not parsed again.
fn parse_all(
    previous: &Snapshot,
    files: &[FileRead],
    settings: &Settings,
    known: &BTreeMap<String, PathBuf>,
) -> BTreeMap<PathBuf, File> {
    let same_settings = same_generation(&previous.migrations, &settings.migrations);
    let mut now = BTreeMap::new();
    for file in files {
        let before = previous.files.get(&file.path);
        let unchanged = before.filter(|before| same_settings && before.digest == file.digest);
        let parsed = match (&file.content, unchanged) {
            (Content::UnlistedDirectory(_), _) => continue,
            (_, Some(unchanged)) => {
                File { written: file.written, ..unchanged.clone() }.before_others()
            }
            (Content::Text(text), None) => {
                let is_known = |address: &str| {
                    known.contains_key(address) || previous.active.contains_key(address)
                };
                parse(file, text, before, settings, is_known)
            }
            (Content::Unreadable(unreadable), None) => {
                let problem = unreadable.problem(&shown(&settings.dir, &file.path));
                File::bad(file, vec![problem], None).after(before, settings)
            }
        };
        now.insert(file.path.clone(), parsed);
    }
    now
}

/// Settings that were loaded once are equal; loaded again they are looked at again.
fn same_generation(
    a: &BTreeMap<String, Arc<Migration>>,
    b: &BTreeMap<String, Arc<Migration>>,
) -> bool {
    a.len() == b.len() && a.values().zip(b.values()).all(|(a, b)| Arc::ptr_eq(a, b))
}

fn parse(
    file: &FileRead,
    content: &EnrollmentText,
    before: Option<&File>,
    settings: &Settings,
    is_known: impl Fn(&str) -> bool,
) -> File {
    let password_file = |written: &str| match content.passwords.get(written) {
        Some(password) => password.clone(),
        None => Err(Wrong::new("the password file was not read", "save the file again")),
    };
    let EnrollmentText { text, others_read, .. } = content;
    let parsed = enrollment::parse_with(&file.path, text, *others_read, settings, &password_file);
    let parsed = match parsed {
        Ok(Parsed { enrollment, .. })
            if !is_known(&enrollment.address) && is_too_late(file, &enrollment.migration) =>
        {
            let problem = too_late(&shown(&settings.dir, &file.path), &enrollment.migration);
            File::bad(file, vec![problem], Some(enrollment.address))
        }
        Ok(parsed) => File::good(file, parsed),
        Err(problems) => File::bad(file, problems, enrollment::address_in(text)),
    };
    let owner = parsed.owner_of(file, text, settings);
    File { owner, ..parsed }.after(before, settings)
}

/// Was it written after the enrolling window?
fn is_too_late(file: &FileRead, migration: &Migration) -> bool {
    let until = migration.enroll_until;
    until.is_some_and(|until| file.written.is_some_and(|written| written > until))
}

fn too_late(file: &Path, migration: &Migration) -> Problem {
    let zone = dates::zone(&migration.timezone).unwrap_or(jiff::tz::TimeZone::UTC);
    let until = migration.enroll_until.map(|until| dates::in_zone(until, &zone));
    let message = format!(
        "enrolling for migration {:?} ended at {}",
        migration.name,
        until.map(|until| until.to_string()).unwrap_or_default()
    );
    let hint = "move enroll_until in the migration and reload, if it is to be moved all the same";
    Problem::of_file(file, Wrong::new(message, hint))
}

impl File {
    fn good(file: &FileRead, parsed: Parsed) -> File {
        let Parsed { enrollment, claimed_at } = parsed;
        let address = Some(enrollment.address.clone());
        let parsed = Some(Arc::new(enrollment));
        File { parsed, claimed_at, ..File::bad(file, Vec::new(), address) }
    }

    /// Nothing is said yet of what it is beside others.
    fn before_others(self) -> File {
        File { conflicts: Vec::new(), is_used: false, ..self }
    }

    fn problems(&self) -> impl Iterator<Item = &Problem> {
        let all = self.own_problems.iter().chain(&self.conflicts);
        all.filter(|_| !self.is_used)
    }

    fn bad(file: &FileRead, own_problems: Vec<Problem>, address: Option<String>) -> File {
        File {
            digest: file.digest,
            written: file.written,
            parsed: None,
            claimed_at: ClaimedAt::default(),
            active: None,
            active_digest: [0; 32],
            active_written: None,
            own_problems,
            conflicts: Vec::new(),
            address,
            owner: None,
            is_used: false,
        }
    }

    fn owner_of(&self, file: &FileRead, text: &str, settings: &Settings) -> Option<Arc<Owner>> {
        if !portal::is_portals(&settings.daemon.conf_dir, &file.path) {
            return None;
        }
        Owner::parse(&file.path, text, settings).map(Arc::new)
    }

    /// With the last good version of the same file, if it still holds under the settings.
    fn after(self, before: Option<&File>, settings: &Settings) -> File {
        let Some(before) = before else { return self };
        let same_content_turned_bad = self.parsed.is_none() && self.digest == before.active_digest;
        let last_good = before.active.as_ref().filter(|_| !same_content_turned_bad);
        let active = last_good.and_then(|enrollment| under(settings, enrollment));
        let File { active_digest, active_written, .. } = *before;
        File { active, active_digest, active_written, ..self }
    }

    /// The version of it that is a candidate: a file that is wrong, or came too late with what
    /// it says now, stays what it was.
    pub fn candidate(&self, lost: bool) -> Option<&Arc<Enrollment>> {
        if lost || self.parsed.is_none() { self.active.as_ref() } else { self.parsed.as_ref() }
    }
}

/// An enrollment whose file cannot be asked again, under the settings as they are now; `None`
/// where they changed in what it was checked against.
fn under(settings: &Settings, enrollment: &Arc<Enrollment>) -> Option<Arc<Enrollment>> {
    let before = &enrollment.migration;
    let migration = settings.migrations.get(&before.name)?;
    if Arc::ptr_eq(migration, before) {
        return Some(enrollment.clone());
    }
    let login_as_before = |a: &Endpoint, b: &Endpoint| format!("{a:?}") == format!("{b:?}");
    let archive = |migration: &Migration| {
        migration.archive.as_ref().map(|archive| format!("{:?}", archive.source))
    };
    let holds = login_as_before(&migration.source, &before.source)
        && login_as_before(&migration.target, &before.target)
        && archive(migration) == archive(before)
        && migration.domains == before.domains;
    let own_cutover = enrollment.cutover.filter(|_| enrollment.cutover != before.cutover);
    let cutover = own_cutover.or(migration.cutover);
    let migration = migration.clone();
    holds.then(|| Arc::new(Enrollment { migration, cutover, ..(**enrollment).clone() }))
}

/// A directory that cannot be listed says nothing about its files: what they said last stays.
fn keep_unlisted(
    previous: &Snapshot,
    files: &[FileRead],
    now: &mut BTreeMap<PathBuf, File>,
    settings: &Settings,
) -> BTreeMap<PathBuf, File> {
    let mut directories = BTreeMap::new();
    for file in files {
        let Content::UnlistedDirectory(wrong) = &file.content else { continue };
        for (path, before) in previous.files.iter().filter(|(path, _)| path.starts_with(&file.path))
        {
            if *path != file.path {
                let kept = before.clone().before_others();
                now.entry(path.clone()).or_insert(kept);
            }
        }
        let problem = Problem::of_file(&shown(&settings.dir, &file.path), wrong.clone());
        directories.insert(file.path.clone(), File::bad(file, vec![problem], None));
    }
    directories
}

fn differences(previous: &Snapshot, now: &Snapshot, conf_dir: &Path) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (address, before) in &previous.active {
        if !now.active.contains_key(address) {
            differences.push(Difference::Removed(before.clone()));
        }
    }
    for (address, enrollment) in &now.active {
        match previous.active.get(address) {
            None => differences.push(Difference::Accepted(enrollment.clone())),
            Some(before) => {
                differences.extend(change((previous, before), (now, enrollment), conf_dir));
            }
        }
    }
    for (path, file) in &now.files {
        let before = previous.files.get(path).filter(|before| before.digest == file.digest);
        let said: Vec<&Problem> = before.iter().flat_map(|before| before.problems()).collect();
        let unsaid = file.problems().filter(|problem| !said.contains(problem));
        differences.extend(unsaid.cloned().map(Difference::Rejected));
    }
    differences
}

/// Another version of the file, another file, or the same under settings that changed for it.
fn change(
    (previous, before): (&Snapshot, &Enrollment),
    (now, after): (&Snapshot, &Arc<Enrollment>),
    conf_dir: &Path,
) -> Option<Difference> {
    let versions = |snapshot: &Snapshot, enrollment: &Enrollment| {
        let owners = enrollment.owners_file.as_ref().and_then(|file| snapshot.files.get(file));
        let file = snapshot.files.get(&enrollment.file);
        (file.map(|file| file.active_digest), owners.map(|file| file.digest))
    };
    let (was, is) = (versions(previous, before), versions(now, after));
    let same_files = before.file == after.file && before.owners_file == after.owners_file;
    let settings_changed = !Arc::ptr_eq(&before.migration, &after.migration);
    if same_files && was == is && (!settings_changed || same(before, after)) {
        return None;
    }
    let by_portal = |file: &Path| portal::is_portals(conf_dir, file);
    let only_by_portal = (was.0 == is.0 || by_portal(&after.file))
        && after.owners_password_from().is_some_and(by_portal);
    Some(match only_by_portal && same(before, after) {
        true => Difference::Repeated(after.clone()),
        false => Difference::Replaced(after.clone()),
    })
}

/// Debug shows every field but the secrets, which are compared beside it.
fn same(a: &Enrollment, b: &Enrollment) -> bool {
    let secrets = |enrollment: &Enrollment| {
        let service = |endpoint: &Endpoint| {
            endpoint.service_login.as_ref().map(|login| login.password.clone())
        };
        let archive = enrollment.archive.as_ref().and_then(|login| login.password.clone());
        let archives = enrollment.migration.archive.as_ref();
        [
            enrollment.source_password.clone(),
            enrollment.target_password.clone(),
            archive,
            service(&enrollment.migration.source),
            service(&enrollment.migration.target),
            archives.and_then(|migration| service(&migration.source)),
        ]
    };
    let (a_secrets, b_secrets) = (secrets(a), secrets(b));
    let exposed = |secret: &Option<secrecy::SecretString>| {
        secret.as_ref().map(|secret| zeroize::Zeroizing::new(secret.expose_secret().to_owned()))
    };
    format!("{a:?}") == format!("{b:?}")
        && a_secrets.iter().zip(&b_secrets).all(|(a, b)| exposed(a) == exposed(b))
}
