//! The sockets: `control.sock` takes orders from whom its mode lets in, `status.sock` answers
//! `status` only. Clients may be slow, silent or talk nonsense: each costs one of a few places,
//! for a bounded time.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::board::Board;
use super::protocol::{Answer, Line, REQUEST_MAX, Request, StatusOf, exit};
use crate::journal::shown;

/// Clients served at once, a socket; the others wait in the kernel's queue.
const CLIENTS_MAX: usize = 32;
/// How long a client may take to say what it wants, or to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lines written together.
const LINES_AT_ONCE: usize = 128;
const NOBODY: u32 = 65534;
/// Members of it may give orders.
const ADMIN_GROUP: &std::ffi::CStr = c"pecsync-admin";

/// An order on its way to the supervisor.
pub struct Command {
    pub request: Request,
    /// Who asks, for the journal.
    pub uid: Option<u32>,
    pub answer: oneshot::Sender<Reply>,
}

/// What the supervisor has to say.
pub enum Reply {
    Answer(Answer),
    /// Many lines; the last one is an answer.
    Lines(mpsc::Receiver<Line>),
}

/// Listens at `path`, instead of a socket that a dead daemon left. Fails with `AddrInUse` where
/// somebody listens or something else than a socket stands there.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    make_directory(path.parent().unwrap_or(Path::new("/")))?;
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    let _ = give_to_group(path);
    // The umask has kept everybody else out until here.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Where nobody has prepared one: for those who may give orders, like that of the unit.
fn make_directory(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let _ = give_to_group(dir);
    fs::set_permissions(dir, fs::Permissions::from_mode(0o750))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let taken = |why: &str| Err(io::Error::new(ErrorKind::AddrInUse, why.to_owned()));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => return taken("it is not a socket"),
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => taken("another pecsync listens there"),
    }
}

/// Under systemd the directory is setgid and has done so already; this is for everybody else.
fn give_to_group(path: &Path) -> io::Result<()> {
    // SAFETY: getgrnam returns null or a struct that stays until the next call; nothing else
    // in this process calls it.
    let group = unsafe {
        let found = libc::getgrnam(ADMIN_GROUP.as_ptr());
        if found.is_null() {
            return Ok(());
        }
        (*found).gr_gid
    };
    std::os::unix::fs::chown(path, None, Some(group))
}

/// Serves for ever. `commands` is absent for the socket that answers `status` only.
pub async fn serve(
    listener: UnixListener,
    board: Arc<Board>,
    commands: Option<mpsc::Sender<Command>>,
) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (board, commands) = (board.clone(), commands.clone());
                tokio::spawn(async move {
                    // An error is the client's: it hung up, or was too slow.
                    let _ = attend(stream, &board, commands).await;
                    drop(place);
                });
            }
            // Out of descriptors, most likely: others may be given back meanwhile.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn attend(
    stream: UnixStream,
    board: &Arc<Board>,
    commands: Option<mpsc::Sender<Command>>,
) -> io::Result<()> {
    // In a user namespace (PrivateUsers=) strangers all look like nobody: that names no one.
    let uid = stream.peer_cred().ok().map(|peer| peer.uid()).filter(|uid| *uid != NOBODY);
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let answer = match read_line(&mut reader).await? {
            Heard::End => return Ok(()),
            Heard::TooLong => {
                let answer = Answer::refuse(exit::USAGE, "the request is too long");
                return write_line(&mut writer, serde_json::to_vec(&answer)?).await;
            }
            Heard::Request(line) => match (understand(&line), &commands) {
                (Err(why), _) => serde_json::to_vec(&Answer::refuse(exit::USAGE, why))?,
                (Ok(Request::Status(wanted)), _) => status(board, wanted).await?,
                (Ok(_), None) => {
                    serde_json::to_vec(&Answer::refuse(exit::NO, "this socket only tells status"))?
                }
                (Ok(request), Some(commands)) => match forward(request, uid, commands).await {
                    Reply::Answer(answer) => serde_json::to_vec(&answer)?,
                    Reply::Lines(lines) => write_lines(&mut writer, lines).await?,
                },
            },
        };
        write_line(&mut writer, answer).await?;
    }
}

enum Heard {
    Request(Vec<u8>),
    TooLong,
    End,
}

async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Heard> {
    let mut line = Vec::new();
    let mut bounded = reader.take(REQUEST_MAX as u64);
    timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await??;
    Ok(match line.last() {
        Some(b'\n') => Heard::Request(line),
        _ if line.len() >= REQUEST_MAX => Heard::TooLong,
        // Whoever hangs up in the middle of a line wants nothing any more.
        _ => Heard::End,
    })
}

async fn write_line(writer: &mut OwnedWriteHalf, mut line: Vec<u8>) -> io::Result<()> {
    line.push(b'\n');
    timeout(PATIENCE, writer.write_all(&line)).await?
}

/// Passes on what comes; gives the answer that is its last line. Who produces the lines notices
/// by their channel that the client has gone.
async fn write_lines(
    writer: &mut OwnedWriteHalf,
    mut lines: mpsc::Receiver<Line>,
) -> io::Result<Vec<u8>> {
    let mut some = Vec::new();
    while lines.recv_many(&mut some, LINES_AT_ONCE).await > 0 {
        let mut octets = Vec::new();
        for line in some.drain(..) {
            if let Line::Answer(answer) = line {
                timeout(PATIENCE, writer.write_all(&octets)).await??;
                return Ok(serde_json::to_vec(&answer)?);
            }
            serde_json::to_writer(&mut octets, &line)?;
            octets.push(b'\n');
        }
        timeout(PATIENCE, writer.write_all(&octets)).await??;
    }
    Ok(serde_json::to_vec(&Answer::refuse(exit::NO, "it ended without an answer"))?)
}

/// Or why not.
pub(super) fn understand(line: &[u8]) -> Result<Request, String> {
    const LATER: [&str; 1] = ["enroll"];
    serde_json::from_slice(line).map_err(|error| {
        let named = serde_json::from_slice::<serde_json::Value>(line).ok();
        let named = named.as_ref().and_then(|value| value.get("do")).and_then(|name| name.as_str());
        match named {
            Some(name) if LATER.contains(&name) => format!("{name} is not supported yet"),
            _ => format!("not understood: {}", shown(&error.to_string())),
        }
    })
}

/// Thousands of accounts take a while to write down: not on a thread that copies mail.
async fn status(board: &Arc<Board>, wanted: StatusOf) -> io::Result<Vec<u8>> {
    let board = board.clone();
    let written = tokio::task::spawn_blocking(move || {
        let status = board.status_of(&wanted);
        serde_json::to_vec(&Answer { status: Some(status.into()), ..Answer::default() })
    });
    Ok(written.await.map_err(io::Error::other)??)
}

async fn forward(request: Request, uid: Option<u32>, commands: &mpsc::Sender<Command>) -> Reply {
    let (answer, heard) = oneshot::channel();
    let _ = commands.send(Command { request, uid, answer }).await;
    // No answer: the supervisor has left its loop.
    heard.await.unwrap_or_else(|_| {
        Reply::Answer(Answer::refuse(exit::UNAVAILABLE, "the daemon is stopping"))
    })
}
