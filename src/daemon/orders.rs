//! What operators order over the control socket.

use super::accounts::Untaken;
use super::control::{Command, Reply};
use super::proofs::Whose;
use super::protocol::{Answer, Consent, Request, exit};
use super::supervisor::Supervisor;
use crate::journal::{Entry, Event, shown};
use crate::sync::account::Order;
use crate::sync::verify::Options;

impl Supervisor {
    pub(super) fn obey(&mut self, command: Command) {
        let Command { request, uid, answer } = command;
        let by = uid.map_or_else(String::new, |uid| format!(" (by uid {uid})"));
        let reply = match request {
            Request::Report { address, migration } => {
                let _ = answer.send(match Whose::of(address, migration) {
                    Some(of) => self.report(of),
                    None => Reply::Answer(Answer::refuse(exit::USAGE, "whose report?")),
                });
                return;
            }
            Request::Verify { address, source, repair } => {
                let options = Options { source, repair };
                let _ = answer.send(self.verify(address, options, &by));
                return;
            }
            Request::Status {} => Answer { status: Some(self.board.status()), ..Answer::default() },
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
                self.give(&address, order, &format!("approve {what}{by}"), "approved")
            }
        };
        let _ = answer.send(Reply::Answer(reply));
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
