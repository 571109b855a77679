//! From the greeting to an authenticated session (RFC 9051, 6.2; RFC 4616, 4959, 8314).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use imap_types::auth::AuthMechanism;
use imap_types::command::CommandBody;
use imap_types::core::{AString, IString, Literal, NString, Vec1};
use imap_types::extensions::enable::CapabilityEnable;
use imap_types::secret::Secret;
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::connection::{Connection, Ended, Event, Said};
use super::decode::{self, Condition, Data, Kind};
use super::encode::Draft;
use super::link::Link;
use super::outbound::Literals;
use super::{Capabilities, Code, Error, Login, Namespace, Session, quirks};

/// So much of the message of PLAIN is enough to know it by, should a server repeat it.
const ECHO_MIN: usize = 12;

/// A connection before login, and the text of its greeting.
pub(super) type Greeted = (Connection, String);

/// Waits for the greeting. PREAUTH is refused: whose mailbox it would be is not for the server
/// to choose, and before TLS it is how an attacker keeps a client from asking for TLS.
pub(super) async fn greeted(link: Link) -> Result<Greeted, Error> {
    let mut connection = Connection::new(link);
    match connection.event("the greeting").await? {
        Event::Untagged(greeting) if greeting.kind == Kind::Ok => Ok((connection, greeting.text)),
        Event::Untagged(greeting) if greeting.kind == Kind::PreAuth => Err(Error::Unsupported(
            "the server greets with PREAUTH instead of asking who we are".into(),
        )),
        Event::Untagged(greeting) => Err(Error::Closed { bye: Some(greeting.words()) }),
        _ => Err(Error::Protocol("no IMAP server: it does not greet".into())),
    }
}

/// A connection that has greeted before it was secured.
pub(super) fn ungreeted(link: Link) -> Greeted {
    (Connection::new(link), String::new())
}

/// STARTTLS (RFC 9051, 6.2.1). What the server sends behind its OK was not protected and may be
/// anybody's: nothing may have arrived before the handshake.
pub(super) async fn start_tls(link: Link) -> Result<TcpStream, Error> {
    let (mut connection, _) = greeted(link).await?;
    if !capabilities(&mut connection).await?.has("STARTTLS") {
        return Err(Error::Unsupported("the server does not offer STARTTLS".into()));
    }
    connection.simple("STARTTLS", Draft::of(CommandBody::StartTLS)).await?;
    let tcp = connection.link.into_stream().into_unread_tcp();
    tcp.ok_or_else(|| Error::Protocol("octets were injected before the TLS handshake".into()))
}

/// Authenticates. The session has not introduced itself yet.
pub(super) async fn log_in(
    connection: Connection,
    greeting: String,
    login: &Login,
) -> Result<Session, Error> {
    let mut session = Session {
        connection,
        capabilities: Arc::default(),
        namespace: Namespace::default(),
        others: Vec::new(),
        server_name: greeting,
        selected: None,
        skipped: Vec::new(),
        qresync: false,
        listing_octets_max: 0,
        exchange: Box::default(),
        ahead: VecDeque::new(),
        bodies_ahead: VecDeque::new(),
        introduced: false,
    };
    let offered = capabilities(&mut session.connection).await?;
    let authenticated = authenticate(&mut session.connection, &offered, login).await;
    authenticated.map_err(|error| unspoken(error, login))?;
    session.capabilities = Arc::new(capabilities(&mut session.connection).await?);
    session.connection.outbound.literals = literals(&session.capabilities);
    session.connection.inbound.framer.shrink();
    Ok(session)
}

/// What was told unasked since the last time, or else what CAPABILITY answers.
async fn capabilities(connection: &mut Connection) -> Result<Capabilities, Error> {
    if connection.inbound.capabilities.is_none() {
        connection.simple("CAPABILITY", Draft::of(CommandBody::Capability)).await?;
    }
    let atoms = connection.inbound.capabilities.take();
    let atoms = atoms.ok_or_else(|| Error::Protocol("CAPABILITY without capabilities".into()))?;
    Ok(Capabilities { atoms })
}

fn literals(capabilities: &Capabilities) -> Literals {
    if capabilities.has("LITERAL+") {
        Literals::Any
    } else if capabilities.has("LITERAL-") {
        Literals::Small
    } else {
        Literals::Synchronising
    }
}

/// AUTHENTICATE PLAIN; LOGIN only where that is not offered or not understood, never after NO:
/// a second refusal would count twice towards a lock-out.
async fn authenticate(
    connection: &mut Connection,
    offered: &Capabilities,
    login: &Login,
) -> Result<(), Error> {
    connection.outbound.literals = literals(offered);
    if offered.has("AUTH=PLAIN") {
        let ended = plain(connection, offered.has("SASL-IR"), login).await?;
        let may_log_in = login.authzid.is_none() && !offered.has("LOGINDISABLED");
        let Condition { kind, code, text } = &ended.condition;
        if *kind != Kind::Bad || quirks::is_throttling(code.as_ref(), text) || !may_log_in {
            return finish(connection, ended);
        }
    } else if login.authzid.is_some() {
        return Err(Error::Unsupported("a service login needs AUTH=PLAIN".into()));
    } else if offered.has("LOGINDISABLED") {
        return Err(Error::Unsupported("the server offers neither AUTH=PLAIN nor LOGIN".into()));
    }
    let draft = Draft::of(CommandBody::Login {
        username: astring(login.user.as_bytes())?,
        password: Secret::new(AString::String(IString::Literal(literal(&login.password)?))),
    });
    let ended = connection.run("LOGIN", draft, |_| {}).await?;
    finish(connection, ended)
}

fn finish(connection: &mut Connection, ended: Ended) -> Result<(), Error> {
    let condition = ended.ok().map_err(|error| connection.link.note(error))?;
    if let Some(list) = condition.code("CAPABILITY") {
        connection.inbound.capabilities = Some(decode::capabilities(list));
    }
    Ok(())
}

/// Servers repeat what they did not understand, in upper case or cut short. Words in which the
/// password can be recognised, plain or as SASL PLAIN writes it, are not kept.
fn unspoken(error: Error, login: &Login) -> Error {
    let password = Zeroizing::new(login.password.expose_secret().to_lowercase());
    let message = Zeroizing::new(base64_line(&plain_message(login)));
    let encoded = Zeroizing::new(String::from_utf8_lossy(&message).to_lowercase());
    let encoded = encoded.get(..ECHO_MIN).unwrap_or(encoded.trim_end());
    let clean = |text: String| {
        let said = Zeroizing::new(text.to_lowercase());
        match said.contains(&**password) || said.contains(encoded) {
            true => "<redacted>".to_owned(),
            false => text,
        }
    };
    match error {
        Error::No { command, code, text } => {
            let code = code.map(|Code { name, rest }| Code { name, rest: clean(rest) });
            Error::No { command, code, text: clean(text) }
        }
        Error::Bad { command, text } => Error::Bad { command, text: clean(text) },
        Error::Closed { bye } => Error::Closed { bye: bye.map(clean) },
        Error::Protocol(text) => Error::Protocol(clean(text)),
        other => other,
    }
}

/// SASL PLAIN (RFC 4616), with its message in the command where SASL-IR allows (RFC 4959).
async fn plain(
    connection: &mut Connection,
    in_command: bool,
    login: &Login,
) -> Result<Ended, Error> {
    let message = plain_message(login);
    if message.iter().filter(|octet| **octet == 0).count() != 2 {
        return Err(Error::Unsupported("neither a user nor a password can hold NUL".into()));
    }
    let command = |message: Option<&[u8]>| {
        Draft::of(CommandBody::Authenticate {
            mechanism: AuthMechanism::Plain,
            initial_response: message.map(|message| Secret::new(Cow::Owned(message.to_vec()))),
        })
    };
    connection.ready()?;
    connection.inbound.capabilities = None;
    if in_command {
        let tag = connection.issue(command(Some(&message)));
        return sasl_ended(connection, tag).await;
    }
    let tag = connection.issue(command(None));
    connection.outbound.after_continuation(tag, base64_line(&message));
    sasl_ended(connection, tag).await
}

fn plain_message(login: &Login) -> Zeroizing<Vec<u8>> {
    let authzid = login.authzid.as_deref().unwrap_or_default();
    let parts = [authzid, &login.user, login.password.expose_secret()];
    Zeroizing::new(parts.join("\0").into_bytes())
}

/// PLAIN has one step. A server that asks for more reports an error in a challenge; it is
/// cancelled, and what follows is a refusal whatever it is called.
async fn sasl_ended(connection: &mut Connection, tag: u32) -> Result<Ended, Error> {
    let mut challenged = false;
    loop {
        match connection.event("AUTHENTICATE").await? {
            Event::Continue => {
                challenged = true;
                connection.outbound.raw(b"*\r\n");
            }
            Event::Tagged(ended, mut condition) if ended == tag => {
                if challenged && condition.kind == Kind::Bad {
                    condition.kind = Kind::No;
                }
                return Ok(connection.as_ended("AUTHENTICATE", condition));
            }
            _ => {}
        }
    }
}

/// The message of PLAIN on a line of its own, encoded by imap-codec.
fn base64_line(message: &[u8]) -> Vec<u8> {
    use imap_codec::AuthenticateDataCodec;
    use imap_codec::encode::Encoder;
    use imap_types::auth::AuthenticateData;
    let data = AuthenticateData::r#continue(message.to_vec());
    AuthenticateDataCodec::new().encode(&data).dump()
}

fn astring(octets: &[u8]) -> Result<AString<'_>, Error> {
    AString::try_from(octets)
        .map_err(|_| Error::Unsupported("neither a user nor a password can hold NUL".into()))
}

fn literal(password: &secrecy::SecretString) -> Result<Literal<'_>, Error> {
    Literal::try_from(password.expose_secret())
        .map_err(|_| Error::Unsupported("neither a user nor a password can hold NUL".into()))
}

impl Session {
    /// ID, ENABLE and NAMESPACE, in one flight, unless that was done. What a server answers the
    /// first two is its own affair. Only APPEND can do without.
    pub async fn introduce(&mut self) -> Result<(), Error> {
        if self.introduced {
            return Ok(());
        }
        self.ready().await?;
        let id = self.capabilities.has("ID").then(id_draft);
        let enable = enable_draft(&self.capabilities);
        let id = id.map(|draft| self.connection.issue(draft));
        let enable = enable.map(|draft| self.connection.issue(draft));
        let namespace = self.ask_namespace();
        if let Some(tag) = id {
            let mut name = None;
            let on = |said: Said<'_>| {
                if let Said::Data(Data::Id(told)) = said {
                    name = told;
                }
            };
            self.connection.ended(tag, "ID", on).await?;
            self.server_name = name.unwrap_or_else(|| std::mem::take(&mut self.server_name));
        }
        if let Some(tag) = enable {
            let mut qresync = false;
            let on = |said: Said<'_>| {
                if let Said::Data(Data::Enabled(names)) = said {
                    qresync |= names.iter().any(|name| name == "QRESYNC");
                }
            };
            self.connection.ended(tag, "ENABLE", on).await?;
            self.qresync = qresync;
        }
        self.read_namespace(namespace).await?;
        self.introduced = true;
        self.connection.inbound.framer.shrink();
        Ok(())
    }
}

/// CONDSTORE, so that STATUS and SELECT tell HIGHESTMODSEQ, and QRESYNC, so that a FETCH tells
/// what vanished meanwhile. Both must be enabled before a folder is selected.
fn enable_draft(offered: &Capabilities) -> Option<Draft> {
    if !offered.has("ENABLE") || !offered.has("CONDSTORE") {
        return None;
    }
    let mut capabilities = vec![CapabilityEnable::CondStore];
    if offered.has("QRESYNC") {
        capabilities.extend(CapabilityEnable::try_from("QRESYNC"));
    }
    let capabilities = Vec1::try_from(capabilities).ok()?;
    Some(Draft::of(CommandBody::Enable { capabilities }))
}

fn id_draft() -> Draft {
    let field = |key: &'static str, value: &'static str| {
        Some((IString::try_from(key).ok()?, NString::try_from(value).ok()?))
    };
    let fields = [field("name", "pecsync"), field("version", env!("CARGO_PKG_VERSION"))];
    Draft::of(CommandBody::Id { parameters: Some(fields.into_iter().flatten().collect()) })
}
