//! Reading the configuration off the runtime: settings where asked for, then conf.d, then what
//! differs from what was read before. Thousands of files take a while.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::checkpoint::{AccountRecord, Store};
use crate::config::{self, Difference, Problem, Settings, Snapshot};

/// What a reading starts from.
pub struct Order {
    /// The path of pecsync.toml, where it is to be read again.
    pub config: Option<PathBuf>,
    pub settings: Arc<Settings>,
    pub snapshot: Snapshot,
    pub store: Store,
}

/// What it found.
pub struct Reading {
    /// Settings were asked for and are good.
    pub settings: Option<Arc<Settings>>,
    /// With the settings: of pecsync.toml and migrations.d.
    pub problems: Vec<Problem>,
    /// `false`: `problems` are the reason why the settings in use stay.
    pub settings_are_good: bool,
    pub snapshot: Snapshot,
    pub differences: Vec<Difference>,
    /// What the checkpoint knows.
    pub records: Vec<AccountRecord>,
    /// Why `records` is empty though it should not be.
    pub store_error: Option<String>,
}

/// Blocks for as long as the file system takes.
pub fn read(order: Order) -> Reading {
    let Order { config, settings, snapshot, store } = order;
    let (new_settings, problems, settings_are_good) = match config {
        None => (None, Vec::new(), true),
        Some(path) => match config::load(&path) {
            Ok((settings, warnings)) => (Some(Arc::new(settings)), warnings, true),
            Err(problems) => (None, problems, false),
        },
    };
    let (records, store_error) = match store.accounts() {
        Ok(records) => (records, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let known: BTreeMap<String, PathBuf> = records
        .iter()
        .map(|record| (record.address.clone(), PathBuf::from(&record.enrolled_by)))
        .collect();
    let settings = new_settings.as_ref().unwrap_or(&settings);
    let files = config::read_dir_files(&settings.daemon.conf_dir);
    let (snapshot, differences) = config::reconcile(&snapshot, files, settings, &known);
    Reading {
        settings: new_settings,
        problems,
        settings_are_good,
        snapshot,
        differences,
        records,
        store_error,
    }
}
