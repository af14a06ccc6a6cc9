//! What comes to the peer port from a member that does not keep to the protocol (F-B3, F-B8, PP-16, PP-19, PP-20).

use std::time::Duration;

use peerglass_catalog::{Command, Limits, NodeId, Timestamp, Visibility};
use peerglass_consensus::testing::Lie;
use tokio::time::timeout;

use super::lab::{Lab, bytes};
use super::log;

/// Three voters, and of the two that follow the one that lies and the one that is told.
async fn three() -> (Lab, usize, usize) {
    let lab = Lab::start(3).await;
    lab.wait_for_voters(3).await;
    let leader = lab.leader().await;
    (lab, (leader + 1) % 3, (leader + 2) % 3)
}

/// How the log names the node that lies.
fn named(lab: &Lab, liar: usize) -> String {
    format!("node={}", lab.consensus(liar).node().0)
}

/// The highest term that any of three nodes knows of.
async fn term(lab: &Lab) -> u64 {
    let mut highest = 0;
    for node in 0..3 {
        highest = highest.max(lab.status(node).await["term"].as_u64().unwrap());
    }
    highest
}

/// F-B8: a term from which nobody could count on is not taken over from any message that carries one.
#[tokio::test(flavor = "multi_thread")]
async fn a_term_beyond_all_is_not_believed() {
    let (lab, liar, told) = three().await;
    let (node, name) = (lab.consensus(liar).node(), named(&lab, liar));
    let before = term(&lab).await;
    let mut told_so = 0;
    for at in [told, lab.leader().await] {
        for term in [u64::MAX, u64::MAX - 1, before + (1 << 33)] {
            let lies = [
                Lie::Vote(term),
                Lie::PreVote(term),
                Lie::Heartbeat { leader: node, term },
                Lie::TransferLeader { leader: node, term },
                Lie::Snapshot { term, announced: 1, pieces: vec![bytes(100, 1)] },
            ];
            let liar = lab.liar(liar, at).await;
            for lie in lies {
                assert_eq!(liar.tell(&lie).await, None, "{lie:?}");
                told_so += 1;
            }
        }
    }
    log::wait_for_lines(told_so, &[&name, "a peer is not believed: its term is beyond"]).await;
    for node in 0..3 {
        lab.create(node, "as before").await;
    }
    assert!(term(&lab).await < before + 100, "elections are had, but nobody jumped");
    lab.stop().await;
}

/// PP-16, PP-20: old messages said again, and messages in the name of another node, change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_again_or_for_another_changes_nothing() {
    // Elections may be had meanwhile, on a machine that is short of time; then it is tried once more.
    for _ in 0..5 {
        if nothing_changes().await {
            return;
        }
    }
    panic!("five times the term changed");
}

/// Whether the term, too, is what it was.
async fn nothing_changes() -> bool {
    let (lab, liar_at, told) = three().await;
    let (node, leader) = (lab.consensus(liar_at).node(), lab.consensus(lab.leader().await).node());
    let now = term(&lab).await;
    let liar = lab.liar(liar_at, told).await;
    // An old term is answered with the one that is.
    for lie in [Lie::Vote(0), Lie::Heartbeat { leader: node, term: 0 }] {
        for _ in 0..3 {
            let answer = liar.tell(&lie).await.expect("an answer");
            assert!(!answer.contains("vote_granted: true") && !answer.contains("Success"), "{answer}");
        }
    }
    let others = [
        Lie::Heartbeat { leader, term: now },
        Lie::TransferLeader { leader, term: now },
        Lie::Heartbeat { leader: NodeId(999), term: now + 1 },
    ];
    if leader != node {
        for lie in &others {
            assert_eq!(liar.tell(lie).await.as_deref(), Some("Unavailable"), "{lie:?}");
        }
        log::wait_for_lines(others.len(), &[&named(&lab, liar_at), "a peer speaks for another one"]).await;
    }
    let after = term(&lab).await;
    lab.stop().await;
    after == now
}

/// PP-20: a request that is recorded and sent again, to the leader that carried it out or to the next, has one
/// effect; one in the name of another node has none.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_again_has_one_effect() {
    let (lab, liar_at, told) = three().await;
    let node = lab.consensus(liar_at).node();
    let propose = |node, sequence, seed| {
        let mut image = peerglass_catalog::testing::Dice(seed).image(Timestamp(1));
        (image.hidden, image.visibility) = (false, Visibility::Public);
        let limits = Limits { properties_max: Some(100), tags_max: Some(100) };
        let command = Box::new(Command::CreateImage { image: Box::new(image), limits });
        Lie::Propose { node, sequence, command }
    };
    let request = propose(node, 1_000_000, 1);
    let leader = lab.leader().await;
    let liar = lab.liar(liar_at, leader).await;
    let first = liar.tell(&request).await.unwrap();
    assert!(first.contains("Done(Image("), "{first}");
    assert_eq!(liar.tell(&request).await.unwrap(), first);
    let stolen = liar.tell(&propose(NodeId(node.0 + 7), 1, 2)).await.unwrap();
    assert!(stolen.contains("Unavailable"), "{stolen}");
    log::wait_for(&[&named(&lab, liar_at), "a peer proposes for another one"]).await;
    let name = lab.peer_address(told).to_string();
    assert_eq!(lab.manage(leader, "POST", &format!("{name}/transfer-leader")).await, 204);
    let liar = lab.liar(liar_at, lab.leader().await).await;
    assert_eq!(liar.tell(&request).await.unwrap(), first);
    for node in 0..3 {
        assert_eq!(lab.images(node).await, 1);
    }
    lab.stop().await;
}

/// A snapshot that is nonsense, too long, or breaks off is not installed, and the next one may come.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_none_is_not_installed() {
    let (lab, liar_at, told) = three().await;
    lab.create(0, "stays").await;
    let term = term(&lab).await;
    let name = named(&lab, liar_at);
    let piece = || bytes(1_000, 3);
    let lies = [
        (u32::MAX, vec![piece()], "no fitting answer"),
        (0, vec![], "a piece is missing or wrong"),
        (1, vec![piece()], "a piece is missing or wrong"),
        (2, vec![piece(), piece()], "a piece is missing or wrong"),
        (3, vec![piece()], "the stream broke"),
        (1, vec![bytes(3 << 20, 4)], "no fitting answer"),
        (1, vec![vec![]], "a piece is missing or wrong"),
    ];
    for (nth, (announced, pieces, why)) in lies.iter().enumerate() {
        let liar = lab.liar(liar_at, told).await;
        let lie = Lie::Snapshot { term, announced: *announced, pieces: pieces.clone() };
        let answer = timeout(Duration::from_secs(5), liar.tell(&lie)).await.expect("an end");
        assert_eq!(answer, None, "{announced} pieces");
        let as_often = lies[..=nth].iter().filter(|(.., other)| other == why).count();
        log::wait_for_lines(as_often, &[&name, "a snapshot was not received", why]).await;
    }
    for node in 0..3 {
        assert_eq!(lab.images(node).await, 1);
        lab.create(node, "goes on").await;
        lab.delete_last(node).await;
    }
    lab.stop().await;
}

/// Whatever a member sends that is no message ends its stream and is written down once.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_from_a_member_ends_its_stream_only() {
    let (lab, liar_at, told) = three().await;
    let liar = lab.liar(liar_at, told).await;
    let framed = |length: u32, body: &[u8]| Lie::Bytes([&length.to_le_bytes()[..], body].concat());
    for lie in [
        Lie::Bytes(Vec::new()),
        Lie::Bytes(vec![1]),
        framed(0, &[]),
        framed(u32::MAX, &[1]),
        framed(5, &[1, 2]),
        framed(2, &[9, 0]),
        framed(200, &[[1].as_slice(), &bytes(199, 4)].concat()),
        framed(12, &[1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        // Half a million proposals are announced, and none follows.
        framed(6, &[1, 5, 0xa0, 0xc2, 0x1e, 0]),
    ] {
        assert_eq!(liar.tell(&lie).await, None, "{lie:?}");
    }
    for why in ["does not decode", "longer than any may be", "speaks version 9"] {
        log::wait_for(&[&named(&lab, liar_at), "a peer sent what is no request", why]).await;
    }
    let answer = liar.tell(&Lie::Vote(0)).await;
    assert!(answer.is_some(), "the connection goes on");
    lab.create(told, "and so does the node").await;
    lab.stop().await;
}

/// F-B3, PP-19: all streams of a connection opened and left open are taken back in time, keep nobody else out, and
/// there are no more of them.
#[tokio::test(flavor = "multi_thread")]
async fn streams_opened_and_left_open_are_taken_back() {
    let (lab, liar_at, told) = three().await;
    let liar = lab.liar(liar_at, told).await;
    let mut open = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(500), liar.begin_and_stop()).await {
        open.push(stream.unwrap());
        assert!(open.len() <= 64, "no more at once");
    }
    assert!(open.len() > 32, "{}", open.len());
    for node in 0..3 {
        lab.create(node, "meanwhile").await;
    }
    for stream in &open {
        let given_up = timeout(Duration::from_secs(20), stream.stopped()).await;
        assert!(given_up.expect("in time").unwrap().is_some());
    }
    drop(open);
    assert!(liar.tell(&Lie::Vote(0)).await.is_some(), "the connection can be used again");
    lab.stop().await;
}

/// The leader dies while a node joins. The node is let in, or told that it was not and let in when it asks again;
/// it is there once, and the cluster goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_while_the_leader_dies() {
    let (mut lab, _, _) = three().await;
    for (round, delay_ms) in [0, 20, 60, 120, 250].into_iter().enumerate() {
        let leader = lab.leader().await;
        let through = (leader + 1) % 3;
        let token = lab.token(through, r#"{"role":"learner"}"#).await;
        let delay = Duration::from_millis(delay_ms);
        // The same token admits the same node again, also if it was used up by an attempt that got no answer.
        let place = lab.join_while_dying(&token, leader, delay).await;
        lab.restart(place).await;
        lab.restart(leader).await;
        for node in [leader, through, place] {
            lab.get_patiently(node, "/v2/images").await;
        }
        let status = lab.status(through).await;
        assert_eq!(status["members"].as_array().unwrap().len(), 4 + round, "{status}");
        lab.create(place, "written through the new one").await;
    }
    lab.stop().await;
}
