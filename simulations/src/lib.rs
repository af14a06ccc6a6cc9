//! Whole nodes in one process, and what must never happen to them.
//!
//! [`run`] plays one world: virtual time, a simulated network, disks that lose what was not synced,
//! clients that record every answer, and the node itself, put together by the same
//! [`peerglass::assemble`] that the program uses. Everything in it follows from the seed, so a run
//! that broke a promise can be played again, event by event.
//!
//! Start with `world.rs`; what must never happen is in `invariants/`, one file each.

// rustdoc is not given the workspace's flags, and runs nothing.
#[cfg(not(any(tokio_unstable, doc)))]
compile_error!(
    "simulations need `--cfg tokio_unstable`: without it tokio's own choices are not seeded. The workspace's \
     .cargo/config.toml sets it; a RUSTFLAGS variable in the environment replaces that file, so add it there"
);

mod chronicle;
pub mod coverage;
mod dice;
mod disk;
mod invariants;
pub mod judge;
mod mutation;
mod network;
mod oracle;
mod scenarios;
mod workload;
mod world;

pub use chronicle::{Coverage, Violation};
pub use mutation::Mutation;
pub use world::{Options, Report, run, run_apart};
