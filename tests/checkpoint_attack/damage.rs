//! One file of the store is damaged while nobody looks.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use pecsync::checkpoint::Store;

use crate::world::{Dice, Found, commit, copy, edits, files, look, rounds};

const COMMITS: u32 = 24;
const BLOCK: u64 = 4_096;

/// Closed in between, so that there is a snapshot behind which the log goes on.
fn furnished() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for part in [1..=COMMITS / 2, COMMITS / 2 + 1..=COMMITS] {
        let (store, _) = Store::open(dir.path()).expect("a store");
        part.for_each(|number| commit(&store, edits(number)).expect("committed"));
    }
    dir
}

/// What was acknowledged is there, or its absence is noticed, and what is damaged can be let go.
#[test]
fn no_damage_is_taken_for_the_truth() {
    let whole = furnished();
    assert_eq!(files(whole.path()).len(), 5, "db, conf, a snapshot, the witness, the lock");
    let tally = std::cell::RefCell::new(std::collections::BTreeMap::new());
    rounds(40, |dice| {
        let dir = tempfile::tempdir().expect("a directory");
        copy(whole.path(), dir.path());
        let file = dice.pick(&files(&dir.path().join("checkpoint"))).clone();
        let damage = damage(&file, dice);
        println!("{}: {damage}", file.display());
        let found = look(dir.path());
        let intact = found == Found::State(COMMITS);
        assert!(intact || !matches!(found, Found::State(_)), "{found:?}: lost in silence");
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        *tally.borrow_mut().entry((name, format!("{found:?}"))).or_insert(0) += 1;
    });
    println!("{:#?}", tally.into_inner());
}

fn damage(path: &Path, dice: &mut Dice) -> String {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let length = fs::metadata(path).expect("a file").len();
    let at = dice.below(length);
    let write = |octets: &[u8], at: u64| file.write_all_at(octets, at).expect("written");
    match dice.below(5) {
        0 => {
            let flips = 1 + dice.below(8);
            for _ in 0..flips {
                let at = dice.below(length);
                let mut octet = [0];
                file.read_exact_at(&mut octet, at).expect("read");
                write(&[octet[0] ^ 1 << dice.below(8)], at);
            }
            format!("{flips} bits flipped")
        }
        1 => {
            file.set_len(at).expect("cut");
            format!("cut to {at} of {length}")
        }
        2 => {
            write(&vec![0; (length - at) as usize], at);
            format!("zeroes from {at} to {length}")
        }
        3 => {
            let garbage: Vec<u8> = (0..BLOCK.min(length - at)).map(|_| dice.octet()).collect();
            write(&garbage, at);
            format!("{} octets of garbage at {at}", garbage.len())
        }
        _ => {
            // A write that went to the wrong place.
            let (from, to) = (at / BLOCK * BLOCK, dice.below(length) / BLOCK * BLOCK);
            let mut block = vec![0; BLOCK.min(length - from.max(to)) as usize];
            file.read_exact_at(&mut block, from).expect("read");
            write(&block, to);
            format!("the block at {from} over that at {to}")
        }
    }
}
