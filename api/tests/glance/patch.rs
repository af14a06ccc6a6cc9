//! PATCH: both media types, every row of the table, every status.

use peerglass_api::{ApiSettings, Auth};
use serde_json::{Value, json};

use crate::node::{Node, V20, V21, node, node_with, node_with_users, raw};

async fn queued() -> (Node, String) {
    let node = node().await;
    let id = node.create(json!({"name": "n", "k": "v", "tags": ["t"]})).await;
    (node, id)
}

#[tokio::test]
async fn the_table_for_core_members() {
    let (node, id) = queued().await;
    for (name, value) in [
        ("name", json!("new")),
        ("name", json!(null)),
        ("visibility", json!("public")),
        ("protected", json!(true)),
        ("os_hidden", json!(true)),
        ("min_disk", json!(7)),
        ("min_ram", json!(8)),
        ("tags", json!(["a", "b"])),
        ("container_format", json!("bare")),
        ("disk_format", json!("raw")),
        ("owner", json!("other")),
    ] {
        let path = format!("/{name}");
        for op in ["add", "replace"] {
            let changed = node.patch(&id, V21, &json!([{"op": op, "path": path, "value": value}])).await;
            assert_eq!(changed.expect(200).json()[name], value, "{op} {name}");
        }
        let replaced = node.patch(&id, V20, &json!([{"replace": path, "value": value}])).await.expect(200);
        assert_eq!(replaced.json()[name], value);
        node.patch(&id, V20, &json!([{"add": path, "value": value}])).await.expect(409);
        node.patch(&id, V21, &json!([{"op": "remove", "path": path}])).await.expect(403);
        node.patch(&id, V20, &json!([{"remove": path}])).await.expect(403);
    }
}

#[tokio::test]
async fn the_table_for_custom_properties() {
    let (node, id) = queued().await;
    let v21 = |op: &str, name: &str| json!([{"op": op, "path": format!("/{name}"), "value": "w"}]);
    node.patch(&id, V21, &v21("replace", "new")).await.expect(409);
    node.patch(&id, V21, &v21("remove", "new")).await.expect(409);
    node.patch(&id, V20, &json!([{"replace": "/new", "value": "w"}])).await.expect(409);
    node.patch(&id, V20, &json!([{"remove": "/new"}])).await.expect(409);
    node.patch(&id, V20, &json!([{"add": "/k", "value": "w"}])).await.expect(409);
    assert_eq!(node.show(&id).await["k"], "v", "what is refused changes nothing");
    assert_eq!(node.patch(&id, V21, &v21("add", "k")).await.expect(200).json()["k"], "w");
    assert_eq!(node.patch(&id, V21, &v21("add", "new")).await.expect(200).json()["new"], "w");
    node.patch(&id, V20, &json!([{"add": "/other", "value": ""}])).await.expect(200);
    assert_eq!(node.patch(&id, V21, &v21("remove", "k")).await.expect(200).json().get("k"), None);
    let odd = json!([{"op": "add", "path": "/trait:A~1B~0", "value": "x"}]);
    assert_eq!(node.patch(&id, V21, &odd).await.expect(200).json()["trait:A/B~"], "x");
    for name in ["image_id", "context", "extra_properties", "base", "member"] {
        assert_eq!(node.patch(&id, V21, &v21("add", name)).await.expect(200).json()[name], "w");
    }
}

#[tokio::test]
async fn a_patch_is_all_or_nothing_and_keeps_its_order() {
    let (node, id) = queued().await;
    let before = node.show(&id).await;
    let failing = json!([
        {"op": "replace", "path": "/name", "value": "lost"},
        {"op": "remove", "path": "/missing"},
    ]);
    node.patch(&id, V21, &failing).await.expect(409);
    assert_eq!(node.show(&id).await, before);
    assert_eq!(node.patch(&id, V21, &json!([])).await.expect(200).json(), before);
    let moved = json!([
        {"op": "add", "path": "/a", "value": "1"},
        {"op": "replace", "path": "/a", "value": "2"},
        {"op": "remove", "path": "/k"},
        {"op": "add", "path": "/k", "value": "3"},
    ]);
    let after = node.patch(&id, V21, &moved).await.expect(200).json();
    assert_eq!((&after["a"], &after["k"]), (&json!("2"), &json!("3")));
    assert!(after["updated_at"].as_str() > before["updated_at"].as_str());
    assert_eq!(after["created_at"], before["created_at"]);
}

#[tokio::test]
async fn media_types_are_two() {
    let (node, id) = queued().await;
    for media_type in ["application/json-patch+json", "application/json", "application/octet-stream", ""] {
        let reply = node.patch(&id, media_type, &json!([])).await.expect(415);
        let accepted = reply.header("accept-patch").unwrap();
        assert!(accepted.contains(V21) && accepted.contains(V20));
    }
    let twice = node.with("content-type", V21);
    twice.patch(&id, V20, &json!([])).await.expect(415);
    // The operations of one type are not those of the other.
    node.patch(&id, V20, &json!([{"op": "add", "path": "/a", "value": "b"}])).await.expect(400);
}

/// RB-27, RB-28, RB-29 over HTTP; each mistake by itself is in the unit tests.
#[tokio::test]
async fn mistakes_are_named() {
    let (node, id) = queued().await;
    for (patch, status) in [
        (json!({}), 400),
        (json!([{"op": "test", "path": "/name", "value": "n"}]), 400),
        (json!([{"op": "add", "path": "/a/b/c", "value": "x"}]), 400),
        (json!([{"op": "add", "path": "/-/", "value": "x"}]), 400),
        (json!([{"op": "add", "path": "/a~2", "value": "x"}]), 400),
        (json!([{"op": "replace", "path": "/status", "value": "active"}]), 403),
        (json!([{"op": "replace", "path": "/size", "value": 1}]), 403),
        (json!([{"op": "add", "path": "/os_glance_x", "value": "x"}]), 403),
        (json!([{"op": "add", "path": "/stores", "value": "x"}]), 403),
        (json!([{"op": "replace", "path": "/min_ram", "value": -1}]), 400),
        (json!([{"op": "replace", "path": "/min_ram", "value": 2_147_483_648_u64}]), 400),
        (json!([{"op": "replace", "path": "/min_disk", "value": 0.5}]), 400),
        (
            json!([{"op": "add", "path": "/locations/-", "value": {"url": "file:///etc/passwd", "metadata": {}}}]),
            403,
        ),
    ] {
        let reply = node.patch(&id, V21, &patch).await;
        assert_eq!(reply.status, status, "{patch}: {}", reply.text());
    }
    let with_type = node.with("content-type", V21);
    let path = format!("/v2/images/{id}");
    with_type.send("PATCH", &path, "").await.expect(400);
    with_type.send("PATCH", &path, "[").await.expect(400);
    let many: Vec<Value> =
        (0..10_000).map(|n| json!({"op": "add", "path": "/k", "value": n.to_string()})).collect();
    assert_eq!(node.patch(&id, V21, &Value::Array(many)).await.expect(200).json()["k"], "9999");
    node.patch("0c0ffee0-0000-4000-8000-00000000000a", V21, &json!([])).await.expect(404);
}

/// RB-44: the bytes were judged by these formats.
#[tokio::test]
async fn formats_are_frozen_once_bytes_came() {
    let node = node().await;
    let id = node.create_with(b"bytes").await;
    for name in ["disk_format", "container_format"] {
        let patch = json!([{"op": "replace", "path": format!("/{name}"), "value": null}]);
        node.patch(&id, V21, &patch).await.expect(403);
    }
}

#[tokio::test]
async fn quotas_count_only_what_grows() {
    let settings = ApiSettings { image_property_quota: 1, image_tag_quota: 1, ..ApiSettings::default() };
    let node = node_with(settings, Auth::None).await;
    let id = node.create(json!({"a": "1", "tags": ["t"]})).await;
    let set = |name: &str| json!([{"op": "add", "path": format!("/{name}"), "value": "2"}]);
    node.patch(&id, V21, &set("a")).await.expect(200);
    node.patch(&id, V21, &set("b")).await.expect(413);
    let tags = json!([{"op": "replace", "path": "/tags", "value": ["t", "u"]}]);
    node.patch(&id, V21, &tags).await.expect(413);
    let swapped = json!([{"op": "remove", "path": "/a"}, {"op": "add", "path": "/b", "value": "2"}]);
    node.patch(&id, V21, &swapped).await.expect(200);
}

#[tokio::test]
async fn some_members_need_more_rights() {
    let node = node_with_users().await;
    let (alice, root) = (node.user("alice"), node.user("root"));
    let id = alice.create(raw()).await;
    let set =
        |name: &str, value: Value| json!([{"op": "replace", "path": format!("/{name}"), "value": value}]);
    let add_owner = json!([{"op": "add", "path": "/owner", "value": "bob"}]);
    alice.patch(&id, V21, &set("owner", json!("bob"))).await.expect(403);
    alice.patch(&id, V21, &add_owner).await.expect(403);
    alice.patch(&id, V21, &set("visibility", json!("public"))).await.expect(403);
    alice.patch(&id, V21, &set("visibility", json!("community"))).await.expect(200);
    root.patch(&id, V21, &set("visibility", json!("public"))).await.expect(200);
    root.patch(&id, V21, &set("owner", json!("bob"))).await.expect(200);
    alice.patch(&id, V21, &set("name", json!("x"))).await.expect(403);
}

/// Two clients edit at once; neither edit is lost.
#[tokio::test]
async fn edits_at_once_both_last() {
    let (node, id) = queued().await;
    let edits = (0..50).map(|n| {
        let (node, id) = (node.clone(), id.clone());
        async move {
            let patch = json!([{"op": "add", "path": format!("/p{n}"), "value": "x"}]);
            node.patch(&id, V21, &patch).await.expect(200);
        }
    });
    futures::future::join_all(edits).await;
    let image = node.show(&id).await;
    assert!((0..50).all(|n| image[format!("p{n}")] == "x"));
}
