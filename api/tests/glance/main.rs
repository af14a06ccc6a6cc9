//! The API as clients see it: the real service over the real catalog and the real byte path, in
//! memory. HTTP in, HTTP out. Ids like RB-27 name entries of the project's corpus of hostile input.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod access;
mod actions;
mod auth;
mod cluster;
mod concurrent;
mod create;
mod data;
mod doubt;
mod errors;
mod floods;
mod frames;
mod framing;
mod hostile;
mod keep_alive;
mod linger;
mod list;
mod node;
mod patch;
mod pipes;
mod range;
mod records;
mod server;
mod stuck;
mod tags;
mod uploads;
mod versions;
