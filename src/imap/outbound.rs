//! What is still to be sent: commands, and literals that wait for a continuation (RFC 7888).

use std::collections::VecDeque;

use zeroize::{Zeroize, Zeroizing};

use super::Error;
use super::encode::{Draft, Piece};
use super::link::Link;

/// How literals may go out (RFC 7888).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Literals {
    /// `{n}`, then wait.
    Synchronising,
    /// LITERAL-: `{n+}` up to 4096 octets.
    Small,
    /// LITERAL+: `{n+}` always.
    Any,
}

impl Literals {
    pub fn may_run_ahead(self, octets: u64) -> bool {
        match self {
            Literals::Synchronising => false,
            Literals::Small => octets <= 4096,
            Literals::Any => true,
        }
    }
}

/// What is still to be sent. A synchronising literal is a gate: it and everything behind it
/// waits until the server says `+`.
pub(super) struct Outbound {
    ready: Vec<u8>,
    written: usize,
    gated: VecDeque<Segment>,
    next_tag: u32,
    prefix: String,
    pub literals: Literals,
}

struct Segment {
    /// The command that these octets belong to; its refusal discards them.
    tag: u32,
    waits: bool,
    octets: Vec<u8>,
}

impl Outbound {
    pub fn new(prefix: &str) -> Outbound {
        Outbound {
            ready: Vec::new(),
            written: 0,
            gated: VecDeque::new(),
            next_tag: 1,
            prefix: prefix.to_owned(),
            literals: Literals::Synchronising,
        }
    }

    /// A tag's number and text.
    pub fn tag(&mut self) -> (u32, String) {
        let tag = self.next_tag;
        self.next_tag += 1;
        (tag, format!("{}{tag}", self.prefix))
    }

    /// Queues a command; returns its tag.
    pub fn command(&mut self, draft: Draft) -> u32 {
        let (tag, text) = self.tag();
        let mut octets = text.into_bytes();
        octets.push(b' ');
        let mut waits = false;
        for piece in draft.pieces {
            match piece {
                Piece::Text(text) => octets.extend_from_slice(&Zeroizing::new(text)),
                Piece::Literal(literal) => {
                    let literal = Zeroizing::new(literal);
                    let ahead = self.literals.may_run_ahead(literal.len() as u64);
                    let plus = if ahead { "+" } else { "" };
                    octets.extend_from_slice(format!("{{{}{plus}}}\r\n", literal.len()).as_bytes());
                    if !ahead {
                        self.push(Segment { tag, waits, octets: std::mem::take(&mut octets) });
                        waits = true;
                    }
                    octets.extend_from_slice(&literal);
                }
            }
        }
        self.push(Segment { tag, waits, octets });
        tag
    }

    /// Octets that wait for the server's `+` to the command just issued.
    pub fn after_continuation(&mut self, tag: u32, octets: Vec<u8>) {
        self.push(Segment { tag, waits: true, octets });
    }

    /// Octets outside of any command.
    pub fn raw(&mut self, octets: &[u8]) {
        self.push(Segment { tag: 0, waits: false, octets: octets.to_vec() });
    }

    fn push(&mut self, mut segment: Segment) {
        if segment.waits || !self.gated.is_empty() {
            self.gated.push_back(segment);
        } else {
            self.ready.extend_from_slice(&segment.octets);
            segment.octets.zeroize();
        }
    }

    /// A continuation came; says whether something was waiting for it.
    pub fn open_gate(&mut self) -> bool {
        let Some(first) = self.gated.front_mut().filter(|first| first.waits) else { return false };
        first.waits = false;
        self.advance();
        true
    }

    /// The command was answered: what is left of it must not be sent.
    pub fn forget(&mut self, tag: u32) {
        self.gated.retain(|segment| segment.tag != tag);
        self.advance();
    }

    fn advance(&mut self) {
        while self.gated.front().is_some_and(|first| !first.waits) {
            let Some(mut first) = self.gated.pop_front() else { return };
            self.ready.extend_from_slice(&first.octets);
            first.octets.zeroize();
        }
    }

    pub async fn flush(&mut self, link: &Link, what: &'static str) -> Result<(), Error> {
        if self.ready.is_empty() {
            return Ok(());
        }
        link.write(&self.ready, &mut self.written, what).await?;
        self.written = 0;
        // It may have held a password.
        self.ready.zeroize();
        self.ready = Vec::new();
        Ok(())
    }

    /// What is ready to be sent, for one who writes himself.
    pub fn take_ready(&mut self) -> Vec<u8> {
        let ready = self.ready.split_off(self.written);
        self.ready = Vec::new();
        self.written = 0;
        ready
    }
}
