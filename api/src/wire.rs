//! JSON as clients write and read it, apart from the records the catalog keeps.

mod body;
mod field;
mod image;
mod time;

pub(crate) use body::{BodyProblem, WatchedBody, read_json};
pub(crate) use field::{DocumentProblem, field_edit, is_core, is_read_only, is_reserved};
pub(crate) use image::{ImageDocument, ImagePage, NewImage};
