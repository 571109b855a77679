//! Servers that give messages badly: refused, empty, cut short, measured wrong.

use crate::sim::habits::{MARK, Withheld};
use crate::sim::worlds::post;
use crate::sim::{Crash, Habit, Memory, Moment, Traits, World};
use crate::{live, odd, odd_source, told};

/// With a marked message among the others.
fn marked(mut world: World) -> World {
    let mut post = post(20, "\\Seen");
    post.octets = [MARK.as_bytes(), b"qui\r\n", &post.octets].concat();
    world.mail.push(("INBOX".into(), post));
    world
}

/// That one is listed in the end, told once, and all others are copied.
#[test]
fn answers_fetch_with_no_nothing_nil_or_an_empty_string() {
    for how in [Withheld::Refused, Withheld::Nil, Withheld::Empty, Withheld::Silent] {
        let world = marked(odd_source(&[Habit::Withholds(how)]));
        let ended = live(&World { refused: Some(1), ..world });
        assert_eq!(told(&ended, "message_refused"), 1, "{how:?}");
    }
}

#[test]
fn gives_a_wrong_rfc822_size() {
    live(&odd(&[Habit::WrongSizes]));
    // Sizes choose who is compared when a checkpoint is lost: bytes decide.
    for effect in [3, 6] {
        let mut world = odd(&[Habit::WrongSizes]);
        world.name += ", and the checkpoint is lost";
        let (moment, memory) = (Moment::Done, Memory::Deleted);
        world.plan.crashes.push(Crash { effect, moment, memory });
        live(&world);
    }
}

/// What is not whole is never stored.
#[test]
fn sends_a_literal_shorter_than_announced_then_closes() {
    let ended = live(&marked(odd_source(&[Habit::DiesInBody])));
    assert_eq!(told(&ended, "message_refused"), 0);
}

#[test]
fn limits_command_lines() {
    let mut world = odd(&[Habit::ShortLines]);
    // UIDs of ten digits with gaps between: every set is as long as it can be.
    let uids = (4_000_000_000, 3);
    world.source = Traits { uids, ..world.source };
    world.target = Traits { uids, ..world.target };
    for number in 0..300 {
        world.mail.push(("INBOX".into(), post(100 + number % 7, "\\Seen")));
    }
    live(&world);
}

#[test]
fn answers_n_star_with_the_last_message() {
    // So does every simulated server; without modification sequences new mail is asked for so.
    let mut world = odd(&[]);
    world.source = world.source.without(&["CONDSTORE", "QRESYNC"]);
    live(&world);
}
