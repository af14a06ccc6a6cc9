//! How a berth's node becomes a member of the cluster, and what it says of its place in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use peerglass::{Discovery, NodeKey, PeerPort, PortChance, Search, Settings, Surroundings, join};
use peerglass_consensus::{ClusterStatus, Consensus};
use tokio::time::sleep;

use super::Berth;
use crate::dice::Dice;
use crate::invariants::Standing;
use crate::network::{PEER_PORT, SimListener, SimSocket, tls};

/// How often a node without a cluster looks whether somebody brought it a token, and how long it
/// waits before it tries again to use it.
const TOKEN_POLL: Duration = Duration::from_millis(100);
const JOIN_AGAIN: Duration = Duration::from_millis(400);

impl Berth {
    /// The key of this berth's node. It outlives its disks.
    pub(super) fn key(&self) -> NodeKey {
        let mut dice = Dice::new(self.0.scene.seed, &format!("key of node {}", self.0.node));
        let mut seed = [0; 32];
        seed.chunks_mut(8).for_each(|part| part.copy_from_slice(&dice.number().to_le_bytes()));
        NodeKey::from_seed(seed)
    }

    /// The peer port of this life.
    pub(super) async fn peer_port(&self, dice: &mut Dice) -> turmoil::Result<PeerPort> {
        let weather = self.0.weather.clone();
        let socket_dice = Dice::new(dice.number(), "datagrams");
        let socket =
            SimSocket::bind(self.peer_port_number(), socket_dice, weather, self.0.scene.chronicle.clone())
                .await?;
        let chance = PortChance::Seeded(dice.number(), tls::provider());
        Ok(PeerPort::new(&self.key(), Arc::new(socket), chance)?)
    }

    fn peer_port_number(&self) -> u16 {
        PEER_PORT + self.life().port_moves
    }

    /// Its node's next life is at another address.
    pub(in crate::world) fn move_on(&self) {
        self.life().port_moves += 1;
    }

    /// How this life's node finds others, if it looks for them.
    pub(super) fn discovery(&self, dice: &mut Dice) -> Option<Box<dyn Discovery>> {
        let dice = Dice::new(dice.number(), "lan");
        let (node, key, chronicle) = (self.0.node, self.key().peer_key(), self.0.scene.chronicle.clone());
        self.0.plan.looks_around.then(|| self.0.lan.discovery(node, key, dice, chronicle))
    }

    /// What the node is told about the cluster.
    pub(super) fn cluster_settings(&self, settings: &mut Settings) {
        let address = SocketAddr::new(turmoil::lookup(self.0.name.as_str()), self.peer_port_number());
        settings.cluster.listen = address.to_string();
        settings.cluster.voters = self.0.plan.voters;
        settings.cluster.snapshot_bytes_per_s = 8 << 20;
    }

    /// Become a member, however often it takes, unless this node is one or forms the cluster.
    pub(super) async fn become_member(&self, settings: &Settings, surroundings: &Surroundings<SimListener>) {
        loop {
            let belongs = peerglass_consensus::belongs_to(&*surroundings.disk.log);
            if !self.life().must_join || !matches!(belongs, Ok(None)) {
                return;
            }
            let token = self.life().token.clone();
            let Some(token) = token else {
                sleep(TOKEN_POLL).await;
                continue;
            };
            match join(settings, surroundings, &token, Search::Named).await {
                Ok(_) => {
                    self.note(format_args!("joined"));
                    self.0.scene.chronicle.count("F-C9 node joined");
                    self.life().token = None;
                }
                Err(error) => {
                    self.note(format_args!("could not join: {error}"));
                    self.0.scene.chronicle.count("join that had to be repeated");
                    self.life().failed_joins += 1;
                    sleep(JOIN_AGAIN).await;
                }
            }
        }
    }

    /// Whether its node has no cluster and no token that may still be good.
    pub(in crate::world) fn wants_token(&self) -> bool {
        let life = self.life();
        life.must_join && !life.ready && (life.token.is_none() || life.failed_joins >= 3)
    }

    /// The id of its node, if an operator has to remove it.
    pub(in crate::world) fn must_be_removed(&self) -> Option<u64> {
        let life = self.life();
        let standing = life.observer.as_ref().filter(|_| life.removal)?();
        Some(standing.node)
    }

    /// Its node is removed: its machine gets empty disks.
    pub(in crate::world) fn retire(&self) {
        let mut life = self.life();
        (life.removal, life.must_get, life.retired) = (false, Some(None), true);
    }

    /// An operator brings a token.
    pub(in crate::world) fn give_token(&self, token: String) {
        let mut life = self.life();
        (life.token, life.failed_joins) = (Some(token), 0);
    }

    /// Keep asking `consensus` where it stands until the life ends.
    pub(super) fn observe(&self, consensus: Consensus) {
        self.life().observer = Some(Box::new(move || standing(&consensus.status())));
    }

    /// In which life it is and where its node stands, if it is up.
    pub(in crate::world) fn standing(&self) -> Option<(u64, Standing)> {
        let life = self.life();
        let standing = life.observer.as_ref()?();
        Some((life.number, standing))
    }
}

fn standing(status: &ClusterStatus) -> Standing {
    let of =
        |voter: bool| status.members.iter().filter(move |it| it.voter == voter).map(|it| it.node).collect();
    Standing {
        node: status.node,
        term: status.term,
        leader: status.leader,
        last: status.last_log,
        committed: status.committed,
        applied: status.applied,
        snapshot: status.snapshot,
        purged: status.purged,
        voters: of(true),
        learners: of(false),
    }
}
