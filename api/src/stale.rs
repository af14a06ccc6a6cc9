//! Answers that may be older than the newest state: who asked for one, and the header that admits it.
//!
//! A client sends `X-Peerglass-Read: stale-ok` with a `GET`; a node whose site policy allows it does the
//! same when no majority answers. A stale answer carries `X-Peerglass-Stale: applied=N`, where N is the
//! last entry of the Raft log that the answer knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Response};

/// The header of a request.
const ASKED: HeaderName = HeaderName::from_static("x-peerglass-read");
/// The header of an answer.
const ADMITTED: HeaderName = HeaderName::from_static("x-peerglass-stale");

/// Whether the client takes a stale answer.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    headers.get(ASKED).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"stale-ok"))
}

/// Travels with a request, so that whoever answers it can say that the answer is stale.
#[derive(Clone, Debug)]
pub(crate) struct Note(Arc<AtomicU64>);

/// No stale answer.
const FRESH: u64 = u64::MAX;

impl Note {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(FRESH)))
    }

    /// The answer knows the log up to `applied`. The oldest of several counts.
    pub(crate) fn set(&self, applied: u64) {
        self.0.fetch_min(applied, Ordering::Relaxed);
    }

    /// Admit it, if it is so.
    pub(crate) fn stamp<B>(&self, response: &mut Response<B>) {
        let applied = self.0.load(Ordering::Relaxed);
        if applied != FRESH
            && let Ok(value) = HeaderValue::from_str(&format!("applied={applied}"))
        {
            response.headers_mut().insert(ADMITTED, value);
        }
    }
}
