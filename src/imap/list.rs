//! NAMESPACE and LIST (RFC 2342, 5258, 5819, 6154), and making folders.

use std::collections::HashMap;

use imap_types::command::CommandBody;
use imap_types::mailbox::{ListCharString, ListMailbox, Mailbox};

use super::connection::{Asked, Ended, Said};
use super::decode::{Data, Kind, ListData, NamespaceData, StatusData};
use super::encode::{self, Draft};
use super::{Error, FolderStatus, Session, WireName};

/// What the names of one LIST may take, and how many there may be.
const NAMES_OCTETS_MAX: usize = 4 * 1024 * 1024;
const NAMES_MAX: usize = 20_000;

/// Special uses a folder can be marked with (RFC 6154).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SpecialUse {
    All,
    Archive,
    Drafts,
    Flagged,
    Junk,
    Sent,
    Trash,
}

impl SpecialUse {
    fn of_attribute(attribute: &str) -> Option<SpecialUse> {
        let known = [
            ("\\All", SpecialUse::All),
            ("\\Archive", SpecialUse::Archive),
            ("\\Drafts", SpecialUse::Drafts),
            ("\\Flagged", SpecialUse::Flagged),
            ("\\Junk", SpecialUse::Junk),
            ("\\Sent", SpecialUse::Sent),
            ("\\Trash", SpecialUse::Trash),
        ];
        let found = known.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(attribute));
        found.map(|(_, special_use)| special_use)
    }
}

/// The personal namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Namespace {
    /// Prefix of every personal folder but INBOX, e.g. `INBOX.`; wire form.
    pub prefix: String,
    pub delimiter: Option<char>,
}

/// One folder of LIST.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub name: WireName,
    pub delimiter: Option<char>,
    pub special_use: Option<SpecialUse>,
    /// `\Noselect` or `\NonExistent`: a place in the hierarchy, no folder.
    pub no_select: bool,
    /// Where LIST-STATUS is offered.
    pub status: Option<FolderStatus>,
}

impl Session {
    /// All folders of the personal namespace, each once, with their status where one command
    /// gives both. Falls back to plain LIST where extended LIST is refused or hides INBOX.
    pub async fn list(&mut self) -> Result<Vec<Listed>, Error> {
        self.ready().await?;
        if self.capabilities.has("LIST-EXTENDED") && self.capabilities.has("LIST-STATUS") {
            let (ended, found) = self.listing(self.extended_list(), true).await?;
            let has_inbox = found.folders.iter().any(|folder| folder.name.is_inbox());
            if ended.condition.kind == Kind::Ok && has_inbox {
                return Ok(self.personal(found));
            }
        }
        let (ended, found) = self.listing(plain_list("*"), false).await?;
        self.note(ended.ok())?;
        Ok(self.personal(found))
    }

    /// Names outside the personal namespace that the last [`Session::list`] left out.
    pub fn skipped(&self) -> &[WireName] {
        &self.skipped
    }

    /// Creates a folder (with its parents, where the server does so); one that is there already
    /// is success.
    pub async fn create(&mut self, name: &WireName) -> Result<(), Error> {
        let mailbox = encode::mailbox(name)?;
        let refused = match self.simple("CREATE", Draft::of(CommandBody::Create { mailbox })).await
        {
            Err(refused @ Error::No { .. }) => refused,
            result => return result.map(|_| ()),
        };
        match self.is_there(name).await? {
            true => Ok(()),
            false => Err(refused),
        }
    }

    pub async fn subscribe(&mut self, name: &WireName) -> Result<(), Error> {
        let mailbox = encode::mailbox(name)?;
        self.simple("SUBSCRIBE", Draft::of(CommandBody::Subscribe { mailbox })).await.map(|_| ())
    }

    /// Not every server marks its refusal with ALREADYEXISTS, so LIST is asked. The name may hold
    /// wildcards; only itself counts.
    pub(super) async fn is_there(&mut self, name: &WireName) -> Result<bool, Error> {
        let mut draft = Draft::text("LIST \"\" ");
        draft.push_folder(name)?;
        let (ended, found) = self.listing(draft.end(), false).await?;
        self.note(ended.ok())?;
        let is_it =
            |listed: &Listed| listed.name == *name || (listed.name.is_inbox() && name.is_inbox());
        if !found.folders.iter().all(is_it) {
            self.connection.inbound.hear_elsewhere();
        }
        Ok(found.folders.iter().any(|listed| is_it(listed) && !listed.no_select))
    }

    async fn listing(&mut self, draft: Draft, with_status: bool) -> Result<(Ended, Found), Error> {
        self.ready().await?;
        let mut found = Found::default();
        let on = |said: Said<'_>| {
            match said {
                Said::Data(Data::List(data)) => found.add(data),
                Said::Data(Data::Status(data)) => found.add_status(&data),
                _ => {}
            }
            match found.full {
                true => Err(Error::Protocol("LIST names more folders than can be".into())),
                false => Ok(()),
            }
        };
        self.connection.inbound.asked = Asked { lists: true, statuses: with_status };
        let ended = self.connection.run_unless("LIST", draft, on).await;
        self.connection.inbound.asked = Asked::default();
        if found.changed_meanwhile {
            self.connection.inbound.hear_elsewhere();
        }
        Ok((ended?, found))
    }

    /// `LIST "" "*" RETURN (…)` (RFC 5258, 5819), which imap-codec cannot say.
    fn extended_list(&self) -> Draft {
        let special = if self.capabilities.has("SPECIAL-USE") { "SPECIAL-USE " } else { "" };
        let modseq = if self.capabilities.has("CONDSTORE") { " HIGHESTMODSEQ" } else { "" };
        let status = format!("STATUS (MESSAGES UIDNEXT UIDVALIDITY{modseq})");
        Draft::text(&format!("LIST \"\" \"*\" RETURN ({special}{status})")).end()
    }

    /// Leaves out what belongs to others: the longest prefix of a namespace that fits decides.
    fn personal(&mut self, found: Found) -> Vec<Listed> {
        let Found { folders, mut statuses, .. } = found;
        let (personal, skipped): (Vec<_>, Vec<_>) =
            folders.into_iter().partition(|folder| self.is_personal(folder));
        self.skipped = skipped.into_iter().map(|folder| folder.name).collect();
        let with_status =
            |folder: Listed| Listed { status: statuses.remove(&folder.name), ..folder };
        personal.into_iter().map(with_status).collect()
    }

    fn is_personal(&self, folder: &Listed) -> bool {
        let name = folder.name.as_octets();
        let own = self.namespace.prefix.as_bytes();
        let own = if is_under(name, own) { own.len() } else { 0 };
        let others = self.others.iter().filter(|prefix| is_under(name, prefix));
        folder.name.is_inbox()
            || others.map(|prefix| prefix.len()).max().is_none_or(|length| length < own)
    }

    /// Issues NAMESPACE where it is offered.
    pub(super) fn ask_namespace(&mut self) -> Option<u32> {
        let offered = self.capabilities.has("NAMESPACE");
        offered.then(|| self.connection.issue(Draft::of(CommandBody::Namespace)))
    }

    /// What NAMESPACE answers; without it the delimiter that `LIST "" ""` tells.
    pub(super) async fn read_namespace(&mut self, asked: Option<u32>) -> Result<(), Error> {
        if let Some(tag) = asked {
            let mut told = None;
            let on = |said: Said<'_>| {
                if let Said::Data(Data::Namespace(data)) = said {
                    told = Some(data);
                }
            };
            let ended = self.connection.ended(tag, "NAMESPACE", on).await?;
            // A refusal is no answer: without the prefix every folder would get another name.
            self.note(ended.ok())?;
            if let Some(told) = told {
                self.take_namespace(told);
                return Ok(());
            }
        }
        let (ended, found) = self.listing(plain_list(""), false).await?;
        self.note(ended.ok())?;
        self.namespace.delimiter = found.delimiter;
        Ok(())
    }

    fn take_namespace(&mut self, told: NamespaceData) {
        if let Some((prefix, delimiter)) = told.personal.into_iter().next() {
            self.namespace.prefix = String::from_utf8_lossy(&prefix).into_owned();
            self.namespace.delimiter = delimiter;
        }
        self.others = told.others.into_iter().map(|(prefix, _)| prefix).collect();
    }
}

/// Is a name under a namespace's prefix, or the prefix itself without its delimiter?
fn is_under(name: &[u8], prefix: &[u8]) -> bool {
    let starts = |prefix: &[u8]| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    starts(prefix) || prefix.split_last().is_some_and(|(_, place)| name.eq_ignore_ascii_case(place))
}

fn plain_list(pattern: &'static str) -> Draft {
    let mailbox_wildcard = match ListCharString::try_from(pattern) {
        Ok(wildcard) => ListMailbox::Token(wildcard),
        Err(_) => ListMailbox::String(imap_types::core::IString::Quoted(
            imap_types::core::Quoted::unvalidated(pattern),
        )),
    };
    let reference = Mailbox::try_from("").unwrap_or(Mailbox::Inbox);
    Draft::of(CommandBody::List { reference, mailbox_wildcard })
}

/// What LIST said, in its order, each name once.
#[derive(Default)]
struct Found {
    folders: Vec<Listed>,
    places: HashMap<WireName, usize>,
    statuses: HashMap<WireName, FolderStatus>,
    delimiter: Option<char>,
    /// Something was said twice and differently: after NOTIFY (RFC 5465) that came unasked.
    changed_meanwhile: bool,
    octets: usize,
    full: bool,
}

impl Found {
    fn add(&mut self, data: ListData) {
        self.delimiter = self.delimiter.or(data.delimiter);
        if data.name.is_empty() {
            return;
        }
        let has = |wanted: &str| data.attributes.iter().any(|one| one.eq_ignore_ascii_case(wanted));
        let special = data.attributes.iter().find_map(|one| SpecialUse::of_attribute(one));
        let no_select = has("\\Noselect") || has("\\NonExistent");
        let name = canonical(&data.name);
        if let Some(place) = self.places.get(&name) {
            let known = &mut self.folders[*place];
            self.changed_meanwhile |= known.no_select != no_select;
            known.special_use = known.special_use.or(special);
            known.no_select &= no_select;
            return;
        }
        if !self.has_room(&name) {
            return;
        }
        self.places.insert(name.clone(), self.folders.len());
        self.folders.push(Listed {
            name,
            delimiter: data.delimiter,
            special_use: special,
            no_select,
            status: None,
        });
    }

    /// Counts a name that is new.
    fn has_room(&mut self, name: &WireName) -> bool {
        self.octets += name.as_octets().len();
        self.full |= self.octets > NAMES_OCTETS_MAX
            || self.folders.len().max(self.statuses.len()) >= NAMES_MAX;
        !self.full
    }

    fn add_status(&mut self, data: &StatusData) {
        let name = canonical(&data.name);
        let later = FolderStatus::of(data);
        let known = self.statuses.get(&name).copied();
        self.changed_meanwhile |= later.is_none() || known.is_some_and(|_| known != later);
        if known.is_none() && !self.has_room(&name) {
            return;
        }
        if let Some(status) = known.map(|known| known.or_later(later)).or(later) {
            self.statuses.insert(name, status);
        }
    }
}

/// INBOX in any case is one folder.
pub(super) fn canonical(name: &[u8]) -> WireName {
    let name = WireName::of_wire(name);
    if name.is_inbox() { WireName::of_wire(b"INBOX") } else { name }
}
