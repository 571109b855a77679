//! A simulated world for crash and fault tests: two IMAP servers in memory, the product between
//! them, a plan of what goes wrong, and a judge.
//!
//! The servers share no code with the product: what judges it must not make its mistakes. Only
//! `product` and `world` know it, as the daemon would. Reading order: `model` (an account), `wire`,
//! `session` and `habits` (a server), `plan` (what goes wrong), `stage` (where it happens), `product`,
//! `world` (one life from start to completion), `calendar` (the same by the days of a real
//! configuration), `judge`, `runner` (many worlds at
//! once), `worlds` (which there are).

// Each test file is a crate of its own and uses its own part of this.
#![allow(dead_code, unused_imports)]

pub mod calendar;
pub mod change;
pub mod dates;
pub mod events;
pub mod fetch;
pub mod habits;
pub mod judge;
#[path = "../mail.rs"]
pub mod mail;
pub mod model;
pub mod plan;
pub mod product;
pub mod runner;
pub mod session;
pub mod stage;
pub mod traits;
pub mod wire;
pub mod world;
pub mod worlds;

pub use habits::Habit;
pub use mail::Random;
pub use plan::{Crash, Cut, Event, Kill, Late, Lie, Memory, Moment, Plan, Reply, Side, Welcome};
pub use traits::Traits;
pub use world::{Post, World};
