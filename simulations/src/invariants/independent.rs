//! I-D13: images that share chunks are independent. Deleting one changes nothing for another.

use crate::chronicle::Violation;

/// An image that could not be downloaded any more after others were deleted.
pub(crate) fn harmed(image: &str, deleted: usize, got: &str) -> Violation {
    Violation {
        invariant: "I-D13 (images that share chunks are independent)",
        subject: format!("image {image}, after {deleted} others were deleted and their bytes reclaimed"),
        expected: "the whole image".to_owned(),
        got: got.to_owned(),
    }
}
