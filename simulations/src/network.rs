//! Simulated TCP, as the node's listener and as the clients' connections.

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

/// The name of the node in the simulated network.
pub(crate) const NODE: &str = "node";
/// The port of its API.
pub(crate) const PORT: u16 = 9292;

/// How soon a client notices that the machine it talks to is gone.
const CRASH_NOTICED: Duration = Duration::from_millis(40);

/// Accepts API connections from the simulated network.
pub(crate) struct SimListener(TcpListener);

impl SimListener {
    pub(crate) async fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
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

/// One client's way to the node. It keeps a connection open between requests while that works.
pub(crate) struct Wire {
    open: Option<Open>,
    /// How often the node's machine crashed so far.
    crashes: Arc<AtomicU64>,
}

struct Open {
    sender: SendRequest<RequestBody>,
    /// Drives the connection; dropping it closes the connection.
    _driver: JoinSet<()>,
}

impl Wire {
    /// Not connected yet. `crashes` counts the crashes of the node's machine, which say no goodbye:
    /// a client that waits for an answer notices them by this count.
    pub(crate) fn new(crashes: Arc<AtomicU64>) -> Self {
        Self { open: None, crashes }
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
        let crash = crash(Arc::clone(&self.crashes));
        let talk = self.talk(request, &mut status, &mut received);
        let talk = async {
            tokio::select! {
                biased;
                done = talk => done,
                () = crash => Err("reset"),
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
            self.open = Some(connect().await?);
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

/// Resolves some time after the machine crashed.
async fn crash(crashes: Arc<AtomicU64>) {
    let before = crashes.load(Ordering::Relaxed);
    while crashes.load(Ordering::Relaxed) == before {
        sleep(CRASH_NOTICED).await;
    }
}

async fn connect() -> Result<Open, &'static str> {
    let stream = TcpStream::connect((NODE, PORT)).await.map_err(|_| "refused")?;
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
