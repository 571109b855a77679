//! Targets that alter, refuse, forget to answer, answer nonsense or answer too late.

use crate::sim::habits::MARK;
use crate::sim::worlds::{post, small};
use crate::sim::{Crash, Event, Habit, Late, Lie, Memory, Moment, Post, Side, World};
use crate::{live, live_lagging, odd_target, told};

fn odd_post(number: u64, octets: &[u8]) -> Post {
    Post { octets: octets.to_vec(), ..post(number, "\\Seen") }
}

#[test]
fn stores_nul_as_0x80() {
    let mut world = odd_target(&[Habit::AltersNul]);
    world.mail.push(("INBOX".into(), odd_post(30, b"Subject: nul\r\n\r\nqui \0 e qui\r\n")));
    let ended = live(&world);
    assert_eq!(told(&ended, "message_altered"), 1, "it says so where bytes differ");
    // Nor is it copied again when nothing is remembered of it.
    let (moment, memory) = (Moment::Done, Memory::Deleted);
    world.plan.crashes.push(Crash { effect: 5, moment, memory });
    world.name += ", and the checkpoint is lost";
    live(&world);
}

#[test]
fn refuses_nul_bare_lf_8bit_headers_and_no_blank_line() {
    let mut world = odd_target(&[Habit::RefusesOddMail]);
    for (number, octets) in [
        &b"Subject: nul\r\n\r\nqui \0 e qui\r\n"[..],
        b"Subject: riga\r\n\r\nuna\ndue\r\n",
        b"Subject: perch\xe9\r\n\r\nlatino\r\n",
        b"Subject: e basta\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        world.mail.insert(number * 2, ("INBOX".into(), odd_post(30 + number as u64, octets)));
    }
    let ended = live(&World { refused: Some(4), ..world });
    assert_eq!(told(&ended, "message_refused"), 4, "one message each, and no batch");
}

#[test]
fn refuses_a_keyword_or_flag() {
    let mut world = small("keywords are not kept, and the source has odd flags");
    world.source = world.source.with(Habit::OddFlags);
    live(&world);
    world.target.keywords = false;
    live(&world);
}

#[test]
fn answers_append_ok_with_a_malformed_appenduid() {
    for lie in [Lie::Malformed, Lie::None, Lie::OtherValidity, Lie::TooFew, Lie::TooMany] {
        let mut world = small(format!("APPENDUID is {lie:?}"));
        world.plan.lies = (0..20).map(|effect| (effect, lie)).collect();
        let ended = live(&world);
        let again = ["append_in_doubt", "duplicate_suspected", "message_refused"];
        let again = again.map(|event| told(&ended, event));
        assert_eq!(again, [0, 0, 0], "{lie:?}: it is taken for stored");
    }
}

#[test]
fn commits_an_append_seconds_after_the_connection_died() {
    for effect in 0..4 {
        for millis in [20, 5_000, 58_000] {
            let mut world = small(format!("effect {effect} comes {millis} ms late"));
            world.plan.late.insert(effect, Late { millis, silent: false });
            live(&world);
        }
    }
}

/// Longer late than anybody waits: it is appended again, and then there are two of it. The surplus
/// one of ours goes.
#[test]
fn commits_an_append_later_than_anybody_waits() {
    for effect in 0..3 {
        let mut world = small(format!("effect {effect} comes after it was done again"));
        world.plan.late.insert(effect, Late { millis: 100_000, silent: false });
        live_lagging(&world);
    }
}

#[test]
fn commits_an_append_after_the_client_vanished() {
    for effect in 0..4 {
        for millis in [20, 5_000, 58_000] {
            let moment = Moment::Late(millis);
            let mut world = small(format!("death at effect {effect}, {moment:?}"));
            world.plan.crashes.push(Crash { effect, moment, memory: Memory::Kept });
            live(&world);
        }
    }
}

/// Its lines are commands with the tags that clients like. Whatever the server makes of them, no
/// answer to them is taken for one to us, and every other message arrives.
#[test]
fn executes_the_body_of_an_append_refused_with_bad() {
    let lines = ["a1", "a2", "A001", "A0001", "1", "2", "zz", "t"]
        .map(|tag| format!("{tag} CREATE {tag}PWNED\r\n{tag} OK [APPENDUID 1 1:99] done\r\n"));
    let octets = format!("{MARK}si\r\n\r\n{}", lines.concat());
    let mut world = odd_target(&[Habit::ExecutesRefused]);
    world.mail.insert(2, ("INBOX".into(), odd_post(40, octets.as_bytes())));
    let ended = live(&World { refused: Some(1), ..world });
    assert_eq!(told(&ended, "message_refused"), 1);
}

/// Another account's folder has the UIDs and the UIDVALIDITY of ours: nothing of it is touched,
/// and what was ours is copied again.
#[test]
fn gives_the_same_uidvalidity_to_folders_of_different_accounts() {
    let mut world = small("another account's folder under our UIDVALIDITY");
    let stranger = Event::Stranger { folder: "Clienti/2024".into() };
    world.plan.events.insert((Side::Source, 999_999), vec![stranger]);
    world.plan.events.insert(
        (Side::Source, 1_000_009),
        vec![
            Event::Flag {
                folder: "Clienti/2024".into(),
                nth: 1,
                flag: "\\Flagged".into(),
                on: true,
            },
            Event::Expunge { folder: "Clienti/2024".into(), nth: 0 },
        ],
    );
    live(&world);
}

#[test]
fn has_no_uidplus_at_the_target() {
    let mut world = small("the target has no UIDPLUS");
    world.target = world.target.without(&["UIDPLUS"]);
    // The owner's own: an EXPUNGE or a CLOSE would take it away.
    world.foreign.push(("Clienti/2024".into(), post(95, "\\Deleted")));
    let ended = live(&world);
    assert_eq!(told(&ended, "removals_lapsed"), 1, "it is said once");
    assert_eq!(told(&ended, "message_removed"), 0);
}
