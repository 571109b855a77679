//! Text → settings and enrollments, or problems with file, line and column; the watcher of
//! conf.d; secrets.
//!
//! Reading order: [`keys`] says which keys there are, [`dates`] and `values` what may stand
//! behind them, `load` makes [`Settings`] of them and [`enrollment`] an [`Enrollment`];
//! [`conf_dir`] reads the directory, [`mod@belongings`] finds what is one account's in it, [`mod@reconcile`] decides purely what changed in it, and
//! [`watcher`] says when to look. [`sealing`] keeps passwords that only the daemon can read,
//! [`enrolling`] writes new enrollments, [`policy`] knows what a target asks of a password, and
//! [`portal`] what the enrollment page is told and may say.

pub mod belongings;
pub mod conf_dir;
pub mod dates;
pub mod enrolling;
pub mod enrollment;
pub mod keys;
pub mod policy;
pub mod portal;
pub mod presets;
pub mod reconcile;
pub mod roster;
pub mod sealing;
pub mod watcher;

mod conflicts;
mod endpoint;
mod files;
pub(crate) mod fuzzing;
mod hooks;
mod limits;
mod load;
mod migration;
mod owners;
mod problem;
pub mod schedule;
mod secrets;
mod settings;
mod table;
mod values;

pub use belongings::{Belongings, belongings};
pub use conf_dir::{FileRead, read_dir_files};
pub use load::{Context, load, load_in};
pub use portal::Portal;
pub use problem::{Problem, Wrong};
pub use reconcile::{Difference, RejectedFile, Snapshot, reconcile};
pub use roster::{Roster, RosterRow};
pub use sealing::{Keyring, SealingKey};
pub use settings::*;

/// The address of an account, case-folded.
pub fn address_of(text: &str) -> Result<String, Wrong> {
    values::address(text)
}

/// A mobile number in international form (E.164), without the spaces people write.
pub fn phone_of(text: &str) -> Result<String, Wrong> {
    values::phone(text)
}
