//! Chunks that are kept compressed: read back, recovered, moved, healed, and beside packs of before.

use std::sync::Arc;

use peerglass_catalog::manifest::{Builder, CutParameters, Entry, PageRef, Root};
use peerglass_catalog::{Digest, ManifestRoot, MemoryKeyspace};
use peerglass_transfer::{DownloadError, OpenError, PackDisk, PackId, TransferDisk, Workers};

use crate::bodies::{noise, text};
use crate::world::{Memory, assert_exact, open, read, reclaim, root, store};

const MIB: usize = 1 << 20;

/// Chunks of either form, by turns and in rows, and holes.
fn mixed() -> Vec<u8> {
    let mut image = Vec::new();
    for seed in 0..12 {
        image.extend(text(seed, 150_000));
        image.extend(noise(seed, 200_000));
        image.extend(vec![0; if seed % 3 == 0 { 100_000 } else { 0 }]);
    }
    image
}

/// The only pack.
fn pack(memory: &Memory) -> (PackId, Vec<u8>) {
    let [(pack, _)] = memory.packs.list().unwrap()[..] else { panic!("one pack") };
    (pack, memory.packs.bytes(pack).unwrap())
}

fn holds(pack: &[u8], part: &[u8]) -> bool {
    pack.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn what_compresses_is_stored_compressed_and_nothing_else_is() {
    for (image, least, most) in [
        (text(1, 4 * MIB), 35, 45),
        (noise(1, 4 * MIB), 100, 101),
        (vec![b'x'; 4 * MIB], 0, 1),
        (mixed(), 65, 75),
    ] {
        let memory = Memory::new();
        let transfer = memory.open(Workers::Threads).await;
        let name = root(&store(&transfer, &image).await.unwrap());
        let plain = image.len() as u64;
        let percent = transfer.usage().stored_bytes * 100 / plain;
        assert!((least..=most).contains(&percent), "{percent} %");
        assert!(read(&transfer, name, 0..plain).await.unwrap() == image);
        for range in [1..plain - 1, 100_000..500_001, plain - 3..plain, 250_000..250_001] {
            let got = read(&transfer, name, range.clone()).await.unwrap();
            assert!(got == image[range.start as usize..range.end as usize], "{range:?}");
        }
        assert_exact(&transfer, &*memory.packs, &[&image]).await;
    }
}

#[tokio::test]
async fn the_index_is_rebuilt_from_packs_with_both_forms() {
    let memory = Memory::new();
    let image = mixed();
    let name = root(&store(&memory.open(Workers::Inline).await, &image).await.unwrap());
    let disk = TransferDisk { packs: memory.packs.clone(), index: Arc::new(MemoryKeyspace::new()) };
    let transfer = open(disk, Workers::Inline).await.unwrap();
    assert!(read(&transfer, name, 0..image.len() as u64).await.unwrap() == image);
    assert_exact(&transfer, &*memory.packs, &[&image]).await;
}

#[tokio::test]
async fn a_rewrite_moves_chunks_in_the_form_they_have() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    let kept = mixed();
    drop(store(&transfer, &[kept.clone(), text(99, MIB), noise(99, MIB)].concat()).await.unwrap());
    let (_, before) = pack(&memory);
    let name = root(&store(&transfer, &kept).await.unwrap());
    assert_eq!(reclaim(&transfer, &[name]).await.packs, 1);
    assert!(read(&transfer, name, 0..kept.len() as u64).await.unwrap() == kept);
    assert_exact(&transfer, &*memory.packs, &[&kept]).await;
    // The first chunks, of either form, lie one after the other in both.
    let packs = memory.packs.list().unwrap();
    let moved =
        packs.iter().any(|(pack, _)| holds(&memory.packs.bytes(*pack).unwrap(), &before[16..200_000]));
    assert!(moved, "byte by byte as they were");
}

#[tokio::test]
async fn rot_anywhere_in_a_compressed_chunk_is_damage_and_never_a_byte() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    let image = text(1, MIB);
    let stored = store(&transfer, &image).await.unwrap();
    let (pack, whole) = pack(&memory);
    // The first frame's magic number, its head, and places in this and in later ones.
    for at in [16, 20, 21, 1000, 20_000, 100_000, 300_000] {
        let mut rotten = whole.clone();
        rotten[at] ^= 0x20;
        memory.packs.overwrite(pack, rotten);
        let fresh = Memory::new();
        let disk = TransferDisk { packs: memory.packs.clone(), index: fresh.index.clone() };
        let transfer = open(disk, Workers::Inline).await.unwrap();
        let damaged = read(&transfer, root(&stored), 0..MIB as u64).await;
        let named = |named: &DownloadError| matches!(named, DownloadError::Damaged { pack: Some(at), .. } if *at == pack);
        assert!(damaged.as_ref().is_err_and(named), "at {at}: {:?}", damaged.map(|bytes| bytes.len()));
        memory.packs.overwrite(pack, whole.clone());
    }
    assert!(read(&transfer, root(&stored), 0..MIB as u64).await.unwrap() == image);
}

#[tokio::test]
async fn a_damaged_compressed_chunk_is_made_whole_by_the_same_upload() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    let image = mixed();
    let name = root(&store(&transfer, &image).await.unwrap());
    let (pack, mut bytes) = pack(&memory);
    bytes[1000] ^= 1;
    memory.packs.overwrite(pack, bytes);
    let size = image.len() as u64;
    assert!(matches!(read(&transfer, name, 0..size).await, Err(DownloadError::Damaged { .. })));
    drop(store(&transfer, &image).await.unwrap());
    assert!(read(&transfer, name, 0..size).await.unwrap() == image);
    reclaim(&transfer, &[name]).await;
    assert_exact(&transfer, &*memory.packs, &[&image]).await;
}

/// A pack as the release before wrote it: every blob as it is.
fn pack_of_before(image: &[u8]) -> (Vec<u8>, ManifestRoot) {
    let mut pack = b"peerglass pack\0\x01".to_vec();
    let mut table = Vec::new();
    let mut put = |bytes: &[u8], kind: u32| {
        let digest = Digest::of(bytes);
        table.extend_from_slice(&digest.0);
        table.extend_from_slice(&(pack.len() as u64).to_le_bytes());
        for number in [bytes.len() as u32, bytes.len() as u32, kind, 0] {
            table.extend_from_slice(&number.to_le_bytes());
        }
        pack.extend_from_slice(bytes);
        digest
    };
    let mut builder = Builder::new();
    for chunk in image.chunks(60_000) {
        let len = chunk.len() as u32;
        let entry = Entry::Chunk { digest: put(chunk, 0), plain_len: len, stored_len: len };
        assert!(builder.push(entry).unwrap().is_none(), "all is one page");
    }
    let page = builder.finish().unwrap().unwrap();
    let page = PageRef { digest: put(&page.encode(), 1), plain_len: page.plain_len() };
    let cut = CutParameters { min: 16 << 10, average: 64 << 10, max: 256 << 10 };
    let root = Root::new(cut, vec![page]).unwrap().encode();
    let name = ManifestRoot(put(&root, 2));
    let table_offset = pack.len() as u64;
    pack.extend_from_slice(&table);
    let mut trailer = table_offset.to_le_bytes().to_vec();
    trailer.extend_from_slice(&(table.len() as u64 / 56).to_le_bytes());
    trailer.extend_from_slice(blake3::hash(&table).as_bytes());
    let checksum = blake3::hash(&trailer);
    trailer.extend_from_slice(&checksum.as_bytes()[..8]);
    trailer.extend_from_slice(b"pgseal\0\x01");
    pack.extend_from_slice(&trailer);
    (pack, name)
}

#[tokio::test]
async fn a_pack_of_the_release_before_is_read_and_rewritten_as_it_is() {
    let memory = Memory::new();
    let image = text(1, MIB);
    let (bytes, old) = pack_of_before(&image);
    memory.packs.create(PackId(0)).unwrap();
    memory.packs.overwrite(PackId(0), bytes);
    let transfer = memory.open(Workers::Inline).await;
    assert!(read(&transfer, old, 0..MIB as u64).await.unwrap() == image);
    assert!(transfer.usage().stored_bytes > MIB as u64, "as it was");

    // An image of this release that needs one of the old chunks, after which the rest of that pack is dead.
    let last = image[MIB - MIB % 60_000..].to_vec();
    let kept = root(&store(&transfer, &last).await.unwrap());
    assert_eq!(reclaim(&transfer, &[kept]).await.packs, 1);
    assert!(read(&transfer, kept, 0..last.len() as u64).await.unwrap() == last);
    let packs = memory.packs.list().unwrap();
    let holds_it = packs.iter().any(|(pack, _)| holds(&memory.packs.bytes(*pack).unwrap(), &last));
    assert!(holds_it, "what was not compressed is not compressed later");
    reclaim(&transfer, &[]).await;
    assert_eq!(memory.packs.list().unwrap(), []);
}

#[tokio::test]
async fn a_pack_of_an_unknown_version_is_named_and_kept() {
    let memory = Memory::new();
    drop(store(&memory.open(Workers::Inline).await, &text(1, MIB)).await.unwrap());
    let (pack, mut bytes) = pack(&memory);
    // With forms that version 1 does not have, or of a release to come.
    for version in [1, 3] {
        *bytes.last_mut().unwrap() = version;
        memory.packs.overwrite(pack, bytes.clone());
        for index in [memory.index.clone(), Arc::new(MemoryKeyspace::new())] {
            let disk = TransferDisk { packs: memory.packs.clone(), index };
            let refused = open(disk, Workers::Inline).await.err();
            assert!(matches!(&refused, Some(OpenError::DamagedPack { pack: named, .. }) if *named == pack));
            let tells = refused.unwrap().to_string().contains("version is not known");
            assert_eq!(tells, version == 3);
        }
        assert_eq!(memory.packs.list().unwrap().len(), 1);
    }
}
