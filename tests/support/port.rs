//! Ports for the tests' servers.

use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// A port that no other test gets while this process lives: tests of several processes start
/// servers at the same time, and one must not be taken for another. It lies below those that the
/// system gives to whoever connects: one of them could take it between our look and the server's,
/// or a connection to it meet itself.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step =
            NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
        let port = 20_000 + (step % 12_000) as u16;
        let path = std::env::temp_dir().join(format!("pecsync-test-port-{port}"));
        let reserved = fs::File::create(path).expect("a lock file");
        if reserved.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            // Held until the process ends.
            std::mem::forget(reserved);
            return port;
        }
    }
}
