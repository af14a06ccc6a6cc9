//! I-M8: size and hashes, once shown, never change and never vanish while the image exists, and an
//! image shows them from its first `active` on.

use std::collections::BTreeMap;

use crate::chronicle::Violation;
use crate::workload::observed::Observed;

const INVARIANT: &str = "I-M8 (content never changes)";

/// Size, MD5 and SHA-512 of each image that was ever seen with bytes.
#[derive(Default)]
pub(crate) struct SeenContents(BTreeMap<String, String>);

impl SeenContents {
    /// Compare what a record shows of its bytes with what it showed before.
    ///
    /// `stale` is a record whose request began before the image was first seen with bytes; it may
    /// be older than that.
    pub(crate) fn check(&mut self, image: &str, observed: &Observed, stale: bool) -> Option<Violation> {
        let violation = |expected: &str, got: &str| {
            let (expected, got) = (expected.to_owned(), got.to_owned());
            Some(Violation { invariant: INVARIANT, subject: format!("image {image}"), expected, got })
        };
        let shown = observed.content();
        let has_bytes = matches!(observed.status.as_str(), "active" | "deactivated");
        if has_bytes != shown.is_some() {
            return violation("size and hashes exactly from the first active on", &format!("{observed:?}"));
        }
        match (self.0.get(image), shown) {
            (Some(before), Some(now)) if *before != now => violation(before, &now),
            (Some(before), None) if !stale => violation(before, "none"),
            (None, Some(now)) => {
                self.0.insert(image.to_owned(), now);
                None
            }
            (Some(_) | None, Some(_) | None) => None,
        }
    }

    /// Whether `image` was ever seen with bytes.
    pub(crate) fn knows(&self, image: &str) -> bool {
        self.0.contains_key(image)
    }
}
