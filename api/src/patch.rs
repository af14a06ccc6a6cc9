//! PATCH of an image: a list of changes in one of two media types, turned into catalog edits.
//!
//! Everything that can be judged without the image is judged by [`Patch::parse`], before the image
//! is looked up. What depends on the image is left to the catalog, which evaluates the edits when
//! they are applied; so two clients that edit at once never lose an edit.

mod pointer;

use axum::http::{HeaderMap, HeaderValue, header};
use peerglass_catalog::{Edit, Presence};
use serde_json::{Map, Value};

use crate::settings::ApiSettings;
use crate::wire::{DocumentProblem, field_edit, is_core, is_read_only, is_reserved};

const V21: &str = "application/openstack-images-v2.1-json-patch";
const V20: &str = "application/openstack-images-v2.0-json-patch";

/// The media types, as a 415 names them.
pub(crate) const ACCEPT_PATCH: HeaderValue = HeaderValue::from_static(
    "application/openstack-images-v2.1-json-patch, application/openstack-images-v2.0-json-patch",
);

/// What is wrong with a patch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatchProblem {
    #[error("Unsupported media type: expected {V21} or {V20}")]
    MediaType,
    #[error("Request body must be a JSON array of operation objects.")]
    NotAList,
    #[error("Operations must be JSON objects.")]
    NotAnObject,
    #[error("An operation is exactly one of add, replace and remove.")]
    Operation,
    #[error("An operation needs a path, which is a string.")]
    Path,
    #[error("Operations add and replace need a value.")]
    Value,
    #[error("Pointer {pointer:?} {rule}")]
    Pointer { pointer: String, rule: &'static str },
    #[error("Invalid JSON pointer for this resource: {pointer:?} does not name a member of the image")]
    Depth { pointer: String },
    #[error("Access was denied to this resource: locations cannot be changed here.")]
    Locations,
    #[error("There was a conflict when trying to complete your request. Property {0} already present.")]
    Exists(String),
    #[error("Access was denied to this resource: property {0} may not be removed.")]
    NotRemovable(String),
    #[error(transparent)]
    Document(#[from] DocumentProblem),
}

/// A media type: how an operation is spelled, and what `add` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// `{"op": "add", "path": "/x"}`; `add` overwrites.
    V21,
    /// `{"add": "/x"}`; `add` refuses what is there.
    V20,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Add,
    Replace,
    Remove,
}

/// A list of changes, checked as far as possible without the image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Patch(Vec<Change>);

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Edit(Edit),
    /// Glance refuses these only after it found the image.
    Refused(PatchProblem),
}

/// A media type that PATCH accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MediaType(Spelling);

impl MediaType {
    /// The media type of a request with these headers.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, PatchProblem> {
        let mut values = headers.get_all(header::CONTENT_TYPE).iter();
        let only = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
        let name = only.and_then(|text| text.split(';').next()).map(str::trim);
        match name {
            Some(name) if name.eq_ignore_ascii_case(V21) => Ok(Self(Spelling::V21)),
            Some(name) if name.eq_ignore_ascii_case(V20) => Ok(Self(Spelling::V20)),
            Some(_) | None => Err(PatchProblem::MediaType),
        }
    }
}

impl Patch {
    /// Check a patch of this media type.
    pub(crate) fn parse(
        document: &Value,
        media_type: MediaType,
        settings: &ApiSettings,
    ) -> Result<Self, PatchProblem> {
        let operations = document.as_array().ok_or(PatchProblem::NotAList)?;
        operations
            .iter()
            .map(|operation| change(operation, media_type.0, settings))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The edits, in order, or what the image's schema forbids.
    pub(crate) fn into_edits(self) -> Result<Vec<Edit>, PatchProblem> {
        let edit = |change| match change {
            Change::Edit(edit) => Ok(edit),
            Change::Refused(problem) => Err(problem),
        };
        self.0.into_iter().map(edit).collect()
    }
}

fn change(operation: &Value, spelling: Spelling, settings: &ApiSettings) -> Result<Change, PatchProblem> {
    let members = operation.as_object().ok_or(PatchProblem::NotAnObject)?;
    let (verb, pointer) = match spelling {
        Spelling::V21 => named_operation(members)?,
        Spelling::V20 => keyed_operation(members)?,
    };
    let path = pointer::parse(pointer)?;
    let value = match verb {
        Verb::Add | Verb::Replace => Some(members.get("value").ok_or(PatchProblem::Value)?),
        Verb::Remove => None,
    };
    let name = match path.as_slice() {
        [first, ..] if first == "locations" => {
            return Ok(Change::Refused(location(verb, path.len(), pointer)?));
        }
        [name] => name,
        _ => return Err(PatchProblem::Depth { pointer: pointer.chars().take(255).collect() }),
    };
    if is_read_only(name) {
        return Err(DocumentProblem::ReadOnly(name.clone()).into());
    }
    if is_core(name).is_none() && is_reserved(name) {
        return Err(DocumentProblem::Reserved(name.chars().take(255).collect()).into());
    }
    let core = is_core(name).is_some();
    let presence = match (verb, spelling) {
        (Verb::Add, Spelling::V20) => Presence::Absent,
        (Verb::Add, Spelling::V21) | (Verb::Remove, _) => Presence::Any,
        (Verb::Replace, _) => Presence::Present,
    };
    match value {
        None if core => Ok(Change::Refused(PatchProblem::NotRemovable(name.clone()))),
        None => Ok(Change::Edit(Edit::RemoveProperty(name.clone()))),
        Some(value) => {
            let edit = field_edit(name, value, presence, settings)?;
            // Core members are always there, if only as null.
            let exists = core && presence == Presence::Absent;
            Ok(if exists { Change::Refused(PatchProblem::Exists(name.clone())) } else { Change::Edit(edit) })
        }
    }
}

fn named_operation(members: &Map<String, Value>) -> Result<(Verb, &str), PatchProblem> {
    let verb = match members.get("op").and_then(Value::as_str) {
        Some("add") => Verb::Add,
        Some("replace") => Verb::Replace,
        Some("remove") => Verb::Remove,
        Some(_) | None => return Err(PatchProblem::Operation),
    };
    let path = members.get("path").and_then(Value::as_str).ok_or(PatchProblem::Path)?;
    Ok((verb, path))
}

fn keyed_operation(members: &Map<String, Value>) -> Result<(Verb, &str), PatchProblem> {
    let verbs = [("add", Verb::Add), ("replace", Verb::Replace), ("remove", Verb::Remove)];
    let mut present = verbs.into_iter().filter_map(|(key, verb)| Some((verb, members.get(key)?)));
    match (present.next(), present.next()) {
        (Some((verb, path)), None) => Ok((verb, path.as_str().ok_or(PatchProblem::Path)?)),
        _ => Err(PatchProblem::Operation),
    }
}

/// Locations are not shown, so they cannot be changed either; but a malformed path is still that.
fn location(verb: Verb, depth: usize, pointer: &str) -> Result<PatchProblem, PatchProblem> {
    let wanted = match verb {
        Verb::Add | Verb::Remove => 2,
        Verb::Replace => 1,
    };
    if depth == wanted {
        Ok(PatchProblem::Locations)
    } else {
        Err(PatchProblem::Depth { pointer: pointer.chars().take(255).collect() })
    }
}

#[cfg(test)]
mod tests;
