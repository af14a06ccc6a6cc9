//! Properties of the whole catalog: any order of commands, any query.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod keeping;
mod lifecycle;
mod lists;
mod replicas;
