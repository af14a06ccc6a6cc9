//! Lists: filters, sorts, pages.

use serde_json::{Value, json};

use crate::node::{Node, node, node_with_users, raw};

/// The names on a page, in order.
async fn names(node: &Node, query: &str) -> Vec<String> {
    let page = node.get(&format!("/v2/images?{query}")).await.expect(200).json();
    let images = page["images"].as_array().unwrap();
    images.iter().map(|image| image["name"].as_str().unwrap_or("-").to_owned()).collect()
}

/// Five images whose creation times are one second apart.
async fn five() -> Node {
    let node = node().await;
    for (name, document) in [
        ("a", json!({"disk_format": "raw", "container_format": "bare", "min_ram": 1, "tags": ["x", "y"]})),
        ("b", json!({"disk_format": "qcow2", "container_format": "bare", "min_ram": 2, "tags": ["x"]})),
        ("c", json!({"disk_format": "raw", "container_format": "ovf", "protected": true, "os": "l"})),
        ("d", json!({"visibility": "public", "min_disk": 5, "os": "w"})),
        ("e:f", json!({"visibility": "private", "owner": "p"})),
    ] {
        let mut document = document;
        document["name"] = json!(name);
        node.create(document).await;
    }
    node
}

#[tokio::test]
async fn the_page_has_its_links_and_schema() {
    let node = five().await;
    let page = node.get("/v2/images").await.expect(200).json();
    assert_eq!(page["schema"], "/v2/schemas/images");
    assert_eq!(page["first"], "/v2/images");
    assert_eq!(page.get("next"), None);
    assert_eq!(page["images"].as_array().unwrap().len(), 5);
    let first = &page["images"][0];
    assert_eq!(*first, node.show(first["id"].as_str().unwrap()).await);
}

#[tokio::test]
async fn filters_select() {
    let node = five().await;
    for (query, wanted) in [
        ("sort=name:asc", "a b c d e:f"),
        ("name=a", "a"),
        ("name=eq:e:f", "e:f"),
        ("name=in:a,c,zzz", "c a"),
        ("name=in:%22a%22,%22e:f%22", "e:f a"),
        ("status=queued&name=d", "d"),
        ("status=active", ""),
        ("status=nonsense", ""),
        ("disk_format=raw", "c a"),
        ("disk_format=in:raw,qcow2&container_format=bare", "b a"),
        ("min_ram_min=1", "b a"),
        ("min_ram_max=1&min_ram_min=1", "a"),
        ("min_disk=5", "d"),
        ("min_disk_max=4&name=d", ""),
        ("size_min=0", ""),
        ("owner=p", "e:f"),
        ("protected=true", "c"),
        ("protected=False&name=c", ""),
        ("visibility=public", "d"),
        ("visibility=private", "e:f"),
        ("visibility=", ""),
        ("tag=x", "b a"),
        ("tag=x&tag=y", "a"),
        ("tags=y", "a"),
        ("tag=", ""),
        ("os=l", "c"),
        ("os=w&visibility=public", "d"),
        ("is_public=True", ""),
        ("locations=x", ""),
        ("foo_min=1", ""),
        ("deleted=true&name=a", "a"),
        ("created_at=gt:2023-11-14", "e:f d c b a"),
        ("created_at=lt:2023-11-14", ""),
        ("created_at=lte:2023-11-15T00:00:00%2B01:00&limit=1", "e:f"),
        ("updated_at=gte:2023-11-14T00:00:00Z&name=a", "a"),
        ("os_hidden=true", ""),
        ("member_status=all&name=a", "a"),
        ("unknown", ""),
    ] {
        assert_eq!(names(&node, query).await.join(" "), wanted, "{query}");
    }
}

#[tokio::test]
async fn every_sort_key_pages_through_everything() {
    let node = five().await;
    for key in ["name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at"]
    {
        for direction in ["asc", "desc"] {
            for spelling in
                [format!("sort={key}:{direction}"), format!("sort_key={key}&sort_dir={direction}")]
            {
                let whole = names(&node, &spelling).await;
                assert_eq!(whole.len(), 5);
                let mut paged = Vec::new();
                let mut link = Some(format!("/v2/images?{spelling}&limit=2"));
                while let Some(path) = link {
                    let page = node.get(&path).await.expect(200).json();
                    for image in page["images"].as_array().unwrap() {
                        paged.push(image["name"].as_str().unwrap().to_owned());
                    }
                    link = page["next"].as_str().map(str::to_owned);
                }
                assert_eq!(paged, whole, "{spelling}");
            }
        }
    }
    assert_eq!(names(&node, "sort=disk_format:asc,name:desc").await.join(" "), "e:f d b c a");
    assert_eq!(names(&node, "sort_key=disk_format&sort_key=name&sort_dir=desc&sort_dir=asc").await[0], "a");
}

/// RB-18 to RB-22.
#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let node = node_with_users().await;
    let (alice, bob) = (node.user("alice"), node.user("bob"));
    let foreign = bob.create(json!({})).await;
    let gone = alice.create(json!({})).await;
    alice.delete(&format!("/v2/images/{gone}")).await.expect(204);
    let foreign = format!("marker={foreign}");
    let gone = format!("marker={gone}");
    let huge_list = format!("name=in:{}%22", "a,".repeat(10_000));
    for query in [
        "limit=-1",
        "limit=",
        "limit=x",
        "limit=1.0",
        "marker=",
        "marker=garbage",
        &foreign,
        &gone,
        "sort=",
        "sort=owner",
        "sort=name:up",
        "sort=name&sort_key=id",
        "sort_key=tags",
        "sort_dir=up",
        "sort_key=name&sort_dir=asc&sort_dir=asc",
        "name=neq:a",
        "name=a:b",
        "name=in:%22a",
        "status=gt:active",
        "created_at=gt:notadate",
        "created_at=in:2024-01-01",
        "size_min=x",
        "size_max=",
        "protected=yes",
        "os_hidden=2",
        "visibility=secret",
        "member_status=x",
        "changes-since=2024-01-01",
        "name=%ff",
        "%ff=x",
        &huge_list,
    ] {
        let reply = alice.get(&format!("/v2/images?{query}")).await;
        assert_eq!(reply.status, 400, "{query}: {}", reply.text());
    }
}

/// RB-17, RB-18, RB-20.
#[tokio::test]
async fn odd_but_sensible_queries_are_answered() {
    let node = five().await;
    for query in
        ["limit=2147483648", "limit=1000000000", "limit=0", "&&&", "a=1&a=2&A=3", "name=.*", "sort=name,name"]
    {
        node.get(&format!("/v2/images?{query}")).await.expect(200);
    }
    let many: String = (0..1000).map(|n| format!("k{n}=v&")).collect();
    assert!(names(&node, &many).await.is_empty());
    node.get(&format!("/v2/images?{many}&one=more")).await.expect(400);
    let keys = ["name"; 100].join(",");
    assert_eq!(names(&node, &format!("sort={keys}")).await.len(), 5);
    let list = format!("name=in:{}a", "zz,".repeat(10_000));
    assert_eq!(names(&node, &list).await.join(" "), "a");
}

/// The last full page has a `next` that leads to an empty page, as Glance does it.
#[tokio::test]
async fn a_full_page_links_to_the_next_with_every_parameter() {
    let node = five().await;
    let page = node.get("/v2/images?tag=x&tag=y&limit=1&name=a&marker=").await;
    page.expect(400);
    let page = node.get("/v2/images?tag=x&tag=y&limit=1").await.expect(200).json();
    assert_eq!(page["first"], "/v2/images?tag=x&tag=y&limit=1");
    let id = page["images"][0]["id"].as_str().unwrap();
    assert_eq!(page["next"], format!("/v2/images?tag=x&tag=y&limit=1&marker={id}"));
    let empty = node.get(page["next"].as_str().unwrap()).await.expect(200).json();
    assert_eq!(empty["images"], json!([]));
    assert_eq!(empty.get("next"), None);
    assert_eq!(empty["first"], page["first"]);
    let none = node.get("/v2/images?limit=0").await.expect(200).json();
    assert_eq!((&none["images"], none.get("next")), (&json!([]), None));
}

/// The marker only says where to go on: it need not match.
#[tokio::test]
async fn a_marker_need_not_match_the_filters() {
    let node = five().await;
    let page = node.get("/v2/images?name=c").await.json();
    let marker = page["images"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(names(&node, &format!("tag=x&marker={marker}")).await.join(" "), "b a");
}

#[tokio::test]
async fn who_sees_what() {
    let node = node_with_users().await;
    let (alice, bob, root) = (node.user("alice"), node.user("bob"), node.user("root"));
    for (user, visibility) in [
        (&alice, "private"),
        (&alice, "shared"),
        (&alice, "community"),
        (&root, "public"),
        (&bob, "community"),
    ] {
        let owner = if visibility == "public" { "root" } else { "own" };
        user.create(json!({"visibility": visibility, "name": format!("{visibility}-{owner}")})).await;
    }
    alice.create(json!({"name": "hidden", "os_hidden": true})).await;
    let sorted = async |user: &Node, query: &str| {
        let mut names = names(user, query).await;
        names.sort();
        names.join(" ")
    };
    assert_eq!(sorted(&alice, "").await, "community-own private-own public-root shared-own");
    assert_eq!(sorted(&alice, "os_hidden=True").await, "hidden");
    assert_eq!(sorted(&alice, "visibility=community").await, "community-own community-own");
    assert_eq!(sorted(&bob, "").await, "community-own public-root");
    assert_eq!(sorted(&bob, "visibility=all").await, "community-own community-own public-root");
    assert_eq!(sorted(&bob, "visibility=private").await, "");
    assert_eq!(sorted(&root, "").await, "private-own public-root shared-own");
    assert_eq!(sorted(&root, "visibility=all").await.split(' ').count(), 5);
    node.user("max").get("/v2/images").await.expect(403);
    node.user("rita").get("/v2/images").await.expect(200);
}

#[tokio::test]
async fn facts_about_bytes_can_be_filtered() {
    let node = node().await;
    let id = node.create(raw()).await;
    node.put_file(&id, "0123456789").await.expect(204);
    let image = node.show(&id).await;
    let text = |name: &str| image[name].as_str().unwrap().to_owned();
    for query in [
        "status=active".to_owned(),
        "size=10".to_owned(),
        "size_min=10&size_max=10".to_owned(),
        format!("checksum={}", text("checksum")),
        format!("os_hash_value={}&os_hash_algo=sha512", text("os_hash_value")),
        format!("id={id}"),
        format!("id=in:{id}"),
    ] {
        let page: Value = node.get(&format!("/v2/images?{query}")).await.expect(200).json();
        assert_eq!(page["images"].as_array().unwrap().len(), 1, "{query}");
    }
    for query in ["size_min=11", "size_max=9", "checksum=x", "virtual_size_min=99"] {
        assert!(names(&node, query).await.is_empty(), "{query}");
    }
}
