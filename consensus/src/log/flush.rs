//! Group commit: one sync for everything that queued while the last sync ran.

use std::io;
use std::sync::Arc;

use openraft::storage::IOFlushed;
use peerglass_catalog::keyspace::Keyspace;
use tokio::sync::mpsc;

use crate::raft::Types;

/// Appends that may wait for one sync. Raft keeps far fewer in flight; at the limit it waits.
const WAITING_MAX: usize = 4_096;

/// Where appended entries queue for the next sync.
#[derive(Clone)]
pub(crate) struct Flusher {
    waiting: mpsc::Sender<IOFlushed<Types>>,
}

impl Flusher {
    /// The queue, and the task that serves it until every queue handle is dropped.
    pub(crate) fn new(disk: Arc<dyn Keyspace>) -> (Self, impl Future<Output = ()> + Send) {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        (Self { waiting }, flush(disk, queue))
    }

    /// Call `done` once everything written so far is synced.
    pub(crate) async fn sync_then(&self, done: IOFlushed<Types>) -> io::Result<()> {
        self.waiting.send(done).await.map_err(|_| io::Error::other("the log's flush task has ended"))
    }
}

async fn flush(disk: Arc<dyn Keyspace>, mut queue: mpsc::Receiver<IOFlushed<Types>>) {
    let mut waiting = Vec::new();
    // Everything received before `sync` starts was written before it starts, so one sync covers it.
    while queue.recv_many(&mut waiting, WAITING_MAX).await > 0 {
        let synced = disk.sync().await;
        for done in waiting.drain(..) {
            // A failed sync is final: openraft stops this node, and nobody retries it.
            done.io_completed(synced.as_ref().copied().map_err(|fault| io::Error::other(fault.to_string())));
        }
    }
}
