//! HTTP/2 clients that make work without wanting an answer. Others must not feel them.

use std::time::Duration;

use peerglass_api::ApiSettings;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::frames::{
    CONTINUATION, Client, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RESET, SETTINGS, frame, head,
};
use crate::node::node;
use crate::pipes::{PIPE_BYTES, connection_to, seconds_to_end};
use crate::server::{Server, read_to_end, server};

const SECOND: Duration = Duration::from_secs(1);
/// The reason in a GOAWAY frame: the peer makes more work than is reasonable.
const ENHANCE_YOUR_CALM: u8 = 11;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// Another client is answered soon, and again and again.
async fn assert_serves(server: &Server) {
    for _ in 0..20 {
        let asked = async {
            let mut stream = server.connect().await;
            let request = b"GET /v2/images HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            read_to_end(&mut stream).await
        };
        let answer = timeout(5 * SECOND, asked).await.expect("others are served meanwhile");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// Read to the end and say why the node ended it, if it did say.
async fn reason(client: &mut Client) -> Option<u8> {
    let mut reason = None;
    let read = async {
        while let Some(frame) = client.next().await {
            if frame.kind == GOAWAY {
                reason = Some(frame.payload[7]);
            }
        }
    };
    timeout(10 * SECOND, read).await.expect("the node closes");
    reason
}

/// CVE-2023-44487: requests that are taken back at once, which no limit of streams at once counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_requests_back_at_once_is_cut_off() {
    let server = server(ApiSettings::default()).await;
    let mut client = Client::greet(server.connect().await, 1 << 16).await;
    let mut flood = Vec::new();
    for stream in (1..20_000).step_by(2) {
        flood.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", "/v2/images", "")));
        flood.extend(frame(RESET, 0, stream, &CANCEL));
    }
    client.send(flood).await;
    let (reason, ()) = tokio::join!(reason(&mut client), assert_serves(&server));
    assert_eq!(reason, Some(ENHANCE_YOUR_CALM));
}

/// Slow enough to be taken up each time: then they are requests like others, and only so many at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_requests_back_a_little_later_holds_nothing() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create_with(&[7; 3 << 20]).await;
    let file = format!("/v2/images/{id}/file");
    let mut client = Client::greet(server.connect().await, 0).await;
    let flood = async {
        for stream in (1..400).step_by(2) {
            client.get(stream, &file).await;
            client.next_of(HEADERS).await.unwrap();
            client.send(frame(RESET, 0, stream, &CANCEL)).await;
        }
        client.get(401, &file).await;
        client.next_of(HEADERS).await.unwrap();
    };
    tokio::join!(flood, assert_serves(&server));
    let begun = Instant::now();
    while server.node.transfer.usage().downloads > 1 {
        assert!(begun.elapsed() < 10 * SECOND, "{:?}", server.node.transfer.usage());
        sleep(SECOND / 100).await;
    }
}

/// CVE-2024-27316 and its like: a head that never ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_on_with_a_head_for_ever_is_cut_off() {
    let server = server(ApiSettings::default()).await;
    for piece in [0, 1, 16_000] {
        let mut client = Client::greet(server.connect().await, 1 << 16).await;
        let begin = frame(HEADERS, END_STREAM, 1, &head("GET", "/livez", ""));
        let mut flood = begin;
        for _ in 0..1000 {
            // The same field of the static table again and again: decoded, a frame is twenty times as long.
            flood.extend(frame(CONTINUATION, 0, 1, &vec![0x82; piece]));
        }
        client.send(flood).await;
        let (_, ()) = tokio::join!(reason(&mut client), assert_serves(&server));
    }
}

/// Each of these wants an answer. A client that does not take them is read no further, and cut off then.
#[tokio::test(start_paused = true)]
async fn who_asks_for_acknowledgements_and_takes_none_is_cut_off() {
    let node = node().await;
    for (kind, payload) in [(SETTINGS, &[][..]), (PING, &[7; 8])] {
        let (mut stream, _served) = connection_to(&node, CancellationToken::new()).await;
        let greeting = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        stream.write_all(&greeting).await.unwrap();
        // A request, or it would be cut off for having none.
        let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &head("GET", "/livez", ""));
        stream.write_all(&request).await.unwrap();
        let flood = frame(kind, 0, 0, payload).repeat(1000);
        let mut sent = 0;
        while let Ok(taken) = timeout(SECOND, stream.write(&flood)).await {
            sent += taken.unwrap();
            assert!(sent < 1 << 20, "{sent} bytes are kept for a client that takes nothing");
        }
        assert!(sent >= PIPE_BYTES);
        sleep(50 * SECOND).await;
        assert!(timeout(SECOND, stream.write(&flood)).await.is_err(), "still open");
        sleep(10 * SECOND).await;
        assert!(stream.write_all(&flood).await.is_err(), "cut off");
        seconds_to_end(&mut stream).await;
    }
}

/// Pings are no requests: who sends nothing else is idle.
#[tokio::test(start_paused = true)]
async fn chatter_keeps_no_connection() {
    let node = node().await;
    let (stream, _served) = connection_to(&node, CancellationToken::new()).await;
    let mut client = Client::greet(stream, 1 << 16).await;
    client.get(1, "/livez").await;
    let begun = Instant::now();
    while timeout(SECOND, client.next_of(GOAWAY)).await.is_err() {
        client.ping().await;
        client.send(frame(SETTINGS, 0, 0, &[])).await;
        assert!(begun.elapsed() < 100 * SECOND);
    }
    assert_eq!(begun.elapsed().as_secs(), 75);
}
