//! The declaration of all events: name, MESSAGE_ID, priority and meaning, once and here.
//!
//! The catalogs in `systemd/` explain each to `journalctl -x`, and `docs/operating.md` lists them;
//! a test keeps all of them equal. A MESSAGE_ID is for ever: an event that changes its meaning
//! gets a new one (`journalctl --new-id128`).

macro_rules! events {
    ($($variant:ident, $name:literal, $id:literal, $priority:literal, $meaning:literal;)*) => {
        /// What happened, by the contract's names.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Event {
            $(#[doc = $meaning] $variant,)*
        }

        impl Event {
            pub const ALL: &[Event] = &[$(Event::$variant,)*];

            /// PECSYNC_EVENT.
            pub const fn name(self) -> &'static str {
                match self { $(Event::$variant => $name,)* }
            }

            /// MESSAGE_ID: 32 hexadecimal digits.
            pub const fn message_id(self) -> &'static str {
                match self { $(Event::$variant => $id,)* }
            }

            /// PRIORITY as syslog counts it: 3 error, 4 warning, 5 notice, 6 info, 7 debug.
            pub const fn priority(self) -> u8 {
                match self { $(Event::$variant => $priority,)* }
            }

            /// One line for the reader of the source and of the documentation.
            pub const fn meaning(self) -> &'static str {
                match self { $(Event::$variant => $meaning,)* }
            }
        }
    };
}

events! {
    DaemonStarted, "daemon_started", "601f25d226fa4724b21b3a196c1f8f4d", 5,
        "The daemon has read its configuration and works.";
    DaemonStopping, "daemon_stopping", "4b9f16863233421492d8bb6b7abe678e", 5,
        "The daemon stops; the next start resumes where it was.";
    DaemonFailed, "daemon_failed", "fe14ccab282a4158866444a103d8117a", 3,
        "The daemon cannot start or go on, and why.";
    ConfigurationReloaded, "configuration_reloaded", "78acb895e0c34799b19f4b93d6ebecb8", 5,
        "Settings, migrations and enrollments were read again.";
    ConfigurationRejected, "configuration_rejected", "d7d2ee9abacd4a74b66ae7a92307b564", 4,
        "pecsync.toml or a file of migrations.d is wrong; the settings in use stay.";
    ConfigurationWarning, "configuration_warning", "e6a537a24935497bbb9625221da363ee", 4,
        "Something in the configuration that stops nothing but should be known.";
    EnrollmentAccepted, "enrollment_accepted", "4c9cc4d9ad9d4c868233b26440cf084b", 5,
        "A file of conf.d asks for an account to be moved, and it begins.";
    EnrollmentWaits, "enrollment_waits", "411302b51b654a31a7a0a5c84b08c85f", 5,
        "The enrolling window of the migration is not open yet: the account begins when it opens.";
    EnrollmentReplaced, "enrollment_replaced", "d92d8230ee434fbe8708192505554a63", 5,
        "A new version of an enrollment takes effect.";
    EnrollmentRejected, "enrollment_rejected", "10a678c3bd734d5a8b9b02dc53d51584", 4,
        "A file of conf.d is wrong; the last good version of it, if any, stays.";
    EnrollmentRemoved, "enrollment_removed", "d5dd2d7d0dca410b8dec55bf3d43d8e1", 5,
        "An enrollment is gone: copying stops, the checkpoint stays.";
    AccountConnected, "account_connected", "086383df351043b980a14cf3e7ed7e11", 5,
        "Both servers let the account in, and say what they offer.";
    FolderCopied, "folder_copied", "b06a0f9aba9e44619ad86e8764c7f73e", 5,
        "The first copy of a folder is complete.";
    CopyProgress, "copy_progress", "f5894465f870491292d1468a048cdf0b", 6,
        "How far a first copy has come, at intervals.";
    FirstCopyCompleted, "first_copy_completed", "30b0784f7bb24b1499c57c5e73ee4501", 5,
        "Everything the source showed is at the target; the account is followed from now on.";
    MessageCopied, "message_copied", "a0712d8785fe4d4b8629f0428b00a46a", 6,
        "A message was copied (priority 7 during a first copy).";
    MessageMoved, "message_moved", "55392f8fb04f449eb0f6310597633cb5", 6,
        "A copy was moved at the target as its message was at the source.";
    MessageRefused, "message_refused", "c702a2df12dd46bcbad99faa6da80b21", 4,
        "A server refuses this one message; it is listed, the others go on.";
    MessageAltered, "message_altered", "17182e9652e54467a3aca44debc54997", 4,
        "The target stored a message with other bytes than it was given.";
    MessageRemoved, "message_removed", "963323748e5f4003aeadfbb4ae09d900", 6,
        "A copy was removed at the target as its message was at the source.";
    FlagsChanged, "flags_changed", "32d886ca89074707a6611c4f768ec0d9", 6,
        "Flags of copies were changed at the target as at the source.";
    CopyVanished, "copy_vanished", "021e7ffe99874d17bade16789abe7be7", 4,
        "A copy vanished from the target before the cutover; it is copied again, once.";
    AppendInDoubt, "append_in_doubt", "bd925922c2944e4596863e2ea3a4ef79", 4,
        "The answer to an APPEND was lost; it is looked for before anything is repeated.";
    DuplicateSuspected, "duplicate_suspected", "a90355dd289649eb9e5e8f208d97c8df", 4,
        "The target holds a second copy that an APPEND in doubt may have left.";
    FolderConflict, "folder_conflict", "1752261c92c542dfb786e0a07418e113", 4,
        "Two source folders would become one at the target; the folder waits.";
    FolderSkipped, "folder_skipped", "740b902f1985412a97a2d70491a09098", 5,
        "A folder is not copied, and why.";
    RemovalsSuspended, "removals_suspended", "d0236c1954bf48f0a95b56bb3c0f6ca4", 4,
        "Too much vanished at the source at once: nothing is removed until approved.";
    RemovalsLapsed, "removals_lapsed", "964e03beb3dd4d2f8af9c923cf52f10c", 4,
        "Suspended removals were never approved; with the seal they no longer apply.";
    AccountRetrying, "account_retrying", "9a6f32f50aac4f6fba50cb01b050f713", 5,
        "Something fails that may mend itself; said once, tried until it does.";
    AccountRecovered, "account_recovered", "6222a5fa9fdb4156b1ebecf2f18e1f35", 5,
        "What failed works again.";
    AccountHeld, "account_held", "32846f308a944533b6862115af64b5c9", 4,
        "The account waits for somebody; the reason says for what.";
    ServiceLoginRefused, "service_login_refused", "104b1b6a14fa488e803838cb5ae1cb41", 3,
        "The service login of a migration is refused: none of its accounts can log in.";
    HostDown, "host_down", "373f2a9b765a40e4947f3c9839b83900", 4,
        "A server does not answer, or refuses everybody; one event for all its accounts.";
    HostRecovered, "host_recovered", "e77f8d9cbe4447eeb3148252f624df1a", 5,
        "A server that was down works again.";
    UidvalidityChanged, "uidvalidity_changed", "239c8d101ec1435f95e518882523cad6", 5,
        "A server renumbered a folder; links are derived again, nothing is copied twice.";
    StateRebuilt, "state_rebuilt", "02e7f36659354a7e8b9dfb2192d05816", 5,
        "What was remembered was derived again from both servers.";
    CheckpointLost, "checkpoint_lost", "457b5aabfbde4a63a78b45a6f3d1613a", 3,
        "The checkpoint store could not be read or written.";
    SecretExpiring, "secret_expiring", "2f7ab54d067e4b0496ccf8ce369e2865", 4,
        "A password expires soon.";
    CutoverScheduled, "cutover_scheduled", "18ca754140fd4ea8b37b9a756cbc9450", 5,
        "The instant at which the new provider takes over is known, or has changed.";
    CutoverStarted, "cutover_started", "f391fb78355f4c0ebffc156976aec9d9", 5,
        "The new provider takes over: the last passes begin.";
    CutoverOverdue, "cutover_overdue", "f075e6d069214fbf8db21218ee147403", 3,
        "The cutover window is over and the account's last pass is not.";
    CutoverProgress, "cutover_progress", "211ce13f8ea34d4cb25cbd1c5bbce19b", 5,
        "What remains of a migration's cutover: as it begins, hourly on the day, then daily, and at its end.";
    AccountSealed, "account_sealed", "3318fc8b94c549229424d196f549c164", 5,
        "The last reconciling pass ended: from now on only missing messages are added.";
    AccountReopened, "account_reopened", "9b1f7f4d0a6c4a55a6f1f6d1b7a1d3c2", 5,
        "An operator returned a sealed account to following: what is missing is added, nothing else.";
    AccountCompleted, "account_completed", "b355e8981761487490841ed8023ef7eb", 5,
        "Everything is at the target or listed; nothing connects to the source any more.";
    AccountClosed, "account_closed", "abde1b05b0a04efab3013aa1ca0bc6c1", 4,
        "The source may no longer be read and the account has not completed.";
    ReportWritten, "report_written", "bbf962dc22be4f18ad1eba9ec5a0bf64", 5,
        "The proof of an account's move was written into the state directory.";
    ReportFailed, "report_failed", "e61202b557c442e09a528d339d7ace95", 4,
        "The proof of an account's move could not be written; its completion stands.";
    AccountVerified, "account_verified", "1a3876bec28e4597849ae1b949a5df74", 5,
        "An operator had an account verified, and what was found.";
    AccountForgotten, "account_forgotten", "922c3c399e6f99277d3feb00fb55d09f", 5,
        "An operator had what is remembered of an account erased.";
    MigrationCompleted, "migration_completed", "9f6f4e8bcf4f435ea9ff46b0ce576ac5", 5,
        "Every account of a migration has completed, was closed or was removed; how many each, and the sums.";
    HookFailed, "hook_failed", "12b912d855d1495db3698b38328ecc0a", 4,
        "A program that is told of events failed; copying does not mind.";
    OrderReceived, "order_received", "6f9d6038021b4b2ca60efb4cf3e90361", 5,
        "An operator gave an order over the control socket.";
    StatusReported, "status_reported", "ede40cefb6574b84842bed6da34e1914", 5,
        "The state of the daemon, asked for by SIGUSR1.";
    ClockSuspect, "clock_suspect", "5e4a888dfc084b728037932ebabbd2bb", 4,
        "The clock jumped: no cutover is decided by it for a while.";
    EntriesDropped, "entries_dropped", "6a838fbe03f545d08171f514ad12586d", 4,
        "The journal was slower than events happened; so many were dropped.";
    InternalError, "internal_error", "9d815ab7639c4b3f8981e2b0763828f2", 3,
        "A fault of pecsync itself; please report it.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Event;

    #[test]
    fn names_and_ids_are_unique_and_well_formed() {
        let mut seen = HashSet::new();
        for event in Event::ALL {
            assert!(seen.insert(event.name()) && seen.insert(event.message_id()), "{event:?}");
            let id = event.message_id();
            let hex = |octet: u8| matches!(octet, b'0'..=b'9' | b'a'..=b'f');
            assert!(id.len() == 32 && id.bytes().all(hex), "{event:?}: {id}");
            assert!((3..=7).contains(&event.priority()), "{event:?}");
            assert_eq!(event.name(), snake_case(&format!("{event:?}")));
        }
    }

    fn snake_case(variant: &str) -> String {
        let mut name = String::new();
        for letter in variant.chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}
