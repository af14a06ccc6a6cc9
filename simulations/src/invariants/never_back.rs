//! I-M5, over time: a node's term never goes back, not even over a restart; within one life neither
//! does what it committed or applied.

use super::Standing;
use crate::chronicle::Violation;

/// Compare where a node stands with where it stood before, in the same life or in an earlier one.
pub(crate) fn check(node: usize, before: &Standing, now: &Standing, same_life: bool) -> Option<Violation> {
    let went_back = |what: &str, before: u64, now: u64| {
        (now < before).then(|| Violation {
            invariant: "I-M5 (term, commit and applied never go back)",
            subject: format!("the {what} of node {node}"),
            expected: format!("at least {before}"),
            got: now.to_string(),
        })
    };
    if let Some(violation) = went_back("term", before.term, now.term) {
        return Some(violation);
    }
    if !same_life {
        // What was applied and not synced may be lost, and is applied again from the log.
        return None;
    }
    went_back("commit index", before.committed, now.committed)
        .or_else(|| went_back("applied index", before.applied, now.applied))
        .or_else(|| went_back("purge mark", before.purged, now.purged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_survives_a_restart_and_an_applied_index_need_not() {
        let before = Standing { term: 3, applied: 9, ..Standing::default() };
        let now = Standing { term: 3, applied: 7, ..Standing::default() };
        assert!(check(0, &before, &now, false).is_none());
        assert!(check(0, &before, &now, true).is_some());
        assert!(check(0, &before, &Standing { term: 2, ..before.clone() }, false).is_some());
    }
}
