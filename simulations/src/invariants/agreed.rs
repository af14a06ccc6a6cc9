//! I-L1: after the last fault a cluster has one leader that everybody knows, and every node has
//! applied everything.

use super::Standing;
use crate::chronicle::Violation;

/// Whether these nodes agree. They have had `waited_s` seconds for it.
pub(crate) fn check(standings: &[Option<Standing>], waited_s: u64) -> Option<Violation> {
    let leaders: Vec<_> = standings.iter().flatten().filter(|it| it.leader == Some(it.node)).collect();
    let agrees = |standing: &Option<Standing>| {
        let (Some(standing), [leader]) = (standing, &leaders[..]) else { return false };
        standing.leader == leader.leader
            && standing.term == leader.term
            && standing.applied == leader.committed
            && standing.voters == leader.voters
    };
    if standings.iter().all(agrees) {
        return None;
    }
    Some(Violation {
        invariant: "I-L1 (a healed cluster agrees)",
        subject: format!("{} nodes, {waited_s} s after the last fault", standings.len()),
        expected: "one leader, known to all, and equal applied indexes".to_owned(),
        got: format!("{standings:?}"),
    })
}

/// A cluster that did not come about, although nothing failed.
pub(crate) fn unformed(standings: &[Option<Standing>], voters: u32, waited_s: u64) -> Violation {
    Violation {
        invariant: "I-L1 (a cluster forms)",
        subject: format!("{} nodes, {waited_s} s after the first began", standings.len()),
        expected: format!("{voters} voters and one leader"),
        got: format!("{standings:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_behind_and_a_node_without_a_leader_are_found() {
        let standing = |node| {
            Some(Standing { node, term: 2, leader: Some(1), applied: 5, committed: 5, ..Standing::default() })
        };
        assert!(check(&[standing(1), standing(2)], 10).is_none());
        let behind = standing(2).map(|it| Standing { applied: 4, ..it });
        assert!(check(&[standing(1), behind], 10).is_some());
        let lost = standing(2).map(|it| Standing { leader: None, ..it });
        assert!(check(&[standing(1), lost], 10).is_some());
        assert!(check(&[standing(1), None], 10).is_some(), "a node that is not there");
    }
}
