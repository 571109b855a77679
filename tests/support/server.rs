//! A server of any make, as far as the stage, the comparator and the daemon's settings need it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use super::imap::{Imap, modified_utf7};

pub trait Server {
    /// A session of a user's own mail program.
    fn imap(&self, user: &str) -> Imap;

    /// The keys of `[migration.*.source]` or `.target` that lead to it.
    fn endpoint(&self) -> String;

    fn names(&self) -> Names;

    /// How often a message of a user's was refused, at servers that tell.
    fn appends_refused(&self, _user: &str) -> usize {
        0
    }

    /// The Maildir of a user's folder, as the user sees it, at servers that have one: what a
    /// delivery agent puts there went through no APPEND.
    fn maildir(&self, user: &str, shown: &str) -> Option<PathBuf>;

    /// Delivers a message into a file of that name, and tells whether that can be done here.
    fn deliver(&self, user: &str, shown: &str, file: &str, octets: &[u8]) -> bool {
        let Some(maildir) = self.maildir(user, shown) else { return false };
        let draft = maildir.join("tmp").join(file);
        fs::write(&draft, octets).expect("written");
        chown(&draft, Some(NOBODY), Some(NOBODY)).expect("chown");
        fs::rename(draft, maildir.join("new").join(file)).expect("renamed");
        true
    }
}

/// The user who owns all mail.
const NOBODY: u32 = 65534;

/// What becomes a server.
pub trait Setup {
    type Running: Server;

    fn user(self, user: &str, password: &str) -> Self;

    fn start(self) -> Self::Running;
}

/// How a server names folders. As users see them: `/` between levels, without the prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Names {
    pub separator: char,
    pub prefix: &'static str,
    /// Names as the server has them, with their special uses.
    pub well_known: &'static [(&'static str, &'static str)],
}

impl Names {
    /// The server's name of a folder that users see as `shown`.
    pub fn of(&self, shown: &str) -> String {
        let name = shown.replace('/', &self.separator.to_string());
        let below_inbox = shown == "INBOX" || shown.starts_with("INBOX/");
        if below_inbox { name } else { format!("{}{name}", self.prefix) }
    }

    pub fn shown(&self, name: &str) -> String {
        name.strip_prefix(self.prefix).unwrap_or(name).replace(self.separator, "/")
    }

    /// The directory of a folder in a Maildir++.
    pub fn maildir(&self, shown: &str) -> String {
        if shown == "INBOX" {
            String::new()
        } else {
            format!(".{}", modified_utf7(&shown.replace('/', ".")))
        }
    }

    /// Where a folder of this server belongs on `target`: by its use, else by what users see.
    pub fn on(&self, target: &Names, name: &str) -> String {
        let special_use = self.well_known.iter().find(|(known, _)| *known == name);
        let same_use = special_use.and_then(|(_, special_use)| {
            target.well_known.iter().find(|(_, at_target)| at_target == special_use)
        });
        match same_use {
            Some((known, _)) => (*known).to_owned(),
            None => target.of(&self.shown(name)),
        }
    }
}
