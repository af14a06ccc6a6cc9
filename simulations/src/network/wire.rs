//! Simulated TCP, as a node's listener and as the clients' connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use turmoil::net::{TcpListener, TcpStream};

use super::{API_PORT, host};

/// How soon a client notices that the machine it talks to is gone.
const CRASH_NOTICED: Duration = Duration::from_millis(40);

/// Accepts API connections from the simulated network.
pub(crate) struct SimListener(TcpListener);

impl SimListener {
    pub(crate) async fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind(("0.0.0.0", API_PORT)).await?;
        Ok(Self(listener))
    }
}

impl axum::serve::Listener for SimListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if let Ok(accepted) = self.0.accept().await {
                return accepted;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// The body of a request. An error in it is a client that hangs up.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// What came back.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A complete answer.
    Whole {
        /// Its status code.
        status: u16,
        /// Its headers.
        headers: HeaderMap,
        /// Its whole body.
        body: Bytes,
    },
    /// No answer, or one that broke off visibly: nobody knows what the node did.
    Broken {
        /// The status code, if the answer got that far.
        status: Option<u16>,
        /// What arrived of the body.
        received: Bytes,
        /// In a word, why.
        why: &'static str,
    },
}

/// How often the machine of each node crashed so far.
#[derive(Clone)]
pub(crate) struct Crashes(Arc<[AtomicU64]>);

impl Crashes {
    pub(crate) fn none(nodes: usize) -> Self {
        Self((0..nodes).map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn count(&self, node: usize) {
        self.0[node].fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, node: usize) -> u64 {
        self.0[node].load(Ordering::Relaxed)
    }

    /// Resolves some time after the machine of `node` crashed.
    async fn next(&self, node: usize) {
        let before = self.of(node);
        while self.of(node) == before {
            sleep(CRASH_NOTICED).await;
        }
    }
}

/// One client's way to a node. It keeps a connection open between requests while that works.
pub(crate) struct Wire {
    open: Option<Open>,
    node: usize,
    crashes: Crashes,
}

struct Open {
    sender: SendRequest<RequestBody>,
    /// Drives the connection; dropping it closes the connection.
    _driver: JoinSet<()>,
}

impl Wire {
    /// To `node`, not connected yet. A machine that crashes says no goodbye: a client that waits for
    /// an answer notices it by the count of `crashes`.
    pub(crate) fn new(node: usize, crashes: Crashes) -> Self {
        Self { open: None, node, crashes }
    }

    /// Which node it leads to.
    pub(crate) fn node(&self) -> usize {
        self.node
    }

    /// Ask `node` from now on.
    pub(crate) fn turn_to(&mut self, node: usize) {
        if self.node != node {
            self.hang_up();
            self.node = node;
        }
    }

    /// Close the connection, so that the next request opens another.
    pub(crate) fn hang_up(&mut self) {
        self.open = None;
    }

    /// Send `request` and wait for the whole answer, `patience` at most.
    pub(crate) async fn ask(&mut self, request: Request<RequestBody>, patience: Duration) -> Answer {
        let deadline = Instant::now() + patience;
        let mut received = BytesMut::new();
        let mut status = None;
        let (crashes, node) = (self.crashes.clone(), self.node);
        let talk = self.talk(request, &mut status, &mut received);
        let talk = async {
            tokio::select! {
                biased;
                done = talk => done,
                () = crashes.next(node) => Err("reset"),
            }
        };
        let broken = match timeout_at(deadline, talk).await {
            Ok(Ok(headers)) => {
                if let Some(status) = status {
                    return Answer::Whole { status, headers, body: received.freeze() };
                }
                "nothing"
            }
            Ok(Err(why)) => why,
            Err(_) => "timeout",
        };
        self.hang_up();
        Answer::Broken { status, received: received.freeze(), why: broken }
    }

    async fn talk(
        &mut self,
        request: Request<RequestBody>,
        status: &mut Option<u16>,
        received: &mut BytesMut,
    ) -> Result<HeaderMap, &'static str> {
        if !self.open.as_ref().is_some_and(|open| open.sender.is_ready()) {
            self.open = Some(connect(self.node).await?);
        }
        let open = self.open.as_mut().ok_or("not connected")?;
        open.sender.ready().await.map_err(|_| "connection closed")?;
        let answer = open.sender.send_request(request).await.map_err(|_| "no answer")?;
        *status = Some(answer.status().as_u16());
        let headers = answer.headers().clone();
        receive(answer.into_body(), received).await?;
        Ok(headers)
    }
}

async fn connect(node: usize) -> Result<Open, &'static str> {
    let stream = TcpStream::connect((host(node), API_PORT)).await.map_err(|_| "refused")?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| "no handshake")?;
    let mut driver = JoinSet::new();
    driver.spawn_local(async move {
        // Whoever waits for the answer learns that the connection broke.
        let _ = connection.await;
    });
    Ok(Open { sender, _driver: driver })
}

async fn receive(mut body: Incoming, received: &mut BytesMut) -> Result<(), &'static str> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| "answer broke off")?;
        if let Ok(data) = frame.into_data() {
            received.extend_from_slice(&data);
        }
    }
    Ok(())
}
