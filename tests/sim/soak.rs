//! Random worlds until somebody has seen enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::number;
use crate::sim::{mail, runner};

/// Begins at PECSYNC_SIM_FIRST, or anywhere; ends at Ctrl-C or SIGTERM, or after
/// PECSYNC_SOAK_SECS.
#[test]
#[ignore = "runs until it is stopped: make soak"]
fn soak() {
    let first = number("PECSYNC_SIM_FIRST").unwrap_or_else(|| mail::Random::fresh_seed() >> 20);
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [libc::SIGINT, libc::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).expect("a handler");
    }
    println!("worlds from seed {first} on; SEED=N cargo test --test sim random repeats one");
    let whole = runner::soak(first, number("PECSYNC_SOAK_SECS"), || stop.load(Ordering::Relaxed));
    assert!(whole.failed.is_empty(), "seeds that failed: {:?}", whole.failed);
}
