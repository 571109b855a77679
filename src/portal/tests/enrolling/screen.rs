//! A real browser: what somebody sees, hears, and does on the way, on a phone, too.

use std::time::Duration;

use serde_json::json;

use crate::browser::Browser;
use crate::site::{
    BREAKING_ONE_RULE, EPAP, FNOFI, GEOMETRI, ISTRUZIONE, LATE, NEW_PASSWORD, PASSWORD, World,
};
use crate::support::poll;

/// Through the first page to that of the password, as a person does it.
pub fn begin(browser: &Browser, world: &World, (ui, address): (&str, &str)) {
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

pub fn submit(browser: &Browser) {
    browser.click("main button[type=submit]");
}

/// What a screen reader and a keyboard need, on any page (WCAG 2.2: 1.1.1, 1.3.1, 2.4.2, 3.1.1,
/// 3.3.2, 4.1.2; 1.4.3 for contrast), and that the page fits a phone. `make axe` has it looked at
/// by axe-core, too.
#[track_caller]
fn accessible(browser: &Browser) {
    fits_phones(browser);
    if let Some(axe) = std::env::var_os("PECSYNC_AXE") {
        let axe = std::fs::read_to_string(axe).expect("axe-core");
        let violations = "r.violations.map((v) => [v.id, v.nodes.map((node) => node.html)])";
        let found = format!("{axe}\nreturn axe.run().then((r) => {violations});");
        assert_eq!(browser.script(&found), json!([]), "{}", browser.title());
    }
    let found = browser.script(
        r##"
        const wrong = [];
        const say = (what, it) => wrong.push(what + ": " + it.outerHTML.slice(0, 120));
        if (!document.documentElement.lang) wrong.push("no language");
        if (!document.title) wrong.push("no title");
        const other = document.documentElement.lang === "it" ? "en" : "it";
        if (!document.querySelector(`header a[hreflang=${other}]`)) wrong.push("no other language");
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
        return wrong;
        "##,
    );
    assert_eq!(found, json!([]), "{}", browser.title());
}

/// WCAG 2.2 on a phone of the usual kind and on the narrowest (1.4.10): nothing lies outside, all
/// that is pressed is large enough (2.5.8), and fields do not make the browser zoom.
#[track_caller]
fn fits_phones(browser: &Browser) {
    for size @ (width, _) in [(360, 640), (320, 568)] {
        browser.phone(size);
        let is_so_wide = || {
            let shown = browser.script("return document.documentElement.clientWidth");
            (shown == width).then_some(())
        };
        assert!(poll(Duration::from_secs(20), is_so_wide).is_some(), "no phone of {width}");
        let found = browser.script(
            r##"
            const wrong = [];
            const say = (what, it) => wrong.push(what + ": " + it.outerHTML.slice(0, 120));
            const page = document.documentElement;
            const width = page.clientWidth;
            if (page.scrollWidth > width) wrong.push("scrolls sideways, to " + page.scrollWidth);
            for (const it of document.querySelectorAll("body *"))
              if (it.getBoundingClientRect().right > width + 0.5) say("lies outside", it);
            const fields = "input:not([type=hidden]):not([hidden]), select";
            for (const it of document.querySelectorAll("a, button, " + fields)) {
              const { width, height } = it.getBoundingClientRect();
              if (width < 24 || height < 24) say("only " + width + " by " + height, it);
            }
            for (const it of document.querySelectorAll(fields))
              if (parseFloat(getComputedStyle(it).fontSize) < 16) say("small text", it);
            return wrong;
            "##,
        );
        assert_eq!(found, json!([]), "{width}: {}", browser.title());
    }
    browser.desk();
}

/// One way from end to end on a telephone, with all that is on a page at its longest.
#[test]
fn a_browser_on_a_phone_enrolls() {
    let world = World::with(|settings| {
        let more = "[migration.pec-istruzione.portal]\n\
            title = \"Ministero dell'Istruzione e del Merito – Posta Elettronica Certificata\"\n\
            two_factor = \"https://guide.pec.it/verifica\"\ncontacts = true\n\
            notice = [\"Guida: https://www.example.it/assistenza/posta-elettronica-certificata\"]\n\
            help = [\"https://contatta.infocert.it/consip/posta-elettronica-certificata/index.php\"]\n";
        let settings = settings.replace("[migration.pec-istruzione.portal]\n", more);
        settings.replace("\"same-unless-noncompliant\"", "\"free\"")
    });
    let browser = Browser::new();
    let phone = || browser.phone((360, 640));
    let (ui, _) = ISTRUZIONE;
    browser.open(&world.url(&format!("?ui={ui}")));
    browser.wait("Inserisci il tuo indirizzo PEC");
    accessible(&browser);
    phone();
    let long = format!("{}@postacert.istruzione.it", "a".repeat(64));
    begin(&browser, &world, (ui, &long));
    browser.wait(&long);
    phone();
    begin(&browser, &world, ISTRUZIONE);
    phone();
    browser.fill("#password", PASSWORD);
    submit(&browser);
    browser.wait("Conferma o modifica i dati presenti");
    accessible(&browser);
    phone();
    browser.fill("#phone", "+391234567890");
    submit(&browser);
    browser.wait("Imposta password");
    accessible(&browser);
    phone();
    browser.fill("#new", NEW_PASSWORD);
    browser.fill("#again", NEW_PASSWORD);
    submit(&browser);
    browser.wait("L'importazione dei suoi messaggi PEC è iniziata.");
    accessible(&browser);
    phone();
    browser.click("header a");
    browser.wait("The import of your PEC messages has begun.");
    accessible(&browser);
    assert_eq!(world.enrollments().len(), 1);
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
        assert_eq!(ticked(), json!(kept), "{typed}");
    }
    submit_script("#again", "Le due password non coincidono");
    // Rule by rule, as the server says it.
    for (typed, rule) in BREAKING_ONE_RULE {
        browser.fill("#new", typed);
        browser.fill("#again", typed);
        browser.script("document.title = document.querySelector('.error').textContent = '…'");
        submit(&browser);
        browser.wait("Password non valida");
        let broken =
            "return [...document.querySelectorAll('#rules .broken')].map((it) => it.dataset.rule)";
        assert_eq!(browser.script(broken), json!([rule]), "{typed}");
    }
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
    begin(&browser, &world, LATE);
    browser.fill("#password", PASSWORD);
    submit(&browser);
    browser.wait("Procedura non attiva");
    browser.wait("Le adesioni si sono chiuse il 07/01/2026");
    accessible(&browser);
    // Statuses that say a form is shown again are no complaint; a refused script or style is.
    let complaints = browser.complaints();
    let own = complaints.iter().filter(|it| !it.contains("Failed to load resource"));
    assert_eq!(own.collect::<Vec<_>>(), Vec::<&String>::new());
}
