//! IDLE (RFC 2177).

use std::time::Duration;

use super::{Error, Session};

/// What ended a wait in IDLE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdleNews {
    /// Something was said about the folder: see [`Session::take_news`].
    Something,
    /// Nothing was said for as long as asked.
    Quiet,
}

impl Session {
    /// Sends IDLE and waits for the continuation.
    pub async fn idle_start(&mut self) -> Result<(), Error> {
        todo!()
    }

    /// Waits in IDLE until the server says something or `at_most` has passed. Safe to cancel.
    pub async fn idle_wait(&mut self, _at_most: Duration) -> Result<IdleNews, Error> {
        todo!()
    }

    /// Queues DONE: it goes out in the same write as the next command, whose answer also
    /// completes the IDLE. Follow it with a command (NOOP if nothing else).
    pub fn idle_done(&mut self) {
        todo!()
    }
}
