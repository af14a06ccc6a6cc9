//! A download: verified bytes of one range, a read or two ahead of the client.

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

use crate::error::{DiskFailure, DownloadError};
use crate::ledger::{RootGuard, Slot};
use crate::store::BlobReader;
use crate::transfer::Inner;
use reader::RangeReader;

type Job = BoxFuture<'static, Result<(RangeReader, Result<Option<Bytes>, DownloadError>), DiskFailure>>;

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

    fn begin(&mut self, mut reader: RangeReader) {
        let workers = self.transfer.workers;
        let job = workers.run(move || {
            let read = reader.next();
            (reader, read)
        });
        self.job = Some(job);
    }

    fn take_up(
        &mut self,
        done: Result<(RangeReader, Result<Option<Bytes>, DownloadError>), DiskFailure>,
    ) -> Result<(), DownloadError> {
        let (reader, read) = done.map_err(DownloadError::Disk)?;
        if let Some(bytes) = read? {
            self.ready.push_back(bytes);
            self.begin(reader);
        }
        Ok(())
    }
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
    let store = transfer.store.clone();
    let segments = Arc::clone(&transfer.segments);
    let wanted = range.clone();
    let reader = transfer
        .workers
        .run(move || {
            if !store.ledger.holds(&manifest)? {
                return Err(DownloadError::Missing(manifest));
            }
            let mut blobs = BlobReader::new(store);
            let root = blobs.root(&manifest)?;
            let size = root.plain_len();
            if wanted.start > wanted.end || wanted.end > size {
                return Err(DownloadError::OutOfRange { size });
            }
            Ok(RangeReader::new(blobs, root, wanted, segments))
        })
        .await
        .map_err(DownloadError::Disk)??;
    let mut download = Download {
        transfer: Arc::clone(transfer),
        job: None,
        ready: VecDeque::new(),
        remaining: range.end - range.start,
        _guard: guard,
        _slot: slot,
    };
    if download.remaining > 0 {
        download.begin(reader);
    }
    Ok(download)
}
