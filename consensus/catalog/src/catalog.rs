//! The two ways to use a catalog: change it with a command, ask it a question.

use std::collections::BTreeSet;

use crate::command::{Command, Outcome};
use crate::image::{Image, ImageId, ManifestRoot, NodeId, Timestamp, UploadId, lifecycle};
use crate::join;
use crate::keeping::{self, KeptImage, Naming};
use crate::keyspace::{Fault, Read};
use crate::node::TokenDigest;
use crate::overlay::Overlay;
use crate::query::{self, ImageQuery, Page, QueryError};
use crate::refusal::Refusal;
use crate::table;

/// Carry out one command, or refuse it and change nothing.
///
/// A refusal is part of the replicated result: the node that took the request hands it to its
/// client. A [`Fault`] is not: the store could not be read, and this replica must stop.
pub fn apply(overlay: &mut Overlay<'_>, command: Command) -> Result<Result<Outcome, Refusal>, Fault> {
    match command {
        Command::CreateImage { image, limits } => lifecycle::create(overlay, *image, limits),
        Command::EditImage { image, edits, limits, at } => lifecycle::edit(overlay, image, edits, limits, at),
        Command::BeginUpload { image, upload, at } => lifecycle::begin_upload(overlay, image, upload, at),
        Command::FinishUpload { image, upload, content, at } => {
            lifecycle::finish_upload(overlay, image, upload, content, at)
        }
        Command::AbortUpload { image, upload, at } => lifecycle::abort_upload(overlay, image, upload, at),
        Command::AbandonUploads { node, at } => lifecycle::abandon_uploads(overlay, node, at),
        Command::Deactivate { image, at } => lifecycle::deactivate(overlay, image, at),
        Command::Reactivate { image, at } => lifecycle::reactivate(overlay, image, at),
        Command::DeleteImage { image, at } => lifecycle::delete(overlay, image, at),
        Command::ClaimManifest { image, upload, manifest } => {
            lifecycle::claim_manifest(overlay, image, upload, manifest)
        }
        Command::IssueToken { token, grant, at } => join::issue(overlay, token, grant, at),
        Command::ForgetNode { node, at } => join::forget(overlay, node, at),
        Command::RedeemToken { token, key, node, at } => join::redeem(overlay, token, key, node, at),
        Command::MarkNode { node, out, at } => keeping::mark(overlay, node, out, at),
        Command::PinImage { image, site, at: _ } => keeping::pin(overlay, image, site),
        Command::UnpinImage { image, site, at: _ } => keeping::unpin(overlay, image, site),
    }
}

/// One state of the catalog, to ask questions of.
pub struct Catalog<'a> {
    read: &'a dyn Read,
}

impl<'a> Catalog<'a> {
    /// The catalog that `read` holds.
    pub fn new(read: &'a dyn Read) -> Self {
        Self { read }
    }

    /// The record of one image, whoever may see it.
    pub fn image(&self, id: &ImageId) -> Result<Option<Image>, Fault> {
        table::image(self.read, id)
    }

    /// One page of the images that `query` describes.
    pub fn images(&self, query: &ImageQuery) -> Result<Page, QueryError> {
        query::list(self.read, query)
    }

    /// Whether any image names these bytes, or an upload in progress holds on to them.
    pub fn names_manifest(&self, root: &ManifestRoot) -> Result<bool, Fault> {
        table::is_named(self.read, root)
    }

    /// Whether such a join token was issued and is kept still, used or not.
    pub fn knows_token(&self, token: &TokenDigest) -> Result<bool, Fault> {
        Ok(table::token(self.read, token)?.is_some())
    }

    /// The nodes that have begun uploads and not finished them, each once, in order.
    pub fn uploading_nodes(&self) -> Result<Vec<NodeId>, Fault> {
        table::uploading_nodes(self.read)
    }

    /// The nodes that are out, in order, each with since when.
    pub fn nodes_out(&self) -> Result<Vec<(NodeId, Timestamp)>, Fault> {
        table::marks(self.read).collect()
    }

    /// The sites an image is pinned to; the empty one stands for every node.
    pub fn pins(&self, image: &ImageId) -> Result<BTreeSet<String>, Fault> {
        table::pins(self.read, image)
    }

    /// The images of these bytes, and the sites they are pinned to. If there are more of them than are looked at, the
    /// bytes must be kept.
    pub fn naming(&self, root: &ManifestRoot) -> Result<Naming, Fault> {
        keeping::naming(self.read, root)
    }

    /// A number that is another one after each change of the pins.
    pub fn pin_changes(&self) -> Result<u64, Fault> {
        table::pin_changes(self.read)
    }

    /// What is to be kept for those of the next `limit` images after `after` that have bytes, and the last of
    /// all that were looked at; `None` for that when there are no more.
    pub fn kept_after(
        &self,
        after: Option<&ImageId>,
        limit: usize,
    ) -> Result<(Vec<KeptImage>, Option<ImageId>), Fault> {
        keeping::kept_after(self.read, after, limit)
    }

    /// The uploads `node` has begun and not finished.
    pub fn uploads_of(&self, node: NodeId) -> Result<Vec<(ImageId, UploadId)>, Fault> {
        table::uploads_of(self.read, node)
    }
}
