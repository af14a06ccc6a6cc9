//! Who is calling.
//!
//! Nothing a client merely claims counts: identity headers such as `X-Roles` are never read.

mod caller;
mod http_basic;
mod open;

use std::net::IpAddr;

use axum::http::HeaderMap;

pub use http_basic::{Htpasswd, HtpasswdError, HtpasswdProblem};

pub(crate) use caller::Caller;
pub(crate) use http_basic::PasswordChecks;

/// How callers prove who they are.
#[derive(Clone, Debug)]
pub enum Auth {
    /// They do not: everybody is an administrator without a project. Only safe on loopback.
    None,
    /// By user name and password from an htpasswd file.
    HttpBasic(Htpasswd),
}

/// The caller did not prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unauthenticated {
    /// No usable credentials came with the request.
    #[error("This server could not verify that you are authorized to access the document you requested.")]
    Basic,
    /// The check itself could not be made.
    #[error("the password check was interrupted")]
    Interrupted,
    /// Too many passwords wait to be checked.
    #[error("too many passwords wait to be checked")]
    Busy,
}

impl Auth {
    /// The caller of a request with these headers from `remote`, if that is known.
    pub(crate) async fn caller(
        &self,
        headers: &HeaderMap,
        remote: Option<IpAddr>,
        checks: &PasswordChecks,
    ) -> Result<Caller, Unauthenticated> {
        match self {
            Self::None => Ok(open::caller()),
            Self::HttpBasic(htpasswd) => htpasswd.caller(headers, remote, checks).await,
        }
    }
}
