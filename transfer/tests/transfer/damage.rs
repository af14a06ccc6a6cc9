//! Rot and loss: found, named, never served, and made good by the next upload (F-D6, F-D10; I-D2, I-D8).

use futures::StreamExt;
use peerglass_transfer::{DownloadError, OpenError, PackDisk, PackId, Workers};

use crate::bodies::noise;
use crate::world::{Memory, assert_exact, open, read, reclaim, root, store};

/// Change one bit of the only pack.
fn rot(memory: &Memory, at: usize) -> PackId {
    let (pack, _) = memory.packs.list().unwrap()[0];
    let mut bytes = memory.packs.bytes(pack).unwrap();
    bytes[at] ^= 1;
    memory.packs.overwrite(pack, bytes);
    pack
}

#[tokio::test]
async fn a_rotten_chunk_is_an_error_and_never_a_byte() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    let image = noise(1, 4 << 20);
    let name = root(&store(&transfer, &image).await.unwrap());
    let pack = rot(&memory, 2 << 20);
    let mut download = transfer.download(name, 0..4 << 20).await.unwrap();
    let mut got = Vec::new();
    let error = loop {
        match download.next().await.expect("the stream does not end as if it were whole") {
            Ok(piece) => got.extend_from_slice(&piece),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, DownloadError::Damaged { pack: Some(named), .. } if named == pack), "{error}");
    assert!(error.to_string().contains("0000000000000000.pack"), "{error}");
    assert!(download.next().await.is_none());
    assert!(got == image[..got.len()], "what was yielded before is right");
    drop(download);

    // The same image again brings the chunk back, from nowhere but the upload.
    let again = store(&transfer, &image).await.unwrap();
    assert_eq!(root(&again), name);
    assert!(read(&transfer, name, 0..4 << 20).await.unwrap() == image, "the upload made it whole");
    drop(again);
    reclaim(&transfer, &[name]).await;
    assert_exact(&transfer, &*memory.packs, &[&image]).await;
    assert!(read(&transfer, name, 0..4 << 20).await.unwrap() == image);
}

#[tokio::test]
async fn a_pack_cut_short_is_named_when_the_node_opens() {
    let memory = Memory::new();
    drop(store(&memory.open(Workers::Inline).await, &noise(1, 300_000)).await.unwrap());
    let (pack, _) = memory.packs.list().unwrap()[0];
    let whole = memory.packs.bytes(pack).unwrap();
    for len in [0, 10, 100_000, whole.len() - 1] {
        memory.packs.overwrite(pack, whole[..len].to_vec());
        let refused = open(memory.disk(), Workers::Inline).await.err();
        assert!(matches!(refused, Some(OpenError::DamagedPack { pack: named, .. }) if named == pack));
    }
}

#[tokio::test]
async fn a_rotten_trailer_or_table_is_named_when_the_node_opens() {
    let memory = Memory::new();
    drop(store(&memory.open(Workers::Inline).await, &noise(1, 300_000)).await.unwrap());
    let (pack, len) = memory.packs.list().unwrap()[0];
    let whole = memory.packs.bytes(pack).unwrap();
    for from_end in 1..64 + 3 * 56 {
        rot(&memory, len as usize - from_end);
        let refused = open(memory.disk(), Workers::Inline).await.err();
        let refused = refused.unwrap_or_else(|| panic!("the bit {from_end} from the end went unnoticed"));
        assert!(matches!(refused, OpenError::DamagedPack { pack: named, .. } if named == pack));
        memory.packs.overwrite(pack, whole.clone());
    }
    assert!(open(memory.disk(), Workers::Inline).await.is_ok(), "the file was never touched");
}

#[tokio::test]
async fn a_lost_pack_loses_its_images_only_until_they_come_again() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    let (first, second) = (noise(1, 600_000), noise(2, 300_000));
    let lost = root(&store(&transfer, &first).await.unwrap());
    let safe = root(&store(&transfer, &second).await.unwrap());
    memory.packs.remove(PackId(0)).unwrap();
    drop(transfer);
    let transfer = memory.open(Workers::Inline).await;
    assert!(read(&transfer, safe, 0..300_000).await.unwrap() == second);
    let missing = read(&transfer, lost, 0..600_000).await;
    assert!(matches!(missing, Err(DownloadError::Damaged { pack: None, .. })), "{missing:?}");
    let again = store(&transfer, &first).await.unwrap();
    assert!(read(&transfer, root(&again), 0..600_000).await.unwrap() == first);
    reclaim(&transfer, &[lost, safe]).await;
    assert_exact(&transfer, &*memory.packs, &[&first, &second]).await;
}
