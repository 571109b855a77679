//! Of two files that ask for one account, or log in as one, the first stays: the one that is
//! active, or was when the daemon last ran, else the first by name. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::load::shown;
use super::portal;
use super::problem::Problem;
use super::reconcile::File;
use super::settings::{Endpoint, Enrollment, Settings};
use super::values;

type Files = BTreeMap<PathBuf, File>;

/// Chooses for every file what of it is active: its present version, else its last good one if
/// what that claims is still free, else nothing.
///
/// `known` are the accounts that are remembered from before a restart, with their files.
pub(super) fn resolve(
    previous: &Files,
    now: &mut Files,
    settings: &Settings,
    known: &BTreeMap<String, PathBuf>,
) {
    // Files that came too late with their present version. Each round adds some, so this ends.
    let mut losers = BTreeSet::new();
    let claimed = loop {
        let claimed = claim_in_order(previous, now, settings, known, &losers);
        let falls_back =
            |path: &&PathBuf| now[*path].parsed.is_some() && now[*path].active.is_some();
        let fallen = claimed.refused.iter().filter(falls_back);
        let fallen: Vec<PathBuf> = fallen.filter(|path| !losers.contains(*path)).cloned().collect();
        if fallen.is_empty() {
            break claimed;
        }
        losers.extend(fallen);
    };
    // Only now is it known who stays, and so what to tell those who do not.
    let late = claimed.refused.iter().chain(&losers);
    let mut conflicts: BTreeMap<PathBuf, Vec<Problem>> = late
        .map(|path| (path.clone(), conflicts(path, &now[path], &claimed.taken, settings)))
        .collect();
    let refused = claimed.refused;
    for (path, file) in now.iter_mut() {
        let lost = losers.contains(path);
        if !lost && file.parsed.is_some() {
            (file.active_digest, file.active_written) = (file.digest, file.written);
        }
        file.active = file.candidate(lost).filter(|_| !refused.contains(path)).cloned();
        file.conflicts = conflicts.remove(path).unwrap_or_default();
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

struct Claimed {
    taken: HashMap<Claim, PathBuf>,
    /// Files that came too late with the version they were to claim with.
    refused: BTreeSet<PathBuf>,
}

/// Lets each file claim, the best right first.
fn claim_in_order(
    previous: &Files,
    now: &Files,
    settings: &Settings,
    known: &BTreeMap<String, PathBuf>,
    losers: &BTreeSet<PathBuf>,
) -> Claimed {
    let mut taken = reserved(previous, now, known);
    let chosen = now.iter().filter_map(|(path, file)| {
        let lost = losers.contains(path);
        let enrollment = file.candidate(lost)?;
        let rank = rank(path, file, lost, enrollment, previous, known);
        let is_portals = portal::is_portals(&settings.daemon.conf_dir, path);
        Some((rank, is_portals, path, enrollment))
    });
    let mut chosen: Vec<_> = chosen.collect();
    // Whichever was first, an administrator's file for an account of the portal's has its right, and
    // the portal's comes after it.
    let of_portal: HashMap<&str, Rank> = chosen
        .iter()
        .filter(|(_, is_portals, ..)| *is_portals)
        .map(|(rank, _, _, enrollment)| (&*enrollment.address, *rank))
        .collect();
    for (rank, is_portals, _, enrollment) in &mut chosen {
        if let Some(of_portal) = of_portal.get(&*enrollment.address).filter(|_| !*is_portals) {
            *rank = (*rank).min(*of_portal);
        }
    }
    // The files are in the order of their names, and the sort is stable.
    chosen.sort_by_key(|(rank, is_portals, ..)| (*rank, *is_portals));
    let mut refused = BTreeSet::new();
    for (_, _, path, enrollment) in chosen {
        let claims = Claim::all_of(enrollment);
        let free = |claim| taken.get(claim).is_none_or(|first| first == path);
        if claims.iter().all(free) {
            taken.extend(claims.into_iter().map(|claim| (claim, path.clone())));
        } else {
            refused.insert(path.clone());
        }
    }
    Claimed { taken, refused }
}

/// A bad file that was an account's when the daemon last ran keeps the account from others,
/// until one of them has it nevertheless.
fn reserved(
    previous: &Files,
    now: &Files,
    known: &BTreeMap<String, PathBuf>,
) -> HashMap<Claim, PathBuf> {
    let active = previous.values().filter_map(|file| file.active.as_ref());
    let active: BTreeSet<&String> = active.map(|enrollment| &enrollment.address).collect();
    let keeps = |address: &String, file: &File| {
        file.parsed.is_none()
            && file.active.is_none()
            && file.address.as_ref().is_none_or(|asked| asked == address)
            && !active.contains(address)
    };
    let keepers = known
        .iter()
        .filter(|(address, path)| now.get(*path).is_some_and(|file| keeps(address, file)));
    keepers.map(|(address, path)| (Claim::Address(address.clone()), path.clone())).collect()
}

fn rank(
    path: &Path,
    file: &File,
    lost: bool,
    enrollment: &Enrollment,
    previous: &Files,
    known: &BTreeMap<String, PathBuf>,
) -> Rank {
    let before = previous.get(path).and_then(|before| before.active.as_ref());
    let unchanged = lost || file.parsed.is_none() || file.digest == file.active_digest;
    match before {
        Some(_) if unchanged => Rank::Active,
        Some(before) if before.address == enrollment.address => Rank::NewVersion,
        _ if known.get(&enrollment.address).is_some_and(|known| known == path) => Rank::Known,
        _ => Rank::New,
    }
}

/// Everything that others have of what the present version of a file claims.
fn conflicts(
    path: &Path,
    file: &File,
    taken: &HashMap<Claim, PathBuf>,
    settings: &Settings,
) -> Vec<Problem> {
    let Some(enrollment) = file.parsed.as_ref().or(file.active.as_ref()) else { return Vec::new() };
    let claims = Claim::all_of(enrollment).into_iter().zip(file.claimed_at);
    let others = claims.filter_map(|(claim, at)| {
        let first = taken.get(&claim).filter(|first| *first != path)?;
        Some((claim, at, first))
    });
    others.map(|(claim, at, first)| conflict(path, at, &claim, first, settings)).collect()
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

/// What may exist once only: two accounts that log in as one would copy into each other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Claim {
    Address(String),
    Source(String),
    Target(String),
}

impl Claim {
    pub fn all_of(enrollment: &Enrollment) -> Vec<Claim> {
        let Enrollment { address, migration, source_user, target_user, .. } = enrollment;
        let mut claims = vec![
            Claim::Address(address.clone()),
            Claim::Source(login(&migration.source, source_user)),
            Claim::Target(login(&migration.target, target_user)),
        ];
        if let (Some(archive), Some(migration)) = (&enrollment.archive, &migration.archive) {
            claims.push(Claim::Source(login(&migration.source, &archive.user)));
        }
        claims
    }

    /// `the account mario.rossi@pec.epap.it`
    pub fn named(&self) -> String {
        match self {
            Claim::Address(address) => format!("the account {address}"),
            Claim::Source(login) => format!("the source login {login}"),
            Claim::Target(login) => format!("the target login {login}"),
        }
    }
}

/// Case-folded: servers that tell logins apart by case alone are not worth a mailbox. The port
/// tells servers apart on this machine only, where each tunnel has one.
fn login(endpoint: &Endpoint, user: &str) -> String {
    let Endpoint { host, port, .. } = endpoint;
    let user = user.to_lowercase();
    match values::is_loopback(host) {
        true => format!("{user} at {host}:{port}"),
        false => format!("{user} at {host}"),
    }
}
