//! NOTIFY (RFC 5465): one connection hears of all personal folders, not only of the selected one.

use super::decode::Kind;
use super::encode::Draft;
use super::{Error, Session};

/// RFC 5465, 5.2 and 5.3: MessageNew and MessageExpunge go together, FlagChange only with both. The
/// selected folder is told of by EXISTS, EXPUNGE and FETCH as ever; the others by STATUS, and by
/// LIST where one was made, renamed or deleted (5.4).
const EVENTS: &str = "NOTIFY SET (selected (MessageNew MessageExpunge FlagChange)) \
    (personal (MessageNew MessageExpunge FlagChange MailboxName))";

/// Where the connection stands with NOTIFY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Notify {
    /// Not asked for, or given up by the server (NOTIFICATIONOVERFLOW).
    Off,
    On,
    Refused,
}

impl Session {
    /// Asks to be told of what happens in any personal folder (RFC 5465): from then on
    /// [`super::News::elsewhere`] is set, and [`Session::idle_wait`] wakes, whichever folder is
    /// selected. `false` where NOTIFY is not offered or was refused; that is remembered, as is a
    /// grant, so that asking again costs nothing.
    ///
    /// A server that can no longer keep up says NOTIFICATIONOVERFLOW (5.8) and tells nothing
    /// further: that counts as news, and the next call asks it again.
    pub async fn notify(&mut self) -> Result<bool, Error> {
        match self.connection.inbound.notify {
            Notify::On => return Ok(true),
            Notify::Refused => return Ok(false),
            Notify::Off if !self.capabilities.has("NOTIFY") => return Ok(false),
            Notify::Off => {}
        }
        self.ready().await?;
        let ended = self.connection.run("NOTIFY", Draft::text(EVENTS).end(), |_| {}).await?;
        // BAD is as good a refusal as NO [BADEVENT]: the command holds nothing but our own words.
        let notify = if ended.condition.kind == Kind::Ok { Notify::On } else { Notify::Refused };
        self.connection.inbound.notify = notify;
        Ok(notify == Notify::On)
    }
}
