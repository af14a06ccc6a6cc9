//! One voter, its whole life: answers, restarts, a log that lost its end, a disk that fails.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use peerglass_catalog::keyspace::{BoxFuture, Direction, Entries, KeyRange, Read};
use peerglass_catalog::testing::Dice;
use peerglass_catalog::{
    Batch, Command, Fault, Image, ImageId, Keyspace, Limits, MemoryKeyspace, Outcome, Refusal, Status,
    Timestamp, Visibility,
};
use peerglass_consensus::{
    Consensus, ConsensusDisk, ConsensusError, ConsensusSettings, OpenError, SubmitError,
};

fn create(n: u8) -> (ImageId, Command) {
    let id = ImageId::from_random([n; 16]);
    let at = Timestamp(i64::from(n));
    let image = Image {
        id,
        name: None,
        status: Status::Queued,
        visibility: Visibility::Shared,
        protected: false,
        hidden: false,
        owner: None,
        container_format: None,
        disk_format: None,
        min_disk_gb: 0,
        min_ram_mb: 0,
        tags: Default::default(),
        properties: Default::default(),
        content: None,
        upload: None,
        created_at: at,
        updated_at: at,
    };
    (id, Command::CreateImage { image: Box::new(image), limits: Limits::default() })
}

fn memory() -> (Arc<MemoryKeyspace>, Arc<MemoryKeyspace>, ConsensusDisk) {
    let (log, state) = (Arc::new(MemoryKeyspace::new()), Arc::new(MemoryKeyspace::new()));
    let disk = ConsensusDisk { log: log.clone(), state: state.clone() };
    (log, state, disk)
}

async fn holds(consensus: &Consensus, id: ImageId) -> bool {
    consensus.read(|catalog| catalog.image(&id).unwrap().is_some()).await.unwrap()
}

#[tokio::test]
async fn a_read_after_an_acknowledgement_sees_it_and_a_refusal_comes_back() {
    let (_, _, disk) = memory();
    let consensus = Consensus::open(ConsensusSettings::default(), disk, None, 1).await.unwrap();
    let (id, command) = create(1);
    assert!(matches!(consensus.submit(command.clone()).await, Ok(Outcome::Image(_))));
    assert!(holds(&consensus, id).await);
    let again = consensus.submit(command).await;
    assert!(matches!(again, Err(SubmitError::Refused(Refusal::ImageExists(taken))) if taken == id));
    consensus.stop().await;
    assert!(matches!(consensus.read(|_| ()).await, Err(ConsensusError::Stopped)));
}

/// I-M2: what was acknowledged is there after a restart, also when the log was compacted meanwhile,
/// also when the state's disk was set back to nothing that the log cannot bring forward again.
#[tokio::test]
async fn acknowledged_writes_survive_restarts_and_compaction() {
    let (_, _, disk) = memory();
    let settings = ConsensusSettings { snapshot_entries: 10, log_entries_kept: 3, ..Default::default() };
    let mut dice = Dice(9);
    let mut ids = Vec::new();
    let mut node = None;
    for life in 0..3u8 {
        let consensus = Consensus::open(settings.clone(), disk.clone(), None, dice.roll()).await.unwrap();
        assert_eq!(*node.get_or_insert(consensus.node()), consensus.node(), "a node keeps its id");
        for n in 0..30 {
            let (id, command) = create(life * 30 + n + 1);
            consensus.submit(command).await.unwrap();
            ids.push(id);
        }
        for id in &ids {
            assert!(holds(&consensus, *id).await);
        }
        consensus.stop().await;
    }
}

/// F-D11, I-S3: the state saw entries that the log does not hold any more.
#[tokio::test]
async fn a_log_that_lost_its_end_refuses_to_start() {
    let (_, _, disk) = memory();
    let consensus = Consensus::open(ConsensusSettings::default(), disk.clone(), None, 1).await.unwrap();
    consensus.submit(create(1).1).await.unwrap();
    consensus.stop().await;
    let older = ConsensusDisk { log: Arc::new(MemoryKeyspace::new()), ..disk };
    let refused = Consensus::open(ConsensusSettings::default(), older, None, 1).await;
    assert!(matches!(refused, Err(OpenError::LogLostItsEnd { log: 0, applied: 1.. })));
}

/// F-D11, I-S3: the state is gone, and the log that could bring it back was purged.
#[tokio::test]
async fn a_lost_catalog_refuses_to_start() {
    let (_, _, disk) = memory();
    let settings = ConsensusSettings { snapshot_entries: 5, log_entries_kept: 1, ..Default::default() };
    let consensus = Consensus::open(settings.clone(), disk.clone(), None, 1).await.unwrap();
    for n in 1..=60 {
        consensus.submit(create(n).1).await.unwrap();
    }
    consensus.stop().await;
    let emptied = ConsensusDisk { state: Arc::new(MemoryKeyspace::new()), ..disk };
    let refused = Consensus::open(settings, emptied, None, 1).await;
    assert!(matches!(refused, Err(OpenError::CatalogLost { purged: 1.., applied: 0 })));
}

/// A map whose sync begins to fail on command.
struct Failing {
    inner: MemoryKeyspace,
    broken: AtomicBool,
}

impl Read for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.inner.get(key)
    }
    fn scan(&self, range: KeyRange, direction: Direction) -> Entries<'_> {
        self.inner.scan(range, direction)
    }
}

impl Keyspace for Failing {
    fn view(&self, look: &mut dyn FnMut(&dyn Read)) {
        self.inner.view(look);
    }
    fn write(&self, batch: Batch) -> Result<(), Fault> {
        self.inner.write(batch)
    }
    fn sync(&self) -> BoxFuture<'_, Result<(), Fault>> {
        // Fails once and then succeeds, as a kernel does that has dropped the dirty pages.
        let failed = self.broken.swap(false, Ordering::SeqCst);
        Box::pin(async move { if failed { Err(Fault::Io(std::io::Error::other("no"))) } else { Ok(()) } })
    }
}

/// F-D5, I-S3: one failed fsync ends this node's part, however well the next one goes.
#[tokio::test]
async fn one_failed_sync_is_final() {
    let log = Arc::new(Failing { inner: MemoryKeyspace::new(), broken: AtomicBool::new(false) });
    let disk = ConsensusDisk { log: log.clone(), state: Arc::new(MemoryKeyspace::new()) };
    let consensus = Consensus::open(ConsensusSettings::default(), disk, None, 1).await.unwrap();
    consensus.submit(create(1).1).await.unwrap();
    log.broken.store(true, Ordering::SeqCst);
    assert!(matches!(consensus.submit(create(2).1).await, Err(SubmitError::Failed(_))), "not acknowledged");
    assert!(matches!(consensus.ended().await, ConsensusError::DiskFailed));
    assert!(matches!(consensus.submit(create(3).1).await, Err(SubmitError::Failed(_))));
    assert!(consensus.read(|_| ()).await.is_err());
}

/// Many writers at once: each is answered, and the log is in order.
#[tokio::test]
async fn concurrent_writers_are_all_answered() {
    let (_, _, disk) = memory();
    let consensus = Consensus::open(ConsensusSettings::default(), disk, None, 1).await.unwrap();
    let writes = (1..=100u8).map(|n| {
        let consensus = consensus.clone();
        async move { consensus.submit(create(n).1).await }
    });
    for done in futures::future::join_all(writes).await {
        done.unwrap();
    }
    for n in 1..=100 {
        assert!(holds(&consensus, create(n).0).await);
    }
}
