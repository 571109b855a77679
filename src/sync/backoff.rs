//! stand-in
use std::time::Duration;
pub fn delay(attempts: u32, jitter: f64) -> Duration {
    Duration::from_secs(1 << attempts.min(8)).mul_f64(0.5 + jitter)
}
pub fn jitter() -> f64 {
    0.5
}
