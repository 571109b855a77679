//! The store under attack: files flipped, cut and zeroed, power lost between two syncs, a full
//! and a read-only disk. It opens with a state that was committed, or says what it cannot read,
//! or is moved aside to be rebuilt from the servers. Never a record that was not committed, a panic
//! or a hang.
//!
//! A failing round prints its seed. `PECSYNC_SEED=N` throws the same dice again (where sled lays
//! what in its file differs a little from run to run), `PECSYNC_ROUNDS=N` has more rounds.

mod damage;
mod full;
mod power;
mod world;
