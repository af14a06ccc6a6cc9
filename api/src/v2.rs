//! One file for each resource: parse, ask, answer. Rules live in the catalog and in `policy`.

pub(crate) mod actions;
pub(crate) mod cluster;
pub(crate) mod image_data;
pub(crate) mod images;
pub(crate) mod info;
pub(crate) mod pins;
pub(crate) mod schemas;
pub(crate) mod shares;
pub(crate) mod tags;

use axum::body::Body;
use axum::http::{Response, StatusCode};

/// Done, and nothing to say.
fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The store every image is in, by the name clients use for it.
const PEER_STORE: &str = "peer";
