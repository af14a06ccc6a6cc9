//! The id that ties a request, its answer and its log lines together.
//!
//! A client may choose it, so that one id follows a request through several services. It is adopted
//! only if it is short and of harmless characters, because it ends up in headers and logs.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it, both ways.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-openstack-request-id");

const PREFIX: &str = "req-";

/// The client chose an id that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("x-openstack-request-id is longer than {max} characters")]
pub(crate) struct TooLong {
    /// How long it may be.
    pub(crate) max: usize,
}

/// The id of a request with these headers: the client's, or a new one of these random bytes.
pub(crate) fn of(
    headers: &HeaderMap,
    length_max: usize,
    random: impl FnOnce() -> [u8; 16],
) -> Result<HeaderValue, TooLong> {
    if let Some(given) = headers.get(HEADER) {
        if given.len() > length_max {
            return Err(TooLong { max: length_max });
        }
        if let Some(adopted) = adopt(given) {
            return Ok(adopted);
        }
    }
    Ok(fresh(random()))
}

/// A new id.
pub(crate) fn fresh(random: [u8; 16]) -> HeaderValue {
    let id = peerglass_catalog::ImageId::from_random(random);
    let mut text = [0_u8; 40];
    text[..4].copy_from_slice(PREFIX.as_bytes());
    text[4..].copy_from_slice(id.as_str().as_bytes());
    HeaderValue::from_bytes(&text).expect("hexadecimal digits and hyphens are header text")
}

fn adopt(given: &HeaderValue) -> Option<HeaderValue> {
    let text = given.to_str().ok()?;
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    if text.is_empty() || !text.bytes().all(harmless) {
        return None;
    }
    if text.starts_with(PREFIX) {
        return Some(given.clone());
    }
    HeaderValue::from_str(&format!("{PREFIX}{text}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &str) -> Result<HeaderValue, TooLong> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_str(given).unwrap());
        of(&headers, 64, || [7; 16])
    }

    #[test]
    fn a_harmless_id_is_adopted_and_prefixed() {
        assert_eq!(id_for("req-abc").unwrap(), "req-abc");
        assert_eq!(id_for("abc").unwrap(), "req-abc");
    }

    #[test]
    fn anything_else_gets_a_fresh_id() {
        let fresh = "req-07070707-0707-4707-8707-070707070707";
        for given in ["", "a b", "<script>", "a\u{e9}"] {
            assert_eq!(id_for(given).unwrap(), fresh, "{given:?}");
        }
        assert_eq!(of(&HeaderMap::new(), 64, || [7; 16]).unwrap(), fresh);
    }

    #[test]
    fn length_is_limited() {
        assert!(id_for(&"a".repeat(64)).is_ok());
        assert_eq!(id_for(&"a".repeat(65)), Err(TooLong { max: 64 }));
    }
}
