//! Reading again what is kept, and mending what is damaged from other nodes.

use std::time::Duration;

use peerglass_transfer::Transfer;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Time until it begins: a start has enough to do.
const BEGIN_AFTER: Duration = Duration::from_mins(10);
/// Time between two passes over everything.
const PASS_PAUSE: Duration = Duration::from_hours(1);
/// Time until it goes on after the disk could not be read.
const FAILURE_PAUSE: Duration = Duration::from_mins(1);

/// The background task that scrubs.
pub(crate) struct Scrub {
    pub(crate) transfer: Transfer,
    pub(crate) bytes_per_s: u64,
}

impl Scrub {
    /// Scrub until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.scrub()).await;
    }

    async fn scrub(&self) {
        sleep(BEGIN_AFTER).await;
        loop {
            match self.transfer.scrub_next(self.bytes_per_s).await {
                Ok(Some(scrubbed)) if scrubbed.damaged > 0 => {
                    let manifest = scrubbed.manifest.0;
                    tracing::error!(%manifest, damaged = scrubbed.damaged, "what is kept of an image is damaged");
                    match self.transfer.fetch(scrubbed.manifest).await {
                        Ok(()) => tracing::info!(%manifest, "a damaged image is whole again"),
                        Err(error) => tracing::error!(%manifest, %error, "a damaged image is not mended"),
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => sleep(PASS_PAUSE).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot read again what is kept");
                    sleep(FAILURE_PAUSE).await;
                }
            }
        }
    }
}
