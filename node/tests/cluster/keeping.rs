//! Copies that are lost are made again, pins are obeyed, and what is only cached is let go (I-D5, I-D11, I-D12).

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::lab::{Lab, bytes, json};

const PATIENCE: Duration = Duration::from_secs(40);

/// What one node is said to have of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Copy {
    whole: bool,
    kept: bool,
}

const WHOLE_AND_KEPT: Copy = Copy { whole: true, kept: true };

/// What `nodes` have of an image, as node `at` says.
async fn copies(lab: &Lab, at: usize, id: &str, nodes: &[usize]) -> Vec<Copy> {
    let said = json(&lab.get_patiently(at, &format!("/v2/cluster/images/{id}")).await);
    let said = said["copies"].as_array().unwrap();
    let of = |node: &usize| {
        let address = lab.peer_address(*node).to_string();
        let copy = said.iter().find(|copy| copy["address"] == address);
        copy.map_or(Copy { whole: false, kept: false }, |copy| Copy {
            whole: copy["state"] == "whole",
            kept: copy["keeping"] == "kept",
        })
    };
    nodes.iter().map(of).collect()
}

/// Wait until the copies that `nodes` have are as they should be.
async fn wait_for(lab: &Lab, at: usize, id: &str, nodes: &[usize], fit: impl Fn(&[Copy]) -> bool) {
    let began = Instant::now();
    loop {
        let copies = copies(lab, at, id, nodes).await;
        if fit(&copies) {
            return;
        }
        if began.elapsed() > PATIENCE {
            let said = lab.get(at, &format!("/v2/cluster/images/{id}")).await.1;
            let said = String::from_utf8_lossy(&said).into_owned();
            panic!("nodes {nodes:?} have {copies:?}: {said}; node {at} sees {}", lab.status(at).await);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn upload(lab: &Lab, at: usize, content: &[u8]) -> String {
    let id = lab.create(at, "kept").await;
    assert_eq!(lab.put(at, &format!("/v2/images/{id}/file"), content).await, 204);
    id
}

fn homes_are_whole(copies: &[Copy]) -> bool {
    copies.iter().filter(|copy| copy.kept).all(|copy| copy.whole)
}

/// How many nodes are out, as `at` knows.
async fn out(lab: &Lab, at: usize) -> usize {
    let status = lab.status(at).await;
    status["members"].as_array().unwrap().iter().filter(|member| member["out"] == true).count()
}

async fn wait_for_out(lab: &Lab, at: usize, count: usize) {
    let began = Instant::now();
    while out(lab, at).await != count {
        assert!(began.elapsed() < PATIENCE, "never {count} nodes out: {}", lab.status(at).await);
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_on_a_node_that_is_silent_for_long_is_made_again() {
    let mut lab = Lab::start_with(3, |settings| settings.cluster.out_after_s = 2).await;
    lab.wait_for_voters(3).await;
    let content = bytes(3_000_017, 1);
    let id = upload(&lab, 0, &content).await;
    let all = [0, 1, 2];
    wait_for(&lab, 0, &id, &all, homes_are_whole).await;
    let before = copies(&lab, 0, &id, &all).await;
    assert_eq!(before.iter().filter(|copy| copy.kept).count(), 2, "{before:?}");
    let lost = before.iter().position(|copy| copy.kept).unwrap();
    lab.kill(lost).await;
    let others: Vec<usize> = all.into_iter().filter(|node| *node != lost).collect();
    wait_for(&lab, others[0], &id, &others, |copies| *copies == [WHOLE_AND_KEPT; 2]).await;
    assert_eq!(out(&lab, others[1]).await, 1);
    lab.restart(lost).await;
    wait_for_out(&lab, others[0], 0).await;
    assert!(lab.get_patiently(lost, &format!("/v2/images/{id}/file")).await == content);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_on_a_node_that_is_removed_is_made_again_at_once() {
    let mut lab = Lab::start(3).await;
    lab.wait_for_voters(3).await;
    let id = upload(&lab, 1, &bytes(1_000_003, 2)).await;
    wait_for(&lab, 1, &id, &[0, 1, 2], homes_are_whole).await;
    let lost = copies(&lab, 1, &id, &[0, 1, 2]).await.iter().position(|copy| copy.kept).unwrap();
    let others: Vec<usize> = (0..3).filter(|node| *node != lost).collect();
    let name = lab.name(lost);
    lab.kill(lost).await;
    // As soon as there is a leader that answers.
    let began = Instant::now();
    while lab.manage(others[0], "DELETE", &name).await != 204 {
        assert!(began.elapsed() < PATIENCE, "the node is never removed");
        sleep(Duration::from_millis(100)).await;
    }
    wait_for(&lab, others[0], &id, &others, |copies| *copies == [WHOLE_AND_KEPT; 2]).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_of_a_site_keeps_what_is_pinned_there() {
    let mut lab = Lab::start_with(1, |settings| settings.cluster.copies = 1).await;
    for _ in 0..2 {
        lab.join(0, r#"{"site":"edge"}"#).await;
    }
    let id = upload(&lab, 0, &bytes(500_000, 3)).await;
    let pin = |site: &str| format!(r#"{{"site":"{site}"}}"#);
    let path = format!("/v2/cluster/images/{id}");
    assert_eq!(lab.call(0, "POST", &format!("{path}/pin"), &[], pin("moon").as_bytes()).await.status, 404);
    assert_eq!(lab.call(0, "POST", &format!("{path}/pin"), &[], pin("edge").as_bytes()).await.status, 200);
    wait_for(&lab, 0, &id, &[1, 2], |copies| *copies == [WHOLE_AND_KEPT; 2]).await;
    assert_eq!(lab.call(1, "POST", &format!("{path}/unpin"), &[], b"{}").await.status, 200, "its own site");
    let kept = copies(&lab, 1, &id, &[0, 1, 2]).await.iter().filter(|copy| copy.kept).count();
    assert_eq!(kept, 1, "its home");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_only_read_is_let_go_and_what_is_kept_is_not() {
    let tune = |settings: &mut peerglass::Settings| {
        settings.cluster.copies = 1;
        settings.storage.cache_max_mib = 1;
        settings.storage.reclaim_interval_s = 1;
    };
    let lab = Lab::start_with(2, tune).await;
    // Each is at home on one node, and is read on both.
    let contents: Vec<Vec<u8>> = (10..14).map(|seed| bytes(3_000_000, seed)).collect();
    let mut ids = Vec::new();
    for content in &contents {
        ids.push(upload(&lab, 0, content).await);
        assert!(lab.get_patiently(1, &format!("/v2/images/{}/file", ids[ids.len() - 1])).await == *content);
    }
    for id in &ids {
        let settled = |copies: &[Copy]| copies.iter().all(|copy| copy.kept == copy.whole);
        wait_for(&lab, 0, id, &[0, 1], settled).await;
        assert_eq!(copies(&lab, 1, id, &[0, 1]).await.iter().filter(|copy| copy.whole).count(), 1);
    }
    // From wherever it is.
    for (id, content) in ids.iter().zip(&contents) {
        for node in [0, 1] {
            assert!(lab.get_patiently(node, &format!("/v2/images/{id}/file")).await == *content);
        }
    }
    lab.stop().await;
}
