//! What a Raft snapshot is here.
//!
//! A node's own snapshot is its state: the keyspace already is the catalog at the applied index, so
//! taking a snapshot only makes that state durable and lets the log be purged up to it. No copy is
//! written, however large the catalog.
//!
//! Only for a replica that is too far behind the log is the state written down, in the catalog's
//! portable encoding and cut into [pieces](spool). The receiver keeps the pieces, so that a transfer
//! goes on where it was interrupted, and [installs](install) them when all are there: all or nothing,
//! whenever the process dies.

pub(crate) mod install;
pub(crate) mod spool;

use std::io;
use std::sync::Arc;

use openraft::Snapshot;
use openraft::storage::RaftSnapshotBuilder;
use peerglass_catalog::keyspace::{self, Keyspace};
use tokio::sync::OwnedMutexGuard;

use crate::machine::{Applied, read_applied};
use crate::raft::{Meta, Types};

/// The state of the catalog at one applied index.
pub(crate) enum SnapshotData {
    /// The state of whoever made it, which is that or newer.
    Own {
        /// Where it is.
        state: Arc<dyn Keyspace>,
    },
    /// A whole spool that was received into `state`, to be installed there.
    Received {
        /// Where it was received.
        state: Arc<dyn Keyspace>,
        /// Until it is installed or refused, nobody else may receive into the same place.
        _alone: OwnedMutexGuard<()>,
    },
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

/// A node's own state, at `applied`.
pub(crate) fn describe(state: &Arc<dyn Keyspace>, applied: Applied) -> RaftSnapshot {
    Snapshot { meta: meta(applied), snapshot: SnapshotData::Own { state: Arc::clone(state) } }
}

/// What openraft wants to know of a state.
pub(crate) fn meta(applied: Applied) -> Meta {
    Meta { last_log_id: applied.log_id, last_membership: applied.membership }
}
