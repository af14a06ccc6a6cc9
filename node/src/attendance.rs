//! Who is out: the leader marks nodes that nobody has heard of for long, and others keep what they kept.
//!
//! A mark is a command, so every node computes homes from the same marks. A node that is heard of again loses
//! its mark, and so does one that is no member any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use peerglass_catalog::{Command, NodeId, Timestamp};
use peerglass_consensus::{Consensus, MemberStatus};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the leader looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A node that answered within this time is there: some heartbeats.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// The background task that marks nodes.
pub(crate) struct Attendance {
    pub(crate) consensus: Consensus,
    /// How long a node may be silent.
    pub(crate) out_after: Duration,
    pub(crate) now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Attendance {
    /// Mark nodes, whenever this node leads, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.look_after_nodes()).await;
    }

    async fn look_after_nodes(&self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Since when this leader waits for nodes that it has not heard of at all.
        let mut waited_for: BTreeMap<NodeId, Instant> = BTreeMap::new();
        loop {
            ticks.tick().await;
            if !self.consensus.is_leader() {
                waited_for.clear();
                continue;
            }
            let marks = self.consensus.read_stale(|catalog| catalog.nodes_out());
            let Ok((Ok(marks), _)) = marks else { continue };
            let marked = |node: NodeId| marks.iter().any(|(marked, _)| *marked == node);
            let members = self.consensus.status().members;
            waited_for.retain(|node, _| members.iter().any(|member| member.node == node.0));
            for member in &members {
                let node = NodeId(member.node);
                let since = *waited_for.entry(node).or_insert_with(Instant::now);
                match self.is_out(member, since) {
                    Some(out) if out != marked(node) => self.mark(node, out).await,
                    Some(_) | None => {}
                }
            }
            let gone = |node: &NodeId| !members.iter().any(|member| member.node == node.0);
            for (node, _) in marks.iter().filter(|(node, _)| gone(node)) {
                self.mark(*node, false).await;
            }
        }
    }

    /// Whether a node is out or there; `None` while it is neither for long enough.
    fn is_out(&self, member: &MemberStatus, waited_since: Instant) -> Option<bool> {
        if member.node == self.consensus.node().0 {
            return Some(false);
        }
        let silence = member.silent_ms.map(Duration::from_millis);
        if silence.is_some_and(|silence| silence < HEARD_WITHIN.min(self.out_after)) {
            return Some(false);
        }
        (silence.unwrap_or_else(|| waited_since.elapsed()) >= self.out_after).then_some(true)
    }

    async fn mark(&self, node: NodeId, out: bool) {
        match self.consensus.submit(Command::MarkNode { node, out, at: (self.now)() }).await {
            Ok(_) if out => tracing::warn!(node = node.0, "a node is out; others keep what it kept"),
            Ok(_) => tracing::info!(node = node.0, "a node is not out any more"),
            Err(error) => tracing::debug!(node = node.0, out, %error, "a node is not marked yet"),
        }
    }
}
