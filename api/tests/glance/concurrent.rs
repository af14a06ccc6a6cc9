//! Many clients at once, on the same images.

use std::collections::BTreeSet;

use serde_json::json;

use crate::node::{Node, V21, node, raw};

/// Clients at once.
const CLIENTS: usize = 20;
/// What each of them does.
const ROUNDS: usize = 25;

/// Create, edit, fill and delete, its own images and its neighbour's; every answer is one the API
/// documents for a race. Answers with the images it created and did not delete.
async fn client(node: Node, number: usize, shared: String) -> Vec<String> {
    let mut kept = Vec::new();
    for round in 0..ROUNDS {
        let id = node.create(json!({"name": format!("{number}-{round}")})).await;
        let rename = json!([{"op": "replace", "path": "/name", "value": format!("by {number}")}]);
        node.patch(&shared, V21, &rename).await.expect(200);
        let toggle = json!([{"op": "add", "path": format!("/key{}", number % 4), "value": "v"}]);
        node.patch(&shared, V21, &toggle).await.expect(200);
        let tag = format!("/v2/images/{shared}/tags/t{}", number % 4);
        node.send("PUT", &tag, "").await.expect(204);
        let removed = node.delete(&tag).await.status.as_u16();
        assert!(matches!(removed, 204 | 404), "{removed}");
        let filled = node.put_file(&shared, "bytes").await.status.as_u16();
        assert!(matches!(filled, 204 | 409), "{filled}");
        let listed = node.get("/v2/images?limit=7&sort=name:asc").await.expect(200).json();
        assert!(listed["images"].as_array().unwrap().len() <= 7);
        if round % 2 == 0 {
            node.delete(&format!("/v2/images/{id}")).await.expect(204);
            node.get(&format!("/v2/images/{id}")).await.expect(404);
        } else {
            kept.push(id);
        }
        tokio::task::yield_now().await;
    }
    kept
}

/// Every image there is, page by page.
async fn listed(node: &Node) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = Some("/v2/images?limit=10".to_owned());
    while let Some(path) = next {
        let page = node.get(&path).await.expect(200).json();
        found.extend(page["images"].as_array().unwrap().iter().map(|image| image["id"].to_string()));
        next = page["next"].as_str().map(ToOwned::to_owned);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_right_after_twenty_clients_at_once() {
    let node = node().await;
    let shared = node.create(raw()).await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(node.clone(), number, shared.clone()));
    }
    let mut expected: BTreeSet<String> = clients.join_all().await.into_iter().flatten().collect();
    expected.insert(shared.clone());
    let expected: BTreeSet<String> = expected.iter().map(|id| format!("\"{id}\"")).collect();
    let found = listed(&node).await;
    assert_eq!(found.len(), expected.len(), "each once");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    let image = node.show(&shared).await;
    assert_eq!(image["status"], "active");
    assert!((0..4).all(|key| image[format!("key{key}")] == "v"), "{image}");
}
