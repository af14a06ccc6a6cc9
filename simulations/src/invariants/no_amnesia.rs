//! F-D11, fault matrix 4.1: a node that comes back with an older disk notices it and takes no part under
//! its old name, for it may have forgotten votes and entries that it acknowledged.
//!
//! It is noticed by whoever saw more of that disk. So this is asked for only when those who saw it can
//! be reached: a majority of which one forgot and another never knew is more than Raft can bear.

use crate::chronicle::Violation;

/// A node that went on as before.
pub(crate) fn unnoticed(node: usize, lost: u64, waited_s: u64) -> Violation {
    Violation {
        invariant: "F-D11 (an older disk is noticed)",
        subject: format!("node {node}, whose disk was set back by {lost} committed entries"),
        expected: format!("it gives up within {waited_s} s"),
        got: "it goes on as the node it was".to_owned(),
    }
}
