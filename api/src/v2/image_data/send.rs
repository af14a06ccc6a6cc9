//! `PUT /v2/images/{image_id}/file`: what is decided before the first byte is read.
//!
//! A client that said `Expect: 100-continue` is told to go on only when the body is first polled, in
//! `receive.rs`, so every refusal here costs it nothing.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use peerglass_catalog::UploadId;
use tokio::sync::oneshot;
use tracing::Instrument;

use super::receive::{Reception, receive};
use crate::call::{Answer, Call};
use crate::error::ApiError;
use crate::v2::{PEER_STORE, no_content};
use crate::wire::WatchedBody;

/// What is wrong with the headers of a request for data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DataProblem {
    #[error("Unsupported media type: expected application/octet-stream")]
    ContentType,
    #[error("Unsupported content encoding: send the image's bytes as they are")]
    ContentEncoding,
    #[error("x-openstack-image-size and Content-Length must be one integer each")]
    Size,
    #[error("x-openstack-image-size is {announced}, but Content-Length is {length}")]
    SizesDiffer { announced: u64, length: u64 },
    #[error("The image is larger than the allowed {max} bytes")]
    TooLarge { max: u64 },
    #[error("Store {0:?} does not exist")]
    UnknownStore(String),
}

/// Receive an image's bytes. The reception runs on its own, so that it ends in order even if the
/// client hangs up and this future is dropped.
pub(crate) async fn upload(call: Call, body: Body) -> Answer {
    check_type(&call.head.headers)?;
    let image = call.permitted_image().await?;
    let headers = &call.head.headers;
    check_store(headers)?;
    let announced_bytes = announced_bytes(headers)?;
    let bytes_max = call.api.settings.image_size_cap;
    if announced_bytes.is_some_and(|bytes| bytes > bytes_max) {
        return Err(DataProblem::TooLarge { max: bytes_max }.into());
    }
    if !call.api.takes_uploads() {
        return Err(ApiError::UploadsClosed);
    }
    let body = WatchedBody::new(body, &call.api.settings);
    let (answer, told) = oneshot::channel();
    let upload = UploadId(u128::from_le_bytes(call.api.random()));
    let reception = Reception { api: call.api.clone(), image: image.id, upload, announced_bytes, answer };
    call.api.uploads.spawn(receive(reception, body).in_current_span());
    told.await.unwrap_or(Err(ApiError::UploadInterrupted))?;
    Ok(no_content())
}

fn check_type(headers: &HeaderMap) -> Result<(), DataProblem> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let only = types.next().filter(|_| types.next().is_none()).and_then(|value| value.to_str().ok());
    let name = only.and_then(|text| text.split(';').next()).map(str::trim);
    if !name.is_some_and(|name| name.eq_ignore_ascii_case("application/octet-stream")) {
        return Err(DataProblem::ContentType);
    }
    let encoded = headers.get_all(header::CONTENT_ENCODING).iter().any(|encoding| encoding != "identity");
    if encoded { Err(DataProblem::ContentEncoding) } else { Ok(()) }
}

fn check_store(headers: &HeaderMap) -> Result<(), DataProblem> {
    match headers.get("x-image-meta-store") {
        Some(store) if store != PEER_STORE => Err(DataProblem::UnknownStore(
            String::from_utf8_lossy(store.as_bytes()).chars().take(255).collect(),
        )),
        Some(_) | None => Ok(()),
    }
}

/// How many bytes the client means to send, if it says so.
fn announced_bytes(headers: &HeaderMap) -> Result<Option<u64>, DataProblem> {
    let size = |name: &str| match headers.get(name) {
        None => Ok(None),
        Some(value) => {
            let digits =
                value.to_str().ok().map(str::trim).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|digits| digits.parse::<u64>().ok()).map(Some).ok_or(DataProblem::Size)
        }
    };
    match (size("x-openstack-image-size")?, size(header::CONTENT_LENGTH.as_str())?) {
        (Some(announced), Some(length)) if announced != length => {
            Err(DataProblem::SizesDiffer { announced, length })
        }
        (announced, length) => Ok(announced.or(length)),
    }
}
