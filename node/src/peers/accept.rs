//! The door: every incoming connection, from its first packet to the part it is for.
//!
//! # What it promises
//!
//! * Unfinished handshakes are bounded, also for each address, and under load every caller has to prove
//!   its address first.
//! * Only members reach consensus and transfer. Strangers are closed right after the handshake; what is
//!   refused is logged, but not more often than once a second.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use peerglass_catalog::PeerKey;
use peerglass_consensus::Consensus;
use peerglass_transfer::Transfer;
use quinn::{Connection, Incoming, VarInt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::admit::{self, Clock};
use super::port::{PeerPort, Purpose, caller};

/// Handshakes under way from which on callers must prove their address.
const HANDSHAKES_UNPROVEN_MAX: usize = 64;
/// Handshakes under way from which on everybody is turned away.
const HANDSHAKES_MAX: usize = 1_024;
/// Connections open from one address, handshakes included.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Nodes that may be at the door at once.
const JOINING_MAX: usize = 8;
/// How often it is looked whether a connected node is still a member.
const MEMBER_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause between two lines about strangers.
const STRANGER_LOG_INTERVAL: Duration = Duration::from_secs(1);

const CLOSE_REFUSED: VarInt = VarInt::from_u32(1);

/// What lies behind the door.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) consensus: Consensus,
    pub(crate) transfer: Transfer,
    pub(crate) now: Clock,
}

#[derive(Default)]
struct Counts {
    handshakes: usize,
    joining: usize,
    by_address: BTreeMap<IpAddr, usize>,
    /// When strangers may be written about again, and how many were not since.
    quiet_until: Option<Instant>,
    unlogged: u64,
}

/// What the connections of one port share.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<Counts>>);

impl Doors {
    /// Accept connections until `stop`, then close them all.
    pub(crate) async fn run(self, port: PeerPort, stop: CancellationToken) {
        let tally = Tally::default();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                incoming = port.endpoint().accept() => match incoming {
                    Some(incoming) => self.take(incoming, &tally, &mut connections),
                    None => break,
                },
            }
        }
        port.endpoint().close(VarInt::from_u32(0), b"stopping");
        connections.shutdown().await;
        // Lets the goodbyes out. Bounded by what a closing connection lingers.
        let _ = timeout(Duration::from_secs(1), port.endpoint().wait_idle()).await;
    }

    fn take(&self, incoming: Incoming, tally: &Tally, connections: &mut JoinSet<()>) {
        let address = incoming.remote_address().ip();
        let mut counts = tally.locked();
        if counts.by_address.get(&address).is_some_and(|open| *open >= CONNECTIONS_PER_ADDRESS_MAX) {
            return incoming.refuse();
        }
        if counts.handshakes >= HANDSHAKES_MAX {
            return incoming.refuse();
        }
        if counts.handshakes >= HANDSHAKES_UNPROVEN_MAX && !incoming.remote_address_validated() {
            // Fails only if the address is proven, which was just asked.
            let _ = incoming.retry();
            return;
        }
        counts.handshakes += 1;
        *counts.by_address.entry(address).or_default() += 1;
        drop(counts);
        let (doors, tally) = (self.clone(), tally.clone());
        connections.spawn(async move {
            let _open = Open { tally: tally.clone(), address };
            let connection = timeout(HANDSHAKE_TIMEOUT, async { incoming.await }).await;
            tally.locked().handshakes -= 1;
            match connection {
                Ok(Ok(connection)) => doors.show_in(connection, &tally).await,
                Ok(Err(error)) => tracing::debug!(%address, %error, "a handshake failed"),
                Err(_) => tracing::debug!(%address, "a handshake took too long"),
            }
        });
    }

    async fn show_in(self, connection: Connection, tally: &Tally) {
        let Some((key, purpose)) = caller(&connection) else {
            return connection.close(CLOSE_REFUSED, b"no known purpose");
        };
        match purpose {
            Purpose::Join => {
                let Some(_place) = tally.join_place() else {
                    return connection.close(CLOSE_REFUSED, b"too many join at once");
                };
                admit::admit(connection, key, self.consensus, self.now).await;
            }
            Purpose::Raft | Purpose::Chunks if self.consensus.member_with(key).is_none() => {
                tally.log_stranger(key, &connection);
                connection.close(CLOSE_REFUSED, b"not a member");
            }
            Purpose::Raft => self.consensus.serve(connection, key).await,
            Purpose::Chunks => {
                let gone = self.gone(key);
                tokio::select! {
                    biased;
                    () = self.transfer.serve_peer(connection.clone()) => {}
                    () = gone => connection.close(CLOSE_REFUSED, b"not a member any more"),
                }
            }
        }
    }
}

impl Doors {
    /// Resolves when `key` is no member's any more.
    async fn gone(&self, key: PeerKey) {
        while self.consensus.member_with(key).is_some() {
            sleep(MEMBER_CHECK_INTERVAL).await;
        }
    }
}

impl Tally {
    fn locked(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join_place(&self) -> Option<Joining> {
        let mut counts = self.locked();
        if counts.joining >= JOINING_MAX {
            return None;
        }
        counts.joining += 1;
        Some(Joining(self.clone()))
    }

    fn log_stranger(&self, key: PeerKey, connection: &Connection) {
        let mut counts = self.locked();
        let now = Instant::now();
        if counts.quiet_until.is_some_and(|until| now < until) {
            counts.unlogged += 1;
            return;
        }
        counts.quiet_until = Some(now + STRANGER_LOG_INTERVAL);
        let (more, remote) = (std::mem::take(&mut counts.unlogged), connection.remote_address());
        tracing::warn!(peer = %key, %remote, more, "refused a stranger: its key is no member's");
    }
}

/// One node at the door.
struct Joining(Tally);

impl Drop for Joining {
    fn drop(&mut self) {
        self.0.locked().joining -= 1;
    }
}

/// One connection, counted for its address.
struct Open {
    tally: Tally,
    address: IpAddr,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut counts = self.tally.locked();
        if let Some(open) = counts.by_address.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}
