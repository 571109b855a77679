//! New enrollments: rows of a table → the text of files for conf.d.

use std::fmt::Write;
use std::path::Path;

use csv::StringRecord;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::files::{self, Octets};
use super::problem::{Wrong, nearest, quoted};
use super::roster::text_of;
use super::values;

const FILE_OCTETS_MAX: u64 = 32 << 20;
const COLUMNS: [&str; 7] = [
    "address",
    "target_user",
    "email",
    "phone",
    "source_user",
    "source_password",
    "target_password",
];

/// What is asked for: an enrollment before anybody has checked it.
#[derive(Clone, Default, Debug)]
pub struct Wanted {
    /// Case-folded.
    pub address: String,
    pub source_user: Option<String>,
    pub source_password: Option<SecretString>,
    pub target_user: Option<String>,
    pub target_password: Option<SecretString>,
    pub email: Option<String>,
    pub phone: Option<String>,
}

impl Wanted {
    /// The file's text, with what `password` makes of the passwords: a key and its value each.
    pub fn text(
        &self,
        mut password: impl FnMut(&SecretString, crate::words::Side) -> Result<Line, Wrong>,
    ) -> Result<Zeroizing<String>, Wrong> {
        use crate::words::Side;
        let mut text = Zeroizing::new(String::with_capacity(8 << 10));
        let mut line = |key: &str, value: &str| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{key} = {}", &*basic_string(value));
        };
        line("address", &self.address);
        let sides = [
            (Side::Source, &self.source_user, &self.source_password),
            (Side::Target, &self.target_user, &self.target_password),
        ];
        for (side, user, secret) in sides {
            if user.is_none() && secret.is_none() {
                continue;
            }
            line_of_table(&mut text, &side.to_string());
            let mut line = |key: &str, value: &str| {
                let _ = writeln!(text, "{key} = {}", &*basic_string(value));
            };
            if let Some(user) = user {
                line("user", user);
            }
            if let Some(secret) = secret {
                let Line { key, value } = password(secret, side)?;
                line(key, &value);
            }
        }
        if self.email.is_some() || self.phone.is_some() {
            line_of_table(&mut text, "contact");
            for (key, value) in [("email", &self.email), ("phone", &self.phone)] {
                if let Some(value) = value {
                    let _ = writeln!(text, "{key} = {}", &*basic_string(value));
                }
            }
        }
        Ok(text)
    }
}

/// A key and its value.
pub struct Line {
    pub key: &'static str,
    pub value: Zeroizing<String>,
}

impl Line {
    /// The password as it is.
    pub fn plain(secret: &SecretString) -> Line {
        Line { key: "password", value: Zeroizing::new(secret.expose_secret().to_owned()) }
    }
}

fn line_of_table(text: &mut String, name: &str) {
    let _ = writeln!(text, "\n[{name}]");
}

/// A TOML basic string of any text.
fn basic_string(text: &str) -> Zeroizing<String> {
    // Room for the longest escapes: a buffer that grows leaves copies behind.
    let mut written = Zeroizing::new(String::with_capacity(text.len() * 6 + 2));
    written.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => written.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(written, "\\u{:04X}", letter as u32);
            }
            letter => written.push(letter),
        }
    }
    written.push('"');
    written
}

/// A row that asks for an enrollment, or what is wrong with it, with its line.
pub type Row = (u64, Result<Wanted, Wrong>);

/// Reads a table with a header line; empty rows are passed over. The file holds passwords: nobody
/// else may be able to read it. Blocking.
pub fn rows(path: &Path) -> Result<Vec<Row>, Wrong> {
    let octets = files::read_octets(path, FILE_OCTETS_MAX, true).map_err(|error| error.wrong)?;
    let Some(Octets { octets, others_read, .. }) = octets else {
        return Err(files::cannot_read(path, &std::io::ErrorKind::NotFound.into()));
    };
    if others_read {
        return Err(files::others_read(path, "a file with passwords"));
    }
    rows_of(&Zeroizing::new(text_of(&octets)))
}

pub(super) fn rows_of(text: &str) -> Result<Vec<Row>, Wrong> {
    let header = text.lines().next().unwrap_or_default();
    let semicolons = header.matches(';').count() > header.matches(',').count();
    let mut builder = csv::ReaderBuilder::new();
    builder.delimiter(if semicolons { b';' } else { b',' }).flexible(true).has_headers(false);
    let mut reader = builder.from_reader(text.as_bytes());
    let mut columns = None;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                rows.push((line, Err(Wrong::new("not a row of CSV", "mend the line"))));
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        match &columns {
            None => columns = Some(columns_of(&record)?),
            Some(_) if record.iter().all(|cell| cell.trim().is_empty()) => {}
            Some(columns) => rows.push((line, wanted(columns, &record))),
        }
    }
    Ok(rows)
}

type Columns = [Option<usize>; COLUMNS.len()];

fn columns_of(header: &StringRecord) -> Result<Columns, Wrong> {
    let named = |name: &str| header.iter().position(|cell| cell.trim().eq_ignore_ascii_case(name));
    // A slip in a name must not make a column vanish.
    for cell in header.iter().map(str::trim).filter(|cell| !cell.is_empty()) {
        let known = COLUMNS.iter().any(|name| cell.eq_ignore_ascii_case(name));
        if let Some(near) = nearest(cell, COLUMNS).filter(|_| !known) {
            let message = format!("unknown column {}", quoted(cell));
            return Err(Wrong::new(message, format!("did you mean {near:?}?")));
        }
    }
    let columns = COLUMNS.map(named);
    match columns[0] {
        Some(_) => Ok(columns),
        None => {
            let hint =
                format!("begin the file with a line that names its columns: {}", COLUMNS.join(","));
            Err(Wrong::new("no column \"address\"", hint))
        }
    }
}

fn wanted(columns: &Columns, record: &StringRecord) -> Result<Wanted, Wrong> {
    let [address, target_user, email, phone, source_user, source_password, target_password] =
        columns.map(|column| column.and_then(|column| record.get(column)));
    let word =
        |cell: Option<&str>| cell.map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned);
    // Blanks may belong to a password.
    let secret = |cell: Option<&str>| {
        let cell = cell.filter(|cell| !cell.is_empty());
        cell.map(|cell| super::secrets::password(cell).map(SecretString::from)).transpose()
    };
    Ok(Wanted {
        address: values::address(address.unwrap_or_default().trim())?,
        source_user: word(source_user),
        source_password: secret(source_password)?,
        target_user: word(target_user),
        target_password: secret(target_password)?,
        email: word(email),
        phone: word(phone),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_becomes_a_file_that_says_the_same() {
        let text = "Address;source_password;target_user;phone\n\
                    Mario@PEC.it;\" se\"\"gre\\to \";M1;+391234567890\n\
                    ;;;\n\
                    anna;x;;\n";
        let rows = rows_of(text).unwrap();
        let lines: Vec<(u64, bool)> = rows.iter().map(|(line, row)| (*line, row.is_ok())).collect();
        assert_eq!(lines, [(2, true), (4, false)]);
        let wanted = rows[0].1.as_ref().unwrap();
        let text = wanted.text(|secret, _| Ok(Line::plain(secret))).unwrap();
        let expected = "address = \"mario@pec.it\"\n\n[source]\npassword = \" se\\\"gre\\\\to \"\n\n\
                        [target]\nuser = \"M1\"\n\n[contact]\nphone = \"+391234567890\"\n";
        assert_eq!(*text, expected);
        let read: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(read["source"]["password"].as_str(), Some(" se\"gre\\to "));
        assert!(!format!("{wanted:?}").contains("gre"));
    }

    #[test]
    fn a_slip_in_the_header_is_told() {
        assert!(rows_of("address,source_pasword\n").is_err());
        assert!(rows_of("name,source_password\n").is_err());
        assert!(rows_of("address,note\na@b.it,hello\n").is_ok());
    }
}
