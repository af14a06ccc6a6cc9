//! I-L11: an upload that was interrupted, by whatever, leaves its image `queued` and ready for
//! another try, never stuck in `saving`.

use crate::chronicle::Violation;

/// An image that is still not queued or complete after everything came to rest.
pub(crate) fn stuck(image: &str, status: &str, waited_s: u64) -> Violation {
    Violation {
        invariant: "I-L11 (no upload is stuck)",
        subject: format!("image {image}, {waited_s} s after its upload ended"),
        expected: "queued, active or deactivated".to_owned(),
        got: status.to_owned(),
    }
}

/// A node that does not answer after everything came to rest.
pub(crate) fn silent(waited_s: u64, got: &str) -> Violation {
    Violation {
        invariant: "I-L1 (a healed node answers)",
        subject: format!("the node, {waited_s} s after the last fault"),
        expected: "200".to_owned(),
        got: got.to_owned(),
    }
}
