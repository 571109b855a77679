//! Who comes back, and who was enrolled by somebody else: what stays as it was, and what is shown.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::site::{EPAP, FNOFI, GEOMETRI, ISTRUZIONE, NEW_PASSWORD, PASSWORD, World};
use crate::support::daemon::rfc3339;
use crate::visitor::{Answer, Visitor, form};

fn proves(world: &World, migration: (&str, &str), password: &str) -> Answer {
    let mut visitor = Visitor::new(world);
    let page = visitor.begin(migration);
    visitor.password(&page, password)
}

#[test]
fn enrolling_again_brings_a_new_password_and_keeps_the_rest() {
    let world = World::new();
    let mut daemon = world.daemon();
    world.plant(EPAP.1);
    let mut visitor = Visitor::new(&world);
    let page = visitor.begin(EPAP);
    let token = form(&page);
    visitor.password(&page, PASSWORD);
    visitor.post("contacts", &[("form", &token), ("email", "m@x.it"), ("phone", "+391234567890")]);
    let new = [("form", token.as_str()), ("new", NEW_PASSWORD), ("again", NEW_PASSWORD)];
    visitor.post("new-password", &new).says("è iniziata");
    daemon.wait_following(EPAP.1);
    world.wait_moved(EPAP.1, "M0");
    let before = world.enrollments();
    world.source.set_password(EPAP.1, "Altra-parola9");
    world.source.kick(EPAP.1);
    daemon.wait("the old password is refused", EPAP.1, 60, |it| it["reason"].is_object());
    world.plant(EPAP.1);
    let mut again = Visitor::new(&world);
    let page = again.begin(EPAP);
    again.password(&page, PASSWORD).says("Credenziali non valide");
    assert_eq!(world.enrollments(), before);
    again.password(&page, "Altra-parola9").says("è iniziata").says("Stato");
    let after = world.enrollments();
    assert_eq!(after.len(), 1);
    assert!(after != before && after[0].1.contains("m@x.it"), "{after:?}");
    daemon.wait_following(EPAP.1);
    world.wait_moved(EPAP.1, "M0");
    assert_eq!(world.queue().len(), 1, "the new password for the target stays as it was");
    // Whoever leaves is gone.
    let token = form(&again.get("state"));
    again.post("leave", &[("form", &token)]).says("Inserisci il tuo indirizzo");
    again.get("state").says("utilizzare il link completo");
}

#[test]
fn coming_back_queues_no_password_again() {
    let world = World::new();
    let come = || {
        let mut visitor = Visitor::new(&world);
        let page = visitor.begin(ISTRUZIONE);
        visitor.password(&page, PASSWORD).says("è iniziata");
    };
    come();
    let (_, told) = world.provision();
    assert!(told.contains(PASSWORD), "{told}");
    come();
    assert!(world.queue().is_empty(), "the password at the new provider may be another by now");
}

#[test]
fn who_has_proved_a_password_does_not_take_the_place_of_who_enrolled_since() {
    let world = World::new();
    let proves = |visitor: &mut Visitor| {
        let page = visitor.begin(GEOMETRI);
        visitor.password(&page, PASSWORD);
        form(&page)
    };
    let sets = |visitor: &mut Visitor, token: &str, new: &str| {
        visitor.post("new-password", &[("form", token), ("new", new), ("again", new)])
    };
    let (mut waits, mut owner) = (Visitor::new(&world), Visitor::new(&world));
    let early = proves(&mut waits);
    let token = proves(&mut owner);
    sets(&mut owner, &token, NEW_PASSWORD).says("è iniziata");
    let (files, queue) = (world.enrollments(), world.queue());
    sets(&mut waits, &early, "Un'altra-parola-9");
    assert_eq!((world.enrollments(), world.queue()), (files, queue));
}

#[test]
fn over_an_administrators_enrollment_the_owners_password_is_used_and_the_rest_stays() {
    let world = World::new();
    let mut daemon = world.daemon();
    let (_, address) = FNOFI;
    world.plant(address);
    let text = format!(
        "address = \"{address}\"\n[source]\npassword = \"superata\"\n\
         [contact]\nemail = \"ufficio@example.it\"\n"
    );
    let ours = world.site.drop_file("anna.toml", &text);
    daemon.wait_held(address, "credentials_rejected");
    proves(&world, FNOFI, "sbagliata").says("Credenziali non valide");
    assert!(world.enrollments().is_empty());
    proves(&world, FNOFI, PASSWORD).says("è iniziata");
    let status = daemon.wait_following(address);
    assert_eq!(status["enrolled_by"], ours.to_str().unwrap());
    assert!(status["owners_password_from"].as_str().unwrap().contains("/portal/"), "{status}");
    assert_eq!(status["contact"]["email"], "ufficio@example.it");
    world.wait_moved(address, "M2");
    let said = world.site.wait_event("enrollment_replaced", 10);
    assert!(said["MESSAGE"].as_str().unwrap().contains("its owner typed"), "{said}");
    assert_eq!(fs::read_to_string(&ours).unwrap(), text, "nobody writes to it");
    let [(_, written)] = &world.enrollments()[..] else { panic!("one file") };
    assert!(!written.contains("contact"), "{written}");
    // And again, when the password changes.
    world.source.set_password(address, "Altra-parola9");
    world.source.kick(address);
    daemon.wait_held(address, "credentials_rejected");
    proves(&world, FNOFI, "Altra-parola9").says("è iniziata");
    daemon.wait("well again", address, 60, |account| account["condition"] == "ok");
    let shown = world.site.command(&["status", address]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("its owner's, from"), "{shown}");
    world.site.assert_log_keeps_secrets();
}

#[test]
fn where_an_administrator_logs_in_with_another_user_the_visitor_is_told_so() {
    let world = World::new();
    let mut daemon = world.daemon();
    let (_, address) = FNOFI;
    let text = format!(
        "address = \"{address}\"\n[source]\nuser = \"servizio\"\npassword = \"superata\"\n"
    );
    world.site.drop_file("anna.toml", &text);
    daemon.wait("enrolled", address, 30, |account| account["enrolled_by"].is_string());
    proves(&world, FNOFI, PASSWORD).says("già stata avviata da un amministratore");
    assert!(world.enrollments().is_empty());
}

#[test]
fn coming_back_with_the_same_password_replaces_nothing_and_wakes_who_is_held() {
    let world = World::new();
    let mut daemon = world.daemon();
    let (_, address) = FNOFI;
    proves(&world, FNOFI, PASSWORD).says("è iniziata");
    daemon.wait_following(address);
    let enrolled_at = || world.enrollments()[0].0.metadata().unwrap().modified().unwrap();
    let first = enrolled_at();
    proves(&world, FNOFI, PASSWORD).says("sincronizzata");
    // The provider refuses everybody for a while.
    world.source.set_password(address, "un-altra");
    world.source.kick(address);
    daemon.wait_held(address, "credentials_rejected");
    world.source.set_password(address, PASSWORD);
    proves(&world, FNOFI, PASSWORD).says("è iniziata");
    daemon.wait("well again", address, 60, |account| account["condition"] == "ok");
    assert!(world.site.events("enrollment_replaced").is_empty(), "{}", world.site.log());
    world.source.set_password(address, "Altra-parola9");
    proves(&world, FNOFI, "Altra-parola9").says("è iniziata");
    world.site.wait_event("enrollment_replaced", 30);
    // Whether somebody enrolled in time is not to depend on when they came back.
    assert_eq!(enrolled_at(), first);
}

#[test]
fn after_the_cutover_the_state_says_so_and_what_mail_programs_need() {
    let cutover = SystemTime::now() + Duration::from_secs(25);
    let world = World::with(|settings| {
        let settings = settings.replace(
            "cutover = \"2126-02-04T08:00\"",
            &format!("cutover = \"{}\"\nsettle = \"0s\"", rfc3339(cutover)),
        );
        let links = "webmail = \"https://webmail.infocert.it\"\n\
            help = [\"Numero Verde 800-995-003\"]\n\
            client = [\"IMAP: mbox.cert.legalmail.it, 993, SSL/TLS\", \
            \"POP3: mbox.cert.legalmail.it, 995, SSL/TLS\", \
            \"SMTP: sendm.cert.legalmail.it, 465, SSL/TLS\", \
            \"SMTP: sendm.cert.legalmail.it, 25, STARTTLS\"]\n";
        settings.replace("contacts = true\n", links).replace("enroll_until = \"2126-02-03\"\n", "")
    });
    let mut daemon = world.daemon();
    let (_, address) = EPAP;
    world.plant(address);
    let mut visitor = Visitor::new(&world);
    let page = visitor.begin(EPAP);
    let token = form(&page);
    visitor.password(&page, PASSWORD);
    let new = [("form", token.as_str()), ("new", NEW_PASSWORD), ("again", NEW_PASSWORD)];
    let begun = visitor.post("new-password", &new);
    begun.says("è iniziata").says("non modificare");
    assert!(!begun.body.contains("webmail.infocert.it"), "not yet: {}", begun.body);
    daemon.wait_following(address);
    daemon.wait("completed", address, 120, |account| account["phase"] == "completed");
    let queued = world.queue();
    let mut later = Visitor::new(&world);
    let page = later.begin(EPAP);
    let page = later.password(&page, PASSWORD);
    page.says("Stato della migrazione").says("trasferita").says("Accesso alla nuova webmail");
    page.says("https://webmail.infocert.it").says("Numero Verde 800-995-003");
    page.says("Nuovi parametri di configurazione per il client di posta elettronica");
    page.says("IMAP: mbox.cert.legalmail.it, 993, SSL/TLS");
    page.says("POP3: mbox.cert.legalmail.it, 995, SSL/TLS");
    page.says("SMTP: sendm.cert.legalmail.it, 465, SSL/TLS");
    page.says("SMTP: sendm.cert.legalmail.it, 25, STARTTLS");
    page.says("Utente: l'indirizzo PEC. Password normale.");
    assert!(!page.body.contains("non modificare") && !page.body.contains("è iniziata"));
    assert_eq!(world.queue(), queued);
    world.wait_moved(address, "M0");
}

#[test]
fn a_mailbox_that_an_operator_cuts_over_ahead_of_the_others_is_told_so() {
    let world = World::new();
    let mut daemon = world.daemon();
    let (_, address) = FNOFI;
    proves(&world, FNOFI, PASSWORD).says("è iniziata");
    daemon.wait_following(address);
    world.site.order(&["cutover", address, "--now"]);
    daemon.wait("over", address, 60, |account| account["sealed_at"].is_string());
    let page = proves(&world, FNOFI, PASSWORD);
    page.says("Stato della migrazione").says("trasferita");
    assert!(!page.body.contains("non modificare"), "{}", page.body);
}

#[test]
fn once_the_old_provider_is_gone_the_page_still_says_what_mail_programs_need() {
    let world = World::with(|settings| {
        let over = "enroll_until = \"2026-01-07\"\ncutover = \"2026-01-08T08:00\"\n\
            source_until = \"2026-03-31\"\n";
        let settings = settings.replace("enroll_until = \"2026-01-07\"\n", over);
        let own = "[migration.tardi.portal]\nwebmail = \"https://webmail.infocert.it\"\n\
            client = [\"IMAP: mbox.cert.legalmail.it, 993, SSL/TLS\"]\n";
        settings.replace("[migration.tardi.portal]\n", own)
    });
    let page = Visitor::new(&world).get("?ui=tardi");
    page.says("La migrazione si è conclusa.").says("https://webmail.infocert.it");
    page.says("IMAP: mbox.cert.legalmail.it, 993, SSL/TLS");
    assert!(!page.body.contains("<form"), "{}", page.body);
}
