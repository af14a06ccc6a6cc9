//! The two ways to use a catalog: change it with a command, ask it a question.

use crate::command::{Command, Outcome};
use crate::image::{Image, ImageId, ManifestRoot, NodeId, UploadId, lifecycle};
use crate::join;
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

    /// The uploads `node` has begun and not finished.
    pub fn uploads_of(&self, node: NodeId) -> Result<Vec<(ImageId, UploadId)>, Fault> {
        table::uploads_of(self.read, node)
    }
}
