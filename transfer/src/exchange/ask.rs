//! Asking one peer, and believing nothing it says but what can be checked.
//!
//! # What it promises
//!
//! * Every wait ends: when nothing has arrived on any stream of the link for [`SILENCE_MAX`], or when one
//!   request takes longer than [`REQUEST_TIME_MAX`].
//! * Nothing is allocated on the peer's word beyond the length that was asked for.
//!
//! # What it leaves to others
//!
//! Whether a blob is what it was asked for, once it is opened (`sources`).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use peerglass_catalog::{Digest, ManifestRoot, NodeId};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use super::pulls::Purpose;
use super::survey::Share;
use super::wire::{self, Answer, Breach, Head, HoldRefusal, News, Request};
use crate::connection::{Broken, Connection, Receiving};
use crate::form::{Form, Parcel};
use crate::peers::{PeerError, Peers};

/// How long a peer may be silent while it owes an answer: longer than any queue or retransmission of
/// a network that works.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long one request for blobs may take. At a mebibyte a request that is 2 KiB/s, less than any
/// link worth waiting for; it bounds what a peer gains by sending one byte at a time.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_mins(10);
/// How long a peer that was asked to hold a manifest may work without receiving anything: it may
/// have to give up on several sources, and entering a large image into its index takes seconds.
const HOLD_STANDSTILL_MAX: Duration = Duration::from_mins(2);
/// Bytes allocated at a time for a blob whose length only the peer knows.
const GROW_BYTES: usize = 256 << 10;

/// One blob that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) digest: Digest,
    pub(crate) len: WantLen,
}

/// How long the blob is, plain. Only what is exactly so long may come compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WantLen {
    Exactly(u32),
    AtMost(u32),
}

/// Why a peer did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It broke the protocol: a bug there, or not the node it seems to be.
    #[error("it sent {0}")]
    Breach(#[from] Breach),
    /// There is no way to it.
    #[error(transparent)]
    Unreachable(PeerError),
    /// It has too much to send. Only who did not say that it waits is told so.
    #[error("it is busy")]
    Busy,
    /// It did not answer in time.
    #[error("it stalled")]
    Silent,
    /// The stream or the connection ended.
    #[error("the connection broke: {0}")]
    Lost(#[source] Broken),
}

/// What came of asking a peer to hold a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    Held,
    Refused(HoldRefusal),
}

/// Connections tried for one question: one that was open may have ended and not be known to have.
const CONNECTIONS_TRIED: usize = 2;

/// Do `ask` on a connection to `peer`, and again on another if the first breaks.
pub(crate) async fn on_a_link<T, F: Future<Output = Result<T, AskError>>>(
    peers: &dyn Peers,
    peer: NodeId,
    ask: impl Fn(Arc<Link>) -> F,
) -> Result<T, AskError> {
    let mut tried = 1;
    loop {
        let connected = timeout(SILENCE_MAX, peers.connect(peer)).await.map_err(|_| AskError::Silent)?;
        let link = Arc::new(Link::new(connected.map_err(AskError::Unreachable)?));
        match ask(link).await {
            Err(AskError::Lost(_)) if tried < CONNECTIONS_TRIED => tried += 1,
            asked => return asked,
        }
    }
}

/// News of one manifest from one peer.
pub(crate) struct Following {
    stream: Receiving,
    first: Option<News>,
}

impl Following {
    /// The next news, however long it takes: a peer that is gone ends the connection.
    pub(crate) async fn next(&mut self) -> Result<News, AskError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let mut head = [0; 4];
        fill(&mut self.stream, &mut head).await?;
        let mut frame = vec![0; wire::frame_len(head)?];
        // The rest of a frame comes with its head, or the connection is as good as broken.
        timeout(SILENCE_MAX, fill(&mut self.stream, &mut frame)).await.map_err(|_| AskError::Silent)??;
        Ok(wire::message(&frame)?)
    }
}

async fn fill(stream: &mut Receiving, mut buffer: &mut [u8]) -> Result<(), AskError> {
    while !buffer.is_empty() {
        let read = stream.read(buffer).await.map_err(AskError::Lost)?.ok_or(Breach::EndsEarly)?;
        buffer = &mut buffer[read..];
    }
    Ok(())
}

/// A connection to one peer, for one purpose.
pub(crate) struct Link {
    connection: Connection,
    began: Instant,
    /// When bytes last arrived on a stream of this link, in milliseconds since it began.
    heard_ms: AtomicU64,
}

impl Link {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, began: Instant::now(), heard_ms: AtomicU64::new(0) }
    }

    /// What it goes over.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether the peer holds all of a manifest.
    pub(crate) async fn holds(&self, root: ManifestRoot) -> Result<bool, AskError> {
        self.yes_or_no(&Request::Holds { root }).await
    }

    /// Whether the peer, by a state with the log entry `at`, is to keep a manifest, and holds all of it.
    pub(crate) async fn keeps(&self, root: ManifestRoot, at: u64) -> Result<bool, AskError> {
        self.yes_or_no(&Request::Keeps { root, at }).await
    }

    async fn yes_or_no(&self, request: &Request) -> Result<bool, AskError> {
        let mut stream = self.ask(request).await?;
        match self.frame(&mut stream).await? {
            Answer::Holds(holds) => self.end(&mut stream).await.map(|()| holds),
            Answer::Working(_) | Answer::Held | Answer::Refused(_) | Answer::Share(_) => {
                Err(Breach::WrongAnswer.into())
            }
        }
    }

    /// How much of a manifest the peer has.
    pub(crate) async fn share(&self, root: ManifestRoot) -> Result<Share, AskError> {
        let mut stream = self.ask(&Request::Share { root }).await?;
        match self.frame(&mut stream).await? {
            Answer::Share(share) => self.end(&mut stream).await.map(|()| share),
            Answer::Working(_) | Answer::Held | Answer::Refused(_) | Answer::Holds(_) => {
                Err(Breach::WrongAnswer.into())
            }
        }
    }

    /// Receive blobs into `got`, which has a place for each of `wants`; those the peer lacks stay
    /// `None`. After an error, what was received before it is there. `root` names all of them.
    pub(crate) async fn blobs(
        &self,
        root: ManifestRoot,
        wants: &[Want],
        waits: bool,
        got: &mut [Option<Parcel>],
    ) -> Result<(), AskError> {
        let digests = wants.iter().map(|want| want.digest).collect();
        let plain = wants.iter().any(|want| matches!(want.len, WantLen::AtMost(_)));
        let receive = async {
            let mut stream = self.ask(&Request::Blobs { root, digests, waits, plain }).await?;
            for (want, place) in wants.iter().zip(got) {
                *place = self.blob(&mut stream, want.len).await?;
            }
            self.end(&mut stream).await
        };
        timeout(REQUEST_TIME_MAX, receive).await.unwrap_or(Err(AskError::Silent))
    }

    /// Be told how much of a manifest the peer has, now and from now on.
    pub(crate) async fn follow(&self, root: ManifestRoot) -> Result<Following, AskError> {
        let mut stream = self.ask(&Request::Follow { root }).await?;
        let first = self.frame(&mut stream).await?;
        Ok(Following { stream, first: Some(first) })
    }

    /// Have the peer hold a manifest durably, or fetch it ahead.
    pub(crate) async fn hold(&self, root: ManifestRoot, purpose: Purpose) -> Result<Holding, AskError> {
        let request = match purpose {
            Purpose::Hold => Request::Hold { root },
            Purpose::Ahead => Request::Ahead { root },
        };
        let mut stream = self.ask(&request).await?;
        let mut most = 0;
        let mut moved_at = Instant::now();
        loop {
            let holding = match self.frame(&mut stream).await? {
                Answer::Held => Holding::Held,
                Answer::Refused(reason) => Holding::Refused(reason),
                Answer::Working(received) if received > most => {
                    most = received;
                    moved_at = Instant::now();
                    continue;
                }
                Answer::Working(_) if moved_at.elapsed() < HOLD_STANDSTILL_MAX => continue,
                Answer::Working(_) => return Err(AskError::Silent),
                Answer::Holds(_) | Answer::Share(_) => return Err(Breach::WrongAnswer.into()),
            };
            return Ok(holding);
        }
    }

    /// Open a stream and send `request` on it.
    async fn ask(&self, request: &Request) -> Result<Receiving, AskError> {
        let asked = self.unless_silent(self.connection.ask(wire::frame(request))).await?;
        asked.map_err(AskError::Lost)
    }

    async fn frame<T: DeserializeOwned>(&self, stream: &mut Receiving) -> Result<T, AskError> {
        let mut head = [0; 4];
        self.fill(stream, &mut head).await?;
        let mut frame = vec![0; wire::frame_len(head)?];
        self.fill(stream, &mut frame).await?;
        Ok(wire::message(&frame)?)
    }

    async fn blob(&self, stream: &mut Receiving, want: WantLen) -> Result<Option<Parcel>, AskError> {
        let mut head = [0; 4];
        self.fill(stream, &mut head).await?;
        let form = match (wire::head(head), want) {
            (Head::NotHere, _) => return Ok(None),
            (Head::Busy, _) => return Err(AskError::Busy),
            (Head::Raw(len), WantLen::Exactly(exactly)) if len == exactly => Form::raw(len),
            (Head::Raw(len), WantLen::AtMost(most)) if len <= most => Form::raw(len),
            (Head::Raw(len), _) => return Err(Breach::WrongLength(len).into()),
            (Head::Zstd(len), WantLen::Exactly(exactly)) => {
                Form::zstd(len, exactly).ok_or(Breach::WrongLength(len))?
            }
            (Head::Zstd(_), WantLen::AtMost(_)) => return Err(Breach::Compressed.into()),
        };
        let len = form.stored_len() as usize;
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let start = bytes.len();
            let end = match want {
                WantLen::Exactly(_) => len,
                WantLen::AtMost(_) => len.min(start + GROW_BYTES),
            };
            bytes.resize(end, 0);
            self.fill(stream, &mut bytes[start..]).await?;
        }
        Ok(Some(Parcel { form, bytes: bytes.into() }))
    }

    async fn fill(&self, stream: &mut Receiving, mut buffer: &mut [u8]) -> Result<(), AskError> {
        while !buffer.is_empty() {
            let read = self.unless_silent(stream.read(buffer)).await?.map_err(AskError::Lost)?;
            let read = read.ok_or(Breach::EndsEarly)?;
            self.heard_ms.fetch_max(self.now_ms(), Ordering::Relaxed);
            buffer = &mut buffer[read..];
        }
        Ok(())
    }

    async fn end(&self, stream: &mut Receiving) -> Result<(), AskError> {
        match self.unless_silent(stream.read(&mut [0])).await?.map_err(AskError::Lost)? {
            None => Ok(()),
            Some(_) => Err(Breach::TrailingBytes.into()),
        }
    }

    /// Do `step`, unless it waits while nothing arrives on the whole link: streams of one link share
    /// its rate, so that on a slow one each of them is silent for a while.
    async fn unless_silent<F: Future>(&self, step: F) -> Result<F::Output, AskError> {
        let mut step = pin!(step);
        let mut since_ms = self.now_ms();
        loop {
            let deadline = self.began + Duration::from_millis(since_ms) + SILENCE_MAX;
            if let Ok(done) = timeout_at(deadline, &mut step).await {
                return Ok(done);
            }
            let heard_ms = self.heard_ms.load(Ordering::Relaxed);
            if heard_ms <= since_ms {
                return Err(AskError::Silent);
            }
            since_ms = heard_ms;
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
