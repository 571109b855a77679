//! An IMAP client made for bulk copying (RFC 9051, RFC 3501 and the extensions each file names).
//!
//! Commands are encoded by imap-codec; answers are framed here, decoded by imap-codec and, where
//! that fails, by imap-proto; message bodies are streamed past both and never held.
//! This room knows the wire and nothing of what a migration is.

mod append;
mod dial;
mod error;
mod fetch;
mod idle;
mod list;
mod quirks;
mod quota;
mod session;
mod status;
mod store;
mod wire;

pub use append::{AppendAnswer, AppendAnswers, AppendWriter};
pub use dial::{Dialler, Endpoint, Login, Tls};
pub use error::{Code, Error};
pub use fetch::{Fetched, Fetching, HeaderSeen};
pub use idle::IdleNews;
pub use list::{Listed, Namespace, SpecialUse, WireName};
pub use session::{Capabilities, News, PermanentFlags, Selected, Session};
pub use status::FolderStatus;
pub use store::{Change, CopyUid};
