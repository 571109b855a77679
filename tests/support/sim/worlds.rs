//! Worlds: a small one that everything can be tried on, and random ones of a seed.

use std::time::Duration;

use super::habits::{Habit, Next, Told};
use super::mail::Random;
use super::plan::{
    Crash, Cut, Event, Kill, Late, Lie, Memory, Moment, Reply, Side, Weather, Welcome,
};
use super::session::ARCHIVE;
use super::traits::{ALL, Traits};
use super::world::{Post, World};

/// A message; the same number makes the same octets.
pub fn post(number: u64, flags: &str) -> Post {
    let octets = format!(
        "Subject: posta {number}\r\nMessage-ID: <{number}@pec.example.it>\r\n\r\n{}",
        "riga di testo\r\n".repeat(1 + number as usize * 3)
    );
    let instant = 1_700_000_000 + number as i64;
    Post { octets: octets.into_bytes(), flags: flags.to_owned(), instant }
}

/// Three folders, a dozen messages, identical twins; while it is followed one is moved, one is
/// flagged, one is expunged, one comes.
pub fn small(name: impl Into<String>) -> World {
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
    let events = [
        Event::Move { from: "INBOX".into(), nth: 1, to: "Archivio".into() },
        Event::Flag { folder: "Archivio".into(), nth: 0, flag: "\\Answered".into(), on: true },
        Event::Expunge { folder: "Clienti/2024".into(), nth: 0 },
        Event::Deliver { folder: "INBOX".into(), post: post(9, "") },
    ];
    for (at, event) in events.into_iter().enumerate() {
        // Far beyond the commands of a first copy: they come once the account is followed.
        world.plan.events.insert((Side::Source, 1_000_000 + at), vec![event]);
    }
    world
}

/// As little as can be copied, followed, moved and removed, with an identical twin: so few octets
/// that something can go wrong at each.
pub fn tiny(name: impl Into<String>) -> World {
    let mut world = World::new(name);
    let short = |number: u64| {
        let octets = format!("Subject: {number}\r\n\r\nciao\r\n").into_bytes();
        Post { octets, flags: String::new(), instant: 1_700_000_000 + number as i64 }
    };
    for number in [1, 2, 2] {
        world.mail.push(("INBOX".to_owned(), short(number)));
    }
    world.mail.push(("Altro".to_owned(), short(3)));
    let bare = ["ID", "NAMESPACE", "LIST-EXTENDED", "SPECIAL-USE", "CHILDREN", "UNSELECT"];
    world.source = Traits { prefix: "", ..Traits::source() }.without(&bare);
    world.target = Traits::target().without(&bare);
    world.wishes.sweep_interval = Duration::from_secs(300);
    let events = [
        Event::Deliver { folder: "INBOX".into(), post: short(4) },
        Event::Move { from: "INBOX".into(), nth: 0, to: "Altro".into() },
    ];
    for (at, event) in events.into_iter().enumerate() {
        world.plan.events.insert((Side::Source, 1_000_000 + at), vec![event]);
    }
    world
}

const FOLDERS: [&str; 5] = ["INBOX", "Clienti/2024", "Archivio", "Posta inviata", "Perch&AOk-"];
const FLAGS: [&str; 6] = ["", "\\Seen", "\\Seen \\Answered", "\\Flagged", "$Label1", "\\Deleted"];
const HABITS: [Habit; 19] = [
    Habit::SilentIdle,
    Habit::ClosesInIdle,
    Habit::TellsBeforeIdling,
    Habit::StaleWhileSelected,
    Habit::SilentNotify,
    Habit::BarePlus,
    Habit::OffersLater(Told::Untagged),
    Habit::OffersLater(Told::WhenAsked),
    Habit::WrongSizes,
    Habit::Courier,
    Habit::OddFlags,
    Habit::Next(Next::Zero),
    Habit::Next(Next::Rewinds),
    Habit::Modseq("-1"),
    Habit::HidesInbox,
    Habit::RefusesReturn,
    Habit::WrongVanished,
    Habit::Sloppy,
    Habit::ShowsOthers,
];
const SIDES: [Side; 2] = [Side::Source, Side::Target];

/// Anything may be in it; the same seed makes the same world.
pub fn random(seed: u64) -> World {
    let mut dice = Dice(Random::seeded(seed));
    let mut world = World { seed, ..World::new(seed.to_string()) };
    world.source = dice.traits(Traits::source());
    world.target = dice.traits(Traits::target());
    world.source.body_first = dice.chance(5);
    world.target.keywords = !dice.chance(10);
    (world.source.shuffled, world.target.shuffled) = (dice.chance(30), dice.chance(30));
    dice.plant(&mut world);
    for _ in 0..dice.below(9) {
        let event = dice.event();
        dice.at(&mut world, event);
    }
    for _ in 0..1 + dice.below(4) {
        dice.fault(&mut world);
    }
    world.plan.weather = [dice.weather(), dice.weather()];
    world.wishes.sweep_interval = Duration::from_secs([20, 60, 300][dice.below(3)]);
    world.wishes.target_is_ours = dice.chance(20);
    world.rush = dice.chance(35);
    if dice.chance(10) {
        let event = Event::Vanish { folder: dice.folder(), nth: dice.below(1000) };
        dice.at(&mut world, event);
    }
    dice.habits(&mut world);
    if dice.chance(8) {
        // Names that are spelt the same by users and on the wire.
        let (from, to) = (*dice.0.pick(&FOLDERS[1..4]), *dice.0.pick(&FOLDERS[..4]));
        if from != to {
            world.wishes.folders.rename.insert(from.to_owned(), to.to_owned());
        }
    }
    world
}

/// A random world whose `Archivio` waits for the cutover; with odd seeds it lies in a second
/// store.
pub fn archived(seed: u64) -> World {
    let mut world = random(seed);
    world.name = format!("archive, {seed}");
    world.wishes.archive = seed % 2 == 1;
    let below = format!("{ARCHIVE}/**");
    world.wishes.folders.after_cutover = vec![ARCHIVE.to_owned(), below];
    // Now and then the last pass lasts longer.
    world.wishes.cutover_window = Duration::from_secs(600);
    world
}

struct Dice(Random);

impl Dice {
    fn below(&mut self, bound: u64) -> usize {
        self.0.below(bound) as usize
    }

    /// True so many times of a hundred.
    fn chance(&mut self, percent: u64) -> bool {
        self.0.below(100) < percent
    }

    fn traits(&mut self, traits: Traits) -> Traits {
        // Without either no login is possible.
        let lost = ALL.into_iter().filter(|name| *name != "IMAP4rev1" && self.chance(8));
        let lost: Vec<&str> = lost.collect();
        traits.without(&lost)
    }

    /// Now and then a server has a habit that refuses nothing and hides no renumbering.
    fn habits(&mut self, world: &mut World) {
        for traits in [&mut world.source, &mut world.target] {
            let habit = *self.0.pick(&HABITS);
            // Without NAMESPACE nobody can know whose folders they are.
            let is_fair = habit != Habit::ShowsOthers || traits.has("NAMESPACE");
            if self.chance(25) && is_fair {
                traits.habits.push(habit);
            }
        }
    }

    fn folder(&mut self) -> String {
        (*self.0.pick(&FOLDERS)).to_owned()
    }

    fn post(&mut self) -> Post {
        // Few numbers, so that some are the same.
        let number = 1 + self.0.below(40);
        let mut post = post(number, "");
        post.flags = (*self.0.pick(&FLAGS)).to_owned();
        if number.is_multiple_of(13) {
            post.octets.extend_from_slice(&b"una riga di un allegato molto lungo\r\n".repeat(1500));
        }
        post
    }

    fn plant(&mut self, world: &mut World) {
        for _ in 0..4 + self.below(22) {
            world.mail.push((self.folder(), self.post()));
        }
        for number in 0..self.below(4) {
            world.foreign.push((self.folder(), post(100 + number as u64, "\\Seen")));
        }
        if self.chance(25) {
            // The same but for its body: nobody's copy.
            let (folder, post) = world.mail[self.below(world.mail.len() as u64)].clone();
            let mut octets = post.octets;
            *octets.last_mut().expect("no message is empty") = b'!';
            world.foreign.push((folder, Post { octets, flags: "\\Seen".to_owned(), ..post }));
        }
        if self.chance(30) {
            // Each at most once: what is there twice and once at the source is not ours.
            for (folder, post) in world.mail.iter().take(self.below(5)).cloned() {
                let flags = match world.target.keywords {
                    true => *self.0.pick(&FLAGS),
                    false => "\\Seen",
                };
                world.copies.push((folder, Post { flags: flags.to_owned(), ..post }));
            }
        }
    }

    fn weather(&mut self) -> Weather {
        let delays = [0, 0, 0, 5, 300, 4_000, 25_000];
        let gulps = [0, 0, 0, 0, 13, 200];
        Weather { delay_millis_max: *self.0.pick(&delays), gulp: *self.0.pick(&gulps) }
    }

    fn event(&mut self) -> Event {
        let (folder, nth) = (self.folder(), self.below(1000));
        let side = *self.0.pick(&SIDES);
        match self.below(18) {
            0..=2 => Event::Deliver { folder, post: self.post() },
            3 | 4 => {
                let flag = ["\\Seen", "\\Flagged", "$Label1"][self.below(3)].to_owned();
                Event::Flag { folder, nth, flag, on: self.chance(60) }
            }
            5 | 6 => Event::Expunge { folder, nth },
            7 | 8 => Event::Move { from: folder, nth, to: self.folder() },
            9 => Event::Rename { from: folder, to: format!("Nuova{}", self.below(3)) },
            10 => Event::Renumber { side, folder },
            11 => Event::LoseIndex { side, folder },
            12 => Event::Jump { side, folder, by: self.0.below(1 << 20) as u32 },
            13 => Event::Fail { side, secs: self.0.below(50) },
            14 => Event::Freeze { side },
            15 => {
                let days = self.0.below(3) as i64 - 1;
                Event::SetClock { secs: days * 86_400 + self.0.below(1_000) as i64 - 500 }
            }
            _ => Event::Foreign { folder, post: post(200 + nth as u64, "") },
        }
    }

    fn at(&mut self, world: &mut World, event: Event) {
        // Often during the first copy, often later than any command.
        let command = match self.chance(70) {
            true => self.below(90),
            false => 1_000_000 + self.below(1000),
        };
        let side = *self.0.pick(&SIDES);
        world.plan.events.entry((side, command)).or_default().push(event);
    }

    fn fault(&mut self, world: &mut World) {
        let plan = &mut world.plan;
        let side = *self.0.pick(&SIDES);
        match self.below(13) {
            0..=2 => plan.crashes.push(Crash {
                effect: self.below(24),
                moment: self.moment(),
                memory: self.memory(),
            }),
            3 | 4 => plan.kills.push(Kill {
                at: self.below(300),
                at_once: self.chance(50),
                memory: self.memory(),
            }),
            5 | 6 => {
                let octet = match self.chance(50) {
                    true => self.0.below(4_000),
                    false => self.0.below(60_000),
                };
                plan.cuts.push(Cut { side, inbound: self.chance(50), octet });
            }
            7 | 8 => {
                let reply = match self.below(16) {
                    0..=2 => Reply::No,
                    3 | 4 => Reply::Bad,
                    5 | 6 => Reply::Bye,
                    7 => Reply::Close,
                    8 => Reply::Silence,
                    9 => Reply::Mute,
                    10 => Reply::Slow(self.0.below(70_000)),
                    11 | 12 => Reply::Gaps,
                    _ => Reply::Half,
                };
                plan.replies.insert((side, self.below(100)), reply);
            }
            9 => {
                let welcome = [Welcome::Refused, Welcome::Silent, Welcome::Bye][self.below(3)];
                plan.connections.insert((side, self.below(5)), welcome);
            }
            10 | 11 => {
                let (millis, silent) = (self.0.below(59_000), self.chance(30));
                plan.late.insert(self.below(14), Late { millis, silent });
            }
            _ => {
                let lies = [
                    Lie::None,
                    Lie::Malformed,
                    Lie::OtherValidity,
                    Lie::TooFew,
                    Lie::TooMany,
                    Lie::Descending,
                ];
                for effect in 0..12 {
                    if self.chance(30) {
                        plan.lies.insert(effect, *self.0.pick(&lies));
                    }
                }
            }
        }
    }

    fn moment(&mut self) -> Moment {
        match self.below(5) {
            0 => Moment::Before,
            1 => Moment::Done,
            2 => Moment::Answered,
            3 => Moment::Later(self.0.below(2_000)),
            _ => Moment::Late(self.0.below(59_000)),
        }
    }

    fn memory(&mut self) -> Memory {
        match self.below(6) {
            0..=2 => Memory::Kept,
            3 => Memory::Flushed,
            4 => Memory::Older(self.below(6)),
            _ => Memory::Deleted,
        }
    }
}
