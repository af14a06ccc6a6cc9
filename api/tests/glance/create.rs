//! Creating records: every member, every refusal.

use peerglass_api::{ApiSettings, Auth};
use serde_json::{Value, json};

use crate::node::{Node, node, node_with, node_with_users};

async fn refused(node: &Node, document: Value, status: u16) {
    let reply = node.post("/v2/images", &document).await;
    assert_eq!(reply.status, status, "{document}: {}", reply.text());
}

#[tokio::test]
async fn an_empty_document_makes_a_complete_record() {
    let node = node().await.with("host", "h:9292");
    let reply = node.post("/v2/images", &json!({})).await.expect(201);
    let image = reply.json();
    let id = image["id"].as_str().unwrap();
    assert_eq!(reply.header("location").unwrap(), format!("http://h:9292/v2/images/{id}"));
    assert_eq!(reply.header("openstack-image-store-ids"), Some("peer"));
    assert_eq!(reply.header("openstack-image-import-methods"), None);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let wanted = json!({
        "id": id, "name": null, "status": "queued", "visibility": "shared", "protected": false,
        "os_hidden": false, "owner": null, "container_format": null, "disk_format": null, "min_disk": 0,
        "min_ram": 0, "tags": [], "size": null, "virtual_size": null, "checksum": null,
        "os_hash_algo": null, "os_hash_value": null, "created_at": image["created_at"],
        "updated_at": image["created_at"], "self": format!("/v2/images/{id}"),
        "file": format!("/v2/images/{id}/file"), "schema": "/v2/schemas/image",
    });
    assert_eq!(image, wanted);
    assert_eq!(node.show(id).await, wanted);
    assert_eq!(image["created_at"].as_str().unwrap().len(), "2024-03-01T12:00:00Z".len());
}

#[tokio::test]
async fn every_member_is_kept_as_given() {
    let node = node().await;
    let document = json!({
        "id": "0C0ffee0-0000-4000-8000-00000000000a", "name": "n\u{1f600}<b>\u{202e}", "visibility": "public",
        "protected": true, "os_hidden": true, "owner": "p", "container_format": "ovf", "disk_format": "vmdk",
        "min_disk": 2_147_483_647, "min_ram": 1, "tags": ["b", "a", "b"],
        "owner_specified.openstack.md5": "", "trait:X": "required", "__proto__": "x", "\u{1f600}": "\u{1f600}",
    });
    let image = node.post("/v2/images", &document).await.expect(201).json();
    for (name, value) in document.as_object().unwrap() {
        if name != "tags" {
            assert_eq!(image[name], *value, "{name}");
        }
    }
    assert_eq!(image["tags"], json!(["a", "b"]));
    let raw = node.get("/v2/images/0C0ffee0-0000-4000-8000-00000000000a").await.expect(200).text();
    assert!(raw.contains('\u{1f600}'), "non-ASCII text is not escaped");
}

/// RB-01 to RB-08, RB-24 to RB-29.
#[tokio::test]
async fn mistakes_are_named() {
    let node = node().await;
    node.send("POST", "/v2/images", "").await.expect(400);
    node.send("POST", "/v2/images", "{").await.expect(400);
    refused(&node, json!([]), 400).await;
    refused(&node, json!("x"), 400).await;
    for (member, value) in [
        ("name", json!(7)),
        ("name", json!("x".repeat(256))),
        ("owner", json!("x".repeat(256))),
        ("visibility", json!("secret")),
        ("visibility", json!(null)),
        ("protected", json!("true")),
        ("protected", json!(null)),
        ("os_hidden", json!(1)),
        ("disk_format", json!("exe")),
        ("container_format", json!("")),
        ("min_disk", json!(-1)),
        ("min_disk", json!(1.5)),
        ("min_disk", json!("1")),
        ("min_ram", json!(2_147_483_648_u64)),
        ("min_ram", json!(null)),
        ("tags", json!("x")),
        ("tags", json!([1])),
        ("tags", json!(["x".repeat(256)])),
        ("id", json!("nope")),
        ("id", json!("{0c0ffee0-0000-4000-8000-00000000000a}")),
        ("id", json!(null)),
        ("size", json!("big")),
        ("a", json!(1)),
        ("a", json!(null)),
        ("a", json!(["x"])),
        ("a", json!({"b": "c"})),
        ("", json!("x")),
    ] {
        let reply = node.post("/v2/images", &json!({member: value})).await;
        assert_eq!(reply.status, 400, "{member}: {value}: {}", reply.text());
    }
    refused(&node, json!({"x".repeat(256): "v"}), 400).await;
    node.post("/v2/images", &json!({"x".repeat(255): "v".repeat(70_000)})).await.expect(201);
    let text = node.post("/v2/images", &json!({"disk_format": "exe"})).await.text();
    assert!(text.contains("'image'") && text.contains("disk_format") && text.contains("exe"), "{text}");
}

#[tokio::test]
async fn the_service_s_own_members_are_refused() {
    let node = node().await;
    for name in ["direct_url", "self", "file", "schema", "stores"] {
        refused(&node, json!({name: 1}), 403).await;
    }
    for name in ["location", "deleted", "deleted_at", "os_glance_x", "os_glancex"] {
        refused(&node, json!({name: "x"}), 403).await;
    }
    for name in ["created_at", "updated_at", "status", "checksum", "os_hash_algo", "os_hash_value"] {
        refused(&node, json!({name: "x"}), 403).await;
    }
    refused(&node, json!({"size": 1}), 403).await;
    refused(&node, json!({"virtual_size": null}), 403).await;
    refused(&node, json!({"locations": []}), 403).await;
}

/// An id is used once, even if its image is gone.
#[tokio::test]
async fn an_id_is_never_used_again() {
    let node = node().await;
    let id = "0c0ffee0-0000-4000-8000-00000000000a";
    node.post("/v2/images", &json!({"id": id})).await.expect(201);
    refused(&node, json!({"id": id}), 409).await;
    node.post("/v2/images", &json!({"id": id.to_uppercase()})).await.expect(201);
    node.delete(&format!("/v2/images/{id}")).await.expect(204);
    refused(&node, json!({"id": id}), 409).await;
}

/// RB-25, RB-26: at the quota and one above.
#[tokio::test]
async fn quotas_hold() {
    let node = node().await;
    let tags = |count: usize| json!({"tags": (0..count).map(|n| n.to_string()).collect::<Vec<_>>()});
    let properties = |count: usize| (0..count).map(|n| (format!("p{n}"), json!("v"))).collect::<Value>();
    node.post("/v2/images", &tags(128)).await.expect(201);
    refused(&node, tags(129), 413).await;
    node.post("/v2/images", &properties(128)).await.expect(201);
    refused(&node, properties(129), 413).await;
    let settings = ApiSettings { image_tag_quota: -1, image_property_quota: 0, ..ApiSettings::default() };
    let unlimited = node_with(settings, Auth::None).await;
    unlimited.post("/v2/images", &tags(1000)).await.expect(201);
    refused(&unlimited, properties(1), 413).await;
}

#[tokio::test]
async fn rights_are_checked_before_the_record_is_made() {
    let node = node_with_users().await;
    let alice = node.user("alice");
    let image = alice.post("/v2/images", &json!({})).await.expect(201).json();
    assert_eq!(image["owner"], "alice");
    alice.post("/v2/images", &json!({"owner": "alice", "visibility": "community"})).await.expect(201);
    refused(&alice, json!({"owner": "bob"}), 403).await;
    refused(&alice, json!({"owner": null}), 403).await;
    refused(&alice, json!({"visibility": "public"}), 403).await;
    refused(&node.user("rita"), json!({}), 403).await;
    let root = node.user("root");
    root.post("/v2/images", &json!({"owner": "bob", "visibility": "public"})).await.expect(201);
    assert_eq!(
        root.post("/v2/images", &json!({"owner": null})).await.expect(201).json()["owner"],
        json!(null)
    );
}

/// RB-35, RB-04, RB-05, RB-06.
#[tokio::test]
async fn large_and_deep_documents_are_refused_in_time() {
    let node = node().await;
    refused(&node, json!({"a": "x".repeat(1 << 20)}), 413).await;
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    node.send("POST", "/v2/images", deep).await.expect(400);
    node.send("POST", "/v2/images", "[".repeat(10 << 20)).await.expect(413);
    let twice = node.send("POST", "/v2/images", r#"{"name": "a", "name": "b"}"#).await.expect(201);
    assert_eq!(twice.json()["name"], "b");
}
