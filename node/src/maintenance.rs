//! Work that no request waits for: giving up uploads nobody finishes, and taking back the bytes that no
//! image names.

use std::sync::Arc;
use std::time::Duration;

use peerglass_api::Api;
use peerglass_catalog::keyspace::Fault;
use peerglass_catalog::{Catalog, Command, ManifestRoot, NodeId, Timestamp};
use peerglass_consensus::{Consensus, ConsensusError};
use peerglass_transfer::{Reclaimed, Transfer};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// A node that was not heard of for this long has lost its uploads: their clients are long gone.
const ABSENT_AFTER: Duration = Duration::from_secs(60);
/// Pause before the uploads of the last run are given up again, when nobody answered.
const GIVE_UP_PAUSE: Duration = Duration::from_millis(500);

/// The background task of a node.
pub(crate) struct Maintenance {
    pub(crate) api: Api,
    pub(crate) consensus: Consensus,
    pub(crate) transfer: Transfer,
    /// Time between two looks.
    pub(crate) interval: Duration,
    pub(crate) now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Maintenance {
    /// Open the node for uploads, and then look after it until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let opened = stop.run_until_cancelled(async {
            while !self.give_up_uploads().await {
                sleep(GIVE_UP_PAUSE).await;
            }
        });
        if opened.await.is_some() {
            self.look_after(stop).await;
        }
    }

    /// Give up the uploads of this node's last run and let new ones begin. False if nobody answered.
    pub(crate) async fn give_up_uploads(&self) -> bool {
        let node = self.consensus.node();
        // A node that was not admitted yet cannot have any, but its first request would be its second.
        let given_up = self.consensus.submit(Command::AbandonUploads { node, at: (self.now)() }).await;
        match given_up {
            Ok(_) => self.api.open_uploads(),
            Err(error) => tracing::debug!(%error, "cannot give up the uploads of the last run yet"),
        }
        self.api.takes_uploads()
    }

    /// Look for dead bytes at once, and then whenever the catalog changed since the last look or something came to be
    /// held, since a pull may end after its image was deleted; and when what a pull left behind has its time over.
    async fn look_after(self, stop: CancellationToken) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut looked_at, mut look_again) = (None, None);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let applied = *self.consensus.applied().borrow();
            let seen = (applied, self.transfer.held());
            let is_due = look_again.is_some_and(|at| at <= Instant::now());
            if (looked_at != Some(seen) || is_due)
                && let Some(Some(done)) = stop.run_until_cancelled(self.reclaim()).await
            {
                looked_at = Some(seen);
                look_again = done.expires_in.and_then(|time| Instant::now().checked_add(time));
            }
            if stop.run_until_cancelled(self.give_up_uploads_of_others()).await.is_none() {
                return;
            }
        }
    }

    /// As the leader: uploads of nodes that left or went silent would hold their images for ever
    /// (I-L11). A node that was only cut off learns of it when it announces the bytes.
    async fn give_up_uploads_of_others(&self) {
        if !self.consensus.is_leader() {
            return;
        }
        let Ok((Ok(uploading), _)) = self.consensus.read_stale(|catalog| catalog.uploading_nodes()) else {
            return;
        };
        let absent = self.consensus.absent(ABSENT_AFTER);
        let lost = |node: &NodeId| absent.contains(node) || !self.consensus.is_member(*node);
        for node in uploading.into_iter().filter(lost) {
            match self.consensus.submit(Command::AbandonUploads { node, at: (self.now)() }).await {
                Ok(_) => tracing::warn!(node = node.0, "gave up the uploads of a node that is gone"),
                Err(error) => {
                    tracing::warn!(node = node.0, %error, "cannot give up a lost node's uploads yet")
                }
            }
        }
    }

    /// What was done, if there is nothing to do until the catalog changes. After a failure, without room for all of it,
    /// or while something that nobody names is still needed, the next look goes on.
    async fn reclaim(&self) -> Option<Reclaimed> {
        let are_named = |roots: Vec<ManifestRoot>| {
            let consensus = self.consensus.clone();
            async move {
                // One barrier for all of them, and one state.
                let look = |catalog: &Catalog<'_>| {
                    let named = roots.iter().map(|root| catalog.names_manifest(root));
                    named.collect::<Result<Vec<bool>, Fault>>()
                };
                consensus.read(look).await?.map_err(ConsensusError::from)
            }
        };
        match self.transfer.reclaim(are_named).await {
            Ok(reclaimed) => {
                tracing::debug!(?reclaimed, "looked for bytes that no image names");
                (reclaimed.no_room == 0 && reclaimed.needed == 0).then_some(reclaimed)
            }
            Err(error) => {
                tracing::warn!(%error, "could not reclaim bytes that no image names; trying again later");
                None
            }
        }
    }
}
