//! What comes to the peer port from somebody who is no member (F-B5, F-B8, PP-01 to PP-11).

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use peerglass::{NodeKey, PeerPort, Purpose};
use tokio::time::timeout;

use super::lab::{Lab, bytes, port_of, socket};
use super::log;

fn stranger(seed: u8) -> PeerPort {
    port_of(&NodeKey::from_seed([seed; 32]), socket())
}

fn key_of(status: &serde_json::Value) -> peerglass_catalog::PeerKey {
    status["members"][0]["peer"].as_str().unwrap().parse().unwrap()
}

/// PP-01, PP-02: datagrams that are no QUIC, or almost.
fn throw_garbage(at: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for len in [1, 20, 21, 100, 1_200, 1_400, 9_000] {
        let mut datagram = bytes(len, len as u64);
        let _ = socket.send_to(&datagram, at);
        // As if it were the first packet of a handshake.
        datagram[0] = 0xc3;
        if len > 20 {
            datagram[1..5].copy_from_slice(&1u32.to_be_bytes());
            datagram[5] = 8;
        }
        let _ = socket.send_to(&datagram, at);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_garbage_and_silence_get_nowhere_and_cost_nothing() {
    let lab = Lab::start(1).await;
    let (at, key) = (lab.peer_address(0), key_of(&lab.status(0).await));
    for _ in 0..20 {
        throw_garbage(at);
    }
    let port = stranger(1);
    for purpose in [Purpose::Raft, Purpose::Chunks] {
        let connection = port.dial(key, at, purpose).await.unwrap();
        let closed = timeout(Duration::from_secs(5), connection.closed()).await.expect("sent away");
        assert!(closed.to_string().contains("not a member"), "{closed}");
    }
    let stranger = NodeKey::from_seed([1; 32]).peer_key().to_string();
    log::wait_for(&[&stranger, "refused a stranger: its key is no member's"]).await;
    // Whoever answers at the address but is not the one that was wanted is not spoken to.
    let somebody = NodeKey::from_seed([9; 32]).peer_key();
    assert!(port.dial(somebody, at, Purpose::Raft).await.is_err());
    lab.create(0, "still there").await;
    lab.stop().await;
}

/// PP-19: whoever connects to join and says nothing is sent away, and keeps nobody out meanwhile, not even from
/// the same address.
#[tokio::test(flavor = "multi_thread")]
async fn silence_at_the_door_keeps_nobody_out() {
    let mut lab = Lab::start(1).await;
    let (at, key) = (lab.peer_address(0), key_of(&lab.status(0).await));
    let port = stranger(1);
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.extend(port.dial(key, at, Purpose::Join).await.ok());
    }
    let began = tokio::time::Instant::now();
    let first = silent.first().unwrap();
    timeout(Duration::from_secs(5), first.closed()).await.expect("sent away in time");
    lab.join(0, "{}").await;
    assert!(began.elapsed() < Duration::from_secs(15));
    drop(silent);
    lab.stop().await;
}

/// A secret that nobody issued is refused without a word in the log that all nodes keep.
#[tokio::test(flavor = "multi_thread")]
async fn made_up_tokens_write_nothing() {
    let mut lab = Lab::start(1).await;
    let real: peerglass_catalog::JoinTicket = lab.token(0, "{}").await.parse().unwrap();
    let before = lab.status(0).await["last_log"].clone();
    for n in 0..10 {
        let ticket = peerglass_catalog::JoinTicket { secret: [n; 32], contacts: real.contacts.clone() };
        let refused = lab.join_with(&ticket.to_string()).await.unwrap_err();
        assert!(refused.contains("no such join token"), "{refused}");
    }
    assert_eq!(lab.status(0).await["last_log"], before);
    // No other test makes up a secret.
    log::wait_for(&["did not admit a node: no such join token"]).await;
    lab.stop().await;
}

/// PP-11, PP-20: a member's streams with frames that are cut, oversized, of another version or nonsense.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_none_end_their_stream_and_nothing_else() {
    let lab = Lab::start(2).await;
    let port = lab.second_port(1);
    let target = key_of(&lab.status(0).await);
    let at = if lab.key(0).peer_key() == target { lab.peer_address(0) } else { lab.peer_address(1) };
    for purpose in [Purpose::Raft, Purpose::Chunks, Purpose::Join] {
        for frame in frames() {
            let Ok(connection) = port.dial(target, at, purpose).await else { continue };
            if let Ok((mut out, mut back)) = connection.open_bi().await {
                let _ = out.write_all(&frame).await;
                let _ = out.finish();
                let _ = timeout(Duration::from_millis(300), back.read_to_end(1 << 20)).await;
            }
            connection.close(0u32.into(), b"");
        }
    }
    lab.create(0, "still there").await;
    lab.create(1, "and here").await;
    lab.stop().await;
}

fn frames() -> Vec<Vec<u8>> {
    let framed = |length: u32, body: &[u8]| [&length.to_le_bytes()[..], body].concat();
    vec![
        Vec::new(),
        vec![1],
        framed(0, &[]),
        framed(u32::MAX, &[1, 0, 0]),
        framed(1 << 30, &bytes(100_000, 3)),
        framed(5, &[1, 2]),
        framed(4, &[9, 0, 0, 0]),
        framed(200, &[[1].as_slice(), &bytes(199, 4)].concat()),
        framed(12, &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0]),
        bytes(70_000, 5),
    ]
}

/// A member's key under a log id that was never admitted, or of another cluster, is no member.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_cluster_is_sent_away() {
    let mut lab = Lab::start(2).await;
    let mut other = Lab::start(1).await;
    let token = other.token(0, "{}").await;
    let _joined = other.join_with(&token).await.unwrap();
    // The second node's directory goes, with its key, to a place of another cluster.
    lab.stop_node(1).await;
    lab.wipe_but_the_key(1);
    let token = other.token(0, "{}").await;
    lab.rejoin(1, &token).await.unwrap();
    lab.restart(1).await;
    other.create(0, "elsewhere").await;
    lab.create(0, "here").await;
    assert_eq!(lab.status(0).await["members"].as_array().unwrap().len(), 2, "nothing changed here");
    lab.stop().await;
    other.stop().await;
}
