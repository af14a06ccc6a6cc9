//! What a running node does with what is found: it notes where members were seen, and asks.

use std::time::Duration;

use peerglass_consensus::Consensus;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Circle, Discovery, FINDINGS_WAITING_MAX, Finding, Introduction, News, Sightings};

/// How often it is looked who the members are.
const INTERVAL: Duration = Duration::from_secs(1);

/// Stands between a discovery and the node.
pub(crate) struct Lookout {
    pub(crate) consensus: Consensus,
    pub(crate) sightings: Sightings,
    /// Where this node is reached.
    pub(crate) address: String,
}

impl Lookout {
    /// Look out until `stop`.
    pub(crate) async fn run(self, discovery: Box<dyn Discovery>, stop: CancellationToken) {
        let me = Introduction { cluster: self.consensus.cluster(), address: self.address.clone() };
        let (circle, watched) = watch::channel(Circle::default());
        let (found, mut findings) = mpsc::channel(FINDINGS_WAITING_MAX);
        let mut looking = discovery.run(me, watched, found);
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = &mut looking => return, // it has said why
                _ = ticks.tick() => {
                    let now = self.circle();
                    self.sightings.retain(|key| now.members.contains_key(&key));
                    circle.send_if_modified(|before| {
                        let changed = *before != now;
                        *before = now;
                        changed
                    });
                }
                Some(finding) = findings.recv() => self.heed(finding),
            }
        }
    }

    fn circle(&self) -> Circle {
        let members = self.consensus.others().into_iter().map(|(_, entry)| (entry.key, entry.address));
        let news = News {
            members_at: self.consensus.members_at(),
            leader: self.consensus.leader(),
            address: self.address.clone(),
        };
        Circle { members: members.collect(), news }
    }

    fn heed(&self, finding: Finding) {
        match finding {
            Finding::Seen { key, address } => self.see(key, address),
            Finding::Gone { key } => self.sightings.forget(key),
            Finding::News { key, news } => {
                self.see(key, news.address);
                self.consensus.hear_of_members(news.members_at);
            }
        }
    }

    fn see(&self, key: peerglass_catalog::PeerKey, address: String) {
        let member =
            self.consensus.member_with(key).and_then(|node| Some((node, self.consensus.member(node)?)));
        let Some((node, entry)) = member else { return };
        if entry.address == address {
            // Nothing else has to be tried for it.
            self.sightings.forget(key);
        } else if self.sightings.note(key, address.clone()) {
            tracing::info!(
                node = node.0,
                address,
                known = entry.address,
                "a member was seen at another address"
            );
        }
    }
}
