//! What must happen for the target to equal the source, decided purely; and one account's life.
//!
//! Pure: [`plan`], [`adopt`], [`folders`], [`gone`], [`cutover`], [`trouble`], [`backoff`],
//! [`compare`], [`forecast`]. Doing: [`copy`] (the pipeline), [`pass`] with `survey`, `resolve`, `doubt`, `moves`,
//! `neighbours`, `deferred`, `archive`, `relay`, `orphans` and `apply` (one look at an account), `follow` (one session), [`account`]
//! (one life), [`verify`] (a comparison beside it), [`preview`] (what the next pass would do),
//! [`inspect`] (what stands in the way of a move), `proof`
//! (the report at its end), [`hosts`] (what accounts of a host share).

pub mod account;
pub mod adopt;
mod apply;
mod archive;
pub mod backoff;
mod beside;
pub mod board;
pub mod book;
pub mod chance;
pub mod clock;
pub mod compare;
mod connect;
pub mod copy;
pub mod cutover;
mod deferred;
mod doubt;
pub mod folders;
mod follow;
pub mod forecast;
pub mod gone;
pub mod hosts;
mod hurry;
pub mod inspect;
mod moves;
mod neighbours;
mod orphans;
pub mod pass;
pub mod plan;
pub mod preview;
mod proof;
mod relay;
mod resolve;
pub mod shared;
mod source;
mod survey;
mod target;
pub mod throttle;
pub mod trouble;
pub mod verify;
mod watch;
