//! I-D1, I-D2, I-D3, I-D4, I-D8: what a client receives are the bytes that were uploaded.
//!
//! A complete answer is the whole image or the whole range, and its length and MD5 say so; an answer
//! that breaks off does so visibly, and what arrived of it is right up to there. Nothing is half
//! made: an image that shows a size has all of its bytes.

use std::ops::Range;

use http::HeaderMap;

use crate::chronicle::Violation;
use crate::workload::content::Content;

/// Check a complete 200 or 206 for `range` of `content`.
pub(crate) fn check(
    image: &str,
    content: &Content,
    range: Range<usize>,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<Violation> {
    let expected = &content.bytes[range.clone()];
    let header = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    if body.len() != expected.len() {
        let expected = format!("{} bytes", expected.len());
        return violation(
            "I-D2 (no short success)",
            image,
            &range,
            expected,
            format!("{} bytes", body.len()),
        );
    }
    if let Some(at) = first_difference(expected, body) {
        let (expected, got) = (format!("{:#04x}", expected[at]), format!("{:#04x}", body[at]));
        let range = range.start + at..range.end;
        return violation("I-D1 (bytes are the uploaded ones)", image, &range, expected, got);
    }
    if let Some(sum) = header("content-md5")
        && sum != content.md5
    {
        return violation("I-D4 (hashes fit)", image, &range, content.md5.clone(), sum.to_owned());
    }
    None
}

/// Check what arrived of an answer that broke off.
pub(crate) fn check_part(
    image: &str,
    content: &Content,
    range: Range<usize>,
    part: &[u8],
) -> Option<Violation> {
    let expected = &content.bytes[range.clone()];
    if part.len() > expected.len() {
        let longer = format!("{} bytes", part.len());
        return violation(
            "I-D1 (bytes are the uploaded ones)",
            image,
            &range,
            "no more bytes".into(),
            longer,
        );
    }
    let at = first_difference(expected, part)?;
    let (expected, got) = (format!("{:#04x}", expected[at]), format!("{:#04x}", part[at]));
    let range = range.start + at..range.end;
    violation("I-D1 (bytes are the uploaded ones)", image, &range, expected, got)
}

/// A complete image that gave its bytes to nobody, although no fault stood in the way.
pub(crate) fn withheld(image: &str, got: String) -> Option<Violation> {
    violation("I-D2 (an active image can be downloaded)", image, &(0..0), "200 and every byte".into(), got)
}

fn first_difference(expected: &[u8], got: &[u8]) -> Option<usize> {
    if expected.starts_with(got) {
        return None;
    }
    expected.iter().zip(got).position(|(expected, got)| expected != got)
}

fn violation(
    invariant: &'static str,
    image: &str,
    range: &Range<usize>,
    expected: String,
    got: String,
) -> Option<Violation> {
    let subject = format!("image {image}, bytes {} to {}", range.start, range.end);
    Some(Violation { invariant, subject, expected, got })
}
