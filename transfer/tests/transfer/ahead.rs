//! An upload that others fetch while it goes on (F-P1, F-N7; I-D1, I-D2, I-D6).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use peerglass_transfer::{
    CopyOrder, PackDisk, StoredImage, TransferSettings, UploadError, UploadOrder, Workers,
};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::bodies::noise;
use crate::world::cluster::{Network, Node};
use crate::world::{ORDER, assert_exact, read, reclaim, root};

const IMAGE: usize = 8 << 20;
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

async fn node(network: &Arc<Network>, id: u64, others: &[u64], resume_within: Duration) -> Node {
    let settings = TransferSettings { part_bytes: 512 << 10, resume_within, ..TransferSettings::default() };
    Node::start_set(network, id, others, Workers::Threads, settings).await
}

type Upload = JoinSet<Result<StoredImage, UploadError>>;

/// Begin an upload whose body comes from the sender.
fn upload(node: &Node, copies: usize) -> (UnboundedSender<Result<Bytes, io::Error>>, Upload) {
    let (sends, body) = unbounded();
    let transfer = node.transfer.clone();
    let image = "11111111-2222-4333-8444-555555555555".parse().unwrap();
    let order = UploadOrder { copies: Some(CopyOrder { image, copies }), ..ORDER };
    let mut upload = JoinSet::new();
    upload.spawn(async move { transfer.upload(order, body).await });
    (sends, upload)
}

fn received(node: &Node) -> usize {
    node.transfer.counts().received_bytes.iter().flatten().sum::<u64>() as usize
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn most_of_an_upload_is_elsewhere_before_it_ends_and_is_sent_once() {
    for network in [Network::new(), Network::of_tcp()] {
        let uploader = node(&network, 1, &[2], LONG).await;
        let other = node(&network, 2, &[1], LONG).await;
        let image = noise(1, IMAGE);
        let (sends, mut upload) = upload(&uploader, 1);
        sends.unbounded_send(Ok(Bytes::copy_from_slice(&image[..IMAGE / 2]))).unwrap();
        until("nothing is fetched while the upload goes on", || received(&other) > IMAGE / 4).await;
        sends.unbounded_send(Ok(Bytes::copy_from_slice(&image[IMAGE / 2..]))).unwrap();
        drop(sends);
        let stored = upload.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!(stored.ahead(), [other.id]);
        let name = root(&stored);
        assert!(!other.transfer.holds(name).unwrap(), "it was not asked to yet");
        assert_eq!(uploader.transfer.replicate(name, 1, stored.ahead()).await.unwrap(), [other.id]);
        let received = received(&other);
        assert!(received < IMAGE * 21 / 20, "{received} bytes for {IMAGE}");
        uploader.kill();
        assert!(read(&other.transfer, name, 0..IMAGE as u64).await.unwrap() == image);
        reclaim(&other.transfer, &[name]).await;
        assert_exact(&other.transfer, &*other.memory.packs, &[&image]).await;
    }
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing_elsewhere_either() {
    let network = Network::new();
    let uploader = node(&network, 1, &[2], Duration::ZERO).await;
    let other = node(&network, 2, &[1], Duration::ZERO).await;
    let (sends, mut upload) = upload(&uploader, 1);
    sends.unbounded_send(Ok(Bytes::from(noise(2, IMAGE)))).unwrap();
    until("nothing is fetched while the upload goes on", || received(&other) > IMAGE / 4).await;
    sends.unbounded_send(Err(io::Error::other("the client is gone"))).unwrap();
    assert!(matches!(upload.join_next().await.unwrap().unwrap(), Err(UploadError::Body(_))));
    for node in [&uploader, &other] {
        // What was on its way ends first.
        until("something goes on", || {
            let usage = node.transfer.usage();
            usage.uploads == 0 && usage.pulls == 0
        })
        .await;
        let gone = || async {
            reclaim(&node.transfer, &[]).await;
            node.memory.packs.list().unwrap().is_empty()
        };
        timeout(LONG, async {
            while !gone().await {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .expect("bytes of an upload that was given up stay");
        assert_exact(&node.transfer, &*node.memory.packs, &[]).await;
    }
}

/// A node that dies takes nothing with it, and the upload asks another in the end.
#[tokio::test]
async fn a_node_that_dies_while_it_fetches_ahead_costs_no_upload() {
    let network = Network::new();
    let uploader = node(&network, 1, &[2, 3], LONG).await;
    let dies = node(&network, 2, &[1, 3], LONG).await;
    let third = node(&network, 3, &[1, 2], LONG).await;
    let image = noise(3, IMAGE);
    let (sends, mut upload) = upload(&uploader, 1);
    sends.unbounded_send(Ok(Bytes::copy_from_slice(&image[..IMAGE / 2]))).unwrap();
    until("nothing is fetched while the upload goes on", || received(&dies) > 0).await;
    dies.kill();
    sends.unbounded_send(Ok(Bytes::copy_from_slice(&image[IMAGE / 2..]))).unwrap();
    drop(sends);
    let stored = timeout(LONG, upload.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    let name = root(&stored);
    let held = timeout(LONG, uploader.transfer.replicate(name, 1, stored.ahead())).await.unwrap();
    assert_eq!(held.unwrap(), [third.id]);
    assert!(read(&third.transfer, name, 0..IMAGE as u64).await.unwrap() == image);
}
