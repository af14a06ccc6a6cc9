//! A start with as many packs as a node of small images has (F-D6, F-D10; I-D2).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use peerglass_catalog::keyspace::BoxFuture;
use peerglass_transfer::{MemoryPacks, OpenError, PackDisk, PackFile, PackId, TransferDisk, Workers};

use crate::bodies::noise;
use crate::world::{Memory, open, store};

/// Opening looks into the newest packs only, and at the length of every one.
#[tokio::test]
async fn a_start_with_many_packs_looks_into_few_and_misses_no_length() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    for seed in 0..1100 {
        drop(store(&transfer, &noise(seed, 100)).await.unwrap());
    }
    drop(transfer);
    let opened = Arc::new(AtomicUsize::new(0));
    let packs = Arc::new(Counting { packs: memory.packs.clone(), opened: opened.clone() });
    let disk = TransferDisk { packs, ..memory.disk() };
    assert!(open(disk, Workers::Inline).await.is_ok());
    assert_eq!(opened.load(Ordering::Relaxed), 1024);

    let oldest = PackId(0);
    let whole = memory.packs.bytes(oldest).unwrap();
    memory.packs.overwrite(oldest, whole[..whole.len() - 1].to_vec());
    let refused = open(memory.disk(), Workers::Inline).await.err();
    assert!(matches!(refused, Some(OpenError::DamagedPack { pack, .. }) if pack == oldest));
    memory.packs.overwrite(oldest, whole);
    let newest = memory.packs.list().unwrap().last().unwrap().0;
    let mut rotten = memory.packs.bytes(newest).unwrap();
    *rotten.last_mut().unwrap() ^= 1;
    memory.packs.overwrite(newest, rotten);
    let refused = open(memory.disk(), Workers::Inline).await.err();
    assert!(matches!(refused, Some(OpenError::DamagedPack { pack, .. }) if pack == newest));
}

/// Packs, and how many of them were opened.
struct Counting {
    packs: Arc<MemoryPacks>,
    opened: Arc<AtomicUsize>,
}

impl PackDisk for Counting {
    fn create(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>> {
        self.packs.create(pack)
    }
    fn open(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.packs.open(pack)
    }
    fn list(&self) -> io::Result<Vec<(PackId, u64)>> {
        self.packs.list()
    }
    fn remove(&self, pack: PackId) -> io::Result<()> {
        self.packs.remove(pack)
    }
    fn sync_directory(&self) -> BoxFuture<'static, io::Result<()>> {
        self.packs.sync_directory()
    }
}
