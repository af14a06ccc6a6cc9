//! Work that no request waits for: taking back the bytes that no image names.

use std::time::Duration;

use peerglass_consensus::Consensus;
use peerglass_transfer::Transfer;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// The background task of a node.
pub(crate) struct Maintenance {
    pub(crate) consensus: Consensus,
    pub(crate) transfer: Transfer,
    /// Time between two looks.
    pub(crate) interval: Duration,
}

impl Maintenance {
    /// Look for dead bytes at once, and then whenever the catalog changed since the last look.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked_at = None;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let applied = *self.consensus.applied().borrow();
            if looked_at != Some(applied) && stop.run_until_cancelled(self.reclaim()).await == Some(true) {
                looked_at = Some(applied);
            }
        }
    }

    /// Whether the look was complete. A failure changes nothing; the next look starts over.
    async fn reclaim(&self) -> bool {
        let is_named = |root| {
            let consensus = self.consensus.clone();
            async move {
                let named = consensus.read(|catalog| catalog.names_manifest(&root)).await?;
                named.map_err(peerglass_consensus::ConsensusError::from)
            }
        };
        match self.transfer.reclaim(is_named).await {
            Ok(reclaimed) => {
                tracing::debug!(?reclaimed, "looked for bytes that no image names");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "could not reclaim bytes that no image names; trying again later");
                false
            }
        }
    }
}
