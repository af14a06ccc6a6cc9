//! A node's byte path over one of several disks, and what every test does with it.

pub(crate) mod cluster;
pub(crate) mod faulty;
pub(crate) mod liar;
pub(crate) mod raw;
pub(crate) mod tcp;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use futures::StreamExt;
use peerglass_catalog::{HashAlgorithm, ManifestRoot, MemoryKeyspace};
use peerglass_transfer::{
    DownloadError, MemoryPacks, OpenError, PackDisk, Reclaimed, StoredImage, Transfer, TransferDisk,
    TransferSettings, UploadError, UploadOrder, Workers,
};

use crate::bodies::stream_of;

pub(crate) const ORDER: UploadOrder = UploadOrder {
    announced_bytes: None,
    bytes_max: 1 << 40,
    os_hash: HashAlgorithm::Sha512,
    inspect: None,
    copies: None,
};

/// A disk in memory, with its parts at hand.
pub(crate) struct Memory {
    pub(crate) packs: Arc<MemoryPacks>,
    pub(crate) index: Arc<MemoryKeyspace>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { packs: Arc::new(MemoryPacks::new()), index: Arc::new(MemoryKeyspace::new()) }
    }

    pub(crate) fn disk(&self) -> TransferDisk {
        TransferDisk { packs: self.packs.clone(), index: self.index.clone() }
    }

    pub(crate) async fn open(&self, workers: Workers) -> Transfer {
        open(self.disk(), workers).await.unwrap()
    }
}

pub(crate) async fn open(disk: TransferDisk, workers: Workers) -> Result<Transfer, OpenError> {
    Transfer::open(TransferSettings::default(), disk, workers, 0, None).await
}

pub(crate) async fn store(transfer: &Transfer, bytes: &[u8]) -> Result<StoredImage, UploadError> {
    transfer.upload(ORDER, stream_of(bytes, 77_777)).await
}

pub(crate) fn root(image: &StoredImage) -> ManifestRoot {
    image.content().manifest
}

/// Everything a download yields.
pub(crate) async fn read(
    transfer: &Transfer,
    root: ManifestRoot,
    range: Range<u64>,
) -> Result<Vec<u8>, DownloadError> {
    let mut download = transfer.download(root, range).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = download.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

/// Reclaim with `named` the manifests that images name.
pub(crate) async fn reclaim(transfer: &Transfer, named: &[ManifestRoot]) -> Reclaimed {
    let named: BTreeSet<_> = named.iter().copied().collect();
    let are_named = |roots: Vec<_>| {
        std::future::ready(Ok::<_, Infallible>(roots.iter().map(|root| named.contains(root)).collect()))
    };
    transfer.reclaim(are_named).await.unwrap()
}

/// I-D6: what is on disk is exactly what a fresh node would hold that was given `images` only, plus
/// the overhead of packs.
pub(crate) async fn assert_exact(transfer: &Transfer, packs: &dyn PackDisk, images: &[&[u8]]) {
    let usage = transfer.usage();
    let on_disk: u64 = packs.list().unwrap().iter().map(|(_, len)| len).sum();
    assert_eq!(usage.stored_bytes, on_disk, "the packs on disk are those accounted for");
    let overhead = usage.packs * (16 + 64) + usage.chunks * 56;
    assert_eq!(usage.stored_bytes, usage.referenced_bytes + overhead, "packs hold nothing dead");
    let fresh = Memory::new();
    let oracle = fresh.open(Workers::Inline).await;
    for image in images {
        let _stored = store(&oracle, image).await.unwrap();
    }
    let expected = oracle.usage();
    assert_eq!(
        (usage.chunks, usage.referenced_bytes),
        (expected.chunks, expected.referenced_bytes),
        "exactly the chunks, pages and roots of the named images are left"
    );
}
