//! Logs in on both sides of an account and says what stands in the way of its move. Folders are
//! only ever opened with EXAMINE, nothing is written down.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::beside::{Stop, is_not_paused, is_over, known_account, may_log_in, may_read_source};
use super::connect::connect;
use super::copy::Failure;
use super::folders::Fate;
use super::pass::{at_source, at_target};
use super::preview::{list_all, map_folders, memory_for};
use super::shared::Shared;
use super::trouble;
use crate::checkpoint::{AccountRecord, FolderRecord, Known, Phase};
use crate::config::{Enrollment, HostLimits};
use crate::imap::{Error, Listed, Session, WireName};
use crate::journal::shown;
use crate::words::Side;

/// What was found of one account.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inspection {
    pub address: String,
    pub migration: String,
    pub phase: String,
    pub source: SideSeen,
    pub target: SideSeen,
    pub folders: Vec<FolderSeen>,
    /// Messages that have no copy yet, and their octets.
    pub to_copy: (u64, u64),
    /// What stands in the way: a reason code, and words.
    pub problems: Vec<(String, String)>,
    pub notes: Vec<String>,
}

/// One side as it presents itself.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SideSeen {
    pub host: String,
    /// The rest is known.
    pub logged_in: bool,
    pub server: String,
    pub capabilities: Vec<String>,
    pub folders: u64,
    pub messages: u64,
    /// Of the source: octets, and those of the largest message.
    pub bytes: u64,
    pub largest: u64,
    /// Octets used and granted (RFC 9208).
    pub quota: Option<(u64, u64)>,
    /// The largest message APPEND takes (RFC 7889).
    pub append_limit: Option<u64>,
}

#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FolderSeen {
    pub name: String,
    /// Empty where it is not copied.
    pub target: String,
    /// Where it is not copied, why.
    pub why: String,
    pub messages: u64,
    pub bytes: u64,
}

/// Inspects an account. Dropping it is safe.
pub async fn inspect(shared: &Shared, enrollment: &Enrollment) -> Inspection {
    let migration = &enrollment.migration;
    let at = |host: &str| SideSeen { host: host.to_owned(), ..SideSeen::default() };
    let mut found = Inspection {
        address: enrollment.address.clone(),
        migration: migration.name.clone(),
        source: at(&migration.source.host),
        target: at(&migration.target.host),
        ..Inspection::default()
    };
    if let Err(stop) = look(shared, enrollment, &mut found).await {
        found.problems.push(stop.told());
    }
    found
}

async fn look(
    shared: &Shared,
    enrollment: &Enrollment,
    found: &mut Inspection,
) -> Result<(), Stop> {
    is_not_paused(enrollment)?;
    let over = is_over(shared, enrollment);
    let record = if over { None } else { known_account(shared, enrollment)? };
    let begun = record.as_ref().map_or(Phase::Enrolled, |record| record.phase);
    let phase = if over { Phase::Completed } else { begun };
    found.phase = phase.as_str().to_owned();
    if phase >= Phase::Completed {
        found.notes.push("it is over: nothing is to be moved any more".to_owned());
        return Ok(());
    }
    may_read_source(shared, enrollment)?;
    // Each side on its own: both passwords are wanted, if both are wrong.
    let source = log_in(shared, enrollment, record.as_ref(), Side::Source).await;
    let target = log_in(shared, enrollment, record.as_ref(), Side::Target).await;
    let (mut source, mut target) = match (source, target) {
        (Ok(source), Ok(target)) => (source, target),
        (source, target) => {
            let stops = [source.err(), target.err()];
            found.problems.extend(stops.iter().flatten().map(Stop::told));
            return Ok(());
        }
    };
    let folders = match &record {
        Some(record) => shared.store.folders(record.id)?,
        None => Vec::new(),
    };
    present(&source.0, &mut found.source);
    present(&target.0, &mut found.target);
    let target_listed = target.0.list().await.map_err(at_target)?;
    see_target(&mut target.0, &target_listed, &mut found.target).await?;
    let (archived, own): (Vec<_>, Vec<_>) =
        folders.into_iter().partition(|folder| folder.archive().is_some());
    see_source(shared, enrollment, &own, &target_listed, (&mut source.0, &target.0), found).await?;
    leave_out_linked(shared, &own, found)?;
    if let Some(archive) = enrollment.of_archive() {
        match log_in(shared, &archive, record.as_ref(), Side::Source).await {
            Ok((mut session, _berth)) => {
                let both = (&mut session, &target.0);
                see_source(shared, &archive, &archived, &target_listed, both, found).await?;
                leave_out_linked(shared, &archived, found)?;
                session.logout().await;
            }
            Err(stop) => {
                let (code, words) = stop.told();
                found.problems.push((code, format!("archive: {words}")));
            }
        }
    }
    let problems = obstacles(found);
    found.problems.extend(problems);
    let notes = remarks(found, phase);
    found.notes.extend(notes);
    source.0.logout().await;
    target.0.logout().await;
    Ok(())
}

/// One try of the source's login; a reason code and words where it fails.
pub async fn try_source(shared: &Shared, enrollment: &Enrollment) -> Result<(), (String, String)> {
    let tried = connect(shared, enrollment, Side::Source).await;
    let (session, _berth) = tried.map_err(|failure| Stop::from(failure).told())?;
    session.logout().await;
    Ok(())
}

async fn log_in(
    shared: &Shared,
    enrollment: &Enrollment,
    record: Option<&AccountRecord>,
    side: Side,
) -> Result<(Session, super::shared::Berth), Stop> {
    record.map_or(Ok(()), |record| may_log_in(enrollment, record, side))?;
    Ok(connect(shared, enrollment, side).await?)
}

fn present(session: &Session, side: &mut SideSeen) {
    side.logged_in = true;
    side.server = shown(session.server_name());
    side.capabilities = session.capabilities().atoms.iter().map(|atom| shown(atom)).collect();
    side.append_limit = session.capabilities().append_limit();
}

async fn see_target(
    session: &mut Session,
    listed: &[Listed],
    side: &mut SideSeen,
) -> Result<(), Stop> {
    let names = listed.iter().filter(|listed| !listed.no_select).map(|listed| &listed.name);
    let names: Vec<&WireName> = names.collect();
    side.folders = names.len() as u64;
    let statuses = session.statuses(&names).await.map_err(at_target)?;
    side.messages = statuses.iter().flatten().map(|status| u64::from(status.messages)).sum();
    let quota = match session.quota(&WireName::of_wire(b"INBOX")).await {
        Ok(quota) => quota,
        // Who may not be told of it is no worse off than where there is none.
        Err(Error::No { .. }) => None,
        Err(error) => return Err(at_target(error).into()),
    };
    side.quota = quota.map(|quota| (quota.used_octets, quota.limit_octets));
    Ok(())
}

async fn see_source(
    shared: &Shared,
    enrollment: &Enrollment,
    folders: &[FolderRecord],
    target_listed: &[Listed],
    (source, target): (&mut Session, &Session),
    found: &mut Inspection,
) -> Result<(), Stop> {
    let listed = source.list().await.map_err(at_source)?;
    let namespaces = (source.namespace().clone(), target.namespace().clone());
    let mut mapped = map_folders(enrollment, folders, &listed, target_listed, &namespaces);
    mapped.sort_by_key(|mapped| (!mapped.source.is_inbox(), mapped.source_shown.clone()));
    let _memory = memory_for(shared, source, &listed).await?;
    found.source.folders += mapped.len() as u64;
    for mapped in mapped {
        let mut folder = FolderSeen { name: shown(&mapped.source_shown), ..FolderSeen::default() };
        match &mapped.fate {
            Fate::Copy { target_shown, .. } => folder.target = shown(target_shown),
            Fate::Excluded => folder.why = "excluded".to_owned(),
            Fate::Virtual => folder.why = "a view of other folders".to_owned(),
            Fate::Conflict(why) => {
                folder.why = shown(why);
                found.problems.push(("folder_conflict".to_owned(), folder.why.clone()));
            }
        }
        match source.examine(&mapped.source).await {
            Ok(_) => {
                let messages = list_all(source).await.map_err(at_source)?;
                folder.messages = messages.len() as u64;
                folder.bytes = messages.iter().map(|message| message.size).sum();
                let largest = messages.iter().map(|message| message.size).max().unwrap_or(0);
                if !folder.target.is_empty() {
                    found.source.largest = found.source.largest.max(largest);
                }
            }
            Err(Error::No { code, text, .. }) if trouble::is_of_folder(code.as_ref(), &text) => {
                let words = format!("{}: the source says: {}", folder.name, shown(&text));
                found.problems.push(("no_permission".to_owned(), words));
            }
            Err(error) => return Err(Failure::Imap(Side::Source, error).into()),
        }
        found.source.messages += folder.messages;
        found.source.bytes += folder.bytes;
        if !folder.target.is_empty() {
            found.to_copy.0 += folder.messages;
            found.to_copy.1 += folder.bytes;
        }
        found.folders.push(folder);
    }
    Ok(())
}

/// What is at the target already, by what is remembered, is not to be copied.
fn leave_out_linked(
    shared: &Shared,
    folders: &[FolderRecord],
    found: &mut Inspection,
) -> std::io::Result<()> {
    let (mut messages, mut bytes) = (0, 0);
    for folder in folders {
        shared.store.visit_known(folder.id, |_, known| {
            if let Known::Linked(link) = known {
                messages += 1;
                bytes += link.size;
            }
        })?;
    }
    let to_copy = &mut found.to_copy;
    *to_copy = (to_copy.0.saturating_sub(messages), to_copy.1.saturating_sub(bytes));
    Ok(())
}

/// What will not fit.
fn obstacles(found: &Inspection) -> Vec<(String, String)> {
    let mut obstacles = Vec::new();
    let mut add = |code: &str, words: String| obstacles.push((code.to_owned(), words));
    let (_, bytes) = found.to_copy;
    if let Some((used, limit)) = found.target.quota
        && bytes > limit.saturating_sub(used)
    {
        let left = limit.saturating_sub(used);
        add("over_quota", format!("{bytes} octets are to be copied, and {left} are left"));
    }
    if let Some(limit) = found.target.append_limit
        && found.source.largest > limit
    {
        let largest = found.source.largest;
        add(
            "over_quota",
            format!("the largest message has {largest} octets, and the target takes {limit}"),
        );
    }
    obstacles
}

/// What is good to know and stops nothing.
fn remarks(found: &Inspection, phase: Phase) -> Vec<String> {
    let mut remarks = Vec::new();
    let has = |side: &SideSeen, atom: &str| {
        side.capabilities.iter().any(|offered| offered.eq_ignore_ascii_case(atom))
    };
    if phase == Phase::Enrolled && found.target.messages > 0 {
        let messages = found.target.messages;
        remarks.push(format!(
            "the target is not empty: {messages} messages; those with the same bytes are adopted"
        ));
    }
    if !has(&found.target, "UIDPLUS") {
        remarks.push("the target has no UIDPLUS: deletions are not mirrored".to_owned());
    }
    if !has(&found.target, "MULTIAPPEND") {
        remarks.push("the target has no MULTIAPPEND: a first copy takes longer".to_owned());
    }
    if !has(&found.source, "IDLE") {
        remarks.push("the source has no IDLE: new mail is seen by sweeps".to_owned());
    }
    remarks
}

/// How long the last passes of so many accounts of two hosts take at least: a sweep each at the
/// source, a login each at the target, and one at the source for those that find no connection
/// there to keep.
pub fn last_passes(accounts: u64, source: &HostLimits, target: &HostLimits) -> Duration {
    let seconds = |number: u64, a_second: f64| number as f64 / a_second.max(f64::MIN_POSITIVE);
    let polled = accounts.saturating_sub(source.connections as u64);
    let longest = seconds(accounts, source.sweeps_per_second)
        .max(seconds(polled, source.logins_per_second))
        .max(seconds(accounts, target.logins_per_second));
    Duration::try_from_secs_f64(longest).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(
        to_copy: u64,
        quota: Option<(u64, u64)>,
        largest: u64,
        limit: Option<u64>,
    ) -> Inspection {
        Inspection {
            to_copy: (1, to_copy),
            source: SideSeen { largest, ..SideSeen::default() },
            target: SideSeen { quota, append_limit: limit, ..SideSeen::default() },
            ..Inspection::default()
        }
    }

    #[test]
    fn what_will_not_fit() {
        let check = |found: Inspection, expected: usize| {
            assert_eq!(obstacles(&found).len(), expected, "{found:?}");
        };
        check(found(10, None, 10, None), 0);
        check(found(10, Some((90, 100)), 10, Some(10)), 0);
        check(found(11, Some((90, 100)), 10, Some(10)), 1);
        check(found(11, Some((101, 100)), 11, Some(10)), 2);
        check(found(0, Some((101, 100)), 0, Some(0)), 0);
    }

    #[test]
    fn last_passes_wait_for_the_slowest_of_three_lines() {
        let limits = |logins_per_second, connections, sweeps_per_second| HostLimits {
            logins_per_second,
            connections,
            sweeps_per_second,
        };
        let check = |source, target, seconds| {
            assert_eq!(last_passes(3000, &source, &target), Duration::from_secs(seconds));
        };
        check(limits(5.0, 4000, 10.0), limits(100.0, 10, 1.0), 300);
        check(limits(5.0, 1000, 10.0), limits(100.0, 10, 1.0), 400);
        check(limits(5.0, 1000, 10.0), limits(3.0, 10, 1.0), 1000);
    }
}
