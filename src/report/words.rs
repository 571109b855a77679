//! What a report says, in Italian and in English.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Depth, Message, State};

/// The language of the text and HTML forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lang {
    #[default]
    It,
    En,
}

/// The words of one language.
pub(super) struct Words {
    pub code: &'static str,
    pub title: &'static str,
    pub account: &'static str,
    pub migration: &'static str,
    pub phase: &'static str,
    pub source: &'static str,
    pub archive: &'static str,
    pub target: &'static str,
    pub sealed: &'static str,
    pub completed: &'static str,
    pub source_seen_until: &'static str,
    pub written: &'static str,
    pub user: &'static str,
    pub all_well: &'static str,
    pub with_exceptions: &'static str,
    pub closed: &'static str,
    pub under_way: &'static str,
    pub changed: &'static str,
    pub totals: &'static str,
    pub folders: &'static str,
    pub folder: &'static str,
    pub folder_at_target: &'static str,
    pub at_source: &'static str,
    pub messages: &'static str,
    pub with_copy: &'static str,
    pub copied: &'static str,
    pub adopted: &'static str,
    pub altered: &'static str,
    pub refused: &'static str,
    pub missing: &'static str,
    pub many_adopted: &'static str,
    pub many_altered: &'static str,
    pub many_refused: &'static str,
    pub all: &'static str,
    pub in_doubt: &'static str,
    pub kept: &'static str,
    pub bytes: &'static str,
    pub exceptions: &'static str,
    pub no_exceptions: &'static str,
    pub left_out: &'static str,
    pub not_moved: &'static str,
    pub proof: &'static str,
    pub proof_note: &'static str,
    pub listed: &'static str,
    pub read_back: &'static str,
    pub verified: &'static str,
    pub digest: &'static str,
    pub digest_note: &'static str,
    pub state: &'static str,
    pub size: &'static str,
    pub instant: &'static str,
    pub source_uid: &'static str,
    pub target_uid: &'static str,
    pub reason: &'static str,
    pub too_many: &'static str,
}

impl Lang {
    pub(super) fn words(self) -> &'static Words {
        match self {
            Lang::It => &IT,
            Lang::En => &EN,
        }
    }

    /// `4.711` or `4,711`.
    pub(super) fn count(self, number: u64) -> String {
        let digits = number.to_string();
        let mut grouped = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                grouped.push(if self == Lang::It { '.' } else { ',' });
            }
            grouped.push(digit);
        }
        grouped
    }

    /// A number, or that nobody knows it.
    pub(super) fn known(self, number: Option<u64>) -> String {
        number.map_or_else(|| "?".to_owned(), |number| self.count(number))
    }

    /// An RFC 3339 time as the reader's clocks show it: those of Italy, or UTC.
    pub(super) fn time(self, rfc3339: &str) -> String {
        let zone = TimeZone::get("Europe/Rome").ok().filter(|_| self == Lang::It);
        match (rfc3339.parse::<Timestamp>(), zone) {
            (Ok(time), Some(zone)) => {
                time.to_zoned(zone).strftime("%d/%m/%Y, %H:%M:%S (%Z)").to_string()
            }
            (Ok(time), None) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            (Err(_), _) => rfc3339.to_owned(),
        }
    }

    pub(super) fn phase(self, phase: &str) -> &str {
        match (self, phase) {
            (Lang::It, "enrolled") => "adesione ricevuta",
            (Lang::It, "copying") => "prima copia in corso",
            (Lang::It, "following") => "copiata e seguita",
            (Lang::It, "draining") => "ultima lettura dell'origine in corso",
            (Lang::It, "archiving") => "sigillata, si attendono i ritardatari",
            (Lang::It, "completed") => "completata",
            (Lang::It, "closed") => "chiusa senza essere completata",
            (_, phase) => phase,
        }
    }

    /// Who refused the message in which words, or what differs.
    pub(super) fn reason(self, message: &Message) -> String {
        let by = match (self, message.refused_by.as_deref()) {
            (_, None) => "",
            (Lang::It, Some("target")) => "dal nuovo gestore: ",
            (Lang::It, Some(_)) => "dal gestore di origine: ",
            (Lang::En, Some("target")) => "by the new provider: ",
            (Lang::En, Some(_)) => "by the old provider: ",
        };
        format!("{by}{}", message.reason.as_deref().unwrap_or_default())
    }

    pub(super) fn state(self, state: State) -> &'static str {
        let words = self.words();
        match state {
            State::Copied => words.copied,
            State::Adopted => words.adopted,
            State::Altered => words.altered,
            State::Refused => words.refused,
        }
    }

    pub(super) fn depth(self, depth: Option<Depth>) -> &'static str {
        let words = self.words();
        match depth {
            None => "–",
            Some(Depth::Listed) => words.listed,
            Some(Depth::ReadBack) => words.read_back,
            Some(Depth::Verified) => words.verified,
        }
    }
}

static IT: Words = Words {
    code: "it",
    title: "Rapporto di trasferimento della casella PEC",
    account: "Casella",
    migration: "Migrazione",
    phase: "Stato",
    source: "Gestore di origine",
    archive: "Archivio di origine",
    target: "Nuovo gestore",
    sealed: "Ultimo confronto concluso",
    completed: "Trasferimento terminato",
    source_seen_until: "Origine letta fino al",
    written: "Rapporto scritto",
    user: "utente",
    all_well: "Tutti i messaggi che la casella mostrava presso il gestore di origine sono stati trasferiti al \
               nuovo gestore, ciascuno una volta sola e identico byte per byte.",
    with_exceptions: "Tutti i messaggi che la casella mostrava presso il gestore di origine sono stati \
                      trasferiti al nuovo gestore, tranne quelli elencati come eccezioni.",
    closed: "Il termine per leggere dal gestore di origine è scaduto prima che il trasferimento fosse \
             completo: possono mancare messaggi, nel numero indicato dove è noto.",
    under_way: "Il trasferimento non è ancora terminato: questo rapporto descrive ciò che è già stato fatto.",
    changed: "La casella è cambiata mentre il rapporto veniva scritto: i totali e l'impronta possono non \
              corrispondere. Scrivere di nuovo il rapporto.",
    totals: "In breve",
    folders: "Cartelle",
    folder: "Cartella",
    folder_at_target: "Presso il nuovo gestore",
    at_source: "All'origine",
    messages: "Messaggi",
    with_copy: "Trasferiti",
    copied: "copiato",
    adopted: "già presente",
    altered: "alterato",
    refused: "rifiutato",
    missing: "Mancanti",
    many_adopted: "Già presenti",
    many_altered: "Alterati",
    many_refused: "Rifiutati",
    all: "Totale",
    in_doubt: "in dubbio",
    kept: "conservati",
    bytes: "Byte",
    exceptions: "Eccezioni: messaggi rifiutati o alterati",
    no_exceptions: "Nessuna: nessun messaggio è stato rifiutato o alterato.",
    left_out: "Cartelle non trasferite",
    not_moved: "Non fanno parte del trasferimento: la rubrica, i filtri, gli inoltri automatici e la posta \
                conservata soltanto in un programma di posta.",
    proof: "Prova",
    proof_note: "Di ogni messaggio è stata calcolata l'impronta SHA-256 mentre veniva copiato. «Elencato»: \
                 il nuovo gestore lo ha preso in consegna con quei byte e lo mostra con lo stesso \
                 identificativo, la stessa dimensione e la stessa data. «Riletto»: è stato inoltre scaricato \
                 di nuovo dal nuovo gestore e confrontato. «Verificato»: è stato scaricato di nuovo da una \
                 verifica ordinata apposta.",
    listed: "elencato",
    read_back: "riletto",
    verified: "verificato",
    digest: "Impronta complessiva (SHA-256)",
    digest_note: "Chiunque può ricalcolarla con strumenti comuni: è lo SHA-256 delle righe «SHA-256, \
                  dimensione, data, cartella» di tutti i messaggi, separate da tabulazioni e ordinate. Chi \
                  conserva questa impronta può dimostrare in seguito che l'elenco non è stato cambiato.",
    state: "Esito",
    size: "Byte",
    instant: "Data (UTC)",
    source_uid: "UID origine",
    target_uid: "UID nuovo",
    reason: "Motivo",
    too_many: "I messaggi sono troppi per questa pagina: l'elenco completo è nelle forme JSON e CSV del rapporto.",
};

static EN: Words = Words {
    code: "en",
    title: "Report on the move of a certified mailbox (PEC)",
    account: "Account",
    migration: "Migration",
    phase: "Phase",
    source: "Old provider",
    archive: "Its archive",
    target: "New provider",
    sealed: "Last comparison ended",
    completed: "Move ended",
    source_seen_until: "Source read until",
    written: "Report written",
    user: "user",
    all_well: "Every message that the account showed at the old provider was moved to the new one, exactly \
               once and byte for byte.",
    with_exceptions: "Every message that the account showed at the old provider was moved to the new one, \
                      except for those listed as exceptions.",
    closed: "The time for reading from the old provider was over before the move was complete: messages \
             may be missing, as many as shown where that is known.",
    under_way: "The move has not ended yet: this report describes what has been done so far.",
    changed: "The account changed while the report was written: totals and digest may not fit its rows. \
              Write the report again.",
    totals: "In short",
    folders: "Folders",
    folder: "Folder",
    folder_at_target: "At the new provider",
    at_source: "At the source",
    messages: "Messages",
    with_copy: "Moved",
    copied: "copied",
    adopted: "was there",
    altered: "altered",
    refused: "refused",
    missing: "Missing",
    many_adopted: "Were there",
    many_altered: "Altered",
    many_refused: "Refused",
    all: "All",
    in_doubt: "in doubt",
    kept: "kept",
    bytes: "Bytes",
    exceptions: "Exceptions: refused or altered messages",
    no_exceptions: "None: no message was refused or altered.",
    left_out: "Folders that were not moved",
    not_moved: "Not part of the move: address book, filters, automatic forwards, and mail kept only in a \
                mail program.",
    proof: "Proof",
    proof_note: "The SHA-256 of every message was taken while it was copied. \"Listed\": the new provider \
                 took those bytes and shows the message with the same identifier, size and date. \"Read \
                 back\": it was also downloaded again from the new provider and compared. \"Verified\": it \
                 was downloaded again by a verification ordered for that purpose.",
    listed: "listed",
    read_back: "read back",
    verified: "verified",
    digest: "Digest over all messages (SHA-256)",
    digest_note: "Anybody can recompute it with common tools: it is the SHA-256 over the lines \"SHA-256, \
                  size, date, folder\" of all messages, separated by tabs and sorted. Who keeps this digest \
                  can prove later that the list was not changed.",
    state: "Outcome",
    size: "Bytes",
    instant: "Date (UTC)",
    source_uid: "Source UID",
    target_uid: "Target UID",
    reason: "Reason",
    too_many: "There are too many messages for this page: all of them are in the JSON and CSV forms of the report.",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_the_readers() {
        assert_eq!(Lang::It.count(1_204_311), "1.204.311");
        assert_eq!(Lang::En.count(1_204_311), "1,204,311");
        let time = "2026-02-04T07:00:00Z";
        assert_eq!(Lang::It.time(time), "04/02/2026, 08:00:00 (CET)");
        assert_eq!(Lang::En.time(time), "2026-02-04 07:00:00 UTC");
    }
}
