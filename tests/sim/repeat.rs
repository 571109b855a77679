//! A seed repeats its world: every octet count, every answer and every instant.

use crate::sim::worlds::{random, small};

#[test]
fn the_same_seed_makes_the_same_world() {
    let worlds = (1..=40).map(random).chain([small("small")]);
    for world in worlds {
        let log = || match world.live() {
            Ok(ended) => ended.log,
            Err(report) => vec![report],
        };
        let (first, second) = (log(), log());
        let differs = first.iter().zip(&second).position(|(one, other)| one != other);
        if let Some(at) = differs {
            panic!("{}: line {at}:\n{}\n{}", world.name, first[at], second[at]);
        }
        assert_eq!(first.len(), second.len(), "{}", world.name);
    }
}
