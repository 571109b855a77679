//! `forget`: erases what is remembered of accounts that are not enrolled any more.
//!
//! conf.d is read again first, so that who is enrolled is known as of now. An account's task ends
//! before its records go, and nothing new begins for the address until they are gone.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::block_in_place;

use super::control::Reply;
use super::decrees::Decrees;
use super::protocol::{Answer, exit};
use super::supervisor::Supervisor;
use crate::checkpoint::{Edit, Phase, Store};
use crate::journal::{Entry, Event, shown};
use crate::report;

/// A task that has been asked to stop is looked for again after this.
const AGAIN: Duration = Duration::from_millis(100);
const STEPS_MAX: usize = 64;

/// What the supervisor keeps of what is being erased.
pub(super) struct Forgetting {
    erasing: BTreeSet<String>,
    tell: mpsc::Sender<Step>,
    pub steps: mpsc::Receiver<Step>,
}

pub(super) enum Step {
    /// conf.d has been read since it was wished.
    Go(Wish),
    Erased {
        wish: Wish,
        addresses: Vec<String>,
        outcome: io::Result<usize>,
    },
}

pub(super) struct Wish {
    /// `None`: all that have completed.
    pub address: Option<String>,
    pub keep_report: bool,
    /// Who asks, for the journal.
    pub by: String,
    pub answer: oneshot::Sender<Reply>,
}

impl Wish {
    fn answer(self, answer: Answer) {
        let _ = self.answer.send(Reply::Answer(answer));
    }
}

impl Forgetting {
    pub fn new() -> Forgetting {
        let (tell, steps) = mpsc::channel(STEPS_MAX);
        Forgetting { erasing: BTreeSet::new(), tell, steps }
    }

    pub fn is_erasing(&self, address: &str) -> bool {
        self.erasing.contains(address)
    }
}

impl Supervisor {
    pub(super) fn forget(&mut self, wish: Wish) {
        let (read, is_read) = oneshot::channel();
        self.wanted.conf_dir = true;
        self.wanted.waiters.push(read);
        let tell = self.forgetting.tell.clone();
        tokio::spawn(async move {
            if is_read.await.is_ok() {
                let _ = tell.send(Step::Go(wish)).await;
            }
        });
    }

    pub(super) fn go_on_forgetting(&mut self, step: Step) {
        match step {
            Step::Go(wish) => self.erase(wish),
            Step::Erased { wish, addresses, outcome } => self.erased(wish, addresses, outcome),
        }
    }

    fn erase(&mut self, wish: Wish) {
        let active = self.snapshot.active();
        if let Some(enrollment) = wish.address.as_ref().and_then(|address| active.get(address)) {
            let (address, file) = (shown(&enrollment.address), enrollment.file.display());
            let text = format!("{address}: still enrolled by {file}: remove that file first");
            return wish.answer(Answer::refuse(exit::NO, text));
        }
        let addresses: Vec<String> = match &wish.address {
            Some(address) => vec![address.clone()],
            None => {
                let over = self.records.iter().filter(|record| record.phase == Phase::Completed);
                let over = over.map(|record| record.address.clone());
                over.filter(|address| !active.contains_key(address)).collect()
            }
        };
        let busy = |address: &String| {
            self.accounts.contains(address) || self.forgetting.is_erasing(address)
        };
        let tell = self.forgetting.tell.clone();
        if addresses.iter().any(busy) {
            tokio::spawn(async move {
                tokio::time::sleep(AGAIN).await;
                let _ = tell.send(Step::Go(wish)).await;
            });
            return;
        }
        if let Err(error) = self.drop_decrees(&addresses) {
            return wish.answer(Answer::refuse(exit::NO, shown(&error.to_string())));
        }
        self.forgetting.erasing.extend(addresses.iter().cloned());
        let (store, state_dir) = (self.shared.store.clone(), self.state_dir.clone());
        tokio::spawn(async move {
            let outcome = erase_all(&store, &state_dir, &addresses, wish.keep_report).await;
            let _ = tell.send(Step::Erased { wish, addresses, outcome }).await;
        });
    }

    fn drop_decrees(&mut self, addresses: &[String]) -> io::Result<()> {
        let mut decrees = self.decrees.clone();
        let dropped = addresses.iter().filter(|address| decrees.forget(address)).count();
        if dropped > 0 {
            block_in_place(|| decrees.save(&self.state_dir))?;
            self.decrees = decrees;
        }
        Ok(())
    }

    fn erased(&mut self, wish: Wish, addresses: Vec<String>, outcome: io::Result<usize>) {
        for address in &addresses {
            self.forgetting.erasing.remove(address);
        }
        let mut answer = match &outcome {
            Ok(0) => Answer::fine("nothing was remembered"),
            Ok(1) => Answer::fine("forgotten"),
            Ok(count) => Answer::fine(format!("{count} accounts forgotten")),
            Err(error) => Answer::refuse(exit::NO, shown(&error.to_string())),
        };
        if outcome.is_ok_and(|count| count > 0) {
            for address in &addresses {
                let text = match wish.keep_report {
                    true => format!("erased, its report kept{}", wish.by),
                    false => format!("erased{}", wish.by),
                };
                self.emit(Entry::new(Event::AccountForgotten, text).account(address));
            }
        }
        if let Some(address) = &wish.address {
            answer.message = format!("{}: {}", shown(address), answer.message);
        }
        // What could not be erased is still remembered.
        if let Ok(records) = block_in_place(|| self.shared.store.accounts()) {
            self.records = records;
        }
        let back = addresses.iter().filter_map(|address| self.snapshot.active().get(address));
        let back = back.cloned().collect();
        self.accept(back);
        self.missing = self.missing();
        self.post();
        wish.answer(answer);
    }
}

/// Erases checkpoint and, unless it is to be kept, report of each. Gives how many were known.
pub async fn erase_all(
    store: &Store,
    state_dir: &Path,
    addresses: &[String],
    keep_report: bool,
) -> io::Result<usize> {
    let mut known = 0;
    for address in addresses {
        let account = store.account_id(address)?;
        if let Some(account) = account {
            store.writer().commit(vec![Edit::DropAccount(account)]).await?;
        }
        let reports = state_dir.join("reports");
        let had_report = !keep_report && report::remove_files(&reports, address)?;
        known += usize::from(account.is_some() || had_report);
    }
    Ok(known)
}

/// Forgets accounts where no daemon works on the store: [`erase_all`], what operators decided
/// about them, and what the last daemon said of them.
pub async fn without_daemon(
    store: &Store,
    state_dir: &Path,
    addresses: &[String],
    keep_report: bool,
) -> io::Result<usize> {
    let mut decrees = Decrees::load(state_dir)?;
    if addresses.iter().filter(|address| decrees.forget(address)).count() > 0 {
        decrees.save(state_dir)?;
    }
    let known = erase_all(store, state_dir, addresses, keep_report).await?;
    addresses.iter().try_for_each(|address| super::last_state::forget(address, state_dir))?;
    Ok(known)
}
