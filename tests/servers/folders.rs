//! Folders: hidden, refused, not ours, oddly named, and named in the server's own words.

use crate::sim::worlds::{post, small};
use crate::sim::{Habit, Traits, World};
use crate::{live, live_lagging, odd_source, told};

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

/// Where the target makes one folder of two names, nothing of one flows into the other: the second
/// waits for a name of its own.
#[test]
fn names_folders_that_differ_by_case_only() {
    let mut world = small("two folders are one at the target");
    for (number, folder) in ["Fatture", "FATTURE"].into_iter().enumerate() {
        world.mail.push((folder.to_owned(), post(70 + number as u64, "\\Seen")));
    }
    live(&world);
    world.target = world.target.with(Habit::FoldsCase);
    let ended = live_lagging(&World { until_reason: Some("folder_conflict"), ..world.clone() });
    assert_eq!((told(&ended, "folder_conflict"), ended.violations.len()), (1, 0));
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
