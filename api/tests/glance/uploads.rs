//! Uploads that race, break off, stall or lose their image: the record is never stuck.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::Notify;

use crate::node::{Node, node, raw};

type Piece = Result<Bytes, std::io::Error>;

/// A body that sends `first`, then waits for `go`, then ends as `last` says.
fn held(first: &'static str, go: Arc<Notify>, last: Piece) -> Body {
    let rest = futures::stream::once(async move {
        go.notified().await;
        last
    });
    let first = futures::stream::iter([Ok(Bytes::from(first))]);
    Body::from_stream(Box::pin(futures::StreamExt::chain(first, rest)))
}

async fn until_status(node: &Node, id: &str, status: &str) {
    for _ in 0..1000 {
        if node.show(id).await["status"] == status {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{id} did not become {status}: {}", node.show(id).await);
}

/// RB-43: exactly one of two wins, and the bytes are the winner's.
#[tokio::test]
async fn of_two_uploads_one_wins() {
    let node = node().await;
    let id = node.create(raw()).await;
    let go = Arc::new(Notify::new());
    let first = node.put_file(&id, held("first ", Arc::clone(&go), Ok("upload".into())));
    let second = async {
        until_status(&node, &id, "saving").await;
        node.get(&format!("/v2/images/{id}/file")).await.expect(204);
        node.put_file(&id, "second").await.expect(409);
        go.notify_one();
    };
    let (first, ()) = tokio::join!(first, second);
    first.expect(204);
    assert_eq!(node.get(&format!("/v2/images/{id}/file")).await.text(), "first upload");
    let id = node.create(raw()).await;
    let attempts = (0..8).map(|_| node.put_file(&id, "same"));
    let mut statuses: Vec<u16> =
        futures::future::join_all(attempts).await.iter().map(|reply| reply.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 409, 409, 409, 409, 409, 409, 409]);
}

/// RB-09: the client's connection breaks in the middle.
#[tokio::test]
async fn a_broken_body_returns_the_image_to_queued() {
    let node = node().await;
    let id = node.create(raw()).await;
    let go = Arc::new(Notify::new());
    go.notify_one();
    let broken = held("half", go, Err(std::io::ErrorKind::ConnectionReset.into()));
    node.put_file(&id, broken).await.expect(400);
    assert_eq!(node.show(&id).await["status"], "queued");
    node.put_file(&id, "whole").await.expect(204);
}

/// A server drops the handler when the client hangs up; the upload must still be wound up.
#[tokio::test]
async fn a_dropped_request_returns_the_image_to_queued() {
    let node = node().await;
    let id = node.create(raw()).await;
    let go = Arc::new(Notify::new());
    let body = held("half", Arc::clone(&go), Err(std::io::ErrorKind::ConnectionReset.into()));
    tokio::select! {
        biased;
        _ = node.put_file(&id, body) => panic!("the upload waits for its body"),
        () = until_status(&node, &id, "saving") => {}
    }
    go.notify_one();
    until_status(&node, &id, "queued").await;
    node.put_file(&id, "whole").await.expect(204);
}

/// RB-13: a byte a second keeps no upload alive.
#[tokio::test(start_paused = true)]
async fn a_trickle_is_cut_off() {
    let node = node().await;
    let id = node.create(raw()).await;
    let trickle = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from("x")), ()))
    });
    let begun = tokio::time::Instant::now();
    node.put_file(&id, Body::from_stream(Box::pin(trickle))).await.expect(408);
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert_eq!(node.show(&id).await["status"], "queued");
    let json = futures::stream::pending::<Piece>();
    node.send("POST", "/v2/images", Body::from_stream(Box::pin(json))).await.expect(408);
}

/// The image goes while its bytes come.
#[tokio::test]
async fn an_image_deleted_during_the_upload_is_gone() {
    let node = node().await;
    let id = node.create(raw()).await;
    let go = Arc::new(Notify::new());
    let upload = node.put_file(&id, held("half", Arc::clone(&go), Ok("whole".into())));
    let delete = async {
        until_status(&node, &id, "saving").await;
        node.delete(&format!("/v2/images/{id}")).await.expect(204);
        go.notify_one();
    };
    let (upload, ()) = tokio::join!(upload, delete);
    upload.expect(410);
    node.get(&format!("/v2/images/{id}")).await.expect(404);
}

/// Metadata can be changed while bytes come, and neither change is lost.
#[tokio::test]
async fn edits_during_an_upload_last() {
    let node = node().await;
    let id = node.create(raw()).await;
    let go = Arc::new(Notify::new());
    let upload = node.put_file(&id, held("half", Arc::clone(&go), Ok("whole".into())));
    let edit = async {
        until_status(&node, &id, "saving").await;
        let rename = json!([{"op": "replace", "path": "/name", "value": "renamed"}]);
        node.patch(&id, crate::node::V21, &rename).await.expect(200);
        let format = json!([{"op": "replace", "path": "/disk_format", "value": "qcow2"}]);
        node.patch(&id, crate::node::V21, &format).await.expect(403);
        node.send("PUT", &format!("/v2/images/{id}/tags/t"), "").await.expect(204);
        node.send("POST", &format!("/v2/images/{id}/actions/deactivate"), "").await.expect(403);
        go.notify_one();
    };
    let (upload, ()) = tokio::join!(upload, edit);
    upload.expect(204);
    let image = node.show(&id).await;
    assert_eq!(
        (&image["name"], &image["tags"], &image["status"]),
        (&json!("renamed"), &json!(["t"]), &json!("active"))
    );
}
