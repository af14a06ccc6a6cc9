//! Connections to a node that never leave this process, so that they can live in simulated time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use peerglass_api::serve;
use tokio::io::{AsyncRead, AsyncReadExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::node::{Node, node};

/// What a pipe holds before its writer has to wait.
pub(crate) const PIPE_BYTES: usize = 64 * 1024;

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
pub(crate) async fn connection() -> (DuplexStream, JoinSet<()>) {
    connection_until(CancellationToken::new()).await
}

pub(crate) async fn connection_until(stop: CancellationToken) -> (DuplexStream, JoinSet<()>) {
    connection_to(&node().await, stop).await
}

pub(crate) async fn connection_to(node: &Node, stop: CancellationToken) -> (DuplexStream, JoinSet<()>) {
    let (pipes, listener) = mpsc::channel(1);
    let (client, server) = duplex(PIPE_BYTES);
    pipes.send(server).await.unwrap();
    let mut served = JoinSet::new();
    served.spawn(serve(Pipes(listener), node.api.clone(), stop));
    (client, served)
}

/// Whole seconds until the node closes.
pub(crate) async fn seconds_to_end(stream: &mut (impl AsyncRead + Unpin)) -> u64 {
    let begun = Instant::now();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(1000), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    begun.elapsed().as_secs()
}
