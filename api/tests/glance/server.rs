//! A node behind a real socket, and the bytes a client puts on it.

use std::net::SocketAddr;
use std::time::Duration;

use peerglass_api::{ApiSettings, Auth, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::node::{Node, node_with};

/// A node that listens on loopback.
pub(crate) struct Server {
    pub(crate) node: Node,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) served: JoinHandle<()>,
}

pub(crate) async fn server(settings: ApiSettings) -> Server {
    server_with(settings, Auth::None).await
}

#[allow(clippy::disallowed_methods, reason = "a test stands where the node would: it owns listener and task")]
pub(crate) async fn server_with(settings: ApiSettings, auth: Auth) -> Server {
    let node = node_with(settings, auth).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(listener, node.api.clone(), stop.clone()));
    Server { node, address, stop, served }
}

impl Server {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Send a request that is whole and asks to close the connection, and read until the server does.
    pub(crate) async fn ask(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        read_to_end(&mut stream).await
    }

    /// Send bytes as they are, and that there are no more, and read until the server closes. It need not answer a
    /// client that has ended its side.
    pub(crate) async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // A server that refuses early may close before it has read everything.
        drop(stream.write_all(request).await);
        drop(stream.shutdown().await);
        read_to_end(&mut stream).await
    }

    pub(crate) fn put(&self, id: &str, headers: &str, body: &str) -> String {
        format!(
            "PUT /v2/images/{id}/file HTTP/1.1\r\nHost: h\r\nContent-Type: application/octet-stream\r\n{headers}\r\n{body}"
        )
    }

    pub(crate) async fn until_status(&self, id: &str, status: &str) {
        for _ in 0..2000 {
            if self.node.show(id).await["status"] == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{id} did not become {status}");
    }
}

pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset instead of an end still leaves what came before.
    drop(tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await);
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
