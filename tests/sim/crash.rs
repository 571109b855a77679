//! The product dies before every effect, between effect and answer, and between answer and
//! commit; its checkpoint is kept, older or gone. Every world ends with an exact copy.
//!
//! PECSYNC_SIM_THOROUGH=1 adds rarer deaths.

use crate::run_all;
use crate::sim::worlds::small;
use crate::sim::{Crash, Memory, Moment, World};

const MOMENTS: [Moment; 3] = [Moment::Before, Moment::Done, Moment::Answered];
const MEMORIES: [Memory; 3] = [Memory::Kept, Memory::Older(0), Memory::Deleted];
const RARER_MOMENTS: [Moment; 6] = [
    Moment::Later(20),
    Moment::Late(1),
    Moment::Late(200),
    Moment::Late(5_000),
    Moment::Late(30_000),
    Moment::Late(59_000),
];
const RARER_MEMORIES: [Memory; 2] = [Memory::Flushed, Memory::Older(3)];

fn deaths_at(effect: usize) -> Vec<Crash> {
    let thorough = std::env::var_os("PECSYNC_SIM_THOROUGH").is_some();
    let (mut moments, mut memories) = (MOMENTS.to_vec(), MEMORIES.to_vec());
    let mut deaths = Vec::new();
    if thorough {
        moments.extend(RARER_MOMENTS);
        memories.extend(RARER_MEMORIES);
    } else {
        // A server that goes on after the product's death, at one of several moments.
        let moment = RARER_MOMENTS[1 + effect % 5];
        deaths.push(Crash { effect, moment, memory: Memory::Kept });
    }
    for moment in moments {
        deaths.extend(memories.iter().map(|memory| Crash { effect, moment, memory: *memory }));
    }
    deaths
}

/// Dies once at every effect of the world, in every way; or only at those of the last pass.
fn die_everywhere(name: &str, last_pass: bool, world: impl Fn(String) -> World + Send + Sync) {
    let whole = world(format!("{name}, unharmed")).live();
    let whole = whole.unwrap_or_else(|report| panic!("{report}"));
    let effects = whole.effects;
    let first = if last_pass { whole.effects_before } else { 0 };
    assert!(first < effects, "{name}: nothing is left to die at");
    let worlds = (first..effects).flat_map(deaths_at).map(|death| {
        let mut world = world(format!("{name}, {death:?}"));
        world.plan.crashes.push(death);
        world
    });
    let summary = run_all(worlds);
    println!("{name}: effects {first} to {effects}, {} deaths", summary.worlds);
}

#[test]
fn dying_at_every_effect() {
    die_everywhere("all capabilities", false, small);
}

/// Each message is an effect of its own here, and a move is three.
#[test]
fn dying_at_every_effect_of_single_appends() {
    die_everywhere("single appends", false, |name| {
        let world = small(name);
        World { target: world.target.clone().without(&["MULTIAPPEND", "MOVE"]), ..world }
    });
}

/// What happens at the source just before the cutover is for the last pass to do. Where the
/// checkpoint is lost then, somebody has to approve, and copies may stay that should have gone.
#[test]
fn dying_in_the_last_pass() {
    die_everywhere("last pass", true, |name| World { rush: true, ..small(name) });
}
