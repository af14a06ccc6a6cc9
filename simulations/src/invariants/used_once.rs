//! I-M9: an id names one image, ever. The node draws no id twice.

use std::collections::BTreeSet;

use crate::chronicle::Violation;

/// Every id that ever named an image.
#[derive(Default)]
pub(crate) struct UsedIds(BTreeSet<String>);

impl UsedIds {
    /// An image got `id`, chosen by its client or by the node.
    pub(crate) fn check(&mut self, id: &str) -> Option<Violation> {
        if self.0.insert(id.to_owned()) {
            return None;
        }
        Some(Violation {
            invariant: "I-M9 (an id is used once)",
            subject: format!("image {id}"),
            expected: "409, or another id".to_owned(),
            got: "201 for an id that an image had before".to_owned(),
        })
    }
}
