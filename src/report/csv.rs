//! CSV (RFC 4180, with LF): a message a line, and a last line for each account with its digest.

use std::io::{self, Write};

use super::{Account, Message, Row};

#[derive(Default)]
pub(super) struct Csv {
    account: Account,
}

/// The first four are what the digest is made of.
const COLUMNS: &str = "sha256,size,instant,folder,target_folder,source_uid,target_uid,state,proof,\
                       reason,address";

impl Csv {
    pub fn begin(out: &mut impl Write) -> io::Result<Csv> {
        writeln!(out, "{COLUMNS}")?;
        Ok(Csv::default())
    }

    pub fn take(&mut self, out: &mut impl Write, row: Row) -> io::Result<()> {
        match row {
            Row::Account(account) => {
                self.account = *account;
                Ok(())
            }
            Row::Message(message) => self.message(out, &message),
            Row::Exception(_) | Row::Folder(_) => Ok(()),
            Row::End { .. } => {
                let Account { address, totals, digest, .. } = &self.account;
                let address = cell(address);
                writeln!(out, "{digest},{},,\"\",\"\",,,digest,,\"\",{address}", totals.bytes)
            }
        }
    }

    fn message(&self, out: &mut impl Write, message: &Message) -> io::Result<()> {
        let folder = self.account.folders.get(message.folder);
        let (name, target) =
            folder.map_or(("", ""), |folder| (folder.name.as_str(), folder.target.as_str()));
        let reason = [&message.refused_by, &message.reason];
        let reason = reason.map(|part| part.as_deref().unwrap_or_default()).join(": ");
        let reason = reason.trim_start_matches(": ");
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{},{}",
            known(&message.sha256),
            known(&message.size.map(|size| size.to_string())),
            known(&message.instant),
            cell(name),
            cell(target),
            message.source_uid,
            message.target_uid.map_or_else(String::new, |uid| uid.to_string()),
            message.state.as_str(),
            message.proof.map_or("", |proof| proof.as_str()),
            cell(reason),
            cell(&self.account.address),
        )
    }
}

/// Quoted always. What a spreadsheet would take for a formula gets an apostrophe, and so does
/// what begins with one: taking the first one away gives the text back.
pub fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        let cases = [
            ("INBOX", "\"INBOX\""),
            ("a,b \"c\"", "\"a,b \"\"c\"\"\""),
            ("=cmd|' /C calc'!A0", "\"'=cmd|' /C calc'!A0\""),
            ("+39", "\"'+39\""),
            ("-1", "\"'-1\""),
            ("@SUM", "\"'@SUM\""),
            ("'=x", "\"''=x\""),
            ("", "\"\""),
        ];
        for (text, expected) in cases {
            assert_eq!(cell(text), expected);
        }
    }
}
