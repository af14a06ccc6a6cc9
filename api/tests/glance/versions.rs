//! Version discovery and health.

use peerglass_api::ApiSettings;

use crate::node::{node, node_with, node_with_users};
use peerglass_api::Auth;

#[tokio::test]
async fn version_documents_need_no_sign_in_and_carry_no_request_id() {
    let node = node_with_users().await.with("host", "images.example:9292");
    for (path, status) in [
        ("/", 300),
        ("/versions", 200),
        ("/versions/x", 200),
        ("/v3", 300),
        ("/v2.99/images", 300),
        ("/foo/bar", 300),
        ("/v1/images", 300),
    ] {
        for method in ["GET", "POST", "HEAD"] {
            let reply = node.send(method, path, "").await.expect(status);
            assert_eq!(reply.header("content-type"), Some("application/json"));
            assert_eq!(reply.header("x-openstack-request-id"), None);
            assert_eq!(reply.json()["versions"][0]["links"][0]["href"], "http://images.example:9292/v2/");
        }
    }
}

#[tokio::test]
async fn the_public_endpoint_is_the_base_of_links() {
    let settings =
        ApiSettings { public_endpoint: Some("https://cloud.example".into()), ..ApiSettings::default() };
    let node = node_with(settings, Auth::None).await.with("host", "inside");
    let href = node.get("/versions").await.json()["versions"][18]["links"][0]["href"].clone();
    assert_eq!(href, "https://cloud.example/v2/");
}

/// RB-49: what cannot be a host does not get into links.
#[tokio::test]
async fn a_host_that_is_none_is_not_echoed() {
    let node = node().await;
    for host in ["a b", "user@host", "\"><script>", ""] {
        let document = node.with("host", host).get("/").await.json();
        assert_eq!(document["versions"][0]["links"][0]["href"], "http://localhost/v2/", "{host}");
    }
}

#[tokio::test]
async fn every_listed_minor_version_routes() {
    let node = node().await;
    for minor in 0..=18 {
        node.get(&format!("/v2.{minor}/images")).await.expect(200);
    }
    node.get("/v2.19/images").await.expect(300);
    node.get("/v2/").await.expect(404);
    let reply = node.with("host", "h").get("/v2").await.expect(302);
    assert_eq!(reply.header("location"), Some("http://h/v2/"));
    let media_type = node.with("accept", "application/vnd.openstack.images-v2");
    media_type.get("/images").await.expect(200);
}

#[tokio::test]
async fn the_api_needs_sign_in_and_says_so_with_an_id() {
    let node = node_with_users().await;
    for path in ["/v2", "/v2/", "/v2/images", "/v2/nothing", "/v2/schemas/image"] {
        let reply = node.get(path).await.expect(401);
        assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"Peerglass\""));
        assert!(reply.header("x-openstack-request-id").unwrap().starts_with("req-"));
    }
}

#[tokio::test]
async fn health_answers_in_the_form_asked_for() {
    let node = node_with_users().await;
    let plain = node.get("/healthcheck").await.expect(200);
    assert_eq!(
        (plain.text().as_str(), plain.header("content-type")),
        ("OK", Some("text/plain; charset=UTF-8"))
    );
    assert_eq!(plain.header("x-openstack-request-id"), None);
    let json = node.with("accept", "application/json").get("/healthcheck").await.expect(200).json();
    assert_eq!(json, serde_json::json!({"detailed": false, "reasons": ["OK"]}));
    let html = node.with("accept", "text/html").get("/healthcheck").await.expect(200);
    assert!(html.text().contains("<html>"));
    node.send("HEAD", "/healthcheck", "").await.expect(204);
    node.send("POST", "/healthcheck", "").await.expect(405);
    node.get("/livez").await.expect(200);
    node.get("/readyz").await.expect(200);
    node.api.start_draining();
    node.get("/healthcheck").await.expect(503);
    node.get("/livez").await.expect(200);
}

#[tokio::test]
async fn a_file_takes_the_node_out_of_service() {
    let file = std::env::current_exe().unwrap();
    let settings = ApiSettings { disable_by_file_path: Some(file), ..ApiSettings::default() };
    let node = node_with(settings, Auth::None).await;
    assert_eq!(node.get("/healthcheck").await.expect(503).text(), "DISABLED BY FILE");
    node.send("HEAD", "/healthcheck", "").await.expect(503);
}

#[tokio::test]
async fn the_description_is_served_without_sign_in() {
    let node = node_with_users().await;
    assert_eq!(node.get("/openapi.json").await.expect(200).json()["openapi"], "3.1.0");
}
