//! Rows → one of the four forms.

use std::io::{self, Write};

use super::csv::Csv;
use super::html::Html;
use super::json::Json;
use super::text::Text;
use super::{Lang, Row};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Text,
    Json,
    Csv,
    Html,
}

/// Writes the reports of any number of accounts, one after the other. What was written is whole
/// only after [`Writer::end`].
pub struct Writer<W> {
    out: W,
    form: Form,
}

enum Form {
    Text(Text),
    Json(Json),
    Csv(Csv),
    Html(Html),
}

impl<W: Write> Writer<W> {
    pub fn begin(mut out: W, format: Format, lang: Lang) -> io::Result<Writer<W>> {
        let form = match format {
            Format::Text => Form::Text(Text::new(lang)),
            Format::Json => Form::Json(Json::begin(&mut out)?),
            Format::Csv => Form::Csv(Csv::begin(&mut out)?),
            Format::Html => Form::Html(Html::begin(&mut out, lang)?),
        };
        Ok(Writer { out, form })
    }

    pub fn take(&mut self, row: Row) -> io::Result<()> {
        let out = &mut self.out;
        match &mut self.form {
            Form::Text(form) => form.take(out, row),
            Form::Json(form) => form.take(out, &row),
            Form::Csv(form) => form.take(out, row),
            Form::Html(form) => form.take(out, row),
        }
    }

    /// Gives back what was written to, flushed.
    pub fn end(mut self) -> io::Result<W> {
        let out = &mut self.out;
        match self.form {
            Form::Text(_) | Form::Csv(_) => {}
            Form::Json(form) => form.end(out)?,
            Form::Html(form) => form.end(out)?,
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests;
