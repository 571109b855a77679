//! The product dies before every effect, between effect and answer, and between answer and
//! commit; its checkpoint is kept, older or gone. Every world ends with an exact copy.

#[path = "support/sim/mod.rs"]
mod sim;

use std::time::Duration;

use sim::{Crash, Event, Memory, Moment, Post, Side, World, run_all};

/// Longer than all worlds take, even where the machine is busy.
const BUDGET: Duration = Duration::from_secs(300);

fn post(number: i64, flags: &str) -> Post {
    let octets = format!(
        "Subject: posta {number}\r\nMessage-ID: <{number}@pec.example.it>\r\n\r\n{}\r\n",
        "riga di testo\r\n".repeat(1 + number as usize * 3)
    );
    Post { octets: octets.into_bytes(), flags: flags.to_owned(), instant: 1_700_000_000 + number }
}

/// Three folders, a dozen messages, identical twins; while it is followed one is moved, one is
/// flagged, one is expunged, one comes.
fn small(name: String) -> World {
    let mut world = World::new(name);
    let mut plant = |folder: &str, number, flags| {
        world.mail.push((folder.to_owned(), post(number, flags)));
    };
    for (number, flags) in [(1, "\\Seen"), (2, ""), (3, "\\Flagged"), (3, "\\Flagged"), (4, "")] {
        plant("INBOX", number, flags);
    }
    for number in [5, 6, 6, 6] {
        plant("Clienti/2024", number, "\\Seen");
    }
    for number in [7, 8, 1] {
        plant("Archivio", number, "\\Seen $Label1");
    }
    world.foreign.push(("INBOX".into(), post(90, "\\Seen")));
    world.foreign.push(("Archivio".into(), post(91, "")));
    // Far beyond the commands of a first copy: they come once the account is followed.
    let later = |at: usize| (Side::Source, 1_000_000 + at);
    let events = [
        Event::Move { from: "INBOX".into(), nth: 1, to: "Archivio".into() },
        Event::Flag { folder: "Archivio".into(), nth: 0, flag: "\\Answered".into(), on: true },
        Event::Expunge { folder: "Clienti/2024".into(), nth: 0 },
        Event::Deliver { folder: "INBOX".into(), post: post(9, "") },
    ];
    for (at, event) in events.into_iter().enumerate() {
        world.plan.events.insert(later(at), vec![event]);
    }
    world
}

#[test]
fn without_any_fault() {
    let world = small("small".into());
    let ended = world.live().unwrap_or_else(|report| panic!("{report}"));
    println!("{} effects, {:?} commands in {:?}", ended.effects, ended.commands, ended.lasted);
}

const MOMENTS: [Moment; 10] = [
    Moment::Before,
    Moment::Done,
    Moment::Answered,
    Moment::Later(20),
    Moment::Late(4),
    Moment::Late(8),
    Moment::Late(12),
    Moment::Late(15),
    Moment::Late(18),
    Moment::Late(25),
];
const MEMORIES: [Memory; 5] =
    [Memory::Kept, Memory::Flushed, Memory::Older(0), Memory::Older(3), Memory::Deleted];

/// Dies once at every effect of the world, in every way.
fn die_everywhere(name: &str, world: impl Fn(String) -> World + Send + Sync) {
    let whole = world(format!("{name}, unharmed")).live();
    let effects = whole.unwrap_or_else(|report| panic!("{report}")).effects;
    let deaths = (0..effects).flat_map(|effect| {
        MOMENTS.iter().flat_map(move |moment| {
            let of = move |memory: &Memory| Crash { effect, moment: *moment, memory: *memory };
            MEMORIES.iter().map(of)
        })
    });
    let only = std::env::var("SEED").ok();
    let worlds = deaths.map(|death| {
        let mut world = world(format!("{name}, {death:?}"));
        world.plan.crashes.push(death);
        if matches!(death.moment, Moment::Late(_)) {
            // Whole seconds are counted, so that a wait of two lasts at least one.
            world.wishes.in_doubt_wait = Duration::from_secs(2);
        }
        world
    });
    let worlds = worlds.filter(|world| only.as_ref().is_none_or(|only| world.name == *only));
    let summary = run_all(worlds, BUDGET);
    println!("{name}: {effects} effects, {} deaths", summary.worlds);
}

#[test]
fn dying_at_every_effect() {
    die_everywhere("all capabilities", small);
}

#[test]
fn dying_at_every_effect_of_single_appends() {
    die_everywhere("single appends", |name| {
        let world = small(name);
        World { target: world.target.clone().without(&["MULTIAPPEND", "MOVE"]), ..world }
    });
}
