//! Power lost: of what was written since the last sync, some blocks are on the disk and some are
//! not, whatever their order.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pecsync::checkpoint::Store;

use crate::world::{Dice, Found, commit, copy, edits, files, look, rounds};

/// Commits before, so that segments of the log are reused.
const BEFORE: u32 = 60;
const COMMITS: u32 = 16;

/// The directory as it was when each of the last commits had just been acknowledged.
fn history() -> Vec<tempfile::TempDir> {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, _) = Store::open(dir.path()).expect("a store");
    let mut history = Vec::new();
    for number in 1..=BEFORE + COMMITS {
        commit(&store, edits(number)).expect("committed");
        if number >= BEFORE {
            let then = tempfile::tempdir().expect("a directory");
            copy(dir.path(), then.path());
            history.push(then);
        }
    }
    history
}

/// The commit under way is there whole or not at all, and those before it are, or it is noticed
/// that they are not.
#[test]
fn a_power_loss_leaves_a_state_that_was_committed() {
    let history = history();
    let tally = std::cell::RefCell::new(BTreeMap::new());
    rounds(40, |dice| {
        let at = dice.below(u64::from(COMMITS));
        let [old, new] = [at, at + 1].map(|at| history[at as usize].path());
        let dir = tempfile::tempdir().expect("a directory");
        mix(old, new, dir.path(), dice);
        let found = look(dir.path());
        let before = BEFORE + at as u32;
        println!("between {before} and the next: {found:?}");
        let kind = match found {
            Found::State(number) if number == before => "not there",
            Found::State(number) if number == before + 1 => "there",
            Found::State(number) => panic!("{number}: that is neither"),
            Found::Unreadable => "unreadable",
            Found::MovedAside => "moved aside",
        };
        *tally.borrow_mut().entry(kind).or_insert(0) += 1;
    });
    println!("the commit under way was: {:?}", tally.into_inner());
}

/// Makes a directory of which each block, length and name is old or new.
fn mix(old: &Path, new: &Path, mixed: &Path, dice: &mut Dice) {
    let below = |dir: &Path, file: &Path| file.strip_prefix(dir).expect("below").to_owned();
    let mut names: Vec<_> = files(old).iter().map(|file| below(old, file)).collect();
    names.extend(files(new).iter().map(|file| below(new, file)));
    names.sort();
    names.dedup();
    let block = *dice.pick(&[512, 4_096, 65_536]);
    let new_in_8 = 1 + dice.below(8);
    for name in names {
        let [old, new] = [old, new].map(|dir| fs::read(dir.join(&name)).ok());
        let octets = match (old, new) {
            // The witness is written after the sync.
            (Some(old), _) if name.ends_with("batches") => Some(old),
            (Some(old), Some(new)) => Some(mixed_octets(&old, &new, block, new_in_8, dice)),
            (old, new) => old.or(new).filter(|_| dice.below(2) == 0),
        };
        if let Some(octets) = octets {
            let path = mixed.join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, octets).expect("written");
        }
    }
}

fn mixed_octets(old: &[u8], new: &[u8], block: usize, new_in_8: u64, dice: &mut Dice) -> Vec<u8> {
    let length = *dice.pick(&[old.len(), new.len()]);
    let mut octets = vec![0; length];
    for at in (0..length).step_by(block) {
        let from = if dice.below(8) < new_in_8 { new } else { old };
        let end = (at + block).min(length);
        let there = end.min(from.len());
        if at < there {
            octets[at..there].copy_from_slice(&from[at..there]);
        }
    }
    octets
}
