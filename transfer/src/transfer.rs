//! The handle to the byte path.

use std::error::Error;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};

use bytes::Bytes;
use futures::Stream;
use peerglass_catalog::{ManifestRoot, NodeId};
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinError, JoinSet};

use crate::connection::Calls;
use crate::directory::Directory;
use crate::disk::TransferDisk;
use crate::download::{self, Download};
use crate::error::{DownloadError, OpenError, ReclaimError, UploadError};
use crate::exchange::{
    self, FetchError, Lies, Outbox, PrefetchError, Pulls, ReadAhead, ReplicateError, Share,
};
use crate::fail_stop::FailStop;
use crate::peers::{Keepers, Peers, Since};
use crate::reclaim::{self, Evicted, Reclaimed, StateUnknown};
use crate::recover;
use crate::scrub::{self, Scrubbed};
use crate::segment::Segments;
use crate::settings::TransferSettings;
use crate::store::Store;
use crate::traffic::{Counts, Traffic};
use crate::upload::{self, StoredImage, UploadOrder};
use crate::workers::Workers;

/// Takes, gives and drops image bytes. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Transfer {
    inner: Arc<Inner>,
}

/// A handle that does not keep the byte path open, for whoever the byte path itself holds on to.
#[derive(Clone)]
pub struct WeakTransfer(Weak<Inner>);

impl WeakTransfer {
    /// The handle, while anybody keeps one.
    pub fn upgrade(&self) -> Option<Transfer> {
        self.0.upgrade().map(|inner| Transfer { inner })
    }
}

/// What every part of the byte path works with.
pub(crate) struct Inner {
    pub(crate) settings: TransferSettings,
    /// For choices among equals.
    pub(crate) seed: u64,
    pub(crate) store: Store,
    /// The only way the directory of packs is synced while the node runs.
    pub(crate) directory: Arc<Directory>,
    pub(crate) workers: Workers,
    pub(crate) segments: Arc<Segments>,
    /// The other nodes; `None` if there can be none.
    pub(crate) peers: Option<Arc<dyn Peers>>,
    pub(crate) pulls: Pulls,
    pub(crate) traffic: Traffic,
    /// What is to be sent to peers.
    pub(crate) outbox: Outbox,
    /// What is sent instead.
    pub(crate) lies: Lies,
    pub(crate) read_ahead: ReadAhead,
    /// What goes on without a caller: pulls, what downloads wait for, and answers to peers that were asked
    /// to hold something.
    tasks: StdMutex<JoinSet<()>>,
    /// Set once, by `stop`. Every upload and pull in progress has a receiver.
    pub(crate) stopping: watch::Sender<bool>,
    /// The same for what `stop` need not wait for, since it writes nothing.
    pub(crate) ending: watch::Sender<bool>,
    /// Whether the index can no longer be trusted.
    pub(crate) failed: watch::Receiver<bool>,
    /// One reclaim at a time: two would count the same manifest down twice.
    pub(crate) reclaiming: Mutex<()>,
}

/// How much is stored and going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all sealed packs on disk.
    pub stored_bytes: u64,
    /// Bytes of the blobs in them that the index refers to, as they are stored.
    pub referenced_bytes: u64,
    /// Sealed packs.
    pub packs: u64,
    /// Blobs the index refers to: chunks, and the pages and roots of manifests.
    pub chunks: u64,
    /// Uploads in flight.
    pub uploads: usize,
    /// Downloads in flight.
    pub downloads: usize,
    /// Manifests being pulled from other nodes, or waiting for it.
    pub pulls: usize,
}

impl Transfer {
    /// A handle that does not keep the byte path open.
    pub fn downgrade(&self) -> WeakTransfer {
        WeakTransfer(Arc::downgrade(&self.inner))
    }

    /// Open what `disk` holds, after however the last process ended: what a crash left unsealed is
    /// removed, sealed packs the index does not know are indexed. `seed` is for choices among equal peers.
    pub async fn open(
        settings: TransferSettings,
        disk: TransferDisk,
        workers: Workers,
        seed: u64,
        peers: Option<Arc<dyn Peers>>,
    ) -> Result<Self, OpenError> {
        let index = Arc::new(FailStop::new(disk.index));
        let failed = index.failed();
        let store = recover::open(TransferDisk { packs: disk.packs, index }, workers).await?;
        let inner = Inner {
            failed,
            settings,
            seed,
            directory: Arc::new(Directory::new(store.clone())),
            store,
            workers,
            segments: Arc::default(),
            peers,
            pulls: Pulls::default(),
            traffic: Traffic::default(),
            outbox: Outbox::default(),
            lies: Lies::default(),
            read_ahead: ReadAhead::default(),
            tasks: StdMutex::default(),
            stopping: watch::Sender::new(false),
            ending: watch::Sender::new(false),
            reclaiming: Mutex::new(()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Receive an image. When this answers, its bytes survive a power cut.
    ///
    /// The future may be dropped at any time, as when the client is gone: nothing is kept then.
    pub async fn upload<S, E>(&self, order: UploadOrder, body: S) -> Result<StoredImage, UploadError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        upload::receive(&self.inner, order, body).await
    }

    /// Read the bytes `range` of an image. An empty range is allowed anywhere within the image.
    ///
    /// What this node does not hold is pulled from its peers, in order from where the range begins, while
    /// the download goes on, and is kept; so is what is damaged here.
    pub async fn download(
        &self,
        manifest: ManifestRoot,
        range: Range<u64>,
    ) -> Result<Download, DownloadError> {
        download::begin(&self.inner, manifest, range).await
    }

    /// Answer what the node `peer` asks over a connection, until it ends or this node stops. The caller has checked
    /// that the peer is a member.
    pub fn serve_peer(
        &self,
        calls: impl Into<Calls>,
        peer: NodeId,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.serve_peer_until(calls, peer, std::future::pending())
    }

    /// The same, but once `until` is ready nothing more is taken up: what is being answered is answered.
    pub fn serve_peer_until(
        &self,
        calls: impl Into<Calls>,
        peer: NodeId,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        exchange::serve(Arc::clone(&self.inner), calls.into(), peer, until)
    }

    /// From now on, lie to nodes that fetch whenever `tempt` says so. The first call counts.
    #[cfg(feature = "mutations")]
    pub fn lie(&self, tempt: Box<exchange::Temptation>) {
        self.inner.lies.begin(tempt);
    }

    /// Have `copies` other nodes hold an image that this one holds. Each fetches what it lacks, and says
    /// so only when it is durable. Answers with which nodes do; they hold it until their reclaim finds that
    /// it is not named, so it should be named before.
    ///
    /// The nodes `first` are asked first, then its homes, and then the candidates in their order, no more at once than
    /// copies are wanting.
    /// This node holds one copy more, whether or not it is a home.
    pub async fn replicate(
        &self,
        manifest: ManifestRoot,
        copies: usize,
        first: &[NodeId],
    ) -> Result<Vec<NodeId>, ReplicateError> {
        exchange::replicate(&self.inner, manifest, copies, first).await
    }

    /// How much of an image each node has, this one and every candidate; `None` for those that do not say within
    /// three seconds.
    pub async fn survey(
        &self,
        manifest: ManifestRoot,
    ) -> Result<Vec<(NodeId, Option<Share>)>, DownloadError> {
        exchange::survey(&self.inner, manifest).await
    }

    /// Have a node, this one or another, fetch an image that nobody has asked it for. It goes on after this has
    /// answered; [`survey`](Self::survey) tells how far it is.
    pub fn prefetch(&self, manifest: ManifestRoot, node: NodeId) -> Result<(), PrefetchError> {
        exchange::prefetch(&self.inner, manifest, node)
    }

    /// Hold an image durably, with what peers have, and wait until it is. Goes on if this is dropped.
    pub async fn fetch(&self, manifest: ManifestRoot) -> Result<(), FetchError> {
        exchange::fetch(&self.inner, manifest).await
    }

    /// Whether all of an image is held, as far as the index knows. Answers at once.
    pub fn holds(&self, manifest: ManifestRoot) -> Result<bool, DownloadError> {
        Ok(self.inner.store.ledger.holds_whole(&manifest)?)
    }

    /// How often an image, or a part of one, came to be held here or to be of no more use, since the start.
    pub fn held(&self) -> u64 {
        self.inner.store.ledger.held()
    }

    /// How often it was learnt, since the start, that something held here is lost or damaged: images that are
    /// [held](Self::holds) may lack some of it then, until they are [fetched](Self::fetch) again.
    pub fn losses(&self) -> u64 {
        self.inner.store.ledger.losses()
    }

    /// Who is to keep an image, as this node knows it, however old that is; `None` if it cannot tell.
    pub async fn keepers(&self, manifest: ManifestRoot) -> Option<Keepers> {
        self.inner.peers.as_ref()?.keepers(manifest, Since::Whenever).await
    }

    /// While the packs take more than `bytes_max`, let go of images that this node need not keep and that every node
    /// that is to keep them does keep, least recently used first, down to nine tenths of it.
    pub async fn evict(&self, bytes_max: u64) -> Result<Evicted, ReclaimError<StateUnknown>> {
        let evicted = reclaim::evict(&self.inner, bytes_max).await?;
        self.inner.traffic.evicted(evicted.bytes);
        Ok(evicted)
    }

    /// Read the next image that is held, at this rate, and compare all of it with its names; `None` after the last
    /// one, and then it begins anew. What is damaged is made good by [`fetch`](Self::fetch).
    pub async fn scrub_next(&self, bytes_per_s: u64) -> Result<Option<Scrubbed>, DownloadError> {
        scrub::next(&self.inner, bytes_per_s).await
    }

    /// Drop what no image names, no upload or download needs, and nothing else.
    ///
    /// `are_named` is asked about held manifests, up to 1024 at once, and answers for each, in their order. It must not answer `false` for one that an image named before the question and
    /// still names. If it cannot tell, what was let go before is dropped all the same.
    pub async fn reclaim<F, Fut, E>(&self, are_named: F) -> Result<Reclaimed, ReclaimError<E>>
    where
        F: Fn(Vec<ManifestRoot>) -> Fut,
        Fut: Future<Output = Result<Vec<bool>, E>>,
    {
        reclaim::run(&self.inner, are_named).await
    }

    /// How much is stored and going on now.
    pub fn usage(&self) -> Usage {
        let ledger = &self.inner.store.ledger;
        let (totals, (uploads, downloads)) = (ledger.totals(), ledger.in_flight());
        Usage {
            stored_bytes: totals.file_bytes,
            referenced_bytes: totals.live_bytes,
            packs: totals.packs,
            chunks: totals.live_blobs,
            uploads,
            downloads,
            pulls: self.inner.pulls.count(),
        }
    }

    /// What was done since the start.
    pub fn counts(&self) -> Counts {
        self.inner.traffic.counts()
    }

    /// Resolves when this node's disk can no longer be trusted with bytes: its index failed, by more than
    /// want of room. Uploads and reclaim are refused from then on, and the node should end.
    pub async fn failed(&self) {
        let mut failed = self.inner.failed.clone();
        if failed.wait_for(|failed| *failed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Break off uploads, downloads, pulls and answers to peers, and wait until no upload, pull or
    /// reclaim writes any more.
    pub async fn stop(&self) {
        self.inner.ending.send_replace(true);
        self.inner.stopping.send_replace(true);
        self.inner.stopping.closed().await;
        let mut tasks = std::mem::take(&mut *self.inner.tasks());
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
        drop(self.inner.reclaiming.lock().await);
        if let Err(fault) = self.inner.store.ledger.index.sync().await {
            // Nothing acknowledged depends on it: the index is read again from the packs.
            tracing::warn!(%fault, "the chunk index could not be synced at the end");
        }
    }
}

impl Inner {
    // Each critical section is one step on the set.
    fn tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Let `task` go on whoever began it. It must end when the node stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while let Some(ended) = tasks.try_join_next() {
            report(ended);
        }
        tasks.spawn(task);
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a task of the byte path panicked");
    }
}
