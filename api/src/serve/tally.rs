//! What a connection's task knows of the requests on it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::Request;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};

/// Facts about one connection. Clones are one.
#[derive(Clone, Default)]
pub(super) struct Tally {
    facts: Arc<Facts>,
}

#[derive(Default)]
struct Facts {
    began: AtomicBool,
    left_unread: AtomicBool,
}

impl Tally {
    /// A request came. Its body is watched from now on.
    pub(super) fn take(&self, request: Request<Incoming>) -> Request<Body> {
        self.facts.began.store(true, Ordering::Relaxed);
        // The next request can only be read once the body before it is over.
        self.facts.left_unread.store(false, Ordering::Relaxed);
        request.map(|body| Body::new(Counted { body, ended: false, tally: self.clone() }))
    }

    /// Whether any request came.
    pub(super) fn began(&self) -> bool {
        self.facts.began.load(Ordering::Relaxed)
    }

    /// Whether the last request's body was dropped before its end, so that the client may be sending
    /// it still.
    pub(super) fn left_unread(&self) -> bool {
        self.facts.left_unread.load(Ordering::Relaxed)
    }
}

/// A body that tells the tally if it is not read to its end.
struct Counted {
    body: Incoming,
    ended: bool,
    tally: Tally,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.ended |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Before `body` goes, and only then does the connection end.
        if !self.ended && !self.body.is_end_stream() {
            self.tally.facts.left_unread.store(true, Ordering::Relaxed);
        }
    }
}
