//! The requests of the workload, as HTTP.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Method, Request};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

use super::content::ContentId;
use crate::dice::Dice;
use crate::network::RequestBody;
use crate::oracle::state::{Change, Record};

/// Media type of a PATCH.
const PATCH: &str = "application/openstack-images-v2.1-json-patch";

/// A request without a body.
pub(crate) fn bare(method: Method, path: &str) -> Request<RequestBody> {
    request(method, path, "application/octet-stream", full(Bytes::new()))
}

/// `GET` of part of an image.
pub(crate) fn range(path: &str, first: u64, last: u64) -> Request<RequestBody> {
    let mut request = bare(Method::GET, path);
    let range = format!("bytes={first}-{last}").parse().expect("digits are a header value");
    request.headers_mut().insert(http::header::RANGE, range);
    request
}

/// `POST /v2/images`.
pub(crate) fn create(id: Option<&str>, record: &Record) -> Request<RequestBody> {
    let mut document = json!({
        "name": record.name,
        "min_ram": record.min_ram,
        "tags": record.tags,
        "disk_format": "raw",
        "container_format": "bare",
    });
    for (name, value) in &record.properties {
        document[name] = Value::from(value.as_str());
    }
    if let Some(id) = id {
        document["id"] = Value::from(id);
    }
    request(Method::POST, "/v2/images", "application/json", full(document.to_string().into()))
}

/// `PATCH /v2/images/{id}`.
pub(crate) fn patch(path: &str, changes: &[Change]) -> Request<RequestBody> {
    let changes: Vec<Value> = changes
        .iter()
        .map(|change| match change {
            Change::Name(name) => json!({"op": "replace", "path": "/name", "value": name}),
            Change::MinRam(min_ram) => json!({"op": "replace", "path": "/min_ram", "value": min_ram}),
            Change::Tags(tags) => json!({"op": "replace", "path": "/tags", "value": tags}),
            Change::SetProperty(name, value) => {
                json!({"op": "add", "path": format!("/{name}"), "value": value})
            }
            Change::RemoveProperty(name) => json!({"op": "remove", "path": format!("/{name}")}),
        })
        .collect();
    request(Method::PATCH, path, PATCH, full(Value::from(changes).to_string().into()))
}

/// How a client sends the bytes of an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    /// What it uploads.
    pub(crate) content: ContentId,
    /// Whether it says beforehand how much that is.
    pub(crate) announced: bool,
    /// After how many bytes it hangs up.
    pub(crate) cut_after: Option<usize>,
}

/// `PUT /v2/images/{id}/file`, in pieces and with pauses of drawn lengths.
pub(crate) fn upload(path: &str, bytes: Bytes, sending: Sending, dice: Dice) -> Request<RequestBody> {
    let size = bytes.len();
    let body = stream::unfold((bytes, dice, 0), move |(mut rest, mut dice, sent)| async move {
        if sending.cut_after.is_some_and(|cut| sent >= cut) {
            let hang_up: io::Error = io::ErrorKind::ConnectionAborted.into();
            return Some((Err(hang_up), (Bytes::new(), dice, 0)));
        }
        if rest.is_empty() {
            return None;
        }
        if dice.chance(60) {
            tokio::time::sleep(Duration::from_millis(dice.magnitude(6))).await;
        }
        let until_cut = sending.cut_after.map_or(usize::MAX, |cut| cut - sent);
        let piece = usize::try_from(dice.magnitude(17)).unwrap_or(1).min(rest.len()).min(until_cut);
        let piece = rest.split_to(piece);
        let sent = sent + piece.len();
        Some((Ok(Frame::data(piece)), (rest, dice, sent)))
    });
    let body = StreamBody::new(body).boxed_unsync();
    let mut request = request(Method::PUT, path, "application/octet-stream", body);
    if sending.announced {
        request.headers_mut().insert(http::header::CONTENT_LENGTH, size.into());
    }
    request
}

/// A request of an operator.
pub(crate) fn json(method: Method, path: &str, body: Option<Value>) -> Request<RequestBody> {
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    request(method, path, "application/json", full(body))
}

fn full(bytes: Bytes) -> RequestBody {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn request(method: Method, path: &str, media_type: &str, body: RequestBody) -> Request<RequestBody> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, "node:9292")
        .header(http::header::CONTENT_TYPE, media_type);
    request.body(body).expect("paths of the workload are plain ASCII")
}
