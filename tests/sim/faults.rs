//! Random worlds: everything that can go wrong, all mixed, and a source that changes meanwhile.
//!
//! PECSYNC_SIM_WORLDS sets how many there are, PECSYNC_SIM_FIRST the first seed.

use crate::sim::worlds::{archived, random};
use crate::{number, run_all};

const WORLDS: u64 = 2500;
const WORLDS_WITH_AN_ARCHIVE: u64 = 1200;

#[test]
fn random_worlds_end_with_an_exact_copy() {
    if let Some(seed) = number("SEED") {
        run_all([random(seed)].into_iter());
        return;
    }
    let first = number("PECSYNC_SIM_FIRST").unwrap_or(1);
    let count = number("PECSYNC_SIM_WORLDS").unwrap_or(WORLDS);
    run_all((first..first + count).map(random));
}

/// What is moved between the account's folders and one that waits for the cutover, in the same
/// store or a second one, before the seal and at it, and all else that can go wrong.
#[test]
fn random_worlds_with_an_archive_end_with_an_exact_copy() {
    if let Some(seed) = number("ARCHIVE_SEED") {
        run_all([archived(seed)].into_iter());
        return;
    }
    let first = number("PECSYNC_SIM_FIRST").unwrap_or(1);
    run_all((first..first + WORLDS_WITH_AN_ARCHIVE).map(archived));
}
