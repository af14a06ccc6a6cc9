//! An upload: a stream in, bytes durable on disk, and only then a [`StoredImage`].
//!
//! # What it promises
//!
//! * Each byte of the body is copied once, into a segment that all lanes share: MD5, the secure hash
//!   and the cutter, which copies or compresses what is new. At most eight segments of 1 MiB are in flight.
//! * The future may be dropped at any await. What was written is removed, or, once it is in the
//!   index, is unnamed and left to reclaim.
//! * An error leaves no image behind (`gather`).

mod hashing;
mod ingest;

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, Stream};
use peerglass_catalog::keyspace::BoxFuture;
use peerglass_catalog::{Content, HashAlgorithm, ImageId, NodeId, StoreId};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::UploadError;
use crate::exchange::{Written, fetch_ahead};
use crate::format::Inspector;
use crate::gather::{BackgroundSync, Gather, Progress, commit};
use crate::ledger::{RootGuard, Slot};
use crate::segment::Segment;
use crate::transfer::Inner;
use crate::workers::Lane;

pub use crate::format::InspectOrder;
use hashing::{Md5Lane, OsHashLane};
use ingest::Ingest;

/// What is asked of an upload.
#[derive(Clone, Debug)]
pub struct UploadOrder {
    /// How long the client says the body is, in bytes.
    pub announced_bytes: Option<u64>,
    /// Most bytes to take.
    pub bytes_max: u64,
    /// Which secure hash to make beside MD5.
    pub os_hash: HashAlgorithm,
    /// Whether to look into the image; `None` if its container is not bare.
    pub inspect: Option<InspectOrder>,
    /// What other nodes are to hold in the end. They begin to fetch it while it goes on.
    pub copies: Option<CopyOrder>,
}

/// How long what is on its way to other nodes is waited for when all has been received. What has not arrived by then is
/// fetched with the rest.
const AHEAD_ENDS_WITHIN: Duration = Duration::from_mins(1);

/// Copies of an upload.
#[derive(Clone, Copy, Debug)]
pub struct CopyOrder {
    /// Which image's bytes they are.
    pub image: ImageId,
    /// On how many other nodes.
    pub copies: usize,
}

/// Bytes that are durable and not yet named by any image.
///
/// While it lives, reclaim leaves them alone. Drop it once the catalog has answered.
#[must_use = "dropping it gives the bytes up to reclaim unless an image names them"]
pub struct StoredImage {
    content: Content,
    guard: RootGuard,
    ahead: Vec<NodeId>,
}

impl std::fmt::Debug for StoredImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredImage").field("content", &self.content).finish_non_exhaustive()
    }
}

impl StoredImage {
    /// What was received.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Other nodes that are to hold it, to be asked first: they have fetched most of it, if it is long.
    pub fn ahead(&self) -> &[NodeId] {
        &self.ahead
    }

    /// Protect the bytes until this process ends: whether the catalog took them is not known.
    pub fn keep(self) {
        std::mem::forget(self.guard);
    }
}

/// Receive `body`. See [`Transfer::upload`](crate::Transfer::upload).
pub(crate) async fn receive<S, E>(
    transfer: &Arc<Inner>,
    order: UploadOrder,
    body: S,
) -> Result<StoredImage, UploadError>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    if order.announced_bytes.is_some_and(|announced| announced > order.bytes_max) {
        return Err(UploadError::TooLarge { max: order.bytes_max });
    }
    let mut stop = transfer.stopping.subscribe();
    // An error means that the handle is gone, which stops the node as well.
    let stopping = Box::pin(async move { drop(stop.wait_for(|stopping| *stopping).await) });
    let slot =
        Slot::upload(&transfer.store.ledger, transfer.settings.uploads_max).ok_or(UploadError::Busy)?;
    let mut intake = Intake::new(transfer, order, stopping, slot);
    let mut body = body;
    while let Some(frame) = poll_fn(|cx| intake.poll_frame(cx, &mut body)).await? {
        intake.take(&frame).await?;
    }
    intake.finish().await
}

/// An upload in progress.
struct Intake {
    transfer: Arc<Inner>,
    order: UploadOrder,
    /// Done once the node stops.
    stopping: BoxFuture<'static, ()>,
    slot: Slot,
    received: u64,
    segment: Segment,
    inspector: Option<Inspector>,
    md5: Lane<Md5Lane>,
    os_hash: Lane<OsHashLane>,
    ingest: Lane<Ingest>,
    progress: Arc<Progress>,
    sync: BackgroundSync,
    ahead: Ahead,
}

impl Intake {
    fn new(transfer: &Arc<Inner>, order: UploadOrder, stopping: BoxFuture<'static, ()>, slot: Slot) -> Self {
        let workers = transfer.workers;
        let progress = Arc::new(Progress::new(transfer.store.clone()));
        let gather = Gather::new(transfer, Arc::clone(&progress));
        let ahead = Ahead::begin(transfer, &progress, order.copies);
        Self {
            received: 0,
            segment: transfer.segments.take(),
            inspector: order.inspect.clone().map(Inspector::new),
            md5: workers.lane(Md5Lane::default()),
            os_hash: workers.lane(OsHashLane::new(order.os_hash)),
            ingest: workers.lane(Ingest::new(gather, ahead.written.clone())),
            progress,
            sync: BackgroundSync::default(),
            ahead,
            transfer: Arc::clone(transfer),
            order,
            stopping,
            slot,
        }
    }

    /// The next frame of the body, while the background sync goes on and the node does not stop.
    fn poll_frame<S, E>(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut S,
    ) -> Poll<Result<Option<Bytes>, UploadError>>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        if self.stopping.poll_unpin(cx).is_ready() {
            return Poll::Ready(Err(UploadError::Stopped));
        }
        self.sync.check(cx)?;
        let frame = Pin::new(body).poll_next(cx);
        frame.map(|frame| frame.transpose().map_err(|error| UploadError::Body(error.into())))
    }

    async fn take(&mut self, frame: &Bytes) -> Result<(), UploadError> {
        self.received += frame.len() as u64;
        if self.received > self.order.bytes_max {
            return Err(UploadError::TooLarge { max: self.order.bytes_max });
        }
        if let Some(announced) = self.order.announced_bytes.filter(|announced| self.received > *announced) {
            return Err(UploadError::WrongSize { announced, received: self.received });
        }
        let mut rest = &frame[..];
        while !rest.is_empty() {
            let taken = self.segment.fill(rest);
            rest = &rest[taken..];
            if self.segment.is_full() {
                self.pass_on().await?;
            }
        }
        Ok(())
    }

    /// Hand the segment to every lane.
    async fn pass_on(&mut self) -> Result<(), UploadError> {
        let segment = std::mem::replace(&mut self.segment, self.transfer.segments.take()).freeze();
        if let Some(inspector) = &mut self.inspector {
            inspector.feed(&segment);
        }
        // Threads work side by side however they are fed; the cutter first, because it has the most
        // to do besides computing.
        self.ingest.feed(&segment).await?;
        self.md5.feed(&segment).await?;
        self.os_hash.feed(&segment).await?;
        self.sync.begin_if_due(&self.progress);
        Ok(())
    }

    async fn finish(mut self) -> Result<StoredImage, UploadError> {
        let received = self.received;
        if let Some(announced) = self.order.announced_bytes.filter(|announced| received != *announced) {
            return Err(UploadError::WrongSize { announced, received });
        }
        if !self.segment.is_empty() {
            self.pass_on().await?;
        }
        let virtual_size = match self.inspector {
            Some(inspector) => inspector.finish().map_err(UploadError::Format)?,
            None => None,
        };
        // What is on its way to other nodes arrives meanwhile.
        self.ahead.end();
        let gathered = self.ingest.finish().await?;
        let checksum = self.md5.finish().await?;
        let os_hash_value = self.os_hash.finish().await?;
        self.sync.finish().await?;
        drop(self.progress);
        let (manifest, guard) = commit(&self.transfer, gathered).await?;
        let ahead = tokio::select! {
            biased;
            () = &mut self.stopping => return Err(UploadError::Stopped),
            nodes = self.ahead.ended() => nodes,
        };
        drop(self.slot);
        let content = Content {
            manifest,
            size: received,
            virtual_size,
            checksum,
            os_hash_algo: self.order.os_hash,
            os_hash_value,
            stores: vec![StoreId("peer".to_owned())],
        };
        Ok(StoredImage { content, guard, ahead })
    }
}

/// Other nodes fetching what is written.
struct Ahead {
    /// `None` if nobody does.
    written: Option<Arc<Written>>,
    /// Ends with the upload, however that does.
    going: JoinSet<Vec<NodeId>>,
}

impl Ahead {
    fn begin(transfer: &Arc<Inner>, progress: &Arc<Progress>, copies: Option<CopyOrder>) -> Self {
        let mut going = JoinSet::new();
        let written = copies.filter(|_| transfer.peers.is_some()).map(|order| {
            let written = Written::new();
            going.spawn(fetch_ahead(Arc::clone(transfer), Arc::clone(progress), Arc::clone(&written), order));
            written
        });
        Self { written, going }
    }

    /// Let nothing more begin.
    fn end(&self) {
        if let Some(written) = &self.written {
            written.end();
        }
    }

    /// Wait until what is on its way has arrived. Answers with who has fetched it all.
    async fn ended(mut self) -> Vec<NodeId> {
        if self.going.is_empty() {
            return Vec::new();
        }
        match timeout(AHEAD_ENDS_WITHIN, self.going.join_next()).await {
            Ok(Some(Ok(nodes))) => nodes,
            Ok(Some(Err(error))) => {
                tracing::error!(%error, "the task that has other nodes fetch an upload panicked");
                Vec::new()
            }
            Ok(None) | Err(_) => Vec::new(),
        }
    }
}
