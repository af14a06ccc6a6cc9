//! Room in memory for answers to other nodes, which wait there until they are taken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use peerglass_catalog::NodeId;
use tokio::sync::Semaphore;

/// Mebibytes for all of them.
const READ_AHEAD: usize = 64;
/// Mebibytes for one node, over however many connections: one that does not read must not take them all.
pub(super) const READ_AHEAD_PER_PEER: usize = 16;

/// See the module.
pub(crate) struct ReadAhead {
    pub(super) anybody: Semaphore,
    /// Of each node that is connected.
    of_each: Mutex<BTreeMap<NodeId, Weak<Semaphore>>>,
}

impl Default for ReadAhead {
    fn default() -> Self {
        Self { anybody: Semaphore::new(READ_AHEAD), of_each: Mutex::default() }
    }
}

impl ReadAhead {
    /// What the connections of `peer` share.
    pub(super) fn of(&self, peer: NodeId) -> Arc<Semaphore> {
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        of_each.retain(|_, shared| shared.strong_count() > 0);
        if let Some(shared) = of_each.get(&peer).and_then(Weak::upgrade) {
            return shared;
        }
        let shared = Arc::new(Semaphore::new(READ_AHEAD_PER_PEER));
        of_each.insert(peer, Arc::downgrade(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_a_node_share_its_room() {
        let room = ReadAhead::default();
        let (one, other) = (room.of(NodeId(1)), room.of(NodeId(2)));
        let all = u32::try_from(READ_AHEAD_PER_PEER).unwrap();
        let taken = one.try_acquire_many(all).unwrap();
        assert!(room.of(NodeId(1)).try_acquire().is_err(), "by another connection");
        assert!(other.try_acquire().is_ok());
        drop(taken);
        drop(one);
        drop(other);
        assert_eq!(room.of(NodeId(1)).available_permits(), READ_AHEAD_PER_PEER);
        assert_eq!(room.of_each.lock().unwrap().len(), 1, "those that are gone are forgotten");
    }
}
