//! The one that writes: it merges waiting requests into one batch, applies it, makes it durable,
//! then acknowledges. It blocks while it does, so it has a thread of its own; over a store in
//! memory it is a task.

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::Edit;
use super::disk::{Disk, Refusal};
use super::opening;
use super::staged::{Changes, Staged};
use super::sums;
use super::witness::Witness;

/// Requests of a batch.
const GROUP_REQUESTS_MAX: usize = 128;
/// Edits from which a group takes no more requests: bounds the memory of a batch.
const GROUP_EDITS_MAX: usize = 8_192;
/// Requests that may wait; who has one more waits with it.
const QUEUE_REQUESTS_MAX: usize = 128;
/// A full disk is tried again this often.
const MEND_EVERY: Duration = Duration::from_secs(2);
/// How long edits for which nobody waits are gathered.
const LAZY_WAIT: Duration = Duration::from_millis(200);

/// Edits to be applied together, in the order in which they were queued.
pub(super) struct Request {
    pub(super) edits: Vec<Edit>,
    /// Who waits for them to be durable; `None` for lazy ones.
    pub(super) awaited: Option<oneshot::Sender<io::Result<()>>>,
    pub(super) lost: Lost,
}

/// What became of a writer's lazy edits, for its next commit.
#[derive(Clone, Default)]
pub(super) struct Lost(Arc<Mutex<Option<Failure>>>);

/// An error that can be told to several.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    kind: ErrorKind,
    text: Arc<str>,
}

pub(super) type Requests = mpsc::Sender<Request>;

/// Starts the thread. It ends when all senders are gone and what they queued is durable.
pub(super) fn start(disk: Arc<Disk>, witness: Witness) -> io::Result<(Requests, JoinHandle<()>)> {
    let (sender, committer) = committer(disk, Some(witness));
    let runtime = runtime::Builder::new_current_thread().enable_time().build()?;
    let thread = thread::Builder::new().name("committer".into());
    let thread = thread.spawn(move || runtime.block_on(committer.run()))?;
    Ok((sender, thread))
}

/// The same as a task of the runtime at hand, and under its clock.
pub(super) fn spawn(disk: Arc<Disk>) -> Requests {
    let (sender, committer) = committer(disk, None);
    tokio::spawn(committer.run());
    sender
}

fn committer(disk: Arc<Disk>, witness: Option<Witness>) -> (Requests, Committer) {
    let (sender, requests) = mpsc::channel(QUEUE_REQUESTS_MAX);
    (sender, Committer { disk, witness, requests, broken: None })
}

struct Committer {
    disk: Arc<Disk>,
    witness: Option<Witness>,
    requests: mpsc::Receiver<Request>,
    broken: Option<Broken>,
}

/// After a failed write nobody knows what is on the disk: all that follows is refused until the
/// store is opened again. Where the disk was full, the committer does so itself.
struct Broken {
    failure: Failure,
    tried_at: Instant,
}

impl Committer {
    async fn run(mut self) {
        while let Some(group) = self.next_group().await {
            let settled = catch_unwind(AssertUnwindSafe(|| self.settle(group)));
            if settled.is_err() {
                let failure = Failure::of(&io::Error::other("the committer panicked"));
                self.broken = Some(Broken { failure, tried_at: Instant::now() });
            }
        }
    }

    /// Whatever waits, up to the bounds. Where nobody waits for it to be durable, a little more
    /// is waited for: neighbouring links share a chunk.
    async fn next_group(&mut self) -> Option<Vec<Request>> {
        let mut group = vec![self.first_request().await?];
        let deadline = Instant::now() + LAZY_WAIT;
        while !is_full(&group) {
            let next = match self.requests.try_recv() {
                Ok(request) => Some(request),
                Err(_) if group.iter().any(|request| request.awaited.is_some()) => None,
                Err(_) => timeout_at(deadline, self.requests.recv()).await.ok().flatten(),
            };
            match next {
                Some(request) => group.push(request),
                None => break,
            }
        }
        Some(group)
    }

    /// Waits for it, and for room while there is none: a store that is closed cannot even be read.
    async fn first_request(&mut self) -> Option<Request> {
        while self.broken.as_ref().is_some_and(Broken::is_full) {
            match timeout(MEND_EVERY, self.requests.recv()).await {
                Ok(request) => return request,
                Err(_) => self.mend(),
            }
        }
        self.requests.recv().await
    }

    fn settle(&mut self, group: Vec<Request>) {
        self.mend();
        if let Some(Broken { failure, .. }) = &self.broken {
            group.into_iter().for_each(|request| request.answer(Err(failure.clone())));
            return;
        }
        let (entered, changes) = self.stage(group);
        let outcome = self.make_durable(changes).map_err(|error| Failure::of(&error));
        let broken = |failure| Broken { failure, tried_at: Instant::now() };
        self.broken = outcome.as_ref().err().cloned().map(broken);
        entered.into_iter().for_each(|request| request.answer(outcome.clone()));
    }

    /// There may be room again. Whether there is shows when the next group is written.
    fn mend(&mut self) {
        let due = |broken: &&mut Broken| {
            broken.failure.kind == ErrorKind::StorageFull && broken.tried_at.elapsed() >= MEND_EVERY
        };
        let Some(broken) = self.broken.as_mut().filter(due) else { return };
        match opening::open_again(&self.disk) {
            Ok(witness) => (self.witness, self.broken) = (Some(witness), None),
            Err(Refusal::Damaged(damage)) => {
                let error = io::Error::new(ErrorKind::InvalidData, damage);
                broken.failure = Failure::of(&error);
            }
            Err(Refusal::Locked | Refusal::Failed(_)) => broken.tried_at = Instant::now(),
        }
    }

    fn make_durable(&mut self, mut changes: Changes) -> io::Result<()> {
        sums::include(&self.disk, &mut changes)?;
        if let Some(witness) = &self.witness {
            let (key, count) = witness.next();
            changes.insert(key, Some(count));
        }
        self.disk.apply(changes)?;
        self.disk.sync()?;
        self.witness.as_mut().map_or(Ok(()), Witness::confirm)
    }

    /// Stages what can be staged and answers the rest.
    fn stage(&self, group: Vec<Request>) -> (Vec<Request>, Changes) {
        let mut staged = Staged::on(&self.disk);
        let mut entered = Vec::with_capacity(group.len());
        for mut request in group {
            let edits = std::mem::take(&mut request.edits);
            let may_enter = request.check_lost();
            match may_enter.and_then(|()| staged.enter(edits).map_err(|e| Failure::of(&e))) {
                Ok(()) => entered.push(request),
                Err(failure) => request.answer(Err(failure)),
            }
        }
        (entered, staged.into_changes())
    }
}

impl Broken {
    fn is_full(&self) -> bool {
        self.failure.kind == ErrorKind::StorageFull
    }
}

fn is_full(group: &[Request]) -> bool {
    let edits: usize = group.iter().map(|request| request.edits.len()).sum();
    group.len() >= GROUP_REQUESTS_MAX || edits >= GROUP_EDITS_MAX
}

impl Request {
    /// Once lazy edits are lost, nothing of the same writer is applied before it has been told:
    /// what comes next may build on them.
    fn check_lost(&self) -> Result<(), Failure> {
        let mut lost = self.lost.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = if self.awaited.is_some() { lost.take() } else { lost.clone() };
        failure.map_or(Ok(()), Err)
    }

    fn answer(self, outcome: Result<(), Failure>) {
        match (self.awaited, outcome) {
            // Who no longer waits needs no answer.
            (Some(waiting), outcome) => drop(waiting.send(outcome.map_err(Failure::into_error))),
            (None, Ok(())) => {}
            (None, Err(failure)) => {
                let mut lost = self.lost.0.lock().unwrap_or_else(PoisonError::into_inner);
                lost.get_or_insert(failure);
            }
        }
    }
}

impl Failure {
    fn of(error: &io::Error) -> Failure {
        Failure { kind: error.kind(), text: error.to_string().into() }
    }

    fn into_error(self) -> io::Error {
        io::Error::new(self.kind, &*self.text)
    }
}
