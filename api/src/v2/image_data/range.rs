//! Which part of an image a request asks for.
//!
//! Glance is stricter than HTTP: a range it does not understand is 416, not ignored. It also honours
//! `Content-Range` as a request header, which old clients send.

use std::ops::Range;

use axum::http::{HeaderMap, header};

/// Why no part can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RangeProblem {
    #[error("Requests with multiple ranges are not supported.")]
    Several,
    #[error("The requested range cannot be satisfied: the image has {size} bytes.")]
    Unsatisfiable { size: u64 },
}

/// The part of `size` bytes that a request with these headers wants; `None` is all of them.
///
/// `etag` names the bytes: a client that says `If-Range` and means other bytes gets all of them.
pub(super) fn wanted(headers: &HeaderMap, size: u64, etag: &str) -> Result<Option<Range<u64>>, RangeProblem> {
    if headers.get(header::IF_RANGE).is_some_and(|validator| validator != etag) {
        return Ok(None);
    }
    let unsatisfiable = RangeProblem::Unsatisfiable { size };
    if let Some(range) = headers.get(header::RANGE) {
        let several = headers.get_all(header::RANGE).iter().nth(1).is_some();
        let text = range.to_str().map_err(|_| unsatisfiable)?;
        let spec = unit_stripped(text, '=').ok_or(unsatisfiable)?;
        if several || spec.contains(',') {
            return Err(RangeProblem::Several);
        }
        return requested(spec, size).map(Some).ok_or(unsatisfiable);
    }
    if let Some(range) = headers.get(header::CONTENT_RANGE) {
        let text = range.to_str().map_err(|_| unsatisfiable)?;
        let spec = unit_stripped(text, ' ').ok_or(unsatisfiable)?;
        return stated(spec, size).map(Some).ok_or(unsatisfiable);
    }
    Ok(None)
}

fn unit_stripped(text: &str, separator: char) -> Option<&str> {
    let (unit, spec) = text.trim().split_once(separator)?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(spec.trim())
}

/// `first-last`, `first-` or `-count`, cut to what there is.
fn requested(spec: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        // None of the last bytes means all of them, as Glance has it.
        let count = number(last)?;
        let start = if count == 0 { 0 } else { size.saturating_sub(count) };
        return (size > 0).then_some(start..size);
    }
    let first = number(first)?;
    let end = if last.is_empty() { size } else { number(last)?.saturating_add(1) };
    (first < size && first < end).then_some(first..end.min(size))
}

/// `first-last/total` or `first-last/*`: the range must be right in every part.
fn stated(spec: &str, size: u64) -> Option<Range<u64>> {
    let (range, total) = spec.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, end) = (number(first)?, number(last)?.saturating_add(1));
    let total_fits = total == "*" || number(total)? == size;
    (total_fits && first < end && end <= size).then_some(first..end)
}

/// A decimal number; what does not fit counts as the largest.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const TEN: u64 = 10;
    const OUT: Result<Option<Range<u64>>, RangeProblem> = Err(RangeProblem::Unsatisfiable { size: TEN });

    fn of(pairs: &[(HeaderName, &str)]) -> Result<Option<Range<u64>>, RangeProblem> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        wanted(&headers, TEN, "\"tag\"")
    }

    /// The table of Glance's answers for an image of ten bytes; RB-41.
    #[test]
    fn ranges_of_ten_bytes() {
        for (text, answer) in [
            ("bytes=0-3", Ok(Some(0..4))),
            ("bytes=4-", Ok(Some(4..10))),
            ("bytes=-3", Ok(Some(7..10))),
            ("bytes=-30", Ok(Some(0..10))),
            ("bytes=-0", Ok(Some(0..10))),
            ("bytes=0-100", Ok(Some(0..10))),
            ("bytes=9-20", Ok(Some(9..10))),
            ("bytes=0-18446744073709551616", Ok(Some(0..10))),
            ("bytes=0-18446744073709551615", Ok(Some(0..10))),
            ("bytes=10-", OUT),
            ("bytes=18446744073709551616-", OUT),
            ("bytes=5-2", OUT),
            ("bytes=", OUT),
            ("bytes=-", OUT),
            ("bytes=x-y", OUT),
            ("bytes=--1", OUT),
            ("bytes=+1-2", OUT),
            ("bites=0-1", OUT),
            ("items=0-1", OUT),
            ("junk", OUT),
            ("", OUT),
            ("bytes=0-1,3-4", Err(RangeProblem::Several)),
        ] {
            assert_eq!(of(&[(header::RANGE, text)]), answer, "{text}");
        }
        let many = format!("bytes={}", ["0-1"; 10_000].join(","));
        assert_eq!(of(&[(header::RANGE, &many)]), Err(RangeProblem::Several));
        let twice = [(header::RANGE, "bytes=0-1"), (header::RANGE, "bytes=3-4")];
        assert_eq!(of(&twice), Err(RangeProblem::Several));
        assert_eq!(of(&[]), Ok(None));
    }

    #[test]
    fn the_legacy_header_is_honoured_and_must_be_exact() {
        for (text, answer) in [
            ("bytes 1-3/10", Ok(Some(1..4))),
            ("bytes 1-3/*", Ok(Some(1..4))),
            ("bytes 5-20/*", OUT),
            ("bytes 10-11/*", OUT),
            ("bytes 5-20/30", OUT),
            ("bytes 1-3/30", OUT),
            ("bytes */10", OUT),
            ("bytes 3-1/10", OUT),
            ("junk", OUT),
        ] {
            assert_eq!(of(&[(header::CONTENT_RANGE, text)]), answer, "{text}");
        }
        let both = [(header::CONTENT_RANGE, "bytes 1-3/10"), (header::RANGE, "bytes=5-6")];
        assert_eq!(of(&both), Ok(Some(5..7)));
    }

    /// RB-42.
    #[test]
    fn a_range_of_other_bytes_is_all_of_these() {
        let with = |validator| of(&[(header::RANGE, "bytes=0-1"), (header::IF_RANGE, validator)]);
        assert_eq!(with("\"tag\""), Ok(Some(0..2)));
        assert_eq!(with("\"other\""), Ok(None));
        assert_eq!(with("garbage"), Ok(None));
    }

    #[test]
    fn nothing_has_no_part() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=-1"));
        assert_eq!(wanted(&headers, 0, ""), Err(RangeProblem::Unsatisfiable { size: 0 }));
    }
}
