//! From the first page to the message at the target, in the words of the guides.

use std::os::unix::fs::PermissionsExt;

use crate::site::{
    BREAKING_ONE_RULE, EPAP, FNOFI, GEOMETRI, ISTRUZIONE, LATE, NEW_PASSWORD, ODD, PASSWORD, World,
};
use crate::visitor::{Answer, Visitor, form, solution};

#[test]
fn four_migrations_from_the_first_page_to_the_message_at_the_target() {
    let world = World::new();
    let mut daemon = world.daemon();
    for (_, address) in [EPAP, GEOMETRI, FNOFI, ISTRUZIONE] {
        world.plant(address);
    }

    // S0: contacts, with the e-mail that is known, and a new password, which may be the old one.
    let mut mario = Visitor::new(&world);
    let first = mario.get("?ui=epap");
    first
        .says("Inserisci il tuo indirizzo PEC")
        .says("Inserire l'indirizzo della casella @pec.epap.it");
    first.says("Non sono un robot").says("Continua");
    let page = mario.begin(EPAP);
    page.says("Indirizzo della casella:");
    let before = mario.cookies.clone();
    let page = mario.password(&page, PASSWORD);
    assert_ne!(mario.cookies, before, "a session of who has proved the password");
    page.says("Conferma o modifica i dati presenti").says("Contatti").says("Mail di contatto:");
    page.says("Numero di telefono:").says(
        "Inserire un numero di cellulare preceduto da prefisso internazionale (es. +391234567890)",
    );
    page.says("casa0@example.it");
    assert!(world.enrollments().is_empty());
    let page = mario.post(
        "contacts",
        &[("form", &form(&page)), ("email", "mario@example.it"), ("phone", "+39 123 4567890")],
    );
    page.says("Inserisci una nuova password per la tua casella InfoCert");
    page.says("Attenzione potrai utilizzare questa password per accedere alla casella solo dopo il passaggio al nuovo gestore.");
    page.says("Fino a quel momento dovrai continuare ad usare la tua password attuale.");
    page.says("Imposta password").says("Nuova password:").says("Conferma Password:");
    page.says("Minimo 8 caratteri").says("Almeno una lettera maiuscola e una minuscola (a-z A-Z)");
    page.says("Almeno un carattere numerico (0-9)")
        .says("Almeno un carattere speciale (es. ? ! ; @)");
    page.says("Non avere più di due caratteri uguali consecutivi");
    page.says("Non contenere parti del nome casella");
    let fields = [("form", &*form(&page)), ("new", NEW_PASSWORD), ("again", NEW_PASSWORD)];
    let page = mario.post("new-password", &fields);
    page.says("L'importazione dei suoi messaggi PEC è iniziata.");
    let text = page.text().replace("<strong>", "").replace("</strong>", "");
    assert!(text.contains("Per evitare di interrompere il processo di migrazione si ricordi di non modificare la sua password fino al passaggio al nuovo gestore."), "{text}");
    let status = daemon.wait_following(EPAP.1);
    assert!(status["enrolled_by"].as_str().unwrap().contains("/conf.d/portal/"), "{status}");
    world.wait_moved(EPAP.1, "M0");
    mario.get("state").says("sincronizzata").says("04/02/2126, 08:00");

    // What was left behind: one file, read by the daemon alone, with nothing that is not sealed.
    let enrollments = world.enrollments();
    let [(file, text)] = &enrollments[..] else { panic!("{enrollments:?}") };
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    assert!(text.contains("sealed_password = \"v1:") && text.contains("phone = \"+391234567890\""));
    assert!(!text.contains(PASSWORD) && !text.contains(NEW_PASSWORD), "{text}");
    let queue = world.queue();
    assert!(queue.len() == 1 && !queue[0].1.contains(NEW_PASSWORD), "{queue:?}");
    let (_, told) = world.provision();
    assert_eq!(
        told,
        format!(
            "{{\"schema\":1,\"event\":\"new_password\",\"address\":\"{}\",\"migration\":\"epap\",\
             \"new_password\":\"{NEW_PASSWORD}\"}}\n",
            EPAP.1
        )
    );
    assert!(world.queue().is_empty());

    // S1: no contacts.
    let mut luigi = Visitor::new(&world);
    let page = luigi.begin(GEOMETRI);
    let page = luigi.password(&page, PASSWORD);
    let fields = [("form", &*form(&page)), ("new", NEW_PASSWORD), ("again", NEW_PASSWORD)];
    luigi.post("new-password", &fields).says("è iniziata");
    world.wait_moved(GEOMETRI.1, "M1");

    // S2: two-factor off first, no new password.
    let mut anna = Visitor::new(&world);
    let first = anna.get("?ui=fnofi");
    first.says(
        "OPERAZIONI PRELIMINARI: SE ATTIVA, DISATTIVARE L'AUTENTICAZIONE A DUE FATTORI (OTP)",
    );
    first.says("Per consentire il backup dei contenuti occorre DISABILITARE l'autenticazione a 2 fattori – ATTENZIONE: La mancata disattivazione della verifica a 2 fattori comporta l'impossibilità di fare un backup e migrazione dei contenuti");
    first.says("disattivare-la-verifica-in-due-passaggi.aspx").says("Numero Verde 800-995-003");
    first.says("per motivi di sicurezza questa procedura richiede l'utilizzo di browser aggiornati e non in “modalità compatibilità”");
    first.says(
        "All'apertura della procedura verificare che la URL del browser faccia riferimento a",
    );
    first.says("cliccare sul simbolo del lucchetto");
    let page = anna.begin(FNOFI);
    let page = anna.password(&page, PASSWORD);
    page.says("è possibile avviare nuovamente la procedura inserendo la nuova Password.");
    world.wait_moved(FNOFI.1, "M2");

    // S3: two domains; the password stays, since it meets the policy, and is handed on.
    let mut school = Visitor::new(&world);
    school.get("?ui=pec-istruzione").says("@pec.istruzione.it, @postacert.istruzione.it");
    let page = school.begin(ISTRUZIONE);
    school.password(&page, PASSWORD).says("è iniziata");
    world.wait_moved(ISTRUZIONE.1, "M3");
    let (output, told) = world.provision();
    assert!(output.status.success());
    assert!(told.contains(&format!("\"{PASSWORD}\"")), "{told}");
}

#[test]
fn a_present_password_that_breaks_the_policy_has_to_be_followed_by_another() {
    let world = World::new();
    let (_, address) = ISTRUZIONE;
    world.source.set_password(address, "debole");
    let mut school = Visitor::new(&world);
    let page = school.begin(ISTRUZIONE);
    let page = school.password(&page, "debole");
    page.says("Inserisci una nuova password per la tua casella InfoCert");
    page.says("La password attuale non risulta conforme agli standard attuali");
    assert!(world.queue().is_empty() && world.enrollments().is_empty());
    let token = form(&page);
    let mut sets =
        |new| school.post("new-password", &[("form", &token), ("new", new), ("again", new)]);
    sets("debole").says("Password non valida");
    sets(NEW_PASSWORD).says("è iniziata");
    let (_, told) = world.provision();
    assert!(told.contains(&format!("\"{NEW_PASSWORD}\"")) && !told.contains("debole"), "{told}");
    // At the source it is still the old one.
    world.plant(address);
    let _daemon = world.daemon();
    world.wait_moved(address, "M3");
}

/// On every page, what is wrong among it; but for what the configuration says.
#[test]
fn in_english_nothing_is_left_in_italian() {
    let world = World::new();
    let english = |page: Answer| {
        let text = page.text().to_lowercase();
        assert!(text.contains("<html lang=\"en\">"), "{text}");
        assert!(text.contains("hreflang=\"it\">italiano</a>"), "no switch: {text}");
        let rest = text.replace("numero verde", "").replace(">italiano<", "");
        for word in [
            "casella",
            "inserisci",
            "inserire",
            "continua<",
            " della ",
            " per ",
            " il ",
            " non ",
            "errore",
            "stato",
            "aggiorna",
            "esci<",
            "torna ",
            "procedura",
            "conferma",
            "accesso",
        ] {
            assert!(!rest.contains(word), "{word:?} is in {text}");
        }
        page
    };
    let mut visitor = Visitor::new(&world);
    english(visitor.get("?lang=en"));
    for ui in ["fnofi", "pec-istruzione", "presto", "tardi"] {
        english(visitor.get(&format!("?ui={ui}")));
    }
    english(visitor.post("?ui=epap", &[("mailbox", "a")]));
    let begin = |visitor: &mut Visitor, (ui, address): (&str, &str)| {
        let first = visitor.get(&format!("?ui={ui}"));
        let fields = [("mailbox", address), ("solution", &*solution(&first))];
        english(visitor.post(&format!("?ui={ui}"), &fields))
    };
    begin(&mut visitor, ("epap", "a@altrove.example"));
    let page = begin(&mut visitor, EPAP);
    english(visitor.password(&page, ""));
    english(visitor.password(&page, "sbagliata"));
    let page = english(visitor.password(&page, PASSWORD));
    let token = form(&page);
    let mut posts = |path, fields: [(&str, &str); 2]| {
        let [one, other] = fields;
        english(visitor.post(path, &[("form", &token), one, other]))
    };
    posts("contacts", [("email", "m"), ("phone", "1")]);
    posts("contacts", [("email", "m@x.it"), ("phone", "1")]);
    posts("contacts", [("email", "m@x.it"), ("phone", "+391234567890")]);
    posts("new-password", [("new", "corta"), ("again", "corta")]);
    posts("new-password", [("new", NEW_PASSWORD), ("again", "altra")]);
    posts("new-password", [("new", NEW_PASSWORD), ("again", NEW_PASSWORD)]);
    let token = form(&english(visitor.get("state")));
    english(visitor.post("state", &[("form", "another's")]));
    english(visitor.post("leave", &[("form", &token)]));
    english(visitor.get("state"));
    let page = begin(&mut visitor, LATE);
    english(visitor.password(&page, PASSWORD));
    for words in ["[LIMIT] Too many", "[ALERT] IMAP disabled", "[ALERT] OTP", "[UNAVAILABLE] No"] {
        world.odd.says(&format!("NO {words}"));
        let page = begin(&mut visitor, ODD);
        english(visitor.password(&page, PASSWORD));
    }
}

#[test]
fn steps_are_taken_in_their_order_and_the_policy_rule_by_rule() {
    let world = World::new();
    let mut visitor = Visitor::new(&world);
    let start = visitor.begin(EPAP);
    // Ahead of oneself: back to where one is.
    for step in ["contacts", "new-password", "state"] {
        let answer = visitor.get(step);
        assert_eq!((answer.status, answer.headers["location"].as_str()), (303, "password"));
    }
    let token = form(&start);
    visitor
        .post("new-password", &[("form", &token), ("new", NEW_PASSWORD), ("again", NEW_PASSWORD)]);
    assert!(world.queue().is_empty() && world.enrollments().is_empty());
    visitor.password(&start, "").says("Inserire la password");
    visitor.password(&start, PASSWORD).says("Contatti");
    // Back, and reload: shown where one is, no second try.
    let tries = world.source.logins(EPAP.1);
    assert_eq!(visitor.get("password").headers["location"], "contacts");
    visitor.password(&start, PASSWORD).says("Contatti");
    assert_eq!(world.source.logins(EPAP.1), tries);
    let contacts = |email, phone| [("form", token.as_str()), ("email", email), ("phone", phone)];
    visitor
        .post("contacts", &contacts("mario", "+391234567890"))
        .says("e-mail non valido")
        .says("\"mario\"");
    visitor.post("contacts", &contacts("m@x.it", "333 1234567")).says("Numero non valido");
    let script = "\"><script>alert(1)</script>";
    let answer = visitor.post("contacts", &contacts(script, script));
    assert!(!answer.body.contains("<script>"), "{}", answer.body);
    visitor.post("contacts", &contacts("m@x.it", "+391234567890")).says("Imposta password");
    let mut try_new = |new: &str, again: &str| {
        visitor.post("new-password", &[("form", &token), ("new", new), ("again", again)])
    };
    let broken = |answer: &Answer| {
        answer.says("Password non valida");
        let items = answer.body.split("<li data-rule=\"").skip(1);
        let broken = items.filter(|item| item.contains("class=\"broken\""));
        broken.map(|item| item.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (new, rule) in BREAKING_ONE_RULE {
        assert_eq!(broken(&try_new(new, new)), [rule], "{new}");
    }
    try_new(NEW_PASSWORD, "Nuov@parola9").says("Le due password non coincidono");
    assert!(world.queue().is_empty() && world.enrollments().is_empty());
    try_new(NEW_PASSWORD, NEW_PASSWORD).says("è iniziata");
    assert_eq!((world.queue().len(), world.enrollments().len()), (1, 1));
}
