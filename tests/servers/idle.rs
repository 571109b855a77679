//! Push is a hint: servers that say nothing, too much, too early, or hang up.

use crate::sim::{Habit, Reply, Side, World};
use crate::{live, odd, odd_source, told};

#[test]
fn accepts_idle_and_then_says_nothing() {
    live(&odd_source(&[Habit::SilentIdle]));
    // Not even STATUS tells anything new of a folder that is selected.
    let mut world = odd_source(&[Habit::SilentIdle, Habit::StaleWhileSelected]);
    live(&world);
    world.source = world.source.without(&["NOTIFY", "QRESYNC", "LIST-STATUS"]);
    live(&world);
}

#[test]
fn has_no_idle_or_closes_the_connection_in_idle() {
    let quiet = ["account_retrying", "account_held", "host_down"];
    let mut none = odd_source(&[]);
    none.source = none.source.without(&["IDLE"]);
    for world in [none, odd_source(&[Habit::ClosesInIdle])] {
        let ended = live(&world);
        let said = quiet.map(|event| told(&ended, event));
        assert_eq!(said, [0, 0, 0], "{}: no error line for it", world.name);
    }
}

/// Who is sent away each time it idles does not come back each second to idle again.
#[test]
fn idle_is_given_up_where_it_always_ends_the_connection() {
    let ended = live(&odd_source(&[Habit::ClosesInIdle]));
    assert!(ended.logins[0] <= 12, "{} logins at the source", ended.logins[0]);
}

#[test]
fn sends_exists_before_idling() {
    live(&odd(&[Habit::TellsBeforeIdling]));
}

#[test]
fn drops_the_connection_silently() {
    let ended = live(&odd_source(&[Habit::DiesInIdle]));
    assert_eq!(told(&ended, "account_held"), 0);
    // Any answer may be the one that never comes.
    for command in [3, 6, 9, 14] {
        for side in [Side::Source, Side::Target] {
            let mut world = odd(&[]);
            world.name = format!("{side:?} is silent at its command {command}");
            world.plan.replies.insert((side, command), Reply::Silence);
            live(&world);
        }
    }
}

#[test]
fn advertises_notify_and_never_notifies() {
    live(&odd_source(&[Habit::SilentNotify]));
    live(&odd_source(&[Habit::SilentNotify, Habit::SilentIdle]));
}

#[test]
fn answers_plus_without_a_space_or_text() {
    let world = odd(&[Habit::BarePlus]);
    live(&world);
    let without = ["LITERAL+", "LITERAL-", "SASL-IR"];
    let (source, target) = (world.source.without(&without), world.target.without(&without));
    live(&World { source, target, name: "and everything is asked for".into(), ..odd(&[]) });
}
