//! An image's bytes: send them once, fetch them as often as wanted.

mod fetch;
mod range;
mod receive;
mod send;

pub(crate) use fetch::download;
pub(crate) use range::RangeProblem;
pub(crate) use send::{DataProblem, upload};
