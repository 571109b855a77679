//! What operators decided over the control socket and a restart must not forget: who is paused,
//! which cutovers were moved, who was reopened. Kept beside the checkpoint in a file of its own,
//! because it cannot be derived again. What follows from it is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::protocol::Scope;
use crate::config::{Decree, Enrollment, Migration};

/// All decrees in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Decrees {
    paused: BTreeSet<Scope>,
    cutovers: Vec<Moved>,
    /// By address.
    reopened: BTreeMap<String, Timestamp>,
}

/// A cutover that was moved. A later change in the files beats it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Moved {
    of: Scope,
    to: Timestamp,
    /// What the files said then.
    configured: Option<Timestamp>,
}

impl Decrees {
    pub fn file(state_dir: &Path) -> PathBuf {
        state_dir.join("decrees.json")
    }

    /// None where there is no file. Blocking.
    pub fn load(state_dir: &Path) -> io::Result<Decrees> {
        match fs::read(Decrees::file(state_dir)) {
            Ok(octets) => Ok(serde_json::from_slice(&octets)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Decrees::default()),
            Err(error) => Err(error),
        }
    }

    /// Whole and durable, or not at all. Blocking, for as long as the disk takes.
    pub fn save(&self, state_dir: &Path) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = Decrees::file(state_dir);
        let draft = path.with_extension("new");
        let mut options = File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o640).open(&draft)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(state_dir)?.sync_all()
    }

    /// False if it was paused already.
    pub fn pause(&mut self, scope: Scope) -> bool {
        self.paused.insert(scope)
    }

    /// False if it was not paused.
    pub fn resume(&mut self, scope: &Scope) -> bool {
        self.paused.remove(scope)
    }

    pub fn move_cutover(&mut self, of: Scope, to: Timestamp, configured: Option<Timestamp>) {
        self.cutovers.retain(|moved| moved.of != of);
        self.cutovers.push(Moved { of, to, configured });
    }

    pub fn reopen(&mut self, address: &str, now: Timestamp) {
        self.reopened.insert(address.to_owned(), now);
    }

    /// Drops what was decided about that account alone; false where that was nothing.
    pub fn forget(&mut self, address: &str) -> bool {
        let before = self.clone();
        let own = Scope::Account(address.to_owned());
        self.paused.remove(&own);
        self.cutovers.retain(|moved| moved.of != own);
        self.reopened.remove(address);
        *self != before
    }

    /// The widest pause an account is under.
    pub fn pause_of(&self, enrollment: &Enrollment) -> Option<&Scope> {
        let migration = &enrollment.migration;
        self.paused.iter().rev().find(|scope| match scope {
            Scope::Account(address) => *address == enrollment.address,
            Scope::Migration(name) => *name == migration.name,
            Scope::Host(host) => *host == migration.source.host || *host == migration.target.host,
        })
    }

    /// An enrollment as its file asks for it, as the decrees change it.
    pub fn applied(&self, configured: &Arc<Enrollment>) -> Arc<Enrollment> {
        let migration = &configured.migration;
        let own = Scope::Account(configured.address.clone());
        let own = self.moved(&own, configured.cutover);
        let shared = self.moved(&Scope::Migration(migration.name.clone()), migration.cutover);
        let shares = configured.cutover == migration.cutover;
        let decree = Decree {
            paused: self.pause_of(configured).is_some(),
            reopened_at: self.reopened.get(&configured.address).copied(),
            migration_cutover: shared,
        };
        let moved = own.or(shared.filter(|_| shares));
        if moved.is_none() && decree == configured.decree {
            return configured.clone();
        }
        let cutover = moved.or(configured.cutover);
        Arc::new(Enrollment { cutover, decree, ..(**configured).clone() })
    }

    /// A migration's cutover: as the files have it, or as it was moved.
    pub fn cutover_of(&self, migration: &Migration) -> Option<Timestamp> {
        let scope = Scope::Migration(migration.name.clone());
        self.moved(&scope, migration.cutover).or(migration.cutover)
    }

    pub fn is_paused(&self, scope: &Scope) -> bool {
        self.paused.contains(scope)
    }

    fn moved(&self, of: &Scope, configured: Option<Timestamp>) -> Option<Timestamp> {
        let moved = self.cutovers.iter().find(|moved| moved.of == *of)?;
        (moved.configured == configured).then_some(moved.to)
    }
}

#[cfg(test)]
mod tests {
    use super::super::accounts::tests::enrollment;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Of migration epap, with a cutover of its own or its migration's.
    fn account(address: &str, own: Option<i64>, migrations: Option<i64>) -> Arc<Enrollment> {
        let enrollment = (*enrollment(address)).clone();
        let mut migration = (*enrollment.migration).clone();
        migration.cutover = migrations.map(at);
        let cutover = own.or(migrations).map(at);
        Arc::new(Enrollment { cutover, migration: Arc::new(migration), ..enrollment })
    }

    fn epap() -> Scope {
        Scope::Migration("epap".into())
    }

    #[test]
    fn nothing_decreed_changes_nothing() {
        let configured = account("a@b", None, Some(100));
        assert!(Arc::ptr_eq(&Decrees::default().applied(&configured), &configured));
    }

    #[test]
    fn a_moved_cutover_holds_until_the_files_say_something_new() {
        let mut decrees = Decrees::default();
        decrees.move_cutover(epap(), at(50), Some(at(100)));
        decrees.move_cutover(epap(), at(70), Some(at(100)));
        let cutover = |own, migrations| decrees.applied(&account("a@b", own, migrations)).cutover;
        assert_eq!(cutover(None, Some(100)), Some(at(70)), "the last order counts");
        assert_eq!(cutover(None, Some(120)), Some(at(120)), "the file was changed since");
        assert_eq!(cutover(Some(90), Some(100)), Some(at(90)), "a pilot keeps its own");
        let pilot = decrees.applied(&account("a@b", Some(90), Some(100)));
        assert_eq!(pilot.decree.migration_cutover, Some(at(70)));

        decrees.move_cutover(Scope::Account("a@b".into()), at(60), Some(at(100)));
        let cutover = |address| decrees.applied(&account(address, None, Some(100))).cutover;
        assert_eq!((cutover("a@b"), cutover("c@b")), (Some(at(60)), Some(at(70))));
    }

    #[test]
    fn pauses_of_any_width_and_only_their_own_end_them() {
        let mut decrees = Decrees::default();
        let configured = account("a@b", None, None);
        let paused = |decrees: &Decrees| decrees.applied(&configured).decree.paused;
        for scope in [Scope::Account("a@b".into()), epap(), Scope::Host("imap.example".into())] {
            assert!(decrees.pause(scope.clone()) && paused(&decrees), "{scope:?}");
            assert!(!decrees.pause(scope.clone()));
            assert!(decrees.resume(&scope) && !paused(&decrees));
        }
        decrees.pause(epap());
        decrees.pause(Scope::Account("a@b".into()));
        decrees.resume(&Scope::Account("a@b".into()));
        assert_eq!(decrees.pause_of(&configured), Some(&epap()));
        assert!(!paused(&Decrees::default()));
    }

    #[test]
    fn a_forgotten_account_takes_only_its_own_with_it() {
        let mut others = Decrees::default();
        others.pause(epap());
        others.pause(Scope::Account("c@d".into()));
        let mut decrees = others.clone();
        decrees.pause(Scope::Account("a@b".into()));
        decrees.move_cutover(Scope::Account("a@b".into()), at(60), None);
        decrees.reopen("a@b", at(7));
        assert!(decrees.forget("a@b"));
        assert_eq!(decrees, others);
        assert!(!decrees.forget("a@b"));
    }

    #[test]
    fn a_restart_forgets_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Decrees::load(dir.path()).unwrap(), Decrees::default());
        let mut decrees = Decrees::default();
        decrees.pause(Scope::Host("imap.old.it".into()));
        decrees.move_cutover(epap(), at(50), None);
        decrees.reopen("a@b", at(7));
        decrees.save(dir.path()).unwrap();
        assert_eq!(Decrees::load(dir.path()).unwrap(), decrees);
        fs::write(Decrees::file(dir.path()), "{\"paused\": [").unwrap();
        assert!(Decrees::load(dir.path()).is_err(), "half a file is not no file");
    }
}
