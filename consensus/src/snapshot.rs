//! What a Raft snapshot is here.
//!
//! A node's own snapshot is its state: the keyspace already is the catalog at the applied index, so
//! taking a snapshot only makes that state durable and lets the log be purged up to it. No copy is
//! written, however large the catalog. Only a replica that is handed a snapshot of another state turns
//! it into bytes, in the catalog's portable encoding, and installs those.

use std::io;
use std::sync::Arc;

use openraft::storage::RaftSnapshotBuilder;
use openraft::{Snapshot, SnapshotMeta};
use peerglass_catalog::keyspace::{self, Batch, Keyspace};
use peerglass_catalog::snapshot;

use crate::machine::{Applied, read_applied};
use crate::raft::Types;

/// The state of the catalog at one applied index.
pub(crate) struct SnapshotData {
    state: Arc<dyn Keyspace>,
    applied: Applied,
}

impl SnapshotData {
    /// Whether this is the state that `other` holds itself.
    pub(crate) fn is_of(&self, other: &Arc<dyn Keyspace>) -> bool {
        Arc::ptr_eq(&self.state, other)
    }

    /// The state in the catalog's portable encoding.
    ///
    /// # Errors
    ///
    /// When the state went on meanwhile, because it would not be what the snapshot claims. Whoever
    /// asks takes a fresh one.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        keyspace::look(&*self.state, |read| {
            if read_applied(read).map_err(io::Error::other)?.log_id != self.applied.log_id {
                return Err(io::Error::new(
                    io::ErrorKind::Interrupted,
                    "the state went on since the snapshot",
                ));
            }
            let mut bytes = Vec::new();
            snapshot::write(read, &mut bytes).map_err(io::Error::other)?;
            Ok(bytes)
        })
    }
}

pub(crate) type RaftSnapshot = openraft::alias::SnapshotOf<Types, SnapshotData>;

/// Makes the state durable up to where it is applied.
pub(crate) struct Builder {
    pub(crate) state: Arc<dyn Keyspace>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        // Read before the sync, so that what the snapshot claims is never more than what is durable.
        let applied = keyspace::look(&*self.state, read_applied).map_err(io::Error::other)?;
        self.state.sync().await.map_err(io::Error::other)?;
        Ok(describe(&self.state, applied))
    }
}

/// The snapshot that `state` is, at `applied`.
pub(crate) fn describe(state: &Arc<dyn Keyspace>, applied: Applied) -> RaftSnapshot {
    Snapshot {
        meta: SnapshotMeta { last_log_id: applied.log_id, last_membership: applied.membership.clone() },
        snapshot: SnapshotData { state: Arc::clone(state), applied },
    }
}

/// Replace the whole state by the received one, atomically, and make it durable.
pub(crate) async fn install(state: &dyn Keyspace, bytes: &[u8], mut end: Batch) -> io::Result<()> {
    let mut whole = Batch::default();
    whole.clear(keyspace::KeyRange { from: Vec::new(), to: None });
    snapshot::restore(&mut &bytes[..], &mut |batch| {
        whole.changes.extend(batch.changes);
        Ok(())
    })
    .map_err(io::Error::other)?;
    whole.changes.append(&mut end.changes);
    state.write(whole).map_err(io::Error::other)?;
    state.sync().await.map_err(io::Error::other)
}
