//! The catalog's disk fails while it decides: nobody knows whether the command lasts.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use peerglass_api::{ApiSettings, Auth};
use peerglass_catalog::keyspace::{BoxFuture, Direction, Entries, KeyRange, Read};
use peerglass_catalog::{Batch, Fault, Keyspace, MemoryKeyspace};
use peerglass_consensus::{Consensus, ConsensusDisk, ConsensusSettings};
use tokio::sync::Notify;
use tracing::Level;

use crate::access::Log;
use crate::node::{Node, node_on, raw};

/// A log whose syncs fail from the moment it is told to.
#[derive(Default)]
struct Breakable {
    inner: MemoryKeyspace,
    broken: AtomicBool,
}

impl Read for Breakable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.inner.get(key)
    }
    fn scan(&self, range: KeyRange, direction: Direction) -> Entries<'_> {
        self.inner.scan(range, direction)
    }
}

impl Keyspace for Breakable {
    fn view(&self, look: &mut dyn FnMut(&dyn Read)) {
        self.inner.view(look);
    }
    fn write(&self, batch: Batch) -> Result<(), Fault> {
        self.inner.write(batch)
    }
    fn sync(&self) -> BoxFuture<'_, Result<(), Fault>> {
        let broken = self.broken.load(Ordering::SeqCst);
        Box::pin(async move { if broken { Err(Fault::Io(std::io::Error::other("no"))) } else { Ok(()) } })
    }
}

async fn node_on_breakable() -> (Node, Arc<Breakable>) {
    let log = Arc::new(Breakable::default());
    let disk = ConsensusDisk { log: Arc::clone(&log) as _, state: Arc::new(MemoryKeyspace::new()) };
    let consensus = Consensus::open(ConsensusSettings::default(), disk, None, 1).await.unwrap();
    (node_on(consensus, ApiSettings::default(), Auth::None).await, log)
}

async fn reclaim_all(node: &Node) -> u64 {
    let nobody_names = |roots: Vec<_>| async move { Ok::<_, Infallible>(vec![false; roots.len()]) };
    node.transfer.reclaim(nobody_names).await.unwrap().manifests
}

/// The bytes are durable, and whether the image names them is not known: they must stay.
#[tokio::test]
async fn bytes_whose_announcement_is_in_doubt_are_kept() {
    let (lines, _guard) = Log::json(Level::INFO);
    let (node, log) = node_on_breakable().await;
    let node = node.with("x-openstack-request-id", "req-doubt");
    let id = node.create(raw()).await;
    let go = Arc::new(Notify::new());
    let (last, breaking) = (Arc::clone(&go), async {
        while node.show(&id).await["status"] != "saving" {
            tokio::task::yield_now().await;
        }
        log.broken.store(true, Ordering::SeqCst);
        go.notify_one();
    });
    let pieces = futures::stream::once(async move {
        last.notified().await;
        Ok::<_, std::io::Error>(Bytes::from("precious"))
    });
    let upload = node.put_file(&id, Body::from_stream(Box::pin(pieces)));
    let (reply, ()) = tokio::join!(upload, breaking);
    let reply = reply.expect(503);
    assert!(reply.header("retry-after").is_some());
    let ended = tokio::time::timeout(Duration::from_secs(20), node.api.finish_uploads()).await;
    ended.expect("an upload that cannot be settled does not hold up the end");
    assert_eq!(reclaim_all(&node).await, 0);
    assert!(node.transfer.usage().referenced_bytes >= 8);
    for message in ["request failed", "image not released yet"] {
        let line = lines.lines().into_iter().find(|line| line["message"] == message).unwrap();
        assert_eq!(line["span"]["request_id"], "req-doubt", "{line}");
    }
}

/// The same disk fails before a byte was read: nothing to keep, and the client is told to try again.
#[tokio::test]
async fn an_upload_that_may_have_begun_ends() {
    let (node, log) = node_on_breakable().await;
    let id = node.create(raw()).await;
    log.broken.store(true, Ordering::SeqCst);
    node.put_file(&id, "bytes").await.expect(503);
    let ended = tokio::time::timeout(Duration::from_secs(20), node.api.finish_uploads()).await;
    ended.expect("an upload that cannot be settled does not hold up the end");
    assert_eq!(node.transfer.usage().referenced_bytes, 0);
}

/// The control: without doubt nothing protects bytes that no image names.
#[tokio::test]
async fn bytes_of_a_settled_upload_are_reclaimed_once_unnamed() {
    let (node, _log) = node_on_breakable().await;
    node.create_with(b"precious").await;
    node.api.finish_uploads().await;
    assert_eq!(reclaim_all(&node).await, 1);
}
