//! What must happen for the target to equal the source, decided purely; and one account's life.
//!
//! Pure: [`plan`], [`adopt`], [`folders`], [`gone`], [`cutover`], [`trouble`], [`backoff`]. Doing:
//! [`copy`] (the pipeline), [`pass`] with `survey`, `resolve`, `doubt`, `moves`, `relay` and
//! `apply` (one look at an account), `follow` (one session), [`account`] (one life), [`hosts`]
//! (what accounts of a host share).

pub mod account;
pub mod adopt;
mod apply;
pub mod backoff;
pub mod board;
pub mod book;
pub mod chance;
pub mod clock;
mod connect;
pub mod copy;
pub mod cutover;
mod doubt;
pub mod folders;
mod follow;
pub mod gone;
pub mod hosts;
mod moves;
pub mod pass;
pub mod plan;
mod relay;
mod resolve;
pub mod shared;
mod survey;
mod target;
pub mod trouble;
mod watch;
