//! Servers whose numbers mean little: UIDVALIDITY, UIDNEXT, HIGHESTMODSEQ, EXISTS.

use std::time::Duration;

use crate::sim::habits::{Next, Validity};
use crate::sim::worlds::{post, small};
use crate::sim::{Event, Habit, Reply, Side};
use crate::{live, live_lagging, odd, odd_source, odd_target, told};

#[test]
fn courier_tells_no_uidnext_and_news_late() {
    live(&odd(&[Habit::Courier]));
    let mut world = odd(&[Habit::Courier]);
    let lacks = ["CONDSTORE", "QRESYNC", "LIST-STATUS", "ENABLE", "MULTIAPPEND", "LITERAL+"];
    world.source = world.source.without(&lacks).without(&["LITERAL-", "MOVE", "NOTIFY"]);
    live(&world);
}

/// Nobody SELECTs at the source, and to EXAMINE Courier numbers what it has not numbered yet for
/// itself: under any UIDVALIDITY, and otherwise when more has come.
#[test]
fn courier_examines_under_another_uidvalidity_and_numbers_anew() {
    let examined = Habit::Validity(Validity::PerExamine);
    live(&odd_source(&[Habit::Courier, examined]));
    let habits = [Habit::Courier, examined, Habit::NumbersAnew, Habit::StaleWhileSelected];
    for absent in [&[][..], &["IDLE", "NOTIFY", "CONDSTORE", "QRESYNC", "ENABLE", "LIST-STATUS"]] {
        let mut world = odd_source(&habits);
        world.source = world.source.without(absent);
        for number in 10..14 {
            let post = post(number, ["", "\\Flagged"][number as usize % 2]);
            let deliver = Event::Deliver { folder: "INBOX".into(), post };
            world.plan.events.insert((Side::Source, 2_000_000 + number as usize), vec![deliver]);
        }
        live(&world);
    }
}

#[test]
fn uidvalidity_0_uidnext_0_or_rewinding() {
    for habit in
        [Habit::Validity(Validity::Zero), Habit::Next(Next::Zero), Habit::Next(Next::Rewinds)]
    {
        live(&odd_source(&[habit]));
        live(&odd_target(&[habit]));
    }
}

/// New UIDs at each login, with the connection cut now and then: copies are paired by content, and
/// nothing is copied twice.
#[test]
fn uidvalidity_changes_at_every_login() {
    for side in [Side::Source, Side::Target] {
        for cut in [0, 1, 2] {
            let habit = [Habit::Validity(Validity::PerLogin)];
            let mut world = match side {
                Side::Source => odd_source(&habit),
                Side::Target => odd_target(&habit),
            };
            world.name += &format!(", {cut} cuts");
            for at in 0..cut {
                world.plan.replies.insert((side, 14 + 9 * at), Reply::Bye);
            }
            live(&world);
        }
    }
}

#[test]
fn highestmodseq_is_negative_missing_nomodseq_or_a_fraction() {
    for modseq in ["-1", "", "NOMODSEQ", "1.5", "0", "99999999999999999999"] {
        live(&odd(&[Habit::Modseq(modseq)]));
    }
}

/// That ENABLE comes before SELECT every simulated server watches over.
#[test]
fn needs_enable_before_select_and_its_qresync_is_broken() {
    let ended = live(&odd_source(&[Habit::WrongVanished]));
    assert_eq!(told(&ended, "removals_suspended"), 0);
    let mut world = odd_source(&[Habit::WrongVanished]);
    world.source = world.source.without(&["IDLE", "NOTIFY"]);
    live(&world);
}

#[test]
fn lets_highestmodseq_fall_after_losing_its_index() {
    for side in [Side::Source, Side::Target] {
        for folder in ["INBOX", "Clienti/2024"] {
            let mut world = small(format!("{side:?} loses the index of {folder}"));
            let lost = Event::LoseIndex { side, folder: folder.into() };
            world.plan.events.insert((Side::Source, 1_000_001), vec![lost.clone()]);
            world.plan.events.insert((Side::Source, 1_000_005), vec![lost]);
            live(&world);
        }
    }
}

/// Half of what is there is not all of it: nothing is gone, and nothing is removed on its word.
#[test]
fn shows_a_half_empty_list_or_select_while_its_storage_fails() {
    for side in [Side::Source, Side::Target] {
        for command in (6..30).step_by(3) {
            let mut world = small(format!("{side:?} fails at its command {command}"));
            world.plan.events.clear();
            for at in [command, command + 40] {
                world.plan.replies.insert((side, at), Reply::Half);
            }
            let ended = live(&world);
            assert_eq!(told(&ended, "message_removed"), 0, "{}", world.name);
        }
    }
}

#[test]
fn writes_responses_sloppily() {
    live(&odd(&[Habit::Sloppy]));
    let mut world = odd(&[Habit::Sloppy]);
    world.target = world.target.without(&["MOVE"]);
    world.name += ", and moves by COPY";
    live(&world);
}

/// With the wait between two listings long, what was removed while nobody looked is removed at the
/// target at once if, and only if, the server itself says that it vanished.
#[test]
fn qresync_tells_what_vanished_while_nobody_looked() {
    const APART: Duration = Duration::from_secs(600);
    let lasted = |lacks: &[&str]| {
        let mut world = small(format!("a source without {lacks:?}"));
        // Only sweeps see it, of a folder that is not selected.
        world.source = world.source.without(&["IDLE", "NOTIFY"]).without(lacks);
        world.plan.events.clear();
        let gone = Event::Expunge { folder: "Clienti/2024".into(), nth: 0 };
        world.plan.events.insert((Side::Source, 1_000_000), vec![gone]);
        world.wishes.apart = APART;
        let ended = live_lagging(&world);
        assert_eq!(told(&ended, "message_removed"), 1);
        ended.lasted
    };
    let (with, without) = (lasted(&[]), lasted(&["QRESYNC"]));
    assert!(with < APART, "{with:?}");
    assert!(without >= APART, "{without:?}");
}
