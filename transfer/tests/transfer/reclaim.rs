//! Reclaim takes what nobody needs and nothing that somebody does (I-D6, I-D7, I-D13).

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use peerglass_catalog::ManifestRoot;
use peerglass_transfer::{DownloadError, PackDisk, ReclaimError, Workers};

use crate::bodies::{noise, stream_of};
use crate::world::{Memory, ORDER, assert_exact, read, reclaim, root, store};

#[tokio::test]
async fn shared_chunks_outlive_the_image_that_brought_them() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Threads).await;
    let shared = noise(1, 1 << 20);
    let first = [shared.clone(), noise(2, 500_000)].concat();
    let second = [noise(3, 200_000), shared].concat();
    let names =
        [root(&store(&transfer, &first).await.unwrap()), root(&store(&transfer, &second).await.unwrap())];
    let unshared: u64 = first.len() as u64 + second.len() as u64;
    assert!(transfer.usage().stored_bytes < unshared - 700_000, "the shared part is stored once");

    let reclaimed = reclaim(&transfer, &names[1..]).await;
    assert_eq!((reclaimed.manifests, reclaimed.packs), (1, 1));
    assert!(reclaimed.bytes > 400_000, "{reclaimed:?}");
    assert_exact(&transfer, &*memory.packs, &[&second]).await;
    assert!(read(&transfer, names[1], 0..second.len() as u64).await.unwrap() == second);
    assert!(matches!(read(&transfer, names[0], 0..1).await, Err(DownloadError::Missing(_))));

    reclaim(&transfer, &[]).await;
    assert_eq!(memory.packs.list().unwrap(), [], "nothing is named, nothing is left");
    assert_eq!(transfer.usage().chunks, 0);
}

#[tokio::test]
async fn a_stored_image_is_safe_until_it_is_dropped() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    let image = noise(1, 400_000);
    let stored = store(&transfer, &image).await.unwrap();
    let kept = store(&transfer, &image[..200_000]).await.unwrap();
    reclaim(&transfer, &[]).await;
    assert!(read(&transfer, root(&stored), 0..400_000).await.unwrap() == image);
    let kept_name = root(&kept);
    kept.keep();
    drop(stored);
    reclaim(&transfer, &[]).await;
    assert_exact(&transfer, &*memory.packs, &[&image[..200_000]]).await;
    assert!(read(&transfer, kept_name, 0..200_000).await.unwrap() == image[..200_000]);
}

#[tokio::test]
async fn an_open_download_is_served_to_its_end() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    let image = noise(1, 3 << 20);
    let other = noise(2, 3 << 20);
    let name = root(&store(&transfer, &[image.clone(), other].concat()).await.unwrap());
    let name_of_part = root(&store(&transfer, &image).await.unwrap());
    let mut download = transfer.download(name_of_part, 0..3 << 20).await.unwrap();
    let mut got = download.next().await.unwrap().unwrap().to_vec();
    // Moves the chunks that are being read into another pack.
    let reclaimed = reclaim(&transfer, &[]).await;
    assert_eq!((reclaimed.manifests, reclaimed.packs > 0), (1, true));
    assert!(matches!(transfer.download(name, 0..1).await, Err(DownloadError::Missing(_))));
    while let Some(piece) = download.next().await {
        got.extend_from_slice(&piece.unwrap());
    }
    assert!(got == image);
    drop(download);
    reclaim(&transfer, &[]).await;
    assert_eq!(memory.packs.list().unwrap(), []);
}

/// The same bytes are uploaded, named and let go of while reclaim waits for its answer about them.
#[tokio::test]
async fn an_upload_during_the_question_keeps_the_bytes() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    let image = noise(1, 300_000);
    let name = root(&store(&transfer, &image).await.unwrap());
    let others = [noise(2, 50_000), noise(3, 50_000)];
    for other in &others {
        drop(store(&transfer, other).await.unwrap());
    }
    let asked = AtomicUsize::new(0);
    let are_named = async |roots: Vec<ManifestRoot>| {
        drop(store(&transfer, &image).await.unwrap());
        asked.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(vec![false; roots.len()])
    };
    let reclaimed = transfer.reclaim(are_named).await.unwrap();
    assert_eq!((reclaimed.manifests, asked.into_inner()), (2, 1), "asked together, decided one by one");
    assert!(read(&transfer, name, 0..300_000).await.unwrap() == image);
    assert_exact(&transfer, &*memory.packs, &[&image]).await;
}

/// The second group of manifests cannot be asked about: the first is dropped, and the failure is told.
#[tokio::test]
async fn a_question_without_an_answer_keeps_nothing_that_was_answered_before() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    for seed in 0..1030 {
        drop(store(&transfer, &noise(seed, 200)).await.unwrap());
    }
    let asked = Mutex::new(Vec::new());
    let are_named = |roots: Vec<ManifestRoot>| {
        let mut asked = asked.lock().unwrap();
        asked.push(roots.len());
        std::future::ready(match asked.len() {
            1 => Ok(vec![false; roots.len()]),
            _ => Err(std::io::Error::other("no leader")),
        })
    };
    let told = transfer.reclaim(are_named).await;
    assert!(matches!(told, Err(ReclaimError::Unknown(_))), "{told:?}");
    assert_eq!(asked.into_inner().unwrap(), [1024, 6]);
    assert_eq!((memory.packs.list().unwrap().len(), transfer.usage().packs), (6, 6));
    assert_eq!(reclaim(&transfer, &[]).await.manifests, 6);
    assert_eq!(memory.packs.list().unwrap(), []);
}

/// An upload relies on chunks of an image that is deleted and reclaimed while the upload goes on.
#[tokio::test]
async fn chunks_an_upload_relies_on_stay() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    let image = noise(1, 4 << 20);
    drop(store(&transfer, &image).await.unwrap());
    let longer = [image, noise(2, 100_000)].concat();
    let mut frames = stream_of(&longer, 3 << 20);
    let (start, rest) = (frames.next().await.unwrap(), frames.next().await.unwrap());
    let pause = async {
        reclaim(&transfer, &[]).await;
        rest
    };
    let body = futures::stream::iter([start]).chain(futures::stream::once(Box::pin(pause)));
    let stored = transfer.upload(ORDER, Box::pin(body)).await.unwrap();
    reclaim(&transfer, &[]).await;
    assert!(read(&transfer, root(&stored), 0..longer.len() as u64).await.unwrap() == longer);
    drop(stored);
    reclaim(&transfer, &[]).await;
    assert_eq!(memory.packs.list().unwrap(), []);
}

#[tokio::test]
async fn a_reclaim_that_learns_nothing_drops_nothing() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    let name = root(&store(&transfer, &noise(1, 50_000)).await.unwrap());
    let refused = transfer.reclaim(|_| std::future::ready(Err(std::io::Error::other("no leader")))).await;
    assert!(refused.is_err());
    assert!(read(&transfer, name, 0..50_000).await.is_ok());
    // The question was withdrawn, so it can be asked again.
    assert_eq!(reclaim(&transfer, &[]).await.manifests, 1);
}
