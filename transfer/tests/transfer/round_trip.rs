//! What goes in comes out, whole and in ranges (I-D1, I-D3, I-D4).

use std::sync::Arc;

use peerglass_catalog::{HashAlgorithm, MemoryKeyspace};
use peerglass_transfer::{DirectoryPacks, DownloadError, PackDisk, TransferDisk, UploadOrder, Workers};
use proptest::prelude::*;

use crate::bodies::{noise, stream_of, text};
use crate::world::{Memory, ORDER, assert_exact, open, read, root, store};

/// Noise, text, zeros, and repetition, in turn.
fn images() -> impl Strategy<Value = Vec<u8>> {
    let run = (0..4_u64, 0..200_000_usize, 0..4);
    prop::collection::vec(run, 0..6).prop_map(|runs| {
        let run = |(seed, len, kind)| match kind {
            0 => vec![0; len],
            1 => noise(seed, len),
            2 => text(seed, len),
            _ => vec![seed as u8; len],
        };
        runs.into_iter().flat_map(run).collect()
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_range_is_the_slice(
        image in images(),
        frame in 1..300_000_usize,
        cuts in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 8),
        threads in any::<bool>(),
    ) {
        block_on(async {
            let workers = if threads { Workers::Threads } else { Workers::Inline };
            let memory = Memory::new();
            let transfer = memory.open(workers).await;
            let stored = transfer.upload(ORDER, stream_of(&image, frame)).await.unwrap();
            assert_eq!(stored.content().size, image.len() as u64);
            for (a, b) in cuts {
                let (a, b) = (a.index(image.len() + 1), b.index(image.len() + 1));
                let (a, b) = (a.min(b), a.max(b));
                let got = read(&transfer, root(&stored), a as u64..b as u64).await.unwrap();
                assert!(got == image[a..b], "{a}..{b} of {}", image.len());
            }
            // The same bytes in other frames are the same manifest, and nothing new is written.
            let before = memory.packs.list().unwrap();
            let again = transfer.upload(ORDER, stream_of(&image, 4096)).await.unwrap();
            assert_eq!(again.content(), stored.content());
            assert_eq!(memory.packs.list().unwrap(), before);
        });
    }
}

#[tokio::test]
async fn an_image_of_several_pages_and_packs_reads_back() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Threads).await;
    // Alternating chunks and holes fill a page of 1024 entries quickly.
    let mut image = Vec::new();
    for seed in 0..1100 {
        image.extend(noise(seed, 300));
        image.extend(vec![0; 20_000]);
    }
    let first = store(&transfer, &image[..5_000_000]).await.unwrap();
    let whole = store(&transfer, &image).await.unwrap();
    assert_eq!(memory.packs.list().unwrap().len(), 2, "the second upload wrote what the first had not");
    let len = image.len() as u64;
    assert!(read(&transfer, root(&whole), 0..len).await.unwrap() == image);
    assert!(read(&transfer, root(&first), 0..5_000_000).await.unwrap() == image[..5_000_000]);
    let near_end = read(&transfer, root(&whole), len - 30_000..len - 7).await.unwrap();
    assert!(near_end == image[image.len() - 30_000..image.len() - 7]);
    assert_exact(&transfer, &*memory.packs, &[&image[..5_000_000], &image]).await;
}

/// IF-26, IF-27: no byte, one byte, only zeros.
#[tokio::test]
async fn odd_sizes_are_images_too() {
    for image in [vec![], vec![7], vec![0], vec![0; 511], vec![0; 3 << 20], noise(1, 256 << 10)] {
        let memory = Memory::new();
        let transfer = memory.open(Workers::Inline).await;
        let stored = store(&transfer, &image).await.unwrap();
        let len = image.len() as u64;
        assert!(read(&transfer, root(&stored), 0..len).await.unwrap() == image);
        let past = transfer.download(root(&stored), 0..len + 1).await;
        assert!(matches!(past, Err(DownloadError::OutOfRange { size }) if size == len));
        let chunk_bytes: u64 = memory.packs.list().unwrap().iter().map(|(_, len)| len).sum();
        let zeros = image.iter().all(|byte| *byte == 0);
        assert!(!zeros || chunk_bytes < 400, "zeros are not stored: {chunk_bytes}");
    }
}

#[tokio::test]
async fn the_hashes_are_those_clients_compute() {
    let transfer = Memory::new().open(Workers::Threads).await;
    let sums = [
        (HashAlgorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            HashAlgorithm::Sha384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            HashAlgorithm::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
    ];
    for (os_hash, sum) in sums {
        let stored = transfer.upload(UploadOrder { os_hash, ..ORDER }, stream_of(b"abc", 2)).await.unwrap();
        let content = stored.content();
        assert_eq!((content.os_hash_algo, content.os_hash_value.as_str()), (os_hash, sum));
        assert_eq!(content.checksum, "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!((content.size, content.virtual_size, content.stores.len()), (3, None, 1));
    }
}

#[tokio::test]
async fn images_in_a_directory_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let index = Arc::new(MemoryKeyspace::new());
    let packs = || Arc::new(DirectoryPacks::open(&folder.path().join("packs")).unwrap());
    let image = noise(1, 3 << 20);
    let transfer =
        open(TransferDisk { packs: packs(), index: index.clone() }, Workers::Threads).await.unwrap();
    let name = root(&store(&transfer, &image).await.unwrap());
    transfer.stop().await;
    drop(transfer);
    for index in [index, Arc::new(MemoryKeyspace::new())] {
        let transfer = open(TransferDisk { packs: packs(), index }, Workers::Threads).await.unwrap();
        assert!(read(&transfer, name, 0..3 << 20).await.unwrap() == image, "with the index and without");
        assert_exact(&transfer, &*packs(), &[&image]).await;
    }
}
