//! Putting every known bug back, one after the other, to see each of them found.
//!
//! A harness that finds nothing may be blind. It counts as found only what is not there without the
//! bug: the same seed has to hold every promise when the bug is taken out again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{bail, ensure};
use clap::ValueEnum;
use peerglass_simulations::{Mutation, Options, Violation, run_apart};

/// Seeds within which a bug has to be found (fault matrix 6.5).
const SEEDS_MAX: u64 = 500;

/// Put every known bug back. Fails if one is not found.
pub(crate) fn run(threads: u64) -> anyhow::Result<()> {
    let mut missed = Vec::new();
    for mutation in Mutation::value_variants() {
        let name = mutation.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        match find(*mutation, threads)? {
            Some((seed, violation)) => println!("{name:<24} found at seed {seed}: {}", violation.invariant),
            None => {
                println!("{name:<24} NOT found in {SEEDS_MAX} seeds");
                missed.push(name);
            }
        }
    }
    ensure!(missed.is_empty(), "known bugs that nothing finds: {}", missed.join(", "));
    Ok(())
}

/// Which of the seeds played first finds it, and as what.
fn find(mutation: Mutation, threads: u64) -> anyhow::Result<Option<(u64, Violation)>> {
    let (next, found) = (AtomicU64::new(1), Mutex::new(None));
    let sick = AtomicU64::new(0);
    let search = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > SEEDS_MAX {
                return;
            }
            let Some(violation) = run_apart(seed, Options { mutation: Some(mutation) }).violation else {
                continue;
            };
            // Nobody needs to look further, whatever this turns out to be.
            next.store(SEEDS_MAX + 1, Ordering::Relaxed);
            if run_apart(seed, Options::default()).violation.is_some() {
                sick.store(seed, Ordering::Relaxed);
            }
            let mut found = found.lock().expect("a searching thread does not panic");
            if found.as_ref().is_none_or(|(other, _)| seed < *other) {
                *found = Some((seed, violation));
            }
        }
    };
    std::thread::scope(|scope| (0..threads.max(1)).for_each(|_| drop(scope.spawn(search))));
    let sick = sick.into_inner();
    if sick > 0 {
        bail!("seed {sick} breaks a promise without any known bug; mend that first");
    }
    Ok(found.into_inner().expect("a searching thread does not panic"))
}
