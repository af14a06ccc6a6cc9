//! Image bytes over TCP, and without it (F-B5, F-B8, F-N9, PP-01, PP-02, PP-19).

use std::time::Duration;

use peerglass::NodeKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::lab::{Lab, bytes, port_of, socket};
use super::log;

/// Whatever two nodes can reach each other by, any node gives what any node took.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_and_without_tcp_give_each_other_everything() {
    let mut lab = Lab::start(3).await;
    lab.without_tcp(2).await;
    for from in 0..3 {
        let content = bytes(1_500_017, from as u64);
        let id = lab.create(from, "crosses").await;
        assert_eq!(lab.put(from, &format!("/v2/images/{id}/file"), &content).await, 204);
        for to in 0..3 {
            assert!(
                lab.get_patiently(to, &format!("/v2/images/{id}/file")).await == content,
                "{from} to {to}"
            );
        }
    }
    lab.stop().await;
}

/// Sound bytes of images that a node has received, over TCP and over QUIC, as operators see it.
async fn received(lab: &Lab, node: usize) -> [u64; 2] {
    let page = String::from_utf8(lab.get(node, "/metrics").await.1).unwrap();
    let lines = || page.lines().filter(|line| line.starts_with("peerglass_swarm_received_bytes_total{"));
    ["transport=\"tcp\"", "transport=\"quic\""].map(|over| {
        let values = lines().filter(|line| line.contains(over)).map(|line| line.rsplit(' ').next().unwrap());
        values.map(|value| value.parse::<u64>().unwrap()).sum()
    })
}

/// Upload an image at one node, have it at another, and say what came there over TCP and over QUIC meanwhile.
async fn brought(lab: &Lab, from: usize, to: usize, content: &[u8]) -> [u64; 2] {
    let before = received(lab, to).await;
    let id = lab.create(from, "crosses").await;
    assert_eq!(lab.put(from, &format!("/v2/images/{id}/file"), content).await, 204);
    assert!(lab.get_patiently(to, &format!("/v2/images/{id}/file")).await == content, "{from} to {to}");
    let after = received(lab, to).await;
    [0, 1].map(|over| after[over] - before[over])
}

/// TCP carries image bytes wherever both ends have it, and nothing where one has not.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_over_tcp_where_they_can_and_over_quic_elsewhere() {
    const SIZE: u64 = 1_500_017;
    let mut lab = Lab::start(2).await;
    for (from, to) in [(0, 1), (1, 0)] {
        // On a machine with much to do QUIC may shake hands first; TCP is used once it has, too.
        for round in 0.. {
            let [tcp, quic] = brought(&lab, from, to, &bytes(SIZE as usize, round * 2 + from as u64)).await;
            assert!(tcp + quic >= SIZE, "{tcp} and {quic}");
            if quic == 0 {
                break;
            }
            assert!(round < 9, "{quic} bytes went over QUIC from {from} to {to}");
        }
    }
    lab.without_tcp(1).await;
    for (from, to) in [(0, 1), (1, 0)] {
        let [tcp, quic] = brought(&lab, from, to, &bytes(SIZE as usize, 100 + from as u64)).await;
        assert!(tcp == 0 && quic >= SIZE, "from {from} to {to}: {tcp} over TCP, {quic} over QUIC");
    }
    lab.stop().await;
}

/// Wait until the other side has ended the connection.
async fn ended(mut stream: impl AsyncReadExt + Unpin) {
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut Vec::new())).await;
    drop(read.expect("it was ended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_no_further_than_the_handshake_over_tcp() {
    let lab = Lab::start(1).await;
    let (at, key) = (lab.peer_address(0), lab.key(0).peer_key());
    // Silence, in more connections than one address may have, and then garbage.
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(TcpStream::connect(at).await.unwrap());
    }
    for stream in silent {
        ended(stream).await;
    }
    for len in [1, 5, 300, 100_000] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        drop(stream.write_all(&bytes(len, len as u64)).await);
        ended(stream).await;
    }
    let stranger = NodeKey::from_seed([31; 32]);
    let port = port_of(&stranger, socket());
    let mut greeted = port.dial_tcp(key, at).await.unwrap();
    drop(greeted.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await);
    ended(greeted).await;
    log::wait_for(&[&stranger.peer_key().to_string(), "refused a stranger: its key is no member's"]).await;
    // Whoever answers there but is not the one that was wanted is not spoken to.
    let somebody = NodeKey::from_seed([32; 32]).peer_key();
    assert!(port.dial_tcp(somebody, at).await.is_err());
    lab.create(0, "still there").await;
    lab.stop().await;
}

/// A member that speaks no HTTP/2, or breaks it off, ends its own connection and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_talks_nonsense_over_tcp_harms_nobody() {
    let lab = Lab::start(2).await;
    let port = lab.second_port(1);
    let (at, key) = (lab.peer_address(0), lab.key(0).peer_key());
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let bodies = [bytes(100_000, 1), [preface, &bytes(100_000, 2)].concat(), preface.to_vec()];
    for body in bodies {
        let mut stream = port.dial_tcp(key, at).await.unwrap();
        drop(stream.write_all(&body).await);
        let _ = timeout(Duration::from_millis(300), stream.read_to_end(&mut Vec::new())).await;
    }
    let (id, content) = (lab.create(0, "still there").await, bytes(300_000, 3));
    assert_eq!(lab.put(0, &format!("/v2/images/{id}/file"), &content).await, 204);
    assert!(lab.get_patiently(1, &format!("/v2/images/{id}/file")).await == content);
    lab.stop().await;
}
