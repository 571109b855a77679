//! Folders: hidden, refused, not ours, oddly named, and named in the server's own words.

use crate::sim::worlds::{post, small};
use crate::sim::{Habit, Traits, World};
use crate::{live, odd_source, told};

#[test]
fn list_extended_hides_inbox_or_is_bad() {
    for habit in [Habit::HidesInbox, Habit::RefusesReturn] {
        let world = odd_source(&[habit]);
        live(&world);
        let target = Traits::target().with(habit);
        live(&World { target, ..world });
    }
}

/// Neither is copied: the judge would find it at the target.
#[test]
fn shows_virtual_folders_and_colleagues_namespaces() {
    let ended = live(&odd_source(&[Habit::ShowsOthers]));
    assert_eq!(told(&ended, "folder_conflict"), 0);
}

#[test]
fn names_folders_in_all_kinds_of_ways() {
    let mut world = small("odd names of folders");
    for name in [
        "Posta/Perch&AOk-",
        "Caffè",
        "Detto \"Gino\"",
        "con \\ dentro",
        " spazi ",
        "&-&-",
        "100%",
        "a*b",
    ] {
        world.mail.push((name.to_owned(), post(50, "\\Seen")));
    }
    live(&world);
}

#[test]
fn names_sent_trash_and_drafts_in_its_own_words() {
    let mut world = small("folders of the same use with other names");
    world.source.uses = vec![("Posta inviata", "\\Sent"), ("Cestino", "\\Trash")];
    world.target.uses = vec![("Spedite", "\\Sent"), ("Trash", "\\Trash")];
    for (number, folder) in ["Posta inviata", "Cestino"].into_iter().enumerate() {
        world.mail.push((folder.to_owned(), post(60 + number as u64, "\\Seen")));
    }
    for folder in ["Spedite", "Trash"] {
        world.foreign.push((folder.to_owned(), post(97, "\\Seen")));
    }
    live(&world);
}
