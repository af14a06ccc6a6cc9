//! The OpenStack Images API v2, as every node serves it.
//!
//! A request passes `front` (limits, versions, sign-in, request id), then `routes` (the whole URL
//! table), then one function of `v2/`, which parses, asks and answers. This is the only crate where
//! metadata and bytes meet: a handler asks consensus what exists and transfer for the bytes.
//!
//! Start with `routes.rs`.

mod access;
mod api;
mod auth;
mod call;
mod claimed;
mod error;
mod front;
mod health;
mod metrics;
mod page;
mod patch;
mod policy;
mod request_id;
mod routes;
mod serve;
mod settings;
mod stale;
mod v2;
mod versions;
mod wire;

pub use api::{Api, ApiParts};
pub use auth::{Auth, Htpasswd, HtpasswdError, HtpasswdProblem};
pub use front::Front;
pub use serve::serve;
pub use settings::{ApiSettings, InvalidApiSettings};
