//! New mail costs as few flights as it can.

use crate::sim::World;
use crate::sim::plan::{Event, Side};
use crate::sim::worlds::post;

/// The first three commands that the servers heard from when the source was first asked for what
/// is new to an INBOX of one message.
fn commands(logged: &[String]) -> Vec<String> {
    let asked = logged.iter().filter_map(|line| {
        let (place, command) = line.trim_start().split_once(' ')?.1.split_once(": ")?;
        let side = place.trim_start().split('#').next()?;
        let command = command.split_once(" (").map_or(command, |(command, _)| command);
        let body = if line.contains("BODY.PEEK[]") { " bodies" } else { "" };
        Some(format!("{side} {command}{body}"))
    });
    let all: Vec<String> = asked.collect();
    let first = all.iter().position(|command| command.contains("UID FETCH 2:*"));
    all[first.unwrap_or(all.len())..].iter().take(3).cloned().collect()
}

#[test]
fn the_body_of_new_mail_is_asked_for_with_its_listing() {
    let mut world = World::new("news");
    world.mail.push(("INBOX".into(), post(1, "")));
    let comes = Event::Deliver { folder: "INBOX".into(), post: post(2, "\\Seen") };
    world.plan.events.insert((Side::Source, 1_000_000), vec![comes]);
    let ended = world.live().unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(
        commands(&ended.log),
        ["Source UID FETCH 2:*", "Source UID FETCH 2:* bodies", "Target APPEND INBOX"]
    );
}
