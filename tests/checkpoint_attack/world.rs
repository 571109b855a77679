//! A history of commits after each of which is known what the store must hold, and the dice.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pecsync::checkpoint::*;
use pecsync::words::*;

pub const ACCOUNT: AccountId = AccountId(1);
/// The first loses its oldest links again, the second one keeps them all.
const FOLDERS: [FolderId; 2] = [FolderId(1), FolderId(2)];
const LINKS_A_COMMIT: u32 = 100;
/// In the first folder, counted in commits.
const KEPT: u32 = 4;

/// What the `number`th commit writes, from 1.
pub fn edits(number: u32) -> Vec<Edit> {
    let mut edits = vec![Edit::PutAccount(account(number)), Edit::PutFolder(folder(number))];
    for folder in FOLDERS {
        edits.extend(links_of(number).map(|uid| Edit::PutKnown(folder, uid, known(folder, uid))));
    }
    if let Some(old) = number.checked_sub(KEPT).filter(|old| *old > 0) {
        edits.extend(links_of(old).map(|uid| Edit::DropKnown(FOLDERS[0], uid)));
    }
    edits
}

/// Half of them in new chunks, half in those of former commits.
fn links_of(number: u32) -> impl Iterator<Item = Uid> {
    let place = move |link| match link % 2 {
        0 => number * LINKS_A_COMMIT + link,
        _ => 1_000_000 + link * 1_000 + number,
    };
    (0..LINKS_A_COMMIT).filter_map(move |link| Uid::new(place(link)))
}

/// Digests that do not compress and do not repeat.
fn known(folder: FolderId, uid: Uid) -> Known {
    let mut dice = Dice::of(u64::from(folder.0) << 32 | u64::from(uid.get()));
    Known::Linked(Link {
        target_uid: Some(uid),
        origin: Origin::Copied,
        size: dice.below(300_000),
        instant: InternalDate(1_700_000_000),
        header: HeaderDigest(std::array::from_fn(|_| dice.octet())),
        sha256: Sha256(std::array::from_fn(|_| dice.octet())),
        flags: Flags::of_names(["\\Seen", "$Forwarded"]),
        unsure: None,
        proof: Proof::Listed,
        suspect: false,
        altered: None,
    })
}

fn account(number: u32) -> AccountRecord {
    let place = |host: &str| Place { host: host.into(), user: "mario".into() };
    AccountRecord {
        id: ACCOUNT,
        address: "mario@pec.it".into(),
        migration: "epap".into(),
        enrolled_by: "conf.d/mario.toml".into(),
        source: place("old.example"),
        target: place("new.example"),
        phase: Phase::Copying,
        sealed_at: None,
        completed_at: None,
        source_seen_until: Some(number.into()),
        first_copy_completed: false,
        removals_suspended: false,
        refused_credentials: None,
        worked_credentials: Some([7; 16]),
    }
}

fn folder(number: u32) -> FolderRecord {
    FolderRecord {
        id: FOLDERS[0],
        account: ACCOUNT,
        source_name: b"INBOX"[..].into(),
        target_name: b"INBOX"[..].into(),
        source_shown: "INBOX".into(),
        target_shown: "INBOX".into(),
        exempt: false,
        source_seen: None,
        target_seen: None,
        first_copy_completed: false,
        compared_at: number.into(),
    }
}

/// What a store turned out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// As so many commits left it.
    State(u32),
    /// Opened, but for something it says it cannot read.
    Unreadable,
    MovedAside,
}

/// Opens the store in a state directory and looks at all of it.
pub fn look(dir: &Path) -> Found {
    let (store, moved_aside) = Store::open(dir).expect("it opens");
    let found = match (&moved_aside, state(&store)) {
        (None, Ok(number)) => Found::State(number),
        (None, Err(error)) => {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            // Its account is forgotten, so that it can be derived anew.
            commit(&store, vec![Edit::DropAccount(ACCOUNT)]).expect("forgotten");
            Found::Unreadable
        }
        (Some(aside), state) => {
            assert!(aside.starts_with(dir) && aside.is_dir());
            assert_eq!(state.expect("a new store"), 0);
            Found::MovedAside
        }
    };
    if found != Found::Unreadable {
        commit(&store, edits(1)).expect("it can be written");
    }
    found
}

/// How many commits made what the store holds. Panics where that are not the same for all of it.
pub fn state(store: &Store) -> io::Result<u32> {
    let accounts = store.accounts()?;
    if accounts.is_empty() {
        store.account("mario@pec.it")?;
    }
    let folders = store.folders(ACCOUNT)?;
    let links: Vec<_> =
        FOLDERS.iter().map(|folder| store.known(*folder)).collect::<Result<_, _>>()?;
    let number = folders.first().map_or(0, |folder| folder.compared_at as u32);
    let some = (number > 0).then_some(number).into_iter();
    assert_eq!(folders, some.clone().map(folder).collect::<Vec<_>>());
    assert_eq!(accounts, some.map(account).collect::<Vec<_>>());
    for ((folder, first), found) in
        FOLDERS.into_iter().zip([number.saturating_sub(KEPT - 1).max(1), 1]).zip(links)
    {
        let mut uids: Vec<Uid> = (first..=number).flat_map(links_of).collect();
        uids.sort();
        assert!(found.iter().all(|(uid, one)| *one == known(folder, *uid)), "{folder:?}");
        assert!(found.iter().map(|(uid, _)| *uid).eq(uids), "{folder:?}: some are older");
    }
    Ok(number)
}

pub fn commit(store: &Store, edits: Vec<Edit>) -> Result<(), StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(store.writer().commit(edits))
}

/// Does it write?
pub fn flush(store: &Store) -> Result<(), StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(store.alive())
}

/// All files below, with their paths.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("listed")) {
        match entry.file_type().expect("a type").is_dir() {
            true => files.extend(self::files(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files.sort();
    files
}

pub fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let copy = to.join(file.strip_prefix(from).expect("below"));
        fs::create_dir_all(copy.parent().expect("a directory")).expect("made");
        fs::copy(file, copy).expect("copied");
    }
}

/// Runs `round` with one seed after the other, and says which one failed.
pub fn rounds(count: u64, round: impl Fn(&mut Dice)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let (first, count) = match number("PECSYNC_SEED") {
        Some(seed) => (seed, 1),
        None => (now / 1000 % 1_000_000_000, number("PECSYNC_ROUNDS").unwrap_or(count)),
    };
    for seed in first..first + count {
        // Shown if the round fails.
        println!("PECSYNC_SEED={seed}");
        round(&mut Dice::of(seed));
    }
}

/// splitmix64.
pub struct Dice(u64);

impl Dice {
    pub fn of(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end` - 1; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    pub fn octet(&mut self) -> u8 {
        self.next() as u8
    }

    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len() as u64) as usize]
    }
}
