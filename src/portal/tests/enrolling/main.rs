//! From the first page to the message at the target: a real portal, a real daemon, real servers.

mod browser;
mod guarding;
mod returning;
mod site;
#[path = "../../../../tests/support/mod.rs"]
mod support;

use std::os::unix::fs::PermissionsExt;

use browser::Browser;
use site::{
    EARLY, EPAP, FNOFI, GEOMETRI, ISTRUZIONE, LATE, NEW_PASSWORD, ODD, PASSWORD, Visitor, World,
    form, solution,
};

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
    let alike = |answer: &site::Answer, address: &str| {
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
        *world.odd.lock().unwrap() = words.to_owned();
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
    visitor.get("?ui=presto").says("Il link sarà attivo dal 07/01/2126, 00:00");
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

#[test]
fn machines_other_pages_and_floods_are_kept_away() {
    let world = World::new();
    let mut visitor = Visitor::new(&world);
    let mailbox = ("mailbox", "anna.neri");
    visitor.post("?ui=fnofi", &[mailbox]).says("Conferma di non essere un robot");
    visitor.post("?ui=fnofi", &[mailbox, ("solution", "{}")]).says("Conferma di non essere");
    let solved = solution(&visitor.get("?ui=fnofi"));
    let fields = [mailbox, ("solution", &*solved)];
    let page = visitor.post("?ui=fnofi", &fields);
    page.says("Password della casella:");
    visitor.post("?ui=fnofi", &fields).says("Conferma di non essere un robot");
    // A page elsewhere cannot send our forms, nor can one tab send another's.
    let own = std::mem::replace(&mut visitor.origin, "https://altrove.example".to_owned());
    assert_eq!(visitor.password(&page, PASSWORD).status, 403);
    visitor.origin = own;
    let stale = page;
    let page = visitor.begin(FNOFI);
    visitor.password(&stale, PASSWORD).says("in un'altra scheda");
    assert_eq!(visitor.send("POST", "password", &"a".repeat(17 << 10)).status, 413);
    // Script in every field comes back as text.
    let script = "\"><script>alert(1)</script>";
    for fields in
        [[("mailbox", script), ("solution", "")], [("mailbox", script), ("solution", script)]]
    {
        let answer = visitor.post("?ui=fnofi", &fields);
        assert!(!answer.body.contains("<script>"), "{}", answer.body);
    }
    let answer = visitor.post("password", &[("form", script), ("password", script)]);
    assert!(!answer.body.contains("<script>"), "{}", answer.body);
    // Each try is a login at the provider: an address has five, then it waits.
    let mut page = page;
    for try_ in 0..6 {
        if try_ % 2 == 0 {
            page = visitor.begin(FNOFI);
        }
        let answer = visitor.password(&page, "sbagliata");
        answer.says(if try_ < 5 { "Credenziali non valide" } else { "Troppi tentativi" });
    }
    assert_eq!(world.source.refusals(FNOFI.1), 5);
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
    let broken = |answer: &site::Answer| {
        answer.says("Password non valida");
        let items = answer.body.split("<li data-rule=\"").skip(1);
        let broken = items.filter(|item| item.contains("class=\"broken\""));
        broken.map(|item| item.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (new, rule) in [
        ("Cav-7", "length"),
        ("cavallo-7", "letters"),
        ("CAVALLO-7", "letters"),
        ("Cavallo-!", "digit"),
        ("Cavallo77", "special"),
        ("Cavallo-777", "repeated"),
        ("7-Rossini", "name"),
    ] {
        assert_eq!(broken(&try_new(new, new)), [rule], "{new}");
    }
    try_new(NEW_PASSWORD, "Nuov@parola9").says("Le due password non coincidono");
    assert!(world.queue().is_empty() && world.enrollments().is_empty());
    try_new(NEW_PASSWORD, NEW_PASSWORD).says("è iniziata");
    assert_eq!((world.queue().len(), world.enrollments().len()), (1, 1));
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
fn a_hook_that_fails_is_told_again_and_others_meanwhile() {
    let world = World::new();
    let mut visitor = Visitor::new(&world);
    let page = visitor.begin(GEOMETRI);
    let token = form(&page);
    visitor.password(&page, PASSWORD);
    let new = [("form", token.as_str()), ("new", NEW_PASSWORD), ("again", NEW_PASSWORD)];
    visitor.post("new-password", &new).says("è iniziata");
    let hook = world.site.path("hook");
    let good = std::fs::read_to_string(&hook).unwrap();
    // What it says of its own goes nowhere: it was told a password.
    std::fs::write(&hook, "#!/bin/sh\ncat >&2\nexit 3\n").unwrap();
    std::fs::write(world.site.path("portal/queue/altro.json"), "{}").unwrap();
    let (output, told) = world.provision();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("the hook ended with exit status: 3"),
        "{said}"
    );
    assert!(said.contains("no address") && !said.contains(NEW_PASSWORD), "{said}");
    assert_eq!((told.as_str(), world.queue().len()), ("", 2));
    std::fs::write(&hook, good).unwrap();
    // The page's word alone sets no password where no page asks for one.
    let queue = world.queue().into_iter();
    let (queued, asked) = { queue }.find(|(path, _)| !path.ends_with("altro.telling")).unwrap();
    let mut forged: serde_json::Value = serde_json::from_str(&asked).unwrap();
    forged["migration"] = "nessuna".into();
    std::fs::write(&queued, forged.to_string()).unwrap();
    let (output, told) = world.provision();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(told.is_empty() && said.contains("no page takes a new password"), "{said}");
    std::fs::write(&queued, asked).unwrap();
    let (_, told) = world.provision();
    assert!(told.contains(NEW_PASSWORD), "{told}");
    assert_eq!(world.queue().len(), 1);
}

/// Through the first page to that of the password, as a person does it.
fn begin(browser: &Browser, world: &World, (ui, address): (&str, &str)) {
    browser.open(&world.url(&format!("?ui={ui}")));
    browser.wait("Inserisci il tuo indirizzo PEC");
    let (local_part, domain) = address.split_once('@').unwrap();
    browser.fill("#mailbox", local_part);
    if browser.script("return document.querySelector('select') !== null") == true {
        browser.click(&format!("option[value='{domain}']"));
    }
    browser.click("#robot");
    browser.click("main button[type=submit]");
    browser.wait("Password della casella:");
    accessible(browser);
}

fn submit(browser: &Browser) {
    browser.click("main button[type=submit]");
}

/// What a screen reader and a keyboard need, on any page (WCAG 2.2: 1.1.1, 1.3.1, 2.4.2, 3.1.1,
/// 3.3.2, 4.1.2; 1.4.3 for contrast), and that the page fits a phone (1.4.10). `make axe` has it
/// looked at by axe-core, too.
#[track_caller]
fn accessible(browser: &Browser) {
    if let Some(axe) = std::env::var_os("PECSYNC_AXE") {
        let axe = std::fs::read_to_string(axe).expect("axe-core");
        let violations = "r.violations.map((v) => [v.id, v.nodes.map((node) => node.html)])";
        let found = format!("{axe}\nreturn axe.run().then((r) => {violations});");
        assert_eq!(browser.script(&found), serde_json::json!([]), "{}", browser.title());
    }
    let found = browser.script(
        r##"
        const wrong = [];
        const say = (what, it) => wrong.push(what + ": " + it.outerHTML.slice(0, 120));
        if (!document.documentElement.lang) wrong.push("no language");
        if (!document.title) wrong.push("no title");
        if (document.querySelectorAll("h1").length !== 1) wrong.push("not one h1");
        if (document.querySelectorAll("main").length !== 1) wrong.push("not one main");
        const ids = Array.from(document.querySelectorAll("[id]"), (it) => it.id);
        if (new Set(ids).size !== ids.length) wrong.push("an id twice: " + ids);
        for (const it of document.querySelectorAll("input:not([type=hidden]):not([hidden]), select"))
          if (!(it.labels && it.labels.length) && !it.ariaLabel) say("no label", it);
        for (const it of document.querySelectorAll("[aria-describedby], [for], [aria-controls]"))
          for (const id of (it.getAttribute("aria-describedby") || it.getAttribute("for") || it.getAttribute("aria-controls")).split(" "))
            if (id && !document.getElementById(id)) say("names nothing", it);
        for (const it of document.querySelectorAll("img")) if (!it.alt) say("no alt", it);
        for (const it of document.querySelectorAll("a, button"))
          if (!it.textContent.trim()) say("no name", it);
        const rgb = (text) => text.match(/[\d.]+/g).map(Number);
        const light = (colour) => {
          const part = (it) => { it /= 255; return it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4; };
          return 0.2126 * part(colour[0]) + 0.7152 * part(colour[1]) + 0.0722 * part(colour[2]);
        };
        const behind = (it) => {
          for (; it; it = it.parentElement) {
            const colour = rgb(getComputedStyle(it).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
          }
          return [255, 255, 255];
        };
        for (const it of document.querySelectorAll("body *")) {
          const own = Array.from(it.childNodes).some((node) => node.nodeType === 3 && node.data.trim());
          if (!own || !it.getClientRects().length) continue;
          const [one, two] = [light(rgb(getComputedStyle(it).color)), light(behind(it))];
          const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
          if (contrast < 4.5) say("contrast " + contrast.toFixed(2), it);
        }
        if (document.documentElement.scrollWidth > innerWidth) wrong.push("wider than the window");
        return wrong;
        "##,
    );
    assert_eq!(found, serde_json::json!([]), "{}", browser.title());
}

#[test]
fn a_browser_takes_all_four_ways() {
    let world = World::new();
    let mut daemon = world.daemon();
    let browser = Browser::new();
    for (_, address) in [EPAP, GEOMETRI, FNOFI, ISTRUZIONE] {
        world.plant(address);
    }
    browser.open(&world.url("?ui=fnofi"));
    browser.wait("OPERAZIONI PRELIMINARI");
    accessible(&browser);

    // S0, with a slip at each step, back and reload.
    begin(&browser, &world, EPAP);
    browser.fill("#password", "sbagliata");
    submit(&browser);
    browser.wait("Credenziali non valide");
    assert!(browser.title().starts_with("Errore:"));
    accessible(&browser);
    let script = "\"><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>";
    let stays_text = || {
        assert_eq!(browser.script("return window.broken === undefined"), true);
        accessible(&browser);
    };
    // The browser's own checks would keep it from being sent.
    let submit_script = |css: &str, words: &str| {
        browser.script("document.querySelector('main form').noValidate = true");
        browser.fill(css, script);
        submit(&browser);
        browser.wait(words);
        stays_text();
    };
    submit_script("#password", "Credenziali non valide");
    browser.fill("#password", PASSWORD);
    submit(&browser);
    browser.wait("Conferma o modifica i dati presenti");
    accessible(&browser);
    let email = browser.script("return document.getElementById('email').value");
    assert_eq!(email, "casa0@example.it");
    browser.back();
    browser.open(&world.url("password"));
    browser.wait("Conferma o modifica i dati presenti");
    browser.reload();
    browser.wait("Conferma o modifica i dati presenti");
    submit_script("#email", "Indirizzo e-mail non valido");
    browser.fill("#email", "casa0@example.it");
    submit_script("#phone", "Numero non valido");
    browser.fill("#phone", "123");
    submit(&browser);
    browser.wait("Numero non valido");
    accessible(&browser);
    browser.fill("#phone", "+391234567890");
    submit(&browser);
    browser.wait("Inserisci una nuova password per la tua casella InfoCert");
    accessible(&browser);
    browser.fill("#again", "altra");
    submit_script("#new", "Password non valida");
    // The list ticks itself, and says what the server will say.
    let ticked = || {
        browser.script(
            "return [...document.querySelectorAll('#rules .kept')].map((it) => it.dataset.rule)",
        )
    };
    for (typed, kept) in [
        ("abc", vec!["repeated", "name"]),
        ("Cavallo7", vec!["length", "letters", "digit", "repeated", "name"]),
        ("7-Rossini", vec!["length", "letters", "digit", "special", "repeated"]),
        ("Cavallo-777", vec!["length", "letters", "digit", "special", "name"]),
        (NEW_PASSWORD, vec!["length", "letters", "digit", "special", "repeated", "name"]),
    ] {
        browser.fill("#new", typed);
        assert_eq!(ticked(), serde_json::json!(kept), "{typed}");
    }
    browser.fill("#again", "altra");
    submit(&browser);
    browser.wait("Le due password non coincidono");
    accessible(&browser);
    browser.fill("#new", NEW_PASSWORD);
    browser.fill("#again", NEW_PASSWORD);
    submit(&browser);
    browser.wait("L'importazione dei suoi messaggi PEC è iniziata.");
    accessible(&browser);
    daemon.wait_following(EPAP.1);
    world.wait_moved(EPAP.1, "M0");
    browser.reload();
    browser.wait("sincronizzata");
    browser.click("header a");
    browser.wait("synchronised");
    accessible(&browser);
    browser.click("header a");
    browser.wait("sincronizzata");

    // S1 to S3.
    begin(&browser, &world, GEOMETRI);
    browser.fill("#password", PASSWORD);
    submit(&browser);
    browser.wait("Imposta password");
    browser.fill("#new", NEW_PASSWORD);
    browser.fill("#again", NEW_PASSWORD);
    submit(&browser);
    browser.wait("è iniziata");
    for way in [FNOFI, ISTRUZIONE] {
        begin(&browser, &world, way);
        browser.fill("#password", PASSWORD);
        submit(&browser);
        browser.wait("è iniziata");
    }
    for (number, (_, address)) in [EPAP, GEOMETRI, FNOFI, ISTRUZIONE].iter().enumerate() {
        world.wait_moved(address, &format!("M{number}"));
    }
    assert_eq!(world.enrollments().len(), 4);

    // Another tab begins anew: the first one's form does nothing, and says so.
    begin(&browser, &world, FNOFI);
    let first = browser.tab();
    let second = browser.new_tab();
    begin(&browser, &world, GEOMETRI);
    browser.switch(&first);
    browser.fill("#password", PASSWORD);
    submit(&browser);
    browser.wait("in un'altra scheda");
    accessible(&browser);
    browser.switch(&second);
    // Enrolling again, with another password.
    world.source.set_password(GEOMETRI.1, "Altra-parola9");
    browser.fill("#password", PASSWORD);
    submit(&browser);
    browser.wait("Credenziali non valide");
    browser.fill("#password", "Altra-parola9");
    submit(&browser);
    browser.wait("è iniziata");
    accessible(&browser);
    assert_eq!(world.enrollments().len(), 4);

    // Script in a field stays text; a link that is none, and one that is closed.
    browser.open(&world.url("?ui=fnofi"));
    browser.click("#robot");
    submit_script("#mailbox", "L'indirizzo non è di questa migrazione");
    browser.open(&world.url("?ui=nessuna"));
    browser.wait("utilizzare il link completo");
    accessible(&browser);
    browser.open(&world.url("?ui=presto"));
    browser.wait("Il link sarà attivo dal");
    accessible(&browser);
    // Statuses that say a form is shown again are no complaint; a refused script or style is.
    let complaints = browser.complaints();
    let own = complaints.iter().filter(|it| !it.contains("Failed to load resource"));
    assert_eq!(own.collect::<Vec<_>>(), Vec::<&String>::new());
}
