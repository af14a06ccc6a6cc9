//! What clients do: several at once, each drawing its next request from its own dice.

mod client;
pub(crate) mod content;
pub(crate) mod observed;
mod request;
mod upload;

pub(crate) use client::{Client, Downloaded, Scene, document};
pub(crate) use request::json as json_request;
