//! One outgoing connection to each node, opened when there is something to ask.
//!
//! # What it promises
//!
//! * A request is sent only to a node that proved to have the expected key, that is of this cluster and
//!   of the expected id, and whose disk is not older than what this node remembers of it.
//! * Whoever asks waits no longer than its deadline. Nothing is sent twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use peerglass_catalog::keyspace::Keyspace;
use peerglass_catalog::{Fault, NodeEntry, NodeId};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::Dial;
use super::commits::Awaited;
use super::wire::{self, Answer, FrameError, Greeting, NotWelcome, Request, Welcome};
use crate::identity::{self, Boot, Identity, Mark};
use crate::log::{Flusher, LogStore};
use crate::mutation::{self, Mutation};

/// Closes a connection whose other end forgot what it was.
pub(crate) const CLOSE_AMNESIA: VarInt = VarInt::from_u32(2);
/// Closes a connection that is not wanted, for a reason that was told or logged.
pub(crate) const CLOSE_REFUSED: VarInt = VarInt::from_u32(1);

/// How long a greeting may take.
const GREETING_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause before a node that could not be reached is dialled again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// It was never sent.
    #[error("cannot reach node {node}: {reason}")]
    Unreachable { node: u64, reason: String },
    /// It may have been received.
    #[error("no answer from node {node}: {reason}")]
    NoAnswer { node: u64, reason: String },
}

/// Says where a member is.
pub(crate) type Directory = Box<dyn Fn(NodeId) -> Option<NodeEntry> + Send + Sync>;

/// The connections of one node.
pub(crate) struct Links {
    pub(crate) identity: Identity,
    log: Arc<dyn Keyspace>,
    flusher: Flusher,
    dial: Option<Arc<dyn Dial>>,
    /// Where this node is reached.
    pub(crate) address: String,
    /// Where others are now. openraft keeps the entry it began to talk to a node with.
    directory: OnceLock<Directory>,
    slots: Mutex<BTreeMap<NodeId, Arc<AsyncMutex<Slot>>>>,
    /// Set when a peer says that this node's disk is older than what it was seen with.
    amnesia: watch::Sender<bool>,
    /// What reads at other nodes wait for.
    pub(crate) awaited: Awaited,
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    /// Not dialled again before this.
    not_before: Option<Instant>,
    /// The last reason for failing that was logged, so that each is logged once.
    logged: Option<String>,
}

impl Links {
    pub(crate) fn new(
        identity: Identity,
        (log, flusher): (Arc<dyn Keyspace>, Flusher),
        dial: Option<Arc<dyn Dial>>,
        address: String,
    ) -> Self {
        Self {
            identity,
            log,
            flusher,
            dial,
            address,
            directory: OnceLock::new(),
            slots: Mutex::default(),
            amnesia: watch::Sender::new(false),
            awaited: Awaited::new(),
        }
    }

    /// From now on entries are looked up by `directory` before somebody is dialled.
    pub(crate) fn look_up_by(&self, directory: Directory) {
        // There is one, and it is set once.
        let _ = self.directory.set(directory);
    }

    /// Whether peers found this node's disk to be older than what they saw of it.
    pub(crate) fn amnesia(&self) -> watch::Receiver<bool> {
        self.amnesia.subscribe()
    }

    /// How a sync of this node's log failed, once one did, whoever it was for.
    pub(crate) fn sync_failed(&self) -> watch::Receiver<Option<String>> {
        self.flusher.failed()
    }

    /// A peer says so.
    pub(crate) fn mark_amnesia(&self) {
        self.amnesia.send_replace(true);
    }

    /// The facts about this node that it shows to another.
    pub(crate) fn last_index(&self) -> u64 {
        LogStore::last_index(&*self.log).unwrap_or(0)
    }

    /// Whether this node's log never held an entry.
    pub(crate) fn log_is_empty(&self) -> Result<bool, Fault> {
        LogStore::is_empty(&*self.log)
    }

    /// Remember what `node` shows of itself; false if it forgot something.
    pub(crate) fn remember(&self, node: NodeId, boot: Boot, last_index: u64) -> Result<(), NotWelcome> {
        if mutation::is(Mutation::AmnesiaUnnoticed) {
            return Ok(());
        }
        let known = identity::mark_of(&*self.log, node).ok().flatten().unwrap_or_default();
        // Within one start a disk does not get older; but what a greeting shows was written down before
        // it was sent, and newer entries may have been acknowledged while it was under way.
        let older = boot.epoch < known.boot.epoch
            || boot.epoch == known.boot.epoch && boot.nonce != known.boot.nonce
            || boot != known.boot && last_index < known.stored;
        if older {
            return Err(NotWelcome::Amnesia { seen: known.boot.epoch });
        }
        if boot != known.boot {
            self.put_mark(node, Mark { boot, ..known });
        }
        Ok(())
    }

    /// `node` has certainly stored the log up to `stored`.
    pub(crate) fn remember_stored(&self, node: NodeId, stored: u64) {
        let known = identity::mark_of(&*self.log, node).ok().flatten().unwrap_or_default();
        if known.boot.epoch > 0 && stored > known.stored {
            self.put_mark(node, Mark { stored, ..known });
        }
    }

    /// Written and soon synced: a power cut of all nodes must not make all of them forget.
    fn put_mark(&self, node: NodeId, mark: Mark) {
        match identity::put_mark(&*self.log, node, mark) {
            Ok(()) => self.flusher.sync_soon(),
            Err(fault) => tracing::error!(%fault, "cannot remember what was seen of another node"),
        }
    }

    /// Ask `node` and wait for its answer until `deadline`.
    pub(crate) async fn ask(
        &self,
        (node, entry): (NodeId, &NodeEntry),
        request: &Request,
        deadline: Instant,
    ) -> Result<Answer, LinkError> {
        let unsent = |reason: String| LinkError::Unreachable { node: node.0, reason };
        let opened = timeout_at(deadline, self.open((node, entry))).await;
        let (mut send, mut receive) = opened.map_err(|_| unsent("timed out".to_owned()))??;
        let unanswered = |reason: String| LinkError::NoAnswer { node: node.0, reason };
        let talk = async {
            wire::send(&mut send, request).await?;
            let _ = send.finish(); // fails only on a stream that is reset, which the read reports
            wire::receive(&mut receive).await
        };
        match timeout_at(deadline, talk).await {
            Ok(answer) => answer.map_err(|error: FrameError| unanswered(error.to_string())),
            Err(_) => Err(unanswered("timed out".to_owned())),
        }
    }

    /// A new stream to `node`.
    pub(crate) async fn open(
        &self,
        (node, entry): (NodeId, &NodeEntry),
    ) -> Result<(SendStream, RecvStream), LinkError> {
        let connection = self.connection(node, entry).await?;
        let opened = connection.open_bi().await;
        opened.map_err(|error| LinkError::Unreachable { node: node.0, reason: error.to_string() })
    }

    async fn connection(&self, node: NodeId, entry: &NodeEntry) -> Result<Connection, LinkError> {
        let unreachable = |reason: &str| LinkError::Unreachable { node: node.0, reason: reason.to_owned() };
        let dial = self.dial.as_ref().ok_or_else(|| unreachable("this node has no peer port"))?;
        let slot =
            Arc::clone(self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(node).or_default());
        let mut slot = slot.lock().await;
        if let Some(open) = slot.connection.as_ref().filter(|open| open.close_reason().is_none()) {
            return Ok(open.clone());
        }
        if slot.not_before.is_some_and(|not_before| Instant::now() < not_before) {
            return Err(unreachable("it could not be reached a moment ago"));
        }
        slot.connection = None;
        // Also when this future is dropped half-way, as it is at a deadline.
        slot.not_before = Some(Instant::now() + RETRY_AFTER);
        let now = self.directory.get().and_then(|directory| directory(node));
        let entry = now.as_ref().unwrap_or(entry);
        let connected = async {
            let connection = dial.dial(entry).await.map_err(|error| error.to_string())?;
            self.greet(&connection, node).await.map(|()| connection)
        };
        match connected.await {
            Ok(connection) => {
                *slot = Slot { connection: Some(connection.clone()), ..Slot::default() };
                tracing::info!(node = node.0, address = entry.address, "connected to a peer");
                Ok(connection)
            }
            Err(reason) => {
                if slot.logged.as_ref() != Some(&reason) {
                    tracing::warn!(node = node.0, address = entry.address, reason, "cannot reach a peer");
                    slot.logged = Some(reason.clone());
                }
                Err(unreachable(&reason))
            }
        }
    }

    async fn greet(&self, connection: &Connection, node: NodeId) -> Result<(), String> {
        let greeting = Greeting {
            cluster: self.identity.cluster,
            from: self.identity.node,
            to: node,
            boot: self.identity.boot,
            last_index: self.last_index(),
            address: self.address.clone(),
        };
        let talk = async {
            let (mut send, mut receive) = connection.open_bi().await.map_err(|error| error.to_string())?;
            wire::send(&mut send, &greeting).await.map_err(|error| error.to_string())?;
            wire::receive::<Welcome>(&mut receive).await.map_err(|error| error.to_string())
        };
        let welcome = timeout(GREETING_TIMEOUT, talk).await.map_err(|_| "it does not greet".to_owned())?;
        let welcome = welcome.map_err(|error| sent_away(connection).unwrap_or(error))?;
        match welcome {
            Welcome::Come { boot, last_index } => self.remember(node, boot, last_index).map_err(|refused| {
                tracing::error!(node = node.0, "a peer's disk is older than what was seen of it");
                connection.close(CLOSE_AMNESIA, b"amnesia");
                refused.to_string()
            }),
            Welcome::Refused(why) => {
                if matches!(why, NotWelcome::Amnesia { .. }) {
                    self.mark_amnesia();
                }
                Err(format!("it refused this node: {why}"))
            }
        }
    }

    /// Close every connection.
    pub(crate) async fn close(&self) {
        let slots = std::mem::take(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner));
        for slot in slots.into_values() {
            if let Some(connection) = slot.lock().await.connection.take() {
                connection.close(VarInt::from_u32(0), b"stopping");
            }
        }
    }
}

/// Why the other end closed a connection, if it said so.
fn sent_away(connection: &Connection) -> Option<String> {
    let Some(quinn::ConnectionError::ApplicationClosed(closed)) = connection.close_reason() else {
        return None;
    };
    let reason = String::from_utf8_lossy(&closed.reason).into_owned();
    Some(if reason.starts_with("not a member") {
        "it says that this node is not a member; if it was removed, move its data directory away and join again \
         with a new token"
            .to_owned()
    } else {
        format!("it closed the connection: {reason}")
    })
}
