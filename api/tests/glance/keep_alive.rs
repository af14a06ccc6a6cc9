//! How long a connection without a request stays open, in simulated time.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::pipes::{connection, connection_until, seconds_to_end};

async fn ask(stream: &mut DuplexStream) {
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&answer));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_can_be_used_again_for_a_while() {
    let (mut stream, _served) = connection().await;
    for pause in [0, 30, 74] {
        sleep(Duration::from_secs(pause)).await;
        ask(&mut stream).await;
    }
    assert_eq!(seconds_to_end(&mut stream).await, 75);
}

#[tokio::test(start_paused = true)]
async fn the_first_head_must_come_sooner() {
    for beginning in ["", "GET /livez HTTP/1.1\r\nHost:"] {
        let (mut stream, _served) = connection().await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        assert_eq!(seconds_to_end(&mut stream).await, 10, "{beginning:?}");
    }
}

/// A later head that trickles buys no time.
#[tokio::test(start_paused = true)]
async fn a_trickling_head_ends_with_the_idle_time() {
    let (mut stream, _served) = connection().await;
    ask(&mut stream).await;
    let begun = Instant::now();
    stream.write_all(b"GET /livez HTTP/1.1\r\nX: ").await.unwrap();
    while stream.write_all(b"x").await.is_ok() {
        sleep(Duration::from_secs(1)).await;
        assert!(begun.elapsed().as_secs() < 100, "still open");
    }
    assert!(begun.elapsed().as_secs() >= 75);
}

/// A client that sends just as the node stops has done nothing wrong: it gets its answer, which says that the
/// connection ends. One that sends nothing is not waited for.
#[tokio::test(start_paused = true)]
async fn a_request_that_crosses_with_the_stop_is_answered() {
    let stop = CancellationToken::new();
    let (mut stream, mut served) = connection_until(stop.clone()).await;
    ask(&mut stream).await;
    stop.cancel();
    sleep(Duration::from_millis(500)).await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close\r\n"), "{answer}");
    served.join_next().await.unwrap().unwrap();

    let stop = CancellationToken::new();
    let (mut stream, _served) = connection_until(stop.clone()).await;
    ask(&mut stream).await;
    stop.cancel();
    assert_eq!(seconds_to_end(&mut stream).await, 1);
}
