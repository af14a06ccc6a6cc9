//! Every route against what no client should send: always a 4xx or a documented success, no panic.

use serde_json::json;

use crate::node::{V20, V21, node, node_with_users, raw};

const ROUTES: &[(&str, &str)] = &[
    ("GET", "/v2/images"),
    ("POST", "/v2/images"),
    ("GET", "/v2/images/{id}"),
    ("PATCH", "/v2/images/{id}"),
    ("DELETE", "/v2/images/{id}"),
    ("PUT", "/v2/images/{id}/file"),
    ("GET", "/v2/images/{id}/file"),
    ("POST", "/v2/images/{id}/actions/deactivate"),
    ("POST", "/v2/images/{id}/actions/reactivate"),
    ("PUT", "/v2/images/{id}/tags/t"),
    ("DELETE", "/v2/images/{id}/tags/t"),
    ("GET", "/v2/info/import"),
    ("GET", "/v2/info/stores"),
    ("GET", "/v2/schemas/image"),
    ("GET", "/v2/schemas/images"),
];

/// RB-01 to RB-08, RB-24: bodies that are nothing, everywhere.
#[tokio::test]
async fn strange_bodies_everywhere() {
    let node = node().await;
    let deep = "[".repeat(100_000);
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{".to_vec(),
        b"null".to_vec(),
        b"[null]".to_vec(),
        b"{\"name\": \"\\ud800\"}".to_vec(),
        b"{\"name\": \"\\u0000\"}".to_vec(),
        b"{\"min_ram\": 1e400}".to_vec(),
        b"{\"min_ram\": -0}".to_vec(),
        b"{\"min_ram\": 9223372036854775808}".to_vec(),
        b"{\"min_ram\": 18446744073709551616}".to_vec(),
        b"{\"a\": \"1\", \"a\": \"2\"}".to_vec(),
        b"\xff\xfe{\x00}\x00".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"[{\"op\": \"add\", \"path\": \"/a\\u0000b\", \"value\": \"\\u0000\"}]".to_vec(),
        deep.into_bytes(),
    ];
    for (method, path) in ROUTES {
        for body in &bodies {
            for media_type in [None, Some(V21), Some(V20), Some("application/octet-stream"), Some("a/b; c")] {
                let id = node.create(raw()).await;
                let client =
                    media_type.map_or_else(|| node.clone(), |media| node.with("content-type", media));
                let client = client.with("accept", "*/*").with("accept", "\u{e9}");
                let reply = client.send(method, &path.replace("{id}", &id), body.clone()).await;
                assert!(!reply.status.is_server_error(), "{method} {path} {body:?}: {}", reply.text());
                assert!(reply.headers.contains_key("x-openstack-request-id"));
            }
        }
    }
}

/// RB-45, RB-46: no route is open without sign-in, whatever comes with it.
#[tokio::test]
async fn no_route_is_open() {
    let node = node_with_users().await.with("x-roles", "admin").with("x-identity-status", "Confirmed");
    for (method, path) in ROUTES {
        node.send(method, &path.replace("{id}", "0c0ffee0-0000-4000-8000-00000000000a"), "{}")
            .await
            .expect(401);
    }
}

/// RB-03, RB-24: text that breaks naive storage or display survives, and sorts.
#[tokio::test]
async fn strange_names_page_like_others() {
    let node = node().await;
    let names = [
        "\0",
        "\0\0",
        "",
        "a\0b",
        "a",
        "\u{ffff}",
        "\u{10ffff}",
        "\u{202e}",
        "<script>",
        "a\u{301}",
        "'\"\\",
    ];
    for name in names {
        node.create(json!({"name": name, "p\0": name})).await;
    }
    for direction in ["asc", "desc"] {
        let mut seen = Vec::new();
        let mut link = Some(format!("/v2/images?sort=name:{direction}&limit=1"));
        while let Some(path) = link {
            let page = node.get(&path).await.expect(200).json();
            seen.extend(page["images"].as_array().unwrap().iter().map(|image| image["name"].clone()));
            link = page["next"].as_str().map(str::to_owned);
        }
        let mut wanted: Vec<&str> = names.to_vec();
        wanted.sort_unstable();
        if direction == "desc" {
            wanted.reverse();
        }
        assert_eq!(seen, wanted);
    }
    for name in names {
        let query: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let page = node.get(&format!("/v2/images?name={query}")).await.expect(200).json();
        assert_eq!(page["images"].as_array().unwrap().len(), 1, "{name:?}");
    }
}

/// RB-34: delete races with protection; whichever comes first decides, and nothing is in between.
#[tokio::test]
async fn protect_and_delete_in_a_race() {
    let node = node().await;
    for _ in 0..20 {
        let id = node.create(json!({})).await;
        let path = format!("/v2/images/{id}");
        let protect = json!([{"op": "replace", "path": "/protected", "value": true}]);
        let (protected, deleted) = tokio::join!(node.patch(&id, V21, &protect), node.delete(&path));
        match (protected.status.as_u16(), deleted.status.as_u16()) {
            (200, 403) => assert_eq!(node.show(&id).await["protected"], true),
            (200 | 404, 204) => drop(node.get(&path).await.expect(404)),
            other => panic!("{other:?}"),
        }
    }
}
