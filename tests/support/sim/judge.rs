//! Is the target an exact copy, and was nothing else touched?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::model::{Account, Letter, Message};
use super::stage::Stage;

/// What makes a message and its copy equal, but for the flags.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Print {
    octets: Arc<[u8]>,
    instant: i64,
}

impl Print {
    pub fn of(message: &Message) -> Print {
        Print { octets: message.octets.clone(), instant: message.instant }
    }

    pub fn of_letter(letter: &Letter) -> Print {
        Print { octets: letter.octets.clone(), instant: letter.instant }
    }

    fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.octets);
        let line = text.lines().next().unwrap_or_default();
        format!("{:.40} ({} octets) at {}", line, self.octets.len(), self.instant)
    }
}

/// What a world may end with besides an exact copy.
#[derive(Clone, Default, Debug)]
pub struct Mercy {
    /// Copies of what was taken away at the source may have stayed: the checkpoint that knew them
    /// was lost, the target cannot remove, or a new UIDVALIDITY made them orphans.
    pub leftovers: bool,
    /// So many second copies may have stayed: an APPEND of one life came in the next one, and before
    /// it was removed that one's checkpoint was lost, too.
    pub twins: usize,
    /// Copies that were adopted after the cutover, when the checkpoint was lost, keep the flags
    /// they had: the target is its owner's by then.
    pub flags: bool,
    /// Source messages that the product lists as refused: (wire name, UID).
    pub listed: Vec<(String, u32)>,
}

pub type Flags = BTreeSet<String>;
/// By folder as users see it: how often each message is there, and with which flags.
type Contents = BTreeMap<String, BTreeMap<Print, Vec<Flags>>>;

/// Every difference, in words; empty if all is well.
pub fn differences(stage: &Stage, mercy: &Mercy) -> Vec<String> {
    let mut found = stage.violations();
    let mut source = stage.source.account();
    let listed = |name: &str, message: &Message| {
        mercy.listed.iter().any(|(folder, uid)| folder == name && *uid == message.uid)
    };
    found.extend(strangers_differ(stage));
    let keywords = stage.target.traits.keywords;
    let kept = |flag: &&String| keywords || flag.starts_with('\\');
    // Only what the target stores can be there.
    let messages = source.folders.values_mut().flat_map(|folder| &mut folder.messages);
    messages.for_each(|message| message.octets = stage.target.traits.stored(&message.octets));
    let wanted =
        contents(&source, |name| stage.goes_to(name), |name, message| !listed(name, message), kept);
    // What is refused may have a copy from before.
    let refused = contents(&source, |name| stage.goes_to(name), listed, kept);
    let target = stage.target.account();
    let shown = |name: &str| stage.target.traits.shown(name);
    let there = contents(&target, shown, |_, message| !message.foreign, |_| true);
    let removed = stage.removed();
    let folders: BTreeSet<&String> = wanted.keys().chain(there.keys()).collect();
    for folder in folders {
        let none = BTreeMap::new();
        let (wanted, there) =
            (wanted.get(folder).unwrap_or(&none), there.get(folder).unwrap_or(&none));
        let prints: BTreeSet<&Print> = wanted.keys().chain(there.keys()).collect();
        for print in prints {
            let taken_away = removed.get(&(folder.clone(), print.clone())).copied().unwrap_or(0);
            let copied_once = refused.get(folder).and_then(|it| it.get(print)).map_or(0, Vec::len);
            let taken_away = if mercy.leftovers { taken_away } else { 0 };
            let leftovers = taken_away + mercy.twins + copied_once;
            let of = |contents: &BTreeMap<Print, Vec<Flags>>| {
                contents.get(print).cloned().unwrap_or_default()
            };
            found.extend(
                compare(&of(wanted), &of(there), leftovers, mercy.flags)
                    .map(|what| format!("{folder}: {what}: {}", print.shown())),
            );
        }
        if !target.folders.keys().any(|name| shown(name) == *folder) {
            found.push(format!("{folder}: no such folder at the target"));
        }
    }
    found
}

/// Somebody else's messages are all there, as they were put there.
fn strangers_differ(stage: &Stage) -> Option<String> {
    let mut left = stage.strangers();
    stage.target.look(|account| {
        for (name, folder) in &account.folders {
            for message in folder.messages.iter().filter(|message| message.foreign) {
                let same = |(at, print, flags): &(String, Print, Flags)| {
                    at == name && *print == Print::of(message) && *flags == message.flags
                };
                if let Some(at) = left.iter().position(same) {
                    left.swap_remove(at);
                }
            }
        }
    });
    let (name, print, _) = left.first()?;
    Some(format!("{name}: somebody else's message is not what it was: {}", print.shown()))
}

/// Every link names a copy with its message's octets, and no copy is named twice.
pub fn false_links(stage: &Stage, links: &[[(String, u32); 2]]) -> Option<String> {
    let (source, target) = (stage.source.account(), stage.target.account());
    let octets = |account: &Account, (folder, uid): &(String, u32)| {
        let message = account.folders.get(folder)?.message(*uid)?;
        Some(message.octets.clone())
    };
    let mut named = BTreeSet::new();
    for [from, to] in links {
        let (Some(message), Some(copy)) = (octets(&source, from), octets(&target, to)) else {
            continue;
        };
        if message != copy {
            return Some(format!("{from:?} is not what {to:?} is, but linked to it"));
        }
        if !named.insert(to) {
            return Some(format!("{to:?} is linked twice"));
        }
    }
    None
}

fn compare(wanted: &[Flags], there: &[Flags], leftovers: usize, any_flags: bool) -> Option<String> {
    if there.len() < wanted.len() || there.len() > wanted.len() + leftovers {
        let (wanted, there) = (wanted.len(), there.len());
        return Some(format!(
            "{wanted} at the source, {there} at the target ({leftovers} may stay)"
        ));
    }
    if any_flags {
        return None;
    }
    let mut left = there.to_vec();
    for flags in wanted {
        let Some(at) = left.iter().position(|other| other == flags) else {
            return Some(format!("flags {wanted:?} at the source, {there:?} at the target"));
        };
        left.swap_remove(at);
    }
    None
}

fn contents(
    account: &Account,
    shown: impl Fn(&str) -> String,
    counts: impl Fn(&str, &Message) -> bool,
    keeps: impl Fn(&&String) -> bool,
) -> Contents {
    let mut contents = Contents::new();
    for (name, folder) in &account.folders {
        let prints = contents.entry(shown(name)).or_default();
        for message in folder.messages.iter().filter(|message| counts(name, message)) {
            let flags = message.flags.iter().filter(|flag| keeps(flag));
            let flags = flags.map(|flag| flag.to_ascii_lowercase()).collect();
            prints.entry(Print::of(message)).or_default().push(flags);
        }
    }
    contents
}
