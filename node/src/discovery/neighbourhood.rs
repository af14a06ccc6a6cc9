//! Discovery over libp2p: mDNS on the LAN, identify and gossip among members.
//!
//! One task owns the swarm. It is set up when it first runs, with everything that it says about this
//! node already known. Members are dialled one port above the peer port that the catalog or the
//! bootstrap list names, and wherever mDNS has seen them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use libp2p::futures::StreamExt;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{DialError, FromSwarm, NetworkBehaviour, NewListenAddr, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, gossipsub, identify, mdns};
use peerglass_catalog::PeerKey;
use peerglass_catalog::keyspace::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::announcement::{self, News};
use super::behaviour::{self, Behaviour, BehaviourEvent};
use super::{Circle, Discovery, Finding, Introduction};
use crate::peers::NodeKey;

/// How often members that are not connected are dialled.
const REACH_OUT_INTERVAL: Duration = Duration::from_secs(5);
/// Members dialled each time.
const DIALS_MAX: usize = 8;
/// Connections from which on nobody is dialled any more. Gossip spreads from there.
const CONNECTIONS_WANTED: usize = 12;
/// How long a name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two of this node's own news, and the shortest between two of one member that are heeded.
const NEWS_INTERVAL: Duration = Duration::from_secs(1);
/// News are repeated this often, for members that missed them.
const NEWS_REPEAT: Duration = Duration::from_secs(30);
/// Entries of mDNS from which on it is not believed any more: nobody has so many neighbours, and libp2p
/// sets no bound.
const NEIGHBOURS_MAX: usize = 4_096;

/// Discovery on a real network.
pub struct Neighbourhood {
    /// Who this node is.
    pub key: NodeKey,
    /// Where it listens for libp2p (UDP).
    pub listen: SocketAddr,
    /// Where its peer port is bound.
    pub peer_port: SocketAddr,
    /// Whether to look on the LAN, and to be seen there.
    pub mdns: bool,
    /// Peer ports of other nodes, `host:port`.
    pub bootstrap: Vec<String>,
}

impl Discovery for Neighbourhood {
    fn run(
        self: Box<Self>,
        me: Introduction,
        circle: watch::Receiver<Circle>,
        found: mpsc::Sender<Finding>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = self.keep(me, circle, found).await {
                tracing::error!(%error, "other nodes are not looked for");
            }
        })
    }
}

impl Neighbourhood {
    async fn keep(
        self,
        me: Introduction,
        mut circle: watch::Receiver<Circle>,
        found: mpsc::Sender<Finding>,
    ) -> Result<(), behaviour::SetUpError> {
        let mut swarm = behaviour::swarm(&self.key.libp2p(), &me, self.mdns)?;
        let listen = announcement::listener_multiaddr(self.listen);
        swarm.listen_on(listen).map_err(|error| behaviour::SetUpError::Part(error.to_string()))?;
        let mut ticks = interval(REACH_OUT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut news_ticks = interval(NEWS_INTERVAL);
        news_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watcher = Watcher {
            swarm,
            me,
            port: self.peer_port,
            bootstrap: self.bootstrap,
            circle: Circle::default(),
            found,
            told: None,
            around: BTreeMap::new(),
            heard: BTreeMap::new(),
        };
        loop {
            tokio::select! {
                changed = circle.changed() => {
                    if changed.is_err() {
                        return Ok(()); // the node is gone
                    }
                    let circle = circle.borrow_and_update().clone();
                    if watcher.admit(circle) {
                        ticks.reset_immediately();
                    }
                }
                _ = ticks.tick() => watcher.reach_out().await,
                _ = news_ticks.tick() => watcher.tell(),
                event = watcher.swarm.select_next_some() => watcher.heed(event),
            }
        }
    }
}

/// The running swarm.
struct Watcher {
    swarm: Swarm<Behaviour>,
    me: Introduction,
    port: SocketAddr,
    bootstrap: Vec<String>,
    circle: Circle,
    found: mpsc::Sender<Finding>,
    /// What was told last, and when.
    told: Option<(News, Instant)>,
    /// Peer ports that mDNS announces, of members and others. Bounded by what makes it a flood.
    around: BTreeMap<PeerKey, BTreeSet<SocketAddr>>,
    /// When news of a member were last heeded. Only members are in it.
    heard: BTreeMap<PeerKey, Instant>,
}

impl Watcher {
    /// Let in the members of `circle` and nobody else. Says whether there are new ones.
    fn admit(&mut self, circle: Circle) -> bool {
        let wanted: BTreeSet<PeerId> =
            circle.members.keys().filter_map(|key| announcement::peer_id(*key)).collect();
        let members = &mut self.swarm.behaviour_mut().members;
        let gone: Vec<PeerId> =
            members.allowed_peers().iter().filter(|peer| !wanted.contains(peer)).copied().collect();
        for peer in gone {
            members.disallow_peer(peer);
        }
        for peer in wanted {
            members.allow_peer(peer);
        }
        self.heard.retain(|key, _| circle.members.contains_key(key));
        let before = std::mem::replace(&mut self.circle, circle);
        let mut grown = false;
        for key in self.circle.members.keys().filter(|key| !before.members.contains_key(key)) {
            grown = true;
            // They may have been seen before they were members.
            for port in self.around.get(key).into_iter().flatten() {
                self.find(Finding::Seen { key: *key, address: port.to_string() });
            }
        }
        grown
    }

    /// Dial members that are not connected, until there are enough.
    async fn reach_out(&mut self) {
        let connected = self.swarm.connected_peers().count();
        if connected >= CONNECTIONS_WANTED {
            return;
        }
        let members: Vec<_> = self.circle.members.iter().map(|(key, at)| (*key, at.clone())).collect();
        let strangers = members.into_iter().filter_map(|(key, address)| {
            let peer = announcement::peer_id(key)?;
            (!self.swarm.is_connected(&peer)).then_some((peer, address))
        });
        let dials: Vec<_> = strangers.take(DIALS_MAX).collect();
        for (peer, address) in dials {
            // mDNS adds what it knows.
            let addresses = listener_beside(&address).await;
            self.dial(DialOpts::peer_id(peer).addresses(addresses.into_iter().collect()).build());
        }
        if connected == 0 && !self.circle.members.is_empty() {
            for address in self.bootstrap.clone() {
                if let Some(address) = listener_beside(&address).await {
                    self.dial(DialOpts::unknown_peer_id().address(address).build());
                }
            }
        }
    }

    fn dial(&mut self, dial: DialOpts) {
        match self.swarm.dial(dial) {
            Ok(()) | Err(DialError::DialPeerConditionFalse(_) | DialError::NoAddresses) => {}
            Err(error) => tracing::debug!(%error, "a member was not dialled"),
        }
    }

    /// Tell the members what is new.
    fn tell(&mut self) {
        let news = &self.circle.news;
        let stale = self.told.as_ref().is_none_or(|(told, at)| told != news || at.elapsed() >= NEWS_REPEAT);
        if !stale || news.address.is_empty() {
            return;
        }
        let Some(bytes) = news.to_bytes() else { return };
        let told = self.swarm.behaviour_mut().gossip.publish(behaviour::topic(&self.me), bytes);
        match told {
            Ok(_) => self.told = Some((news.clone(), Instant::now())),
            // Nobody is there yet.
            Err(error) => tracing::trace!(%error, "news were not told"),
        }
    }

    fn heed(&mut self, event: SwarmEvent<BehaviourEvent>) {
        // libp2p's enums grow; whatever else happens decides nothing here.
        if let SwarmEvent::NewListenAddr { listener_id, address } = event {
            self.announce(listener_id, &address);
        } else if let SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) = event {
            self.neighbours(event);
        } else if let SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
            peer_id,
            info,
            ..
        })) = event
        {
            let address = announcement::agent_address(&info.agent_version, &self.me);
            if let (Some(key), Some(address)) = (announcement::key_of(&peer_id), address) {
                self.find(Finding::Seen { key, address });
            }
        } else if let SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message {
            propagation_source,
            message_id,
            message,
        })) = event
        {
            let acceptance = self.hear(&message);
            let gossip = &mut self.swarm.behaviour_mut().gossip;
            gossip.report_message_validation_result(&message_id, &propagation_source, acceptance);
        } else if let SwarmEvent::ConnectionEstablished { peer_id, .. } = event {
            tracing::debug!(peer = %peer_id, "met a member");
        }
    }

    /// Have mDNS say where the peer port is, on each interface it is bound to.
    fn announce(&mut self, listener_id: libp2p::core::transport::ListenerId, address: &Multiaddr) {
        let Some(listener) = announcement::listener(address) else { return };
        if self.port.ip().is_unspecified() || self.port.ip() == listener.ip() {
            let port = announcement::peer_port_multiaddr((listener.ip(), self.port.port()).into());
            let known = FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr: &port });
            self.swarm.behaviour_mut().mdns.on_swarm_event(known);
        }
        tracing::info!(%address, "looking for other nodes");
    }

    fn neighbours(&mut self, event: mdns::Event) {
        match event {
            mdns::Event::Discovered(found) => {
                for (key, port) in found.iter().filter_map(announced) {
                    self.around.entry(key).or_default().insert(port);
                    self.find(Finding::Seen { key, address: port.to_string() });
                }
            }
            mdns::Event::Expired(gone) => {
                for (key, port) in gone.iter().filter_map(announced) {
                    let Some(ports) = self.around.get_mut(&key) else { continue };
                    ports.remove(&port);
                    if ports.is_empty() {
                        self.around.remove(&key);
                        self.find(Finding::Gone { key });
                    }
                }
            }
        }
        let known = self.swarm.behaviour().mdns.as_ref().map_or(0, |mdns| mdns.discovered_nodes().len());
        if known > NEIGHBOURS_MAX {
            tracing::warn!("mDNS is flooded; it is off until the next start");
            self.swarm.behaviour_mut().mdns = None.into();
            self.around.clear();
        }
    }

    /// Whether the others may hear it as well.
    fn hear(&mut self, message: &gossipsub::Message) -> gossipsub::MessageAcceptance {
        let member = message.source.as_ref().and_then(announcement::key_of);
        let Some(key) = member.filter(|key| self.circle.members.contains_key(key)) else {
            return gossipsub::MessageAcceptance::Reject;
        };
        let Some(news) = News::from_bytes(&message.data) else {
            return gossipsub::MessageAcceptance::Reject;
        };
        // Half, because clocks and queues jitter.
        if self.heard.get(&key).is_some_and(|at| at.elapsed() < NEWS_INTERVAL / 2) {
            return gossipsub::MessageAcceptance::Ignore;
        }
        self.heard.insert(key, Instant::now());
        self.find(Finding::News { key, news });
        gossipsub::MessageAcceptance::Accept
    }

    fn find(&self, finding: Finding) {
        let (Finding::Seen { key, .. } | Finding::Gone { key } | Finding::News { key, .. }) = &finding;
        if self.circle.members.contains_key(key) {
            // Full: the node has enough to look at.
            let _ = self.found.try_send(finding);
        }
    }
}

/// What mDNS says about a peer port.
fn announced((peer, address): &(PeerId, Multiaddr)) -> Option<(PeerKey, SocketAddr)> {
    Some((announcement::key_of(peer)?, announcement::peer_port(address)?))
}

/// Where libp2p listens on a node whose peer port is `host:port`: one above.
async fn listener_beside(address: &str) -> Option<Multiaddr> {
    let peer_port = match address.parse() {
        Ok(address) => address,
        Err(_) => {
            let found = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(address)).await.ok()?.ok()?.next();
            found?
        }
    };
    let port = peer_port.port().checked_add(1)?;
    Some(announcement::listener_multiaddr((peer_port.ip(), port).into()))
}
