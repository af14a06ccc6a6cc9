//! Tags, one at a time.

use serde_json::json;

use crate::node::{node, node_with};
use peerglass_api::{ApiSettings, Auth};

#[tokio::test]
async fn tags_are_added_once_and_removed_once() {
    let node = node().await;
    let id = node.create(json!({})).await;
    let path = |tag: &str| format!("/v2/images/{id}/tags/{tag}");
    for tag in ["a", "a", "A", "b%20c", "%C3%A9", "x%2Fy"] {
        let reply = node.send("PUT", &path(tag), "").await.expect(204);
        assert!(reply.body.is_empty());
    }
    assert_eq!(node.show(&id).await["tags"], json!(["A", "a", "b c", "x/y", "é"]));
    node.delete(&path("a")).await.expect(204);
    node.delete(&path("a")).await.expect(404);
    node.delete(&path("x%2Fy")).await.expect(204);
    assert_eq!(node.show(&id).await["tags"], json!(["A", "b c", "é"]));
    let reply = node.get(&path("A")).await.expect(405);
    assert_eq!(reply.header("allow"), Some("PUT, DELETE"));
}

/// RB-26.
#[tokio::test]
async fn tags_have_limits() {
    let settings = ApiSettings { image_tag_quota: 2, ..ApiSettings::default() };
    let node = node_with(settings, Auth::None).await;
    let id = node.create(json!({})).await;
    let put = async |tag: &str| node.send("PUT", &format!("/v2/images/{id}/tags/{tag}"), "").await;
    put(&"x".repeat(255)).await.expect(204);
    put(&"x".repeat(256)).await.expect(400);
    put(&"%C3%A9".repeat(255)).await.expect(204);
    put("third").await.expect(413);
    put("%ff").await.expect(400);
    node.send("PUT", &format!("/v2/images/{id}/tags/t"), "body").await.expect(400);
    node.send("PUT", &format!("/v2/images/{id}/tags/"), "").await.expect(404);
    node.send("PUT", "/v2/images/none/tags/t", "").await.expect(404);
}
