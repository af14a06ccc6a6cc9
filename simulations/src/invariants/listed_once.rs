//! I-M13: a scan of all pages shows each image that was there throughout exactly once, and no image
//! that was never there.

use std::collections::BTreeSet;

use crate::chronicle::Violation;

const INVARIANT: &str = "I-M13 (a scan of all pages shows each image once)";

/// Check the ids a scan found, in order. `must` were there throughout, `may` at some time.
pub(crate) fn check(found: &[String], must: &BTreeSet<String>, may: &BTreeSet<String>) -> Option<Violation> {
    let mut seen = BTreeSet::new();
    let violation = |subject: String, expected: &str, got: &str| {
        Some(Violation { invariant: INVARIANT, subject, expected: expected.to_owned(), got: got.to_owned() })
    };
    for id in found {
        if !may.contains(id) {
            return violation(format!("image {id}"), "not in the list: it was not there", "in the list");
        }
        if !seen.insert(id) {
            return violation(format!("image {id}"), "in the list once", "in the list again");
        }
    }
    let missing = must.iter().find(|id| !seen.contains(id))?;
    violation(format!("image {missing}"), "in the list: it was there throughout", "not in the list")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn a_missing_a_double_and_a_phantom_are_told_apart() {
        let scan = |found: &[&str]| {
            let found: Vec<_> = found.iter().map(|id| (*id).to_owned()).collect();
            check(&found, &ids(&["a"]), &ids(&["a", "b"])).map(|violation| violation.got)
        };
        assert_eq!(scan(&["a"]), None);
        assert_eq!(scan(&["b", "a"]), None);
        assert_eq!(scan(&["b"]).as_deref(), Some("not in the list"));
        assert_eq!(scan(&["a", "a"]).as_deref(), Some("in the list again"));
        assert_eq!(scan(&["a", "c"]).as_deref(), Some("in the list"));
    }
}
