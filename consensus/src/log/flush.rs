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
    waiting: mpsc::Sender<Option<IOFlushed<Types>>>,
}

impl Flusher {
    /// The queue, and the task that serves it until every queue handle is dropped.
    pub(crate) fn new(disk: Arc<dyn Keyspace>) -> (Self, impl Future<Output = ()> + Send) {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        (Self { waiting }, flush(disk, queue))
    }

    /// Have everything written so far synced, with nobody waiting for it.
    pub(crate) fn sync_soon(&self) {
        // A full queue is synced anyway, and a closed one ends with its node.
        let _ = self.waiting.try_send(None);
    }

    /// Call `done` once everything written so far is synced.
    pub(crate) async fn sync_then(&self, done: IOFlushed<Types>) -> io::Result<()> {
        self.waiting.send(Some(done)).await.map_err(|_| io::Error::other("the log's flush task has ended"))
    }
}

async fn flush(disk: Arc<dyn Keyspace>, mut queue: mpsc::Receiver<Option<IOFlushed<Types>>>) {
    let mut waiting = Vec::new();
    // A failed sync is final, also when nobody waited for it: what a later one says proves nothing.
    let mut failed: Option<String> = None;
    // Everything received before `sync` starts was written before it starts, so one sync covers it.
    while queue.recv_many(&mut waiting, WAITING_MAX).await > 0 {
        if failed.is_none() {
            failed = disk.sync().await.err().map(|fault| fault.to_string());
        }
        for done in waiting.drain(..).flatten() {
            // openraft stops this node at the first failure.
            done.io_completed(failed.clone().map_or(Ok(()), |fault| Err(io::Error::other(fault))));
        }
    }
}
