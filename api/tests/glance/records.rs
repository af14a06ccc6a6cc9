//! Reading and deleting single records, and the documents about them.

use serde_json::{Value, json};

use crate::node::{node, node_with_users, raw};

/// RB-15, RB-16: whatever stands where an id belongs, it is the id of no image.
#[tokio::test]
async fn what_is_no_id_names_no_image() {
    let node = node().await;
    let id = node.create(json!({})).await;
    for name in [
        "x",
        "my%20image",
        "..",
        "%2e%2e%2f",
        "%00",
        "%E2%80%8B",
        &id[1..],
        &format!("{id}0"),
        &format!("%7B{id}%7D"),
        &id.replace('-', ""),
        "%F0%9F%98%80",
        &format!("{id};x=y"),
        "a%2Fb",
    ] {
        node.get(&format!("/v2/images/{name}")).await.expect(404);
        node.delete(&format!("/v2/images/{name}")).await.expect(404);
        node.get(&format!("/v2/images/{name}/file")).await.expect(404);
    }
    if id != id.to_uppercase() {
        node.get(&format!("/v2/images/{}", id.to_uppercase())).await.expect(404);
    }
    node.get("/v2/images/%ff").await.expect(400);
    for path in ["/v2/images/", "/v2/images//", &format!("/v2/images/{id}/"), "/v2//images"] {
        node.get(path).await.expect(404);
        node.delete(path).await.expect(404);
    }
}

#[tokio::test]
async fn a_deleted_image_is_gone_for_everybody() {
    let node = node_with_users().await;
    let (alice, root) = (node.user("alice"), node.user("root"));
    let id = alice.create(raw()).await;
    alice.put_file(&id, "bytes").await.expect(204);
    let path = format!("/v2/images/{id}");
    let reply = alice.delete(&path).await.expect(204);
    assert!(reply.body.is_empty());
    for user in [&alice, &root] {
        user.get(&path).await.expect(404);
        user.get(&format!("{path}/file")).await.expect(404);
        user.delete(&path).await.expect(404);
    }
}

#[tokio::test]
async fn a_protected_image_is_not_deleted_even_by_an_administrator() {
    let node = node().await;
    let id = node.create(json!({"protected": true})).await;
    node.delete(&format!("/v2/images/{id}")).await.expect(403);
    let unprotect = json!([{"op": "replace", "path": "/protected", "value": false}]);
    node.patch(&id, crate::node::V21, &unprotect).await.expect(200);
    node.delete(&format!("/v2/images/{id}")).await.expect(204);
}

/// Every status row of "403 or 404", for each way to touch an image.
#[tokio::test]
async fn who_may_not_see_gets_404_and_who_may_not_do_gets_403() {
    let node = node_with_users().await;
    let (alice, bob, rita, max) = (node.user("alice"), node.user("bob"), node.user("rita"), node.user("max"));
    let own = alice.create(raw()).await;
    let open = alice.create(json!({"visibility": "community"})).await;
    let edit = json!([{"op": "replace", "path": "/name", "value": "x"}]);
    for (user, id, seen, changed) in
        [(&bob, &own, 404, 404), (&bob, &open, 200, 403), (&rita, &own, 200, 403), (&max, &own, 404, 200)]
    {
        let path = format!("/v2/images/{id}");
        user.get(&path).await.expect(seen);
        user.patch(id, crate::node::V21, &edit).await.expect(changed);
        if changed != 200 {
            user.delete(&path).await.expect(changed);
            user.put_file(id, "x").await.expect(changed);
            user.send("PUT", &format!("{path}/tags/t"), "").await.expect(changed);
            user.send("DELETE", &format!("{path}/tags/t"), "").await.expect(changed);
            user.send("POST", &format!("{path}/actions/deactivate"), "").await.expect(changed);
            user.send("POST", &format!("{path}/actions/reactivate"), "").await.expect(changed);
        }
    }
    bob.get(&format!("/v2/images/{own}/file")).await.expect(404);
    rita.get(&format!("/v2/images/{own}/file")).await.expect(403);
    max.get(&format!("/v2/images/{own}/file")).await.expect(204);
}

/// An image of nobody is an administrator's, unless it is open to all.
#[tokio::test]
async fn an_ownerless_image_is_seen_by_its_visibility_only() {
    let node = node_with_users().await;
    let root = node.user("root");
    let hidden = root.create(json!({"owner": null})).await;
    let open = root.create(json!({"owner": null, "visibility": "public"})).await;
    node.user("alice").get(&format!("/v2/images/{hidden}")).await.expect(404);
    node.user("alice").get(&format!("/v2/images/{open}")).await.expect(200);
    node.user("alice").delete(&format!("/v2/images/{open}")).await.expect(403);
}

/// glanceclient validates what it is about to send against these.
#[tokio::test]
async fn schemas_carry_the_enums_that_clients_read() {
    let node = node().await;
    let schema = node.get("/v2/schemas/image").await.expect(200).json();
    assert_eq!(schema["name"], "image");
    assert_eq!(schema["additionalProperties"], json!({"type": "string"}));
    assert_eq!(schema["links"].as_array().unwrap().len(), 3);
    let properties = &schema["properties"];
    let formats = properties["disk_format"]["enum"].as_array().unwrap();
    assert_eq!(formats[0], Value::Null);
    assert!(formats.contains(&json!("qcow2")) && formats.len() == 12);
    assert_eq!(properties["container_format"]["enum"].as_array().unwrap().len(), 9);
    assert_eq!(properties["name"]["type"], json!(["null", "string"]));
    for name in ["status", "size", "checksum", "os_hash_value", "created_at", "self", "stores", "direct_url"]
    {
        assert_eq!(properties[name]["readOnly"], true, "{name}");
    }
    for name in ["kernel_id", "os_distro"] {
        assert_eq!(properties[name]["is_base"], false, "{name}");
    }
    let list = node.get("/v2/schemas/images").await.expect(200).json();
    assert_eq!(list["properties"]["images"]["items"], schema);
    assert_eq!(list.get("additionalProperties"), None);
}

#[tokio::test]
async fn stores_and_import_methods_are_listed() {
    let node = node().await;
    let stores = node.get("/v2/info/stores").await.expect(200).json();
    assert_eq!(
        (&stores["stores"][0]["id"], &stores["stores"][0]["default"]),
        (&json!("peer"), &json!("true"))
    );
    let methods = node.get("/v2/info/import").await.expect(200).json();
    assert_eq!(methods["import-methods"]["value"], json!([]));
}
