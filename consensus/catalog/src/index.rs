//! The indexes that make a page of a list cost what the page holds.
//!
//! An index entry is a key without a value:
//!
//! ```text
//! X  hidden?  scope  facet  value  created_at  id
//! ```
//!
//! *Scope* is an audience that lists are made for: one project's images, or all images of one
//! visibility. *Facet* is what the entry orders or selects by: one of the sort keys, a tag, or a
//! custom property. Because `created_at` and `id` follow the value, the entries of one scope, facet
//! and value are themselves in Glance's default order, so the same entry serves both "sorted by
//! name" and "named so, newest first".
//!
//! Values are written so that the order of bytes is the order of values: text is escaped and ended
//! by two zero bytes, numbers are big-endian. A custom property is one value, hashed, because its
//! text may be 64 KiB long; whoever reads the entry compares the record itself.

use crate::digest::Digest;
use crate::image::{Image, Timestamp, Visibility};
use crate::overlay::Overlay;
use crate::query::SortKey;
use crate::table::{self, INDEX};

/// An audience that lists are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    /// Images of one project.
    Owner(&'a str),
    /// Images of one visibility, whoever owns them.
    Visibility(Visibility),
}

/// What entries are ordered or selected by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Facet {
    /// A sort key.
    Sort(SortKey),
    /// A tag the image carries.
    Tag,
    /// A custom property and its value.
    Property,
}

/// Bring the stored image, its indexes and its names from `before` to `after`.
///
/// `None` means there is no such record. The two never differ in id or time of creation.
pub(crate) fn replace(overlay: &mut Overlay<'_>, before: Option<&Image>, after: Option<&Image>) {
    let old = before.map(entries).unwrap_or_default();
    let new = after.map(entries).unwrap_or_default();
    for key in old.iter().filter(|key| new.binary_search(key).is_err()) {
        overlay.remove(key.clone());
    }
    for key in new.into_iter().filter(|key| old.binary_search(key).is_err()) {
        overlay.put(key, Vec::new());
    }
    if let Some(image) = before {
        if let Some(content) = &image.content {
            table::remove_name(overlay, &content.manifest, &image.id);
        }
        if let Some(upload) = &image.upload {
            table::remove_upload(overlay, upload.node, &image.id);
        }
        if after.is_none() {
            table::remove_image(overlay, &image.id);
        }
    }
    if let Some(image) = after {
        if let Some(content) = &image.content {
            table::put_name(overlay, &content.manifest, &image.id);
        }
        if let Some(upload) = &image.upload {
            table::put_upload(overlay, upload.node, &image.id, upload.id);
        }
        table::put_image(overlay, image);
    }
}

/// Most keys fit, so that they are allocated once; a long owner or name makes one grow.
const USUAL_KEY_BYTES: usize = 128;

/// The part of an entry's key before the value.
pub(crate) fn prefix(hidden: bool, scope: Scope<'_>, facet: Facet) -> Vec<u8> {
    let mut key = Vec::with_capacity(USUAL_KEY_BYTES);
    key.extend([INDEX, u8::from(hidden)]);
    match scope {
        Scope::Owner(project) => {
            key.push(b'o');
            push_text(&mut key, project);
        }
        Scope::Visibility(visibility) => {
            key.push(b'v');
            key.push(match visibility {
                Visibility::Public => 0,
                Visibility::Private => 1,
                Visibility::Shared => 2,
                Visibility::Community => 3,
            });
        }
    }
    key.push(match facet {
        Facet::Sort(SortKey::CreatedAt) => 0,
        Facet::Sort(SortKey::UpdatedAt) => 1,
        Facet::Sort(SortKey::Name) => 2,
        Facet::Sort(SortKey::Status) => 3,
        Facet::Sort(SortKey::ContainerFormat) => 4,
        Facet::Sort(SortKey::DiskFormat) => 5,
        Facet::Sort(SortKey::Size) => 6,
        Facet::Sort(SortKey::Id) => 7,
        Facet::Tag => 8,
        Facet::Property => 9,
    });
    key
}

/// Append the value `image` has under a sort key.
pub(crate) fn push_sort_value(key: &mut Vec<u8>, sort: SortKey, image: &Image) {
    match sort {
        // The time of creation follows every value anyway.
        SortKey::CreatedAt => {}
        SortKey::UpdatedAt => push_time(key, image.updated_at),
        SortKey::Name => push_text(key, image.name.as_deref().unwrap_or_default()),
        SortKey::Status => push_text(key, image.status.name()),
        SortKey::ContainerFormat => push_text(key, image.container_format.as_deref().unwrap_or_default()),
        SortKey::DiskFormat => push_text(key, image.disk_format.as_deref().unwrap_or_default()),
        SortKey::Size => key.extend(image.content.as_ref().map_or(0, |content| content.size).to_be_bytes()),
        SortKey::Id => push_text(key, image.id.as_str()),
    }
}

/// Append what ends every entry: the place in the default order.
pub(crate) fn push_place(key: &mut Vec<u8>, image: &Image) {
    push_time(key, image.created_at);
    key.extend(image.id.as_str().as_bytes());
}

/// Append text so that no encoded text is a prefix of another and order is kept.
pub(crate) fn push_text(key: &mut Vec<u8>, text: &str) {
    for (at, part) in text.as_bytes().split(|byte| *byte == 0).enumerate() {
        if at > 0 {
            key.extend([0, u8::MAX]);
        }
        key.extend_from_slice(part);
    }
    key.extend([0, 0]);
}

/// Append the value of a custom property.
pub(crate) fn push_property(key: &mut Vec<u8>, name: &str, value: &str) {
    let mut text = Vec::with_capacity(name.len() + value.len() + 2);
    push_text(&mut text, name);
    text.extend(value.as_bytes());
    key.extend(&Digest::of(&text).0[..16]);
}

/// Append a time, earlier before later, also before 1970.
fn push_time(key: &mut Vec<u8>, at: Timestamp) {
    key.extend((at.0.cast_unsigned() ^ (1 << 63)).to_be_bytes());
}

const SORT_KEYS: [SortKey; 8] = [
    SortKey::Name,
    SortKey::Status,
    SortKey::ContainerFormat,
    SortKey::DiskFormat,
    SortKey::Size,
    SortKey::Id,
    SortKey::CreatedAt,
    SortKey::UpdatedAt,
];

/// The keys of an image's entries, in order, each once.
fn entries(image: &Image) -> Vec<Vec<u8>> {
    let scopes = [image.owner.as_deref().map(Scope::Owner), Some(Scope::Visibility(image.visibility))];
    let facets = SORT_KEYS.len() + image.tags.len() + image.properties.len();
    let mut keys = Vec::with_capacity(scopes.len() * facets);
    for scope in scopes.into_iter().flatten() {
        for sort in SORT_KEYS {
            let mut key = prefix(image.hidden, scope, Facet::Sort(sort));
            push_sort_value(&mut key, sort, image);
            push_place(&mut key, image);
            keys.push(key);
        }
        for tag in &image.tags {
            let mut key = prefix(image.hidden, scope, Facet::Tag);
            push_text(&mut key, tag);
            push_place(&mut key, image);
            keys.push(key);
        }
        for (name, value) in &image.properties {
            let mut key = prefix(image.hidden, scope, Facet::Property);
            push_property(&mut key, name, value);
            push_place(&mut key, image);
            keys.push(key);
        }
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}
