//! I-M2, I-M3, I-M4: every answer fits what was acknowledged before, and nothing else.
//!
//! A record misses nothing that was acknowledged, shows nothing that nobody asked for, and never
//! goes back. An answer of 4xx means that the request did not happen and never will.

use crate::chronicle::Violation;
use crate::oracle::history::Impossible;

const INVARIANT: &str = "I-M2 (nothing acknowledged is lost)";

/// An answer to a request that the history of its image does not allow.
pub(crate) fn answer(image: &str, request: &str, answer: &str, possible: Impossible) -> Violation {
    Violation {
        invariant: INVARIANT,
        subject: format!("image {image}, {request}"),
        expected: format!("an answer that fits {}", possible.0),
        got: answer.to_owned(),
    }
}

/// A record that the history of its image does not allow.
pub(crate) fn record(image: &str, got: &str, possible: Impossible) -> Violation {
    Violation {
        invariant: INVARIANT,
        subject: format!("the record of image {image}"),
        expected: possible.0,
        got: got.to_owned(),
    }
}
