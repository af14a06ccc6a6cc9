//! `/v2/cluster`: for administrators, and strict about what it takes.

use serde_json::json;

use crate::node::{node, node_with_users};

/// SEC-30: nothing about the cluster for whoever is no administrator.
#[tokio::test]
async fn only_administrators_see_and_change_the_cluster() {
    let node = node_with_users().await;
    for (method, path) in [
        ("GET", "/v2/cluster"),
        ("POST", "/v2/cluster/tokens"),
        ("POST", "/v2/cluster/members/1/promote"),
        ("POST", "/v2/cluster/members/1/demote"),
        ("POST", "/v2/cluster/members/1/transfer-leader"),
        ("DELETE", "/v2/cluster/members/1"),
    ] {
        node.user("max").send(method, path, "").await.expect(403);
        node.send(method, path, "").await.expect(401);
    }
}

#[tokio::test]
async fn a_node_alone_describes_itself_and_cannot_remove_itself() {
    let node = node().await;
    let status = node.get("/v2/cluster").await.expect(200).json();
    let members = status["status"]["members"].as_array().unwrap().clone();
    assert_eq!(members.len(), 1);
    assert_eq!(status["status"]["leader"], members[0]["node"]);
    let id = members[0]["node"].as_str().unwrap();
    for (method, action) in [("DELETE", ""), ("POST", "/demote")] {
        let path = format!("/v2/cluster/members/{id}{action}");
        node.send(method, &path, "").await.expect(409); // the last voter
    }
    node.send("DELETE", "/v2/cluster/members/nobody", "").await.expect(404);
    node.send("DELETE", "/v2/cluster/members/%2e%2e%2f", "").await.expect(404);
    node.send("POST", "/v2/cluster/members/0/promote", "").await.expect(404);
}

/// A node without a peer port can let nobody in, and says what to do.
#[tokio::test]
async fn token_requests_are_checked() {
    let node = node().await;
    let node = node.with("content-type", "application/json");
    node.send("POST", "/v2/cluster/tokens", "{}").await.expect(409);
    for bad in [
        json!([]),
        json!({"role": "king"}),
        json!({"role": 1}),
        json!({"site": "x".repeat(256)}),
        json!({"site": "a\nb"}),
        json!({"rack": {}}),
        json!({"expires_s": 0}),
        json!({"expires_s": -1}),
        json!({"expires_s": 1e300}),
        json!({"expires_s": "soon"}),
        json!({"expires_s": 99_999_999}),
        json!({"secret": "mine"}),
    ] {
        node.send("POST", "/v2/cluster/tokens", bad.to_string()).await.expect(400);
    }
}

/// A stale answer is had on request only, and admits to be one.
#[tokio::test]
async fn a_stale_answer_says_so_and_a_fresh_one_does_not() {
    let node = node().await;
    let id = node.create(json!({"name": "n"})).await;
    let path = format!("/v2/images/{id}");
    assert_eq!(node.get(&path).await.expect(200).header("x-peerglass-stale"), None);
    let stale = node.with("x-peerglass-read", "Stale-OK").get(&path).await.expect(200);
    assert!(stale.header("x-peerglass-stale").unwrap().starts_with("applied="));
    let other = node.with("x-peerglass-read", "fresh").get(&path).await.expect(200);
    assert_eq!(other.header("x-peerglass-stale"), None);
    // What changes something is never decided on an old state.
    let deleted = node.with("x-peerglass-read", "stale-ok").send("DELETE", &path, "").await.expect(204);
    assert_eq!(deleted.header("x-peerglass-stale"), None);
}
