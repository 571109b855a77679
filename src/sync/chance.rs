//! Where jitter comes from.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

/// Numbers nobody foretells, or, in a simulation, those of a seed. Clones share their sequence.
#[derive(Clone, Default, Debug)]
pub struct Chance(Arc<Mutex<Option<u64>>>);

impl Chance {
    /// From here on the numbers are those of the seed.
    pub fn repeat(&self, seed: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(seed);
    }

    /// Between 0 and 1.
    pub fn next(&self) -> f64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match &mut *state {
            Some(state) => {
                // Knuth's constants; the high bits are the good ones.
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *state
            }
            // Every `RandomState` has keys of its own.
            None => RandomState::new().hash_one(0),
        };
        number as f64 / u64::MAX as f64
    }
}
