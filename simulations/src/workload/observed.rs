//! What a client reads in an image document.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::content::Content;
use crate::oracle::state::{Life, Record};

/// Custom properties of the workload start like this.
pub(crate) const PROPERTY_PREFIX: &str = "sim_";

/// The parts of an image document that the workload sets or checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) name: String,
    pub(crate) min_ram: u64,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) size: Option<u64>,
    pub(crate) checksum: Option<String>,
    pub(crate) os_hash_value: Option<String>,
}

impl Observed {
    /// Read an image document. `None` if it is not one.
    pub(crate) fn parse(document: &Value) -> Option<Self> {
        let text = |name: &str| document.get(name).and_then(Value::as_str).map(str::to_owned);
        let tags = document.get("tags")?.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned);
        let properties = document.as_object()?.iter().filter_map(|(name, value)| {
            name.starts_with(PROPERTY_PREFIX).then_some((name.clone(), value.as_str()?.to_owned()))
        });
        Some(Self {
            id: text("id")?,
            status: text("status")?,
            name: text("name")?,
            min_ram: document.get("min_ram")?.as_u64()?,
            tags: tags.collect(),
            properties: properties.collect(),
            size: document.get("size").and_then(Value::as_u64),
            checksum: text("checksum"),
            os_hash_value: text("os_hash_value"),
        })
    }

    /// What it shows of the image's bytes, all of it or nothing.
    pub(crate) fn content(&self) -> Option<String> {
        let (size, md5, sha512) = (self.size, self.checksum.as_ref(), self.os_hash_value.as_ref());
        if size.is_none() && md5.is_none() && sha512.is_none() {
            return None;
        }
        Some(format!("size {size:?}, md5 {md5:?}, sha512 {sha512:?}"))
    }

    /// Whether it shows `record`. `uploading` tells whether an upload may be going on.
    pub(crate) fn shows(&self, record: &Record, contents: &[Content], uploading: bool) -> bool {
        let status = match self.status.as_str() {
            "queued" => record.life == Life::Queued,
            "saving" => record.life == Life::Queued && uploading,
            "active" => record.life == Life::Active,
            "deactivated" => record.life == Life::Deactivated,
            _ => false,
        };
        let content = match record.content {
            None => self.content().is_none(),
            Some(id) => {
                let content = &contents[id.0];
                self.size == Some(content.size())
                    && self.checksum.as_deref() == Some(&content.md5)
                    && self.os_hash_value.as_deref() == Some(&content.sha512)
            }
        };
        status
            && content
            && self.name == record.name
            && self.min_ram == record.min_ram
            && self.tags == record.tags
            && self.properties == record.properties
    }
}
