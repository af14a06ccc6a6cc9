//! Several nodes on real disks and real ports: joining, writing anywhere, reading anywhere, losing nodes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "cluster/flood.rs"]
mod flood;
#[path = "cluster/keeping.rs"]
mod keeping;
#[path = "cluster/lab.rs"]
mod lab;
#[path = "cluster/log.rs"]
mod log;
#[path = "cluster/members.rs"]
mod members;
#[path = "cluster/port.rs"]
mod port;
#[path = "cluster/strangers.rs"]
mod strangers;
#[path = "cluster/tcp.rs"]
mod tcp;

use std::time::Duration;

use lab::{Lab, bytes, json};

/// SC-01 and the promise of the whole thing: any node, same answer, and no acknowledged write lost with
/// the node that took it.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_took_every_other_has_also_when_it_dies() {
    let mut lab = Lab::start(3).await;
    lab.wait_for_voters(3).await;
    let id = lab.create(0, "a").await;
    for node in 0..3 {
        assert_eq!(lab.get(node, &format!("/v2/images/{id}")).await.0, 200, "read at once on node {node}");
    }
    let content = bytes(3_000_017, 1);
    assert_eq!(lab.put(1, &format!("/v2/images/{id}/file"), &content).await, 204);
    assert!(lab.get(2, &format!("/v2/images/{id}/file")).await.1 == content);
    let leader = lab.leader().await;
    lab.kill(leader).await;
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    for node in others {
        assert!(lab.get_patiently(node, &format!("/v2/images/{id}/file")).await == content);
        lab.create(node, "after").await;
    }
    lab.restart(leader).await;
    assert_eq!(json(&lab.get_patiently(leader, "/v2/images").await)["images"].as_array().unwrap().len(), 3);
    lab.stop().await;
}

/// I-L2: without a majority nothing hangs and nothing is guessed; an old answer is had on request only.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_majority_says_so_within_five_seconds() {
    let mut lab = Lab::start(3).await;
    lab.wait_for_voters(3).await;
    let id = lab.create(0, "a").await;
    lab.kill(1).await;
    lab.kill(2).await;
    let path = format!("/v2/images/{id}");
    let answer = tokio::time::timeout(Duration::from_secs(5), lab.call(0, "GET", &path, &[], b"")).await;
    let answer = answer.expect("an answer within 5 s");
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    let write = tokio::time::timeout(Duration::from_secs(5), lab.call(0, "DELETE", &path, &[], b"")).await;
    assert_eq!(write.expect("an answer within 5 s").status, 503);
    let stale = lab.call(0, "GET", &path, &["X-Peerglass-Read: stale-ok"], b"").await;
    assert_eq!(stale.status, 200);
    assert!(stale.header("x-peerglass-stale").unwrap().starts_with("applied="));
    lab.restart(1).await;
    lab.get_patiently(0, &path).await;
    lab.stop().await;
}

/// Four commands of an operator's life, each on another node than the one before.
#[tokio::test(flavor = "multi_thread")]
async fn members_are_promoted_led_by_another_demoted_and_removed() {
    let mut lab = Lab::start(3).await;
    lab.wait_for_voters(3).await;
    let fourth = lab.join(1, r#"{"role":"learner","site":"edge"}"#).await;
    let status = lab.status(2).await;
    let member = status["members"].as_array().unwrap().iter().find(|m| m["site"] == "edge").unwrap().clone();
    assert_eq!((member["voter"].as_bool(), member["role"].as_str()), (Some(false), Some("learner")));
    let name = member["peer"].as_str().unwrap().to_owned();
    assert_eq!(lab.manage(0, "POST", &format!("{name}/promote")).await, 204);
    lab.wait_for_voters(4).await;
    assert_eq!(lab.manage(1, "POST", &format!("{name}/transfer-leader")).await, 204);
    assert_eq!(lab.leader().await, fourth);
    let id = lab.create(0, "led by the fourth").await;
    assert_eq!(lab.manage(2, "POST", &format!("{name}/demote")).await, 204);
    lab.wait_for_voters(3).await;
    assert_eq!(lab.manage(0, "DELETE", &name).await, 204);
    assert_eq!(lab.manage(0, "DELETE", &name).await, 404, "it is gone");
    assert_eq!(lab.get(1, &format!("/v2/images/{id}")).await.0, 200);
    // The removed node is refused by everybody, and says so instead of answering from what it has.
    assert_eq!(lab.get(fourth, "/v2/images").await.0, 503);
    let (why, fourth) = ("if it was removed, move its data directory away and join again", lab.name(fourth));
    log::wait_for(&["refused a stranger", &fourth]).await;
    let leader = lab.peer_address(lab.leader().await).to_string();
    log::wait_for(&["cannot reach a peer", why, &leader]).await;
    lab.stop().await;
}

/// Three voters stand in one place; as nodes elsewhere join, two of the votes go there and writes go on.
#[tokio::test(flavor = "multi_thread")]
async fn votes_move_to_sites_that_join_later() {
    let mut lab = Lab::start(3).await;
    lab.wait_for_voters(3).await;
    for site in ["b", "c"] {
        lab.join(0, &format!(r#"{{"site":"{site}"}}"#)).await;
        lab.create(0, site).await;
    }
    lab.wait_for_voting_sites(&["", "b", "c"]).await;
    lab.create(0, "after").await;
    lab.stop().await;
}

/// With one voter down, losing another would stop the cluster for good; losing the one that is down would not.
#[tokio::test(flavor = "multi_thread")]
async fn a_voter_without_which_nothing_could_be_written_stays() {
    let mut lab = Lab::start(3).await;
    lab.wait_for_voters(3).await;
    let leader = lab.leader().await;
    let (up, down) = ((leader + 1) % 3, (leader + 2) % 3);
    let name = |node: usize| lab.peer_address(node).to_string();
    let (up, down_name) = (name(up), name(down));
    lab.kill(down).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(lab.manage(leader, "POST", &format!("{up}/demote")).await, 409);
    assert_eq!(lab.manage(leader, "DELETE", &up).await, 409);
    assert_eq!(lab.manage(leader, "POST", &format!("{down_name}/transfer-leader")).await, 409);
    lab.create(leader, "it goes on").await;
    assert_eq!(lab.manage(leader, "DELETE", &down_name).await, 204);
    lab.create(leader, "and on").await;
    lab.stop().await;
}

/// A laptop's node becomes the first of a cluster by opening a peer port, and a node may move.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_opens_a_port_and_a_member_moves() {
    let mut lab = Lab::start_with(1, |settings| settings.cluster.listen.clear()).await;
    let id = lab.create(0, "from when it was alone").await;
    lab.stop_node(0).await;
    lab.move_node(0);
    lab.place_node(0, "attic");
    lab.restart(0).await;
    lab.wait_for_address(0, 0).await;
    lab.wait_for_site(0, "attic").await;
    lab.give_ports_to_new_nodes();
    assert!(lab.may_be_without_port(0));
    let second = lab.join(0, "{}").await;
    assert!(!lab.may_be_without_port(0), "now somebody would look for it in vain");
    assert!(!lab.may_be_without_port(second));
    assert_eq!(lab.get(second, &format!("/v2/images/{id}")).await.0, 200);
    lab.stop_node(second).await;
    lab.move_node(second);
    lab.restart(second).await;
    lab.wait_for_address(0, second).await;
    lab.get_patiently(second, "/v2/images").await;
    lab.stop().await;
}

/// A token admits one node, once, in time, and is of no use to another cluster.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_used_once_and_expire() {
    let mut lab = Lab::start(1).await;
    let token = lab.token(0, "{}").await;
    let joined = lab.join_with(&token).await.unwrap();
    assert!(lab.join_with(&token).await.unwrap_err().contains("used before"));
    let short = lab.token(joined, r#"{"expires_s":1}"#).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(lab.join_with(&short).await.unwrap_err().contains("expired"));
    let other = Lab::start(1).await;
    let foreign = other.token(0, "{}").await;
    let mixed = lab.rejoin(joined, &foreign).await.unwrap_err();
    assert!(mixed.contains("belongs to cluster"), "{mixed}");
    assert!(lab.join_with("pgjoin1.nonsense").await.is_err());
    assert!(lab.join_with(&token[..token.len() - 3]).await.unwrap_err().contains("damaged"));
    lab.stop().await;
    other.stop().await;
}

/// F-D11: a wiped disk under a known key is a new node, and an old copy of a disk is noticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_forgot_never_votes_as_what_it_was() {
    let mut lab = Lab::start(3).await;
    lab.wait_for_voters(3).await;
    lab.stop_node(2).await;
    let copy = lab.copy_disk(2);
    lab.restart(2).await;
    lab.wait_until_connected(2).await;
    lab.create(0, "seen by the node").await;
    lab.stop_node(2).await;
    lab.put_back_disk(2, &copy);
    let ended = lab.restart_until_failure(2).await;
    assert!(ended.contains("older than what other nodes saw"), "{ended}");
    // Wiped, the same key joins again with a token; its old self is gone.
    lab.wipe_but_the_key(2);
    let token = lab.token(0, "{}").await;
    lab.rejoin(2, &token).await.unwrap();
    lab.restart(2).await;
    lab.wait_for_voters(3).await;
    assert_eq!(lab.status(0).await["members"].as_array().unwrap().len(), 3);
    lab.get_patiently(2, "/v2/images").await;
    lab.stop().await;
}

/// F-C7: a node that slept through a purge gets a snapshot, while writes go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_behind_the_log_gets_a_snapshot() {
    let mut lab = Lab::start_with(3, |settings| {
        settings.raft.snapshot_entries = 20;
        settings.raft.log_entries_kept = 2;
    })
    .await;
    lab.wait_for_voters(3).await;
    lab.kill(2).await;
    for n in 0..80 {
        lab.create(n % 2, "while it slept").await;
    }
    lab.restart(2).await;
    let page = json(&lab.get_patiently(2, "/v2/images?limit=1000").await);
    assert_eq!(page["images"].as_array().unwrap().len(), 80);
    let status = lab.status(2).await;
    assert!(status["purged"].as_u64().unwrap() > 40, "{status}");
    lab.restart_cleanly(2).await;
    lab.get_patiently(2, "/v2/images").await;
    lab.stop().await;
}

/// F-C5: two of three are lost for good. What the third has goes on, the lost ones are shut out for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_majority_that_is_lost_is_recovered_from_by_one_and_never_comes_back() {
    let mut lab = Lab::start(3).await;
    lab.wait_for_voters(3).await;
    let id = lab.create(0, "kept").await;
    assert_eq!(lab.put(0, &format!("/v2/images/{id}/file"), &bytes(70_001, 2)).await, 204);
    lab.get_patiently(2, &format!("/v2/images/{id}/file")).await;
    for node in 0..3 {
        lab.stop_node(node).await;
    }
    let looked = lab.recover(2, false).await;
    assert_eq!((looked.lost.len(), looked.cluster.incarnation), (2, 2));
    let done = lab.recover(2, true).await;
    assert_eq!(done.node, looked.node);
    lab.restart(2).await;
    assert!(lab.get_patiently(2, &format!("/v2/images/{id}/file")).await == bytes(70_001, 2));
    lab.create(2, "after").await;
    assert_eq!(lab.status(2).await["members"].as_array().unwrap().len(), 1);
    // The old ones come back and find each other, which is a majority of what was; nobody else does.
    lab.restart(0).await;
    lab.restart(1).await;
    let old = lab.get_patiently(0, "/v2/images").await;
    assert_eq!(json(&old)["images"].as_array().unwrap().len(), 1, "they never hear of what came after");
    assert_eq!(lab.status(2).await["members"].as_array().unwrap().len(), 1);
    let fourth = lab.join(2, "{}").await;
    assert_eq!(json(&lab.get_patiently(fourth, "/v2/images").await)["images"].as_array().unwrap().len(), 2);
    lab.stop().await;
}
