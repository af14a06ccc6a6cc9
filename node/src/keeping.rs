//! Having here what this node is to keep: copies that were lost elsewhere are made again.
//!
//! A walk goes through the images, page by page, and fetches each of which this node is a home, or which is
//! pinned to its site, and which it does not hold whole.
//!
//! # What it promises
//!
//! * There is a walk at the start, whenever the nodes, their marks or the pins have changed, and every
//!   [`WALK_EVERY`]. One that was not complete is repeated after [`RETRY_AFTER`].
//! * A change of the catalog starts one as well, as often as looking costs at most a hundredth of the time.
//! * At most [`FETCHES_MAX`] images are fetched at once, of the six that may be, so that there are places for
//!   what clients wait for.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, stream};
use peerglass_catalog::{ImageId, KeptImage, ManifestRoot};
use peerglass_consensus::{Consensus, ConsensusError};
use peerglass_transfer::{FetchError, Transfer};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::homes::{Homes, Layout};

/// How often it is looked whether a walk is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time between walks when nothing has changed: what was damaged or missed is found by then.
const WALK_EVERY: Duration = Duration::from_mins(10);
/// Time until a walk is repeated that could not fetch everything.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Least time between walks because the catalog changed, and how often its cost that time is.
const CHANGE_PAUSE_MIN: Duration = Duration::from_secs(2);
const CHANGE_PAUSE_COSTS: u32 = 100;
/// Records looked at in one go: a few milliseconds on a thread apart.
const PAGE_IMAGES: usize = 256;
/// Images fetched at once.
const FETCHES_MAX: usize = 2;

/// The background task that keeps copies.
pub(crate) struct Keeping {
    consensus: Consensus,
    transfer: Transfer,
    homes: Homes,
}

/// What a walk went by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    layout: Layout,
    pin_changes: u64,
}

/// A walk that has ended.
struct Walked {
    seen: Seen,
    applied: u64,
    ended: Instant,
    /// What looking took, without what was fetched.
    cost: Duration,
    complete: bool,
}

impl Walked {
    fn is_due_again(&self, now: &Seen, applied: u64) -> bool {
        let pause = (self.cost * CHANGE_PAUSE_COSTS).clamp(CHANGE_PAUSE_MIN, WALK_EVERY);
        let since = self.ended.elapsed();
        *now != self.seen
            || since >= WALK_EVERY
            || !self.complete && since >= RETRY_AFTER
            || applied != self.applied && since >= pause
    }
}

impl Keeping {
    pub(crate) fn new(consensus: &Consensus, transfer: &Transfer, homes: Homes) -> Self {
        Self { consensus: consensus.clone(), transfer: transfer.clone(), homes }
    }

    /// Keep copies until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut walked: Option<Walked> = None;
        loop {
            ticks.tick().await;
            // While a snapshot is installed there is nothing to see.
            let Ok(seen) = self.look() else { continue };
            let applied = *self.consensus.applied().borrow();
            if walked.as_ref().is_none_or(|walked| walked.is_due_again(&seen, applied)) {
                let mut walk = Walk { keeping: self, seen, cost: Duration::ZERO, missing: 0 };
                let through = walk.go().await;
                if let Err(error) = &through {
                    tracing::debug!(%error, "a walk through the images broke off");
                }
                let Walk { seen, cost, missing, .. } = walk;
                if missing > 0 {
                    tracing::warn!(
                        images = missing,
                        "images that this node is to keep could not be fetched yet"
                    );
                }
                let complete = through.is_ok() && missing == 0;
                walked = Some(Walked { seen, applied, ended: Instant::now(), cost, complete });
            }
        }
    }

    fn look(&self) -> Result<Seen, ConsensusError> {
        let (layout, pin_changes) = self.homes.layout()?;
        Ok(Seen { layout, pin_changes })
    }

    /// Whether it is here now.
    async fn fetch(&self, root: ManifestRoot) -> bool {
        match self.transfer.fetch(root).await {
            Ok(()) => {
                tracing::info!(manifest = %root.0, "fetched an image that this node is to keep");
                true
            }
            // Deleted meanwhile, or on nodes that are not there: the next walk knows more.
            Err(FetchError::NoSource | FetchError::Busy | FetchError::Stopped) => false,
            Err(error @ (FetchError::Full | FetchError::Failed)) => {
                tracing::warn!(%error, manifest = %root.0, "cannot keep an image that this node is to keep");
                false
            }
        }
    }
}

struct Walk<'a> {
    keeping: &'a Keeping,
    seen: Seen,
    cost: Duration,
    missing: u64,
}

impl Walk<'_> {
    /// Go through all images, or until what the walk goes by is not so any more.
    async fn go(&mut self) -> Result<(), ConsensusError> {
        let mut after = None;
        loop {
            let began = Instant::now();
            let (kept, last) = self.page(after).await?;
            let lacking: BTreeSet<ManifestRoot> = kept.iter().filter_map(|kept| self.lacks(kept)).collect();
            self.cost += began.elapsed();
            let mut fetches =
                stream::iter(lacking).map(|root| self.keeping.fetch(root)).buffer_unordered(FETCHES_MAX);
            while let Some(fetched) = fetches.next().await {
                self.missing += u64::from(!fetched);
                if self.keeping.look()? != self.seen {
                    return Ok(()); // the next walk begins at once, and finds what is here by now
                }
            }
            let Some(last) = last else { return Ok(()) };
            after = Some(last);
        }
    }

    async fn page(
        &self,
        after: Option<ImageId>,
    ) -> Result<(Vec<KeptImage>, Option<ImageId>), ConsensusError> {
        let consensus = &self.keeping.consensus;
        let page = consensus.read_stale_apart(move |catalog| catalog.kept_after(after.as_ref(), PAGE_IMAGES));
        Ok(page.await??)
    }

    fn lacks(&self, kept: &KeptImage) -> Option<ManifestRoot> {
        let me = self.keeping.consensus.node();
        let keeps = self.seen.layout.keepers(&kept.manifest, &kept.pins).contains(&me);
        // An index that cannot be read ends the node elsewhere.
        let lacks = keeps && !self.keeping.transfer.holds(kept.manifest).unwrap_or(true);
        lacks.then_some(kept.manifest)
    }
}
