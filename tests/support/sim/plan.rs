//! What goes wrong in a world, and when: plain data, so that a seed or an index repeats it.

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
    /// What is answered to a command instead of doing it.
    pub replies: BTreeMap<(Side, usize), Reply>,
    /// What else happens just before a command is done.
    pub events: BTreeMap<(Side, usize), Vec<Event>>,
    pub cuts: Vec<Cut>,
    /// Effects, counted over all lives, whose connection dies first, and after how many further
    /// commands they happen all the same.
    pub late: BTreeMap<usize, usize>,
    /// What the so-manyeth effect, an APPEND, says of its UIDs.
    pub lies: BTreeMap<usize, Lie>,
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
    /// The command is done only after the death, when so many further commands have come to the
    /// target, or half a second later.
    Late(usize),
}

/// What the product finds of its checkpoint when it starts again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// What lay in the files at the moment of death.
    Kept,
    /// With what was still queued.
    Flushed,
    /// A copy taken before the effect so many before.
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
    /// Nothing, for ever.
    Silence,
    /// A storage that fails: LIST or EXAMINE shows half of what is there, without a word, and
    /// the next FETCH is the connection's last command. Other commands are done.
    Half,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    None,
    Malformed,
    OtherValidity,
    TooFew,
    TooMany,
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
    /// A server loses its index: modification sequences begin anew, UIDs stay.
    LoseIndex {
        side: Side,
        folder: String,
    },
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
