//! Who this node is: its cluster, its log's id, and how often it was started.
//!
//! Kept in the log's keyspace, because it must live and die with the log: a disk that is wiped takes
//! the id with it, and a disk that is set back to an older copy comes back with an older boot epoch,
//! which is how its peers find out (F-D11).
//!
//! ```text
//! n          this node's id          m node:u64be   what this node has seen of another one
//! i          the cluster             k              nodes told by whoever let this one join
//! b          boot epoch
//! ```

use std::collections::BTreeMap;
use std::fmt;

use peerglass_catalog::keyspace::{Batch, Keyspace};
use peerglass_catalog::{Fault, NodeEntry, NodeId};
use serde::{Deserialize, Serialize};

use crate::error::OpenError;
use crate::log::{decode, encode, get};

const NODE: &[u8] = b"n";
const CLUSTER: &[u8] = b"i";
const BOOT: &[u8] = b"b";
const MARK: u8 = b'm';
const KNOWN: &[u8] = b"k";

/// Which cluster a log belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterId {
    /// Drawn when the cluster was formed.
    pub id: u128,
    /// Grows when the cluster is recovered without its majority, which fences everybody who was not
    /// part of the recovery.
    pub incarnation: u32,
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}.{}", self.id, self.incarnation)
    }
}

/// One start of a node. Grows with every start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Boot {
    /// Counted from 1.
    pub(crate) epoch: u64,
    /// Drawn at the start: tells two starts from one copy of a disk apart.
    pub(crate) nonce: u64,
}

/// What a node remembers of another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Its latest start.
    pub(crate) boot: Boot,
    /// It has certainly stored, and acknowledged, the log up to here.
    pub(crate) stored: u64,
}

/// Who this node is, for as long as it runs.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) boot: Boot,
    /// Nodes to turn to until the log names some.
    pub(crate) known: BTreeMap<NodeId, NodeEntry>,
    /// Whether this log was begun by joining a cluster, and not by forming one.
    pub(crate) joined: bool,
}

impl Identity {
    /// Read it from `log` and count this start; an empty log gets an identity drawn from `chance`.
    ///
    /// A log that was given an id for a join and then never a cluster must not become one of its own
    /// (`is_fresh` says that it holds no entry): the cluster may count with it.
    pub(crate) async fn begin(
        log: &dyn Keyspace,
        is_fresh: bool,
        chance: &mut Chance,
    ) -> Result<Self, OpenError> {
        let mut batch = Batch::default();
        if is_fresh && node_of(log)?.is_some() && cluster_of(log)?.is_none() {
            return Err(OpenError::JoinUnfinished);
        }
        let node = match get(log, "node id", NODE)? {
            Some(node) => node,
            None => {
                let node = chance.node_id();
                batch.put(NODE.to_vec(), encode(&node));
                node
            }
        };
        let cluster = match get(log, "cluster id", CLUSTER)? {
            Some(cluster) => cluster,
            None => {
                let cluster = ClusterId { id: chance.cluster_id(), incarnation: 1 };
                batch.put(CLUSTER.to_vec(), encode(&cluster));
                cluster
            }
        };
        let before: Boot = get(log, "boot epoch", BOOT)?.unwrap_or_default();
        let boot = Boot { epoch: before.epoch.saturating_add(1), nonce: chance.number() };
        batch.put(BOOT.to_vec(), encode(&boot));
        let known: Option<BTreeMap<NodeId, NodeEntry>> = get(log, "known nodes", KNOWN)?;
        // Durable before anybody hears of it, or the next start could claim the same epoch.
        log.write(batch)?;
        log.sync().await?;
        Ok(Self { cluster, node, boot, joined: known.is_some(), known: known.unwrap_or_default() })
    }
}

/// The id `log` already has, if any.
pub(crate) fn node_of(log: &dyn Keyspace) -> Result<Option<NodeId>, Fault> {
    get(log, "node id", NODE)
}

/// The cluster `log` already belongs to, if any.
pub(crate) fn cluster_of(log: &dyn Keyspace) -> Result<Option<ClusterId>, Fault> {
    get(log, "cluster id", CLUSTER)
}

/// Give an empty log the id it will have.
pub(crate) async fn reserve(log: &dyn Keyspace, chance: &mut Chance) -> Result<NodeId, Fault> {
    if let Some(node) = node_of(log)? {
        return Ok(node);
    }
    let node = chance.node_id();
    let mut batch = Batch::default();
    batch.put(NODE.to_vec(), encode(&node));
    log.write(batch)?;
    log.sync().await?;
    Ok(node)
}

/// Make `log` part of `cluster`, knowing the nodes `known`.
pub(crate) async fn adopt(
    log: &dyn Keyspace,
    cluster: ClusterId,
    known: &BTreeMap<NodeId, NodeEntry>,
) -> Result<(), Fault> {
    let mut batch = Batch::default();
    batch.put(CLUSTER.to_vec(), encode(&cluster));
    batch.put(KNOWN.to_vec(), encode(known));
    log.write(batch)?;
    log.sync().await
}

/// Change the cluster `log` belongs to, and forget whom it was told of. Part of a recovery; the caller
/// syncs.
pub(crate) fn put_cluster(batch: &mut Batch, cluster: ClusterId) {
    batch.put(CLUSTER.to_vec(), encode(&cluster));
    batch.remove(KNOWN.to_vec());
}

pub(crate) fn mark_of(log: &dyn Keyspace, node: NodeId) -> Result<Option<Mark>, Fault> {
    let key = mark_key(node);
    log.get(&key)?.map(|value| decode("mark of a node", &key, &value)).transpose()
}

pub(crate) fn put_mark(log: &dyn Keyspace, node: NodeId, mark: Mark) -> Result<(), Fault> {
    let mut batch = Batch::default();
    batch.put(mark_key(node), encode(&mark));
    log.write(batch)
}

fn mark_key(node: NodeId) -> Vec<u8> {
    [&[MARK][..], &node.0.to_be_bytes()].concat()
}

/// Where ids come from: a seed, so that a simulation repeats.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn cluster_id(&mut self) -> u128 {
        u128::from(self.number()) << 64 | u128::from(self.number())
    }

    /// Never 0, which stands for no node.
    fn node_id(&mut self) -> NodeId {
        NodeId(self.number().max(1))
    }
}
