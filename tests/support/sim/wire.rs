//! Octets in and out of one connection, cut where the plan says; commands as tokens.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::habits::Habit;
use super::plan::Side;
use super::stage::Stage;

pub struct Wire {
    stream: DuplexStream,
    stage: Arc<Stage>,
    side: Side,
    /// Of all connections of its side.
    number: usize,
    buffer: Vec<u8>,
    /// Nobody is there to hear answers any more, but what was sent is still read and done.
    pub deaf: bool,
    /// Nothing more comes.
    cut: bool,
}

/// A piece of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Token {
    Word(String),
    /// A quoted string or a literal.
    Text(Vec<u8>),
    Open,
    Close,
}

/// A whole command; `text` is what a log shows of it.
pub struct Command {
    pub text: String,
    pub tokens: Vec<Token>,
    /// It held a `{n+}`: the largest such n.
    pub ran_ahead: Option<usize>,
    /// Octets of the longest line of it.
    pub line_max: usize,
}

const LITERAL_MAX: usize = 64 << 20;

impl Wire {
    pub fn new(stream: DuplexStream, stage: Arc<Stage>, side: Side, number: usize) -> Wire {
        Wire { stream, stage, side, number, buffer: Vec::new(), deaf: false, cut: false }
    }

    /// The next line without its CRLF. Safe to cancel.
    pub async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.drain(..end + 2).collect::<Vec<u8>>();
                return Ok(line[..end].to_vec());
            }
            self.fill().await?;
        }
    }

    async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill().await?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.cut {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        let mut some = [0; 4096];
        let count = self.stream.read(&mut some).await?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let allowed = self.stage.octets_pass(self.side, true, count);
        self.buffer.extend_from_slice(&some[..allowed]);
        // What came before the cut is still done, and its answers are lost.
        self.cut = allowed < count;
        self.deaf |= self.cut;
        Ok(())
    }

    /// Neither does nor says anything any more, until the other side gives up.
    pub async fn until_closed(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            self.fill().await?;
        }
    }

    pub async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        tokio::time::sleep(self.stage.delay_of(self.side)).await;
        if self.stage.is_frozen(self.side, self.number) {
            return self.until_closed().await;
        }
        if self.deaf {
            return Ok(());
        }
        let allowed = self.stage.octets_pass(self.side, false, octets.len());
        let mut left = &octets[..allowed];
        while !left.is_empty() {
            let (now, later) = left.split_at(self.stage.gulp_of(self.side).min(left.len()));
            self.stream.write_all(now).await?;
            tokio::task::yield_now().await;
            left = later;
        }
        match allowed < octets.len() {
            true => Err(ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }

    /// A request to go on.
    pub fn plus(&self, text: &str) -> String {
        match self.stage.half(self.side).traits.does(Habit::BarePlus) {
            true => "+\r\n".to_owned(),
            false => format!("+ {text}\r\n"),
        }
    }

    /// Reads a command with its literals, asking for those that do not run ahead.
    pub async fn command(&mut self) -> io::Result<Command> {
        let mut command = Command::empty();
        loop {
            let line = self.line().await?;
            command.line_max = command.line_max.max(line.len());
            let Some((line, count, ahead)) = announced(&line) else {
                command.take(&line);
                if self.stage.is_frozen(self.side, self.number) {
                    self.until_closed().await?;
                }
                return Ok(command);
            };
            command.take(line);
            if count > LITERAL_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
            if ahead {
                command.ran_ahead = command.ran_ahead.max(Some(count));
            } else {
                self.send(self.plus("go").as_bytes()).await?;
            }
            let literal = self.exactly(count).await?;
            command.text.push_str(&format!("{{{count}}}"));
            command.tokens.push(Token::Text(literal));
        }
    }
}

/// The literal announced at the end of a line: the line before it, its length, whether `+`.
fn announced(line: &[u8]) -> Option<(&[u8], usize, bool)> {
    let inner = line.strip_suffix(b"}")?;
    let (inner, ahead) = match inner.strip_suffix(b"+") {
        Some(inner) => (inner, true),
        None => (inner, false),
    };
    let brace = inner.iter().rposition(|octet| *octet == b'{')?;
    let count = std::str::from_utf8(&inner[brace + 1..]).ok()?.parse().ok()?;
    Some((&line[..brace], count, ahead))
}

impl Command {
    fn empty() -> Command {
        Command { text: String::new(), tokens: Vec::new(), ran_ahead: None, line_max: 0 }
    }

    fn take(&mut self, line: &[u8]) {
        self.text.push_str(&String::from_utf8_lossy(line));
        let mut rest = line;
        while let [first, after @ ..] = rest {
            match first {
                b' ' => rest = after,
                b'(' => {
                    self.tokens.push(Token::Open);
                    rest = after;
                }
                b')' => {
                    self.tokens.push(Token::Close);
                    rest = after;
                }
                b'"' => rest = self.quoted(after),
                _ => {
                    let end = rest.iter().position(|octet| b" ()\"".contains(octet));
                    let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
                    self.tokens.push(Token::Word(String::from_utf8_lossy(word).into_owned()));
                    rest = after;
                }
            }
        }
    }

    fn quoted<'l>(&mut self, mut rest: &'l [u8]) -> &'l [u8] {
        let mut text = Vec::new();
        loop {
            match rest {
                [b'\\', escaped, after @ ..] => {
                    text.push(*escaped);
                    rest = after;
                }
                [b'"', after @ ..] => {
                    rest = after;
                    break;
                }
                [octet, after @ ..] => {
                    text.push(*octet);
                    rest = after;
                }
                [] => break,
            }
        }
        self.tokens.push(Token::Text(text));
        rest
    }
}

impl Token {
    /// A word or a string, as text.
    pub fn text(&self) -> String {
        match self {
            Token::Word(word) => word.clone(),
            Token::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Token::Open => "(".to_owned(),
            Token::Close => ")".to_owned(),
        }
    }

    pub fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(own) if own.eq_ignore_ascii_case(word))
    }
}

#[test]
fn commands_are_cut_into_tokens() {
    let mut command = Command::empty();
    command.take(br#"a1 APPEND "Posta \"x\"" (\Seen $a) BODY.PEEK[HEADER]"#);
    let shown: Vec<String> = command.tokens.iter().map(Token::text).collect();
    let expected = ["a1", "APPEND", "Posta \"x\"", "(", "\\Seen", "$a", ")", "BODY.PEEK[HEADER]"];
    assert_eq!(shown, expected);
    assert_eq!(announced(b"a {12+}"), Some((&b"a "[..], 12, true)));
    assert_eq!(announced(b"a {12x}"), None);
}
