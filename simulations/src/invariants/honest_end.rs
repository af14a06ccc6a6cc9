//! I-S3, I-L1: a node ends or refuses to start only when its disk told it of a fault.
//!
//! Losing what was not synced is not a fault: a node starts after every crash.

use crate::chronicle::Violation;

/// A node that ended by itself, or could not start, although its disk had been honest with it.
pub(crate) fn unprovoked(node: &str, life: u64, why: &str) -> Violation {
    Violation {
        invariant: "I-L1 (a node starts after every crash and runs until its disk fails)",
        subject: format!("life {life} of {node}"),
        expected: "a running node".to_owned(),
        got: why.to_owned(),
    }
}
