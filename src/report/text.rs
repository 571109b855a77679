//! Text, for a terminal or a file: the account, its folders, exceptions, every message, and last
//! what it comes to.

use std::io::{self, Write};

use super::words::Words;
use super::{Account, Lang, Message, Row};

pub(super) struct Text {
    lang: Lang,
    words: &'static Words,
    account: Account,
    exceptions: bool,
}

impl Text {
    pub fn new(lang: Lang) -> Text {
        Text { lang, words: lang.words(), account: Account::default(), exceptions: false }
    }

    pub fn take(&mut self, out: &mut impl Write, row: Row) -> io::Result<()> {
        match row {
            Row::Account(account) => {
                (self.account, self.exceptions) = (*account, false);
                self.head(out)?;
                self.folders(out)
            }
            Row::Exception(message) => {
                if !std::mem::replace(&mut self.exceptions, true) {
                    writeln!(out, "\n{}", self.words.exceptions)?;
                }
                write!(out, "  {}: ", self.name(message.folder))?;
                self.message(out, &message)
            }
            Row::Folder(at) if self.is_empty(at) => Ok(()),
            Row::Folder(at) => {
                writeln!(out, "\n{} (UID → UID, {})", self.name(at), self.words.size)
            }
            Row::Message(message) => {
                write!(out, "  ")?;
                self.message(out, &message)
            }
            Row::End { changed } => self.end(out, changed),
        }
    }

    fn is_empty(&self, folder: usize) -> bool {
        let folder = self.account.folders.get(folder);
        folder.is_none_or(|folder| folder.totals.known() == 0)
    }

    fn name(&self, folder: usize) -> &str {
        self.account.folders.get(folder).map_or("?", |folder| &folder.name)
    }

    fn head(&self, out: &mut impl Write) -> io::Result<()> {
        let (account, words) = (&self.account, self.words);
        writeln!(out, "{}\n", words.title)?;
        let place = |place: &super::Place| {
            if place.user == account.address {
                place.host.clone()
            } else {
                format!("{}, {} {}", place.host, words.user, place.user)
            }
        };
        let time = |time: &Option<String>| {
            time.as_ref().map_or_else(|| "–".to_owned(), |time| self.lang.time(time))
        };
        for (name, value) in [
            (words.account, account.address.clone()),
            (words.migration, account.migration.clone()),
            (words.phase, self.lang.phase(&account.phase).to_owned()),
            (words.source, place(&account.source)),
            (words.target, place(&account.target)),
            (words.sealed, time(&account.sealed_at)),
            (words.completed, time(&account.completed_at)),
            (words.source_seen_until, time(&account.source_seen_until)),
            (words.written, time(&Some(account.written_at.clone()))),
        ] {
            writeln!(out, "{name:26} {value}")?;
        }
        if let Some(archive) = &account.archive {
            writeln!(out, "{:26} {}", words.archive, place(archive))?;
        }
        Ok(())
    }

    fn folders(&self, out: &mut impl Write) -> io::Result<()> {
        let words = self.words;
        writeln!(out, "\n{}", words.folders)?;
        for folder in &self.account.folders {
            let totals = folder.totals;
            let count = |number| self.lang.count(number);
            let name = match folder.name == folder.target {
                true => folder.name.clone(),
                false => format!("{} → {}", folder.name, folder.target),
            };
            let source = self.lang.known(totals.source);
            write!(out, "  {name}: {} / {source}", count(totals.linked()))?;
            write!(out, ", {} {}", count(totals.bytes), words.bytes.to_lowercase())?;
            for (number, what) in [
                (totals.adopted, words.many_adopted),
                (totals.altered, words.many_altered),
                (totals.refused, words.many_refused),
                (totals.in_doubt, words.in_doubt),
                (totals.kept, words.kept),
            ] {
                if number > 0 {
                    write!(out, ", {} {}", count(number), what.to_lowercase())?;
                }
            }
            writeln!(out)?;
        }
        if !self.account.left_out.is_empty() {
            writeln!(out, "\n{}", words.left_out)?;
        }
        for left_out in &self.account.left_out {
            writeln!(out, "  {} ({}) {}", left_out.name, left_out.state, left_out.why)?;
        }
        Ok(())
    }

    fn message(&self, out: &mut impl Write, message: &Message) -> io::Result<()> {
        let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let reason = self.lang.reason(message);
        writeln!(
            out,
            "{} → {}, {}, {}, {}, {}, {}{}",
            message.source_uid,
            known(message.target_uid.map(|uid| uid.to_string())),
            known(message.size.map(|size| size.to_string())),
            known(message.instant.clone()),
            known(message.sha256.clone()),
            self.lang.state(message.state),
            self.lang.depth(message.proof),
            if reason.is_empty() { reason } else { format!(", {reason}") },
        )
    }

    fn end(&self, out: &mut impl Write, changed: bool) -> io::Result<()> {
        let (account, words) = (&self.account, self.words);
        let count = |number| self.lang.count(number);
        let totals = account.totals;
        writeln!(out, "\n{}", words.totals)?;
        writeln!(out, "  {}", verdict(account, words))?;
        writeln!(out, "  {:24} {}", words.at_source, self.lang.known(totals.source))?;
        writeln!(out, "  {:24} {}", words.missing, self.lang.known(totals.missing))?;
        for (name, number) in [
            (words.with_copy, totals.linked()),
            (words.many_adopted, totals.adopted),
            (words.many_altered, totals.altered),
            (words.many_refused, totals.refused),
            (words.bytes, totals.bytes),
            (words.listed, totals.listed),
            (words.read_back, totals.read_back),
            (words.verified, totals.verified),
        ] {
            writeln!(out, "  {name:24} {}", count(number))?;
        }
        writeln!(out, "  {}", words.not_moved)?;
        writeln!(out, "  {}: {}", words.digest, account.digest)?;
        if changed {
            writeln!(out, "\n! {}", words.changed)?;
        }
        writeln!(out)
    }
}

/// What the report says in one sentence.
pub(super) fn verdict(account: &Account, words: &Words) -> &'static str {
    let exceptions = account.totals.refused + account.totals.altered > 0;
    match account.phase.as_str() {
        "completed" | "archiving" if exceptions => words.with_exceptions,
        "completed" | "archiving" => words.all_well,
        "closed" => words.closed,
        _ => words.under_way,
    }
}
