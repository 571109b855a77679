//! The store under attack: files flipped, cut and zeroed, power lost between two syncs, a full
//! and a read-only disk. It opens with a state that was committed, or says what it cannot read,
//! or is moved aside to be rebuilt from the servers. Never a wrong answer, a panic or a hang.
//!
//! A failing round prints its seed. `PECSYNC_SEED=N` repeats it, `PECSYNC_ROUNDS=N` has more.

mod damage;
mod full;
mod power;
mod world;
