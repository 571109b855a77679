//! Simulated worlds: the product's real account task between two IMAP servers in memory, by a
//! virtual clock. Every world ends with an exact copy, or with a list of what was refused.
//!
//! A failure prints the world's name, and SEED repeats it: `SEED=223 cargo test --test sim random`,
//! or part of a name, as in `SEED="small, Kill { at: 7," cargo test --test sim killed`.

#[path = "../support/sim/mod.rs"]
mod sim;

mod capabilities;
mod crash;
mod everywhere;
mod faults;
mod found;
mod migrations;
mod news;
mod repeat;
mod soak;
mod time;

use std::time::Duration;

use sim::World;
use sim::runner::{self, Summary};

/// Longer than all worlds of a test take, even where the machine is busy.
const BUDGET: Duration = Duration::from_secs(600);

/// Lives all worlds, or those that SEED names; panics with the reports of the first that fail.
fn run_all(worlds: impl Iterator<Item = World> + Send) -> Summary {
    let only = std::env::var("SEED").ok();
    let worlds = worlds.filter(|world| {
        only.as_ref().is_none_or(|only| world.name == *only || world.name.contains(only.as_str()))
    });
    runner::run_all(worlds, BUDGET)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
