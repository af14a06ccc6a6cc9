//! The tasks that connections for image bytes need: one that carries each over TCP, and one that answers on each over
//! QUIC.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use peerglass_catalog::NodeId;
use peerglass_transfer::{Transfer, WeakTransfer};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// None before it is known who answers, and after the end.
#[derive(Default)]
pub(super) struct Answers(Mutex<Option<Tasks>>);

struct Tasks {
    /// Weak, because it holds its peers: a node that is dropped without a stop must let go of its port.
    transfer: WeakTransfer,
    running: JoinSet<()>,
}

/// Dropped when a connection is not used any more. It closes when whatever was asked on it has been answered.
pub(super) struct Serving(#[expect(dead_code, reason = "only its end is heard of")] oneshot::Sender<()>);

impl Answers {
    fn locked(&self) -> MutexGuard<'_, Option<Tasks>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `transfer` answers what the other ends ask.
    pub(super) fn with(&self, transfer: &Transfer) {
        *self.locked() = Some(Tasks { transfer: transfer.downgrade(), running: JoinSet::new() });
    }

    /// End every task.
    pub(super) async fn stop(&self) {
        let tasks = self.locked().take();
        if let Some(mut tasks) = tasks {
            tasks.running.shutdown().await;
        }
    }

    /// End every task without waiting for it.
    pub(super) fn forget(&self) {
        drop(self.locked().take());
    }

    /// Answer on a connection this node has opened, until what this answers with is dropped.
    pub(super) fn serve(&self, connection: quinn::Connection, peer: NodeId) -> Serving {
        let (serving, dropped) = oneshot::channel();
        if let Some(tasks) = &mut *self.locked()
            && let Some(transfer) = tasks.transfer.upgrade()
        {
            let until = dropped.map(drop);
            tasks.spawn(async move { transfer.serve_peer_until(connection, peer, until).await });
        }
        Serving(serving)
    }

    /// Run `task` until it ends. It is dropped where none may run.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = &mut *self.locked() {
            tasks.spawn(task);
        }
    }
}

impl Tasks {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        while let Some(ended) = self.running.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of a connection for image bytes panicked");
            }
        }
        self.running.spawn(task);
    }
}
