//! `status --check`: one line and a level, as Nagios and its descendants want them.

use jiff::Timestamp;

use crate::daemon::Counts;
use crate::daemon::tally::{is_overdue, window_of};
use crate::journal::shown;
use crate::status::{AccountStatus, Status};

/// What no account can get over by itself, or loses mail while nobody acts.
const CRITICAL: [&str; 7] = [
    "checkpoint_unreadable",
    "deadline_passed",
    "disk_full",
    "internal_error",
    "service_login_rejected",
    "state_lost",
    "second_writer",
];

/// How long retrying is nobody's business.
const PATIENCE_SECS: i64 = 3600;

/// 0 well, 1 somebody is needed, 2 critical; and the line that says why.
pub fn verdict(status: &Status, now: Timestamp) -> (u8, String) {
    let mut counts = Counts { rejected: status.rejected.len(), ..Counts::default() };
    status.accounts.iter().for_each(|account| counts.count(account));
    let mut troubles: Vec<(u8, &AccountStatus)> = status
        .accounts
        .iter()
        .map(|account| {
            let window_s = window_of(&status.migrations, &account.migration);
            // Mail may be missing at the target: it counts more than what stands in the way.
            let is_late = is_overdue(account, window_s, now);
            (if is_late { 2 } else { level(account, now) }, account)
        })
        .filter(|(level, _)| *level > 0)
        .collect();
    troubles.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let files = u8::from(!status.rejected.is_empty());
    let worst = troubles.first().map_or(0, |(level, _)| *level).max(files);
    let word = ["OK", "WARNING", "CRITICAL"][usize::from(worst)];
    let mut line = format!("PECSYNC {word} - {counts}");
    if let Some((_, account)) = troubles.first() {
        let code = account.reason.as_ref().map_or(account.phase.as_str(), |reason| &reason.code);
        line += &format!("; {}: {}", shown(&account.address), shown(code));
        if troubles.len() > 1 {
            line += &format!(" (and {} more)", troubles.len() - 1);
        }
    }
    (worst, line)
}

fn level(account: &AccountStatus, now: Timestamp) -> u8 {
    let reason = account.reason.as_ref();
    let critical = reason.is_some_and(|reason| CRITICAL.contains(&reason.code.as_str()));
    match (account.condition.as_str(), account.phase.as_str()) {
        _ if critical => 2,
        (_, "closed") => 2,
        // Early is nobody's trouble, and pausing somebody's wish.
        _ if reason.is_some_and(|reason| reason.code == "window_not_open") => 0,
        ("held", _) if is_past(account.cutover.as_deref(), now) => 2,
        ("held", _) => 1,
        ("retrying", _) => {
            let since = reason.and_then(|reason| reason.since.parse::<Timestamp>().ok());
            let long =
                since.is_some_and(|since| now.as_second() - since.as_second() > PATIENCE_SECS);
            u8::from(long)
        }
        _ => 0,
    }
}

fn is_past(time: Option<&str>, now: Timestamp) -> bool {
    time.and_then(|time| time.parse::<Timestamp>().ok()).is_some_and(|time| time <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{MigrationStatus, Reason, RejectedFile};

    fn account(phase: &str, condition: &str, code: &str, since: &str) -> AccountStatus {
        let reason = Reason { code: code.into(), since: since.into(), ..Reason::default() };
        AccountStatus {
            address: "a@b".into(),
            phase: phase.into(),
            condition: condition.into(),
            reason: (!code.is_empty()).then_some(reason),
            cutover: Some("2026-02-04T07:00:00Z".into()),
            ..AccountStatus::default()
        }
    }

    #[test]
    fn levels() {
        #[track_caller]
        fn check(account: AccountStatus, now: &str, expected: u8, words: &str) {
            let status = Status { accounts: vec![account], ..Status::default() };
            let (level, line) = verdict(&status, now.parse().unwrap());
            assert_eq!(level, expected, "{line}");
            assert!(line.contains(words), "{line}");
        }
        let (before, after) = ("2026-02-01T12:00:00Z", "2026-02-05T12:00:00Z");
        check(account("following", "ok", "", ""), before, 0, "PECSYNC OK - 1 account");
        let held = || account("following", "held", "credentials_rejected", before);
        check(held(), before, 1, "WARNING - 1 account: 1 following; 1 held; a@b: credentials_");
        check(held(), after, 2, "CRITICAL");
        check(account("copying", "held", "internal_error", before), before, 2, "internal_error");
        let retrying = |since| account("copying", "retrying", "unreachable", since);
        check(retrying("2026-02-01T11:30:00Z"), before, 0, "OK");
        check(retrying("2026-02-01T10:30:00Z"), before, 1, "unreachable");
        check(account("closed", "ok", "", ""), after, 2, "closed");
    }

    #[test]
    fn an_overdue_cutover_is_critical() {
        let migration = MigrationStatus {
            name: "epap".into(),
            cutover_window_s: 6 * 3600,
            ..MigrationStatus::default()
        };
        let late = AccountStatus {
            migration: "epap".into(),
            ..account("draining", "retrying", "unreachable", "2026-02-04T12:59:00Z")
        };
        let (accounts, migrations) = (vec![late], vec![migration]);
        let status = Status { accounts, migrations, ..Status::default() };
        let level = |now: &str| verdict(&status, now.parse().unwrap()).0;
        assert_eq!((level("2026-02-04T13:00:00Z"), level("2026-02-04T13:00:01Z")), (0, 2));
    }

    #[test]
    fn a_rejected_file_needs_somebody() {
        let status = Status { rejected: vec![RejectedFile::default()], ..Status::default() };
        let (level, line) = verdict(&status, Timestamp::UNIX_EPOCH);
        assert_eq!((level, line.as_str()), (1, "PECSYNC WARNING - 0 accounts; 1 file rejected"));
    }
}
