//! `GET /v2/images/{image_id}/file`.
//!
//! The length is always announced, so a transfer that fails in the middle ends short and no client
//! takes it for the whole image.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use futures::TryStreamExt;
use peerglass_catalog::{Content, Status};
use peerglass_transfer::DownloadError;

use super::DataProblem;
use super::range::wanted;
use crate::call::{Answer, Call};
use crate::claimed::claimed;
use crate::error::ApiError;
use crate::v2::{PEER_STORE, no_content};

/// Send an image's bytes, or a part of them.
pub(crate) async fn download(call: Call) -> Answer {
    let image = call.permitted_image().await?;
    if image.status == Status::Deactivated && !call.caller.is_admin() {
        return Err(ApiError::Deactivated);
    }
    check_preference(call.head.uri.query().unwrap_or_default())?;
    let Some(content) = &image.content else { return Ok(no_content()) };
    let etag = format!("\"{}\"", content.os_hash_value);
    let part = wanted(&call.head.headers, content.size, &etag)?;
    let range = part.clone().unwrap_or(0..content.size);
    let length = range.end - range.start;
    let body = if length == 0 {
        Body::empty()
    } else {
        let id = image.id;
        let permit = Arc::clone(&call.api.downloads).try_acquire_owned();
        let permit = Arc::new(permit.map_err(|_| ApiError::DownloadsBusy)?);
        let bytes = call.api.transfer.download(content.manifest, range.clone()).await;
        let bytes = match bytes {
            Err(error @ DownloadError::Missing(_)) => {
                // Deleted and reclaimed since the record was read: then it is absent, and nothing is lost.
                call.permitted_image().await?;
                return Err(elsewhere(&call, error));
            }
            bytes => bytes.map_err(ApiError::Download)?,
        };
        let bytes = bytes.inspect_err(move |error| {
            tracing::error!(image = %id, error = error as &dyn std::error::Error, "download broke off");
        });
        // Under way is also what the connection holds when the last byte has been read.
        Body::from_stream(bytes.map_ok(move |piece| claimed(piece, Arc::clone(&permit))))
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    describe(headers, content, &etag);
    headers.insert(header::CONTENT_LENGTH, length.into());
    if part.is_some() {
        let range = format!("bytes {}-{}/{}", range.start, range.end - 1, content.size);
        insert_text(headers, header::CONTENT_RANGE, &range);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// Bytes that no node gave are lost on a node that is alone; otherwise whoever has them may answer again
/// in a moment.
fn elsewhere(call: &Call, error: DownloadError) -> ApiError {
    let alone = call.api.consensus.others().is_empty();
    if matches!(error, DownloadError::Missing(_)) && !alone {
        return ApiError::BytesElsewhere(error);
    }
    ApiError::Download(error)
}

/// What is true of the whole image whichever part is sent.
fn describe(headers: &mut HeaderMap, content: &Content, etag: &str) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // Hexadecimal, unlike the RFC, because that is what clients compare.
    insert_text(headers, header::HeaderName::from_static("content-md5"), &content.checksum);
    insert_text(headers, header::ETAG, etag);
}

fn insert_text(headers: &mut HeaderMap, name: header::HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// `?prefer=store1,store2` may name only stores that exist. There is one, so nothing else follows.
fn check_preference(query: &str) -> Result<(), DataProblem> {
    let values = query.split('&').filter_map(|pair| pair.strip_prefix("prefer="));
    let mut stores = values.flat_map(|list| list.split(',')).map(str::trim);
    match stores.find(|store| *store != PEER_STORE) {
        Some(unknown) => Err(DataProblem::UnknownStore(unknown.chars().take(255).collect())),
        None => Ok(()),
    }
}
