//! Every mutant still fits the code: `make mutants` shows that simulated worlds catch each.

use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn every_mutant_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = std::fs::read_dir(root.join("tests/mutants")).expect("the mutants");
    let paths = listed.map(|entry| entry.expect("listed").path());
    let patches: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .collect();
    assert!(patches.len() >= 8, "only {} mutants", patches.len());
    for patch in patches {
        let file = std::fs::File::open(&patch).expect("a patch");
        let applied = Command::new("git")
            .args(["apply", "--check", "--recount", "-"])
            .current_dir(root)
            .stdin(Stdio::from(file))
            .output()
            .expect("git runs");
        let said = String::from_utf8_lossy(&applied.stderr);
        assert!(applied.status.success(), "{}: make it fit again: {said}", patch.display());
    }
}
