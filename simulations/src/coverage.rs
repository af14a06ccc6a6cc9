//! Whether the faults really happened. A run of many seeds in which one never fired proves nothing
//! about it.

use crate::chronicle::Coverage;

/// Runs from which on every fault must have fired.
pub const SEEDS_FOR_ALL: u64 = 200;

/// What must have happened in [`SEEDS_FOR_ALL`] runs, by the ids of the fault matrix.
const REQUIRED: &[&str] = &[
    "F-P1 kill, cache kept",
    "F-P2 crash during recovery",
    "F-P4 power cut",
    "crash at a drawn disk operation",
    "crash while an upload was going on",
    "F-D1 unsynced end of the log lost",
    "F-D1 unsynced end of the catalog lost",
    "F-D1 unsynced end of the index lost",
    "F-D1 pack cut short",
    "F-D1 pack page lost",
    "F-D2 torn pack page",
    "F-D3 create undone",
    "F-D3 remove undone",
    "F-D4 failed append",
    "F-D4 failed read",
    "F-D5 failed sync of a database",
    "F-D5 failed sync of a pack",
    "F-D5 failed sync of the pack directory",
    "F-D6 unsynced pack page rotten",
    "F-D6 bit flipped at rest",
    "F-D8 pack disk full",
    "F-D8 database full",
    "F-D9 slow sync",
    "node gave up after a disk fault",
    "client hung up in an upload",
    "two uploads to one image at once",
    "upload refused by a full disk",
    "download refused because a chunk was rotten",
];

/// Add the counts of one run to those of others.
pub fn add(total: &mut Coverage, run: &Coverage) {
    for (what, times) in run {
        *total.entry(what).or_default() += times;
    }
}

/// What should have happened and did not.
pub fn missing(total: &Coverage) -> Vec<&'static str> {
    REQUIRED.iter().copied().filter(|what| !total.contains_key(what)).collect()
}
