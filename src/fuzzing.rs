//! What must hold whatever octets others send or write: one check a parser, each of which panics
//! where it does not hold.
//!
//! The programs in `fuzz/` drive them with octets of their own invention; `tests/fuzz_corpus.rs`
//! replays what is kept in `fuzz/corpus`.

pub use crate::checkpoint::fuzzing::records;
pub use crate::config::fuzzing::{enrollment, settings};
pub use crate::daemon::fuzzing::requests;
pub use crate::imap::fuzzing::{folder_names, responses, wire};

/// Panics where what must hold of the octets does not.
pub type Check = fn(&[u8]);

/// Every check, by the name of its program and of its corpus.
pub const CHECKS: [(&str, Check); 7] = [
    ("wire", wire),
    ("responses", responses),
    ("folder_names", folder_names),
    ("settings", settings),
    ("enrollment", enrollment),
    ("records", records),
    ("requests", requests),
];
