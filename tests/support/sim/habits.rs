//! What servers do that no RFC foresees: each is a trait that a world may give to either side.
//!
//! What is done about it stands where the server does it: `session`, `fetch`, `change`, `wire`.

/// A message with this in it is one that a server with the fitting habit cannot cope with.
pub const MARK: &str = "X-Guasto: ";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Habit {
    /// IDLE is accepted, and nothing is told in it.
    SilentIdle,
    /// Whoever idles is disconnected.
    ClosesInIdle,
    /// What happened before IDLE is told before its continuation.
    TellsBeforeIdling,
    /// The first connection that idles is dead from then on; nobody closes it.
    DiesInIdle,
    /// What is told of the selected folder, by STATUS too, is as old as its selection.
    StaleWhileSelected,
    /// NOTIFY is granted, and nothing is told.
    SilentNotify,
    /// `+` and nothing behind it.
    BarePlus,
    /// What is offered after login is more than what was offered before.
    OffersLater(Told),
    /// The first connections are sent away with these words in place of an answer to their login.
    Throttles(&'static str),
    /// Marked messages are listed, and their bodies are not given.
    Withholds(Withheld),
    /// The first connections die within the body of a marked message.
    DiesInBody,
    /// RFC822.SIZE is not what the literal has.
    WrongSizes,
    /// No UIDNEXT at SELECT; news only with NOOP and IDLE.
    Courier,
    /// What has come since the beginning is numbered anew with each message that comes, the newest
    /// first, under the same UIDVALIDITY.
    NumbersAnew,
    /// No line longer than 1000 octets is read.
    ShortLines,
    /// NUL is stored as 0x80.
    AltersNul,
    /// What is no proper message is refused by APPEND.
    RefusesOddMail,
    /// Every message is \Recent, and marked \Forwarded by some client.
    OddFlags,
    /// UIDVALIDITY is told so.
    Validity(Validity),
    /// UIDNEXT is told so.
    Next(Next),
    /// HIGHESTMODSEQ is told so; the empty word is not told, NOMODSEQ is a code of its own.
    Modseq(&'static str),
    /// LIST with RETURN leaves INBOX out.
    HidesInbox,
    /// LIST with RETURN is nonsense.
    RefusesReturn,
    /// VANISHED (EARLIER) names who is there and not who is gone.
    WrongVanished,
    /// Responses as nobody should write them: blanks at their ends, quotes within quotes, COPYUID
    /// untagged, sets that descend.
    Sloppy,
    /// A marked message is refused with BAD, and where it was not waited for its lines are
    /// carried out.
    ExecutesRefused,
    /// Names of folders that differ by case only are one folder.
    FoldsCase,
    /// Folders of other users, and folders that are views of others, are listed too.
    ShowsOthers,
}

/// How capabilities are told after login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    InCode,
    Untagged,
    WhenAsked,
}

/// What comes in place of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Withheld {
    /// The whole FETCH is refused with [SERVERBUG] when it comes to the message.
    Refused,
    /// `BODY[] NIL`
    Nil,
    /// `BODY[] ""`
    Empty,
    /// No answer about the message.
    Silent,
    /// The same, once its folder has been renumbered: the body was lost with the numbers.
    Lost,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Validity {
    Zero,
    /// Another one at each login.
    PerLogin,
    /// EXAMINE tells another one each time; STATUS and SELECT do not.
    PerExamine,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Zero,
    /// Lower at every second login than it was.
    Rewinds,
}

/// Does the message carry the mark?
pub fn is_marked(octets: &[u8]) -> bool {
    octets.windows(MARK.len()).any(|some| some == MARK.as_bytes())
}

/// Why a strict server will not have the message.
pub fn oddity(octets: &[u8]) -> Option<&'static str> {
    let header_end = octets.windows(4).position(|four| four == b"\r\n\r\n");
    let bare = |at: usize| octets[at] == b'\n' && (at == 0 || octets[at - 1] != b'\r');
    if octets.contains(&0) {
        Some("Message contains NUL characters")
    } else if (0..octets.len()).any(bare) {
        Some("Message contains bare newlines")
    } else if header_end.is_some_and(|end| !octets[..end].is_ascii()) {
        Some("Message contains invalid header")
    } else if header_end.is_none() {
        Some("Message has no header/body separator")
    } else {
        None
    }
}
