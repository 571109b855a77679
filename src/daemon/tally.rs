//! What accounts have in common at one instant: how many have come how far, what remains, and
//! what holds them up. Pure; `status`, the journal and hooks say the same with it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use super::board::Counts;
use crate::status::{AccountStatus, MigrationStatus};

/// The sum over some accounts.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    pub counts: Counts,
    /// Past their last reconciling pass.
    pub sealed: usize,
    /// Their cutover has come and they are not sealed.
    pub remaining: usize,
    /// Of those: the cutover window is over, too.
    pub overdue: usize,
    /// By condition and reason code.
    pub reasons: BTreeMap<(String, String), usize>,
    /// Completed or closed, and a password of theirs is still on disk.
    pub secrets_left: usize,
    pub sums: Sums,
}

/// Messages and octets. Accounts whose counts are not known add nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sums {
    pub source: u64,
    pub copied: u64,
    pub adopted: u64,
    pub refused: u64,
    pub altered: u64,
    pub source_bytes: u64,
    pub copied_bytes: u64,
}

impl Tally {
    pub fn add(&mut self, account: &AccountStatus, window_s: u64, now: Timestamp) {
        self.counts.count(account);
        let sealed = is_sealed(&account.phase);
        self.sealed += usize::from(sealed);
        if since_cutover(account, now).is_some_and(|since| since >= 0) && !sealed {
            self.remaining += 1;
            self.overdue += usize::from(is_overdue(account, window_s, now));
        }
        if let Some(reason) = &account.reason {
            let key = (account.condition.clone(), reason.code.clone());
            *self.reasons.entry(key).or_default() += 1;
        }
        let is_over = ["completed", "closed"].contains(&account.phase.as_str());
        self.secrets_left += usize::from(is_over && account.has_secrets);
        let (messages, bytes) = (&account.messages, &account.bytes);
        for (sum, count) in [
            (&mut self.sums.source, messages.source),
            (&mut self.sums.copied, messages.copied),
            (&mut self.sums.adopted, messages.adopted),
            (&mut self.sums.refused, messages.refused),
            (&mut self.sums.altered, messages.altered),
            (&mut self.sums.source_bytes, bytes.source),
            (&mut self.sums.copied_bytes, bytes.copied),
        ] {
            *sum += count.unwrap_or_default();
        }
    }

    /// `credentials_rejected 2, over_quota 1` of a condition, the most frequent first.
    pub fn reasons_of(&self, condition: &str) -> String {
        let of_it = self.reasons.iter().filter(|((in_condition, _), _)| in_condition == condition);
        let mut reasons: Vec<(&str, usize)> =
            of_it.map(|((_, code), count)| (code.as_str(), *count)).collect();
        reasons.sort_by_key(|(code, count)| (std::cmp::Reverse(*count), *code));
        let said: Vec<String> =
            reasons.iter().map(|(code, count)| format!("{code} {count}")).collect();
        said.join(", ")
    }

    pub fn in_condition(&self, condition: &str) -> usize {
        self.counts.conditions.get(condition).copied().unwrap_or_default()
    }

    pub fn in_phase(&self, phase: &str) -> usize {
        self.counts.phases.get(phase).copied().unwrap_or_default()
    }

    /// What the journal says while a migration cuts over.
    pub fn progress(&self) -> String {
        let mut text = match self.remaining {
            0 => format!("every account whose cutover has come is sealed: {} of", self.sealed),
            1 => "1 account whose cutover has come is not sealed;".to_owned(),
            more => format!("{more} accounts whose cutover has come are not sealed;"),
        };
        if self.remaining > 0 {
            text += &format!(" {} are overdue, {} are sealed of", self.overdue, self.sealed);
        }
        text += &format!(" {}", self.counts.accounts);
        for condition in ["held", "retrying", "paused"] {
            let (count, reasons) = (self.in_condition(condition), self.reasons_of(condition));
            if count > 0 {
                text += &format!("; {count} {condition} ({reasons})");
            }
        }
        text
    }
}

/// `1204 of 1206 messages are at the target (3 adopted, 0 altered), 2 refused`
impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sums { source, copied, adopted, refused, altered, .. } = self;
        write!(f, "{copied} of {source} messages are at the target ")?;
        write!(f, "({adopted} adopted, {altered} altered), {refused} refused")
    }
}

/// Is the last reconciling pass over?
pub fn is_sealed(phase: &str) -> bool {
    ["archiving", "completed", "closed"].contains(&phase)
}

/// Is the cutover window over and the last pass not?
pub fn is_overdue(account: &AccountStatus, window_s: u64, now: Timestamp) -> bool {
    let since = since_cutover(account, now);
    !is_sealed(&account.phase) && since.is_some_and(|since| since > window_s as i64)
}

/// Seconds since the account's cutover, negative before it.
fn since_cutover(account: &AccountStatus, now: Timestamp) -> Option<i64> {
    let cutover: Timestamp = account.cutover.as_ref()?.parse().ok()?;
    Some(now.as_second() - cutover.as_second())
}

/// The cutover window of a migration; of one that is not known any more, none.
pub fn window_of(migrations: &[MigrationStatus], name: &str) -> u64 {
    let migration = migrations.iter().find(|migration| migration.name == name);
    migration.map_or(u64::MAX >> 1, |migration| migration.cutover_window_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Reason;

    fn account(phase: &str, condition: &str, code: &str) -> AccountStatus {
        let reason = Reason { code: code.into(), ..Reason::default() };
        AccountStatus {
            phase: phase.into(),
            condition: condition.into(),
            reason: (!code.is_empty()).then_some(reason),
            cutover: Some("2026-02-04T07:00:00Z".into()),
            has_secrets: true,
            ..AccountStatus::default()
        }
    }

    fn tally(now: &str) -> Tally {
        let mut tally = Tally::default();
        let without = AccountStatus { cutover: None, ..account("following", "ok", "") };
        for account in [
            account("following", "ok", ""),
            account("draining", "held", "over_quota"),
            account("draining", "held", "credentials_rejected"),
            account("copying", "held", "credentials_rejected"),
            account("draining", "retrying", "unreachable"),
            account("archiving", "ok", ""),
            account("completed", "ok", ""),
            without,
        ] {
            tally.add(&account, 6 * 3600, now.parse().unwrap());
        }
        tally
    }

    #[test]
    fn what_remains_is_counted_from_the_cutover_on() {
        #[track_caller]
        fn check(now: &str, remaining: usize, overdue: usize) {
            let Tally { remaining: open, overdue: late, sealed, secrets_left, .. } = tally(now);
            assert_eq!((open, late, sealed, secrets_left), (remaining, overdue, 2, 1), "{now}");
        }
        check("2026-02-04T06:59:59Z", 0, 0);
        check("2026-02-04T07:00:00Z", 5, 0);
        check("2026-02-04T13:00:00Z", 5, 0);
        check("2026-02-04T13:00:01Z", 5, 5);
    }

    #[test]
    fn progress_in_a_line() {
        assert_eq!(
            tally("2026-02-04T13:00:01Z").progress(),
            "5 accounts whose cutover has come are not sealed; 5 are overdue, 2 are sealed of 8; \
             3 held (credentials_rejected 2, over_quota 1); 1 retrying (unreachable 1)"
        );
        let mut done = Tally::default();
        done.add(&account("completed", "ok", ""), 0, Timestamp::MAX);
        let expected = "every account whose cutover has come is sealed: 1 of 1";
        assert_eq!(done.progress(), expected);
    }
}
