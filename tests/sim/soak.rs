//! Random worlds until somebody has seen enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::number;
use crate::sim::{mail, runner};

/// What `make test` lives of it.
const SECS: u64 = 2;

/// With PECSYNC_SOAK=1 (`make soak`) it begins at PECSYNC_SIM_FIRST, or anywhere, and ends at
/// Ctrl-C or SIGTERM, or after PECSYNC_SOAK_SECS. Otherwise it shows that it begins and ends.
#[test]
fn soak() {
    let stop = Arc::new(AtomicBool::new(false));
    let (first, secs) = if number("PECSYNC_SOAK").is_some() {
        for signal in [libc::SIGINT, libc::SIGTERM] {
            signal_hook::flag::register(signal, stop.clone()).expect("a handler");
        }
        let anywhere = || mail::Random::fresh_seed() >> 20;
        let first = number("PECSYNC_SIM_FIRST").unwrap_or_else(anywhere);
        (first, number("PECSYNC_SOAK_SECS"))
    } else {
        (1, Some(SECS))
    };
    println!("worlds from seed {first} on; SEED=N cargo test --test sim faults:: repeats one");
    let whole = runner::soak(first, secs, || stop.load(Ordering::Relaxed));
    assert!(whole.worlds > 0);
    assert!(whole.failed.is_empty(), "seeds that failed: {:?}", whole.failed);
}
