//! Deactivate and reactivate.

use serde_json::json;

use crate::node::{node, node_with_users, raw};

#[tokio::test]
async fn the_actions_switch_between_two_states() {
    let node = node().await;
    let id = node.create_with(b"bytes").await;
    let act = async |action: &str| node.send("POST", &format!("/v2/images/{id}/actions/{action}"), "").await;
    act("reactivate").await.expect(204);
    assert_eq!(node.show(&id).await["status"], "active");
    for _ in 0..2 {
        act("deactivate").await.expect(204);
        assert_eq!(node.show(&id).await["status"], "deactivated");
    }
    act("reactivate").await.expect(204);
    assert_eq!(node.show(&id).await["status"], "active");
    node.send("POST", &format!("/v2/images/{id}/actions/deactivate"), "{}").await.expect(400);
    act("explode").await.expect(404);
    node.send("POST", "/v2/images/none/actions/deactivate", "").await.expect(404);
}

#[tokio::test]
async fn an_image_without_bytes_cannot_be_switched() {
    let node = node().await;
    let id = node.create(json!({})).await;
    for action in ["deactivate", "reactivate"] {
        node.send("POST", &format!("/v2/images/{id}/actions/{action}"), "").await.expect(403);
    }
}

#[tokio::test]
async fn only_administrators_read_a_deactivated_image() {
    let node = node_with_users().await;
    let (alice, root) = (node.user("alice"), node.user("root"));
    let id = alice.create(raw()).await;
    alice.put_file(&id, "bytes").await.expect(204);
    alice.send("POST", &format!("/v2/images/{id}/actions/deactivate"), "").await.expect(204);
    let file = format!("/v2/images/{id}/file");
    alice.get(&file).await.expect(403);
    assert_eq!(root.get(&file).await.expect(200).text(), "bytes");
    assert_eq!(alice.show(&id).await.get("stores"), None);
    assert_eq!(root.show(&id).await["stores"], "peer");
}
