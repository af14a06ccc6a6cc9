//! The door: every incoming connection, from its first packet to the part it is for.
//!
//! # What it promises
//!
//! * Unfinished handshakes are bounded, also for each address, and under load every caller has to prove
//!   its address first.
//! * Only members reach consensus and transfer. Strangers are closed right after the handshake; what is
//!   refused is logged, but not more often than once a second.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use peerglass_catalog::PeerKey;
use peerglass_consensus::Consensus;
use peerglass_transfer::{Calls, Transfer};
use quinn::{Connection, Incoming, VarInt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;

use super::admit::{self, Clock};
use super::port::{PeerPort, Purpose, caller};
use super::tcp::Buffered;

/// Handshakes under way from which on callers must prove their address.
const HANDSHAKES_UNPROVEN_MAX: usize = 64;
/// Connections of one address from which on callers there must prove it. Members that share an address, as in a lab,
/// pay a round trip for it.
const UNPROVEN_PER_ADDRESS_MAX: usize = 16;
/// Handshakes under way from which on everybody is turned away.
const HANDSHAKES_MAX: usize = 1_024;
/// Connections open from one address, handshakes included.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// The same over TCP.
const TCP_HANDSHAKES_MAX: usize = 128;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const TCP_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// Nodes that may be at the door at once, from everywhere and from one address.
const JOINING_MAX: usize = 64;
const JOINING_PER_ADDRESS_MAX: usize = 4;
/// How many of them are decided on at once, which takes a majority of the cluster each time.
const DECIDING_MAX: usize = 8;
/// How often it is looked whether a connected node is still a member.
const MEMBER_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Pause between two lines about whoever was refused.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(1);

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
    /// Those over TCP apart, where silence costs a stranger nothing: Raft has its places to itself.
    tcp_handshakes: usize,
    joining: usize,
    joining_by_address: BTreeMap<IpAddr, usize>,
    by_address: BTreeMap<IpAddr, usize>,
    /// When the refused may be written about again, and how many were not since.
    quiet_until: Option<Instant>,
    unlogged: u64,
}

/// What the connections of one port share.
#[derive(Clone)]
struct Tally {
    counts: Arc<Mutex<Counts>>,
    deciding: Arc<Semaphore>,
}

/// The next connection over TCP, after a pause if one is due.
async fn accept_tcp(port: &PeerPort, not_before: Instant) -> std::io::Result<(TcpStream, SocketAddr)> {
    sleep_until(not_before).await;
    port.accept_tcp().await
}

impl Doors {
    /// Accept connections until `stop`, then close them all.
    pub(crate) async fn run(self, port: PeerPort, stop: CancellationToken) {
        let tally = Tally { counts: Arc::default(), deciding: Arc::new(Semaphore::new(DECIDING_MAX)) };
        let mut connections = JoinSet::new();
        let mut tcp_not_before = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                incoming = port.endpoint().accept() => match incoming {
                    Some(incoming) => self.take(incoming, &tally, &mut connections),
                    None => break,
                },
                accepted = accept_tcp(&port, tcp_not_before) => match accepted {
                    Ok((stream, from)) => self.take_tcp(port.clone(), stream, from.ip(), &tally, &mut connections),
                    Err(error) => {
                        // No more descriptors, as a rule; those that are open end sooner or later.
                        tcp_not_before = Instant::now() + ACCEPT_PAUSE;
                        if let Some(more) = tally.may_log() {
                            tracing::warn!(%error, more, "cannot accept TCP connections of other nodes just now");
                        }
                    }
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
        // Whoever only claims an address must not take the places of the node that is there.
        let of_address = counts.by_address.get(&address).copied().unwrap_or(0);
        let must_prove =
            counts.handshakes >= HANDSHAKES_UNPROVEN_MAX || of_address >= UNPROVEN_PER_ADDRESS_MAX;
        if must_prove && !incoming.remote_address_validated() {
            // Fails only if the address is proven, which was just asked.
            let _ = incoming.retry();
            return;
        }
        if counts.by_address.get(&address).is_some_and(|open| *open >= CONNECTIONS_PER_ADDRESS_MAX) {
            return incoming.refuse();
        }
        if counts.handshakes >= HANDSHAKES_MAX {
            return incoming.refuse();
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
        let member = self.consensus.member_with(key);
        match (purpose, member) {
            (Purpose::Join, _) => {
                let remote = connection.remote_address();
                let Some(_place) = tally.join_place(remote.ip()) else {
                    return connection.close(CLOSE_REFUSED, b"too many join at once");
                };
                let through = (self.consensus, self.now);
                let refused = admit::admit(connection, key, through, &tally.deciding).await;
                if let (Some(why), Some(more)) = (&refused, refused.as_ref().and_then(|_| tally.may_log())) {
                    tracing::warn!(peer = %key, %remote, more, "did not admit a node: {why}");
                }
            }
            (Purpose::Raft | Purpose::Chunks, None) => {
                if let Some(more) = tally.may_log() {
                    let remote = connection.remote_address();
                    tracing::warn!(peer = %key, %remote, more, "refused a stranger: its key is no member's");
                }
                connection.close(CLOSE_REFUSED, b"not a member");
            }
            (Purpose::Raft, Some(_)) => self.consensus.serve(connection, key).await,
            (Purpose::Chunks, Some(member)) => {
                let gone = self.gone(key);
                tokio::select! {
                    biased;
                    () = self.transfer.serve_peer(connection.clone(), member) => {}
                    () = gone => connection.close(CLOSE_REFUSED, b"not a member any more"),
                }
            }
        }
    }
}

/// The same over TCP, where only image bytes go.
impl Doors {
    fn take_tcp(
        &self,
        port: PeerPort,
        stream: TcpStream,
        address: IpAddr,
        tally: &Tally,
        connections: &mut JoinSet<()>,
    ) {
        // Whoever is turned away finds the connection closed.
        let Some(open) = tally.tcp_place(address) else { return };
        let doors = self.clone();
        connections.spawn(async move {
            let greeted = timeout(TCP_HANDSHAKE_TIMEOUT, port.greet_tcp(stream)).await;
            open.tally.locked().tcp_handshakes -= 1;
            match greeted {
                Ok(Ok((stream, key))) => doors.show_in_tcp(stream, key, &open).await,
                Ok(Err(error)) => tracing::debug!(%address, %error, "a handshake over TCP failed"),
                Err(_) => tracing::debug!(%address, "a handshake over TCP took too long"),
            }
        });
    }

    async fn show_in_tcp(self, stream: TlsStream<Buffered>, key: PeerKey, open: &Open) {
        let Some(member) = self.consensus.member_with(key) else {
            if let Some(more) = open.tally.may_log() {
                let remote = open.address;
                tracing::warn!(peer = %key, %remote, more, "refused a stranger: its key is no member's");
            }
            return;
        };
        let Ok(Ok(calls)) = timeout(HANDSHAKE_TIMEOUT, Calls::over_tcp(stream)).await else { return };
        tokio::select! {
            biased;
            () = self.transfer.serve_peer(calls, member) => {}
            () = self.gone(key) => {}
        }
    }

    /// Resolves when `key` is no member's any more.
    async fn gone(&self, key: PeerKey) {
        while self.consensus.member_with(key).is_some() {
            sleep(MEMBER_CHECK_INTERVAL).await;
        }
    }
}

impl Tally {
    fn locked(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection over TCP, as long as there are any. Its handshake is counted as under way.
    fn tcp_place(&self, address: IpAddr) -> Option<Open> {
        let mut counts = self.locked();
        let of_address = counts.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= CONNECTIONS_PER_ADDRESS_MAX || counts.tcp_handshakes >= TCP_HANDSHAKES_MAX {
            return None;
        }
        counts.tcp_handshakes += 1;
        counts.by_address.insert(address, of_address + 1);
        Some(Open { tally: self.clone(), address })
    }

    fn join_place(&self, address: IpAddr) -> Option<Joining> {
        let mut counts = self.locked();
        let of_address = counts.joining_by_address.get(&address).copied().unwrap_or(0);
        if counts.joining >= JOINING_MAX || of_address >= JOINING_PER_ADDRESS_MAX {
            return None;
        }
        counts.joining += 1;
        counts.joining_by_address.insert(address, of_address + 1);
        Some(Joining { tally: self.clone(), address })
    }

    /// Whether somebody who was refused may be written about, and then how many were not since the last.
    fn may_log(&self) -> Option<u64> {
        let mut counts = self.locked();
        let now = Instant::now();
        if counts.quiet_until.is_some_and(|until| now < until) {
            counts.unlogged += 1;
            return None;
        }
        counts.quiet_until = Some(now + REFUSAL_LOG_INTERVAL);
        Some(std::mem::take(&mut counts.unlogged))
    }
}

/// One node at the door.
struct Joining {
    tally: Tally,
    address: IpAddr,
}

impl Drop for Joining {
    fn drop(&mut self) {
        let mut counts = self.tally.locked();
        counts.joining -= 1;
        count_down(&mut counts.joining_by_address, self.address);
    }
}

fn count_down(counts: &mut BTreeMap<IpAddr, usize>, address: IpAddr) {
    if let Some(count) = counts.get_mut(&address) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&address);
        }
    }
}

/// One connection, counted for its address.
struct Open {
    tally: Tally,
    address: IpAddr,
}

impl Drop for Open {
    fn drop(&mut self) {
        count_down(&mut self.tally.locked().by_address, self.address);
    }
}
