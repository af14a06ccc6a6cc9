//! How long a connection without a request stays open, in simulated time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use peerglass_api::serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::node::node;

/// A listener whose connections never leave this process.
struct Pipes(mpsc::Receiver<DuplexStream>);

impl Listener for Pipes {
    type Io = DuplexStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (DuplexStream, SocketAddr) {
        match self.0.recv().await {
            Some(stream) => (stream, ([192, 0, 2, 1], 4711).into()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([192, 0, 2, 2], 9292).into())
    }
}

/// One connection to a node, and the task that serves it.
async fn connection() -> (DuplexStream, JoinSet<()>) {
    connection_until(CancellationToken::new()).await
}

async fn connection_until(stop: CancellationToken) -> (DuplexStream, JoinSet<()>) {
    let (pipes, listener) = mpsc::channel(1);
    let (client, server) = duplex(64 * 1024);
    pipes.send(server).await.unwrap();
    let mut served = JoinSet::new();
    served.spawn(serve(Pipes(listener), node().await.api, stop));
    (client, served)
}

async fn ask(stream: &mut DuplexStream) {
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&answer));
}

/// Whole seconds until the node closes.
async fn seconds_to_end(stream: &mut DuplexStream) -> u64 {
    let begun = Instant::now();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(1000), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    begun.elapsed().as_secs()
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
