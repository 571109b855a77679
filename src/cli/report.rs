//! `report`: the proof of the move, from the daemon or, without one, from its checkpoint.

use std::io::{self, BufWriter, ErrorKind, Stdout};
use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::offline::{self, Refusal};
use super::orders::unanswered;
use super::place::Place;
use super::terminal::complain;
use crate::daemon::proofs::{Whose, nothing_known, records};
use crate::daemon::protocol::{Line, Request, ask_for_lines, exit};
use crate::daemon::{last_state, left_out};
use crate::journal::shown;
use crate::report::{self, LeftOut, Row, Writer, gather};

/// A large account is read several times before its first line comes.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The account
    #[arg(required_unless_present = "migration", conflicts_with = "migration")]
    address: Option<String>,
    /// All accounts of this migration
    #[arg(long, value_name = "NAME")]
    migration: Option<String>,
    /// A page to read and print, or every message for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Of text and HTML
    #[arg(long, value_enum, default_value = "it")]
    lang: Lang,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum Format {
    Text,
    Json,
    Csv,
    Html,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum Lang {
    It,
    En,
}

pub fn run(config: &Path, options: &Options) -> u8 {
    let place = match Place::of(config) {
        Ok(place) => place,
        Err((code, text)) => {
            complain(&text);
            return code;
        }
    };
    let mut page = Page::new(options);
    let code = match from_daemon(&place, options, &mut page) {
        Ok(Some(code)) => code,
        Ok(None) => match from_checkpoint(&place, options, &mut page) {
            Ok(()) => exit::FINE,
            Err(refusal) => page.refused(refusal),
        },
        Err(refusal) => page.refused(refusal),
    };
    page.end(code)
}

/// `None` where no daemon listens.
fn from_daemon(place: &Place, options: &Options, page: &mut Page) -> Result<Option<u8>, Refusal> {
    let socket = &place.control_socket;
    let (address, migration) = (options.address.clone(), options.migration.clone());
    let request = Request::Report { address, migration };
    let answer = ask_for_lines(socket, &request, PATIENCE, |line| match line {
        Line::Row(row) => page.take(row),
        Line::Told(_) | Line::Seen(_) | Line::Answer(_) => Ok(()),
    });
    match answer {
        Ok(answer) if answer.exit == exit::FINE => Ok(Some(exit::FINE)),
        Ok(answer) => Err((answer.exit, shown(&answer.message))),
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(unanswered(socket, &error)),
        },
    }
}

fn from_checkpoint(place: &Place, options: &Options, page: &mut Page) -> Result<(), Refusal> {
    let of = Whose::of(options.address.clone(), options.migration.clone());
    let of = of.ok_or_else(|| (exit::USAGE, "whose report?".to_owned()))?;
    let known = last_state::read(&place.state_dir).map(|(status, _)| status).unwrap_or_default();
    let store = offline::open_store(&place.state_dir)?;
    let failed = |error: io::Error| (exit::NO, shown(&error.to_string()));
    let records = records(&store, &of).map_err(failed)?;
    if records.is_empty() {
        return Err((exit::NO, nothing_known(&of)));
    }
    let now = Timestamp::now().as_second();
    for record in &records {
        let mut accounts = known.accounts.iter();
        let account = accounts.find(|account| account.address == record.address);
        let left_out: Vec<LeftOut> = account.map(left_out).unwrap_or_default();
        gather(&store, record, &left_out, now, &mut |row| page.take(row)).map_err(failed)?;
    }
    Ok(())
}

/// What goes to stdout, begun with its first row.
struct Page {
    format: report::Format,
    lang: report::Lang,
    writer: Option<Writer<BufWriter<Stdout>>>,
    changed: bool,
    /// Nobody reads any more, or the disk is full.
    failure: Option<io::Error>,
}

impl Page {
    fn new(options: &Options) -> Page {
        let format = match options.format {
            Format::Text => report::Format::Text,
            Format::Json => report::Format::Json,
            Format::Csv => report::Format::Csv,
            Format::Html => report::Format::Html,
        };
        let lang = match options.lang {
            Lang::It => report::Lang::It,
            Lang::En => report::Lang::En,
        };
        Page { format, lang, writer: None, changed: false, failure: None }
    }

    fn take(&mut self, row: Row) -> io::Result<()> {
        self.changed |= row == Row::End { changed: true };
        self.write(row).map_err(|error| {
            let kind = error.kind();
            self.failure = Some(error);
            io::Error::new(kind, "what was written could not be put out")
        })
    }

    fn write(&mut self, row: Row) -> io::Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let out = BufWriter::with_capacity(1 << 16, io::stdout());
                self.writer.insert(Writer::begin(out, self.format, self.lang)?)
            }
        };
        writer.take(row)
    }

    /// A failure of our own output is told instead of what followed from it.
    fn refused(&self, (code, text): Refusal) -> u8 {
        if self.failure.is_none() {
            complain(&text);
        }
        code
    }

    fn end(mut self, code: u8) -> u8 {
        let ended = match (self.failure.take(), self.writer.take()) {
            (Some(failure), _) => Err(failure),
            (None, Some(writer)) if code == exit::FINE => writer.end().map(drop),
            (None, _) => Ok(()),
        };
        match ended {
            // Who closes a pipe early has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => exit::FINE,
            Err(error) => {
                complain(&format!("the report could not be written: {error}"));
                exit::NO
            }
            Ok(()) if self.changed => {
                complain("an account changed while its report was written: write it again");
                exit::NO
            }
            Ok(()) => code,
        }
    }
}
