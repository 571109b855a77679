//! What does not work is told as it is.

use crate::site::{EARLY, EPAP, FNOFI, GEOMETRI, ISTRUZIONE, LATE, ODD, PASSWORD, World};
use crate::visitor::{Answer, Visitor, form};

#[test]
fn wrong_passwords_and_servers_are_told_apart() {
    let mut world = World::new();
    let mut visitor = Visitor::new(&world);
    // Wrong name, wrong password: one text, one try each.
    let nobody = ("fnofi", "nessuno@pec.fnofi.it");
    let page = visitor.begin(nobody);
    let no_name = visitor.password(&page, PASSWORD);
    let page = visitor.begin(FNOFI);
    let no_password = visitor.password(&page, "sbagliata");
    no_name.says("Credenziali non valide");
    let alike = |answer: &Answer, address: &str| {
        (answer.status, answer.body.replace(address, "…").replace(&form(answer), "…"))
    };
    assert_eq!(alike(&no_name, nobody.1), alike(&no_password, FNOFI.1));
    assert_eq!(world.source.refusals(FNOFI.1), 1);
    // It may be tried again, and not for ever.
    visitor.password(&no_password, "sbagliata").says("Credenziali non valide");
    visitor.password(&no_password, "sbagliata").says("Torna all'inizio");
    visitor.password(&no_password, PASSWORD).says("link");
    assert!(world.enrollments().is_empty());
    assert_eq!(world.source.refusals(FNOFI.1), 3);
    world.source.stop();
    let page = visitor.begin(GEOMETRI);
    let away = visitor.password(&page, PASSWORD);
    away.says("non risponde");
    assert!(!away.body.contains("Credenziali"));
    world.source.restart();
    visitor.password(&page, PASSWORD).says("Imposta password");
    assert_eq!(visitor.get("metrics").status, 404, "they are not for visitors");
    let metrics = world.metrics();
    assert_eq!(metrics.status, 200);
    let metrics = metrics.body;
    for line in ["credentials_rejected\"} 4", "unreachable\"} 1", "enrolled\"} 0"] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[test]
fn what_is_no_wrong_password_is_told_apart() {
    let world = World::new();
    let mut visitor = Visitor::new(&world);
    for (words, expected) in [
        ("NO [LIMIT] Maximum number of connections exceeded", "limita le connessioni"),
        ("NO [ALERT] IMAP access is disabled for your account", "IMAP della casella è disattivato"),
        ("NO [UNAVAILABLE] Temporary failure", "non risponde"),
        ("NO [ALERT] Two-factor authentication is on", "verifica in due passaggi (OTP)"),
        ("NO [AUTHENTICATIONFAILED] No", "Credenziali non valide"),
    ] {
        world.odd.says(words);
        let page = visitor.begin(ODD);
        let answer = visitor.password(&page, PASSWORD);
        answer.says(expected);
        assert_eq!(answer.body.contains("Credenziali"), words.contains("AUTH"), "{words}");
        // The guide is where it helps.
        let has_guide = answer.body.contains("disattivare-la-verifica-in-due-passaggi.aspx");
        assert_eq!(has_guide, words.contains("factor"), "{words}");
    }
}

#[test]
fn closed_unknown_and_others() {
    let world = World::new();
    let mut visitor = Visitor::new(&world);
    for path in ["", "?ui=", "?ui=nessuna", "?ui=../epap", "?ui=%3Cscript%3E"] {
        let page = visitor.get(path);
        assert_eq!(page.status, 404, "{path}");
        page.says("utilizzare il link completo");
        for (ui, address) in [EPAP, GEOMETRI, FNOFI, ISTRUZIONE] {
            assert!(
                !page.body.contains(ui) && !page.body.contains(address.split('@').nth(1).unwrap())
            );
        }
    }
    visitor
        .get("?ui=presto")
        .says("Il link sarà attivo dal 07/01/2126, 00:00 al 31/03/2126, 23:59.");
    assert!(!visitor.get(&format!("?ui={}", EARLY.0)).body.contains("<form"));
    // After the end only who has proved the password is told whether they had enrolled.
    let page = visitor.begin(LATE);
    visitor.password(&page, "sbagliata").says("Credenziali non valide");
    visitor.password(&page, PASSWORD).says("Procedura non attiva").says("07/01/2026");
    assert!(world.enrollments().is_empty());
    // English, which stays.
    visitor.get("?ui=epap&lang=en").says("Enter your PEC address").says("lang=\"en\"");
    visitor.get("?ui=epap").says("I am not a robot");
    let page = visitor.get("?ui=epap&lang=it");
    page.says("Non sono un robot");
    let policy = &page.headers["content-security-policy"];
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe")
    );
    assert!(
        !page.body.contains("<style")
            && !page.body.contains(" onclick")
            && !page.body.contains("style=")
    );
    assert_eq!(page.headers["cache-control"], "no-store");
    // Steps without a visit, and what is no page.
    for step in ["password", "contacts", "new-password", "state"] {
        Visitor::new(&world).get(step).says("utilizzare il link completo");
    }
    assert_eq!(visitor.get("altro").status, 404);
    assert_eq!(visitor.send("DELETE", "?ui=epap", "").status, 405);
}
