//! Sending an image's bytes: what is refused, what is kept.

use axum::body::Body;
use bytes::Bytes;
use peerglass_api::{ApiSettings, Auth};
use serde_json::json;

use crate::node::{node, node_with, raw};

#[tokio::test]
async fn bytes_make_an_image_active() {
    let node = node().await;
    let id = node.create(raw()).await;
    let file = format!("/v2/images/{id}/file");
    node.get(&file).await.expect(204);
    let reply = node.put_file(&id, "0123456789").await.expect(204);
    assert!(reply.body.is_empty());
    let image = node.show(&id).await;
    assert_eq!(image["status"], "active");
    assert_eq!(image["size"], 10);
    assert_eq!(image["checksum"], "781e5e245d69b566979b86e28d23f2c7");
    assert_eq!(image["os_hash_algo"], "sha512");
    assert_eq!(image["os_hash_value"].as_str().unwrap().len(), 128);
    assert_eq!(image["stores"], "peer");
    let got = node.get(&file).await.expect(200);
    assert_eq!(got.text(), "0123456789");
    assert_eq!(got.header("content-length"), Some("10"));
    assert_eq!(got.header("content-md5"), image["checksum"].as_str());
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));
    assert_eq!(got.header("accept-ranges"), Some("bytes"));
}

/// RB-37: Nova makes metadata-only images this way.
#[tokio::test]
async fn no_bytes_are_bytes_too() {
    let node = node().await;
    let id = node.create_with(b"").await;
    let image = node.show(&id).await;
    assert_eq!(
        (&image["status"], &image["size"], &image["virtual_size"]),
        (&json!("active"), &json!(0), &json!(null))
    );
    assert_eq!(image["checksum"], "d41d8cd98f00b204e9800998ecf8427e");
    let got = node.get(&format!("/v2/images/{id}/file")).await.expect(200);
    assert_eq!((got.header("content-length"), got.body.len()), (Some("0"), 0));
    let ranged = node.with("range", "bytes=0-1").get(&format!("/v2/images/{id}/file")).await.expect(416);
    assert_eq!(ranged.header("content-range"), Some("bytes */0"));
}

/// RB-08, RB-38, RB-40: refused before the image is touched.
#[tokio::test]
async fn headers_are_checked_first() {
    let node = node().await;
    let id = node.create(raw()).await;
    let path = format!("/v2/images/{id}/file");
    node.send("PUT", &path, "x").await.expect(415);
    node.with("content-type", "text/plain").send("PUT", &path, "x").await.expect(415);
    node.with("content-type", "application/octet-stream").put_file(&id, "x").await.expect(415);
    for encoding in ["gzip", "br", "gzip, identity"] {
        node.with("content-encoding", encoding).put_file(&id, "x").await.expect(415);
    }
    for size in ["-1", "text", "1.5", "", "99999999999999999999"] {
        node.with("x-openstack-image-size", size).put_file(&id, "x").await.expect(400);
    }
    node.with("x-image-meta-store", "elsewhere").put_file(&id, "x").await.expect(400);
    let differ = node.with("x-openstack-image-size", "2").with("content-length", "1");
    differ.put_file(&id, "x").await.expect(400);
    assert_eq!(node.show(&id).await["status"], "queued");
    let all = node.with("content-encoding", "identity").with("x-image-meta-store", "peer");
    all.with("x-openstack-image-size", "1").put_file(&id, "x").await.expect(204);
}

/// RB-38: a wrong size leaves the image as it was, so that it can be tried again.
#[tokio::test]
async fn a_wrong_size_can_be_tried_again() {
    let node = node().await;
    let id = node.create(raw()).await;
    for size in ["1", "3", "0"] {
        node.with("x-openstack-image-size", size).put_file(&id, "xx").await.expect(400);
        let image = node.show(&id).await;
        assert_eq!((&image["status"], &image["size"]), (&json!("queued"), &json!(null)));
    }
    node.with("x-openstack-image-size", "2").put_file(&id, "xx").await.expect(204);
}

/// RB-39: the cap, and one more byte, announced or not.
#[tokio::test]
async fn the_size_cap_is_exact() {
    let node = node_with(ApiSettings { image_size_cap: 10, ..ApiSettings::default() }, Auth::None).await;
    let id = node.create(raw()).await;
    node.with("x-openstack-image-size", "11").put_file(&id, Body::from_stream(never())).await.expect(413);
    let pieces = ["01234567", "890"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
    node.put_file(&id, Body::from_stream(futures::stream::iter(pieces))).await.expect(413);
    assert_eq!(node.show(&id).await["status"], "queued");
    node.put_file(&id, "0123456789").await.expect(204);
}

/// A body whose first poll fails the test.
fn never() -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    futures::stream::poll_fn(|_| panic!("the body was read"))
}

/// RB-36: refused without reading a byte.
#[tokio::test]
async fn a_refused_upload_reads_no_body() {
    let node = node().await;
    let active = node.create_with(b"bytes").await;
    node.put_file(&active, Body::from_stream(never())).await.expect(409);
    let unformatted = node.create(json!({"disk_format": "raw"})).await;
    node.put_file(&unformatted, Body::from_stream(never())).await.expect(400);
    let absent = "0c0ffee0-0000-4000-8000-00000000000a";
    node.put_file(absent, Body::from_stream(never())).await.expect(404);
}

/// The label must be true, and a refused body leaves nothing behind.
#[tokio::test]
async fn bytes_of_another_format_are_refused() {
    let node = node().await;
    let id = node.create(json!({"disk_format": "qcow2", "container_format": "bare"})).await;
    let reply = node.put_file(&id, vec![0_u8; 4096]).await.expect(415);
    assert!(reply.text().len() > "415 Unsupported Media Type".len() + 10, "{}", reply.text());
    let image = node.show(&id).await;
    assert_eq!((&image["status"], &image["checksum"]), (&json!("queued"), &json!(null)));
    assert_eq!(image.get("stores"), None);
    node.get(&format!("/v2/images/{id}/file")).await.expect(204);
    let ovf = node.create(json!({"disk_format": "qcow2", "container_format": "ovf"})).await;
    node.put_file(&ovf, vec![0_u8; 4096]).await.expect(204);
    assert_eq!(node.show(&ovf).await["virtual_size"], json!(null));
}

/// RB-23.
#[tokio::test]
async fn only_known_stores_can_be_preferred() {
    let node = node().await;
    let id = node.create_with(b"bytes").await;
    node.get(&format!("/v2/images/{id}/file?prefer=peer")).await.expect(200);
    for prefer in ["peer,elsewhere", "elsewhere", ""] {
        node.get(&format!("/v2/images/{id}/file?prefer={prefer}")).await.expect(400);
    }
}
