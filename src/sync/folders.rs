//! Which target folder each source folder goes to: pure, decided before anything is created.
//!
//! Order: the configured rename, then special use and the presets' well-known names, then the
//! same name. Two sources share a target only by explicit rename. A mapping once made is kept.

use std::collections::{BTreeMap, HashMap};

use crate::config::{FolderRules, FolderUse};
use crate::imap::{Listed, Namespace, SpecialUse, WireName};

/// What one side is like.
pub struct SideFolders<'a> {
    pub listed: &'a [Listed],
    pub namespace: &'a Namespace,
    /// Names as users see them of the preset, where one applies.
    pub well_known: &'a [(FolderUse, String)],
}

/// Where a source folder goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapped {
    pub source: WireName,
    /// As users see it.
    pub source_shown: String,
    pub fate: Fate,
    /// It is copied only after the cutover.
    pub deferred: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    Copy {
        target: WireName,
        target_shown: String,
    },
    Excluded,
    /// Another view of messages that lie elsewhere (`\All`, `\Flagged`).
    Virtual,
    /// Its target is taken; what to rename is said.
    Conflict(String),
}

/// Maps every selectable source folder. `fixed` are the pairs of earlier copies.
pub fn map(
    source: &SideFolders,
    target: &SideFolders,
    rules: &FolderRules,
    fixed: &HashMap<WireName, WireName>,
) -> Vec<Mapped> {
    let mut taken: BTreeMap<WireName, String> = BTreeMap::new();
    let mut wishes: Vec<Wish> = Vec::new();
    for listed in source.listed.iter().filter(|listed| !listed.no_select) {
        wishes.push(wish(listed, source, target, rules, fixed));
    }
    // The stronger claim is served first, so that the order of LIST does not matter.
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by_key(|&at| (wishes[at].claim, at));
    let mut fates: Vec<Option<Fate>> = vec![None; wishes.len()];
    for at in order {
        fates[at] = Some(settle(&wishes[at], target, &mut taken));
    }
    let settled = wishes.into_iter().zip(fates);
    settled
        .map(|(wish, fate)| Mapped {
            deferred: is_deferred(rules, &wish.shown),
            source: wish.source,
            source_shown: format!("{}{}", rules.label, wish.shown),
            fate: fate.expect("every wish was settled above"),
        })
        .collect()
}

/// Is the folder, named as users see it, one of those that wait for the cutover?
pub fn is_deferred(rules: &FolderRules, shown: &str) -> bool {
    rules.after_cutover.iter().any(|pattern| matches(pattern, shown))
}

/// How strong a folder's right to its target is; the stronger sorts first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Claim {
    Fixed,
    Renamed,
    Inbox,
    SpecialUse,
    WellKnown,
    SameName,
    None,
}

struct Wish {
    source: WireName,
    shown: String,
    levels: Vec<String>,
    claim: Claim,
    target: Option<WireName>,
    fate: Option<Fate>,
}

fn wish(
    listed: &Listed,
    source: &SideFolders,
    target: &SideFolders,
    rules: &FolderRules,
    fixed: &HashMap<WireName, WireName>,
) -> Wish {
    let levels = levels(listed, source.namespace);
    let shown = levels.join("/");
    let mut wish = Wish {
        source: listed.name.clone(),
        shown,
        levels,
        claim: Claim::None,
        target: None,
        fate: None,
    };
    // Of two stores that show the same name, one can be meant by its label.
    let labelled = format!("{}{}", rules.label, wish.shown);
    let names = |pattern: &String| matches(pattern, &wish.shown) || matches(pattern, &labelled);
    let is_excluded = rules.exclude.iter().any(names);
    let is_chosen = rules.only.is_empty() || rules.only.iter().any(names);
    let renamed = rules.rename.get(&labelled).or_else(|| rules.rename.get(&wish.shown));
    let renamed = renamed.map(|renamed| {
        let levels: Vec<String> = renamed.split('/').map(str::to_owned).collect();
        wire(&levels, target.namespace)
    });
    if is_excluded || !is_chosen {
        wish.fate = Some(Fate::Excluded);
    } else if let Some(known) = fixed.get(&listed.name) {
        // One that was renamed to it leaves room for others also when it was copied before them.
        let claim = if renamed.as_ref() == Some(known) { Claim::Renamed } else { Claim::Fixed };
        (wish.claim, wish.target) = (claim, Some(known.clone()));
    } else if renamed.is_some() {
        (wish.claim, wish.target) = (Claim::Renamed, renamed);
    } else if matches!(listed.special_use, Some(SpecialUse::All | SpecialUse::Flagged)) {
        wish.fate = Some(Fate::Virtual);
    } else if listed.name.is_inbox() {
        (wish.claim, wish.target) = (Claim::Inbox, Some(WireName::of_wire(b"INBOX")));
    } else if let Some((claim, name)) = paired(listed, &wish.shown, source, target) {
        (wish.claim, wish.target) = (claim, Some(name));
    } else {
        let same = wire(&wish.levels, target.namespace);
        (wish.claim, wish.target) = (Claim::SameName, Some(same));
    }
    wish
}

/// The target of the same use, and how sure the pairing is.
fn paired(
    listed: &Listed,
    shown: &str,
    source: &SideFolders,
    target: &SideFolders,
) -> Option<(Claim, WireName)> {
    let marked = listed.special_use.and_then(folder_use);
    let well_known = || {
        let found = source.well_known.iter().find(|(_, name)| name.as_str() == shown);
        found.map(|(known_use, _)| *known_use)
    };
    let (claim, wanted) = match marked {
        Some(marked) => (Claim::SpecialUse, marked),
        None => (Claim::WellKnown, well_known()?),
    };
    Some((claim, target_of_use(wanted, target)?))
}

fn target_of_use(wanted: FolderUse, target: &SideFolders) -> Option<WireName> {
    let marked = target.listed.iter().find(|listed| {
        !listed.no_select && listed.special_use.and_then(folder_use) == Some(wanted)
    });
    if let Some(listed) = marked {
        return Some(listed.name.clone());
    }
    let (_, name) = target.well_known.iter().find(|(known_use, _)| *known_use == wanted)?;
    let levels: Vec<String> = name.split('/').map(str::to_owned).collect();
    Some(wire(&levels, target.namespace))
}

fn folder_use(special: SpecialUse) -> Option<FolderUse> {
    match special {
        SpecialUse::Archive => Some(FolderUse::Archive),
        SpecialUse::Drafts => Some(FolderUse::Drafts),
        SpecialUse::Junk => Some(FolderUse::Junk),
        SpecialUse::Sent => Some(FolderUse::Sent),
        SpecialUse::Trash => Some(FolderUse::Trash),
        SpecialUse::All | SpecialUse::Flagged => None,
    }
}

/// Gives the wish its target, its own name, or a conflict.
fn settle(wish: &Wish, target: &SideFolders, taken: &mut BTreeMap<WireName, String>) -> Fate {
    if let Some(fate) = &wish.fate {
        return fate.clone();
    }
    let own = wire(&wish.levels, target.namespace);
    let wanted = wish.target.clone().unwrap_or_else(|| own.clone());
    let may_share = matches!(wish.claim, Claim::Renamed | Claim::Fixed);
    let candidates = [wanted, own];
    let free = candidates.iter().find(|name| may_share || !taken.contains_key(name));
    let Some(name) = free else {
        let holder = &taken[&candidates[0]];
        let name = shown(&candidates[0], target);
        return Fate::Conflict(format!(
            "{:?} and {holder:?} would both become {name:?}; give one of them another name \
             under [migration.….folders] rename",
            wish.shown
        ));
    };
    if wish.claim != Claim::Renamed {
        taken.insert(name.clone(), wish.shown.clone());
    }
    Fate::Copy { target: name.clone(), target_shown: shown(name, target) }
}

/// The levels of a listed name without the namespace's prefix.
fn levels(listed: &Listed, namespace: &Namespace) -> Vec<String> {
    if listed.name.is_inbox() {
        return vec!["INBOX".to_owned()];
    }
    let name = listed.name.decode();
    let prefix = WireName::of_wire(namespace.prefix.as_bytes()).decode();
    let head = name.get(..prefix.len()).unwrap_or_default();
    let bare = if head == prefix || (!prefix.is_empty() && head.eq_ignore_ascii_case(&prefix)) {
        &name[prefix.len()..]
    } else {
        &name
    };
    match listed.delimiter {
        Some(delimiter) => bare.split(delimiter).map(str::to_owned).collect(),
        None => vec![bare.to_owned()],
    }
}

/// How users of that side see a name.
pub fn shown(name: &WireName, side: &SideFolders) -> String {
    let listed = Listed {
        name: name.clone(),
        delimiter: side.namespace.delimiter,
        special_use: None,
        no_select: false,
        status: None,
    };
    levels(&listed, side.namespace).join("/")
}

/// The wire name of levels on a side. A level that holds the side's delimiter gets `_` for it.
fn wire(levels: &[String], namespace: &Namespace) -> WireName {
    let delimiter = namespace.delimiter.unwrap_or('_');
    let safe = |level: &String| level.replace([delimiter, '\0', '\r', '\n'], "_");
    let mut safe: Vec<String> = levels.iter().map(safe).collect();
    let first_is_inbox = safe.first().is_some_and(|level| level.eq_ignore_ascii_case("INBOX"));
    if first_is_inbox {
        "INBOX".clone_into(&mut safe[0]);
    }
    let joined = safe.join(&delimiter.to_string());
    if first_is_inbox || namespace.prefix.is_empty() {
        return WireName::encode(&joined);
    }
    let prefix = WireName::of_wire(namespace.prefix.as_bytes()).decode();
    WireName::encode(&format!("{prefix}{joined}"))
}

/// Does `name` match a pattern in which `*` stands for anything within a level and `**` for
/// anything at all?
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some(star) = pattern.find('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(&pattern[..star]) else { return false };
    let deep = pattern[star..].starts_with("**");
    let after = &pattern[star + if deep { 2 } else { 1 }..];
    let reach = if deep { rest.len() } else { rest.find('/').unwrap_or(rest.len()) };
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.take_while(|end| *end <= reach).any(|end| matches(after, &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(text: &str, delimiter: char) -> Vec<Listed> {
        let listed = text.split(", ").filter(|part| !part.is_empty());
        listed
            .map(|part| {
                let (name, special) = part.split_once('!').unwrap_or((part, ""));
                Listed {
                    name: WireName::encode(name),
                    delimiter: Some(delimiter),
                    special_use: match special {
                        "sent" => Some(SpecialUse::Sent),
                        "trash" => Some(SpecialUse::Trash),
                        "all" => Some(SpecialUse::All),
                        _ => None,
                    },
                    no_select: special == "noselect",
                    status: None,
                }
            })
            .collect()
    }

    /// Aruba-like source to a Legalmail-like target: `source -> target` a line.
    fn check(source: &str, target: &str, rules: &FolderRules, expected: &[&str]) {
        check_later(source, target, rules, &[], expected);
    }

    /// The same where these pairs of wire names were copied before.
    fn check_later(
        source: &str,
        target: &str,
        rules: &FolderRules,
        fixed: &[(&str, &str)],
        expected: &[&str],
    ) {
        let fixed = fixed.iter().map(|(from, to)| (WireName::encode(from), WireName::encode(to)));
        let aruba = [(FolderUse::Sent, "Inviata".to_owned())];
        let legalmail = [(FolderUse::Sent, "INBOX/Spedite".to_owned())];
        let mapped = map(
            &SideFolders {
                listed: &side(source, '.'),
                namespace: &Namespace { prefix: "INBOX.".into(), delimiter: Some('.') },
                well_known: &aruba,
            },
            &SideFolders {
                listed: &side(target, '/'),
                namespace: &Namespace { prefix: String::new(), delimiter: Some('/') },
                well_known: &legalmail,
            },
            rules,
            &fixed.collect(),
        );
        let shown = |mapped: &Mapped| match &mapped.fate {
            Fate::Copy { target, .. } => format!("{} -> {}", mapped.source_shown, target.decode()),
            Fate::Conflict(_) => format!("{} conflict", mapped.source_shown),
            other => format!("{} {other:?}", mapped.source_shown),
        };
        assert_eq!(mapped.iter().map(shown).collect::<Vec<_>>(), expected);
    }

    fn rename(pairs: &[(&str, &str)]) -> FolderRules {
        let pairs = pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned()));
        FolderRules { rename: pairs.collect(), ..FolderRules::default() }
    }

    #[test]
    fn the_prefix_goes_and_the_delimiter_changes() {
        let none = FolderRules::default();
        check(
            "INBOX, INBOX.Clienti.2024",
            "",
            &none,
            &["INBOX -> INBOX", "Clienti/2024 -> Clienti/2024"],
        );
        check("INBOX.a/b, INBOX.Perché", "", &none, &["a/b -> a_b", "Perché -> Perché"]);
    }

    #[test]
    fn special_use_beats_presets_and_both_beat_the_name() {
        let none = FolderRules::default();
        check("INBOX.Inviata", "", &none, &["Inviata -> INBOX/Spedite"]);
        check("INBOX.Inviata", "Sent!sent", &none, &["Inviata -> Sent"]);
        check(
            "INBOX.Inviata, INBOX.Uscita!sent",
            "",
            &none,
            &["Inviata -> Inviata", "Uscita -> INBOX/Spedite"],
        );
    }

    #[test]
    fn rename_beats_all_and_may_share() {
        let rules = rename(&[("Inviata", "X"), ("Y", "X")]);
        check("INBOX.Inviata, INBOX.Y", "", &rules, &["Inviata -> X", "Y -> X"]);
        let rules = rename(&[("Y", "X")]);
        check("INBOX.X, INBOX.Y", "", &rules, &["X -> X", "Y -> X"]);
        // Copied one after the other: X came later, or the daemon died in between.
        let copied = [("INBOX.Y", "X")];
        check_later("INBOX.X, INBOX.Y", "", &rules, &copied, &["X -> X", "Y -> X"]);
        let none = FolderRules::default();
        check_later("INBOX.X, INBOX.Y", "", &none, &copied, &["X conflict", "Y -> X"]);
    }

    #[test]
    fn what_collides_is_a_conflict_of_the_weaker() {
        let none = FolderRules::default();
        check("INBOX.a/b, INBOX.a_b", "", &none, &["a/b -> a_b", "a_b conflict"]);
    }

    #[test]
    fn some_are_left_out() {
        let rules = FolderRules { exclude: vec!["Sp*".into()], ..FolderRules::default() };
        check(
            "INBOX.Spam, INBOX.Tutti!all, INBOX.Up!noselect",
            "",
            &rules,
            &["Spam Excluded", "Tutti Virtual"],
        );
    }

    #[test]
    fn a_second_store_gives_only_what_is_named() {
        let of_archive = |only: &[&str], renames: &[(&str, &str)]| FolderRules {
            only: only.iter().map(|pattern| (*pattern).to_owned()).collect(),
            label: "archive:",
            ..rename(renames)
        };
        let source = "INBOX, INBOX.Archivio, INBOX.Clienti";
        check(
            source,
            "",
            &of_archive(&["Archivio"], &[]),
            &["archive:INBOX Excluded", "archive:Archivio -> Archivio", "archive:Clienti Excluded"],
        );
        let renames = [("archive:INBOX", "Archivio/Arrivo"), ("Clienti", "C"), ("INBOX", "X")];
        check(
            source,
            "",
            &of_archive(&["archive:**"], &renames),
            &[
                "archive:INBOX -> Archivio/Arrivo",
                "archive:Archivio -> Archivio",
                "archive:Clienti -> C",
            ],
        );
    }

    #[test]
    fn some_wait_for_the_cutover() {
        let after_cutover = vec!["Archivio".to_owned(), "Archivio/**".to_owned()];
        let rules = FolderRules { after_cutover, ..FolderRules::default() };
        for (shown, expected) in [
            ("Archivio", true),
            ("Archivio/2024/Gennaio", true),
            ("Archivio 2", false),
            ("INBOX", false),
        ] {
            assert_eq!(is_deferred(&rules, shown), expected, "{shown}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("Archivio", "Archivio", true),
            ("Archivio", "Archivio/2020", false),
            ("Archivio/*", "Archivio/2020", true),
            ("Archivio/*", "Archivio/2020/01", false),
            ("Archivio/**", "Archivio/2020/01", true),
            ("**/x", "a/b/x", true),
            ("*é*", "perché", true),
            ("*", "a/b", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
