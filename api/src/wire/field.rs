//! One member of an image document: what it is called, what it may hold, who may set it.
//!
//! Create and PATCH check values here, so that both mean the same schema.

use std::collections::BTreeSet;

use peerglass_catalog::{Edit, ImageId, Presence, Visibility};
use serde_json::Value;

use crate::settings::ApiSettings;

/// Most characters of a name, an owner, a tag or a property's name.
pub(crate) const NAME_CHARACTERS_MAX: usize = 255;
/// Largest `min_disk` and `min_ram`.
const MINIMUM_MAX: u32 = i32::MAX as u32;

/// What is wrong with a member of an image document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DocumentProblem {
    #[error("The body must be a JSON object.")]
    NotAnObject,
    #[error("Provided object does not match schema 'image': {name}: {value} is not {expected}")]
    Schema { name: String, value: String, expected: String },
    #[error("A property's name has 1 to {max} characters.")]
    NameLength { max: usize },
    #[error("Access was denied to this resource: attribute '{0}' is read-only.")]
    ReadOnly(String),
    #[error("Access was denied to this resource: attribute '{0}' is reserved.")]
    Reserved(String),
}

/// A member that clients may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Name,
    Visibility,
    Protected,
    Hidden,
    Owner,
    MinDisk,
    MinRam,
    Tags,
    ContainerFormat,
    DiskFormat,
}

/// The settable core member called `name`, if it is one.
pub(crate) fn is_core(name: &str) -> Option<Field> {
    match name {
        "name" => Some(Field::Name),
        "visibility" => Some(Field::Visibility),
        "protected" => Some(Field::Protected),
        "os_hidden" => Some(Field::Hidden),
        "owner" => Some(Field::Owner),
        "min_disk" => Some(Field::MinDisk),
        "min_ram" => Some(Field::MinRam),
        "tags" => Some(Field::Tags),
        "container_format" => Some(Field::ContainerFormat),
        "disk_format" => Some(Field::DiskFormat),
        _ => None,
    }
}

/// Whether only the service sets `name`.
pub(crate) fn is_read_only(name: &str) -> bool {
    matches!(
        name,
        "id" | "created_at"
            | "updated_at"
            | "status"
            | "checksum"
            | "size"
            | "virtual_size"
            | "direct_url"
            | "self"
            | "file"
            | "schema"
            | "stores"
            | "os_hash_algo"
            | "os_hash_value"
    )
}

/// Whether nobody may have a property called `name`.
pub(crate) fn is_reserved(name: &str) -> bool {
    matches!(name, "location" | "deleted" | "deleted_at") || name.starts_with("os_glance")
}

/// The edit that sets `name` to `value`, checked against the schema. `presence` matters for custom
/// properties only; the caller has refused read-only and reserved names.
pub(crate) fn field_edit(
    name: &str,
    value: &Value,
    presence: Presence,
    settings: &ApiSettings,
) -> Result<Edit, DocumentProblem> {
    let Some(field) = is_core(name) else {
        check_property_name(name)?;
        let value = value.as_str().ok_or_else(|| mismatch(name, value, "a string"))?.to_owned();
        return Ok(Edit::SetProperty { name: name.to_owned(), value, presence });
    };
    match field {
        Field::Name => short_text(name, value).map(Edit::Name),
        Field::Owner => short_text(name, value).map(Edit::Owner),
        Field::Visibility => value
            .as_str()
            .and_then(Visibility::from_name)
            .map(Edit::Visibility)
            .ok_or_else(|| mismatch(name, value, "one of public, private, shared, community")),
        Field::Protected => boolean(name, value).map(Edit::Protected),
        Field::Hidden => boolean(name, value).map(Edit::Hidden),
        Field::MinDisk => minimum(name, value).map(Edit::MinDisk),
        Field::MinRam => minimum(name, value).map(Edit::MinRam),
        Field::Tags => tags(name, value).map(Edit::Tags),
        Field::ContainerFormat => format(name, value, &settings.container_formats).map(Edit::ContainerFormat),
        Field::DiskFormat => format(name, value, &settings.disk_formats).map(Edit::DiskFormat),
    }
}

/// Check a member that only the service sets, as the schema types it.
pub(super) fn check_read_only(name: &str, value: &Value) -> Result<(), DocumentProblem> {
    let expected = match name {
        "size" | "virtual_size" if !(value.is_null() || value.is_i64() || value.is_u64()) => {
            "an integer or null"
        }
        "checksum" | "os_hash_algo" | "os_hash_value" if !(value.is_null() || value.is_string()) => {
            "a string or null"
        }
        "created_at" | "updated_at" | "status" if !value.is_string() => "a string",
        "locations" if !value.is_array() => "an array",
        _ => return Ok(()),
    };
    Err(mismatch(name, value, expected))
}

/// The id a client chose.
pub(super) fn id(value: &Value) -> Result<ImageId, DocumentProblem> {
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| mismatch("id", value, "8-4-4-4-12 hexadecimal digits"))
}

fn check_property_name(name: &str) -> Result<(), DocumentProblem> {
    if name.is_empty() || name.chars().count() > NAME_CHARACTERS_MAX {
        return Err(DocumentProblem::NameLength { max: NAME_CHARACTERS_MAX });
    }
    Ok(())
}

fn short_text(name: &str, value: &Value) -> Result<Option<String>, DocumentProblem> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.chars().count() <= NAME_CHARACTERS_MAX => Ok(Some(text.clone())),
        Value::String(_) | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(mismatch(name, value, "null or a string of at most 255 characters"))
        }
    }
}

fn boolean(name: &str, value: &Value) -> Result<bool, DocumentProblem> {
    value.as_bool().ok_or_else(|| mismatch(name, value, "a boolean"))
}

fn minimum(name: &str, value: &Value) -> Result<u32, DocumentProblem> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| *number <= MINIMUM_MAX)
        .ok_or_else(|| mismatch(name, value, "an integer from 0 to 2147483647"))
}

fn tags(name: &str, value: &Value) -> Result<BTreeSet<String>, DocumentProblem> {
    let wrong = || mismatch(name, value, "an array of strings of at most 255 characters");
    let tag = |tag: &Value| {
        tag.as_str().filter(|tag| tag.chars().count() <= NAME_CHARACTERS_MAX).map(str::to_owned)
    };
    value.as_array().ok_or_else(wrong)?.iter().map(|value| tag(value).ok_or_else(wrong)).collect()
}

fn format(name: &str, value: &Value, formats: &[String]) -> Result<Option<String>, DocumentProblem> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if formats.contains(text) => Ok(Some(text.clone())),
        Value::String(_) | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(mismatch(name, value, &format!("null or one of {}", formats.join(", "))))
        }
    }
}

/// The instance is named, but only its beginning: it may be a megabyte.
fn mismatch(name: &str, value: &Value, expected: &str) -> DocumentProblem {
    let beginning = |text: String| text.chars().take(64).collect::<String>();
    DocumentProblem::Schema {
        name: beginning(name.to_owned()),
        value: beginning(value.to_string()),
        expected: expected.to_owned(),
    }
}
