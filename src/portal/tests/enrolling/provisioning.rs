//! New passwords, from the page to the administrator's program.

use std::fs;

use crate::site::{GEOMETRI, NEW_PASSWORD, PASSWORD, World};
use crate::visitor::{Visitor, form};

/// Somebody, who sets a new password.
fn enroll(world: &World) {
    let mut visitor = Visitor::new(world);
    let page = visitor.begin(GEOMETRI);
    let token = form(&page);
    visitor.password(&page, PASSWORD);
    let new = [("form", token.as_str()), ("new", NEW_PASSWORD), ("again", NEW_PASSWORD)];
    visitor.post("new-password", &new).says("è iniziata");
}

#[test]
fn a_hook_that_fails_is_told_again_and_others_meanwhile() {
    let world = World::new();
    enroll(&world);
    let hook = world.site.path("hook");
    let good = fs::read_to_string(&hook).unwrap();
    // What it says of its own goes nowhere: it was told a password.
    fs::write(&hook, "#!/bin/sh\ncat >&2\nexit 3\n").unwrap();
    fs::write(world.site.path("portal/queue/altro.json"), "{}").unwrap();
    let (output, told) = world.provision();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("the hook ended with exit status: 3"),
        "{said}"
    );
    assert!(said.contains("no address") && !said.contains(NEW_PASSWORD), "{said}");
    assert_eq!((told.as_str(), world.queue().len()), ("", 2));
    fs::write(&hook, good).unwrap();
    // The page's word alone sets no password where no page asks for one.
    let queue = world.queue().into_iter();
    let (queued, asked) = { queue }.find(|(path, _)| !path.ends_with("altro.telling")).unwrap();
    let mut forged: serde_json::Value = serde_json::from_str(&asked).unwrap();
    forged["migration"] = "nessuna".into();
    fs::write(&queued, forged.to_string()).unwrap();
    let (output, told) = world.provision();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(told.is_empty() && said.contains("no page takes a new password"), "{said}");
    fs::write(&queued, asked).unwrap();
    let (_, told) = world.provision();
    assert!(told.contains(NEW_PASSWORD), "{told}");
    assert_eq!(world.queue().len(), 1);
}

#[test]
fn forget_erases_a_new_password_that_waits() {
    let world = World::new();
    enroll(&world);
    // Of which one is being told, too.
    let (queued, _) = &world.queue()[0];
    fs::copy(queued, queued.with_extension("telling")).unwrap();
    let (file, _) = &world.enrollments()[0];
    let stranger = world.site.path("portal/queue/altri.json");
    fs::write(&stranger, "{}").unwrap();
    fs::remove_file(file).unwrap();
    world.site.order(&["forget", GEOMETRI.1]);
    let left: Vec<_> = world.queue().into_iter().map(|(path, _)| path).collect();
    assert_eq!(left, [stranger]);
}
