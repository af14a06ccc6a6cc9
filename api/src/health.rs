//! Health for load balancers and supervisors, without sign-in.
//!
//! `/healthcheck` is Glance's: may this node get traffic. `/livez`: does the process run. `/readyz`:
//! may it get traffic, and can it answer from the catalog now.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use crate::api::Api;
use crate::error::{ApiError, Format};

/// A catalog that does not answer within this is not ready. Balancers ask every two seconds.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// Whether `path` is one of the health URLs.
pub(crate) fn is_path(path: &str) -> bool {
    matches!(path, "/healthcheck" | "/livez" | "/readyz")
}

/// The answer, if `path` is one of the health URLs.
pub(crate) async fn answer(
    api: &Api,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Option<Result<Response<Body>, ApiError>> {
    if !is_path(path) {
        return None;
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some(Err(ApiError::MethodNotAllowed { allow: "GET, HEAD".to_owned() }));
    }
    let reason = match path {
        "/healthcheck" => refusal(api),
        "/readyz" => unready(api).await,
        _ => None,
    };
    Some(Ok(report(reason, method, Format::accepted(headers))))
}

fn refusal(api: &Api) -> Option<&'static str> {
    let disabled = api.settings.disable_by_file_path.as_ref().is_some_and(|path| path.exists());
    if disabled {
        Some("DISABLED BY FILE")
    } else if api.is_draining() {
        Some("DRAINING")
    } else {
        None
    }
}

async fn unready(api: &Api) -> Option<&'static str> {
    if let Some(reason) = refusal(api) {
        return Some(reason);
    }
    match tokio::time::timeout(READY_WITHIN, api.consensus.read(|_| ())).await {
        Ok(Ok(())) => None,
        Ok(Err(_)) | Err(_) => Some("CATALOG UNAVAILABLE"),
    }
}

fn report(reason: Option<&'static str>, method: &Method, format: Format) -> Response<Body> {
    let text = reason.unwrap_or("OK");
    let status = match reason {
        None if method == Method::HEAD => StatusCode::NO_CONTENT,
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let (content_type, body) = match format {
        Format::Json => ("application/json", format!("{{\"detailed\": false, \"reasons\": [\"{text}\"]}}")),
        Format::Html => (
            "text/html; charset=UTF-8",
            format!("<html><head><title>Healthcheck Status</title></head><body><p>{text}</p></body></html>"),
        ),
        // Balancers and people send `*/*`; they get the word.
        Format::Anything | Format::Plain => ("text/plain; charset=UTF-8", text.to_owned()),
    };
    let mut response = Response::new(Body::from(body));
    if status == StatusCode::NO_CONTENT {
        *response.body_mut() = Body::empty();
    }
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
