//! Group commit: one sync for everything that queued while the last sync ran.
//!
//! Every sync of a log goes through its [`Flusher`], because a failed one is final: what a later one says
//! proves nothing about writes that the failed one should have covered.

use std::io;
use std::sync::Arc;

use openraft::storage::IOFlushed;
use peerglass_catalog::keyspace::Keyspace;
use tokio::sync::{Mutex, mpsc, watch};

use crate::raft::Types;

/// Appends that may wait for one sync. Raft keeps far fewer in flight; at the limit it waits.
const WAITING_MAX: usize = 4_096;

/// Syncs one log.
#[derive(Clone)]
pub(crate) struct Flusher {
    waiting: mpsc::Sender<Option<IOFlushed<Types>>>,
    gate: Arc<Gate>,
}

/// What every sync passes.
struct Gate {
    disk: Arc<dyn Keyspace>,
    /// Held by the sync that runs: one that began while another failed must not report success.
    turn: Mutex<()>,
    /// How a sync failed, from then on.
    failed: watch::Sender<Option<String>>,
}

impl Gate {
    async fn sync(&self) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        if let Some(before) = self.failed.borrow().clone() {
            return Err(before);
        }
        self.disk.sync().await.map_err(|fault| {
            let reason = fault.to_string();
            self.failed.send_replace(Some(reason.clone()));
            reason
        })
    }
}

impl Flusher {
    /// The queue, and the task that serves it until every queue handle is dropped.
    pub(crate) fn new(disk: Arc<dyn Keyspace>) -> (Self, impl Future<Output = ()> + Send) {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        let gate = Arc::new(Gate { disk, turn: Mutex::default(), failed: watch::Sender::new(None) });
        (Self { waiting, gate: Arc::clone(&gate) }, flush(gate, queue))
    }

    /// Make everything written so far durable.
    pub(crate) async fn sync(&self) -> io::Result<()> {
        self.gate.sync().await.map_err(io::Error::other)
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

    /// How a sync failed, once one did.
    pub(crate) fn failed(&self) -> watch::Receiver<Option<String>> {
        self.gate.failed.subscribe()
    }
}

async fn flush(gate: Arc<Gate>, mut queue: mpsc::Receiver<Option<IOFlushed<Types>>>) {
    let mut waiting = Vec::new();
    // Everything received before `sync` starts was written before it starts, so one sync covers it.
    while queue.recv_many(&mut waiting, WAITING_MAX).await > 0 {
        let synced = gate.sync().await;
        for done in waiting.drain(..).flatten() {
            // openraft stops this node at the first failure.
            done.io_completed(synced.clone().map_err(io::Error::other));
        }
    }
}
