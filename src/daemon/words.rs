//! What the supervisor itself says in `status`: accounts before their task has spoken, accounts
//! whose file is bad, files that were rejected.

use std::path::Path;

use jiff::Timestamp;

use crate::checkpoint::{AccountRecord, Phase};
use crate::config::{Deletions, Enrollment, Problem, RosterRow, Snapshot};
use crate::journal::shown;
use crate::status::{AccountStatus, Reason, RejectedFile};
use crate::sync::board::{contact_status, owners_password_from};

/// The status of an account whose task has not spoken yet.
pub fn first_status(enrollment: &Enrollment, record: Option<&AccountRecord>) -> AccountStatus {
    let removals = match enrollment.migration.sync.deletions {
        _ if record.is_some_and(|record| record.removals_suspended) => "suspended",
        Deletions::Mirror => "mirrored",
        Deletions::Keep => "kept",
    };
    AccountStatus {
        address: enrollment.address.clone(),
        migration: enrollment.migration.name.clone(),
        cutover: enrollment.cutover.map(|cutover| cutover.to_string()),
        removals: removals.to_owned(),
        contact: contact_status(&enrollment.contact),
        has_secrets: enrollment.has_secrets(),
        enrolled_by: enrollment.file.display().to_string(),
        owners_password_from: owners_password_from(enrollment),
        ..remembered(record)
    }
}

/// What the checkpoint says of an account.
fn remembered(record: Option<&AccountRecord>) -> AccountStatus {
    let instant = |seconds: Option<i64>| {
        let instant = Timestamp::from_second(seconds?).ok()?;
        Some(instant.to_string())
    };
    let phase = record.map_or(Phase::Enrolled, |record| record.phase);
    AccountStatus {
        phase: phase.as_str().to_owned(),
        condition: "ok".to_owned(),
        removals: "kept".to_owned(),
        mode: "polled".to_owned(),
        sealed_at: record.and_then(|record| instant(record.sealed_at)),
        source_seen_until: record.and_then(|record| instant(record.source_seen_until)),
        ..AccountStatus::default()
    }
}

/// An account that the checkpoint knows and whose file is rejected: held, not missing.
pub fn held_by_its_file(
    record: &AccountRecord,
    snapshot: &Snapshot,
    cutover: Option<Timestamp>,
    listed: Option<&RosterRow>,
) -> Option<AccountStatus> {
    let file = snapshot.rejected().find(|file| {
        file.path == Path::new(&record.enrolled_by) || file.address == Some(&record.address)
    })?;
    let problem = file.problems.0.first().or(file.problems.1.first())?;
    let reason = Reason {
        code: "enrollment_rejected".to_owned(),
        side: None,
        message: shown(&problem.to_string()),
        hint: "mend the file; it is read again at once".to_owned(),
        since: Timestamp::now().to_string(),
        next_try: None,
    };
    Some(AccountStatus {
        address: record.address.clone(),
        migration: record.migration.clone(),
        cutover: cutover.map(|cutover| cutover.to_string()),
        contact: listed.map(|row| contact_status(&row.contact)).unwrap_or_default(),
        has_secrets: true,
        enrolled_by: record.enrolled_by.clone(),
        condition: "held".to_owned(),
        reasons: vec![reason.clone()],
        reason: Some(reason),
        ..remembered(Some(record))
    })
}

pub fn rejected_file(problem: &Problem) -> RejectedFile {
    RejectedFile {
        file: shown(&problem.file.to_string_lossy()),
        line: u32::try_from(problem.line).unwrap_or(u32::MAX),
        column: u32::try_from(problem.column).unwrap_or(u32::MAX),
        message: shown(&problem.message),
        hint: shown(&problem.hint),
    }
}
