//! An IMAP client made for bulk copying (RFC 9051, RFC 3501 and the extensions each file names).
//!
//! Commands are encoded by imap-codec; answers are framed here, decoded by imap-codec and, where
//! that fails, by imap-proto; message bodies are streamed past both and never held.
//! This room knows the wire and nothing of what a migration is.
//!
//! Reading order: `wire` finds responses in octets; `decode` understands them, by `decoders` and
//! `scan`; `encode` writes commands, `outbound` queues them; `link` waits for octets;
//! `connection` pairs commands with answers; `dial`, `tls` and `login` make a [`Session`]; and
//! each further file is one family of commands.

mod ahead;
mod append;
mod connection;
mod dates;
mod decode;
mod decoders;
mod dial;
mod encode;
mod error;
mod fetch;
mod fetching;
pub(crate) mod fuzzing;
mod gathered;
mod idle;
mod link;
mod list;
mod login;
mod name;
mod notify;
mod outbound;
mod quirks;
mod quota;
mod scan;
mod session;
mod status;
mod store;
mod stream;
mod tls;
mod wire;

pub use ahead::AHEAD_MAX;
pub use append::{AppendAnswer, AppendAnswers, AppendWriter};
pub use dial::{Dialler, Endpoint, Login, Pipes, Tls};
pub use error::{Code, Error};
pub use fetch::{Changes, HeaderSeen, WholeSeen};
pub use fetching::{Fetched, Fetching};
pub use idle::IdleNews;
pub use list::{Listed, Namespace, SpecialUse};
pub use name::WireName;
pub use quota::Quota;
pub use session::{Capabilities, News, PermanentFlags, Selected, Session};
pub use status::FolderStatus;
pub use store::{Change, CopyUid};
