//! The byte path as its callers see it, on disks that behave and on disks that do not.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod ahead;
mod bodies;
mod compressed;
mod concurrent;
mod crashes;
mod damage;
mod evict;
mod exchange;
mod failed_syncs;
mod hindered;
mod hostile;
mod limits;
mod pull_crashes;
mod reclaim;
mod resume;
mod round_trip;
mod scrub;
mod starts;
mod swarm;
mod world;
