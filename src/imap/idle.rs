//! IDLE (RFC 2177).

use std::time::Duration;

use imap_types::command::CommandBody;
use tokio::time::{Instant, timeout_at};

use super::connection::{Event, Idle};
use super::encode::Draft;
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
    /// Sends IDLE and waits for the continuation. What the server says before it is kept: the
    /// next [`Session::idle_wait`] tells of it at once.
    pub async fn idle_start(&mut self) -> Result<(), Error> {
        self.ready().await?;
        let tag = self.connection.issue(Draft::of(CommandBody::Idle));
        let begun = Instant::now();
        loop {
            match self.connection.event("IDLE").await? {
                Event::Continue => break,
                _ if begun.elapsed() > self.connection.link.command_within() => {
                    return self.note(Err(Error::TimedOut("IDLE")));
                }
                Event::Tagged(ended, condition) if ended == tag => {
                    let ended = self.connection.as_ended("IDLE", condition);
                    self.note(ended.ok())?;
                    let text = "IDLE ended before it began".into();
                    return self.note(Err(Error::Protocol(text)));
                }
                _ => {}
            }
        }
        self.connection.inbound.idle = Idle::Idling(tag);
        self.connection.inbound.framer.shrink();
        Ok(())
    }

    /// Waits in IDLE until the server says something or `at_most` has passed. Safe to cancel.
    ///
    /// A server that ends the IDLE by itself has said something, too.
    pub async fn idle_wait(&mut self, at_most: Duration) -> Result<IdleNews, Error> {
        let until = Instant::now() + at_most;
        loop {
            if std::mem::take(&mut self.connection.inbound.untold) {
                return Ok(IdleNews::Something);
            }
            let Idle::Idling(tag) = self.connection.inbound.idle else {
                return Ok(IdleNews::Something);
            };
            let Ok(event) = timeout_at(until, self.connection.unhurried_event("IDLE")).await else {
                return Ok(IdleNews::Quiet);
            };
            if let Event::Tagged(ended, condition) = event?
                && ended == tag
            {
                self.connection.inbound.idle = Idle::No;
                let ended = self.connection.as_ended("IDLE", condition);
                self.note(ended.ok())?;
            }
            self.connection.inbound.framer.shrink();
        }
    }

    /// Queues DONE: it goes out in the same write as the next command, whose answer also
    /// completes the IDLE. Follow it with a command (NOOP if nothing else).
    pub fn idle_done(&mut self) {
        self.connection.idle_done();
    }
}
