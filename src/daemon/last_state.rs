//! The last known state on disk, for `pecsync status` when there is no daemon to ask.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::board::Board;
use crate::journal::{Entry, Event, Journal};
use crate::status::Status;

const EVERY: Duration = Duration::from_secs(10);
/// Writing may take this part of the time at most, however many accounts there are; a daemon that
/// ends writes it once more.
const REST_PER_WORK: u32 = 400;

fn state_file(state_dir: &Path) -> PathBuf {
    state_dir.join("status.json")
}

/// What the last daemon wrote, and when.
pub fn read(state_dir: &Path) -> io::Result<(Status, Timestamp)> {
    let file = File::open(state_file(state_dir))?;
    let written = file.metadata()?.modified()?;
    let written = Timestamp::try_from(written).map_err(io::Error::other)?;
    let written = written.round(jiff::Unit::Second).map_err(io::Error::other)?;
    Ok((serde_json::from_reader(io::BufReader::new(file))?, written))
}

/// Writes it every now and then where it has changed, for ever.
pub async fn keep(board: Arc<Board>, state_dir: PathBuf, journal: Journal) {
    let (mut written, mut failing) = (0, false);
    loop {
        let begun = Instant::now();
        let (board, dir) = (board.clone(), state_dir.clone());
        let result = tokio::task::spawn_blocking(move || write(&board, &dir, written)).await;
        match result.map_err(io::Error::other).and_then(|written| written) {
            Ok(digest) => (written, failing) = (digest, false),
            Err(error) if !failing => {
                failing = true;
                let path = state_file(&state_dir);
                let text = format!("{} cannot be written: {error}", path.display());
                journal.emit(Entry::new(Event::InternalError, text).file(&path, 0));
            }
            Err(_) => {}
        }
        tokio::time::sleep(EVERY.max(begun.elapsed() * REST_PER_WORK)).await;
    }
}

/// Writes the state, whole or not at all, unless it is the one whose digest is `written`.
/// Returns its digest. Blocks.
pub fn write(board: &Board, state_dir: &Path, written: u64) -> io::Result<u64> {
    let json = serde_json::to_vec(&board.status())?;
    let mut hasher = DefaultHasher::new();
    json.hash(&mut hasher);
    let digest = hasher.finish();
    if digest == written {
        return Ok(digest);
    }
    put(&json, state_dir)?;
    Ok(digest)
}

/// Takes an account out of what the last daemon wrote, where there is no daemon. Blocks.
pub fn forget(address: &str, state_dir: &Path) -> io::Result<()> {
    let mut status = match read(state_dir) {
        Ok((status, _)) => status,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    status.accounts.retain(|account| account.address != address);
    put(&serde_json::to_vec(&status)?, state_dir)
}

fn put(json: &[u8], state_dir: &Path) -> io::Result<()> {
    let draft = state_dir.join("status.json.tmp");
    let mut file = File::create(&draft)?;
    file.write_all(json)?;
    // Without it a power loss may leave an empty file under the new name.
    file.sync_data()?;
    fs::rename(&draft, state_file(state_dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let board = Board::new(jiff::Timestamp::UNIX_EPOCH, Arc::default(), Arc::default());
        let digest = write(&board, dir.path(), 0).unwrap();
        assert_eq!(read(dir.path()).unwrap().0, board.status());
        fs::remove_file(state_file(dir.path())).unwrap();
        assert_eq!(write(&board, dir.path(), digest).unwrap(), digest);
        assert!(read(dir.path()).is_err(), "nothing had changed");
    }
}
