//! Servers that lack this or that: the copy is as exact, only slower.

use crate::run_all;
use crate::sim::traits::ALL;
use crate::sim::worlds::small;
use crate::sim::{Crash, Event, Memory, Moment, Random, Side, Traits, World};

fn lacking(at_source: &[&str], at_target: &[&str]) -> World {
    let world = small(format!("source without {at_source:?}, target without {at_target:?}"));
    let (source, target) =
        (Traits::source().without(at_source), Traits::target().without(at_target));
    World { source, target, ..world }
}

/// What may be absent: all but the name of the protocol.
fn optional() -> Vec<&'static str> {
    ALL.into_iter().filter(|name| *name != "IMAP4rev1").collect()
}

#[test]
fn each_capability_may_be_absent() {
    let worlds = optional()
        .into_iter()
        .flat_map(|name| [lacking(&[name], &[]), lacking(&[], &[name]), lacking(&[name], &[name])]);
    run_all(worlds);
}

/// Every two of them are absent at once, on both sides, and nothing else is.
#[test]
fn each_pair_of_capabilities_may_be_absent() {
    let names = optional();
    let pairs = names
        .iter()
        .enumerate()
        .flat_map(|(at, one)| names[at + 1..].iter().map(move |other| [*one, *other]));
    run_all(pairs.map(|pair| lacking(&pair, &pair)));
}

/// Sets of absences for either side, such that any two capabilities, be they of one side or of
/// both, are somewhere both absent, both present, and one of them absent.
fn covering() -> Vec<Vec<bool>> {
    let columns = 2 * optional().len();
    let mut random = Random::seeded(7);
    let mut rows: Vec<Vec<bool>> = Vec::new();
    let covers = |rows: &[Vec<bool>], one: usize, other: usize, wanted: (bool, bool)| {
        rows.iter().any(|row| (row[one], row[other]) == wanted)
    };
    let all = [(true, true), (true, false), (false, true), (false, false)];
    let is_covering = |rows: &[Vec<bool>]| {
        (0..columns).all(|one| {
            (one + 1..columns)
                .all(|other| all.iter().all(|wanted| covers(rows, one, other, *wanted)))
        })
    };
    while !is_covering(&rows) {
        rows.push((0..columns).map(|_| random.below(2) == 0).collect());
    }
    rows
}

#[test]
fn absences_on_both_sides_go_together() {
    let names = optional();
    let worlds = covering().into_iter().map(|row| {
        let absent = |row: &[bool]| -> Vec<&'static str> {
            let lost = names.iter().zip(row).filter(|(_, lost)| **lost);
            lost.map(|(name, _)| *name).collect()
        };
        let (at_source, at_target) = row.split_at(names.len());
        lacking(&absent(at_source), &absent(at_target))
    });
    run_all(worlds);
}

#[test]
fn several_may_be_absent() {
    let all_but_the_name = &ALL[1..];
    let sets: [&[&str]; 9] = [
        &["UIDPLUS", "MULTIAPPEND"],
        &["UIDPLUS", "CONDSTORE"],
        &["UIDPLUS", "MOVE"],
        &["CONDSTORE", "IDLE"],
        &["LITERAL+", "MULTIAPPEND"],
        &["LITERAL+", "LITERAL-", "SASL-IR", "AUTH=PLAIN"],
        &["ENABLE", "LIST-STATUS"],
        &["NAMESPACE", "LIST-STATUS"],
        all_but_the_name,
    ];
    let worlds = sets.into_iter().flat_map(|set| {
        let whole = lacking(set, set);
        let mut crashing = lacking(set, set);
        crashing.name += ", dying";
        for memory in [Memory::Kept, Memory::Deleted] {
            crashing.plan.crashes.push(Crash { effect: 2, moment: Moment::Done, memory });
        }
        [whole, crashing]
    });
    run_all(worlds);
}

#[test]
fn odd_habits() {
    let body_first = small("the source sends bodies before UIDs");
    let body_first =
        World { source: Traits { body_first: true, ..Traits::source() }, ..body_first };
    let no_keywords = small("the target keeps no keywords");
    let no_keywords =
        World { target: Traits { keywords: false, ..Traits::target() }, ..no_keywords };
    let shuffled = |traits: Traits| Traits { shuffled: true, ..traits };
    let in_any_order = World {
        source: shuffled(Traits::source()),
        target: shuffled(Traits::target()),
        ..small("untagged responses come in any order")
    };
    run_all([body_first, no_keywords, in_any_order].into_iter());
}

/// Modification sequences begin anew, and something changes at the same time, with a number below
/// those that are known: it is followed all the same.
#[test]
fn a_lost_index() {
    run_all(["INBOX", "Clienti/2024", "Archivio"].into_iter().map(|folder| {
        let mut world = World { prompt: true, ..small(format!("lost index of {folder}")) };
        let folder = folder.to_owned();
        let lost = Event::LoseIndex { side: Side::Source, folder: folder.clone() };
        let flag = |flag: &str| Event::Flag {
            folder: folder.clone(),
            nth: 0,
            flag: flag.to_owned(),
            on: true,
        };
        let known = ["\\Answered", "\\Deleted", "\\Flagged", "\\Seen"].map(flag);
        world.plan.events.insert((Side::Source, 1_000_000), known.to_vec());
        world
            .plan
            .events
            .insert((Side::Source, 1_000_100), vec![Event::Together(vec![lost, flag("\\Draft")])]);
        world
    }));
}
