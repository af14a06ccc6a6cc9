//! A download: verified bytes of one range, a read or two ahead of the client.
//!
//! What is not on this node comes from its peers while the download goes on (`exchange`).

mod reader;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{FutureExt, Stream};
use peerglass_catalog::ManifestRoot;
use peerglass_catalog::keyspace::BoxFuture;
use peerglass_catalog::manifest::Root;

use crate::error::DownloadError;
use crate::exchange::{Supplied, Supply};
use crate::ledger::{RootGuard, Slot};
use crate::store::BlobReader;
use crate::transfer::Inner;
use crate::workers::Workers;
use reader::{RangeReader, Stop};

type Job = BoxFuture<'static, Result<(RangeReader, Supply, Option<Bytes>), DownloadError>>;

/// The bytes of one range, in order, each piece verified before it is yielded.
///
/// Ends after the last byte of the range, or with one error. An early end without an error does not
/// happen. While it lives, reclaim leaves the image alone.
pub struct Download {
    transfer: Arc<Inner>,
    /// The read in progress. It begins as soon as the one before is done, so that reading and
    /// verifying overlap with sending.
    job: Option<Job>,
    ready: VecDeque<Bytes>,
    remaining: u64,
    _guard: RootGuard,
    _slot: Slot,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

impl Download {
    /// Bytes not yielded yet.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    fn begin(&mut self, reader: RangeReader, supply: Supply) {
        self.job = Some(read_next(self.transfer.workers, reader, supply));
    }

    fn take_up(
        &mut self,
        done: Result<(RangeReader, Supply, Option<Bytes>), DownloadError>,
    ) -> Result<(), DownloadError> {
        let (reader, supply, read) = done?;
        if let Some(bytes) = read {
            self.ready.push_back(bytes);
            self.begin(reader, supply);
        }
        Ok(())
    }
}

/// Read the next bytes, with what peers have if need be. On threads the first attempt begins at once.
fn read_next(workers: Workers, reader: RangeReader, mut supply: Supply) -> Job {
    let attempt = move |mut reader: RangeReader| {
        workers.run(move || {
            let read = reader.next();
            (reader, read)
        })
    };
    let mut attempted = attempt(reader);
    Box::pin(async move {
        loop {
            let (mut reader, read) = attempted.await.map_err(DownloadError::Disk)?;
            let lacks = match read {
                Ok(read) => return Ok((reader, supply, read)),
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Lacks(lacks)) => lacks,
            };
            match supply.obtain(&lacks.wants, lacks.at, lacks.error).await? {
                Supplied::Look => {}
                Supplied::Blobs(blobs) => reader.lend(blobs),
            }
            if let Some(progress) = supply.progress() {
                reader.read_beside(progress);
            }
            attempted = attempt(reader);
        }
    })
}

impl Stream for Download {
    type Item = Result<Bytes, DownloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.remaining > 0 && *self.transfer.stopping.borrow() {
            self.remaining = 0;
            self.ready.clear();
            self.job = None;
            return Poll::Ready(Some(Err(DownloadError::Stopped)));
        }
        while self.ready.is_empty() {
            let Some(job) = &mut self.job else { return Poll::Ready(None) };
            let done = ready!(job.poll_unpin(cx));
            self.job = None;
            if let Err(error) = self.take_up(done) {
                self.remaining = 0;
                return Poll::Ready(Some(Err(error)));
            }
        }
        let piece = self.ready.pop_front();
        self.remaining -= piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Poll::Ready(piece.map(Ok))
    }
}

/// Begin to read. See [`Transfer::download`](crate::Transfer::download).
pub(crate) async fn begin(
    transfer: &Arc<Inner>,
    manifest: ManifestRoot,
    range: Range<u64>,
) -> Result<Download, DownloadError> {
    if *transfer.stopping.borrow() {
        return Err(DownloadError::Stopped);
    }
    let slot = Slot::download(&transfer.store.ledger);
    let guard = RootGuard::new(Arc::clone(&transfer.store.ledger), manifest);
    transfer.store.ledger.used(&manifest);
    let (blobs, root, supply) = root_and_supply(transfer, manifest, range.start).await?;
    let size = root.plain_len();
    if range.start > range.end || range.end > size {
        return Err(DownloadError::OutOfRange { size });
    }
    let reader = RangeReader::new(blobs, root, range.clone(), Arc::clone(&transfer.segments));
    let mut download = Download {
        transfer: Arc::clone(transfer),
        job: None,
        ready: VecDeque::new(),
        remaining: range.end - range.start,
        _guard: guard,
        _slot: slot,
    };
    if download.remaining > 0 {
        download.begin(reader, supply);
    }
    Ok(download)
}

/// The root of `manifest` and where what it names comes from: this node, or peers if they have what this one
/// does not.
async fn root_and_supply(
    transfer: &Arc<Inner>,
    manifest: ManifestRoot,
    from: u64,
) -> Result<(BlobReader, Root, Supply), DownloadError> {
    let store = transfer.store.clone();
    let look = move || {
        if !store.ledger.holds(&manifest)? {
            return Err(DownloadError::Missing(manifest));
        }
        let mut blobs = BlobReader::new(store);
        let root = blobs.root(&manifest)?;
        Ok((blobs, root))
    };
    match transfer.workers.run(look).await.map_err(DownloadError::Disk)? {
        Ok((blobs, root)) => {
            transfer.traffic.downloaded(true);
            Ok((blobs, root, Supply::new(Arc::clone(transfer), manifest)))
        }
        Err(lack @ (DownloadError::Missing(_) | DownloadError::Damaged { .. })) => {
            transfer.traffic.downloaded(false);
            let (supply, root) = Supply::cold(Arc::clone(transfer), manifest, from, lack).await?;
            let mut blobs = BlobReader::new(transfer.store.clone());
            if let Some(progress) = supply.progress() {
                blobs.read_beside(progress);
            }
            Ok((blobs, root, supply))
        }
        Err(error) => Err(error),
    }
}
