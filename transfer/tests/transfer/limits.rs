//! Every limit, at it and one past it.

use std::sync::atomic::{AtomicBool, Ordering};

use peerglass_transfer::{PackDisk, Transfer, TransferSettings, UploadError, UploadOrder, Workers};

use crate::bodies::{noise, stream_of};
use crate::world::faulty::{FaultyDisk, Fuse};
use crate::world::{Memory, ORDER, assert_exact, open, read, reclaim, root, store};

#[tokio::test]
async fn a_body_may_be_as_long_as_allowed_and_no_longer() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    let order = UploadOrder { bytes_max: 100_000, ..ORDER };
    let image = noise(1, 100_001);
    let longer = transfer.upload(order.clone(), stream_of(&image, 999)).await;
    assert!(matches!(longer, Err(UploadError::TooLarge { max: 100_000 })));
    assert_eq!(memory.packs.list().unwrap(), []);
    let announced = UploadOrder { announced_bytes: Some(100_001), ..order.clone() };
    assert!(matches!(
        transfer.upload(announced, stream_of(&[], 1)).await,
        Err(UploadError::TooLarge { max: 100_000 })
    ));
    assert!(transfer.upload(order, stream_of(&image[1..], 999)).await.is_ok());
}

#[tokio::test]
async fn a_body_must_be_as_long_as_announced() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    for (announced, bytes) in [(1000, 999), (1000, 1001), (1, 0), (0, 1)] {
        let order = UploadOrder { announced_bytes: Some(announced), ..ORDER };
        let wrong = transfer.upload(order, stream_of(&noise(1, bytes), 300)).await;
        assert!(matches!(wrong, Err(UploadError::WrongSize { announced: said, .. }) if said == announced));
    }
    let order = UploadOrder { announced_bytes: Some(1000), ..ORDER };
    assert!(transfer.upload(order, stream_of(&noise(1, 1000), 300)).await.is_ok());
}

#[tokio::test]
async fn one_upload_more_than_allowed_is_told_to_come_back() {
    let memory = Memory::new();
    let settings = TransferSettings { uploads_max: 2, ..TransferSettings::default() };
    let transfer = Transfer::open(settings, memory.disk(), Workers::Inline, 0, None).await.unwrap();
    let body = async || {
        transfer.upload(ORDER, Box::pin(futures::stream::pending::<Result<_, std::io::Error>>())).await
    };
    let mut waiting = [Box::pin(body()), Box::pin(body())];
    for upload in &mut waiting {
        assert!(futures::poll!(upload).is_pending());
    }
    assert_eq!(transfer.usage().uploads, 2);
    assert!(matches!(store(&transfer, b"third").await, Err(UploadError::Busy)));
    drop(waiting);
    assert!(store(&transfer, b"third").await.is_ok());
}

/// F-D8: full at any step, and space again later.
#[tokio::test]
async fn a_full_disk_refuses_cleanly_and_recovers() {
    let (small, big) = (noise(1, 200_000), noise(2, 2_500_000));
    for at in 0.. {
        let disk = FaultyDisk::new(Fuse::Safe);
        let transfer = open(disk.disk(), Workers::Inline).await.unwrap();
        let name = root(&store(&transfer, &small).await.unwrap());
        disk.rewire(Fuse::Full { at });
        let refused = store(&transfer, &big).await;
        disk.rewire(Fuse::Safe);
        if refused.is_ok() {
            assert!(at > 3, "there are several writes to fail");
            return;
        }
        assert!(matches!(refused, Err(UploadError::Full)), "full at write {at}: {refused:?}");
        reclaim(&transfer, &[name]).await;
        assert!(read(&transfer, name, 0..200_000).await.unwrap() == small);
        let again = store(&transfer, &big).await.unwrap();
        assert!(read(&transfer, root(&again), 0..2_500_000).await.unwrap() == big);
        reclaim(&transfer, &[name, root(&again)]).await;
        assert_exact(&transfer, &disk, &[&small, &big]).await;
    }
}

/// F-D8: an upload that fails half-way into the index while a reclaim goes on is finished by the next one,
/// or by the next start.
#[tokio::test]
async fn a_reclaim_does_not_sweep_what_a_full_disk_left_unfinished() {
    let (small, big) = (noise(1, 200_000), noise(2, 2_500_000));
    for at in 0.. {
        let disk = FaultyDisk::new(Fuse::Safe);
        let transfer = open(disk.disk(), Workers::Inline).await.unwrap();
        let name = root(&store(&transfer, &small).await.unwrap());
        let refused = AtomicBool::new(false);
        let while_it_asks = async |roots: Vec<_>| {
            disk.rewire(Fuse::Full { at });
            refused.store(store(&transfer, &big).await.is_err(), Ordering::Relaxed);
            disk.rewire(Fuse::Safe);
            Ok::<_, std::convert::Infallible>(vec![true; roots.len()])
        };
        transfer.reclaim(while_it_asks).await.unwrap();
        drop(transfer);
        let transfer = open(disk.disk(), Workers::Inline).await.expect("it starts again");
        if !refused.into_inner() {
            assert!(at > 3, "there are several writes to fail");
            return;
        }
        reclaim(&transfer, &[name]).await;
        assert_exact(&transfer, &disk, &[&small]).await;
    }
}
