//! Signals, as what they ask for.

use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    Stop,
    Reload,
    ReportStatus,
}

pub struct Signals(signal_hook_tokio::Signals);

impl Signals {
    /// Must be called inside the runtime.
    pub fn new() -> std::io::Result<Signals> {
        signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]).map(Signals)
    }

    /// Safe to cancel.
    pub async fn next(&mut self) -> Signal {
        loop {
            match poll_fn(|context| Pin::new(&mut self.0).poll_next(context)).await {
                Some(SIGTERM | SIGINT) => return Signal::Stop,
                Some(SIGHUP) => return Signal::Reload,
                Some(SIGUSR1) => return Signal::ReportStatus,
                Some(_) => {}
                // The stream ends only when its handle is closed, which nobody does.
                None => std::future::pending().await,
            }
        }
    }
}
