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
    "F-B1 wrong bytes sent",
    "F-B1 bytes of something else sent",
    "F-B1 answer cut short",
    "F-B1 bytes sent after the end",
    "F-B2 answer stalled",
    "F-B2 claimed what is not there",
    "F-B4 wrong length announced",
    "F-B9 claimed pieces that do not exist",
    "I-D9 node that lied not asked again",
    "F-C1 leader deposed",
    "F-C1 leadership transferred",
    "F-C2 voter demoted",
    "F-C2 voter promoted",
    "F-C2 voters changed",
    "F-C3 node removed, wiped and let in again",
    "F-C4 leader lost power in a change of voters",
    "F-C7 log purged",
    "F-C7 snapshot installed",
    "F-C9 node joined",
    "F-D11 empty disk",
    "F-D11 old disk",
    "F-D11 node noticed that its disk was old",
    "F-N1 datagram lost",
    "F-N2 datagram doubled",
    "F-N3 datagram delayed",
    "F-N4 split",
    "F-N4 one-way partition",
    "F-N4 bridge",
    "F-N4 node isolated",
    "F-N4 leader isolated",
    "F-N5 link switched",
    "F-N7 datagram dropped by a slow link",
    "F-N8 datagram corrupted",
    "F-P4 power cut of all nodes at once",
    "F-P5 node stopped in order",
    "F-T1 wall clock jumped",
    "F-N9 all nodes came back at other addresses",
    "discovery: member seen at another address",
    "discovery: peer gone",
    "discovery: peer seen where it is not",
    "client turned to another node",
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
