//! What a Raft snapshot is here.
//!
//! A node's own snapshot is its state: the keyspace already is the catalog at the applied index, so
//! taking a snapshot only makes that state durable and lets the log be purged up to it. No copy is
//! written, however large the catalog. Only a replica that starts from nothing gets bytes, in the
//! catalog's portable encoding.

use std::io;
use std::sync::Arc;

use openraft::storage::RaftSnapshotBuilder;
use openraft::{Snapshot, SnapshotMeta};
use peerglass_catalog::keyspace::{self, Batch, Keyspace};
use peerglass_catalog::snapshot;

use crate::machine::{Applied, read_applied};
use crate::raft::Types;

/// A state of the catalog on its way.
#[derive(Debug)]
pub(crate) enum SnapshotData {
    /// The state of the node that took it, which needs no moving.
    Here,
    /// A state received from another node, see [`peerglass_catalog::snapshot`].
    Received(Vec<u8>),
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
        let applied = read_applied(&*self.state).map_err(io::Error::other)?;
        self.state.sync().await.map_err(io::Error::other)?;
        Ok(describe(applied))
    }
}

/// The snapshot that the state at `applied` is.
pub(crate) fn describe(applied: Applied) -> RaftSnapshot {
    Snapshot {
        meta: SnapshotMeta { last_log_id: applied.log_id, last_membership: applied.membership },
        snapshot: SnapshotData::Here,
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
