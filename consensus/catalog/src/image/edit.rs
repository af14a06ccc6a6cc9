//! Changes to an image's metadata.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Image, Status, Timestamp, Visibility};
use crate::refusal::Refusal;

/// One change to one field. Values were checked against the image schema by whoever built it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Edit {
    /// Set or clear the name.
    Name(Option<String>),
    /// Set who may see it.
    Visibility(Visibility),
    /// Set whether deletion is refused.
    Protected(bool),
    /// Set whether default lists leave it out.
    Hidden(bool),
    /// Give it to another project, or to nobody.
    Owner(Option<String>),
    /// Set the disk an instance needs, in gigabytes.
    MinDisk(u32),
    /// Set the memory an instance needs, in megabytes.
    MinRam(u32),
    /// Set the container format, while the image has no bytes.
    ContainerFormat(Option<String>),
    /// Set the disk format, while the image has no bytes.
    DiskFormat(Option<String>),
    /// Replace all tags.
    Tags(BTreeSet<String>),
    /// Add one tag; no change if it is there.
    AddTag(String),
    /// Remove one tag, which must be there.
    RemoveTag(String),
    /// Set a custom property.
    SetProperty {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// What must hold of the property before.
        presence: Presence,
    },
    /// Remove a custom property, which must be there.
    RemoveProperty(String),
}

/// What an edit expects of a property before it sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// Nothing: create or overwrite.
    Any,
    /// It must not be there.
    Absent,
    /// It must be there.
    Present,
}

/// Most bytes of name, tags and custom properties in one record. One request can carry about as much; what
/// many requests add up to is written again, and answered again, with every further change.
pub(crate) const RECORD_TEXT_BYTES_MAX: usize = 512 << 10;

/// Quotas per image; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Custom properties, not counting those the service itself keeps (`os_glance*`).
    pub properties_max: Option<u32>,
    /// Tags.
    pub tags_max: Option<u32>,
}

impl Limits {
    /// Refuse `image` if it has more than these limits allow.
    ///
    /// `before` is what it had, because a quota lowered later must not make an image uneditable:
    /// only growth is refused.
    pub(crate) fn check(self, before: Option<&Image>, image: &Image) -> Result<(), Refusal> {
        let properties = counted_properties(image);
        let tags = saturating_count(image.tags.len());
        let grew = |now: u32, then: Option<u32>| then.is_none_or(|then| now > then);
        if let Some(max) = self.properties_max
            && properties > max
            && grew(properties, before.map(counted_properties))
        {
            return Err(Refusal::TooManyProperties { count: properties, max });
        }
        if let Some(max) = self.tags_max
            && tags > max
            && grew(tags, before.map(|image| saturating_count(image.tags.len())))
        {
            return Err(Refusal::TooManyTags { count: tags, max });
        }
        let (bytes, max) = (image.text_bytes(), RECORD_TEXT_BYTES_MAX);
        if bytes > max && before.is_none_or(|before| bytes > before.text_bytes()) {
            return Err(Refusal::RecordTooLarge {
                bytes: saturating_count(bytes),
                max: saturating_count(max),
            });
        }
        Ok(())
    }
}

fn counted_properties(image: &Image) -> u32 {
    saturating_count(image.properties.keys().filter(|name| !name.starts_with("os_glance")).count())
}

fn saturating_count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Image {
    /// The record after `edits`, in order, or the first rule one of them breaks.
    pub(crate) fn edited(&self, edits: Vec<Edit>, limits: Limits, at: Timestamp) -> Result<Self, Refusal> {
        let mut image = self.clone();
        for edit in edits {
            image.edit(edit)?;
        }
        limits.check(Some(self), &image)?;
        image.updated_at = at;
        Ok(image)
    }

    fn edit(&mut self, edit: Edit) -> Result<(), Refusal> {
        match edit {
            Edit::Name(name) => self.name = name,
            Edit::Visibility(visibility) => self.visibility = visibility,
            Edit::Protected(protected) => self.protected = protected,
            Edit::Hidden(hidden) => self.hidden = hidden,
            Edit::Owner(owner) => self.owner = owner,
            Edit::MinDisk(gigabytes) => self.min_disk_gb = gigabytes,
            Edit::MinRam(megabytes) => self.min_ram_mb = megabytes,
            Edit::ContainerFormat(format) => {
                self.check_formats_open()?;
                self.container_format = format;
            }
            Edit::DiskFormat(format) => {
                self.check_formats_open()?;
                self.disk_format = format;
            }
            Edit::Tags(tags) => self.tags = tags,
            Edit::AddTag(tag) => {
                self.tags.insert(tag);
            }
            Edit::RemoveTag(tag) => {
                if !self.tags.remove(&tag) {
                    return Err(Refusal::NoSuchTag { tag });
                }
            }
            Edit::SetProperty { name, value, presence } => {
                let present = self.properties.contains_key(&name);
                match (presence, present) {
                    (Presence::Absent, true) => return Err(Refusal::PropertyExists { name }),
                    (Presence::Present, false) => return Err(Refusal::NoSuchProperty { name }),
                    (Presence::Any, _) | (Presence::Absent, false) | (Presence::Present, true) => {
                        self.properties.insert(name, value);
                    }
                }
            }
            Edit::RemoveProperty(name) => {
                if self.properties.remove(&name).is_none() {
                    return Err(Refusal::NoSuchProperty { name });
                }
            }
        }
        Ok(())
    }

    fn check_formats_open(&self) -> Result<(), Refusal> {
        if self.status == Status::Queued {
            Ok(())
        } else {
            Err(Refusal::FormatsFrozen { image: self.id, is: self.status })
        }
    }
}
