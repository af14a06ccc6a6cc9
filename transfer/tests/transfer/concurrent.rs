//! Uploads side by side, and uploads that are given up.

use std::future::Future;
use std::task::Poll;

use bytes::Bytes;
use futures::{StreamExt, future, stream};
use peerglass_transfer::{PackDisk, UploadError, Workers};

use crate::bodies::{noise, stream_of};
use crate::world::{Memory, ORDER, assert_exact, read, reclaim, root, store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_bytes_at_once_are_one_image_for_all() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Threads).await;
    let image = noise(1, 3 << 20);
    let uploads = (0..6).map(|_| store(&transfer, &image));
    let stored: Vec<_> = future::join_all(uploads).await.into_iter().map(Result::unwrap).collect();
    let name = root(&stored[0]);
    assert!(stored.iter().all(|stored| root(stored) == name));
    assert!(read(&transfer, name, 0..3 << 20).await.unwrap() == image);
    drop(stored);
    reclaim(&transfer, &[name]).await;
    assert_exact(&transfer, &*memory.packs, &[&image]).await;
    assert!(read(&transfer, name, 0..3 << 20).await.unwrap() == image);
}

/// F-P1 seen from the client: it is gone at any moment.
#[tokio::test]
async fn an_upload_dropped_at_any_poll_leaves_nothing() {
    let image = noise(1, 2_500_000);
    for polls in 0.. {
        let memory = Memory::new();
        let transfer = memory.open(Workers::Inline).await;
        // Pending once before every frame, so that there are many polls to stop at.
        let frames = stream_of(&image, 400_000).then(|frame| {
            let mut waited = false;
            future::poll_fn(move |cx| {
                if std::mem::replace(&mut waited, true) {
                    return Poll::Ready(frame.clone());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
        });
        let mut upload = Box::pin(transfer.upload(ORDER, Box::pin(frames)));
        let mut left = polls;
        let done = future::poll_fn(|cx| match upload.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => {
                left -= 1;
                Poll::Pending
            }
        })
        .await;
        drop(upload);
        assert_eq!(transfer.usage().uploads, 0);
        if let Some(done) = done {
            assert!(done.is_ok() && polls > 5, "finished after {polls} polls");
            return;
        }
        assert_eq!(memory.packs.list().unwrap(), [], "dropped after {polls} polls");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    for workers in [Workers::Inline, Workers::Threads] {
        let memory = Memory::new();
        let transfer = memory.open(workers).await;
        let good = stream_of(&noise(1, 3 << 20), 1 << 20).map(|frame| frame.map_err(std::io::Error::other));
        let body = good.chain(stream::iter([Err(std::io::Error::other("reset by peer"))]));
        let failed = transfer.upload(ORDER, body).await;
        assert!(matches!(failed, Err(UploadError::Body(_))));
        // A lane's thread may still hold the pack; stopping waits for it.
        transfer.stop().await;
        drop(transfer);
        let transfer = memory.open(workers).await;
        assert_exact(&transfer, &*memory.packs, &[]).await;
    }
}

#[tokio::test]
async fn stopping_ends_an_upload_that_waits_for_its_client() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    let body = stream_of(&noise(1, 1 << 20), 1 << 20).chain(stream::pending::<Result<Bytes, _>>());
    let (stopped, ()) = future::join(transfer.upload(ORDER, body), transfer.stop()).await;
    assert!(matches!(stopped, Err(UploadError::Stopped)));
    assert_eq!(memory.packs.list().unwrap(), []);
    assert!(matches!(store(&transfer, b"late").await, Err(UploadError::Stopped)));
}
