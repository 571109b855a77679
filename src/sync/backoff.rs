//! How long to wait before trying again. Pure: the jitter is passed in.

use std::time::Duration;

/// The wait after the first failure.
pub const FIRST: Duration = Duration::from_secs(2);
/// No wait is longer, whatever the server asks for.
pub const LONGEST: Duration = Duration::from_secs(600);
/// Inside a cutover window our own doubling stops here.
pub const LONGEST_IN_WINDOW: Duration = Duration::from_secs(120);

/// The wait after so many failures in a row (at least one): doubles from [`FIRST`], then between
/// half and all of that, as `jitter` (0 to 1) has it. A server's `hint` is obeyed up to
/// [`LONGEST`], a little spread so that not everybody returns with its last second.
pub fn delay(failures: u32, hint: Option<Duration>, in_window: bool, jitter: f64) -> Duration {
    let jitter = jitter.clamp(0.0, 1.0);
    let longest = if in_window { LONGEST_IN_WINDOW } else { LONGEST };
    let doublings = failures.saturating_sub(1).min(16);
    let doubled = (FIRST * (1 << doublings)).min(longest);
    let own = doubled.mul_f64(0.5 + jitter / 2.0);
    let hinted = hint.unwrap_or_default().min(LONGEST).mul_f64(1.0 + jitter / 10.0);
    own.max(hinted).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_cap() {
        let check = |failures, hint: Option<u64>, in_window, jitter, expected_secs: f64| {
            let hint = hint.map(Duration::from_secs);
            let delay = delay(failures, hint, in_window, jitter).as_secs_f64();
            assert!(
                (delay - expected_secs).abs() < 0.001,
                "{failures} failures, {hint:?}, in window {in_window}, jitter {jitter}: {delay}"
            );
        };
        check(1, None, false, 1.0, 2.0);
        check(2, None, false, 1.0, 4.0);
        check(5, None, false, 1.0, 32.0);
        check(9, None, false, 1.0, 512.0);
        check(10, None, false, 1.0, 600.0);
        check(u32::MAX, None, false, 1.0, 600.0);
        // Nobody has failed yet: as after the first.
        check(0, None, false, 1.0, 2.0);
        // Jitter takes away up to half.
        check(5, None, false, 0.0, 16.0);
        check(5, None, false, 0.5, 24.0);
        check(5, None, false, 7.0, 32.0);
        // A cutover does not wait ten minutes.
        check(10, None, true, 1.0, 120.0);
        check(3, None, true, 1.0, 8.0);
        // The server's word counts where it asks for more, up to ten minutes, window or not.
        check(1, Some(60), false, 0.0, 60.0);
        check(1, Some(60), false, 1.0, 66.0);
        check(8, Some(60), false, 1.0, 256.0);
        check(1, Some(300), true, 0.0, 300.0);
        check(1, Some(86_400), false, 1.0, 600.0);
    }
}
