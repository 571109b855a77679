//! Of two files that ask for one account, or log in as one, the first stays: the one that is
//! active, or was when the daemon last ran, else the first by name. Pure.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::enrollment::Claim;
use super::load::shown;
use super::problem::Problem;
use super::reconcile::File;
use super::settings::Settings;

/// Chooses for every file what of it is active: its present version, else its last good one if
/// what that claims is still free, else nothing.
pub(super) fn resolve(
    previous: &BTreeMap<PathBuf, File>,
    now: &mut BTreeMap<PathBuf, File>,
    settings: &Settings,
    known: &BTreeMap<String, PathBuf>,
) {
    // Files that came too late with their present version. Each round adds some, so this ends.
    let mut losers: BTreeMap<PathBuf, Vec<Problem>> = BTreeMap::new();
    let refused = loop {
        let refused = claim_in_order(previous, now, settings, known, &losers);
        let falls_back = |path: &Path| now[path].parsed.is_some() && now[path].active.is_some();
        let fallen = refused.iter().filter(|(path, _)| falls_back(path));
        let fallen: Vec<_> = fallen.filter(|(path, _)| !losers.contains_key(*path)).collect();
        if fallen.is_empty() {
            break refused;
        }
        losers.extend(fallen.into_iter().map(|(path, why)| (path.clone(), why.clone())));
    };
    for (path, file) in now.iter_mut() {
        let lost = losers.contains_key(path);
        if !lost && file.parsed.is_some() {
            file.active_digest = file.digest;
        }
        file.active = file.candidate(lost).filter(|_| !refused.contains_key(path)).cloned();
        file.conflicts =
            losers.remove(path).or_else(|| refused.get(path).cloned()).unwrap_or_default();
    }
}

/// How good a file's right is to what it claims: the lower, the better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// As it is active already.
    Active,
    /// A new version for the account that this file has active.
    NewVersion,
    /// The account was this file's when the daemon last ran.
    Known,
    New,
}

/// Lets each file claim, the best right first; gives those that came too late, with the reason.
fn claim_in_order(
    previous: &BTreeMap<PathBuf, File>,
    now: &BTreeMap<PathBuf, File>,
    settings: &Settings,
    known: &BTreeMap<String, PathBuf>,
    losers: &BTreeMap<PathBuf, Vec<Problem>>,
) -> BTreeMap<PathBuf, Vec<Problem>> {
    let mut taken: HashMap<Claim, &Path> = HashMap::new();
    // A bad file that was an account's when the daemon last ran keeps the account from others.
    for (address, path) in known {
        if let Some((path, file)) = now.get_key_value(path)
            && file.parsed.is_none()
            && file.active.is_none()
            && file.address.as_ref().is_none_or(|asked| asked == address)
        {
            taken.insert(Claim::Address(address.clone()), path);
        }
    }
    let chosen = now.iter().filter_map(|(path, file)| {
        let lost = losers.contains_key(path);
        let enrollment = file.candidate(lost)?;
        let before = previous.get(path).and_then(|before| before.active.as_ref());
        let unchanged = lost || file.parsed.is_none() || file.digest == file.active_digest;
        let rank = match before {
            Some(_) if unchanged => Rank::Active,
            Some(before) if before.address == enrollment.address => Rank::NewVersion,
            _ if known.get(&enrollment.address) == Some(path) => Rank::Known,
            _ => Rank::New,
        };
        Some((rank, path, enrollment))
    });
    let mut chosen: Vec<_> = chosen.collect();
    // The files are in the order of their names, and the sort is stable.
    chosen.sort_by_key(|(rank, ..)| *rank);
    let mut refused = BTreeMap::new();
    for (_, path, enrollment) in chosen {
        let claims = Claim::all_of(enrollment);
        let others = claims.iter().enumerate().filter_map(|(place, claim)| {
            let first = taken.get(claim).filter(|first| **first != path)?;
            Some(conflict(path, now[path].claimed_at[place], claim, first, settings))
        });
        let others: Vec<Problem> = others.collect();
        if others.is_empty() {
            taken.extend(claims.into_iter().map(|claim| (claim, path.as_path())));
        } else {
            refused.insert(path.clone(), others);
        }
    }
    refused
}

fn conflict(
    path: &Path,
    (line, column): (usize, usize),
    claim: &Claim,
    first: &Path,
    settings: &Settings,
) -> Problem {
    let first = shown(&settings.dir, first);
    Problem {
        file: shown(&settings.dir, path),
        line,
        column,
        message: format!("{} is already enrolled by {}", claim.named(), first.display()),
        hint: "the first stays: remove one of the two files".to_owned(),
    }
}
