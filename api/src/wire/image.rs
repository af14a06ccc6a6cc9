//! The image document, as it is written and as it is read at creation.

use peerglass_catalog::{Edit, Image, ImageId, Presence, Status, Timestamp, Visibility};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

use super::field::{
    self, DocumentProblem, NAME_CHARACTERS_MAX, field_edit, is_core, is_read_only, is_reserved,
};
use super::time;
use crate::settings::ApiSettings;

/// Bytes of a document without long properties; room for it saves growing the buffer.
const DOCUMENT_BYTES_USUAL: usize = 1200;

/// An image as a client reads it.
pub(crate) struct ImageDocument<'a> {
    /// The record.
    pub(crate) image: &'a Image,
    /// Whether the reader is an administrator, who also sees where deactivated images are.
    pub(crate) for_admin: bool,
}

impl ImageDocument<'_> {
    /// The document as JSON text.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        to_json(self, DOCUMENT_BYTES_USUAL)
    }

    fn shows_stores(&self) -> bool {
        self.for_admin || self.image.status != Status::Deactivated
    }
}

impl Serialize for ImageDocument<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let image = self.image;
        let content = image.content.as_ref();
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &image.properties {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("name", &image.name)?;
        map.serialize_entry("disk_format", &image.disk_format)?;
        map.serialize_entry("container_format", &image.container_format)?;
        map.serialize_entry("visibility", image.visibility.name())?;
        map.serialize_entry("size", &content.map(|content| content.size))?;
        map.serialize_entry("virtual_size", &content.and_then(|content| content.virtual_size))?;
        map.serialize_entry("status", image.status.name())?;
        map.serialize_entry("checksum", &content.map(|content| &content.checksum))?;
        map.serialize_entry("protected", &image.protected)?;
        map.serialize_entry("min_ram", &image.min_ram_mb)?;
        map.serialize_entry("min_disk", &image.min_disk_gb)?;
        map.serialize_entry("owner", &image.owner)?;
        map.serialize_entry("os_hidden", &image.hidden)?;
        map.serialize_entry("os_hash_algo", &content.map(|content| content.os_hash_algo.name()))?;
        map.serialize_entry("os_hash_value", &content.map(|content| &content.os_hash_value))?;
        map.serialize_entry("id", image.id.as_str())?;
        map.serialize_entry("created_at", time::Text::of(image.created_at).as_str())?;
        map.serialize_entry("updated_at", time::Text::of(image.updated_at).as_str())?;
        if let Some(content) = content
            && self.shows_stores()
            && !content.stores.is_empty()
        {
            let stores: Vec<&str> = content.stores.iter().map(|store| store.0.as_str()).collect();
            map.serialize_entry("stores", &stores.join(","))?;
        }
        map.serialize_entry("tags", &image.tags)?;
        map.serialize_entry("self", &Path { id: &image.id, suffix: "" })?;
        map.serialize_entry("file", &Path { id: &image.id, suffix: "/file" })?;
        map.serialize_entry("schema", "/v2/schemas/image")?;
        map.end()
    }
}

fn to_json(document: &impl Serialize, bytes_usual: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes_usual);
    serde_json::to_writer(&mut text, document).expect("text keys and plain values are always JSON");
    text
}

/// `/v2/images/<id><suffix>`, written without a string in between.
struct Path<'a> {
    id: &'a ImageId,
    suffix: &'static str,
}

impl Serialize for Path<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("/v2/images/{}{}", self.id.as_str(), self.suffix))
    }
}

/// One page of a list.
pub(crate) struct ImagePage<'a> {
    /// In order.
    pub(crate) images: &'a [Image],
    /// See [`ImageDocument::for_admin`].
    pub(crate) for_admin: bool,
    /// The link to the first page.
    pub(crate) first: &'a str,
    /// The link to the page after this one.
    pub(crate) next: Option<&'a str>,
}

impl ImagePage<'_> {
    /// The page as JSON text.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        to_json(self, (self.images.len() + 1) * DOCUMENT_BYTES_USUAL)
    }
}

impl Serialize for ImagePage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("images", &Documents(self))?;
        map.serialize_entry("first", self.first)?;
        if let Some(next) = self.next {
            map.serialize_entry("next", next)?;
        }
        map.serialize_entry("schema", "/v2/schemas/images")?;
        map.end()
    }
}

struct Documents<'a>(&'a ImagePage<'a>);

impl Serialize for Documents<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.images.len()))?;
        for image in self.0.images {
            seq.serialize_element(&ImageDocument { image, for_admin: self.0.for_admin })?;
        }
        seq.end()
    }
}

/// The document a client sends to create an image, checked against the schema.
#[derive(Debug)]
pub(crate) struct NewImage {
    /// The id the client chose.
    pub(crate) id: Option<ImageId>,
    /// The owner the client chose; `Some(None)` is nobody.
    pub(crate) owner: Option<Option<String>>,
    /// What it sets.
    edits: Vec<Edit>,
    /// A member that only the service may set; refused after the caller's rights were checked.
    read_only: Option<String>,
}

impl NewImage {
    /// Check a document. The order of the checks is Glance's, because it decides which of several
    /// mistakes a client hears of.
    pub(crate) fn parse(document: &Value, settings: &ApiSettings) -> Result<Self, DocumentProblem> {
        let members = document.as_object().ok_or(DocumentProblem::NotAnObject)?;
        let links = ["direct_url", "self", "file", "schema", "stores"];
        if let Some(name) = links.into_iter().find(|name| members.contains_key(*name)) {
            return Err(DocumentProblem::ReadOnly(name.to_owned()));
        }
        let mut new = Self { id: None, owner: None, edits: Vec::new(), read_only: None };
        let mut reserved = None;
        for (name, value) in members {
            if name == "id" {
                new.id = Some(field::id(value)?);
            } else if is_read_only(name) || name == "locations" {
                field::check_read_only(name, value)?;
                new.read_only.get_or_insert_with(|| name.clone());
            } else if is_core(name).is_none() && is_reserved(name) {
                reserved.get_or_insert_with(|| name.chars().take(NAME_CHARACTERS_MAX).collect::<String>());
            } else {
                let edit = field_edit(name, value, Presence::Any, settings)?;
                if let Edit::Owner(owner) = edit { new.owner = Some(owner) } else { new.edits.push(edit) }
            }
        }
        reserved.map_or(Ok(new), |name| Err(DocumentProblem::Reserved(name)))
    }

    /// The visibility it asks for.
    pub(crate) fn visibility(&self) -> Visibility {
        let asked = self
            .edits
            .iter()
            .find_map(|edit| if let Edit::Visibility(visibility) = edit { Some(*visibility) } else { None });
        asked.unwrap_or(Visibility::Shared)
    }

    /// Refuse members that only the service may set.
    pub(crate) fn check_writable(&self) -> Result<(), DocumentProblem> {
        self.read_only.as_ref().map_or(Ok(()), |name| Err(DocumentProblem::ReadOnly(name.clone())))
    }

    /// The record it describes.
    pub(crate) fn into_image(self, id: ImageId, owner: Option<String>, at: Timestamp) -> Image {
        let mut image = Image {
            id,
            name: None,
            status: Status::Queued,
            visibility: Visibility::Shared,
            protected: false,
            hidden: false,
            owner,
            container_format: None,
            disk_format: None,
            min_disk_gb: 0,
            min_ram_mb: 0,
            tags: std::collections::BTreeSet::new(),
            properties: std::collections::BTreeMap::new(),
            content: None,
            upload: None,
            created_at: at,
            updated_at: at,
        };
        for edit in self.edits {
            set(&mut image, edit);
        }
        image
    }
}

fn set(image: &mut Image, edit: Edit) {
    match edit {
        Edit::Name(name) => image.name = name,
        Edit::Visibility(visibility) => image.visibility = visibility,
        Edit::Protected(protected) => image.protected = protected,
        Edit::Hidden(hidden) => image.hidden = hidden,
        Edit::Owner(owner) => image.owner = owner,
        Edit::MinDisk(gigabytes) => image.min_disk_gb = gigabytes,
        Edit::MinRam(megabytes) => image.min_ram_mb = megabytes,
        Edit::ContainerFormat(format) => image.container_format = format,
        Edit::DiskFormat(format) => image.disk_format = format,
        Edit::Tags(tags) => image.tags = tags,
        Edit::AddTag(tag) => {
            image.tags.insert(tag);
        }
        Edit::RemoveTag(tag) => {
            image.tags.remove(&tag);
        }
        Edit::SetProperty { name, value, presence: _ } => {
            image.properties.insert(name, value);
        }
        Edit::RemoveProperty(name) => {
            image.properties.remove(&name);
        }
    }
}
