//! Clients that do not take what they asked for, in simulated time.

use std::time::Duration;

use peerglass_api::{ApiSettings, Auth};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::frames::{self, Client, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RESET};
use crate::node::{Node, node_with, raw};
use crate::pipes::{PIPE_BYTES, connection_to};

/// More than everything between the node and its client holds.
const LARGE: &[u8] = &[7; 6 << 20];
const SECOND: Duration = Duration::from_secs(1);

/// A node that waits a minute for clients to take something.
async fn node() -> Node {
    node_with(ApiSettings { write_idle_timeout: 60 * SECOND, ..ApiSettings::default() }, Auth::None).await
}

async fn connect(node: &Node) -> (DuplexStream, JoinSet<()>) {
    connection_to(node, CancellationToken::new()).await
}

async fn greet(node: &Node, window: u32) -> (Client, JoinSet<()>) {
    let (stream, served) = connect(node).await;
    (Client::greet(stream, window).await, served)
}

async fn ask_for_file(stream: &mut DuplexStream, id: &str) {
    let request = format!("GET /v2/images/{id}/file HTTP/1.1\r\nHost: h\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Seconds until no download is under way.
async fn seconds_to_release(node: &Node) -> u64 {
    let begun = Instant::now();
    while node.transfer.usage().downloads > 0 {
        assert!(begun.elapsed() < 1000 * SECOND, "still under way");
        sleep(SECOND / 10).await;
    }
    begun.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn who_reads_nothing_is_cut_off() {
    let node = node().await;
    let id = node.create_with(LARGE).await;
    let (mut stream, _served) = connect(&node).await;
    ask_for_file(&mut stream, &id).await;
    sleep(SECOND).await;
    assert_eq!(node.transfer.usage().downloads, 1);
    assert_eq!(seconds_to_release(&node).await, 59);
    let mut rest = Vec::new();
    timeout(SECOND, stream.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
    assert!(rest.len() <= PIPE_BYTES);
}

/// A byte a minute is little, but it shows that somebody is there.
#[tokio::test(start_paused = true)]
async fn who_reads_slowly_is_waited_for() {
    let node = node().await;
    let id = node.create_with(LARGE).await;
    let (mut stream, _served) = connect(&node).await;
    ask_for_file(&mut stream, &id).await;
    for _ in 0..20 {
        sleep(50 * SECOND).await;
        stream.read_exact(&mut [0; 100]).await.unwrap();
    }
    let mut rest = Vec::new();
    let whole = async {
        while rest.len() < LARGE.len() - 20 * 100 {
            stream.read_buf(&mut rest).await.unwrap();
        }
    };
    timeout(SECOND, whole).await.expect("the rest comes at once");
}

/// Whether the answer is larger than what HTTP/2 takes in at once, or a few bytes. Of those it takes all once
/// there is a window for one: then the body is over, and they are held without it.
#[tokio::test(start_paused = true)]
async fn who_gives_no_window_is_cut_off_however_lively() {
    let node = node().await;
    for (bytes, window) in [(LARGE, 0), (b"few", 0), (b"few", 1)] {
        let id = node.create_with(bytes).await;
        let (mut client, _served) = greet(&node, window).await;
        for stream in [1, 3, 5] {
            client.get(stream, &format!("/v2/images/{id}/file")).await;
            client.next_of(HEADERS).await.unwrap();
        }
        let begun = Instant::now();
        let mut data_bytes = 0;
        loop {
            assert!(begun.elapsed() < 100 * SECOND, "still open");
            client.ping().await;
            match timeout(SECOND, client.next()).await {
                Ok(Some(frame)) if frame.kind == DATA => data_bytes += frame.payload.len(),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {}
            }
            sleep(SECOND).await;
        }
        // Each round takes up to two seconds, and one frame of what is still to be read.
        assert!((60..70).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert!(data_bytes <= 3 * window as usize, "{data_bytes}");
        assert_eq!(seconds_to_release(&node).await, 0);
        node.delete(&format!("/v2/images/{id}")).await.expect(204);
    }
}

#[tokio::test(start_paused = true)]
async fn who_gives_little_window_is_waited_for() {
    let node = node().await;
    let id = node.create_with(LARGE).await;
    let (mut client, _served) = greet(&node, 1).await;
    client.get(1, &format!("/v2/images/{id}/file")).await;
    for _ in 0..20 {
        assert_eq!(client.next_of(DATA).await.unwrap().payload.len(), 1);
        sleep(50 * SECOND).await;
        client.widen(1, 1).await;
    }
    client.next_of(DATA).await.unwrap();
    let begun = Instant::now();
    assert!(timeout(100 * SECOND, client.next_of(DATA)).await.expect("it is closed").is_none());
    assert_eq!(begun.elapsed().as_secs(), 60);
}

/// A client that changed its mind holds nothing, and may do something else.
#[tokio::test(start_paused = true)]
async fn a_download_that_was_reset_is_forgotten() {
    let node = node().await;
    let id = node.create_with(LARGE).await;
    let (mut client, _served) = greet(&node, 1000).await;
    client.get(1, &format!("/v2/images/{id}/file")).await;
    client.next_of(DATA).await.unwrap();
    client.send(frames::frame(RESET, 0, 1, &8_u32.to_be_bytes())).await;
    assert_eq!(seconds_to_release(&node).await, 0);
    sleep(70 * SECOND).await;
    client.get(3, "/livez").await;
    assert_eq!(client.next_of(DATA).await.unwrap().payload, b"OK");
}

#[tokio::test(start_paused = true)]
async fn who_sends_need_not_take() {
    let node = node().await;
    let file = |id: &str| format!("/v2/images/{id}/file");
    let id = node.create(raw()).await;
    let (mut stream, _served) = connect(&node).await;
    let length = "Content-Type: application/octet-stream\r\nContent-Length: 50000";
    let head = format!("PUT {} HTTP/1.1\r\nHost: h\r\n{length}\r\n\r\n", file(&id));
    stream.write_all(head.as_bytes()).await.unwrap();
    let other = node.create(raw()).await;
    let (mut client, _served_too) = greet(&node, 0).await;
    let block = frames::head("PUT", &file(&other), "application/octet-stream");
    client.send(frames::frame(HEADERS, END_HEADERS, 1, &block)).await;
    for _ in 0..10 {
        sleep(50 * SECOND).await;
        stream.write_all(&[7; 5000]).await.unwrap();
        client.send(frames::frame(DATA, 0, 1, &[7; 5000])).await;
    }
    client.send(frames::frame(DATA, END_STREAM, 1, &[])).await;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");
    client.next_of(HEADERS).await.unwrap();
    for id in [id, other] {
        assert_eq!(node.show(&id).await["size"], 50_000);
    }
}

/// As an HTTP/1.1 client is, with a word first: a request may be under way.
#[tokio::test(start_paused = true)]
async fn an_http2_client_without_a_request_is_kept_for_a_while() {
    let node = node().await;
    let (mut client, _served) = greet(&node, 1 << 16).await;
    for (stream, pause) in [(1, 0), (3, 30), (5, 74)] {
        sleep(pause * SECOND).await;
        client.get(stream, "/livez").await;
        client.next_of(DATA).await.unwrap();
    }
    let begun = Instant::now();
    client.next_of(GOAWAY).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 75);
    while client.next().await.is_some() {}
    assert_eq!(begun.elapsed().as_secs(), 75);
}

/// So many downloads and no more, until one is over; what a connection still holds of one counts.
#[tokio::test(start_paused = true)]
async fn downloads_have_a_limit() {
    let settings = ApiSettings { downloads_max: 2, ..ApiSettings::default() };
    let node = node_with(settings, Auth::None).await;
    let id = node.create_with(b"bytes").await;
    let file = format!("/v2/images/{id}/file");
    let (mut client, _served) = greet(&node, 1).await;
    for stream in [1, 3] {
        client.get(stream, &file).await;
        assert_eq!(client.next_of(DATA).await.unwrap().payload, b"b");
    }
    let refused = node.get(&file).await.expect(503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    node.get(&format!("/v2/images/{id}")).await.expect(200);
    client.widen(1, 4).await;
    assert_eq!(client.next_of(DATA).await.unwrap().payload, b"ytes");
    node.get(&file).await.expect(200);
    node.get(&file).await.expect(200);
}
