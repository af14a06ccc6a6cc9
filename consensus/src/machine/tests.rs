//! Snapshots of the state machine.

use openraft::storage::RaftSnapshotBuilder;
use peerglass_catalog::testing::populate;
use peerglass_catalog::{MemoryKeyspace, snapshot as portable};

use super::*;

/// I-M7: a replica that was handed a snapshot holds what the sender held, and nothing of its own.
#[tokio::test]
async fn a_received_snapshot_replaces_the_state() {
    let sender = MemoryKeyspace::new();
    populate(&sender, 1, 100, 10);
    let mut bytes = Vec::new();
    keyspace::look(&sender, |read| portable::write(read, &mut bytes)).unwrap();

    let state = Arc::new(MemoryKeyspace::new());
    populate(&*state, 2, 100, 10);
    let mut receiver = Machine::open(Arc::clone(&state) as Arc<dyn Keyspace>).unwrap();
    let log_id = openraft::testing::log_id::<Types>(3, 1, 70);
    let applied = Applied { log_id: Some(log_id), membership: Membership::default() };
    receiver.replace(&bytes, applied).await.unwrap();

    assert_eq!(*receiver.watch().borrow(), 70);
    let held: Vec<_> = state.entries().into_iter().filter(|(key, _)| key != APPLIED).collect();
    assert_eq!(held, sender.entries());
    assert_eq!(Machine::open(state).unwrap().applied_state().await.unwrap().0, Some(log_id));
}

/// F-D6: a snapshot damaged on its way changes nothing.
#[tokio::test]
async fn a_damaged_snapshot_leaves_the_state_alone() {
    let state = Arc::new(MemoryKeyspace::new());
    populate(&*state, 2, 100, 10);
    let before = state.entries();
    let mut receiver = Machine::open(Arc::clone(&state) as Arc<dyn Keyspace>).unwrap();
    assert!(receiver.replace(b"PGCATALOG\x01", Applied::default()).await.is_err());
    assert_eq!(state.entries(), before);
}

/// A snapshot claims no more than what was applied before its sync, or a purge could cut too far.
#[tokio::test]
async fn a_snapshot_claims_what_is_applied() {
    let state: Arc<dyn Keyspace> = Arc::new(MemoryKeyspace::new());
    let mut batch = Batch::default();
    let log_id = openraft::testing::log_id::<Types>(1, 1, 9);
    put_applied(&mut batch, &Applied { log_id: Some(log_id), membership: Membership::default() });
    state.write(batch).unwrap();
    let snapshot = Builder { state }.build_snapshot().await.unwrap();
    assert_eq!(snapshot.meta.last_log_id, Some(log_id));
}

/// A snapshot that is handed on after the state went on would claim too little of it, and entries
/// would be applied twice.
#[tokio::test]
async fn a_snapshot_of_a_state_that_went_on_is_refused() {
    let state: Arc<dyn Keyspace> = Arc::new(MemoryKeyspace::new());
    let snapshot = Builder { state: Arc::clone(&state) }.build_snapshot().await.unwrap();
    let mut batch = Batch::default();
    let log_id = openraft::testing::log_id::<Types>(1, 1, 9);
    put_applied(&mut batch, &Applied { log_id: Some(log_id), membership: Membership::default() });
    state.write(batch).unwrap();
    let mut other = Machine::open(Arc::new(MemoryKeyspace::new())).unwrap();
    assert!(other.install_snapshot(&snapshot.meta, snapshot.snapshot).await.is_err());
}
