//! Reads and writes a second on this machine, one voter on RocksDB: `cargo run --release --example rates`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use peerglass_catalog::testing::Dice;
use peerglass_catalog::{Command, Keyspace, NodeId, Timestamp};
use peerglass_consensus::{Consensus, ConsensusDisk, ConsensusSettings, RocksKeyspace, RocksRole};
use tokio::task::JoinSet;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let open = |name: &str| -> Arc<dyn Keyspace> {
        Arc::new(RocksKeyspace::open(&dir.path().join(name), RocksRole::State).expect("an empty database"))
    };
    let disk = ConsensusDisk { log: open("log"), state: open("state") };
    let consensus = Consensus::open(ConsensusSettings::default(), disk, None, 1).await.expect("a fresh node");
    for clients in [1, 8, 64] {
        let reads = rate(&consensus, clients, |consensus, _| async move {
            let id = Dice(1).image_id();
            consensus.read(|catalog| catalog.image(&id).is_ok()).await.is_ok()
        })
        .await;
        let writes = rate(&consensus, clients, |consensus, _| async move {
            let abandon = Command::AbandonUploads { node: NodeId(1), at: Timestamp(0) };
            consensus.submit(abandon).await.is_ok()
        })
        .await;
        println!("{clients:>3} clients: {reads:>7} reads/s {writes:>7} writes/s");
    }
    consensus.stop().await;
}

async fn rate<F, Fut>(consensus: &Consensus, clients: u64, call: F) -> u64
where
    F: Fn(Consensus, u64) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = bool> + Send,
{
    const SECONDS: u64 = 2;
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let (consensus, done) = (consensus.clone(), Arc::clone(&done));
        tasks.spawn(async move {
            let until = tokio::time::Instant::now() + Duration::from_secs(SECONDS);
            while tokio::time::Instant::now() < until {
                assert!(call(consensus.clone(), client).await, "a healthy node answers");
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks.join_all().await;
    done.load(Ordering::Relaxed) / SECONDS
}
