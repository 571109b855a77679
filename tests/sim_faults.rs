//! Random worlds: crashes, cuts, late and lying servers, refusals, and a source that changes
//! meanwhile, all mixed. Every world ends with an exact copy, or with a list of what was refused.
//!
//! SEED repeats one world; PECSYNC_SIM_WORLDS sets how many there are, PECSYNC_SIM_FIRST the
//! first seed.

#[path = "support/sim/mod.rs"]
mod sim;

use std::time::Duration;

use sim::run_all;
use sim::worlds::random;

const WORLDS: u64 = 250;
/// No world is begun after so long.
const BUDGET: Duration = Duration::from_secs(60);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_worlds_end_with_an_exact_copy() {
    let count = number("PECSYNC_SIM_WORLDS");
    let first = number("PECSYNC_SIM_FIRST").unwrap_or(1);
    let budget = if count.is_some() { Duration::from_secs(86_400) } else { BUDGET };
    match number("SEED") {
        Some(seed) => drop(run_all([random(seed)].into_iter(), budget)),
        None => {
            let worlds = (first..first + count.unwrap_or(WORLDS)).map(random);
            run_all(worlds, budget);
        }
    }
}
