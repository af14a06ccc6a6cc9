//! What must never happen, whatever happens: one property per file, named as in the fault matrix.

use std::collections::BTreeSet;

pub(crate) mod acknowledged;
pub(crate) mod agreed;
pub(crate) mod honest_end;
pub(crate) mod independent;
pub(crate) mod kept_sound;
pub(crate) mod listed_once;
pub(crate) mod log_order;
pub(crate) mod never_back;
pub(crate) mod never_changed;
pub(crate) mod no_amnesia;
pub(crate) mod no_leak;
pub(crate) mod not_stuck;
pub(crate) mod one_leader;
pub(crate) mod same_state;
pub(crate) mod used_once;
pub(crate) mod whole;

/// Where a node stands in the cluster, as it says itself. An index of 0 stands for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The id in its log.
    pub(crate) node: u64,
    pub(crate) term: u64,
    /// Whom it takes for the leader of this term.
    pub(crate) leader: Option<u64>,
    pub(crate) last: u64,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    pub(crate) snapshot: u64,
    pub(crate) purged: u64,
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) learners: BTreeSet<u64>,
}
