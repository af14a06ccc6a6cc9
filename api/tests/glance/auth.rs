//! Sign-in by password.

use peerglass_api::{ApiSettings, Auth, Htpasswd};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::node::{node_with, node_with_users};
use crate::server::{read_to_end, server_with};

#[tokio::test]
async fn projects_do_not_see_each_other() {
    let node = node_with_users().await;
    let id = node.user("alice").create(json!({"name": "private"})).await;
    assert_eq!(node.user("alice").show(&id).await["owner"], "alice");
    node.user("bob").get(&format!("/v2/images/{id}")).await.expect(404);
    assert_eq!(node.user("bob").get("/v2/images").await.json()["images"], json!([]));
    node.user("rita").get(&format!("/v2/images/{id}")).await.expect(200);
    node.user("root").get(&format!("/v2/images/{id}")).await.expect(200);
}

/// RB-45 for basic credentials.
#[tokio::test]
async fn credentials_that_are_none_are_refused() {
    let node = node_with_users().await;
    for credentials in [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic YWxpY2U=",
        "Basic YWxpY2U6d3Jvbmc=",
        "Basic bm9ib2R5OnNlY3JldA==",
        "Basic /////w==",
        "Bearer YWxpY2U6c2VjcmV0",
        "Digest x",
        &format!("Basic {}", "A".repeat(60_000)),
    ] {
        let reply = node.with("authorization", credentials).get("/v2/images").await.expect(401);
        assert!(reply.header("www-authenticate").is_some(), "{credentials}");
    }
    // Two identities are none.
    node.user("alice").user("root").get("/v2/images").await.expect(401);
    node.with("authorization", "basic YWxpY2U6c2VjcmV0").get("/v2/images").await.expect(200);
    // The second check comes from memory and must be as strict.
    node.user("alice").get("/v2/images").await.expect(200);
    node.with("authorization", "Basic YWxpY2U6d3Jvbmc=").get("/v2/images").await.expect(401);
}

/// RB-46: what a client says about itself is not read.
#[tokio::test]
async fn identity_headers_are_ignored() {
    let node = node_with_users().await;
    let id = node.user("bob").create(json!({})).await;
    let forged = node
        .with("x-roles", "admin")
        .with("x-project-id", "bob")
        .with("x-identity-status", "Confirmed")
        .with("x-is-admin-project", "true")
        .with("x_roles", "admin")
        .with("x-user-id", "root");
    forged.get("/v2/images").await.expect(401);
    forged.user("alice").get(&format!("/v2/images/{id}")).await.expect(404);
}

#[tokio::test]
async fn a_reload_forgets_old_passwords() {
    let line = |password: &str| format!("alice:{}\n", bcrypt::hash(password, 4).unwrap());
    let users = Htpasswd::parse("users", &line("secret")).unwrap();
    let node = node_with(ApiSettings::default(), Auth::HttpBasic(users.clone())).await;
    node.user("alice").get("/v2/images").await.expect(200);
    assert_eq!(users.reload("users", "broken").unwrap_err().line, 1);
    node.user("alice").get("/v2/images").await.expect(200);
    users.reload("users", &line("other")).unwrap();
    node.user("alice").get("/v2/images").await.expect(401);
}

/// Wrong passwords fill the queue of their address; who is known or comes from elsewhere still gets in.
#[tokio::test]
async fn a_flood_of_wrong_passwords_is_turned_away() {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let slow = bcrypt::hash("other", 11).unwrap();
    let users = Htpasswd::parse("users", &format!("alice:{hash}\nbob:{slow}\n")).unwrap();
    let server = server_with(ApiSettings::default(), Auth::HttpBasic(users)).await;
    let alice = server.node.user("alice");
    alice.get("/v2/images").await.expect(200);
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..40 {
        let mut stream = server.connect().await;
        // "bob:xx", and three further characters for each group of four.
        let credentials = format!("Ym9iOnh4eHg{}eHg{}", number / 10, number % 10);
        let request = format!(
            "GET /v2/images HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Basic {credentials}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        flood.spawn(async move { read_to_end(&mut stream).await });
    }
    let first = flood.join_next().await.unwrap().unwrap();
    assert!(first.starts_with("HTTP/1.1 503") && first.contains("retry-after: 1\r\n"), "{first}");
    // Nobody has been checked yet, and this one need not be.
    alice.get("/v2/images").await.expect(200);
    let answers = flood.join_all().await;
    let refused = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 401")).count();
    assert!((8..=20).contains(&refused), "{refused} were checked");
    assert!(answers.iter().all(|answer| &answer[9..12] == "401" || &answer[9..12] == "503"));
}
