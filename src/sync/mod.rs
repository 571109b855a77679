//! What must happen for the target to equal the source, decided purely; and one account's life.

pub mod account;
pub mod backoff;
pub mod hosts;
