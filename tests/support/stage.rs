//! The usual scene: one account between a source and a target, and the judgement at the end.

use std::time::Duration;

use super::compare::{Snapshot, assert_unchanged, differences};
use super::daemon::{Account, Plan, Site};
use super::dovecot::{Dovecot, Setup};
use super::imap::Imap;
use super::mail::Mail;
use super::poll;
use super::server::Server;

pub struct Stage<S = Dovecot, T = Dovecot> {
    pub account: Account,
    pub source: S,
    pub target: T,
}

impl Stage {
    /// From the Aruba layout to the Legalmail layout, over TLS.
    pub fn new(local_part: &str) -> Stage {
        Stage::between(Account::new(local_part), Dovecot::aruba(), Dovecot::legalmail())
    }

    /// Between servers of any kind; the account's users are added to them.
    pub fn between(account: Account, source: Setup, target: Setup) -> Stage {
        let source = source.user(&account.address, &account.source_password).start();
        let target = target.user(&account.target_user, &account.target_password).start();
        Stage { account, source, target }
    }
}

impl<S: Server, T: Server> Stage<S, T> {
    pub fn plan(&self) -> Plan {
        Plan::between(&self.source, &self.target)
    }

    pub fn address(&self) -> &str {
        &self.account.address
    }

    /// A session of the owner at the source.
    pub fn at_source(&self) -> Imap {
        self.source.imap(&self.account.address)
    }

    /// A session of the owner at the target.
    pub fn at_target(&self) -> Imap {
        self.target.imap(&self.account.target_user)
    }

    /// Plants mail at the source, in a folder that is made if need be.
    pub fn plant(&self, folder: &str, mails: &[Mail]) {
        let mut imap = self.at_source();
        imap.create(folder);
        for mail in mails {
            imap.append(folder, &mail.flags, &mail.date, &mail.octets);
        }
    }

    pub fn source_snapshot(&self) -> Snapshot {
        Snapshot::of(&self.source, &self.account.address)
    }

    pub fn target_snapshot(&self) -> Snapshot {
        Snapshot::of(&self.target, &self.account.target_user)
    }

    /// Where a folder of the source belongs at the target.
    pub fn target_name(&self, source_name: &str) -> String {
        self.source.names().on(&self.target.names(), source_name)
    }

    /// How the target differs from an exact copy.
    pub fn differences(&self) -> Vec<String> {
        let target_name = |name: &str| self.target_name(name);
        differences(&self.source_snapshot(), &self.target_snapshot(), target_name)
    }

    /// Fails unless the target is an exact copy.
    pub fn assert_exact(&self) {
        let found = self.differences();
        assert!(found.is_empty(), "the copy is not exact:\n  {}", found.join("\n  "));
    }

    /// Waits until the target is an exact copy.
    pub fn wait_exact(&self, what: &str, seconds: u64) {
        let mut last = Vec::new();
        let exact = poll(Duration::from_secs(seconds), || {
            last = self.differences();
            last.is_empty().then_some(())
        });
        assert!(exact.is_some(), "{what}: not exact after {seconds} s:\n  {}", last.join("\n  "));
    }

    /// Enrolls, copies, cuts over a few seconds later, and ends when the account has completed.
    /// The source has to be as it was; what the target is, is for the caller to judge.
    pub fn complete(&self, plan: Plan) -> Site {
        let before = self.source_snapshot();
        let site = plan.cutover_in(Duration::from_secs(4)).write();
        let mut daemon = site.start();
        site.enroll(&self.account);
        daemon.wait_completed(120);
        drop(daemon);
        assert_unchanged(&before, &self.source_snapshot());
        site
    }
}
