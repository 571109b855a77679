//! What servers do that nobody asked of them, each done by a server in a test: the copy is exact
//! all the same. docs/servers.md is the list of it.
//!
//! Most of them are simulated servers with a habit, between which the product lives an account's
//! whole life; where the client alone has to cope, it is a scripted one.

#[path = "../support/scripted.rs"]
mod scripted;
#[path = "../support/sim/mod.rs"]
mod sim;

mod append;
mod fetch;
mod folders;
mod idle;
mod login;
mod manual;
mod select;

use sim::world::Ended;
use sim::worlds::small;
use sim::{Habit, Traits, World};

/// A small world whose source has these habits.
fn odd_source(habits: &[Habit]) -> World {
    let source = habits.iter().fold(Traits::source(), |source, habit| source.with(*habit));
    World { source, ..small(format!("the source: {habits:?}")) }
}

/// A small world whose target has these habits.
fn odd_target(habits: &[Habit]) -> World {
    let target = habits.iter().fold(Traits::target(), |target, habit| target.with(*habit));
    World { target, ..small(format!("the target: {habits:?}")) }
}

/// A small world with these habits on both sides.
fn odd(habits: &[Habit]) -> World {
    World { target: odd_target(habits).target, ..odd_source(habits) }
}

/// Lives it to an exact copy, which there is before the cutover already.
fn live(world: &World) -> Ended {
    let ended = live_lagging(world);
    assert!(!ended.lagged, "{}: only the last pass made it level", world.name);
    ended
}

/// Lives it to an exact copy, be it only by the last pass.
fn live_lagging(world: &World) -> Ended {
    world.live().unwrap_or_else(|report| panic!("{report}"))
}

/// How often the journal was told of an event.
fn told(ended: &Ended, event: &str) -> usize {
    ended.events.iter().filter(|name| **name == event).count()
}
