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
        ("GET", "/v2/cluster/images/1"),
        ("POST", "/v2/cluster/images/1/prefetch"),
        ("POST", "/v2/cluster/images/1/pin"),
        ("POST", "/v2/cluster/images/1/unpin"),
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

#[tokio::test]
async fn a_node_alone_says_which_images_it_has_and_fetches_none() {
    let node = node().await;
    let image = node.create(json!({"disk_format": "raw", "container_format": "bare"})).await;
    let path = format!("/v2/cluster/images/{image}");
    assert_eq!(node.get(&path).await.expect(200).json()["copies"], json!([]));
    let json_node = node.with("content-type", "application/json");
    json_node.send("POST", &format!("{path}/prefetch"), "{}").await.expect(409); // no data yet
    node.put_file(&image, "bytes").await.expect(204);
    let said = node.get(&path).await.expect(200).json();
    assert_eq!(said["size"], 5);
    assert_eq!(said["copies"][0]["state"], "whole");
    assert_eq!(said["copies"][0]["pieces"], said["copies"][0]["pieces_of"]);
    let asked = json_node.send("POST", &format!("{path}/prefetch"), "{}").await.expect(202).json();
    assert_eq!(asked["nodes"], json!([]));
    for (bad, status) in
        [("[]", 400), ("{\"site\": 1}", 400), ("{\"rack\": \"x\"}", 400), ("{\"site\": \"x\"}", 404)]
    {
        json_node.send("POST", &format!("{path}/prefetch"), bad).await.expect(status);
    }
    node.get("/v2/cluster/images/no-id").await.expect(404);
}

#[tokio::test]
async fn an_image_is_pinned_to_sites_that_there_are() {
    let node = node().await;
    let image = node.create(json!({"disk_format": "raw", "container_format": "bare"})).await;
    let path = format!("/v2/cluster/images/{image}");
    let json_node = node.with("content-type", "application/json");
    let pins = async || node.get(&path).await.expect(200).json()["pins"].clone();
    assert_eq!(pins().await, json!([]));
    let (pin, unpin) = (format!("{path}/pin"), format!("{path}/unpin"));
    // This node's site has no name, and so stands for every node.
    let pinned = json_node.send("POST", &pin, "{}").await.expect(200).json();
    assert_eq!((pinned, pins().await), (json!({"site": ""}), json!([""])));
    for (bad, status) in
        [("[]", 400), ("{\"site\": 1}", 400), ("{\"rack\": \"x\"}", 400), ("{\"site\": \"x\"}", 404)]
    {
        json_node.send("POST", &pin, bad).await.expect(status);
    }
    json_node.send("POST", &unpin, "{\"site\": \"x\"}").await.expect(404);
    json_node.send("POST", &unpin, "{\"site\": \"\"}").await.expect(200);
    json_node.send("POST", &unpin, "{}").await.expect(404);
    assert_eq!(pins().await, json!([]));
    json_node.send("POST", "/v2/cluster/images/no-id/pin", "{}").await.expect(404);
    node.put_file(&image, "bytes").await.expect(204);
    assert_eq!(node.get(&path).await.expect(200).json()["copies"][0]["keeping"], "kept");
}

#[tokio::test]
async fn a_scraper_reads_what_the_node_has_done() {
    let node = node().await;
    let image = node.create(json!({"disk_format": "raw", "container_format": "bare"})).await;
    node.put_file(&image, "bytes").await.expect(204);
    node.get(&format!("/v2/images/{image}/file")).await.expect(200);
    let page = node.get("/metrics").await.expect(200);
    assert!(page.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    for line in [
        "peerglass_raft_is_leader 1",
        "peerglass_raft_voters 1",
        "peerglass_cache_hits_total 1",
        "peerglass_swarm_received_bytes_total{scope=\"wan\",transport=\"tcp\"} 0",
        "peerglass_uploads 0",
        "# EOF",
    ] {
        assert!(page.lines().any(|said| said == line), "{line}:\n{page}");
    }
    node.send("POST", "/metrics", "").await.expect(405);
}
