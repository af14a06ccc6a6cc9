//! The connection for image bytes to one other node: over TCP where that works, else over QUIC.
//!
//! # What it promises
//!
//! * A dial over TCP that is slow holds nobody up: QUIC is dialled beside it, and whoever is first is used.
//! * It is not given up for that, as a machine with much to do is slow to shake hands: once it has come about, it is
//!   what later requests go over. Only where TCP failed and QUIC did not, it is left alone for a while.
//! * Whoever asks may lose interest at any time. That says nothing of the peer, and what was begun over TCP goes on.

use std::error::Error;
use std::future::pending;
use std::time::Duration;

use peerglass_catalog::{NodeEntry, NodeId};
use peerglass_transfer::Connection;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::answers::{Answers, Serving};
use crate::peers::dial::Dialer;
use crate::peers::port::{DialError, Purpose};

/// Pause before a node that could not be reached is dialled again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How long TCP is tried alone. QUIC costs more processor time, and a pull goes on with what it began with: when many
/// nodes begin at once on a machine that has much to do, hands are not shaken in half a second.
const TCP_HEAD_START: Duration = Duration::from_millis(1_500);
/// How long a node that is reached by QUIC alone is not tried by TCP again.
const TCP_RETRY_AFTER: Duration = Duration::from_mins(1);

/// How to reach the node.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) peer: NodeId,
    pub(super) entry: &'a NodeEntry,
    pub(super) dialer: &'a Dialer,
    pub(super) answers: &'a Answers,
}

type Dialled = Result<Connection, DialError>;

/// See the module.
#[derive(Default)]
pub(super) struct Slot {
    connection: Option<Connection>,
    /// Answers on the connection, if it goes over QUIC. Without it the port of the other node, which has few places for
    /// an address, would keep a connection that nobody uses.
    serving: Option<Serving>,
    /// Says what came of the dial over TCP that was begun last.
    tcp: Option<oneshot::Receiver<Dialled>>,
    not_before: Option<Instant>,
    /// TCP did not work and QUIC did.
    no_tcp_before: Option<Instant>,
}

impl Slot {
    /// A connection: the one that is open, or another.
    pub(super) async fn open(&mut self, way: Way<'_>) -> Result<Connection, Box<dyn Error + Send + Sync>> {
        self.look_at_tcp(way.peer);
        if let Some(open) = self.connection.clone().filter(|open| !open.is_closed()) {
            if matches!(open, Connection::Quic(_)) {
                self.begin_tcp(way);
            }
            return Ok(open);
        }
        (self.connection, self.serving) = (None, None);
        if self.not_before.is_some_and(|not_before| Instant::now() < not_before) {
            return Err("it could not be reached a moment ago".into());
        }
        self.not_before = None;
        let dialled = self.dial(way).await;
        match &dialled {
            Ok(connection) => self.connection = Some(connection.clone()),
            Err(_) => self.not_before = Some(Instant::now() + RETRY_AFTER),
        }
        Ok(dialled?)
    }

    async fn dial(&mut self, way: Way<'_>) -> Dialled {
        let tries_tcp = self.begin_tcp(way);
        if tries_tcp && let Ok(Ok(connection)) = timeout(TCP_HEAD_START, self.over_tcp()).await {
            return Ok(connection);
        }
        let dialled = tokio::select! {
            biased;
            Ok(connection) = self.over_tcp() => Ok(connection),
            dialled = over_quic(way) => dialled.map(|(connection, serving)| {
                self.serving = Some(serving);
                connection
            }),
        };
        match dialled {
            Err(_) if self.tcp.is_some() => self.over_tcp().await,
            Ok(Connection::Quic(_)) if tries_tcp && self.tcp.is_none() => {
                self.leave_tcp(way.peer);
                dialled
            }
            dialled => dialled,
        }
    }

    /// Dial over TCP, unless that is under way, or not to be tried. Answers with whether it is under way.
    fn begin_tcp(&mut self, way: Way<'_>) -> bool {
        let may_try = self.no_tcp_before.is_none_or(|not_before| Instant::now() >= not_before);
        if self.tcp.is_none() && may_try && way.dialer.has_tcp() {
            let (tell, told) = oneshot::channel();
            way.answers.spawn(dial_tcp(way.dialer.clone(), way.entry.clone(), tell));
            self.tcp = Some(told);
        }
        self.tcp.is_some()
    }

    /// What comes of the dial over TCP. Never ready if none is under way, which is so once it has answered.
    async fn over_tcp(&mut self) -> Dialled {
        let Some(dial) = &mut self.tcp else { return pending().await };
        // Nobody tells if the node is stopping.
        let dialled = dial.await.unwrap_or(Err(DialError::Timeout));
        self.tcp = None;
        dialled
    }

    /// Use what came over TCP since this was asked last.
    fn look_at_tcp(&mut self, peer: NodeId) {
        let Some(dial) = &mut self.tcp else { return };
        match dial.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return,
            Ok(Ok(connection)) if !connection.is_closed() => {
                (self.connection, self.serving) = (Some(connection), None);
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => {
                if self.connection.as_ref().is_some_and(|open| !open.is_closed()) {
                    self.leave_tcp(peer);
                }
            }
        }
        self.tcp = None;
    }

    fn leave_tcp(&mut self, peer: NodeId) {
        tracing::debug!(peer = peer.0, "no TCP: image bytes go over QUIC");
        self.no_tcp_before = Some(Instant::now() + TCP_RETRY_AFTER);
    }
}

/// Dial over TCP, tell what came of it, and carry the connection until it ends.
async fn dial_tcp(dialer: Dialer, entry: NodeEntry, tell: oneshot::Sender<Dialled>) {
    let dialled = async {
        let stream = dialer.connect_tcp(&entry).await?;
        Ok::<_, DialError>(Connection::over_tcp(stream).await?)
    };
    match dialled.await {
        Ok((connection, carry)) => {
            if tell.send(Ok(connection)).is_ok() {
                carry.await;
            }
        }
        // Nobody hears of it if the slot is gone.
        Err(error) => drop(tell.send(Err(error))),
    }
}

async fn over_quic(way: Way<'_>) -> Result<(Connection, Serving), DialError> {
    let connection = way.dialer.connect(way.entry, Purpose::Chunks).await?;
    let serving = way.answers.serve(connection.clone(), way.peer);
    Ok((connection.into(), serving))
}

#[cfg(test)]
mod tests;
