//! A world follows from its seed, and the first seeds hold every promise.

use peerglass_simulations::{Options, run_apart};

/// Of the first seeds, two with one node and two with clusters, in one of which a node lies.
const SEEDS: [u64; 4] = [1, 3, 7, 42];

/// Without this no other result means anything (fault matrix 6.5): a seed played twice, each time on
/// a fresh thread, writes the same events at the same virtual times, byte for byte. In a cluster that
/// includes every datagram's time and length. These have power cuts, kills, failing disks and broken
/// networks.
#[test]
fn one_seed_twice() {
    for seed in SEEDS {
        let first = run_apart(seed, Options::default());
        let second = run_apart(seed, Options::default());

        let differ = first.events.iter().zip(&second.events).position(|(first, second)| first != second);
        if let Some(at) = differ {
            panic!("seed {seed}, event {at} differs:\n{}\n{}", first.events[at], second.events[at]);
        }
        assert_eq!(first.trace_digest(), second.trace_digest(), "seed {seed}");
        assert!(first.events.len() > 100, "seed {seed} does something: {} events", first.events.len());
    }
}

/// A few worlds on every change; `make chaos` plays many.
#[test]
fn the_first_seeds_hold_every_promise() {
    for seed in 1..=6 {
        let report = run_apart(seed, Options::default());
        if let Some(violation) = report.violation {
            panic!("seed {seed}: {violation}");
        }
    }
}
