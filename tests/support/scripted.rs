//! A server that says what a script tells it to, and expects what the script expects. It shares
//! no code with the client.

// Each test file is a crate of its own and uses its own part of this.
#![allow(dead_code)]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the server does next. In what it says, `$` is the tag of the command heard last and `^`
/// that of the one before.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends text.
    Say(String),
    /// Waits for a line `tag text`.
    Hear(String),
    /// Waits for any line.
    HearAny,
    /// Waits for these very octets.
    Octets(Vec<u8>),
    /// Does nothing for so many milliseconds.
    Pause(u64),
    /// Closes the connection.
    Close,
}

pub fn say(text: impl Into<String>) -> Step {
    Step::Say(text.into())
}

pub fn hear(text: impl Into<String>) -> Step {
    Step::Hear(text.into())
}

pub fn octets(octets: impl AsRef<[u8]>) -> Step {
    Step::Octets(octets.as_ref().to_vec())
}

pub struct Scripted {
    pub port: u16,
    served: JoinHandle<Result<Vec<u8>, String>>,
}

impl Scripted {
    /// Plays the script to the first client that connects.
    pub async fn play(script: Vec<Step>) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
            Player { stream, unread: Vec::new(), tags: [String::new(), String::new()] }
                .play(script)
                .await
        });
        Scripted { port, served }
    }

    /// Waits until the client is gone; what it sent beyond the script. Panics where the client
    /// did not follow the script.
    pub async fn beyond(self) -> String {
        let served = tokio::time::timeout(std::time::Duration::from_secs(10), self.served).await;
        let beyond = served.expect("the client hangs").expect("the server panics");
        String::from_utf8_lossy(&beyond.unwrap_or_else(|what| panic!("{what}"))).into_owned()
    }
}

struct Player {
    stream: TcpStream,
    unread: Vec<u8>,
    tags: [String; 2],
}

impl Player {
    async fn play(mut self, script: Vec<Step>) -> Result<Vec<u8>, String> {
        for step in script {
            match step {
                Step::Say(text) => {
                    let text = text.replace('$', &self.tags[0]).replace('^', &self.tags[1]);
                    self.stream
                        .write_all(text.as_bytes())
                        .await
                        .map_err(|error| error.to_string())?;
                }
                Step::Hear(expected) => {
                    let line = self.line(&expected).await?;
                    let (tag, command) = line.split_once(' ').unwrap_or(("", &line));
                    if command != expected {
                        return Err(format!("heard {line:?} instead of {expected:?}"));
                    }
                    let tag = tag.to_owned();
                    self.tags = [tag, std::mem::take(&mut self.tags[0])];
                }
                Step::HearAny => {
                    let line = self.line("a command").await?;
                    let tag = line.split(' ').next().unwrap_or_default().to_owned();
                    self.tags = [tag, std::mem::take(&mut self.tags[0])];
                }
                Step::Octets(expected) => {
                    while self.unread.len() < expected.len() {
                        self.read(&format!("{expected:?}")).await?;
                    }
                    let heard: Vec<u8> = self.unread.drain(..expected.len()).collect();
                    if heard != expected {
                        let shown = String::from_utf8_lossy(&heard).into_owned();
                        let wanted = String::from_utf8_lossy(&expected).into_owned();
                        return Err(format!("heard {shown:?} instead of {wanted:?}"));
                    }
                }
                Step::Pause(millis) => {
                    tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
                }
                Step::Close => {
                    let _ = self.stream.shutdown().await;
                    return Ok(self.unread);
                }
            }
        }
        while self.stream.read_buf(&mut self.unread).await.is_ok_and(|read| read > 0) {}
        Ok(self.unread)
    }

    async fn line(&mut self, expected: &str) -> Result<String, String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.read(expected).await?;
        }
    }

    async fn read(&mut self, expected: &str) -> Result<(), String> {
        let read =
            self.stream.read_buf(&mut self.unread).await.map_err(|error| error.to_string())?;
        match read {
            0 => Err(format!("the client left; {expected:?} was expected")),
            _ => Ok(()),
        }
    }
}
