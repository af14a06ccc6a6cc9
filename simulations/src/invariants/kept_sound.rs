//! I-D9: a bad chunk of a peer is never kept under the name it was asked for by, and an honest peer is never banned
//! because of another's bytes.

use crate::chronicle::Violation;

const INVARIANT: &str = "I-D9 (nothing bad of a peer is kept)";

/// A node on sound disks learnt `losses` times that something it keeps is not what it should be.
pub(crate) fn losses(node: &str, losses: u64, disks_are_sound: bool) -> Option<Violation> {
    (losses > 0 && disks_are_sound).then(|| Violation {
        invariant: INVARIANT,
        subject: format!("what {node} keeps"),
        expected: "what its names say, as long as its disks are sound".to_owned(),
        got: format!("{losses} times something else"),
    })
}

/// A node read all that it keeps.
pub(crate) fn reread(node: &str, manifest: &str, damaged: u64) -> Option<Violation> {
    (damaged > 0).then(|| Violation {
        invariant: INVARIANT,
        subject: format!("manifest {manifest}, kept by {node}"),
        expected: "blobs that are what their names say".to_owned(),
        got: format!("{damaged} that are not"),
    })
}

/// A node banned others `bans` times. Where nobody lies nobody may be, and the liar has only honest ones to ask.
pub(crate) fn bans(node: &str, bans: u64, somebody_else_lies: bool) -> Option<Violation> {
    (bans > 0 && !somebody_else_lies).then(|| Violation {
        invariant: "I-D9 (an honest peer is never banned)",
        subject: node.to_owned(),
        expected: "no ban where all others are honest".to_owned(),
        got: format!("{bans} bans"),
    })
}
