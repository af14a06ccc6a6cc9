//! The simulated disks of one machine: they keep what was synced and may lose everything else.
//!
//! A [`Machine`] outlives the node that runs on it. Each life of the node [opens](Machine::start) it
//! and gets handles of its own; when power fails, those handles go dead first, then the disks
//! decide, by their dice, what of the unsynced writes survived.
//!
//! # What they do wrong
//!
//! * Unsynced batches of a keyspace survive as a prefix; unsynced pages of a pack survive one by
//!   one, torn at sectors; unsynced creates and removes are undone (F-D1, F-D2, F-D3).
//! * A sync takes virtual time, now and then much of it (F-D9), and may fail, after which nothing it
//!   should have covered ever becomes durable (F-D5).
//! * Packs and databases run full (F-D8), reads and writes fail (F-D4), unsynced pages rot (F-D6).
//! * The machine loses power at its n-th disk operation, or its process is killed there: from then
//!   on no sync returns and no write counts, so every await of the write paths is hit in some seed.

mod digest;
mod faults;
mod keyspace;
mod machine;
mod pack_file;
mod packs;
mod power;

pub(crate) use faults::{DISK_FULL, DiskFaults};
pub(crate) use machine::{CrashKind, DiskImage, Machine};
