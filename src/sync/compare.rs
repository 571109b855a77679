//! What a verification finds: a copy that is not what was copied, or a target that its owner has
//! changed since. Pure.

use serde::{Deserialize, Serialize};

use super::board::rfc3339;
use crate::checkpoint::{Link, Origin};
use crate::imap::{PermanentFlags, WholeSeen};
use crate::words::{Flags, SystemFlags};

/// What is wrong with one message, or has become of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    // Differences.
    /// A message that was copied is not at the target.
    Missing,
    /// It is there with other bytes.
    Altered,
    /// It is there with another date.
    Redated,
    /// It is there with other flags than were written, before the seal.
    Reflagged,
    /// The target holds a message that nothing explains.
    Surplus,
    /// The server does not give the bytes of a message that it lists.
    Unreadable,
    /// A message of the source has no copy and is not listed as refused.
    NotCopied,
    // Changed since.
    /// The owner removed the copy after the seal; or the message left the source.
    Removed,
    /// The owner moved the copy to another folder.
    Moved,
    /// The owner changed its flags.
    Flagged,
    /// A message that came after the last pass.
    Arrived,
}

impl Kind {
    pub fn is_difference(self) -> bool {
        self <= Kind::NotCopied
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Missing => "missing",
            Kind::Altered => "altered",
            Kind::Redated => "redated",
            Kind::Reflagged => "reflagged",
            Kind::Surplus => "surplus",
            Kind::Unreadable => "unreadable",
            Kind::NotCopied => "not_copied",
            Kind::Removed => "removed",
            Kind::Moved => "moved",
            Kind::Flagged => "flagged",
            Kind::Arrived => "arrived",
        }
    }
}

/// By what a target is judged.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// From the seal on the target is its owner's.
    pub sealed: bool,
    /// From here on mail may come to the target that the source never had.
    pub cutover: Option<i64>,
    pub target_is_ours: bool,
    /// What the folder can keep, where it is known: a folder that was only examined does not say.
    pub permanent: Option<&'a PermanentFlags>,
}

/// How the copy differs from its link.
pub fn differences(link: &Link, seen: &WholeSeen, terms: &Terms) -> Vec<(Kind, String)> {
    let mut found = Vec::new();
    let found_digests = &seen.digests;
    // An alteration that is known is listed in the report: only another message is news.
    let is_known = link.altered.is_some();
    let same =
        found_digests.sha256 == link.sha256 || (is_known && found_digests.header == link.header);
    if !same {
        let text = format!(
            "{} octets (SHA-256 {}) became {} octets (SHA-256 {})",
            link.size, link.sha256, found_digests.size, found_digests.sha256
        );
        found.push((Kind::Altered, text));
    }
    if seen.instant != link.instant && !is_known {
        let (before, now) = (rfc3339(link.instant.0), rfc3339(seen.instant.0));
        found.push((Kind::Redated, format!("its date {before} became {now}")));
    }
    if follows_flags(link, terms) && !same_flags(&link.flags, &seen.flags, terms) {
        let kind = if terms.sealed { Kind::Flagged } else { Kind::Reflagged };
        let words = |flags: &Flags| flags.names().collect::<Vec<_>>().join(" ");
        let text = format!("({}) became ({})", words(&link.flags), words(&seen.flags));
        found.push((kind, text));
    }
    found
}

/// Were its flags written by us?
fn follows_flags(link: &Link, terms: &Terms) -> bool {
    link.origin != Origin::Adopted || terms.target_is_ours
}

fn same_flags(written: &Flags, seen: &Flags, terms: &Terms) -> bool {
    match terms.permanent {
        Some(permanent) => written.retain(|name| permanent.admits(name)) == *seen,
        None => {
            let system = |flags: &Flags| flags.retain(|name| SystemFlags::of_name(name).is_some());
            system(written) == system(seen) && seen.minus(written).is_empty()
        }
    }
}

/// A copy that is not where it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Absent {
    /// The target said once which UID it has.
    pub told: bool,
    /// The folder counts as it did: same UIDVALIDITY, and UIDNEXT beyond the copy's UID. If not,
    /// it was restored or made anew, and its owner removed nothing.
    pub continuous: bool,
    /// The same bytes lie in another folder, and nothing else explains them.
    pub elsewhere: bool,
}

pub fn absent(absent: Absent, terms: &Terms) -> Kind {
    match absent {
        _ if !terms.sealed => Kind::Missing,
        Absent { elsewhere: true, .. } => Kind::Moved,
        Absent { told: true, continuous: true, .. } => Kind::Removed,
        _ => Kind::Missing,
    }
}

/// A message at the target that no link explains.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stranger {
    /// It has the bytes of a message that has its copy: one too many.
    pub twin: bool,
    /// It was there when a pass last looked.
    pub old: bool,
    pub instant: i64,
}

pub fn stranger(stranger: Stranger, terms: &Terms) -> Kind {
    let came_later = terms.cutover.is_some_and(|cutover| stranger.instant >= cutover);
    match terms.sealed {
        true if stranger.twin && stranger.old => Kind::Surplus,
        true => Kind::Arrived,
        false if came_later => Kind::Arrived,
        false => Kind::Surplus,
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::link;
    use super::*;
    use crate::checkpoint::Proof;
    use crate::words::{Digests, HeaderDigest, InternalDate, LooseDigest, Sha256, Uid};

    const BEFORE: Terms<'static> =
        Terms { sealed: false, cutover: Some(100), target_is_ours: false, permanent: None };
    const SEALED: Terms<'static> = Terms { sealed: true, ..BEFORE };

    /// What the link says, unless `change` says otherwise.
    fn seen(link: &Link, change: impl FnOnce(&mut WholeSeen)) -> WholeSeen {
        let mut seen = WholeSeen {
            uid: Uid::new(11).unwrap(),
            instant: link.instant,
            flags: link.flags.clone(),
            digests: Digests {
                size: link.size,
                sha256: link.sha256,
                header: link.header,
                loose: LooseDigest([0; 32]),
                suspect: false,
            },
        };
        change(&mut seen);
        seen
    }

    #[track_caller]
    fn check(link: &Link, change: impl FnOnce(&mut WholeSeen), terms: Terms, expected: &[Kind]) {
        let found = differences(link, &seen(link, change), &terms);
        let kinds: Vec<Kind> = found.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, expected, "{found:?}");
    }

    #[test]
    fn copies() {
        let copied = Link { proof: Proof::Verified, ..link(Some(11), "\\Seen x") };
        let other_bytes = |seen: &mut WholeSeen| seen.digests.sha256 = Sha256([9; 32]);
        let other_date = |seen: &mut WholeSeen| seen.instant = InternalDate(-7);
        let other_flags = |seen: &mut WholeSeen| seen.flags = Flags::of_names(["\\Answered"]);
        for terms in [BEFORE, SEALED] {
            check(&copied, |_| {}, terms, &[]);
            check(&copied, other_bytes, terms, &[Kind::Altered]);
            check(&copied, other_date, terms, &[Kind::Redated]);
        }
        check(&copied, other_flags, BEFORE, &[Kind::Reflagged]);
        check(&copied, other_flags, SEALED, &[Kind::Flagged]);

        let adopted = Link { origin: Origin::Adopted, ..copied.clone() };
        check(&adopted, other_flags, BEFORE, &[]);
        let ours = Terms { target_is_ours: true, ..BEFORE };
        check(&adopted, other_flags, ours, &[Kind::Reflagged]);

        let altered = Link { altered: Some("NUL became 0x80".into()), ..copied };
        check(&altered, other_bytes, BEFORE, &[]);
        check(&altered, other_date, BEFORE, &[]);
        let other_message = |seen: &mut WholeSeen| {
            seen.digests.sha256 = Sha256([9; 32]);
            seen.digests.header = HeaderDigest([9; 16]);
        };
        check(&altered, other_message, BEFORE, &[Kind::Altered]);
    }

    #[test]
    fn keywords_that_the_target_cannot_keep_are_no_difference() {
        let copied = link(Some(11), "\\Seen x y");
        let lost = |seen: &mut WholeSeen| seen.flags = Flags::of_names(["\\Seen", "x"]);
        check(&copied, lost, SEALED, &[]);
        let new = |seen: &mut WholeSeen| seen.flags = Flags::of_names(["\\Seen", "x", "z"]);
        check(&copied, new, SEALED, &[Kind::Flagged]);
        let unseen = |seen: &mut WholeSeen| seen.flags = Flags::of_names(["x", "y"]);
        check(&copied, unseen, SEALED, &[Kind::Flagged]);
    }

    #[test]
    fn what_is_not_there() {
        let here = Absent { told: true, continuous: true, elsewhere: false };
        let cases = [
            (here, Kind::Missing, Kind::Removed),
            (Absent { elsewhere: true, ..here }, Kind::Missing, Kind::Moved),
            (Absent { told: false, ..here }, Kind::Missing, Kind::Missing),
            (Absent { continuous: false, ..here }, Kind::Missing, Kind::Missing),
        ];
        for (what, before, sealed) in cases {
            assert_eq!(
                (absent(what, &BEFORE), absent(what, &SEALED)),
                (before, sealed),
                "{what:?}"
            );
        }
    }

    #[test]
    fn what_nothing_explains() {
        let old = Stranger { twin: false, old: true, instant: 50 };
        let cases = [
            (old, Kind::Surplus, Kind::Arrived),
            (Stranger { instant: 100, ..old }, Kind::Arrived, Kind::Arrived),
            (Stranger { twin: true, ..old }, Kind::Surplus, Kind::Surplus),
            (Stranger { twin: true, old: false, ..old }, Kind::Surplus, Kind::Arrived),
        ];
        for (what, before, sealed) in cases {
            let judged = (stranger(what, &BEFORE), stranger(what, &SEALED));
            assert_eq!(judged, (before, sealed), "{what:?}");
        }
    }

    #[test]
    fn every_kind_is_a_difference_or_changed_since() {
        let since = [Kind::Removed, Kind::Moved, Kind::Flagged, Kind::Arrived];
        for kind in [Kind::Missing, Kind::Altered, Kind::Redated, Kind::Reflagged, Kind::NotCopied]
        {
            assert!(kind.is_difference());
        }
        assert!(since.iter().all(|kind| !kind.is_difference()));
        let json = serde_json::to_string(&Kind::NotCopied).unwrap();
        assert_eq!(json, format!("\"{}\"", Kind::NotCopied.as_str()));
    }
}
