//! What a newly read configuration changes: settings in use, accounts that come, change and go.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use jiff::Timestamp;

use super::board::Posted;
use super::protocol::{Answer, Scope, exit};
use super::reading::Reading;
use super::supervisor::{STARTS_A_TICK, Supervisor};
use super::words::{first_status, held_by_its_file, rejected_file};
use crate::checkpoint::AccountRecord;
use crate::config::{Difference, Enrollment, Migration, Problem, Roster, Settings};
use crate::journal::{Entry, Event, shown};
use crate::status::{MigrationStatus, MissingAccount};
use crate::sync::account::Order;
use crate::sync::board::contact_status;

impl Supervisor {
    /// Acts on what was read; the answer is for whoever asked for it.
    pub(super) fn take_in(&mut self, reading: Option<Reading>) -> Answer {
        let Some(reading) = reading else {
            let text = "reading the configuration failed; what was read before stays";
            self.emit(Entry::new(Event::InternalError, text).reason("internal_error"));
            return Answer::refuse(exit::NO, text);
        };
        let Reading { settings, problems, settings_are_good, .. } = &reading;
        let reloaded = settings.is_some() || !settings_are_good;
        let event = match settings_are_good {
            true => Event::ConfigurationWarning,
            false => Event::ConfigurationRejected,
        };
        for problem in problems {
            self.emit(of_file(event, problem));
        }
        match &reading.store_error {
            Some(error) => {
                let entry = Entry::new(Event::CheckpointLost, error.as_str());
                self.emit(entry.reason("checkpoint_unreadable"));
            }
            None => self.records.clone_from(&reading.records),
        }
        if let Some(settings) = settings {
            let before = std::mem::replace(&mut self.settings, settings.clone());
            self.settings_changed(&before);
        }
        let answer = self.enrollments_changed(reading);
        self.become_ready(reloaded);
        answer
    }

    fn enrollments_changed(&mut self, reading: Reading) -> Answer {
        self.snapshot = reading.snapshot;
        self.act_on(reading.differences);
        self.rejected = self.snapshot.problems().map(rejected_file).collect();
        // Whose password ends soon hears of it when it comes, not a minute later.
        self.expiry_checked_at = None;
        self.missing = self.missing();
        self.migrations = Arc::new(self.migrations());
        self.count_accounts_of_hosts();
        self.post();
        let counts = self.board.counts().to_string();
        if reading.settings.is_some() {
            let text = format!("configuration read again: {counts}");
            self.emit(Entry::new(Event::ConfigurationReloaded, text));
        }
        let problems =
            reading.problems.iter().map(rejected_file).chain(self.rejected.clone()).collect();
        let (exit, message) = match reading.settings_are_good {
            true => (exit::FINE, counts),
            false => (exit::CONFIGURATION, "the settings in use stay".to_owned()),
        };
        Answer { exit, message, problems, status: None }
    }

    fn settings_changed(&self, before: &Settings) {
        let limits = &self.settings.limits;
        self.shared.hosts.set_limits(limits);
        self.hooks.set(self.settings.hooks.clone());
        // A service login that was refused may have another password now.
        let services = &self.shared.refused_services;
        services.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let (old, new) = (before.limits.accounts_copying, limits.accounts_copying);
        if new > old {
            self.shared.copying.add_permits(new - old);
        } else {
            self.shared.copying.forget_permits(old - new);
        }
        let (old, new) = (&before.daemon, &self.settings.daemon);
        let fixed = [
            ("state_dir", old.state_dir != new.state_dir),
            ("control_socket", old.control_socket != new.control_socket),
            ("metrics_listen", old.metrics_listen != new.metrics_listen),
            ("metrics_accounts", old.metrics_accounts != new.metrics_accounts),
            ("limits.memory", before.limits.memory_bytes != limits.memory_bytes),
        ];
        for (key, _) in fixed.into_iter().filter(|(_, changed)| *changed) {
            let text = format!("a new {key} takes effect when the daemon is restarted");
            self.emit(Entry::new(Event::ConfigurationWarning, text));
        }
    }

    fn act_on(&mut self, differences: Vec<Difference>) {
        let mut accepted = Vec::new();
        for difference in differences {
            match difference {
                Difference::Accepted(enrollment) => accepted.push(enrollment),
                Difference::Replaced(configured) => {
                    let enrollment = self.decrees.applied(&configured);
                    let text = match &enrollment.owners_file {
                        None => "a new version of the enrollment takes effect".to_owned(),
                        Some(file) => format!(
                            "the password that its owner typed, in {}, takes the place of the one \
                             in it",
                            shown(&file.to_string_lossy())
                        ),
                    };
                    self.emit(of(Event::EnrollmentReplaced, &text, &enrollment));
                    let before = self.accounts.enrollment(&enrollment.address);
                    if before.is_some_and(|before| before.cutover != enrollment.cutover) {
                        self.emit(cutover_of(&enrollment));
                    }
                    self.accounts.replace(enrollment);
                }
                // The login may have been refused for another reason than the password.
                Difference::Repeated(enrollment) => {
                    let _ = self.accounts.order(&enrollment.address, Order::Retry);
                }
                Difference::Removed(enrollment) => {
                    let text = "the enrollment is gone: copying stops, the checkpoint stays";
                    self.emit(of(Event::EnrollmentRemoved, text, &enrollment));
                    self.accounts.remove(&enrollment.address);
                }
                Difference::Rejected(problem) => {
                    let entry = of_file(Event::EnrollmentRejected, &problem);
                    self.emit(entry.reason("enrollment_rejected"));
                }
            }
        }
        self.accept(accepted);
    }

    /// The freshest cutover first, whether it is to come or just gone; without one, last.
    pub(super) fn accept(&mut self, mut accepted: Vec<Arc<Enrollment>>) {
        // Until what was there is erased, nothing new may be built on it.
        accepted.retain(|enrollment| !self.forgetting.is_erasing(&enrollment.address));
        let now = Timestamp::now().as_second();
        for enrollment in &mut accepted {
            *enrollment = self.decrees.applied(enrollment);
        }
        accepted.sort_by_cached_key(|enrollment| match enrollment.cutover {
            Some(cutover) => (false, (cutover.as_second() - now).abs()),
            None => (true, 0),
        });
        let by_address = self.records.iter().map(|record| (record.address.as_str(), record));
        let records: HashMap<&str, &AccountRecord> = by_address.collect();
        for enrollment in accepted {
            let record = records.get(enrollment.address.as_str()).copied();
            let text = match record {
                Some(record) => format!("known, phase {}", record.phase.as_str()),
                None => "a new account".to_owned(),
            };
            let mut announcements = vec![of(Event::EnrollmentAccepted, &text, &enrollment)];
            if record.is_none() && enrollment.cutover.is_some() {
                announcements.push(cutover_of(&enrollment));
            }
            let status = first_status(&enrollment, record);
            self.accounts.accept(enrollment, status, announcements);
        }
        self.accounts.start_some(STARTS_A_TICK);
    }

    /// What two per cent are taken of.
    fn count_accounts_of_hosts(&self) {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for migration in self.settings.migrations.values() {
            let accounts = self.accounts.count_of(&migration.name);
            *counts.entry(&migration.source.host).or_default() += accounts;
            *counts.entry(&migration.target.host).or_default() += accounts;
            if let Some(archive) = &migration.archive {
                *counts.entry(&archive.source.host).or_default() += accounts;
            }
        }
        for (host, accounts) in &counts {
            self.shared.hosts.host(host).set_accounts(*accounts);
        }
        let is_wanted = |name: &str| counts.keys().any(|host| host.eq_ignore_ascii_case(name));
        self.shared.hosts.retain(is_wanted);
    }

    /// Who stands in a migration's accounts and has neither a file nor a past.
    pub(super) fn missing(&self) -> Vec<String> {
        let rejected = self.snapshot.rejected().filter_map(|file| file.address);
        let mut there: HashSet<&str> = rejected.collect();
        there.extend(self.records.iter().map(|record| record.address.as_str()));
        there.extend(self.snapshot.active().keys().map(String::as_str));
        let rosters = self.settings.migrations.values().filter_map(|m| m.accounts.as_deref());
        let listed = rosters.flat_map(Roster::iter).map(|(address, _)| address);
        let missing = listed.filter(|address| {
            !there.contains(address) && self.shared.completed.get(address).is_none()
        });
        let mut missing: Vec<String> = missing.map(str::to_owned).collect();
        missing.sort();
        missing
    }

    /// What `status` shows of each migration. Who is missing was found out before.
    pub(super) fn migrations(&self) -> Vec<MigrationStatus> {
        let shown = |migration: &Arc<Migration>| {
            let instant = |at: Option<Timestamp>| at.map(|at| at.to_string());
            let scope = Scope::Migration(migration.name.clone());
            let roster = migration.accounts.as_deref();
            let missing = |address: &String| {
                let row = roster.and_then(|roster| roster.get(address))?;
                let contact = contact_status(&row.contact);
                Some(MissingAccount { address: address.clone(), contact })
            };
            MigrationStatus {
                name: migration.name.clone(),
                timezone: migration.timezone.clone(),
                enroll_until: instant(migration.enroll_until),
                cutover: instant(self.decrees.cutover_of(migration)),
                cutover_window_s: migration.cutover_window.as_secs(),
                source_until: instant(migration.source_until),
                paused: self.decrees.is_paused(&scope),
                listed: roster.map(|roster| roster.iter().count() as u64),
                missing: self.missing.iter().filter_map(missing).collect(),
            }
        };
        self.settings.migrations.values().map(shown).collect()
    }

    /// Tells the board which accounts there are.
    pub(super) fn post(&self) {
        let absent = self.records.iter().filter(|record| !self.accounts.contains(&record.address));
        let held = absent.filter_map(|record| {
            let migration = self.settings.migrations.get(&record.migration);
            let cutover = migration.and_then(|migration| self.decrees.cutover_of(migration));
            let roster = migration.and_then(|migration| migration.accounts.as_deref());
            let listed = roster.and_then(|roster| roster.get(&record.address));
            held_by_its_file(record, &self.snapshot, cutover, listed)
        });
        self.board.post(Posted {
            cells: self.accounts.cells(),
            held: held.collect(),
            rejected: self.rejected.clone(),
            missing: self.missing.clone(),
            migrations: self.migrations.clone(),
        });
    }

    fn become_ready(&mut self, reloaded: bool) {
        if let Some(ready) = self.ready.take() {
            let counts = self.board.counts();
            let text = format!("pecsync {} started: {counts}", env!("CARGO_PKG_VERSION"));
            self.emit(Entry::new(Event::DaemonStarted, text));
            let _ = ready.send(());
            self.notifier.ready();
        } else if reloaded {
            self.notifier.ready();
        }
    }
}

fn of(event: Event, text: &str, enrollment: &Enrollment) -> Entry {
    let entry = Entry::new(event, text).account(&enrollment.address);
    entry.migration(&enrollment.migration.name).file(&enrollment.file, 0)
}

pub(super) fn cutover_of(enrollment: &Enrollment) -> Entry {
    let text = match enrollment.cutover {
        Some(cutover) => format!("cutover at {cutover}"),
        None => "no cutover any more: followed for ever".to_owned(),
    };
    of(Event::CutoverScheduled, &text, enrollment)
}

fn of_file(event: Event, problem: &Problem) -> Entry {
    Entry::new(event, problem.to_string()).file(&problem.file, problem.line)
}
