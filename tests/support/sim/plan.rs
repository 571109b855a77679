//! What goes wrong in a world, and when: plain data, so that a seed or an index repeats it.
//!
//! | fault | here | tried |
//! |---|---|---|
//! | a connection is cut | [`Cut`], by octet, both sides, both directions | `everywhere` at every octet of a tiny session and all over a small one; random |
//! | the product is killed | [`Kill`] at an await, [`Crash`] around an effect | `everywhere` at every await, `crash` at every effect; random |
//! | the checkpoint is lost | [`Memory`]: nothing, the newest commits, all of it | with each death |
//! | NO, BAD, BYE | [`Reply`] | `everywhere` at every command; random |
//! | delays | [`Weather`], [`Reply::Slow`] | random; `everywhere` |
//! | half-open connections | [`Reply::Silence`], [`Reply::Mute`], [`Welcome::Silent`], [`Event::Freeze`] | `everywhere`; random |
//! | a server stores an APPEND after the connection has died | [`Late`], [`Moment::Late`], up to `in_doubt_wait` | `found`, `crash`; random |
//! | answers lie about UIDs | [`Lie`] | random |
//! | untagged data in any order | `Traits::shuffled`, `body_first` | `capabilities`; random |
//! | UIDVALIDITY changes | [`Event::Renumber`], both sides | random, `found` |
//! | UIDs jump | [`Event::Jump`], both sides | random |
//! | MODSEQ falls back | [`Event::LoseIndex`], both sides | random |
//! | listings are half empty | [`Reply::Half`], [`Reply::Gaps`], for a while [`Event::Fail`], [`Event::Hide`] | `everywhere`, `found`; random |
//! | others write to the target | [`Event::Foreign`], `World::foreign`, `World::copies`; they remove: [`Event::Vanish`] | random |
//! | the source changes meanwhile | [`Event::Deliver`], `Flag`, `Expunge`, `Move`, `Rename` | all worlds |
//! | the wall clock jumps | [`Event::SetClock`] | random |
//! | capabilities are absent | `Traits::without` | `capabilities`; random |

use std::collections::BTreeMap;

use super::world::Post;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Side {
    Source,
    Target,
}

/// Counts begin at 0 and run over all connections of a side. Commands are counted on both sides;
/// effects (what changes the account: APPEND, STORE, MOVE, COPY, EXPUNGE, CREATE, SUBSCRIBE) at
/// the target, where alone the product has any.
#[derive(Clone, Default, Debug)]
pub struct Plan {
    /// In order; each counts effects on from the one before.
    pub crashes: Vec<Crash>,
    /// In order; each counts awaits on from the one before.
    pub kills: Vec<Kill>,
    /// How the so-manyeth connection is received.
    pub connections: BTreeMap<(Side, usize), Welcome>,
    /// What is answered to a command instead of doing it.
    pub replies: BTreeMap<(Side, usize), Reply>,
    /// What else happens just before a command is done.
    pub events: BTreeMap<(Side, usize), Vec<Event>>,
    pub cuts: Vec<Cut>,
    /// APPENDs, by their number among effects over all lives, that happen late.
    pub late: BTreeMap<usize, Late>,
    /// What the so-manyeth effect, an APPEND, says of its UIDs.
    pub lies: BTreeMap<usize, Lie>,
    /// By side: source, target.
    pub weather: [Weather; 2],
}

impl Plan {
    /// How much is to go wrong; what others do is not wrong.
    pub fn faults(&self) -> usize {
        self.crashes.len()
            + self.kills.len()
            + self.connections.len()
            + self.replies.len()
            + self.cuts.len()
            + self.late.len()
            + self.lies.len()
    }
}

/// How a line is, all the time.
#[derive(Clone, Copy, Default, Debug)]
pub struct Weather {
    /// Each answer takes up to so long.
    pub delay_millis_max: u64,
    /// So many octets at once arrive at the product; 0: all that were sent.
    pub gulp: usize,
}

/// The product dies.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    pub effect: usize,
    pub moment: Moment,
    pub memory: Memory,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// The command has arrived and is never done.
    Before,
    /// It is done; the answer is not sent.
    Done,
    /// The answer is sent; the product has not read it yet.
    Answered,
    /// The answer is sent; so many milliseconds later.
    Later(u64),
    /// The command is done so many milliseconds after the death.
    Late(u64),
}

/// The product dies at its so-manyeth await that had to wait: as soon as it waits, so that what
/// it just asked of disk and network is still to be done, or when what it waited for is there.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    pub at: usize,
    pub at_once: bool,
    pub memory: Memory,
}

/// The connection ends first, and then it happens.
#[derive(Clone, Copy, Debug)]
pub struct Late {
    /// How long after the end of the connection.
    pub millis: u64,
    /// The server says nothing until the product gives up; else it closes at once.
    pub silent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Welcome {
    Refused,
    /// Accepted, and then nothing.
    Silent,
    Bye,
}

/// What the product finds of its checkpoint when it starts again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// What lay in the files at the moment of death.
    Kept,
    /// With what was still queued.
    Flushed,
    /// Without the newest so many commits.
    Older(usize),
    Deleted,
}

/// Closes the connection that carries the octet.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub side: Side,
    pub inbound: bool,
    pub octet: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    No,
    Bad,
    Bye,
    Close,
    /// Nothing, for as long as the product listens.
    Silence,
    /// It is done, and then nothing, for as long as the product listens.
    Mute,
    /// It is done after so many milliseconds.
    Slow(u64),
    /// A storage that fails: LIST or EXAMINE shows half of what is there, without a word, and
    /// the next FETCH is the connection's last command. Other commands are done.
    Half,
    /// A FETCH leaves out every other message, without a word.
    Gaps,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    None,
    Malformed,
    OtherValidity,
    TooFew,
    TooMany,
    /// The right ones, the last first.
    Descending,
}

/// What others do meanwhile. `nth` counts modulo the messages there are; nothing happens in an
/// empty folder.
#[derive(Clone, Debug)]
pub enum Event {
    Deliver {
        folder: String,
        post: Post,
    },
    Flag {
        folder: String,
        nth: usize,
        flag: String,
        on: bool,
    },
    Expunge {
        folder: String,
        nth: usize,
    },
    Move {
        from: String,
        nth: usize,
        to: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Renumber {
        side: Side,
        folder: String,
    },
    /// Somebody else's message at the target.
    Foreign {
        folder: String,
        post: Post,
    },
    /// The target loses a copy.
    Vanish {
        folder: String,
        nth: usize,
    },
    /// The next UIDs of a folder are given to nobody.
    Jump {
        side: Side,
        folder: String,
        by: u32,
    },
    /// For so long half of what is there is shown, by counts as well.
    Fail {
        side: Side,
        secs: u64,
    },
    /// For so long half of one folder is shown, by counts as well.
    Hide {
        side: Side,
        folder: String,
        secs: u64,
    },
    /// All connections of a side go dead without being closed.
    Freeze {
        side: Side,
    },
    /// Somebody sets the wall clock.
    SetClock {
        secs: i64,
    },
    /// A server loses its index: modification sequences begin anew, UIDs stay.
    LoseIndex {
        side: Side,
        folder: String,
    },
    /// All of these, before anybody looks.
    Together(Vec<Event>),
    /// Another account's folder stands in the place of the target's: other messages with the same
    /// UIDs under the same UIDVALIDITY.
    Stranger {
        folder: String,
    },
    /// The owner changes a flag of a copy at the target.
    OwnerFlags {
        folder: String,
        nth: usize,
        flag: String,
        on: bool,
    },
}
