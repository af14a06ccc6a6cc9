//! JSON schemas of the documents. Clients validate against them before they send anything.

use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::call::{Answer, Call};
use crate::front;
use crate::policy::Target;
use crate::settings::ApiSettings;

const UUID: &str = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$";

/// The documents as text, made once from the configured formats.
pub(crate) struct Schemas {
    image: Bytes,
    images: Bytes,
}

impl Schemas {
    pub(crate) fn new(settings: &ApiSettings) -> Self {
        let image = image_schema(settings);
        let images = images_schema(&image);
        Self { image: image.to_string().into(), images: images.to_string().into() }
    }
}

/// `GET /v2/schemas/image`.
pub(crate) fn image(call: &Call) -> Answer {
    call.check(Target::Service)?;
    Ok(front::json(StatusCode::OK, call.api.schemas.image.clone()))
}

/// `GET /v2/schemas/images`.
pub(crate) fn images(call: &Call) -> Answer {
    call.check(Target::Service)?;
    Ok(front::json(StatusCode::OK, call.api.schemas.images.clone()))
}

fn image_schema(settings: &ApiSettings) -> Value {
    let mut properties = writable(settings);
    for (name, schema) in read_only().into_iter().chain(well_known()) {
        properties[name] = schema;
    }
    json!({
        "name": "image",
        "properties": properties,
        "additionalProperties": {"type": "string"},
        "links": [
            {"rel": "self", "href": "{self}"},
            {"rel": "enclosure", "href": "{file}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    })
}

fn writable(settings: &ApiSettings) -> Value {
    let formats = |formats: &[String]| -> Vec<Value> {
        std::iter::once(Value::Null).chain(formats.iter().cloned().map(Value::from)).collect()
    };
    json!({
        "id": {"type": "string", "pattern": UUID, "description": "An identifier for the image"},
        "name": {"type": ["null", "string"], "maxLength": 255, "description": "Descriptive name for the image"},
        "visibility": {
            "type": "string",
            "enum": ["community", "public", "private", "shared"],
            "description": "Scope of image accessibility",
        },
        "protected": {"type": "boolean", "description": "If true, image will not be deletable."},
        "os_hidden": {
            "type": "boolean",
            "description": "If true, image will not appear in default image list response.",
        },
        "owner": {"type": ["null", "string"], "maxLength": 255, "description": "Owner of the image"},
        "container_format": {
            "type": ["null", "string"],
            "enum": formats(&settings.container_formats),
            "description": "Format of the container",
        },
        "disk_format": {
            "type": ["null", "string"],
            "enum": formats(&settings.disk_formats),
            "description": "Format of the disk",
        },
        "min_ram": {"type": "integer", "description": "Amount of ram (in MB) required to boot image."},
        "min_disk": {"type": "integer", "description": "Amount of disk space (in GB) required to boot image."},
        "tags": {
            "type": "array",
            "items": {"type": "string", "maxLength": 255},
            "description": "List of strings related to the image",
        },
    })
}

fn read_only() -> Vec<(&'static str, Value)> {
    let text = |description: &str| json!({"type": "string", "readOnly": true, "description": description});
    let text_or_null = |max: usize, description: &str| {
        json!({
            "type": ["null", "string"], "maxLength": max, "readOnly": true, "description": description
        })
    };
    let number_or_null = |description: &str| json!({"type": ["null", "integer"], "readOnly": true, "description": description});
    let location = json!({
        "type": "object",
        "properties": {"url": {"type": "string", "maxLength": 255}, "metadata": {"type": "object"}},
        "required": ["url", "metadata"],
    });
    let mut status = text("Status of the image");
    status["enum"] = json!([
        "queued",
        "saving",
        "active",
        "killed",
        "deleted",
        "uploading",
        "importing",
        "pending_delete",
        "deactivated",
    ]);
    vec![
        ("status", status),
        ("created_at", text("Date and time of image registration")),
        ("updated_at", text("Date and time of the last image modification")),
        ("self", text("An image self url")),
        ("file", text("An image file url")),
        ("schema", text("An image schema url")),
        ("direct_url", text("URL to access the image file kept in external store")),
        ("stores", text("Store in which image data resides.")),
        ("checksum", text_or_null(32, "md5 hash of image contents.")),
        ("os_hash_algo", text_or_null(64, "Algorithm to calculate the os_hash_value")),
        (
            "os_hash_value",
            text_or_null(128, "Hexdigest of the image contents using the algorithm named by os_hash_algo"),
        ),
        ("size", number_or_null("Size of image file in bytes")),
        ("virtual_size", number_or_null("Virtual size of image in bytes")),
        (
            "locations",
            json!({
                "type": "array",
                "items": location,
                "description": "A set of URLs to access the image file kept in external store",
            }),
        ),
    ]
}

/// Custom properties that clients offer as options of their own.
fn well_known() -> Vec<(&'static str, Value)> {
    let property =
        |description: &str| json!({"type": "string", "is_base": false, "description": description});
    vec![
        ("kernel_id", property("Image to use as the kernel when booting an AMI-style image.")),
        ("ramdisk_id", property("Image to use as the ramdisk when booting an AMI-style image.")),
        ("instance_uuid", property("Instance this image was made from. Informational only.")),
        ("architecture", property("Operating system architecture")),
        ("os_distro", property("Common name of the operating system distribution")),
        ("os_version", property("Operating system version as the distributor names it")),
    ]
}

fn images_schema(image: &Value) -> Value {
    json!({
        "name": "images",
        "properties": {
            "images": {"type": "array", "items": image},
            "first": {"type": "string"},
            "next": {"type": "string"},
            "schema": {"type": "string"},
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    })
}
