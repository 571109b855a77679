//! Worlds in which the product once lost, doubled or forgot something, reduced: each with its
//! fault at every place where it may hurt.

use std::ops::Range;

use crate::run_all;
use crate::sim::worlds::{post, random, small, tiny};
use crate::sim::{Crash, Event, Late, Lie, Memory, Moment, Reply, Side, Traits, World};

/// The same world with its fault at each number of commands or effects.
fn at_each(
    numbers: Range<usize>,
    name: &str,
    world: impl Fn(String, usize) -> World + Sync + Send,
) {
    run_all(numbers.map(|number| world(format!("{name}, {number}"), number)));
}

fn event(world: &mut World, side: Side, command: usize, event: Event) {
    world.plan.events.entry((side, command)).or_default().push(event);
}

/// The wait began when the intent was written; a server that kept silent until it was given up
/// had used it up, and the copy that came then was a second one.
#[test]
fn a_server_is_silent_until_it_is_given_up_and_then_stores() {
    at_each(0..12, "silent, then stored", |name, effect| {
        let world = small(name);
        let mut world = World { target: world.target.clone().without(&["UIDPLUS"]), ..world };
        world.plan.late.insert(effect, Late { millis: 50_000, silent: true });
        world
    });
}

/// The folder's intents went with it, and nobody removed the copy that came late.
#[test]
fn a_folder_is_renamed_while_its_append_is_in_doubt() {
    at_each(10..60, "renamed in doubt", |name, command| {
        let mut world = tiny(name);
        for effect in [2, 3] {
            world.plan.late.insert(effect, Late { millis: 20_000, silent: true });
        }
        let rename = Event::Rename { from: "Altro".into(), to: "Nuova".into() };
        event(&mut world, Side::Target, command, rename);
        world
    });
}

/// What a failing target showed at first was taken for all it held, and copied to at once.
#[test]
fn the_target_shows_half_when_it_is_first_looked_at() {
    at_each(0..30, "half at first", |name, command| {
        let mut world = small(name);
        for number in [1, 2, 3] {
            world.copies.push(("INBOX".into(), post(number, "")));
        }
        world.copies.push(("Archivio".into(), post(7, "\\Seen $Label1")));
        event(&mut world, Side::Target, command, Event::Fail { side: Side::Target, secs: 4 });
        world
    });
}

/// Copies whose messages had to be found anew were forgotten when one listing lacked them.
#[test]
fn the_source_is_renumbered_while_the_target_shows_half() {
    at_each(1..4, "renumbered at half", |name, folder| {
        let mut world = small(name);
        world.rush = folder > 1;
        let folder = ["", "INBOX", "Clienti/2024", "Archivio"][folder].to_owned();
        let renumber = Event::Renumber { side: Side::Source, folder };
        let fail = Event::Fail { side: Side::Target, secs: 44 };
        world.plan.events.insert((Side::Source, 999_999), vec![fail, renumber]);
        world
    });
}

/// A copy to be removed that one look at the target lacked was forgotten, and stayed.
#[test]
fn a_folder_is_renamed_while_the_target_shows_half() {
    at_each(0..60, "renamed at half", |name, command| {
        let mut world = tiny(name);
        let rename = Event::Rename { from: "Altro".into(), to: "Nuova".into() };
        world.plan.events.insert((Side::Source, 999_999), vec![rename]);
        event(&mut world, Side::Target, command, Event::Fail { side: Side::Target, secs: 38 });
        world
    });
}

/// Twins that differ only in flags swapped them where only their content told them apart.
#[test]
fn twins_keep_their_flags() {
    run_all((1..40).map(|seed| {
        let mut world = World { seed, ..World::new(format!("twins, {seed}")) };
        for flags in ["\\Seen", "\\Flagged", "", "\\Answered"] {
            world.mail.push(("INBOX".into(), post(1, flags)));
        }
        world.source = Traits { shuffled: true, ..Traits::source() };
        world.target = Traits::target().without(&["UIDPLUS"]);
        let flag =
            |nth| Event::Flag { folder: "INBOX".into(), nth, flag: "\\Draft".into(), on: true };
        event(&mut world, Side::Source, 1_000_000, flag(seed as usize));
        world
    }));
}

/// Where nothing can be removed, a folder that never held anything was copied to at once after
/// lost state, and what an earlier life had sent came all the same.
#[test]
fn state_is_lost_while_an_append_is_on_its_way_and_nothing_can_be_removed() {
    at_each(0..12, "lost state, late, no UIDPLUS", |name, effect| {
        let world = small(name);
        let mut world = World { target: world.target.clone().without(&["UIDPLUS"]), ..world };
        world.foreign.clear();
        let moment = Moment::Late(15_000);
        world.plan.crashes.push(Crash { effect, moment, memory: Memory::Deleted });
        world
    });
}

/// A copy whose UID the target had not told was forgotten when its message went.
#[test]
fn a_copy_of_unknown_uid_is_found_before_it_is_removed() {
    at_each(0..60, "unknown UIDs, half, renamed", |name, command| {
        let mut world = tiny(name);
        // It is waited for, so that it is copied just before it is renamed.
        world.foreign.push(("Altro".into(), post(95, "")));
        for effect in 0..12 {
            world.plan.lies.insert(effect, Lie::None);
        }
        let rename = Event::Rename { from: "Altro".into(), to: "Nuova".into() };
        world.plan.events.insert((Side::Source, 999_999), vec![rename]);
        event(&mut world, Side::Target, command, Event::Fail { side: Side::Target, secs: 38 });
        world
    });
}

/// One NO to a STORE with a keyword was believed to mean the keyword, also where it was to add
/// others first.
#[test]
fn a_refusal_in_passing_loses_no_keyword() {
    at_each(8..60, "a STORE is refused once", |name, command| {
        let mut world = small(name);
        world.copies.push(("Archivio".into(), post(7, "$Label2")));
        world.copies.push(("Archivio".into(), post(8, "\\Answered")));
        world.plan.replies.insert((Side::Target, command), Reply::No);
        world
    });
}

/// A listed copy was to be compared, the connection died, and the next listing lacked it.
#[test]
fn a_listed_copy_is_hidden_after_the_connection_died() {
    at_each(0..40, "listed, then hidden", |name, command| {
        let mut world = small(name);
        world.foreign.clear();
        world.copies.push(("Archivio".into(), post(7, "\\Seen")));
        event(&mut world, Side::Source, command, Event::Freeze { side: Side::Source });
        event(&mut world, Side::Source, command, Event::Fail { side: Side::Target, secs: 75 });
        world
    });
}

/// A listed copy was not given and passed for another message; a message moved into a folder
/// still waited for; a folder the source had hidden; flags that went back while their STORE was
/// cut short. Random worlds, as found: what draws them may change, so the mechanisms have tests of
/// their own.
#[test]
fn half_shown_targets_and_flags_cut_short() {
    run_all([7853, 7140, 6968, 5769].into_iter().map(random));
}

/// What fresh seeds found in some forty thousand worlds: those above, a message the source withheld,
/// a twin's copy taken for a surplus because its message was told in another size, UIDs renumbered
/// at both ends at once, older checkpoints behind half a listing, late twins of two lives, a move
/// that nobody remembered, an estimate that could not be.
#[test]
fn seeds_that_failed_once() {
    run_all(FAILED_ONCE.into_iter().map(random));
}

const FAILED_ONCE: [u64; 27] = [
    1712163254489,
    1712163254514,
    1712163254959,
    1712163257271,
    1712163257565,
    1712163260953,
    1712163264394,
    1712163266872,
    1712163267302,
    1712163267893,
    1712166971004,
    1712166971928,
    1712166974727,
    1712166975131,
    1712166976657,
    1712166977172,
    1712166978509,
    1712166983068,
    1712166988716,
    1712166988970,
    1712166990738,
    1712168665376,
    1712168666235,
    1712169008440,
    1712169011771,
    1712170028550,
    1712171059760,
];
