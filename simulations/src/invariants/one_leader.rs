//! I-M5, over the cluster: a term has one leader, ever.

use std::collections::BTreeMap;

use super::Standing;
use crate::chronicle::Violation;

/// Who led in which term.
#[derive(Default)]
pub(crate) struct Leaders(BTreeMap<u64, u64>);

impl Leaders {
    /// A node says where it stands. Nodes are told apart by the id in their log.
    pub(crate) fn check(&mut self, standing: &Standing) -> Option<Violation> {
        if standing.leader != Some(standing.node) {
            return None;
        }
        let leader = *self.0.entry(standing.term).or_insert(standing.node);
        (leader != standing.node).then(|| Violation {
            invariant: "I-M5 (at most one leader a term)",
            subject: format!("term {}", standing.term),
            expected: format!("{leader:016x}, who led in it before"),
            got: format!("{:016x}", standing.node),
        })
    }

    /// How many terms had a leader.
    pub(crate) fn terms(&self) -> u64 {
        self.0.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_of_one_term_are_found() {
        let leads = |node, term| Standing { node, term, leader: Some(node), ..Standing::default() };
        let mut leaders = Leaders::default();
        assert!(leaders.check(&leads(1, 5)).is_none());
        assert!(leaders.check(&leads(2, 6)).is_none());
        assert!(leaders.check(&leads(1, 5)).is_none(), "a deposed leader that does not know it yet");
        assert!(leaders.check(&Standing { leader: Some(1), ..leads(2, 5) }).is_none());
        assert!(leaders.check(&leads(2, 5)).is_some());
    }
}
