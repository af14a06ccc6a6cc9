//! What this node does with libp2p, and every limit on it.
//!
//! The allow-list comes first: whoever is refused there is not shown to the parts behind it.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{Swarm, SwarmBuilder, allow_block_list, connection_limits, gossipsub, identify, mdns};

use super::Introduction;
use super::announcement::{NEWS_BYTES_MAX, agent_text};

/// Handshakes under way at once, in each direction.
const HANDSHAKES_MAX: u32 = 32;
/// Connections open at once. A mesh of gossip needs a dozen.
const CONNECTIONS_MAX: u32 = 96;
/// Connections to one member: both ends may dial at the same moment.
const CONNECTIONS_PER_PEER_MAX: u32 = 2;
/// Streams a member may have open; identify and gossip take two or three.
const STREAMS_MAX: u32 = 16;
/// Bytes on their way on one stream, and on one connection. Messages are smaller than a kilobyte.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;
/// How long an mDNS answer is believed. A node that is gone is forgotten after that.
const MDNS_TTL: Duration = Duration::from_secs(120);
/// How often is asked again on the LAN.
const MDNS_QUERY_INTERVAL: Duration = Duration::from_secs(30);
/// What the protocol adds to a message: who signed it, a number, the signature, the topic.
const GOSSIP_FRAME_BYTES: usize = 512;
/// Members stay connected also when the gossip does not need them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3_600);

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) members: allow_block_list::Behaviour<allow_block_list::AllowedPeers>,
    limits: connection_limits::Behaviour,
    pub(super) identify: identify::Behaviour,
    pub(super) gossip: gossipsub::Behaviour,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
}

/// Why libp2p could not be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetUpError {
    /// The transport, or the network interfaces cannot be watched.
    #[error("cannot set up libp2p: {0}")]
    Io(#[from] std::io::Error),
    /// A part of it refuses.
    #[error("cannot set up libp2p: {0}")]
    Part(String),
}

pub(super) fn mdns_config() -> mdns::Config {
    mdns::Config { ttl: MDNS_TTL, query_interval: MDNS_QUERY_INTERVAL, enable_ipv6: false }
}

pub(super) fn topic(me: &Introduction) -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new(format!("peerglass/1/{}", me.cluster))
}

/// Everything, for the node with `key`; nobody is let in yet.
pub(super) fn swarm(key: &Keypair, me: &Introduction, mdns: bool) -> Result<Swarm<Behaviour>, SetUpError> {
    let part = |error: &dyn std::fmt::Display| SetUpError::Part(error.to_string());
    let peer = key.public().to_peer_id();
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(HANDSHAKES_MAX))
        .with_max_pending_outgoing(Some(HANDSHAKES_MAX))
        .with_max_established(Some(CONNECTIONS_MAX))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX));
    let identify = identify::Config::new("peerglass/1".to_owned(), key.public())
        .with_agent_version(agent_text(me))
        .with_cache_size(0);
    let config = gossipsub::ConfigBuilder::default()
        .max_transmit_size(NEWS_BYTES_MAX + GOSSIP_FRAME_BYTES)
        .validation_mode(gossipsub::ValidationMode::Strict)
        .validate_messages()
        .build()
        .map_err(|error| part(&error))?;
    let signed = gossipsub::MessageAuthenticity::Signed(key.clone());
    let mut gossip = gossipsub::Behaviour::new(signed, config).map_err(|error| part(&error))?;
    gossip.subscribe(&topic(me)).map_err(|error| part(&error))?;
    // A machine that does not say which networks it has (a sandbox, a container) still has the other ways.
    let mdns = mdns.then(|| mdns::tokio::Behaviour::new(mdns_config(), peer)).and_then(|set_up| {
        set_up.inspect_err(|error| tracing::warn!(%error, "nodes are not looked for on the LAN")).ok()
    });
    let behaviour = Behaviour {
        members: allow_block_list::Behaviour::default(),
        limits: connection_limits::Behaviour::new(limits),
        identify: identify::Behaviour::new(identify),
        gossip,
        mdns: mdns.into(),
    };
    Ok(build(key, behaviour))
}

/// A swarm over QUIC with small windows.
pub(super) fn build<B: NetworkBehaviour>(key: &Keypair, behaviour: B) -> Swarm<B> {
    let built = SwarmBuilder::with_existing_identity(key.clone())
        .with_tokio()
        .with_quic_config(|mut quic| {
            quic.max_concurrent_stream_limit = STREAMS_MAX;
            quic.max_stream_data = STREAM_WINDOW_BYTES;
            quic.max_connection_data = CONNECTION_WINDOW_BYTES;
            quic
        })
        .with_behaviour(|_| behaviour);
    let built = match built {
        Ok(built) => built,
        Err(never) => match never {},
    };
    built.with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_TIMEOUT)).build()
}
