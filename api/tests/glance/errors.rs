//! The form of errors, request ids, methods and unwanted bodies.

use serde_json::json;

use crate::node::{node, node_with};
use peerglass_api::{ApiSettings, Auth};

#[tokio::test]
async fn the_accept_header_decides_the_body() {
    let node = node().await;
    let path = "/v2/images?name=%3Cscript%3E:x";
    for (accept, content_type) in [
        (None, "text/plain; charset=UTF-8"),
        (Some(""), "text/plain; charset=UTF-8"),
        (Some("image/png"), "text/plain; charset=UTF-8"),
        (Some("*/*"), "text/html; charset=UTF-8"),
        (Some("text/html"), "text/html; charset=UTF-8"),
        (Some("application/json"), "application/json"),
        (Some("application/json, text/plain, */*;q=0.1"), "application/json"),
    ] {
        let client = accept.map_or_else(|| node.clone(), |accept| node.with("accept", accept));
        let reply = client.get(path).await.expect(400);
        assert_eq!(reply.header("content-type"), Some(content_type), "{accept:?}");
        let text = reply.text();
        match content_type {
            "application/json" => {
                let body = reply.json();
                assert_eq!(
                    (&body["code"], &body["title"]),
                    (&json!("400 Bad Request"), &json!("Bad Request"))
                );
                assert!(body["message"].as_str().unwrap().contains("<script>"));
            }
            "text/plain; charset=UTF-8" => assert!(text.starts_with("400 Bad Request\n\n"), "{text}"),
            _ => {
                assert!(
                    text.contains("<h1>400 Bad Request</h1>") && text.contains("&lt;script&gt;"),
                    "{text}"
                );
                assert!(!text.contains("<script>"));
            }
        }
    }
}

#[tokio::test]
async fn methods_are_those_of_the_table() {
    let node = node().await;
    let id = node.create(json!({})).await;
    for (path, allow) in [
        ("/v2/images".to_owned(), "GET, POST"),
        (format!("/v2/images/{id}"), "GET, PATCH, DELETE"),
        (format!("/v2/images/{id}/file"), "PUT, GET"),
        (format!("/v2/images/{id}/actions/deactivate"), "POST"),
        ("/v2/schemas/image".to_owned(), "GET"),
    ] {
        for method in ["HEAD", "OPTIONS", "TRACE", "PROPFIND"] {
            let reply = node.send(method, &path, "").await.expect(405);
            assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
        }
    }
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
        node.send(method, "/v2/nothing", "").await.expect(404);
    }
    for method in ["OPTIONS", "PROPFIND", "TRACE"] {
        node.send(method, "/v2/nothing", "").await.expect(501);
    }
    // Not built yet, so not there.
    for path in ["/v2/tasks", "/v2/metadefs/namespaces", "/v2/cache", "/v2/schemas/member"] {
        node.get(path).await.expect(404);
    }
    node.get(&format!("/v2/images/{id}/members")).await.expect(404);
}

/// Routes that take no body refuse one before they look for the image.
#[tokio::test]
async fn an_unwanted_body_is_refused_where_glance_does() {
    let node = node().await;
    let id = "0c0ffee0-0000-4000-8000-00000000000a";
    for (method, path) in [
        ("GET", format!("/v2/images/{id}")),
        ("DELETE", format!("/v2/images/{id}")),
        ("GET", format!("/v2/images/{id}/file")),
        ("POST", format!("/v2/images/{id}/actions/deactivate")),
        ("PUT", format!("/v2/images/{id}/tags/t")),
        ("DELETE", format!("/v2/images/{id}/tags/t")),
        ("GET", "/v2/schemas/images".to_owned()),
        ("GET", "/v2/info/stores".to_owned()),
    ] {
        let reply = node.with("content-length", "2").send(method, &path, "{}").await;
        assert_eq!(reply.status, 400, "{method} {path}");
        let empty = node.with("content-length", "0").send(method, &path, "").await;
        assert_ne!(empty.status, 400, "{method} {path}");
    }
    node.send("PUT", &format!("/v2/images/{id}/tags/t"), "unannounced").await.expect(400);
    node.with("content-length", "2").send("GET", "/v2/images", "{}").await.expect(200);
}

/// RB-48.
#[tokio::test]
async fn request_ids_are_adopted_within_reason() {
    let node = node().await;
    let id_for = async |given: &str| {
        let reply = node.with("x-openstack-request-id", given).get("/v2/images").await;
        (reply.status.as_u16(), reply.header("x-openstack-request-id").unwrap().to_owned())
    };
    assert_eq!(id_for("req-abc").await, (200, "req-abc".to_owned()));
    assert_eq!(id_for("abc").await, (200, "req-abc".to_owned()));
    assert_eq!(id_for(&"a".repeat(65)).await.0, 431);
    assert_eq!(id_for(&"a".repeat(10_240)).await.0, 431);
    let (status, id) = id_for("a b\"c").await;
    assert_eq!((status, id.len()), (200, 40));
    let first = node.get("/v2/images").await;
    let second = node.get("/v2/nothing").await;
    assert_ne!(first.header("x-openstack-request-id"), second.header("x-openstack-request-id"));
}

/// The cap on all headers together, and one more byte.
#[tokio::test]
async fn headers_have_a_limit() {
    let node = node_with(ApiSettings { header_bytes_max: 100, ..ApiSettings::default() }, Auth::None).await;
    node.with("x-a", &"v".repeat(93)).get("/v2/images").await.expect(200);
    node.with("x-a", &"v".repeat(94)).get("/v2/images").await.expect(431);
}
