//! What each step shows. Everything is escaped; nothing is inline but markup.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};
use pecsync::config::policy::{self, Rule};
use pecsync::config::portal::{NewPassword, Pages};
use pecsync::config::{Migration, Settings};

use crate::session::Visit;
use crate::words::{self, Lang, Wrong};

/// What all pages of a migration share.
#[derive(Clone, Copy)]
pub struct Frame<'f> {
    pub lang: Lang,
    /// As its guides call it, in the link.
    pub ui: &'f str,
    pub migration: &'f Migration,
    pub pages: &'f Pages,
    /// Where the page is served, for who looks whether it is this one.
    pub host: &'f str,
}

impl<'f> Frame<'f> {
    /// `None` for a migration that has no page.
    pub fn of(settings: &'f Settings, ui: &'f str, lang: Lang) -> Option<Frame<'f>> {
        let migration = settings.migrations.get(ui)?;
        let pages = settings.portal.pages.get(ui)?;
        let host = settings.portal.service.as_ref().map_or("", |it| &it.public_url.host);
        Some(Frame { lang, ui, migration, pages, host })
    }

    fn say<'t>(&self, italian: &'t str, english: &'t str) -> &'t str {
        self.lang.say(italian, english)
    }

    fn page(&self, here: &str, heading: &str, wrong: Option<Wrong>, body: Markup) -> Markup {
        let title = match wrong {
            Some(_) => format!("{} {heading}", self.say("Errore:", "Error:")),
            None => heading.to_owned(),
        };
        let other = self.lang.other().code();
        let switch = match here {
            "" => format!("./?ui={}&lang={other}", self.ui),
            step => format!("{step}?lang={other}"),
        };
        let main = html! {
            h1 { (heading) }
            @if let Some(wrong) = wrong {
                p.error #error role="alert" { (wrong.say(self.lang)) }
                @if let (Wrong::Trial(crate::trial::Failed::SecondFactor), Some(link))
                    = (wrong, &self.pages.two_factor) {
                    p { a href=(link) rel="noreferrer" { (self.two_factor_link()) } }
                }
            }
            (body)
        };
        let header = html! {
            @if self.pages.logo.is_some() {
                img src={ "logo?ui=" (self.ui) } alt=(self.pages.title);
            } @else {
                strong { (self.pages.title) }
            }
            a href=(switch) lang=(other) hreflang=(other) {
                (self.lang.say("English", "Italiano"))
            }
        };
        let footer = html! {
            @for line in &self.pages.help { p { (line) } }
            p {
                (self.say(
                    "Nota bene: per motivi di sicurezza questa procedura richiede l'utilizzo di \
                     browser aggiornati e non in \u{201c}modalità compatibilità\u{201d}.",
                    "Note: for security reasons an up-to-date browser is needed, not in \
                     \u{201c}compatibility mode\u{201d}.",
                ))
            }
            p {
                (self.say(
                    "All'apertura della procedura verificare che la URL del browser faccia \
                     riferimento a",
                    "When the page opens, check that the address in the browser is that of",
                )) " " strong { (self.host) } "; "
                (self.say(
                    "cliccare sul simbolo del lucchetto per verificare il certificato.",
                    "click on the padlock to check the certificate.",
                ))
            }
        };
        document(self.lang, &title, header, main, footer)
    }

    fn two_factor_link(&self) -> &'f str {
        self.lang.say(
            "Guida: disattivare la verifica in due passaggi",
            "Guide: switching two-step verification off",
        )
    }

    fn button(&self) -> Markup {
        html! { button type="submit" { (self.say("Continua", "Continue")) } }
    }

    fn form_token(&self, visit: &Visit) -> Markup {
        html! { input type="hidden" name="form" value=(visit.form); }
    }

    fn address_line(&self, visit: &Visit) -> Markup {
        html! {
            p { span.label { (self.say("Indirizzo della casella:", "Mailbox:")) } (visit.address) }
        }
    }

    /// The first step. `mailbox` is what was typed.
    pub fn address(
        &self,
        mailbox: &str,
        challenge: &str,
        closed: Option<&str>,
        wrong: Option<Wrong>,
    ) -> Markup {
        let domains = &self.migration.domains;
        let shown =
            domains.iter().map(|domain| format!("@{domain}")).collect::<Vec<_>>().join(", ");
        let body = html! {
            @if let Some(closed) = closed { div.note { p { (closed) } } }
            @if let Some(link) = &self.pages.two_factor {
                div.note {
                    p { strong { (self.say(
                        "OPERAZIONI PRELIMINARI: SE ATTIVA, DISATTIVARE L'AUTENTICAZIONE A DUE \
                         FATTORI (OTP)",
                        "FIRST OF ALL: IF TWO-FACTOR AUTHENTICATION (OTP) IS ON, SWITCH IT OFF",
                    )) } }
                    p { (self.say(
                        "Per consentire il backup dei contenuti occorre DISABILITARE \
                         l'autenticazione a 2 fattori – ATTENZIONE: La mancata disattivazione \
                         della verifica a 2 fattori comporta l'impossibilità di fare un backup e \
                         migrazione dei contenuti",
                        "While two-factor authentication is on, nothing can be copied",
                    )) }
                    p { a href=(link) rel="noreferrer" { (self.two_factor_link()) } }
                }
            }
            form method="post" action={ "./?ui=" (self.ui) } {
                label for="mailbox" { (self.say("Nome della casella", "Name of the mailbox")) }
                p.hint #mailbox-hint {
                    (self.say("Inserire l'indirizzo della casella", "Enter the mailbox's address"))
                    " " (shown)
                }
                div.mailbox {
                    input type="text" id="mailbox" name="mailbox" value=(mailbox) required
                        autocomplete="username" autocapitalize="none" spellcheck="false"
                        aria-describedby={
                            "mailbox-hint" @if wrong.is_some() { " error" }
                        }
                        aria-invalid=[wrong.filter(|it| *it == Wrong::Address).map(|_| "true")];
                    @if let [domain] = &domains[..] {
                        span { "@" (domain) }
                    } @else {
                        select name="domain" aria-label=(self.say("Dominio", "Domain")) {
                            @for domain in domains { option value=(domain) { "@" (domain) } }
                        }
                    }
                }
                div.robot {
                    input type="checkbox" id="robot" required autocomplete="off"
                        data-challenge=(challenge)
                        data-working=(self.say("verifica in corso…", "checking…"))
                        data-done=(self.say("verificato", "checked"));
                    label for="robot" { (self.say("Non sono un robot", "I am not a robot")) }
                    output id="robot-told" for="robot" {}
                    input type="hidden" id="solution" name="solution" autocomplete="off";
                }
                noscript { p.error { (self.say(
                    "Per questa verifica occorre attivare JavaScript nel browser.",
                    "This check needs JavaScript.",
                )) } }
                (self.button())
            }
            @for paragraph in &self.pages.notice { p { (paragraph) } }
        };
        self.page(
            "",
            self.say("Inserisci il tuo indirizzo PEC", "Enter your PEC address"),
            wrong,
            body,
        )
    }

    pub fn password(&self, visit: &Visit, wrong: Option<Wrong>) -> Markup {
        let body = html! {
            (self.address_line(visit))
            form method="post" action="password" {
                (self.form_token(visit))
                // Password managers look for it.
                input type="text" name="username" value=(visit.address)
                    autocomplete="username" hidden readonly;
                label for="password" { (self.say("Password della casella:", "Password of the mailbox:")) }
                input type="password" id="password" name="password" required
                    autocomplete="current-password" maxlength="1024" data-show=(self.show())
                    aria-describedby=[wrong.map(|_| "error")]
                    aria-invalid=[wrong.map(|_| "true")];
                (self.button())
            }
            p { a href={ "./?ui=" (self.ui) } { (self.say("Un'altra casella", "Another mailbox")) } }
        };
        self.page("password", self.say("Inserisci la password", "Enter the password"), wrong, body)
    }

    fn show(&self) -> &'static str {
        self.lang.say("Mostra la password", "Show the password")
    }

    pub fn contacts(
        &self,
        visit: &Visit,
        (email, phone): (&str, &str),
        wrong: Option<Wrong>,
    ) -> Markup {
        let invalid = |own: Wrong| wrong.filter(|it| *it == own).map(|_| "true");
        let heading =
            self.say("Conferma o modifica i dati presenti", "Check and correct these data");
        let body = html! {
            (self.address_line(visit))
            form method="post" action="contacts" {
                (self.form_token(visit))
                h2 { (self.say("Contatti", "Contacts")) }
                label for="email" { (self.say("Mail di contatto:", "E-mail:")) }
                input type="email" id="email" name="email" value=(email) required
                    autocomplete="email" aria-describedby=[wrong.filter(|it| *it == Wrong::Email).map(|_| "error")]
                    aria-invalid=[invalid(Wrong::Email)];
                label for="phone" { (self.say("Numero di telefono:", "Telephone number:")) }
                p.hint #phone-hint { (self.say(
                    "Inserire un numero di cellulare preceduto da prefisso internazionale \
                     (es. +391234567890)",
                    "A mobile number with its international prefix (such as +391234567890)",
                )) }
                input type="tel" id="phone" name="phone" value=(phone) required
                    autocomplete="tel" aria-describedby={ "phone-hint" @if wrong == Some(Wrong::Phone) { " error" } }
                    aria-invalid=[invalid(Wrong::Phone)];
                (self.button())
            }
        };
        self.page("contacts", heading, wrong, body)
    }

    pub fn new_password(&self, visit: &Visit, broken: &[Rule], wrong: Option<Wrong>) -> Markup {
        let names: Vec<String> = policy::tokens(&visit.address).collect();
        let names = serde_json::to_string(&names).unwrap_or_default();
        let heading = match self.lang {
            Lang::It => format!(
                "Inserisci una nuova password per la tua casella {}",
                self.pages.new_provider
            ),
            Lang::En => format!("Set a new password for your {} mailbox", self.pages.new_provider),
        };
        let body = html! {
            @if self.pages.new_password == NewPassword::SameUnlessNoncompliant {
                p { (self.say(
                    "La password attuale non risulta conforme agli standard attuali: è necessario \
                     impostarne una nuova.",
                    "The present password does not meet today's standards: a new one is needed.",
                )) }
            }
            div.note {
                p { (self.say(
                    "Attenzione potrai utilizzare questa password per accedere alla casella solo \
                     dopo il passaggio al nuovo gestore.",
                    "You can use this password only after the move to the new provider.",
                )) }
                p { (self.say(
                    "Fino a quel momento dovrai continuare ad usare la tua password attuale.",
                    "Until then go on using your present password.",
                )) }
            }
            form method="post" action="new-password" {
                (self.form_token(visit))
                input type="text" name="username" value=(visit.address)
                    autocomplete="username" hidden readonly;
                h2 { (self.say("Imposta password", "Set the password")) }
                label for="new" { (self.say("Nuova password:", "New password:")) }
                input type="password" id="new" name="new" required autocomplete="new-password"
                    maxlength="1024" data-show=(self.show())
                    aria-describedby={ "rules" @if wrong.is_some() { " error" } }
                    aria-invalid=[wrong.filter(|it| *it == Wrong::Policy).map(|_| "true")];
                ul.rules #rules data-of="new" data-names=(names) {
                    @for (name, rules, words) in words::policy(self.lang) {
                        @let is_broken = rules.iter().any(|rule| broken.contains(rule));
                        li data-rule=(name) class=[is_broken.then_some("broken")] { (words) }
                    }
                }
                label for="again" { (self.say("Conferma Password:", "The same again:")) }
                input type="password" id="again" name="again" required autocomplete="new-password"
                    maxlength="1024" data-show=(self.show())
                    aria-invalid=[wrong.filter(|it| *it == Wrong::Confirmation).map(|_| "true")];
                (self.button())
            }
        };
        self.page("new-password", &heading, wrong, body)
    }

    /// The end of the steps, and what somebody who comes back sees.
    /// `cutover`: the mailbox's own, which an operator may have moved.
    pub fn done(
        &self,
        visit: &Visit,
        state: &State,
        cutover: Option<Timestamp>,
        now: Timestamp,
    ) -> Markup {
        let is_over = cutover.is_some_and(|cutover| now >= cutover);
        let heading = match is_over {
            true => self.say("Stato della migrazione", "State of the move"),
            false => self.say(
                "L'importazione dei suoi messaggi PEC è iniziata.",
                "The import of your PEC messages has begun.",
            ),
        };
        let body = html! {
            (self.address_line(visit))
            @if !is_over {
                p {
                    (self.say(
                        "Per evitare di interrompere il processo di migrazione si ricordi di ",
                        "Lest the move be interrupted, do ",
                    ))
                    strong { (self.say("non modificare", "not change")) }
                    (self.say(
                        " la sua password fino al passaggio al nuovo gestore.",
                        " your password until the move to the new provider.",
                    ))
                }
                p { (self.say(
                    "Nel caso fosse necessario, è possibile avviare nuovamente la procedura \
                     inserendo la nuova Password.",
                    "Should it be necessary, begin again with the new password.",
                )) }
            }
            @if let Some(cutover) = cutover {
                p {
                    (self.say("Passaggio al nuovo gestore: ", "Move to the new provider: "))
                    (self.lang.instant(cutover, &self.migration.timezone))
                }
            }
            h2 { (self.say("Stato", "State")) }
            p.state role="status" { (state.say(self.lang)) }
            p { a href="state" { (self.say("Aggiorna", "Refresh")) } }
            @if is_over { (self.at_the_new_provider()) }
            form method="post" action="leave" {
                (self.form_token(visit))
                button.quiet type="submit" { (self.say("Esci", "Leave")) }
            }
        };
        self.page("state", heading, None, body)
    }

    /// The webmail, and what mail programs need.
    fn at_the_new_provider(&self) -> Markup {
        html! {
            @if let Some(link) = &self.pages.webmail {
                p { a href=(link) rel="noreferrer" {
                    (self.say("Accesso alla nuova webmail", "The new webmail"))
                } }
            }
            @if !self.pages.client.is_empty() {
                h2 { (self.say(
                    "Nuovi parametri di configurazione per il client di posta elettronica",
                    "New settings for mail programs",
                )) }
                ul { @for line in &self.pages.client { li { (line) } } }
                p { (self.say(
                    "Utente: l'indirizzo PEC. Password normale.",
                    "User: the PEC address. Normal password.",
                )) }
            }
        }
    }

    /// The migration is over: nobody proves a password at the old provider any more.
    pub fn over(&self, heading: &str, words: &str) -> Markup {
        self.page("", heading, None, html! { p { (words) } (self.at_the_new_provider()) })
    }

    /// Something that is no step: the visit is over.
    pub fn told(&self, heading: &str, words: &str) -> Markup {
        let body = html! {
            p { (words) }
            p { a href={ "./?ui=" (self.ui) } { (self.say("Torna all'inizio", "Back to the start")) } }
        };
        self.page("", heading, None, body)
    }
}

/// For who comes without a migration that has a page: it tells nobody which there are.
pub fn nowhere(lang: Lang) -> Markup {
    let heading = lang.say("Migrazione PEC", "PEC migration");
    let words = lang.say(
        "Per accedere alla procedura utilizzare il link completo indicato nella guida ricevuta.",
        "Use the whole link that stands in the guide you were given.",
    );
    let other = lang.other().code();
    let header = html! {
        strong { (heading) }
        a href={ "./?lang=" (other) } lang=(other) hreflang=(other) { (lang.say("English", "Italiano")) }
    };
    document(lang, heading, header, html! { h1 { (heading) } p { (words) } }, html! {})
}

fn document(lang: Lang, title: &str, header: Markup, main: Markup, footer: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(lang.code()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) }
                link rel="stylesheet" href="style.css";
                link rel="icon" href="data:,";
                script src="portal.js" defer {}
            }
            body {
                header { (header) }
                main { (main) }
                footer { (footer) }
            }
        }
    }
}

/// What has become of a mailbox, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    Preparing,
    Copying {
        percent: Option<u64>,
    },
    Synchronised,
    Moved,
    /// It waits for somebody.
    Held,
    Incomplete,
}

impl State {
    /// From the phase, the condition and the counts of `status --json`.
    pub fn of(phase: &str, condition: &str, (source, copied): (Option<u64>, Option<u64>)) -> State {
        match (phase, condition) {
            ("completed" | "archiving", _) => State::Moved,
            ("closed", _) => State::Incomplete,
            (_, "held") => State::Held,
            ("copying" | "draining", _) => {
                let percent = source.zip(copied).filter(|(source, _)| *source > 0);
                // All of it is copied only once the daemon says so.
                State::Copying { percent: percent.map(|(of, it)| (it * 100 / of).min(99)) }
            }
            ("following", _) => State::Synchronised,
            _ => State::Preparing,
        }
    }

    pub fn say(&self, lang: Lang) -> String {
        let (italian, english) = match self {
            State::Preparing => ("in preparazione", "in preparation"),
            State::Copying { percent: Some(percent) } => {
                let words = lang.say("copia in corso", "copying");
                return format!("{words}: {percent} %");
            }
            State::Copying { percent: None } => ("copia in corso", "copying"),
            State::Synchronised => ("sincronizzata", "synchronised"),
            State::Moved => ("trasferita", "moved"),
            State::Held => (
                "sospesa: la copia attende un intervento. Se la password è cambiata, avviare nuovamente la procedura; altrimenti rivolgersi all'assistenza",
                "suspended: the copy waits for somebody. If the password was changed, begin again; otherwise ask for help",
            ),
            State::Incomplete => (
                "chiusa senza essere completata: rivolgersi all'assistenza",
                "closed before it was complete: ask for help",
            ),
        };
        lang.say(italian, english).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_in_words() {
        #[track_caller]
        fn check(phase: &str, condition: &str, counts: (Option<u64>, Option<u64>), words: &str) {
            let said = State::of(phase, condition, counts).say(Lang::It);
            assert!(said.starts_with(words), "{said}");
        }
        check("enrolled", "ok", (None, None), "in preparazione");
        check("copying", "ok", (Some(100), Some(63)), "copia in corso: 63 %");
        check("copying", "retrying", (Some(7), Some(7)), "copia in corso: 99 %");
        check("copying", "ok", (None, None), "copia in corso");
        check("copying", "ok", (Some(0), Some(0)), "copia in corso");
        check("following", "ok", (Some(7), Some(7)), "sincronizzata");
        check("following", "held", (Some(7), Some(7)), "sospesa");
        check("draining", "ok", (Some(8), Some(4)), "copia in corso: 50 %");
        check("archiving", "ok", (None, None), "trasferita");
        check("completed", "ok", (None, None), "trasferita");
        check("closed", "ok", (None, None), "chiusa");
    }
}
