//! The access log: one line for each request, when it is over.
//!
//! # What it promises
//!
//! * A request that was taken up gets exactly one line, also if its client hangs up or this node cuts
//!   it. `complete` says whether the whole answer was handed to the connection.
//! * Nothing of a query, a header or a body is logged, because any of these can hold a secret. The
//!   path, the user and the project are: as strings, which the log's formats quote and escape, so
//!   that no client can forge a line.
//! * A line that nobody wants costs a comparison.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Method, Request, Response, Uri, header};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;
use tracing::{Level, Span};

use crate::auth::Caller;
use crate::health;

/// What the lines are filtered by.
const TARGET: &str = "peerglass_api::access";

/// The client's address, put into a request's extensions by whoever accepted the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote(pub(crate) SocketAddr);

/// The line of one request. Written when dropped.
pub(crate) struct AccessLine {
    /// Unless nobody would read them.
    facts: Option<Box<Facts>>,
    /// What every other line about the request is logged in.
    span: Span,
}

struct Facts {
    level: Level,
    began: Instant,
    method: Method,
    uri: Uri,
    remote: Option<SocketAddr>,
    id: Option<HeaderValue>,
    caller: Option<Caller>,
    status: Option<u16>,
    sent_bytes: u64,
    complete: bool,
}

impl AccessLine {
    /// Begin the line of `request`.
    pub(crate) fn new(request: &Request<Body>) -> Self {
        // Balancers ask every other second and would drown out everybody else.
        let (level, wanted) = if health::is_path(request.uri().path()) {
            (Level::DEBUG, tracing::enabled!(target: TARGET, Level::DEBUG))
        } else {
            (Level::INFO, tracing::enabled!(target: TARGET, Level::INFO))
        };
        let facts = || {
            Box::new(Facts {
                level,
                began: Instant::now(),
                method: request.method().clone(),
                uri: request.uri().clone(),
                remote: request.extensions().get::<Remote>().map(|remote| remote.0),
                id: None,
                caller: None,
                status: None,
                sent_bytes: 0,
                complete: false,
            })
        };
        Self { facts: wanted.then(facts), span: Span::none() }
    }

    /// The request has this id. What is logged while it is worked on belongs into the span.
    pub(crate) fn identify(&mut self, id: &HeaderValue) -> Span {
        if let Some(facts) = &mut self.facts {
            facts.id = Some(id.clone());
        }
        // As important as the gravest line in it, or a filter that lets only errors pass would drop the
        // id from them.
        self.span = tracing::error_span!("request", request_id = id.to_str().ok());
        self.span.clone()
    }

    /// The request comes from this caller.
    pub(crate) fn attribute(&mut self, caller: &Caller) {
        if let Some(facts) = &mut self.facts {
            facts.caller = Some(caller.clone());
        }
    }

    /// The request is answered; the line follows when the answer's body is over.
    pub(crate) fn follow(mut self, response: Response<Body>) -> Response<Body> {
        if let Some(facts) = &mut self.facts {
            facts.status = Some(response.status().as_u16());
            // An empty body is never asked for, nor is one that only HEAD would have had.
            facts.complete = response.body().is_end_stream() || facts.method == Method::HEAD;
        } else if self.span.is_disabled() {
            return response;
        }
        let announced =
            response.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let announced = announced.and_then(|length| length.parse().ok());
        response.map(|body| {
            let left = body.size_hint().exact().or(announced);
            Body::new(Followed { body, left, line: self })
        })
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        if let Some(facts) = self.facts.take() {
            facts.write();
        }
    }
}

impl Facts {
    fn write(&self) {
        let caller = self.caller.as_ref();
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: TARGET,
                    $level,
                    request_id = self.id.as_ref().and_then(|id| id.to_str().ok()),
                    method = self.method.as_str(),
                    path = self.uri.path(),
                    status = self.status,
                    sent_bytes = self.sent_bytes,
                    milliseconds = self.began.elapsed().as_micros() as f64 / 1000.0,
                    complete = self.complete,
                    remote = self.remote.map(tracing::field::display),
                    user = caller.and_then(Caller::user),
                    project = caller.and_then(Caller::project),
                )
            };
        }
        if self.level == Level::INFO { line!(Level::INFO) } else { line!(Level::DEBUG) }
    }
}

/// An answer's body that is counted on its way out.
struct Followed {
    body: Body,
    /// Bytes still to come, if the body has said how many. The connection does not ask again after
    /// the last of them.
    left: Option<u64>,
    line: AccessLine,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { body, left, line } = &mut *self;
        let polled = line.span.in_scope(|| Pin::new(body).poll_frame(context));
        if let Some(facts) = &mut line.facts {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                    facts.sent_bytes += bytes;
                    *left = left.map(|left| left.saturating_sub(bytes));
                    facts.complete |= *left == Some(0);
                }
                Poll::Ready(Some(Err(_))) => facts.complete = false,
                Poll::Ready(None) => facts.complete = true,
                Poll::Pending => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
