//! An answer's body that says what the connection still holds of it.
//!
//! A connection takes pieces before its client does: HTTP/2 takes the whole of one when there is a window for
//! a byte of it, and drops the body after the last. So what counts is not the body but each piece, until its
//! last byte has left.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::progress::{Progress, UnderWay};
use crate::claimed::claimed;

/// See the module.
pub(super) struct Answer {
    body: Body,
    progress: Progress,
    _under_way: UnderWay,
}

impl Answer {
    pub(super) fn new(body: Body, progress: Progress, under_way: UnderWay) -> Self {
        Self { body, progress, _under_way: under_way }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        polled.map_ok(|frame| {
            frame
                .map_data(|bytes| if bytes.is_empty() { bytes } else { claimed(bytes, self.progress.hold()) })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
