//! The promises of [`PackDisk`](super::PackDisk) as a test suite, for every implementation.

use std::io;
use std::sync::Arc;

use super::{PackDisk, PackId};

/// Run the suite on an empty disk. It leaves the disk empty.
///
/// # Panics
///
/// At the first promise that is broken.
pub async fn check(disk: Arc<dyn PackDisk>) {
    let (first, second) = (PackId(1), PackId(0x1_0000_0000));
    assert_eq!(listed(&*disk), [], "the suite needs an empty disk");
    writes_are_read_back(&*disk, first).await;
    assert_eq!(disk.create(first).err().map(|error| error.kind()), Some(io::ErrorKind::AlreadyExists));
    disk.create(second).expect("a second pack can begin");
    assert_eq!(listed(&*disk), [(first, 10), (second, 0)], "packs are listed in order, with lengths");
    removed_packs_stay_readable_while_open(&*disk, first);
    assert_eq!(listed(&*disk), [(second, 0)]);
    disk.remove(second).expect("an empty pack can be removed");
    disk.remove(second).expect("removing what is gone succeeds");
    disk.sync_directory().await.expect("the directory syncs");
    assert_eq!(disk.open(second).err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
    let again = disk.create(first).expect("the number of a removed pack is free");
    assert!(again.is_empty().expect("a pack has a length"), "a new pack does not inherit old bytes");
    disk.remove(first).expect("a pack can be removed");
    disk.sync_directory().await.expect("the directory syncs");
    assert_eq!(listed(&*disk), []);
}

fn listed(disk: &dyn PackDisk) -> Vec<(PackId, u64)> {
    disk.list().expect("packs can be listed")
}

async fn writes_are_read_back(disk: &dyn PackDisk, pack: PackId) {
    let writer = disk.create(pack).expect("a pack can begin");
    writer.append(b"hello").expect("bytes can be appended");
    let reader = disk.open(pack).expect("a pack can be read while it is written");
    writer.append(b"world").expect("bytes can be appended");
    let mut buffer = [0; 6];
    for file in [&writer, &reader] {
        file.read_at(3, &mut buffer).expect("written bytes can be read, synced or not");
        assert_eq!(&buffer, b"loworl");
    }
    writer.sync().await.expect("a pack syncs");
    disk.sync_directory().await.expect("the directory syncs");
    let past = reader.read_at(5, &mut buffer).err().map(|error| error.kind());
    assert_eq!(past, Some(io::ErrorKind::UnexpectedEof), "a read past the end is an error, not short");
    assert_eq!(reader.len().expect("a pack has a length"), 10);
}

fn removed_packs_stay_readable_while_open(disk: &dyn PackDisk, pack: PackId) {
    let open = disk.open(pack).expect("the pack is there");
    disk.remove(pack).expect("a pack can be removed");
    let mut buffer = [0; 10];
    open.read_at(0, &mut buffer).expect("an open pack can be read after it was removed");
    assert_eq!(&buffer, b"helloworld");
}
