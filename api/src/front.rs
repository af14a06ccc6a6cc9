//! What happens to every request before and after its route.
//!
//! Headers are measured, health and version documents answered, the caller established and the
//! request id chosen; then `routes` takes over. An id is on every answer below a version, whatever
//! became of the request, and on every line logged meanwhile.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use futures::future::BoxFuture;
use tower::{Service, ServiceExt};
use tracing::Instrument;

use crate::access::{AccessLine, Remote};
use crate::api::Api;
use crate::auth::Caller;
use crate::error::{ApiError, Format};
use crate::versions::{self, Place};
use crate::{health, request_id, routes, stale};

/// Answers requests. Cheap to clone; a server holds one for each connection.
#[derive(Clone, Debug)]
pub struct Front {
    api: Api,
    routes: Router,
}

/// What a route learns from here, besides the request.
#[derive(Clone)]
pub(crate) struct Entry {
    /// Who asks.
    pub(crate) caller: Caller,
    /// The form for an error's body.
    pub(crate) format: Format,
}

impl Front {
    pub(crate) fn new(api: Api) -> Self {
        let routes = routes::router(api.clone());
        Self { api, routes }
    }

    pub(crate) fn settings(&self) -> &crate::settings::ApiSettings {
        &self.api.settings
    }

    async fn answer(self, request: Request<Body>, line: &mut AccessLine) -> Response<Body> {
        let format = Format::accepted(request.headers());
        let header_bytes_max = self.api.settings.header_bytes_max;
        if header_bytes(request.headers()) > header_bytes_max {
            return ApiError::HeadersTooLarge { max: header_bytes_max }.response(format);
        }
        let path = request.uri().path();
        if let Some(answer) = health::answer(&self.api, request.method(), path, request.headers()).await {
            return answer.unwrap_or_else(|error| error.response(format));
        }
        if path == "/openapi.json" && request.method() == Method::GET {
            return json(StatusCode::OK, include_str!("../openapi.json").to_owned());
        }
        match versions::place(path, request.headers()) {
            Place::Document => json(StatusCode::OK, self.version_document(&request)),
            Place::Choice => json(StatusCode::MULTIPLE_CHOICES, self.version_document(&request)),
            Place::Root => self.signed_in(request, None, format, line).await,
            Place::Metrics => {
                self.signed_in(request, Some(Some(Uri::from_static("/metrics"))), format, line).await
            }
            Place::Version(rest) => {
                let target = target(rest, request.uri().query());
                self.signed_in(request, Some(target), format, line).await
            }
        }
    }

    /// Everything that needs a caller. Without a `target` it is the version's root without a slash.
    async fn signed_in(
        self,
        mut request: Request<Body>,
        target: Option<Option<Uri>>,
        format: Format,
        line: &mut AccessLine,
    ) -> Response<Body> {
        let length_max = self.api.settings.max_request_id_length;
        let (id, too_long) = match request_id::of(request.headers(), length_max, || self.api.random()) {
            Ok(id) => (id, None),
            Err(too_long) => (request_id::fresh(self.api.random()), Some(too_long)),
        };
        let span = line.identify(&id);
        let answered = async {
            let remote = request.extensions().get::<Remote>().map(|remote| remote.0.ip());
            let caller = self.api.auth.caller(request.headers(), remote, &self.api.password_checks).await?;
            line.attribute(&caller);
            if let Some(too_long) = too_long {
                return Err(too_long.into());
            }
            let Some(target) = target else {
                return Ok(redirect(&format!("{}/v2/", base(&self.api, &request))));
            };
            // Only a created thing is announced by an absolute URL.
            let creates = request.method() == Method::POST;
            let base_for_location = creates.then(|| Base(base(&self.api, &request)));
            *request.uri_mut() = target.ok_or(ApiError::NoSuchPath)?;
            if let Some(base) = base_for_location {
                request.extensions_mut().insert(base);
            }
            request.extensions_mut().insert(Entry { caller, format });
            let note = stale::Note::new();
            request.extensions_mut().insert(note.clone());
            let mut response = self.routes.clone().oneshot(request).await.into_response();
            note.stamp(&mut response);
            Ok(response)
        };
        let answered: Result<Response<Body>, ApiError> = answered.instrument(span).await;
        let mut response = answered.unwrap_or_else(|error| error.response(format));
        response.headers_mut().insert(request_id::HEADER, id);
        response
    }

    fn version_document(&self, request: &Request<Body>) -> String {
        versions::document(&base(&self.api, request))
    }
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let front = self.clone();
        Box::pin(async move {
            let mut line = AccessLine::new(&request);
            let response = front.answer(request, &mut line).await;
            Ok(line.follow(response))
        })
    }
}

/// Scheme, host and port clients reach this service by; absolute links begin with it.
#[derive(Clone, Debug)]
pub(crate) struct Base(pub(crate) String);

fn base(api: &Api, request: &Request<Body>) -> String {
    if let Some(endpoint) = &api.settings.public_endpoint {
        return endpoint.clone();
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map(|authority| authority.as_str()).or(host);
    // Only what parses as host and port may end up in a link.
    let host = host.filter(|host| {
        host.parse::<axum::http::uri::Authority>().is_ok_and(|parsed| !parsed.as_str().contains('@'))
    });
    format!("http://{}", host.unwrap_or("localhost"))
}

/// The request target below the version, which the URL table is written for.
fn target(rest: &str, query: Option<&str>) -> Option<Uri> {
    let text = match query {
        Some(query) => format!("/v2{rest}?{query}"),
        None => format!("/v2{rest}"),
    };
    Uri::try_from(text).ok()
}

fn redirect(location: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// An answer of type `application/json`.
pub(crate) fn json(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
