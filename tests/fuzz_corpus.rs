//! Everything in `fuzz/corpus` passes the checks that the fuzzers drive: what they once found
//! stays mended, on any toolchain.

use std::fs;
use std::path::Path;

use pecsync::fuzzing::CHECKS;

#[test]
fn what_the_fuzzers_know_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut octets = 0;
    for (name, check) in CHECKS {
        let mut files = 0;
        for entry in fs::read_dir(corpus.join(name)).expect("a corpus for each check") {
            let path = entry.expect("listed").path();
            let input = fs::read(&path).expect("a file of octets");
            // Says which, should it panic.
            println!("{}", path.display());
            check(&input);
            (files, octets) = (files + 1, octets + input.len());
        }
        assert!(files > 0, "no corpus for {name}");
    }
    assert!(octets < 300_000, "{octets} octets: keep the corpora small");
}

/// A program that is not in the table is not replayed here.
#[test]
fn every_program_has_its_check() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let stem = |path: &Path| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let entries = fs::read_dir(programs).expect("the fuzzers");
    let mut programs: Vec<String> = entries.map(|e| stem(&e.expect("listed").path())).collect();
    programs.sort();
    let mut checks: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    checks.sort();
    assert_eq!(programs, checks);
}
