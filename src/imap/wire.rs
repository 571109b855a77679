//! Octets ↔ responses: finds where a response ends and takes message bodies out of it.
//!
//! The framer is pure: it is fed with whatever slices the connection yields and says when a
//! response is complete. Small literals stay in the response for the decoders. Where bodies are
//! streamed, the literal of a `BODY[…]` is taken out: the decoders see `{0}` and the octets go to
//! the caller, never into a buffer. Everything else a server may send is bounded.

use super::Error;

/// The most octets one response may take, its inline literals included.
pub(super) const RESPONSE_MAX: usize = 256 * 1024;
const LITERAL_INLINE_MAX: u64 = 8 * 1024;
const LITERALS_MAX: usize = 64;
/// The most octets a message may have: an endless one would fill the disk of the target.
const BODY_MAX: u64 = 2 << 30;

/// What the framer found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Frame {
    /// [`Framer::held`] is one whole response, ending in CRLF.
    Response,
    /// [`Framer::held`] is a response up to and including `BODY[…] {0}` CRLF; that many octets of
    /// body follow on the wire. Account for them with [`Framer::take_body`].
    Body(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Line,
    Literal { left: usize },
    Body { left: u64 },
    Complete,
}

pub(super) struct Framer {
    held: Vec<u8>,
    line_start: usize,
    literals: usize,
    state: State,
    stream_bodies: bool,
}

impl Framer {
    pub fn new() -> Framer {
        Framer {
            held: Vec::new(),
            line_start: 0,
            literals: 0,
            state: State::Line,
            stream_bodies: false,
        }
    }

    /// Whether literals of `BODY[…]` are given to the caller instead of being held.
    pub fn stream_bodies(&mut self, stream: bool) {
        self.stream_bodies = stream;
    }

    /// The response found last, or as much of it as was seen.
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    /// Nothing of a next response has been seen.
    pub fn is_between_responses(&self) -> bool {
        self.state == State::Complete || (self.state == State::Line && self.held.is_empty())
    }

    /// Gives the buffer back; call it where a connection becomes quiet.
    pub fn shrink(&mut self) {
        if self.is_between_responses() {
            self.held = Vec::new();
            self.restart();
        }
    }

    /// Takes octets until a frame is found; says how many were taken. Not to be called while a
    /// body is left.
    pub fn feed(&mut self, octets: &[u8]) -> Result<(usize, Option<Frame>), Error> {
        if self.state == State::Complete {
            self.restart();
        }
        let mut taken = 0;
        while taken < octets.len() {
            let rest = &octets[taken..];
            let (used, frame) = match self.state {
                State::Literal { left } => (self.take_literal(rest, left)?, None),
                _ => self.take_line(rest)?,
            };
            taken += used;
            if frame.is_some() {
                return Ok((taken, frame));
            }
        }
        Ok((taken, None))
    }

    /// Of `available` octets, how many belong to the body; they count as taken.
    pub fn take_body(&mut self, available: usize) -> usize {
        let State::Body { left } = self.state else { return 0 };
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(available);
        self.state = match left - taken as u64 {
            0 => State::Line,
            left => State::Body { left },
        };
        taken
    }

    /// How much of a body is still on the wire.
    pub fn body_left(&self) -> u64 {
        match self.state {
            State::Body { left } => left,
            _ => 0,
        }
    }

    fn restart(&mut self) {
        self.held.clear();
        self.line_start = 0;
        self.literals = 0;
        self.state = State::Line;
    }

    fn take_literal(&mut self, octets: &[u8], left: usize) -> Result<usize, Error> {
        let taken = left.min(octets.len());
        self.hold(&octets[..taken])?;
        self.state = match left - taken {
            0 => State::Line,
            left => State::Literal { left },
        };
        self.line_start = self.held.len();
        Ok(taken)
    }

    fn take_line(&mut self, octets: &[u8]) -> Result<(usize, Option<Frame>), Error> {
        let Some(end) = memchr::memchr(b'\n', octets) else {
            self.hold(octets)?;
            return Ok((octets.len(), None));
        };
        self.hold(&octets[..end])?;
        if self.held.len() > self.line_start && self.held.last() == Some(&b'\r') {
            self.held.pop();
        }
        let frame = self.end_line()?;
        Ok((end + 1, frame))
    }

    /// The line in `held` ended (its CRLF or lone LF is taken off).
    fn end_line(&mut self) -> Result<Option<Frame>, Error> {
        let line = &self.held[self.line_start..];
        let is_text = self.line_start == 0 && is_status(line);
        let Some(literal) = (if is_text { None } else { announced(line)? }) else {
            self.held.extend_from_slice(b"\r\n");
            self.state = State::Complete;
            return Ok(Some(Frame::Response));
        };
        let is_body = self.stream_bodies && follows_section(&line[..literal.brace]);
        self.literals += 1;
        if self.literals > LITERALS_MAX {
            return Err(Error::Protocol("too many literals in one response".into()));
        }
        self.held.truncate(self.line_start + literal.brace);
        if is_body && literal.octets > BODY_MAX {
            let what = format!("a message of {} octets is more than can be", literal.octets);
            return Err(Error::Protocol(what));
        }
        if is_body {
            self.held.extend_from_slice(b"{0}\r\n");
            self.line_start = self.held.len();
            self.state = match literal.octets {
                0 => State::Line,
                left => State::Body { left },
            };
            return Ok(Some(Frame::Body(literal.octets)));
        }
        if literal.octets > LITERAL_INLINE_MAX {
            let what = format!("a literal of {} octets where none is expected", literal.octets);
            return Err(Error::Protocol(what));
        }
        self.held.extend_from_slice(format!("{{{}}}\r\n", literal.octets).as_bytes());
        self.line_start = self.held.len();
        if literal.octets > 0 {
            self.state = State::Literal { left: literal.octets as usize };
        }
        Ok(None)
    }

    fn hold(&mut self, octets: &[u8]) -> Result<(), Error> {
        if self.held.len() + octets.len() > RESPONSE_MAX {
            return Err(Error::Protocol("a response is too long".into()));
        }
        self.held.extend_from_slice(octets);
        Ok(())
    }
}

/// Tagged lines, continuations and untagged OK, NO, BAD, BYE and PREAUTH end in free text, in
/// which `{5}` means nothing.
fn is_status(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"* ") else { return !line.starts_with(b"*") };
    let word = rest.split(|octet| *octet == b' ').next().unwrap_or(rest);
    [&b"OK"[..], b"NO", b"BAD", b"BYE", b"PREAUTH"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known))
}

struct Announced {
    /// Where the announcement starts in its line.
    brace: usize,
    octets: u64,
}

/// The literal announced at the end of a line: `{n}`, `{n+}` or `~{n}` (RFC 9051, RFC 7888).
fn announced(line: &[u8]) -> Result<Option<Announced>, Error> {
    let Some(inner) = line.strip_suffix(b"}") else { return Ok(None) };
    let inner = inner.strip_suffix(b"+").unwrap_or(inner);
    let digits = inner.iter().rev().take_while(|octet| octet.is_ascii_digit()).count();
    let (before, number) = inner.split_at(inner.len() - digits);
    let Some(before) = before.strip_suffix(b"{") else { return Ok(None) };
    let before = before.strip_suffix(b"~").unwrap_or(before);
    if digits == 0 || !matches!(before.last(), None | Some(b' ' | b'(' | b']' | b'>')) {
        return Ok(None);
    }
    let number = std::str::from_utf8(number).unwrap_or_default();
    let octets = number
        .parse()
        .map_err(|_| Error::Protocol("a literal's length is no number of 64 bits".into()))?;
    Ok(Some(Announced { brace: before.len(), octets }))
}

/// Does the text before a literal end in a section, as `BODY[]` or `BODY[]<0>`?
fn follows_section(before: &[u8]) -> bool {
    matches!(before.trim_ascii_end().last(), Some(b']' | b'>'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `octets` in slices of `step`; responses as text, bodies as `<n>`.
    fn framed(octets: &[u8], stream: bool, step: usize) -> Result<Vec<String>, Error> {
        let mut framer = Framer::new();
        framer.stream_bodies(stream);
        let mut found = Vec::new();
        for mut slice in octets.chunks(step) {
            while !slice.is_empty() {
                let body = framer.take_body(slice.len());
                slice = &slice[body..];
                let (taken, frame) = framer.feed(slice)?;
                slice = &slice[taken..];
                match frame {
                    Some(Frame::Response) => {
                        found.push(String::from_utf8_lossy(framer.held()).into_owned());
                    }
                    Some(Frame::Body(size)) => found.push(format!("<{size}>")),
                    None => {}
                }
            }
        }
        Ok(found)
    }

    fn check(octets: &str, stream: bool, expected: &[&str]) {
        for step in [1, 2, 7, 1000] {
            let found = framed(octets.as_bytes(), stream, step).unwrap();
            assert_eq!(found, expected, "{octets:?} in slices of {step}");
        }
    }

    #[test]
    fn lines() {
        check("* OK hi\r\n* 1 EXISTS\n", false, &["* OK hi\r\n", "* 1 EXISTS\r\n"]);
        check("* OK hi {5}\r\na OK {3}\r\n", false, &["* OK hi {5}\r\n", "a OK {3}\r\n"]);
        check("+\r\n+ {2}\r\n", false, &["+\r\n", "+ {2}\r\n"]);
        check("\r\n", false, &["\r\n"]);
    }

    #[test]
    fn literals_stay_where_they_are_small() {
        let list = "* LIST () \"/\" {3}\r\na\r\n\r\n";
        check(list, false, &[list]);
        check("* LIST () \"/\" {3+}\r\nabc\r\n", false, &["* LIST () \"/\" {3}\r\nabc\r\n"]);
        check("* X ~{0}\r\n)\n", false, &["* X {0}\r\n)\r\n"]);
        check("* X a{3}\r\n", false, &["* X a{3}\r\n"]);
    }

    #[test]
    fn bodies_are_taken_out() {
        let fetch = "* 1 FETCH (UID 7 BODY[] {5}\r\na\r\n)\n FLAGS ())\r\na OK\r\n";
        let whole = "* 1 FETCH (UID 7 BODY[] {0}\r\n FLAGS ())\r\n";
        check(fetch, true, &["<5>", whole, "a OK\r\n"]);
        let empty = "* 1 FETCH (BODY[]<0> {0}\r\n)\r\n";
        check(empty, true, &["<0>", empty]);
    }

    #[test]
    fn bounds_hold() {
        for (octets, stream) in [
            ("* X {9000}\r\n".to_owned(), true),
            ("* 1 FETCH (BODY[] {9000}\r\n".to_owned(), false),
            ("* X {99999999999999999999}\r\n".to_owned(), true),
            ("* X {1}\r\na ".repeat(70), false),
            ("x".repeat(RESPONSE_MAX + 1), false),
            (format!("* X{}", " {8000}\r\n".to_owned() + &"y".repeat(8000)).repeat(40), false),
        ] {
            assert!(framed(octets.as_bytes(), stream, 4096).is_err(), "{:.30}", octets);
        }
    }
}
