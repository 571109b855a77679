//! One fault in every place where it can be: connections cut at every octet, refusals of every
//! command, deaths at every await.

use crate::sim::worlds::{small, tiny};
use crate::sim::{Cut, Kill, Memory, Reply, Side, Welcome, World};
use crate::{number, run_all};

const SIDES: [Side; 2] = [Side::Source, Side::Target];
const MEMORIES: [Memory; 4] = [Memory::Kept, Memory::Older(1), Memory::Older(4), Memory::Deleted];
/// The small world is cut at every so-manyeth octet; PECSYNC_SIM_STRIDE=1 leaves none out.
const STRIDE: u64 = 17;

/// Where a cut can be: both directions of both sides, to the last octet that passes unharmed.
fn cuts(world: &World) -> Vec<Cut> {
    let whole = world.live().unwrap_or_else(|report| panic!("{report}"));
    let each = SIDES.into_iter().zip(whole.octets).flat_map(|(side, (inbound, outbound))| {
        let cut = move |inbound| move |octet| Cut { side, inbound, octet };
        (0..inbound).map(cut(true)).chain((0..outbound).map(cut(false)))
    });
    each.collect()
}

fn cut(world: &World, cut: Cut) -> World {
    let mut world = world.clone();
    world.name = format!("{}, {cut:?}", world.name);
    world.plan.cuts.push(cut);
    world
}

#[test]
fn cut_at_every_octet() {
    let world = tiny("tiny");
    let cuts = cuts(&world);
    println!("{} octets to cut at", cuts.len());
    run_all(cuts.into_iter().map(|at| cut(&world, at)));
}

#[test]
fn cut_all_over_a_larger_session() {
    let world = small("small");
    let stride = number("PECSYNC_SIM_STRIDE").unwrap_or(STRIDE) as usize;
    let cuts = cuts(&world);
    println!("{} of {} octets to cut at", cuts.len() / stride, cuts.len());
    run_all(cuts.into_iter().step_by(stride).map(|at| cut(&world, at)));
}

#[test]
fn every_command_is_answered_badly() {
    let replies = [
        Reply::No,
        Reply::Bad,
        Reply::Bye,
        Reply::Close,
        Reply::Silence,
        Reply::Mute,
        Reply::Slow(50_000),
        Reply::Slow(70_000),
        Reply::Half,
        Reply::Gaps,
    ];
    let whole = small("small").live().unwrap_or_else(|report| panic!("{report}"));
    let places = SIDES
        .into_iter()
        .zip(whole.commands)
        .flat_map(|(side, commands)| (0..commands).map(move |command| (side, command)));
    run_all(places.flat_map(|place| {
        replies.into_iter().map(move |reply| {
            let mut world = small(format!("small, {place:?} {reply:?}"));
            world.plan.replies.insert(place, reply);
            world
        })
    }));
}

/// What comes just before the cutover is listed once before the seal, and not by halves.
#[test]
fn every_listing_of_the_last_pass_is_incomplete() {
    let last = |name: String| World { rush: true, ..small(name) };
    let whole = last("last".to_owned()).live().unwrap_or_else(|report| panic!("{report}"));
    let places = SIDES
        .into_iter()
        .zip(whole.commands)
        .flat_map(|(side, commands)| (0..commands).map(move |command| (side, command)));
    run_all(places.flat_map(|place| {
        [Reply::Half, Reply::Gaps].into_iter().map(move |reply| {
            let mut world = last(format!("last, {place:?} {reply:?}"));
            world.plan.replies.insert(place, reply);
            world
        })
    }));
}

#[test]
fn every_connection_is_received_badly() {
    let whole = small("small").live().unwrap_or_else(|report| panic!("{report}"));
    let places = SIDES
        .into_iter()
        .zip(whole.connections)
        .flat_map(|(side, connections)| (0..connections).map(move |number| (side, number)));
    run_all(places.flat_map(|place| {
        [Welcome::Refused, Welcome::Silent, Welcome::Bye].into_iter().map(move |welcome| {
            let mut world = small(format!("small, {place:?} {welcome:?}"));
            world.plan.connections.insert(place, welcome);
            world
        })
    }));
}

#[test]
fn killed_at_every_await() {
    let whole = small("small").live().unwrap_or_else(|report| panic!("{report}"));
    println!("{} awaits", whole.awaits);
    let kills = (0..whole.awaits).flat_map(|at| {
        [true, false].into_iter().flat_map(move |at_once| {
            MEMORIES.into_iter().map(move |memory| Kill { at, at_once, memory })
        })
    });
    run_all(kills.map(|kill| {
        let mut world = small(format!("small, {kill:?}"));
        world.plan.kills.push(kill);
        world
    }));
}
