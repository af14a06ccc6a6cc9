//! Which API versions there are, and which one a request asks for.
//!
//! Clients discover a service by its version document, and read from the listed ids what they may
//! use. All minor versions are one and the same API: their only difference is the list.

use axum::http::{HeaderMap, header};

/// Minor versions of v2: 2.0 to this one, which is the current one.
const MINOR_MAX: u8 = 18;
const MEDIA_TYPE_PREFIX: &str = "application/vnd.openstack.images-";

/// Where a request goes, judged by its first path segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// `/versions` and everything below it: the document, as a plain success.
    Document,
    /// No version that exists: the document, as a choice for the client to make.
    Choice,
    /// `/v2` without a slash after it.
    Root,
    /// What a scraper reads, which is of no version.
    Metrics,
    /// A version of the API; the rest of the path begins with `/`.
    Version(&'a str),
}

/// Where a request for `path` goes.
pub(crate) fn place<'a>(path: &'a str, headers: &HeaderMap) -> Place<'a> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let (first, rest) = inner.find('/').map_or((inner, ""), |at| inner.split_at(at));
    if path == "/metrics" {
        Place::Metrics
    } else if first == "versions" {
        Place::Document
    } else if is_version(first) {
        if rest.is_empty() { Place::Root } else { Place::Version(rest) }
    } else if asks_by_media_type(headers) {
        Place::Version(path)
    } else {
        Place::Choice
    }
}

/// The version document, with links below `base`.
pub(crate) fn document(base: &str) -> String {
    let href = serde_json::Value::from(format!("{base}/v2/"));
    let mut text = String::from("{\"versions\": [");
    for minor in (0..=MINOR_MAX).rev() {
        let status = if minor == MINOR_MAX { "CURRENT" } else { "SUPPORTED" };
        let comma = if minor == MINOR_MAX { "" } else { ", " };
        text += &format!(
            "{comma}{{\"id\": \"v2.{minor}\", \"status\": \"{status}\", \"links\": [{{\"rel\": \"self\", \
             \"href\": {href}}}]}}"
        );
    }
    text.push_str("]}");
    text
}

/// Whether `segment` names a version that is listed, or `v2`.
fn is_version(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix("v2") else { return false };
    let Some(minor) = rest.strip_prefix('.') else { return rest.is_empty() };
    let canonical = minor == "0" || !minor.starts_with('0');
    let digits = !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit());
    canonical && digits && minor.parse::<u8>().is_ok_and(|minor| minor <= MINOR_MAX)
}

/// `Accept: application/vnd.openstack.images-v2` asks for a version without naming it in the path.
fn asks_by_media_type(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.and_then(|accept| accept.strip_prefix(MEDIA_TYPE_PREFIX)).is_some_and(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_and_its_listed_minors_route_and_nothing_else_does() {
        let headers = HeaderMap::new();
        assert_eq!(place("/v2/images", &headers), Place::Version("/images"));
        assert_eq!(place("/v2.0/images", &headers), Place::Version("/images"));
        assert_eq!(place("/v2.18/", &headers), Place::Version("/"));
        assert_eq!(place("/v2", &headers), Place::Root);
        assert_eq!(place("/metrics", &headers), Place::Metrics);
        assert_eq!(place("/v2/metrics", &headers), Place::Version("/metrics"));
        assert_eq!(place("/versions/x", &headers), Place::Document);
        for path in
            ["/", "", "//", "/v2.19/x", "/v2.99/images", "/v3", "/v1", "/v2.", "/v2.01/x", "/v2x/y", "/foo"]
        {
            assert_eq!(place(path, &headers), Place::Choice, "{path}");
        }
    }

    #[test]
    fn nineteen_versions_are_listed_newest_first() {
        let document: serde_json::Value = serde_json::from_str(&document("http://h:1")).unwrap();
        let versions = document["versions"].as_array().unwrap();
        assert_eq!(versions.len(), 19);
        assert_eq!(versions[0]["id"], "v2.18");
        assert_eq!(versions[0]["status"], "CURRENT");
        assert_eq!(versions[18]["id"], "v2.0");
        assert_eq!(versions[18]["status"], "SUPPORTED");
        assert!(versions.iter().all(|version| version["links"][0]["href"] == "http://h:1/v2/"));
    }
}
