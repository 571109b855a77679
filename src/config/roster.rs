//! The file that `accounts` names: who is to be moved, with the login at the target and a contact,
//! as an office exports it from its spreadsheet.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use csv::StringRecord;

use super::files::{self, Octets};
use super::load::shown;
use super::problem::{Problem, Wrong, nearest, quoted};
use super::settings::Contact;
use super::values;

const FILE_OCTETS_MAX: u64 = 32 << 20;
/// A file of noise must not become a report of thousands of lines.
const PROBLEMS_MAX: usize = 20;
const COLUMNS: [&str; 4] = ["address", "target_user", "email", "phone"];

/// Who is to be moved, by address.
#[derive(Clone, Default)]
pub struct Roster {
    rows: BTreeMap<String, RosterRow>,
}

/// What is known of an account before it is enrolled.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RosterRow {
    pub target_user: Option<String>,
    pub contact: Contact,
}

impl Roster {
    pub fn get(&self, address: &str) -> Option<&RosterRow> {
        self.rows.get(address)
    }

    /// All of them, by address.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RosterRow)> {
        self.rows.iter().map(|(address, row)| (address.as_str(), row))
    }
}

/// Without the rows: an enrollment is the same as before while its own row is.
impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster").finish_non_exhaustive()
    }
}

/// What reading brought: the rows, and problems and warnings of that file.
#[derive(Default)]
pub(super) struct Read {
    pub roster: Roster,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// Reads the file, written as it stands behind the key in a file of `dir`. Rows of other domains
/// are left out: one export may serve several migrations. Blocking.
pub(super) fn read(
    config_dir: &Path,
    dir: &Path,
    written: &str,
    domains: &[String],
) -> Result<Read, Wrong> {
    let path = files::beside(dir, written)?;
    let octets = files::read_octets(&path, FILE_OCTETS_MAX, true).map_err(|error| error.wrong)?;
    let Some(Octets { octets, .. }) = octets else {
        return Err(files::cannot_read(&path, &std::io::ErrorKind::NotFound.into()));
    };
    let mut reading = Reading {
        file: shown(config_dir, &path),
        domains,
        lines: BTreeMap::new(),
        users: BTreeMap::new(),
        read: Read::default(),
        left_out: 0,
    };
    reading.table(&text_of(&octets));
    Ok(reading.finish())
}

/// UTF-8 with or without a mark, else what Windows writes in western Europe. Of that only
/// 0x80–0x9F differ from Latin-1, and no login or address has any of them.
pub(super) fn text_of(octets: &[u8]) -> String {
    let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
    match std::str::from_utf8(octets) {
        Ok(text) => text.to_owned(),
        Err(_) => octets.iter().map(|octet| char::from(*octet)).collect(),
    }
}

struct Reading<'r> {
    file: PathBuf,
    domains: &'r [String],
    /// Where an address and a login at the target were first seen.
    lines: BTreeMap<String, u64>,
    users: BTreeMap<String, u64>,
    read: Read,
    left_out: usize,
}

impl Reading<'_> {
    fn table(&mut self, text: &str) {
        let header = text.lines().next().unwrap_or_default();
        let semicolons = header.matches(';').count() > header.matches(',').count();
        let delimiter = if semicolons { b';' } else { b',' };
        let mut builder = csv::ReaderBuilder::new();
        builder.delimiter(delimiter).flexible(true).has_headers(false).trim(csv::Trim::All);
        let mut reader = builder.from_reader(text.as_bytes());
        let mut columns = None;
        for record in reader.records() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    let line = error.position().map_or(0, csv::Position::line);
                    self.wrong(line, Wrong::new("not a row of CSV", "mend the line"));
                    continue;
                }
            };
            match &columns {
                None => match Columns::of(&record) {
                    Ok(found) => columns = Some(found),
                    Err(wrong) => return self.wrong(line_of(&record), wrong),
                },
                Some(columns) => self.row(columns, &record),
            }
        }
        if columns.is_none() {
            self.wrong(0, Wrong::new("an empty file", header_hint()));
        } else if self.read.roster.rows.is_empty() && self.read.problems.is_empty() {
            let message = format!("no account of {}", self.domains.join(", "));
            let wrong = Wrong::new(message, "is it the right file?");
            self.read.warnings.push(Problem::of_file(&self.file, wrong));
        }
    }

    fn row(&mut self, columns: &Columns, record: &StringRecord) {
        let line = line_of(record);
        let cell = |column: Option<usize>| {
            column.and_then(|column| record.get(column)).filter(|cell| !cell.is_empty())
        };
        if record.iter().all(str::is_empty) {
            return;
        }
        let Some(written) = cell(Some(columns.address)) else {
            return self.wrong(line, Wrong::new("no address", "fill it in, or remove the row"));
        };
        let address = match values::address(written) {
            Ok(address) => address,
            Err(wrong) => return self.wrong(line, wrong),
        };
        if !self.domains.iter().any(|domain| domain == values::domain_of(&address)) {
            return;
        }
        if let Some(first) = self.lines.insert(address.clone(), line) {
            let message = format!("{address} is already in line {first}");
            return self.wrong(line, Wrong::new(message, "remove one of the two rows"));
        }
        let target_user = match cell(columns.target_user).map(values::user).transpose() {
            Ok(user) => user,
            Err(wrong) => return self.wrong(line, wrong),
        };
        if let Some(user) = &target_user
            && let Some(first) = self.users.insert(user.to_lowercase(), line)
        {
            let message = format!("target_user {} is already in line {first}", quoted(user));
            return self.wrong(line, Wrong::new(message, "each account has a login of its own"));
        }
        let email = cell(columns.email).map(values::address).transpose();
        let phone = cell(columns.phone).map(values::phone).transpose();
        for wrong in [email.as_ref().err(), phone.as_ref().err()].into_iter().flatten() {
            // Nobody is copied less for a contact that cannot be used.
            self.warn(line, wrong.clone());
        }
        let contact =
            Contact { email: email.unwrap_or_default(), phone: phone.unwrap_or_default() };
        self.read.roster.rows.insert(address, RosterRow { target_user, contact });
    }

    fn wrong(&mut self, line: u64, wrong: Wrong) {
        let problem = self.placed(line, wrong);
        match self.read.problems.len() < PROBLEMS_MAX {
            true => self.read.problems.push(problem),
            false => self.left_out += 1,
        }
    }

    fn warn(&mut self, line: u64, wrong: Wrong) {
        if self.read.warnings.len() < PROBLEMS_MAX {
            let warning = self.placed(line, wrong);
            self.read.warnings.push(warning);
        }
    }

    fn placed(&self, line: u64, Wrong { message, hint }: Wrong) -> Problem {
        let column = usize::from(line > 0);
        Problem { file: self.file.clone(), line: line as usize, column, message, hint }
    }

    fn finish(mut self) -> Read {
        if self.left_out > 0 {
            let message = format!("{} more problems are not shown", self.left_out);
            self.read.problems.push(Problem::of_file(&self.file, Wrong::new(message, "")));
        }
        self.read
    }
}

fn line_of(record: &StringRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

/// Where the columns stand; others than ours may stand there, too.
struct Columns {
    address: usize,
    target_user: Option<usize>,
    email: Option<usize>,
    phone: Option<usize>,
}

impl Columns {
    fn of(header: &StringRecord) -> Result<Columns, Wrong> {
        let named = |name: &str| header.iter().position(|cell| cell.eq_ignore_ascii_case(name));
        let [address, target_user, email, phone] = COLUMNS.map(named);
        // A slip in a name must not make a column vanish.
        for cell in header.iter().filter(|cell| !cell.is_empty()) {
            let known = COLUMNS.iter().any(|name| cell.eq_ignore_ascii_case(name));
            if let Some(near) = nearest(cell, COLUMNS).filter(|_| !known) {
                let message = format!("unknown column {}", quoted(cell));
                return Err(Wrong::new(message, format!("did you mean {near:?}?")));
            }
        }
        let address = address.ok_or_else(|| Wrong::new("no column \"address\"", header_hint()))?;
        Ok(Columns { address, target_user, email, phone })
    }
}

fn header_hint() -> String {
    format!("begin the file with a line that names its columns: {}", COLUMNS.join(","))
}
