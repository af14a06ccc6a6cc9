//! Where blocking work runs: on threads of its own, or, in a simulation, on the task that asked.
//!
//! The only file of this package that starts threads.

use bytes::Bytes;
use peerglass_catalog::keyspace::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::error::{DiskFailure, UploadError};

/// Segments that wait in front of a lane. Two keep a lane busy while the body stalls for a moment;
/// more would be memory without speed, since the slowest lane sets the pace.
const LANE_QUEUE: usize = 2;

/// How blocking and computing work is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// On threads: each lane of an upload has its own, and so has each read of a download.
    Threads,
    /// On the calling task, in a fixed order: the same code without any thread.
    Inline,
}

impl Workers {
    /// Run `work` where it may block. On a thread it begins at once and is finished even if the caller
    /// stops waiting; inline it is done when the future is first polled.
    pub(crate) fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'static, Result<T, DiskFailure>> {
        match self {
            Self::Inline => Box::pin(async move { Ok(work()) }),
            Self::Threads => {
                let done = start(work);
                Box::pin(async move { done.await.map_err(|_| DiskFailure::WorkerLost) })
            }
        }
    }

    /// Begin a lane that does `work` on every segment it is fed.
    pub(crate) fn lane<W: LaneWork>(self, work: W) -> Lane<W> {
        match self {
            Self::Inline => Lane::Inline(Some(work)),
            Self::Threads => {
                let (feed, segments) = mpsc::channel(LANE_QUEUE);
                let (done, result) = oneshot::channel();
                drop(start(move || drop(done.send(drain(work, segments)))));
                Lane::Thread { feed, result }
            }
        }
    }
}

fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> tokio::task::JoinHandle<T> {
    #[allow(clippy::disallowed_methods, reason = "this is the seam that replaces threads in simulations")]
    tokio::task::spawn_blocking(work)
}

/// One thing done to every byte of an upload.
pub(crate) trait LaneWork: Send + 'static {
    type Output: Send + 'static;

    /// Take the next segment.
    fn feed(&mut self, segment: &Bytes) -> Result<(), UploadError>;

    /// Take the end of the body. Not called if the upload is given up.
    fn finish(self) -> Result<Self::Output, UploadError>;
}

/// What a lane's thread is told.
pub(crate) enum Feed {
    Segment(Bytes),
    End,
}

fn drain<W: LaneWork>(mut work: W, mut segments: mpsc::Receiver<Feed>) -> Result<W::Output, UploadError> {
    while let Some(feed) = segments.blocking_recv() {
        match feed {
            Feed::Segment(segment) => work.feed(&segment)?,
            Feed::End => return work.finish(),
        }
    }
    // The upload was given up. Nobody waits for the answer.
    Err(UploadError::Stopped)
}

/// A lane in progress. Dropping it gives the lane's work up.
pub(crate) enum Lane<W: LaneWork> {
    Inline(Option<W>),
    Thread { feed: mpsc::Sender<Feed>, result: oneshot::Receiver<Result<W::Output, UploadError>> },
}

impl<W: LaneWork> Lane<W> {
    /// Hand over the next segment. An error is final.
    pub(crate) async fn feed(&mut self, segment: &Bytes) -> Result<(), UploadError> {
        match self {
            Self::Inline(Some(work)) => work.feed(segment),
            Self::Inline(None) => Err(UploadError::Disk(DiskFailure::WorkerLost)),
            Self::Thread { feed, result } => match feed.send(Feed::Segment(segment.clone())).await {
                Ok(()) => Ok(()),
                // The lane has ended before the body did, so it has failed and says why.
                Err(_) => Err(ended(result.await).err().unwrap_or(UploadError::Stopped)),
            },
        }
    }

    /// Say that the body is complete and wait for what the lane has made of it.
    pub(crate) async fn finish(self) -> Result<W::Output, UploadError> {
        match self {
            Self::Inline(Some(work)) => work.finish(),
            Self::Inline(None) => Err(UploadError::Disk(DiskFailure::WorkerLost)),
            Self::Thread { feed, result } => {
                // If the lane has ended already, its result says why.
                drop(feed.send(Feed::End).await);
                ended(result.await)
            }
        }
    }
}

fn ended<T>(result: Result<Result<T, UploadError>, oneshot::error::RecvError>) -> Result<T, UploadError> {
    result.unwrap_or(Err(UploadError::Disk(DiskFailure::WorkerLost)))
}
