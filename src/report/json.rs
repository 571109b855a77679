//! JSON: one document, a message a line.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Account, Row, SCHEMA};

#[derive(Default)]
pub(super) struct Json {
    accounts: usize,
    account: Account,
    folders: usize,
    messages: usize,
}

impl Json {
    pub fn begin(out: &mut impl Write) -> io::Result<Json> {
        write!(out, "{{\"schema\":{SCHEMA},\"accounts\":[")?;
        Ok(Json::default())
    }

    pub fn take(&mut self, out: &mut impl Write, row: &Row) -> io::Result<()> {
        match row {
            Row::Account(account) => self.account(out, account),
            Row::Exception(_) => Ok(()),
            Row::Folder(at) => self.folder(out, *at),
            Row::Message(message) => {
                let mut value = serde_json::to_value(message)?;
                remove(&mut value, "folder");
                separate(out, &mut self.messages)?;
                write!(out, "\n{value}")
            }
            Row::End { changed } => {
                if self.folders > 0 {
                    write!(out, "]}}")?;
                }
                write!(out, "],\"changed_while_written\":{changed}}}")
            }
        }
    }

    /// Everything but the folders, which follow with their messages.
    fn account(&mut self, out: &mut impl Write, account: &Account) -> io::Result<()> {
        let mut head = serde_json::to_value(account)?;
        remove(&mut head, "folders");
        head["digest"] = json!({
            "value": account.digest,
            "algorithm": "SHA-256",
            "of": "sorted lines: sha256 TAB size TAB instant TAB folder LF",
        });
        separate(out, &mut self.accounts)?;
        write!(out, "\n{},\"folders\":[", open(&head))?;
        (self.account, self.folders, self.messages) = (account.clone(), 0, 0);
        Ok(())
    }

    fn folder(&mut self, out: &mut impl Write, at: usize) -> io::Result<()> {
        if self.folders > 0 {
            write!(out, "]}}")?;
        }
        let folder = self.account.folders.get(at).cloned().unwrap_or_default();
        separate(out, &mut self.folders)?;
        self.messages = 0;
        write!(out, "\n{},\"messages\":[", open(&serde_json::to_value(folder)?))
    }

    pub fn end(self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "]}}")
    }
}

fn remove(object: &mut Value, key: &str) {
    object.as_object_mut().map(|object| object.remove(key));
}

/// An object without its closing brace: more keys follow.
fn open(object: &Value) -> String {
    let mut text = object.to_string();
    text.pop();
    text
}

fn separate(out: &mut impl Write, count: &mut usize) -> io::Result<()> {
    *count += 1;
    if *count > 1 { write!(out, ",") } else { Ok(()) }
}
