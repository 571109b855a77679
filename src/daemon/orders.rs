//! What operators order over the control socket.

use std::sync::Arc;

use jiff::Timestamp;

use super::accounts::Untaken;
use super::changes::cutover_of;
use super::control::{Command, Reply};
use super::decrees::Decrees;
use super::forget::Wish;
use super::proofs::Whose;
use super::protocol::{Answer, Consent, Request, Scope, exit};
use super::supervisor::Supervisor;
use crate::config::dates::{self, BareDay};
use crate::config::{Enrollment, Wrong};
use crate::journal::{Entry, Event, shown};
use crate::sync::account::Order;
use crate::sync::verify::Options;

impl Supervisor {
    pub(super) fn obey(&mut self, command: Command) {
        let Command { request, uid, answer } = command;
        let by = uid.map_or_else(String::new, |uid| format!(" (by uid {uid})"));
        let reply = match request {
            Request::Pause { of } => self.pause(folded(of), &by),
            Request::Resume { of } => self.resume(folded(of), &by),
            Request::Cutover { of, at } => self.move_cutover(folded(of), at.as_deref(), &by),
            Request::Reopen { of } => self.reopen(folded(of), &by),
            Request::Report { address, migration } => {
                let _ = answer.send(match Whose::of(address, migration) {
                    Some(of) => self.report(of),
                    None => Reply::Answer(Answer::refuse(exit::USAGE, "whose report?")),
                });
                return;
            }
            Request::Inspect { addresses } => {
                let _ = answer.send(self.inspect(&addresses));
                return;
            }
            Request::Plan { address } => {
                let _ = answer.send(self.plan(&address));
                return;
            }
            Request::Forget { address, keep_report } => {
                let address = address.map(|address| address.to_lowercase());
                self.forget(Wish { address, keep_report, by, answer });
                return;
            }
            Request::Verify { address, source, repair } => {
                let options = Options { source, repair };
                let _ = answer.send(self.verify(address, options, &by));
                return;
            }
            Request::Status(wanted) => {
                let status = self.board.status_of(&wanted);
                Answer { status: Some(status.into()), ..Answer::default() }
            }
            Request::Reload {} => {
                self.emit(Entry::new(Event::OrderReceived, format!("reload{by}")));
                self.wanted.settings = true;
                self.wanted.waiters.push(answer);
                return;
            }
            Request::Retry { address: None } => {
                self.emit(Entry::new(Event::OrderReceived, format!("retry all accounts{by}")));
                let woken = self.accounts.retry_all();
                Answer::fine(format!("{woken} account{} woken", if woken == 1 { "" } else { "s" }))
            }
            Request::Retry { address: Some(address) } => {
                self.give(&address, Order::Retry, &format!("retry{by}"), "woken")
            }
            Request::Approve { address, what } => {
                let (order, what) = match what {
                    Consent::Deletions => (Order::ApproveDeletions, "deletions"),
                    Consent::Endpoint => (Order::ApproveEndpoint, "endpoint"),
                    Consent::Late => (Order::ApproveLate, "late"),
                    Consent::Completed => (Order::ApproveCompleted, "completed"),
                };
                match (order, self.is_remembered(&address)) {
                    (Order::ApproveCompleted, true) => Answer::refuse(
                        exit::NO,
                        format!(
                            "{}: what was copied is remembered: pecsync reopen adds what is missing",
                            shown(&address)
                        ),
                    ),
                    (order, _) => {
                        self.give(&address, order, &format!("approve {what}{by}"), "approved")
                    }
                }
            }
        };
        let _ = answer.send(Reply::Answer(reply));
    }

    fn pause(&mut self, of: Scope, by: &str) -> Answer {
        let text = format!("pause {of}{by}");
        self.decree(&of, &text, "paused", |decrees| match decrees.pause(of.clone()) {
            true => Ok(()),
            false => Err("it is paused already".to_owned()),
        })
    }

    fn resume(&mut self, of: Scope, by: &str) -> Answer {
        let text = format!("resume {of}{by}");
        let accounts = self.snapshot.active();
        let wider = match &of {
            Scope::Account(address) => accounts.get(address).and_then(|enrollment| {
                self.decrees.pause_of(enrollment).filter(|wider| **wider != of).cloned()
            }),
            _ => None,
        };
        self.decree(&of, &text, "resumed", |decrees| match (decrees.resume(&of), wider) {
            (_, Some(wider)) => Err(format!("it is paused with {wider}: resume that")),
            (true, None) => Ok(()),
            (false, None) => Err("it is not paused".to_owned()),
        })
    }

    /// Moves the cutover of those that are not sealed; who is stays so.
    fn move_cutover(&mut self, of: Scope, at: Option<&str>, by: &str) -> Answer {
        let (migration, configured) = match &of {
            Scope::Account(address) => match self.snapshot.active().get(address) {
                Some(enrollment) => (enrollment.migration.clone(), enrollment.cutover),
                None => return nobody(&of),
            },
            Scope::Migration(name) => match self.settings.migrations.get(name) {
                Some(migration) => (migration.clone(), migration.cutover),
                None => return nobody(&of),
            },
            Scope::Host(_) => {
                let text = "a cutover belongs to an account or a migration";
                return Answer::refuse(exit::USAGE, text);
            }
        };
        let to = match at.map(|at| instant_in(at, &migration.timezone)).transpose() {
            Ok(to) => to.unwrap_or_else(Timestamp::now),
            Err(wrong) => return Answer::refuse(exit::USAGE, wrong.to_string()),
        };
        if migration.source_until.is_some_and(|until| to > until) {
            let text = format!("{to} is after source_until of the migration: move that first");
            return Answer::refuse(exit::NO, text);
        }
        let text = format!("cutover of {of} moved to {to}{by}");
        let done = format!("cutover at {to}");
        let answer = self.decree(&of, &text, &done, |decrees| {
            decrees.move_cutover(of.clone(), to, configured);
            Ok(())
        });
        let sealed = self.sealed(&of).len();
        match sealed {
            0 => answer,
            _ if answer.exit != exit::FINE => answer,
            _ => {
                let message = format!("{}; {sealed} sealed already stay so", answer.message);
                Answer { message, ..answer }
            }
        }
    }

    fn reopen(&mut self, of: Scope, by: &str) -> Answer {
        let sealed = self.sealed(&of);
        if sealed.is_empty() {
            let known = !self.concerned(&of).is_empty();
            let text = "nobody is sealed: nothing is to be reopened";
            return if known {
                Answer::refuse(exit::NO, format!("{of}: {text}"))
            } else {
                nobody(&of)
            };
        }
        let now = Timestamp::now();
        let over = sealed.iter().any(|address| {
            let until = self.snapshot.active()[address].migration.source_until;
            until.is_some_and(|until| now >= until)
        });
        if over {
            let text = format!("{of}: source_until has passed: move it first, and reload");
            return Answer::refuse(exit::NO, text);
        }
        let text = format!("reopen {of}{by}");
        self.decree(&of, &text, "reopened", |decrees| {
            sealed.iter().for_each(|address| decrees.reopen(address, now));
            Ok(())
        })
    }

    /// Changes the decrees, durably, and has them take effect on the accounts they concern.
    fn decree(
        &mut self,
        of: &Scope,
        text: &str,
        done: &str,
        change: impl FnOnce(&mut Decrees) -> Result<(), String>,
    ) -> Answer {
        let concerned = self.concerned(of);
        if concerned.is_empty() && !self.is_known(of) {
            return nobody(of);
        }
        let mut decrees = self.decrees.clone();
        if let Err(why_not) = change(&mut decrees) {
            return Answer::refuse(exit::NO, format!("{}: {why_not}", shown(&of.to_string())));
        }
        // A small file, at an operator's word: worth a turn of this loop.
        let state_dir = &self.state_dir;
        if let Err(error) = tokio::task::block_in_place(|| decrees.save(state_dir)) {
            let file = Decrees::file(state_dir);
            return Answer::refuse(exit::NO, format!("{}: {error}", file.display()));
        }
        self.decrees = decrees;
        let mut entry = Entry::new(Event::OrderReceived, text);
        match of {
            Scope::Account(address) => entry = entry.account(address),
            Scope::Migration(name) => entry = entry.migration(name),
            Scope::Host(host) => entry = entry.host(host),
        }
        self.emit(entry);
        let mut changed = 0;
        for address in concerned {
            let Some(configured) = self.snapshot.active().get(&address) else { continue };
            let enrollment = self.decrees.applied(configured);
            let Some(before) = self.accounts.enrollment(&address) else { continue };
            let new_cutover = before.cutover != enrollment.cutover;
            if !new_cutover && before.decree == enrollment.decree {
                continue;
            }
            changed += 1;
            if new_cutover && matches!(of, Scope::Account(_)) {
                self.emit(cutover_of(&enrollment));
            }
            self.accounts.replace(enrollment);
        }
        self.migrations = Arc::new(self.migrations());
        self.post();
        let name = shown(&of.to_string());
        match of {
            Scope::Account(_) => Answer::fine(format!("{name}: {done}")),
            _ => Answer::fine(format!("{name}: {done} ({changed} accounts)")),
        }
    }

    /// Addresses of the active accounts that a scope covers.
    fn concerned(&self, of: &Scope) -> Vec<String> {
        let covers = |enrollment: &&Arc<Enrollment>| match of {
            Scope::Account(address) => enrollment.address == *address,
            Scope::Migration(name) => enrollment.migration.name == *name,
            Scope::Host(host) => {
                let migration = &enrollment.migration;
                migration.source.host == *host || migration.target.host == *host
            }
        };
        let active = self.snapshot.active().values().filter(covers);
        active.map(|enrollment| enrollment.address.clone()).collect()
    }

    fn is_known(&self, of: &Scope) -> bool {
        let mut migrations = self.settings.migrations.values();
        match of {
            Scope::Account(_) => false,
            Scope::Migration(name) => self.settings.migrations.contains_key(name),
            Scope::Host(host) => migrations
                .any(|migration| migration.source.host == *host || migration.target.host == *host),
        }
    }

    /// Does the checkpoint know the account?
    fn is_remembered(&self, address: &str) -> bool {
        let known = self.shared.store.account(&address.to_lowercase());
        known.is_ok_and(|record| record.is_some())
    }

    /// Those of a scope that are past their seal.
    fn sealed(&self, of: &Scope) -> Vec<String> {
        let mut concerned = self.concerned(of);
        concerned.retain(|address| self.accounts.is_sealed(address));
        concerned
    }

    fn give(&mut self, address: &str, order: Order, text: &str, done: &str) -> Answer {
        let address = address.to_lowercase();
        let name = shown(&address);
        let why_not = match self.accounts.order(&address, order) {
            Ok(()) => {
                self.emit(Entry::new(Event::OrderReceived, text).account(&address));
                self.post();
                return Answer::fine(format!("{name}: {done}"));
            }
            Err(Untaken::Over) => "it has completed or is closed: nothing waits",
            Err(Untaken::Busy) => "it is busy stopping or has too many orders: try again soon",
            Err(Untaken::Unknown) if self.board.knows(&address) => {
                "its enrollment is rejected: mend the file"
            }
            Err(Untaken::Unknown) => "no such account",
        };
        Answer::refuse(exit::NO, format!("{name}: {why_not}"))
    }
}

fn nobody(of: &Scope) -> Answer {
    let text = match of {
        Scope::Account(_) => "no such account",
        Scope::Migration(_) => "no such migration",
        Scope::Host(_) => "no migration has that host",
    };
    Answer::refuse(exit::NO, format!("{}: {text}", shown(&of.to_string())))
}

fn folded(of: Scope) -> Scope {
    match of {
        Scope::Account(address) => Scope::Account(address.to_lowercase()),
        Scope::Host(host) => Scope::Host(host.to_lowercase()),
        Scope::Migration(name) => Scope::Migration(name),
    }
}

/// As in the configuration: local time in the migration's zone where there is no offset.
fn instant_in(text: &str, timezone: &str) -> Result<Timestamp, Wrong> {
    dates::instant_of_text(text, &dates::zone(timezone)?, BareDay::FirstInstant)
}
