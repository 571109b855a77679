//! The proof of an account's move, written when it has ended. If that fails, the journal says so;
//! the end stands.

use std::sync::Arc;

use super::shared::Shared;
use crate::checkpoint::{AccountRecord, Phase};
use crate::journal::{Entry, Event, shown};
use crate::report::{self, LeftOut};

/// Has the account ended without leaving its report?
pub fn is_wanted(shared: &Shared, record: &AccountRecord) -> bool {
    let reports = shared.reports.as_ref();
    record.phase >= Phase::Completed
        && reports.is_some_and(|reports| !report::exists(reports, &record.address))
}

/// Writes the report. `left_out`: name, state and reason of folders that were not copied.
pub async fn write<'l>(
    shared: &Arc<Shared>,
    record: &AccountRecord,
    left_out: impl IntoIterator<Item = (&'l str, &'l str, &'l str)>,
) {
    let Some(reports) = shared.reports.clone() else { return };
    let _turn = shared.reporting.acquire().await;
    let left_out: Vec<LeftOut> = left_out
        .into_iter()
        .map(|(name, state, why)| LeftOut {
            name: shown(name),
            state: state.to_owned(),
            why: shown(why),
        })
        .collect();
    let (account, store, now) = (record.clone(), shared.store.clone(), shared.clock.now());
    // A large account takes seconds, which belong to those that still copy.
    let written = tokio::task::spawn_blocking(move || {
        report::write_files(&reports, &store, &account, &left_out, now)
    });
    let entry = match written.await.map_err(std::io::Error::other).flatten() {
        Ok(path) => Entry::new(Event::ReportWritten, path.display().to_string()).file(&path, 0),
        Err(error) => Entry::new(Event::ReportFailed, error.to_string()),
    };
    shared.journal.emit(entry.account(&record.address).migration(&record.migration));
}
