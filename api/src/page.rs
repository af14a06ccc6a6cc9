//! A list request's query string: filters, sort, page.
//!
//! [`ListRequest::parse`] turns it into a catalog query or says what is wrong with it;
//! [`ListRequest::links`] writes the same query into the `first` and `next` links.

mod filters;
mod sort;
mod time;

use std::borrow::Cow;

use peerglass_catalog::{ImageId, ImageQuery, Viewer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::settings::ApiSettings;

/// What is left as it is in a link's query.
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Most parameters of one request: each may be a condition that every candidate is checked against.
const PARAMETERS_MAX: usize = 1000;

/// What is wrong with a query string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryProblem {
    #[error("The query string is not valid UTF-8.")]
    NotUtf8,
    #[error("The query string has more than {PARAMETERS_MAX} parameters.")]
    TooMany,
    #[error("limit param must be an integer")]
    LimitNotInteger,
    #[error("limit param must be positive")]
    LimitNegative,
    #[error("Marker {0:?} could not be found")]
    Marker(String),
    #[error("{0:?} is not a key images can be sorted by")]
    SortKey(String),
    #[error("{0:?} is not a sort direction: expected asc or desc")]
    SortDirection(String),
    #[error("sort cannot be combined with sort_key or sort_dir")]
    SortMixed,
    #[error("The number of sort_dir parameters must be one or match the number of sort_key parameters.")]
    SortCount,
    #[error("Unable to filter {key} by the operator {operator:?}")]
    Operator { key: String, operator: String },
    #[error("Invalid quotes in the list {0:?}: an item is quoted as a whole")]
    Quotes(String),
    #[error("{key} is not a time in ISO 8601: {value:?}")]
    Time { key: String, value: String },
    #[error("Unable to filter on {key}: {value:?} is not an integer")]
    Integer { key: String, value: String },
    #[error("Invalid value {value:?} for {key}: expected one of {expected}")]
    Choice { key: &'static str, value: String, expected: &'static str },
    #[error("Filtering by changes-since is not supported")]
    ChangesSince,
}

/// Decoded parameters, in order, repeated ones included.
type Parameters<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// A list request, understood.
#[derive(Debug)]
pub(crate) struct ListRequest<'a> {
    /// What to ask the catalog.
    pub(crate) query: ImageQuery,
    parameters: Parameters<'a>,
}

impl<'a> ListRequest<'a> {
    /// Understand the query string of a request by `viewer`.
    pub(crate) fn parse(
        text: &'a str,
        viewer: &Viewer,
        settings: &ApiSettings,
    ) -> Result<Self, QueryProblem> {
        let parameters = decode(text)?;
        let filters = filters::parse(&parameters)?;
        let query = ImageQuery {
            viewer: viewer.clone(),
            visibility: filters.visibility,
            hidden: filters.hidden,
            filters: filters.filters,
            sort: sort::parse(&parameters)?,
            marker: last(&parameters, "marker").map(marker).transpose()?,
            limit: match last(&parameters, "limit") {
                Some(limit) => parse_limit(limit)?.min(settings.api_limit_max),
                None => settings.limit_param_default,
            },
        };
        Ok(Self { query, parameters })
    }

    /// The links to the first page and, if there is one, to the page after the image `last`.
    ///
    /// Every parameter is kept, repeated ones too, or the next page would answer another question.
    pub(crate) fn links(&self, last: Option<&ImageId>) -> (String, Option<String>) {
        let first = self.link(None);
        (first, last.map(|last| self.link(Some(last))))
    }

    fn link(&self, marker: Option<&ImageId>) -> String {
        let mut link = String::from("/v2/images");
        let kept = self.parameters.iter().filter(|(key, _)| key != "marker");
        let marker = marker.map(|marker| ("marker", marker.as_str()));
        let pairs = kept.map(|(key, value)| (key.as_ref(), value.as_ref())).chain(marker);
        for (index, (key, value)) in pairs.enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            link.push(separator);
            link.extend(utf8_percent_encode(key, &UNRESERVED));
            link.push('=');
            link.extend(utf8_percent_encode(value, &UNRESERVED));
        }
        link
    }
}

/// The last value of `key`: a parameter that counts once is overridden by its last occurrence.
fn last<'p>(parameters: &'p Parameters<'_>, key: &str) -> Option<&'p str> {
    parameters.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_ref())
}

fn decode(text: &str) -> Result<Parameters<'_>, QueryProblem> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    if pairs.clone().count() > PARAMETERS_MAX {
        return Err(QueryProblem::TooMany);
    }
    let split = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    split.map(|(key, value)| Ok((decode_part(key)?, decode_part(value)?))).collect()
}

fn decode_part(text: &str) -> Result<Cow<'_, str>, QueryProblem> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| QueryProblem::NotUtf8)?;
        return Ok(Cow::Owned(decoded.into_owned()));
    }
    percent_decode_str(text).decode_utf8().map_err(|_| QueryProblem::NotUtf8)
}

/// A limit of any size; what does not fit counts as the largest.
fn parse_limit(text: &str) -> Result<usize, QueryProblem> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(QueryProblem::LimitNotInteger);
    }
    match digits.parse::<usize>() {
        Ok(0) => Ok(0),
        Ok(_) | Err(_) if negative => Err(QueryProblem::LimitNegative),
        Ok(limit) => Ok(limit),
        Err(_) => Ok(usize::MAX),
    }
}

fn marker(text: &str) -> Result<ImageId, QueryProblem> {
    text.parse().map_err(|_| QueryProblem::Marker(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ListRequest<'_>, QueryProblem> {
        let settings = Box::leak(Box::new(ApiSettings::default()));
        ListRequest::parse(text, &Viewer::default(), settings)
    }

    #[test]
    fn limits_are_integers_and_are_lowered_silently() {
        for (text, limit) in [("", 25), ("limit=0", 0), ("limit=7", 7), ("limit=1001", 1000), ("limit=-0", 0)]
        {
            assert_eq!(parse(text).unwrap().query.limit, limit, "{text}");
        }
        assert_eq!(parse("limit=99999999999999999999999").unwrap().query.limit, 1000);
        for text in ["limit=", "limit=x", "limit=-1", "limit=1.5", "limit=1e3", "limit=%00", "limit=--1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn links_keep_repeated_parameters_and_escape_them() {
        let id: ImageId = "00000000-0000-4000-8000-000000000001".parse().unwrap();
        let request = parse("tag=a+b&tag=%26&marker=00000000-0000-4000-8000-000000000002&limit=2").unwrap();
        let (first, next) = request.links(Some(&id));
        assert_eq!(first, "/v2/images?tag=a%20b&tag=%26&limit=2");
        assert_eq!(next.unwrap(), format!("/v2/images?tag=a%20b&tag=%26&limit=2&marker={id}"));
        assert_eq!(parse("").unwrap().links(None), ("/v2/images".to_owned(), None));
    }

    #[test]
    fn undecodable_text_and_bad_markers_are_refused() {
        assert_eq!(parse("name=%ff").unwrap_err(), QueryProblem::NotUtf8);
        assert_eq!(parse("marker=").unwrap_err(), QueryProblem::Marker(String::new()));
        assert!(parse("marker=garbage").is_err());
    }
}
