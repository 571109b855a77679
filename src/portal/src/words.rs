//! Italian, as the published guides show it, and English.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pecsync::config::policy::Rule;

use crate::limits::Refused;
use crate::trial::Failed;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lang {
    It,
    En,
}

impl Lang {
    pub fn code(self) -> &'static str {
        self.say("it", "en")
    }

    pub fn other(self) -> Lang {
        match self {
            Lang::It => Lang::En,
            Lang::En => Lang::It,
        }
    }

    pub fn say<'t>(self, italian: &'t str, english: &'t str) -> &'t str {
        match self {
            Lang::It => italian,
            Lang::En => english,
        }
    }

    /// A day and a minute, on the clocks of the migration.
    pub fn instant(self, instant: Timestamp, zone: &str) -> String {
        let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
        instant.to_zoned(zone).strftime(self.say("%d/%m/%Y, %H:%M", "%Y-%m-%d, %H:%M")).to_string()
    }
}

/// What is wrong, for the one who sits before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    Address,
    Robot,
    NoPassword,
    Trial(Failed),
    Refused(Refused),
    Email,
    Phone,
    Policy,
    Confirmation,
    Internal,
}

impl Wrong {
    pub fn say(self, lang: Lang) -> &'static str {
        let (italian, english) = match self {
            Wrong::Address => (
                "L'indirizzo non è di questa migrazione: controllare come è scritto",
                "The address is not part of this migration: check how it is written",
            ),
            Wrong::Robot => (
                "Conferma di non essere un robot: selezionare \u{201c}Non sono un robot\u{201d} e attendere la verifica",
                "Confirm that you are not a robot: tick the box and wait for the check",
            ),
            Wrong::NoPassword => ("Inserire la password", "Enter the password"),
            Wrong::Trial(Failed::Credentials) => {
                ("Credenziali non valide", "Wrong address or password")
            }
            Wrong::Trial(Failed::SecondFactor) => (
                "La casella sembra protetta dalla verifica in due passaggi (OTP): disattivarla e riprovare",
                "The mailbox seems to be protected by two-step verification (OTP): switch it off and try again",
            ),
            Wrong::Trial(Failed::ImapOff) => (
                "L'accesso IMAP della casella è disattivato: attivarlo nella webmail del gestore attuale e riprovare",
                "IMAP access to the mailbox is switched off: switch it on in the present provider's webmail and try again",
            ),
            Wrong::Trial(Failed::Busy) => (
                "Il gestore attuale limita le connessioni alla casella: chiudere gli altri programmi di posta e riprovare tra qualche minuto",
                "The present provider limits connections to the mailbox: close other mail programs and try again in a few minutes",
            ),
            Wrong::Trial(Failed::Unanswered) => (
                "Il server del gestore attuale non risponde: la password non è stata verificata. Riprovare più tardi",
                "The present provider's server does not answer: the password was not checked. Try again later",
            ),
            Wrong::Refused(Refused::TooOften) => (
                "Troppi tentativi: attendere qualche minuto e riprovare",
                "Too many tries: wait a few minutes and try again",
            ),
            Wrong::Refused(Refused::TooMany) => (
                "Troppe richieste in questo momento: riprovare tra poco",
                "Too many requests at the moment: try again soon",
            ),
            Wrong::Email => ("Indirizzo e-mail non valido", "Not an e-mail address"),
            Wrong::Phone => (
                "Numero non valido: inserirlo con il prefisso internazionale (es. +391234567890)",
                "Not a number: write it with its international prefix (such as +391234567890)",
            ),
            Wrong::Policy => ("Password non valida", "The password does not do"),
            Wrong::Confirmation => {
                ("Le due password non coincidono", "The two passwords are not the same")
            }
            Wrong::Internal => (
                "Errore interno: i dati non sono stati registrati. Riprovare più tardi o rivolgersi all'assistenza",
                "Internal error: nothing was recorded. Try again later, or ask for help",
            ),
        };
        lang.say(italian, english)
    }
}

/// The policy as a list, each line with the rules that it stands for.
pub fn policy(lang: Lang) -> [(&'static str, &'static [Rule], &'static str); 6] {
    [
        ("length", &[Rule::Length], lang.say("Minimo 8 caratteri", "At least 8 characters")),
        (
            "letters",
            &[Rule::Lower, Rule::Upper],
            lang.say(
                "Almeno una lettera maiuscola e una minuscola (a-z A-Z)",
                "At least one upper-case and one lower-case letter (a-z A-Z)",
            ),
        ),
        (
            "digit",
            &[Rule::Digit],
            lang.say("Almeno un carattere numerico (0-9)", "At least one digit (0-9)"),
        ),
        (
            "special",
            &[Rule::Special],
            lang.say(
                "Almeno un carattere speciale (es. ? ! ; @)",
                "At least one special character (such as ? ! ; @)",
            ),
        ),
        (
            "repeated",
            &[Rule::Repeated],
            lang.say(
                "Non avere più di due caratteri uguali consecutivi",
                "No more than two equal characters in a row",
            ),
        ),
        (
            "name",
            &[Rule::Name],
            lang.say("Non contenere parti del nome casella", "No part of the mailbox's name"),
        ),
    ]
}
