//! Here errors end: they are understood, waited out or held, and told.

use std::io::ErrorKind;
use std::time::Duration;

use super::opening::state_lost;
use super::{Flow, Life};
use crate::checkpoint::{AccountId, AccountRecord, Edit, Phase, Refused, StoreError};
use crate::imap::Error;
use crate::journal::{Entry, Event};
use crate::sync::backoff;
use crate::sync::book::Book;
use crate::sync::connect::{
    credentials_digest, endpoint, jittered, refused, service_login, tell_service_refused,
    worked_digest,
};
use crate::sync::copy::{Failure, HostSays};
use crate::sync::hosts::Verdict;
use crate::sync::trouble::{self, Blame, Remedy, Trouble};
use crate::words::Side;

/// A password that has worked before is tried again after an hour, then six-hourly.
const SUSPECT_FIRST: Duration = Duration::from_secs(3600);
const SUSPECT_LATER: Duration = Duration::from_secs(6 * 3600);
/// Where it worked until the cutover and is refused within its window, sooner at first: the account
/// waits for nothing else.
const EXPECTED: [Duration; 3] =
    [Duration::from_secs(300), Duration::from_secs(900), Duration::from_secs(1800)];
/// So many sessions it takes at most to find a message that draws a refusal before its end.
const CULPRIT_FOUND_WITHIN: u32 = 12;
/// A host that refuses everybody is tried again no sooner.
const REFUSED_BY_HOST: Duration = Duration::from_secs(60);

/// Refusals in a row of a password that may have worked before.
#[derive(Clone, Copy, Default)]
pub(super) struct Suspect {
    tries: u32,
    /// The first of them came within the cutover window.
    since_cutover: bool,
}

impl Suspect {
    /// It was refused once more. Returns when it is tried again, if ever.
    fn refused(&mut self, worked: bool, in_window: bool) -> Option<Duration> {
        if self.tries == 0 {
            self.since_cutover = in_window;
        }
        let pause = match self.tries {
            tries if self.is_expected(in_window) => {
                let tries = usize::try_from(tries).unwrap_or(usize::MAX);
                EXPECTED.get(tries).copied().unwrap_or(SUSPECT_FIRST)
            }
            0 => SUSPECT_FIRST,
            _ if in_window => SUSPECT_FIRST,
            _ => SUSPECT_LATER,
        };
        self.tries += 1;
        worked.then_some(pause)
    }

    /// What the checkpoint remembers: it was refused once, so long ago. Returns how long it is left
    /// alone still.
    pub(super) fn remembered(&mut self, ago: Duration, in_window: bool) -> Duration {
        *self = Suspect::default();
        self.refused(true, in_window).unwrap_or(SUSPECT_FIRST).saturating_sub(ago)
    }

    /// Is it what everybody may see while providers change over?
    fn is_expected(self, in_window: bool) -> bool {
        in_window && self.since_cutover
    }
}

impl Life {
    /// Understands a failure, tells it once, and waits.
    pub(super) async fn failed(&mut self, failure: Failure, book: Option<&mut Book>) -> Flow {
        if let Failure::Store(error) = &failure
            && error.kind() == ErrorKind::InvalidData
        {
            let words = error.to_string();
            if !self.begin_anew(error).await {
                return self.hold(state_lost(&words), None).await;
            }
        }
        let trouble = trouble::trouble(&failure);
        self.attempts += 1;
        let own = backoff::delay(
            self.attempts,
            None,
            self.in_cutover_window(),
            self.shared.chance.next(),
        );
        let says = match failure {
            Failure::Connect(_, _, says) => says,
            _ => HostSays::Nothing,
        };
        let delay = match (trouble.remedy, says) {
            (Remedy::Credentials, says) => {
                let side = trouble.side.unwrap_or(Side::Source);
                if self.has_service_login(side) {
                    return self.service_refused(trouble, side).await;
                }
                if says == HostSays::Refused(Verdict::Host) {
                    let trouble = Trouble { code: "logins_refused_by_host", ..trouble };
                    return self.retry(trouble, own.max(REFUSED_BY_HOST)).await;
                }
                return self.refused(trouble, side, book).await;
            }
            (Remedy::Operator, _) => return self.hold(trouble, None).await,
            (_, HostSays::Wait(delay)) => delay,
            (Remedy::Throttle(hint), _) => {
                let side = trouble.side.unwrap_or(Side::Target);
                let host = endpoint(&self.enrollment, side).host;
                self.shared.hosts.host(&host).throttled(hint).max(own)
            }
            // The next session finds the culprit with smaller batches: no need to wait long.
            _ if is_refused_append(&failure) => own.min(Duration::from_millis(500)),
            _ => own,
        };
        if is_refused_append(&failure) && self.attempts < CULPRIT_FOUND_WITHIN {
            // Batches are halved until the culprit is alone: nothing to tell yet.
            return self.wait(Some(delay)).await;
        }
        self.retry(trouble, delay).await
    }

    /// Lets go of a checkpoint that is damaged, to be derived again from both servers. Past the
    /// cutover the target is its owner's: nothing is derived before somebody said so. False if it
    /// waits for that.
    async fn begin_anew(&mut self, damage: &StoreError) -> bool {
        let Ok(Some((account, record))) = self.damaged().await else { return true };
        let now = self.shared.clock.now();
        let past = self.enrollment.cutover.is_some_and(|cutover| now >= cutover.as_second());
        let sealed = record.as_ref().is_some_and(|record| record.sealed_at.is_some());
        if sealed && !std::mem::take(&mut self.approved.late) {
            return false;
        }
        // Nothing is dropped before there is a number for what stays: that it is sealed, above all.
        let Ok(id) = self.shared.store.new_account_id() else { return true };
        let mut edits = vec![Edit::DropAccount(account)];
        // Whoever has no record and is past the cutover is asked for (`new_account`).
        if let Some(record) = record.filter(|_| sealed || !past) {
            let phase = if sealed { Phase::Archiving } else { Phase::Enrolled };
            let first_copy_completed = false;
            edits.push(Edit::PutAccount(AccountRecord {
                id,
                phase,
                first_copy_completed,
                ..record
            }));
        }
        if self.writer.commit(edits).await.is_ok() {
            self.learned = None;
            let text = format!("{damage}: what was known of this account is let go");
            self.emit(Entry::new(Event::CheckpointLost, text).reason("checkpoint_unreadable"));
        }
        true
    }

    /// The account in the store, if it is damaged there. What a write left half done passes for
    /// damage until the store is open again, as it is after a write that succeeds.
    async fn damaged(&self) -> Result<Option<(AccountId, Option<AccountRecord>)>, StoreError> {
        self.writer.flush().await?;
        let (store, address) = (&self.shared.store, &self.enrollment.address);
        let Some(account) = store.account_id(address)? else { return Ok(None) };
        match store.check(account) {
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                Ok(Some((account, store.account(address).ok().flatten())))
            }
            checked => checked.map(|()| None),
        }
    }

    /// Waits and tries again; the journal hears of it when the reason changes.
    pub(super) async fn retry(&mut self, trouble: Trouble, delay: Duration) -> Flow {
        let next = self.shared.clock.now() + delay.as_secs() as i64;
        self.shared.retries.count(&self.enrollment.migration.name, trouble.code);
        let reason = self.board.reason_of(&trouble, Some(next));
        self.board.unwell("retrying", reason);
        self.board.rest();
        // A connection that is simply cut now and then is no news.
        let newsworthy = self.attempts > 1 || trouble.remedy != Remedy::Account;
        let told = Some(("retrying", trouble.code));
        if self.told != told && newsworthy {
            self.told = told;
            let text = format!("{}{}", told_side(&trouble), trouble.message);
            self.emit(Entry::new(Event::AccountRetrying, text).reason(trouble.code));
        }
        self.wait(Some(delay)).await
    }

    /// Holds the account until something changes, or until `until`.
    pub(super) async fn hold(&mut self, trouble: Trouble, until: Option<Duration>) -> Flow {
        self.announce_hold(trouble, until);
        self.wait(until).await
    }

    /// A password that has worked until the cutover and is refused within its window holds nobody:
    /// providers that change over refuse everybody then.
    fn announce_hold(&mut self, trouble: Trouble, until: Option<Duration>) {
        let is_expected = until.is_some()
            && trouble.remedy == Remedy::Credentials
            && self.suspect.is_expected(self.in_cutover_window());
        let condition = if is_expected { "retrying" } else { "held" };
        let next = until.map(|until| self.shared.clock.now() + until.as_secs() as i64);
        let reason = self.board.reason_of(&trouble, next);
        self.board.unwell(condition, reason);
        self.board.rest();
        let told = Some((condition, trouble.code));
        if self.told == told {
            return;
        }
        self.told = told;
        let (side, words) = (told_side(&trouble), &trouble.message);
        let (event, text) = match trouble.code {
            _ if is_expected => (Event::AccountRetrying, format!("{side}{words}")),
            // Who is early needs nobody's help.
            "window_not_open" => {
                (Event::EnrollmentWaits, format!("{side}{words} – {}", trouble.hint))
            }
            _ => (Event::AccountHeld, format!("{side}{words} – {}", trouble.hint)),
        };
        self.emit(Entry::new(event, text).reason(trouble.code));
    }

    /// The account's own password was refused: it is not tried again until it changes, or, where
    /// it has worked before, much later.
    async fn refused(&mut self, trouble: Trouble, side: Side, book: Option<&mut Book>) -> Flow {
        let mut worked = false;
        if let Some(book) = book {
            worked = book.record.worked_credentials == Some(self.worked_digest());
            let now = self.shared.clock.now();
            book.record.refused_credentials = Some(refused(&self.enrollment, side, &trouble, now));
            if let Err(error) =
                self.writer.commit(vec![Edit::PutAccount(book.record.clone())]).await
            {
                let trouble = trouble::trouble(&Failure::Store(error));
                return self.retry(trouble, jittered(&self.shared, self.attempts)).await;
            }
        }
        let pause = self.suspect.refused(worked, self.in_cutover_window());
        self.announce_hold(trouble, pause);
        let host = self.shared.hosts.host(&endpoint(&self.enrollment, side).host);
        let address = self.enrollment.address.clone();
        tokio::select! {
            biased;
            flow = self.wait(pause) => {
                if flow == Flow::Stop {
                    return flow;
                }
                if pause.is_none() {
                    // Whatever was ordered, it was not time that passed: see `ordered`.
                    return flow;
                }
            }
            () = host.pardoned(&address) => {}
        }
        self.forgive().await;
        Flow::Go
    }

    /// An operator asked: refused credentials may be tried once more.
    pub(super) async fn forgive(&mut self) {
        self.attempts = 0;
        if let Some(learned) = &mut self.learned {
            learned.archive.forgive();
            learned.deferred = Default::default();
        }
        let services = &self.shared.refused_services;
        let name = &self.enrollment.migration.name;
        services.lock().expect("no panic while held").retain(|(migration, _)| migration != name);
        if let Ok(Some(mut record)) = self.shared.store.account(&self.enrollment.address)
            && record.refused_credentials.take().is_some()
        {
            // If this cannot be written, the refusal stands, and the journal says why.
            let _ = self.writer.commit(vec![Edit::PutAccount(record)]).await;
        }
    }

    fn in_cutover_window(&self) -> bool {
        self.is_in_cutover_window(self.shared.clock.now())
    }

    pub(super) fn is_in_cutover_window(&self, at: i64) -> bool {
        let window = self.enrollment.migration.cutover_window.as_secs() as i64;
        self.enrollment.cutover.is_some_and(|cutover| {
            let cutover = cutover.as_second();
            (cutover..cutover + window).contains(&at)
        })
    }

    async fn service_refused(&mut self, trouble: Trouble, side: Side) -> Flow {
        tell_service_refused(&self.shared, &self.enrollment, side, &trouble.message);
        self.told = Some(("held", "service_login_rejected"));
        let hint = "Mend the migration's service_login and reload.";
        self.hold(Trouble { code: "service_login_rejected", hint, ..trouble }, None).await
    }

    fn has_service_login(&self, side: Side) -> bool {
        service_login(&self.enrollment, side).is_some()
    }

    /// Tells these credentials from others without keeping them.
    pub(super) fn credentials_digest(&self, side: Side) -> [u8; 16] {
        credentials_digest(&self.enrollment, side)
    }

    pub(super) fn worked_digest(&self) -> [u8; 16] {
        worked_digest(&self.enrollment)
    }
}

/// Did the target refuse an APPEND for its content?
fn is_refused_append(failure: &Failure) -> bool {
    match failure {
        Failure::Imap(Side::Target, Error::No { command: "APPEND", code, text }) => {
            trouble::blame(code.as_ref(), text) != Blame::Elsewhere
        }
        Failure::Imap(Side::Target, Error::Bad { command: "APPEND", text }) => {
            !trouble::is_throttled(text)
        }
        _ => false,
    }
}

/// What the journal and status say of credentials refused in an earlier life.
pub fn refused_before(refused: &Refused) -> Trouble {
    let (code, words) = refused.text.split_once(": ").unwrap_or(("", &refused.text));
    let codes = ["credentials_expired", "second_factor_suspected", "imap_disabled"];
    let known = codes.into_iter().find(|known| *known == code);
    Trouble {
        code: known.unwrap_or("credentials_rejected"),
        side: Some(at_side(refused.at_target)),
        message: words.to_owned(),
        hint: "Ask the owner for the current password and drop the enrollment again.",
        remedy: Remedy::Credentials,
    }
}

fn told_side(trouble: &Trouble) -> String {
    trouble.side.map_or_else(String::new, |side| format!("{side}: "))
}

pub(super) fn at_side(at_target: bool) -> Side {
    if at_target { Side::Target } else { Side::Source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_password_that_has_worked_is_tried_again_later_and_sooner_within_the_window() {
        for (in_window, minutes) in [
            ([false; 4], [60, 360, 360, 360]),
            ([true; 4], [5, 15, 30, 60]),
            // Refused before the cutover: nobody's change-over explains that.
            ([false, true, true, true], [60, 60, 60, 60]),
            ([true, true, false, false], [5, 15, 360, 360]),
        ] {
            let mut suspect = Suspect::default();
            for (in_window, minutes) in in_window.into_iter().zip(minutes) {
                assert_eq!(suspect.refused(true, in_window), Some(minutes * MINUTE));
            }
        }
        assert_eq!(Suspect::default().refused(false, true), None, "it never worked");
        let mut suspect = Suspect::default();
        assert_eq!(suspect.remembered(2 * MINUTE, true), 3 * MINUTE);
        assert!(suspect.is_expected(true) && !suspect.is_expected(false));
    }
}
