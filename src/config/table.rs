//! One TOML table while it is read: every getter gives a value or leaves a problem with its
//! place in the sink, and reading goes on.

use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use secrecy::SecretString;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use zeroize::Zeroize;

use super::dates::{self, BareDay};
use super::keys::Keys;
use super::problem::{Sink, Wrong, nearest, quoted};

/// A value with its place in the file.
#[derive(Clone, Debug)]
pub(super) struct Found<T> {
    pub at: Range<usize>,
    pub value: T,
}

/// Reads a whole file: its syntax errors and, as far as it could be understood, what `read`
/// finds in it.
pub(super) fn read_document<T>(
    sink: &Sink<'_>,
    text: &str,
    read: impl FnOnce(Table<'_>) -> T,
) -> T {
    let (mut document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        // The error's own Display would repeat the line, and a password with it.
        let at = error.span().unwrap_or(0..0);
        if !sink.has_line_of(&at) {
            sink.wrong(&at, syntax_error(error.message()));
        }
    }
    let root = Table { sink, map: document.get_ref(), at: 0..0, broken: !errors.is_empty() };
    let value = read(root);
    document.get_mut().iter_mut().for_each(|(_, value)| wipe(value.get_mut()));
    value
}

fn syntax_error(message: &str) -> Wrong {
    let hint = match message {
        m if m.starts_with("string values must be quoted") => "put it between double quotes",
        m if m.starts_with("duplicate key") => "keep one of them",
        m if m.starts_with("missing escaped value") => {
            "a backslash in double quotes is written twice; or use single quotes"
        }
        _ => "values are written like key = \"text\", key = 5, key = true or key = [\"a\", \"b\"]",
    };
    Wrong::new(message, hint)
}

/// Strings with escapes are copies of what the file says; none outlives its reading.
fn wipe(value: &mut DeValue<'_>) {
    match value {
        DeValue::String(std::borrow::Cow::Owned(text)) => text.zeroize(),
        DeValue::Table(table) => table.iter_mut().for_each(|(_, value)| wipe(value.get_mut())),
        _ => {}
    }
}

#[derive(Clone)]
pub(super) struct Table<'t> {
    sink: &'t Sink<'t>,
    map: &'t DeTable<'t>,
    /// Its header; where a missing key is missed.
    pub at: Range<usize>,
    /// The file has syntax errors: what seems to be missing may only be unreadable.
    broken: bool,
}

impl<'t> Table<'t> {
    pub fn sink(&self) -> &'t Sink<'t> {
        self.sink
    }

    pub fn wrong(&self, at: &Range<usize>, wrong: Wrong) {
        if !(self.broken && self.sink.has_line_of(at)) {
            self.sink.wrong(at, wrong);
        }
    }

    /// Something that should be there and is not.
    pub fn missing(&self, wrong: Wrong) {
        if !self.broken {
            self.sink.wrong(&self.at, wrong);
        }
    }

    /// Refuses keys that are unknown or without behaviour.
    pub fn allow(&self, keys: &Keys) {
        for key in self.map.keys() {
            let name: &str = key.get_ref();
            if keys.not_yet.contains(&name) {
                let message = format!("{name:?} is not supported yet");
                self.wrong(&key.span(), Wrong::new(message, "take the line out"));
            } else if !keys.supported.contains(&name) {
                let message = format!("unknown key {}", quoted(name));
                self.wrong(&key.span(), Wrong::new(message, remedy(keys, name)));
            }
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Where the key itself stands.
    pub fn at_key(&self, key: &str) -> Range<usize> {
        self.map.get_key_value(key).map_or(self.at.clone(), |(key, _)| key.span())
    }

    pub fn table(&self, key: &str) -> Option<Table<'t>> {
        let (key_at, value) = self.map.get_key_value(key)?;
        match value.get_ref() {
            DeValue::Table(map) => {
                // An implicit table, made by [a.b] alone, has no header of its own.
                let at = if value.span().is_empty() { key_at.span() } else { value.span() };
                Some(Table { sink: self.sink, map, at, broken: self.broken })
            }
            other => self.not_a(key, "a table", value, other),
        }
    }

    /// A table, if it is one: for a look ahead that leaves problems to the reading proper.
    pub fn quietly(&self, key: &str) -> Option<Table<'t>> {
        let is_table = self.map.get(key).is_some_and(|value| value.get_ref().is_table());
        if is_table { self.table(key) } else { None }
    }

    /// All tables in it.
    pub fn all_quietly(&self) -> Vec<Table<'t>> {
        self.names().iter().filter_map(|name| self.quietly(name.value)).collect()
    }

    /// The tables in a table of tables, by name: `[migration.epap]`, `[migration.geometri]`.
    pub fn tables(&self) -> Vec<(Found<&'t str>, Table<'t>)> {
        let named = |name: Found<&'t str>| self.table(name.value).map(|table| (name, table));
        self.names().into_iter().filter_map(named).collect()
    }

    /// All keys, where they are somebody's names and not ours, in the order of the file.
    pub fn names(&self) -> Vec<Found<&'t str>> {
        let found = |key: &'t Spanned<_>| Found { at: key.span(), value: name_of(key) };
        let mut names: Vec<Found<&'t str>> = self.map.keys().map(found).collect();
        names.sort_by_key(|name| name.at.start);
        names
    }

    pub fn text(&self, key: &str) -> Option<Found<&'t str>> {
        let value = self.map.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Found { at: value.span(), value: text }),
            other => self.not_a(key, "a string", value, other),
        }
    }

    /// A string that stands for something else.
    pub fn parsed<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<Found<T>> {
        let Found { at, value } = self.text(key)?;
        self.accept(key, at, parse(value))
    }

    /// A string that no message may repeat.
    pub fn secret(&self, key: &str) -> Option<Found<SecretString>> {
        let Found { at, value } = self.text(key)?;
        let secret = super::secrets::password(value).map(SecretString::from);
        self.accept(key, at, secret)
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        let value = self.map.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => self.not_a(key, "true or false", value, other),
        }
    }

    /// A whole number between two others.
    pub fn count(&self, key: &str, least: u64, most: u64) -> Option<Found<u64>> {
        let value = self.map.get(key)?;
        let DeValue::Integer(written) = value.get_ref() else {
            return self.not_a(key, "a whole number", value, value.get_ref());
        };
        let number = i128::from_str_radix(written.as_str(), written.radix()).unwrap_or(i128::MAX);
        let checked = super::values::within(number, least.into(), most.into(), |n| n.to_string());
        self.accept(key, value.span(), checked.map(|number| number as u64))
    }

    /// A number, whole or not, between two others.
    pub fn rate(&self, key: &str, least: f64, most: f64) -> Option<f64> {
        let value = self.map.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(written) => written.as_str().parse::<f64>().unwrap_or(f64::NAN),
            DeValue::Float(written) => written.as_str().parse::<f64>().unwrap_or(f64::NAN),
            other => return self.not_a(key, "a number", value, other),
        };
        let checked = super::values::within(number, least, most, |n| n.to_string());
        Some(self.accept(key, value.span(), checked)?.value)
    }

    /// A string or a TOML date.
    pub fn instant(&self, key: &str, zone: &TimeZone, bare: BareDay) -> Option<Found<Timestamp>> {
        let value = self.map.get(key)?;
        let instant = match value.get_ref() {
            DeValue::String(text) => dates::instant_of_text(text, zone, bare),
            DeValue::Datetime(written) => dates::instant(written, zone, bare),
            other => return self.not_a(key, "a date", value, other),
        };
        self.accept(key, value.span(), instant)
    }

    /// A list of strings that stand for something else; the wrong ones are left out.
    pub fn list<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<Found<T>>> {
        let value = self.map.get(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            return self.not_a(key, "a list of strings", value, value.get_ref());
        };
        let items = array.iter().filter_map(|item| match item.get_ref() {
            DeValue::String(text) => self.accept(key, item.span(), parse(text)),
            other => self.not_a(key, "a list of strings", item, other),
        });
        Some(items.collect())
    }

    fn accept<T>(&self, key: &str, at: Range<usize>, parsed: Result<T, Wrong>) -> Option<Found<T>> {
        match parsed {
            Ok(value) => Some(Found { at, value }),
            Err(Wrong { message, hint }) => {
                self.wrong(&at, Wrong::new(format!("{}: {message}", label(key)), hint));
                None
            }
        }
    }

    /// Names the type found, never the value: it may be a password without its quotes.
    fn not_a<T>(
        &self,
        key: &str,
        wanted: &str,
        value: &Spanned<DeValue<'_>>,
        found: &DeValue<'_>,
    ) -> Option<T> {
        let article = if found.type_str().starts_with(['a', 'i']) { "an" } else { "a" };
        let key = label(key);
        let message = format!("{key} must be {wanted}, not {article} {}", found.type_str());
        let hint = match wanted {
            "a string" => format!("write {key} = \"…\""),
            "a table" => format!("write a heading that ends in {key}]"),
            "a list of strings" => format!("write {key} = [\"…\", \"…\"]"),
            "a date" => format!("write {key} = \"2026-02-04T08:00\""),
            "a whole number" | "a number" => format!("write {key} = 5, without quotes"),
            _ => format!("write {key} = true or {key} = false, without quotes"),
        };
        self.wrong(&value.span(), Wrong::new(message, hint));
        None
    }
}

/// A key as it is written: some are somebody's folders or hosts.
fn label(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if key.chars().all(bare) { key.to_owned() } else { quoted(key) }
}

fn name_of<'t>(key: &'t Spanned<DeString<'_>>) -> &'t str {
    key.get_ref()
}

fn remedy(keys: &Keys, unknown: &str) -> String {
    let homes = keys.homes_of(unknown);
    if !homes.is_empty() {
        return format!("it belongs in {}", homes.join(" or "));
    }
    match nearest(unknown, keys.supported.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("known here: {}", keys.supported.join(", ")),
    }
}
