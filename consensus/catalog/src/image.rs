//! The image record: what a Glance client reads, and what the cluster must remember besides.
//!
//! Field meanings and limits are those of the Images API v2. The record names bytes by their
//! [`ManifestRoot`] and never says where they are; that is for the byte path to know.

mod edit;
mod id;
pub(crate) mod lifecycle;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::query::Viewer;

pub use edit::{Edit, Limits, Presence};
pub use id::{ImageId, InvalidImageId, NodeId, StoreId, UploadId};

/// Microseconds since 1970-01-01T00:00:00Z, chosen by the node that took the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

/// The name of an image's bytes: the BLAKE3 digest of its encoded manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ManifestRoot(pub Digest);

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Never reused, not even after deletion.
    pub id: ImageId,
    /// At most 255 characters.
    pub name: Option<String>,
    /// Where the image is in its life.
    pub status: Status,
    /// Who may see it.
    pub visibility: Visibility,
    /// Deletion is refused while set.
    pub protected: bool,
    /// Left out of lists that do not ask for hidden images.
    pub hidden: bool,
    /// The project it belongs to. `None` only for images an administrator made so.
    pub owner: Option<String>,
    /// One of the configured container formats.
    pub container_format: Option<String>,
    /// One of the configured disk formats.
    pub disk_format: Option<String>,
    /// Gigabytes of disk an instance needs, at most 2^31 - 1.
    pub min_disk_gb: u32,
    /// Megabytes of memory an instance needs, at most 2^31 - 1.
    pub min_ram_mb: u32,
    /// Free labels.
    pub tags: BTreeSet<String>,
    /// Custom properties.
    pub properties: BTreeMap<String, String>,
    /// The bytes, from the first `active` on.
    pub content: Option<Content>,
    /// The upload that is writing the bytes, exactly while the status is `saving`.
    pub upload: Option<Upload>,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What is known about an image's bytes once they are durable. It never changes afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Names the manifest.
    pub manifest: ManifestRoot,
    /// Bytes as a client downloads them.
    pub size: u64,
    /// Bytes of the disk inside, where the format tells.
    pub virtual_size: Option<u64>,
    /// MD5 of the whole, lower-case hex.
    pub checksum: String,
    /// Which algorithm `os_hash_value` was made with.
    pub os_hash_algo: HashAlgorithm,
    /// Secure hash of the whole, lower-case hex.
    pub os_hash_value: String,
    /// The stores that hold it, in location order.
    pub stores: Vec<StoreId>,
}

/// A secure hash clients can verify downloads with, by the name Python's hashlib gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512, Glance's default.
    Sha512,
}

impl HashAlgorithm {
    /// hashlib's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm hashlib calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512].into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// An upload in progress: the only one that may activate or release its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Tells this upload from earlier and later ones of the same image.
    pub id: UploadId,
    /// The node that receives the bytes, which gives the upload up when it restarts.
    pub node: NodeId,
}

/// Where an image is in its life. Deleted images have no record, only a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    /// A record without bytes.
    Queued,
    /// An upload is writing bytes.
    Saving,
    /// Bytes are being staged for an import.
    Uploading,
    /// Staged or remote bytes are being turned into the image.
    Importing,
    /// Complete and open for download.
    Active,
    /// Complete, but only administrators may download it.
    Deactivated,
    /// Deleted for users while its bytes wait for the scrubber.
    PendingDelete,
    /// An upload that failed for good, in catalogs migrated from old Glances.
    Killed,
}

impl Status {
    /// Every status, in the order of an image's life.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Saving,
        Self::Uploading,
        Self::Importing,
        Self::Active,
        Self::Deactivated,
        Self::PendingDelete,
        Self::Killed,
    ];

    /// The word the API uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Saving => "saving",
            Self::Uploading => "uploading",
            Self::Importing => "importing",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::PendingDelete => "pending_delete",
            Self::Killed => "killed",
        }
    }
}

/// Who may see an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Visibility {
    /// Everybody, in every list.
    Public,
    /// Its project only.
    Private,
    /// Its project and the projects it is shared with.
    Shared,
    /// Everybody who asks for community images.
    Community,
}

impl Visibility {
    /// The word the API uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::Community => "community",
        }
    }

    /// The visibility the API calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Public, Self::Private, Self::Shared, Self::Community].into_iter().find(|v| v.name() == name)
    }
}

impl Image {
    /// Whether `viewer` may know that the image exists.
    pub fn is_visible_to(&self, viewer: &Viewer) -> bool {
        viewer.admin
            || matches!(self.visibility, Visibility::Public | Visibility::Community)
            || self.is_owned_by(viewer)
    }

    /// Bytes of the texts a client chose, which are what makes records differ in size.
    pub fn text_bytes(&self) -> usize {
        let properties = self.properties.iter().map(|(name, value)| name.len() + value.len());
        let tags = self.tags.iter().map(String::len);
        self.name.as_ref().map_or(0, String::len) + properties.chain(tags).sum::<usize>()
    }

    /// Whether the image belongs to the project `viewer` acts for. Nobody owns an ownerless image.
    pub fn is_owned_by(&self, viewer: &Viewer) -> bool {
        self.owner.is_some() && self.owner == viewer.project
    }
}
