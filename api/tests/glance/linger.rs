//! Answers that come before the request is over reach the client all the same.

use std::time::Duration;

use peerglass_api::ApiSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::node::raw;
use crate::server::{Server, read_to_end, server};

/// What a careless client sends before it looks for an answer.
const BODY_BYTES: usize = 8 << 20;
/// How often a race that is lost now and then is run.
const ROUNDS: usize = 40;

/// Send all, and only then read, as most HTTP libraries do.
async fn send_then_read(server: &Server, head: &str, body: &[u8]) -> String {
    let mut stream = server.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.expect("the node takes what the client sends");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    read.unwrap().expect("the connection ends in order");
    String::from_utf8(answer).unwrap()
}

#[track_caller]
fn assert_whole(answer: &str, status: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no whole head: {answer:?}"));
    assert!(head.starts_with(status), "{answer}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(body.len(), length.parse::<usize>().unwrap(), "{answer}");
}

/// The image has its bytes already, and the client sends others without asking first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_is_read_by_a_client_that_sends_all_first() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create_with(b"settled").await;
    let head = server.put(&id, &format!("Content-Length: {BODY_BYTES}\r\n"), "");
    let body = vec![7; BODY_BYTES];
    for _ in 0..ROUNDS {
        assert_whole(&send_then_read(&server, &head, &body).await, "HTTP/1.1 409");
    }
}

/// A wrong media type is refused by the headers alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_by_headers_is_read_too() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create(raw()).await;
    let head = server.put(&id, &format!("Content-Length: {BODY_BYTES}\r\n"), "");
    let head = head.replace("application/octet-stream", "text/plain");
    let body = vec![7; BODY_BYTES];
    for _ in 0..ROUNDS {
        assert_whole(&send_then_read(&server, &head, &body).await, "HTTP/1.1 415");
    }
}

/// The size is announced in a header, or found out in the middle of the chunks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_large_is_read_by_a_client_that_sends_chunks() {
    let settings = ApiSettings { image_size_cap: 1 << 20, ..ApiSettings::default() };
    let server = server(settings).await;
    let id = server.node.create(raw()).await;
    let mut body = Vec::new();
    for _ in 0..BODY_BYTES / 65536 {
        body.extend_from_slice(b"10000\r\n");
        body.extend_from_slice(&[7; 65536]);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    for announced in [format!("X-OpenStack-Image-Size: {BODY_BYTES}\r\n"), String::new()] {
        let head = server.put(&id, &format!("Transfer-Encoding: chunked\r\n{announced}"), "");
        for _ in 0..ROUNDS / 2 {
            assert_whole(&send_then_read(&server, &head, &body).await, "HTTP/1.1 413");
        }
    }
}

/// While the node stops, and then it does stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_read_while_the_node_drains() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create_with(b"settled").await;
    let head = server.put(&id, &format!("Content-Length: {BODY_BYTES}\r\n"), "");
    let mut stream = server.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![7; BODY_BYTES / 2]).await.unwrap();
    server.stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.write_all(&vec![7; BODY_BYTES / 2]).await.unwrap();
    assert_whole(&read_to_end(&mut stream).await, "HTTP/1.1 409");
    drop(stream);
    server.served.await.unwrap();
}

/// Whoever ignores the answer is cut, soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_stops_is_cut() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create_with(b"settled").await;
    for (piece, pause) in [(1 << 20, Duration::ZERO), (1, Duration::from_millis(20))] {
        let mut stream = server.connect().await;
        stream.write_all(server.put(&id, "Content-Length: 1000000000000\r\n", "").as_bytes()).await.unwrap();
        let (piece, begun) = (vec![7; piece], tokio::time::Instant::now());
        while stream.write_all(&piece).await.is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(10), "still reading");
            tokio::time::sleep(pause).await;
        }
    }
}

/// Nothing is unread on an idle connection, so a stop does not wait for its client to close it.
#[tokio::test]
async fn idle_connections_do_not_delay_a_stop() {
    let server = server(ApiSettings::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    crate::server::read_head(&mut stream).await;
    let begun = tokio::time::Instant::now();
    server.stop.cancel();
    server.served.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "no longer than requests may cross with the stop");
}
