//! The swarm of one manifest: what it falls into, and who asks whom for which part of it.
//!
//! Everything here is plain computing, without clock, chance or waiting: what happens goes in as calls that
//! carry their own time, what should be asked comes out. So the same code serves one pull in
//! production and a thousand nodes in a test. What is asked is carried out by `exchange`.

mod pieces;
mod plan;
#[cfg(test)]
mod tests;

pub(crate) use pieces::Pieces;
pub(crate) use plan::{Fetch, Plan, Setback};
