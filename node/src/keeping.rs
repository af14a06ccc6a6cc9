//! Having here what this node is to keep: copies that were lost elsewhere are made again.
//!
//! A walk goes through the images, page by page, and fetches each of which this node is a home, or which is
//! pinned to its site, and which it does not hold whole.
//!
//! # What it promises
//!
//! * There is a walk at the start, whenever the nodes, their marks or the pins have changed, and every
//!   [`WALK_EVERY`]. One that was not complete is repeated after [`RETRY_AFTER`].
//! * When it was learnt that something held here is lost or damaged, the next walk looks into every image, and not only
//!   whether it was held once.
//! * A disk without room ends the fetching of a walk, and the next one waits [`WALK_EVERY`].
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
    /// There was no room.
    full: bool,
    /// What was lost here by the time it began.
    losses: u64,
}

impl Walked {
    fn is_due_again(&self, now: &Seen, applied: u64, losses: u64) -> bool {
        let since = self.ended.elapsed();
        if self.full {
            return since >= WALK_EVERY;
        }
        let pause = (self.cost * CHANGE_PAUSE_COSTS).clamp(CHANGE_PAUSE_MIN, WALK_EVERY);
        *now != self.seen
            || since >= WALK_EVERY
            || !self.complete && since >= RETRY_AFTER
            || (applied != self.applied || losses != self.losses) && since >= pause
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
            let losses = self.transfer.losses();
            if walked.as_ref().is_none_or(|walked| walked.is_due_again(&seen, applied, losses)) {
                let thorough = losses != walked.as_ref().map_or(0, |walked| walked.losses);
                let went_by = seen.clone();
                let mut walk =
                    Walk { keeping: self, seen, thorough, cost: Duration::ZERO, missing: 0, full: false };
                let through = walk.go().await;
                if let Err(error) = &through {
                    tracing::debug!(%error, "a walk through the images broke off");
                }
                let Walk { cost, missing, full, .. } = walk;
                if missing > 0 {
                    tracing::warn!(
                        images = missing,
                        "images that this node is to keep could not be fetched yet"
                    );
                }
                let complete = through.is_ok() && missing == 0;
                let (seen, ended) = (went_by, Instant::now());
                walked = Some(Walked { seen, applied, ended, cost, complete, full, losses });
            }
        }
    }

    fn look(&self) -> Result<Seen, ConsensusError> {
        let (layout, pin_changes) = self.homes.layout()?;
        Ok(Seen { layout, pin_changes })
    }

    /// Have it here, if it is not.
    async fn fetch(&self, root: ManifestRoot) -> Result<(), FetchError> {
        let fetched = self.transfer.fetch(root).await;
        match &fetched {
            Ok(()) => tracing::debug!(manifest = %root.0, "this node has an image that it is to keep"),
            // Deleted meanwhile, or on nodes that are not there: the next walk knows more.
            Err(FetchError::NoSource | FetchError::Busy | FetchError::Stopped) => {}
            Err(error @ (FetchError::Full | FetchError::Failed)) => {
                tracing::warn!(%error, manifest = %root.0, "cannot keep an image that this node is to keep");
            }
        }
        fetched
    }
}

struct Walk<'a> {
    keeping: &'a Keeping,
    seen: Seen,
    /// Whether to look into what is held.
    thorough: bool,
    cost: Duration,
    missing: u64,
    full: bool,
}

impl Walk<'_> {
    /// Go through all images, or until there is no room for one. What the walk goes by may change meanwhile: it goes
    /// on by that, and another one is due.
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
                self.missing += u64::from(fetched.is_err());
                if fetched == Err(FetchError::Full) {
                    self.full = true;
                    return Ok(());
                }
            }
            drop(fetches);
            self.seen = self.keeping.look()?;
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
        let keeps = self.seen.layout.keepers(&kept.first, &kept.pins).contains(&me);
        // An index that cannot be read ends the node elsewhere.
        let lacks = keeps && (self.thorough || !self.keeping.transfer.holds(kept.manifest).unwrap_or(true));
        lacks.then_some(kept.manifest)
    }
}
