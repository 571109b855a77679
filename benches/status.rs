//! What an answer to `status` costs the daemon with ten thousand accounts.
//!
//! `cargo test --release --bench status -- --nocapture`

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use pecsync::daemon::board::{Board, Posted};
use pecsync::daemon::protocol::StatusOf;
use pecsync::status::*;
use pecsync::sync::account::StatusCell;

const ACCOUNTS: usize = 10_000;
const FOLDERS: usize = 12;

fn account(number: usize) -> AccountStatus {
    let folder = |at: usize| FolderCounts {
        name: format!("INBOX/Cartella {at}"),
        target: format!("Cartella {at}"),
        source: Some(1204),
        copied: Some(1204),
        refused: Some(0),
        state: "ok".into(),
        reason: None,
    };
    AccountStatus {
        address: format!("nome.cognome{number}@pec.epap.it"),
        migration: "epap".into(),
        phase: if number.is_multiple_of(2) { "draining" } else { "completed" }.into(),
        condition: "ok".into(),
        cutover: Some("2026-02-04T07:00:00Z".into()),
        removals: "mirrored".into(),
        mode: "idle".into(),
        folders: (0..FOLDERS).map(folder).collect(),
        ..AccountStatus::default()
    }
}

#[test]
fn ten_thousand_accounts() {
    let board = Board::new(Timestamp::now(), Arc::default(), Arc::default());
    let cells = (0..ACCOUNTS).map(|number| StatusCell::new(account(number).into())).collect();
    board.post(Posted { cells, ..Posted::default() });
    for round in 0..10 {
        // In turn: all of it, and what a table is made of.
        let brief = round % 2 == 1;
        let wanted = StatusOf { brief, ..StatusOf::default() };
        let begun = Instant::now();
        let status = board.status_of(&wanted);
        let gathered = begun.elapsed();
        let octets = serde_json::to_vec(&status).expect("JSON");
        let written = begun.elapsed();
        let read: Status = serde_json::from_slice(&octets).expect("what was written");
        let understood = begun.elapsed();
        assert_eq!(read.accounts.len(), ACCOUNTS);
        let octets = octets.len();
        let begun = Instant::now();
        let tallies = board.tallies(Timestamp::now());
        println!(
            "{ACCOUNTS} accounts, brief {brief}: gathered in {gathered:?}, written in {written:?} \
             ({octets} octets), read by {understood:?}; tallied in {:?}: {}",
            begun.elapsed(),
            tallies["epap"].progress()
        );
    }
}
