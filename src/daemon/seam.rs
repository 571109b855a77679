//! Stands in for what the configuration room will offer; gone when it does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Enrollment, Problem, Settings};

#[derive(Clone, Default)]
pub struct Snapshot;

pub enum Difference {
    Accepted(Arc<Enrollment>),
    Replaced(Arc<Enrollment>),
    Removed(String),
    Rejected(Problem),
}

pub struct Files;

pub fn load(_path: &Path, _now: jiff::Timestamp) -> Result<(Settings, Vec<Problem>), Vec<Problem>> {
    todo!()
}

pub fn read_dir_files(_dir: &Path) -> Files {
    todo!()
}

pub fn reconcile(
    _snapshot: &Snapshot,
    _files: Files,
    _settings: &Settings,
    _known: &[(String, String)],
) -> (Snapshot, Vec<Difference>) {
    todo!()
}

impl Snapshot {
    pub fn problems(&self) -> Vec<Problem> {
        todo!()
    }
}

pub struct Watcher;

impl Watcher {
    pub fn new(_dir: PathBuf) -> Watcher {
        todo!()
    }

    pub async fn changed(&mut self) {
        todo!()
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.message)
    }
}
