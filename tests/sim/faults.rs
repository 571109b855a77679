//! Random worlds: everything that can go wrong, all mixed, and a source that changes meanwhile.
//!
//! PECSYNC_SIM_WORLDS sets how many there are, PECSYNC_SIM_FIRST the first seed.

use crate::sim::worlds::random;
use crate::{number, run_all};

const WORLDS: u64 = 2500;

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
