//! One account's life, from its enrollment to its seal: the task that the supervisor starts.

use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, mpsc};

use super::hosts::Hosts;
use crate::checkpoint::Store;
use crate::config::Enrollment;
use crate::imap::Dialler;
use crate::journal::Journal;
use crate::status::AccountStatus;

/// What all accounts of a daemon share.
pub struct Shared {
    pub store: Store,
    pub journal: Journal,
    pub hosts: Hosts,
    pub dialler: Dialler,
    /// First copies that may run at once.
    pub copying: Semaphore,
}

/// What the supervisor may tell a running account.
#[derive(Clone, Debug)]
pub enum Order {
    /// Try now whatever is held or waiting; consents to nothing.
    Retry,
    ApproveDeletions,
    ApproveEndpoint,
    ApproveLate,
    ApproveCompleted,
    /// A new version of the enrollment (or of its migration): takes effect at once.
    Replace(Arc<Enrollment>),
}

/// What `status` shows of the account, kept current by its task.
pub type StatusCell = Arc<Mutex<AccountStatus>>;

/// Lives the account's life. Returns when it has completed or closed; dropping the future stops
/// it anywhere without harm (that is what kill -9 does, too). When `orders` closes it comes to a
/// clean stop within a few seconds: in-flight APPENDs are answered or left to their intents.
pub async fn run(
    _shared: Arc<Shared>,
    _enrollment: Arc<Enrollment>,
    _orders: mpsc::Receiver<Order>,
    _status: StatusCell,
) {
    todo!()
}
