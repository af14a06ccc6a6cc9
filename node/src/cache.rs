//! Keeping what was only read here, and is kept elsewhere, within bounds.

use std::time::Duration;

use peerglass_transfer::{ReclaimError, Transfer};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Longest pause after runs that let nothing go: all that is here may have to stay.
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// The background task that lets images go.
pub(crate) struct Cache {
    pub(crate) transfer: Transfer,
    /// Bytes that packs may take before something is let go.
    pub(crate) bytes_max: u64,
    /// Time between two looks.
    pub(crate) interval: Duration,
}

impl Cache {
    /// Let images go, when there are too many, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep_within_bounds()).await;
    }

    async fn keep_within_bounds(&self) {
        let mut pause = self.interval;
        loop {
            sleep(pause).await;
            let stored = self.transfer.usage().stored_bytes;
            if stored <= self.bytes_max {
                pause = self.interval;
                continue;
            }
            let let_go = match self.transfer.evict(self.bytes_max).await {
                Ok(evicted) if evicted.manifests > 0 => {
                    tracing::info!(?evicted, "let go of images that other nodes keep");
                    true
                }
                Ok(_) => false,
                Err(error @ (ReclaimError::Unknown(_) | ReclaimError::Stopped)) => {
                    tracing::debug!(%error, "nothing can be let go now");
                    false
                }
                Err(error @ ReclaimError::Disk(_)) => {
                    tracing::warn!(%error, "could not let go of images that other nodes keep");
                    false
                }
            };
            pause = if let_go { self.interval } else { (pause * 2).min(PAUSE_MAX.max(self.interval)) };
        }
    }
}
