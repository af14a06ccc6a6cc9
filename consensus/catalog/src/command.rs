//! Every possible change, and what it may answer.

use serde::{Deserialize, Serialize};

use crate::image::{
    Content, Edit, Image, ImageId, Limits, ManifestRoot, NodeId, Timestamp, Upload, UploadId,
};
use crate::node::{JoinGrant, PeerKey, TokenDigest};

/// One change to the catalog, as the Raft log stores it.
///
/// A command carries everything its effect depends on. The node that takes a request chooses the
/// ids and the time and copies its configured limits in, because replicas that chose their own
/// would drift apart.
///
/// Log entries outlive releases: variants are only ever appended, never reordered or edited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Create an image record that holds no bytes yet.
    CreateImage {
        /// The record. Its status must be `queued`, with no content and no upload.
        image: Box<Image>,
        /// The quotas of the node that took the request.
        limits: Limits,
    },
    /// Change metadata, all edits or none.
    EditImage {
        /// Which image.
        image: ImageId,
        /// In the order the client wrote them.
        edits: Vec<Edit>,
        /// The quotas of the node that took the request.
        limits: Limits,
        /// When.
        at: Timestamp,
    },
    /// `queued` to `saving`: from here on only this upload may touch the bytes.
    BeginUpload {
        /// Which image.
        image: ImageId,
        /// Who holds it.
        upload: Upload,
        /// When.
        at: Timestamp,
    },
    /// `saving` to `active`, submitted only after the bytes are durable.
    FinishUpload {
        /// Which image.
        image: ImageId,
        /// The upload that began it.
        upload: UploadId,
        /// What was received.
        content: Content,
        /// When.
        at: Timestamp,
    },
    /// `saving` back to `queued`: the upload failed and may be tried again.
    AbortUpload {
        /// Which image.
        image: ImageId,
        /// The upload that began it.
        upload: UploadId,
        /// When.
        at: Timestamp,
    },
    /// Every upload `node` was receiving goes back to `queued`: the node restarted.
    AbandonUploads {
        /// Which node.
        node: NodeId,
        /// When.
        at: Timestamp,
    },
    /// `active` to `deactivated`; no change if it is already.
    Deactivate {
        /// Which image.
        image: ImageId,
        /// When.
        at: Timestamp,
    },
    /// `deactivated` to `active`; no change if it is already.
    Reactivate {
        /// Which image.
        image: ImageId,
        /// When.
        at: Timestamp,
    },
    /// Remove the record and leave a tombstone, so that the id is never used again.
    DeleteImage {
        /// Which image.
        image: ImageId,
        /// When.
        at: Timestamp,
    },
    /// The bytes of an upload are durable on one node and may now be copied: until the upload ends,
    /// every node holds on to them as if an image named them.
    ClaimManifest {
        /// Which image.
        image: ImageId,
        /// The upload that began it.
        upload: UploadId,
        /// What was received.
        manifest: ManifestRoot,
    },
    /// Let one node join whose operator knows the secret.
    IssueToken {
        /// BLAKE3 of the secret.
        token: TokenDigest,
        /// What it allows.
        grant: JoinGrant,
        /// When.
        at: Timestamp,
    },
    /// A node was removed: its uploads are given up, and the token it came with is of no use any more.
    ForgetNode {
        /// Which node.
        node: NodeId,
        /// When.
        at: Timestamp,
    },
    /// A node came with the secret. The first one gets in; the same one may ask again.
    RedeemToken {
        /// BLAKE3 of the secret.
        token: TokenDigest,
        /// Who came.
        key: PeerKey,
        /// The id of its log.
        node: NodeId,
        /// When.
        at: Timestamp,
    },
    /// Nobody has heard of a node for so long that others keep what it kept, or somebody has again.
    MarkNode {
        /// Which node.
        node: NodeId,
        /// Whether it is out.
        out: bool,
        /// When.
        at: Timestamp,
    },
    /// Every node of a site is to keep an image.
    PinImage {
        /// Which image.
        image: ImageId,
        /// Which site; the empty one stands for every node.
        site: String,
        /// When.
        at: Timestamp,
    },
    /// Take one pin back.
    UnpinImage {
        /// Which image.
        image: ImageId,
        /// The site it was pinned to.
        site: String,
        /// When.
        at: Timestamp,
    },
}

/// What a command that was carried out has to report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The record as it is now.
    Image(Box<Image>),
    /// The image is gone; its bytes, if it had any, may be named by nobody else now.
    Deleted {
        /// What it named.
        manifest: Option<ManifestRoot>,
    },
    /// How many uploads were given up.
    Abandoned(u32),
    /// Done, and there is nothing to report.
    Noted,
    /// The node may join, as this.
    Admitted(JoinGrant),
}
