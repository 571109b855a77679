//! pecsync: an IMAP-proxying sync daemon for certified mailboxes (PEC).
//!
//! It stands between two IMAP servers and relays each FETCH literal into an APPEND literal
//! without storing it. See `docs/architecture.md` for the whole picture; the modules below are
//! listed in reading order.

pub mod digest;
pub mod words;

pub mod config;
pub mod imap;

pub mod checkpoint;
pub mod sync;

pub mod journal;
pub mod report;
pub mod status;

pub mod daemon;

pub mod cli;

#[doc(hidden)]
pub mod fuzzing;
