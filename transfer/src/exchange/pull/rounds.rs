//! When a pull tries again, and when it gives up.

use std::time::Duration;

use peerglass_catalog::{ManifestRoot, NodeId};
use tokio::time::{Instant, sleep, sleep_until};

use super::PullError;
use crate::exchange::ask::AskError;
use crate::exchange::follow::Followed;

/// Rounds over all candidates, after the first, in which nobody gave anything.
const ROUNDS_MAX: usize = 3;
/// Pause before each: about as long as a node takes to come back.
const PAUSE: Duration = Duration::from_secs(1);
/// How long peers may wait for each other without anything coming, in steps of [`PAUSE`].
const STANDSTILL_MAX: usize = 15;
/// How long a pull goes on in which nothing comes, whatever is asked and promised.
const NOTHING_FOR: Duration = Duration::from_mins(3);

/// See the module.
pub(super) struct Rounds {
    root: ManifestRoot,
    /// Rounds since something came.
    count: usize,
    /// Pauses since something came.
    still: usize,
    /// Somebody was there and is not any more.
    any_lost: bool,
    brought_at: Instant,
    look_again: Option<Instant>,
    /// When nothing will have come for a pause.
    still_until: Option<Instant>,
}

impl Rounds {
    pub(super) fn new(root: ManifestRoot) -> Self {
        Self {
            root,
            count: 0,
            still: 0,
            any_lost: false,
            brought_at: Instant::now(),
            look_again: None,
            still_until: None,
        }
    }

    /// A peer is not heard of any more, or does not give what it was asked for.
    pub(super) fn lost(&mut self, node: NodeId, error: &AskError) {
        let (peer, manifest) = (node.0, self.root.0);
        match error {
            AskError::Unreachable(_) => tracing::debug!(peer, %manifest, %error, "a peer cannot be asked"),
            AskError::Breach(_) => tracing::warn!(peer, %manifest, %error, "a peer is not asked again"),
            AskError::Silent | AskError::Busy | AskError::Lost(_) => {
                tracing::warn!(peer, %manifest, %error, "a peer is not asked on");
                self.any_lost = true;
                self.look_again.get_or_insert_with(|| Instant::now() + PAUSE);
            }
        }
    }

    /// Something came.
    pub(super) fn brought(&mut self) {
        self.count = 0;
        self.still = 0;
        self.brought_at = Instant::now();
    }

    /// Nobody is left to be heard of: look again after a pause, if somebody may have come back.
    pub(super) async fn nobody_left(&mut self, followed: &mut Followed) -> Result<(), PullError> {
        if !self.any_lost || self.count >= ROUNDS_MAX {
            return Err(PullError::NoSource);
        }
        self.count += 1;
        sleep(PAUSE).await;
        self.look_again = None;
        followed.everybody();
        Ok(())
    }

    /// When it is time to look again for those who were lost, or, if all is `still`, nothing has come for a pause.
    pub(super) fn pause(&mut self, still: bool) -> Option<Instant> {
        if !still {
            self.still_until = None;
            let end = self.brought_at + NOTHING_FOR;
            return Some(self.look_again.map_or(end, |again| again.min(end)));
        }
        let until = *self.still_until.get_or_insert_with(|| Instant::now() + PAUSE);
        Some(self.look_again.map_or(until, |again| again.min(until)))
    }

    /// That time has come. Answers with who is not followed any more, to make room for others.
    pub(super) fn paused(&mut self, followed: &mut Followed) -> Result<Vec<NodeId>, PullError> {
        self.look_again = None;
        if self.brought_at.elapsed() >= NOTHING_FOR {
            return Err(PullError::NoSource);
        }
        followed.everybody();
        if self.still_until.is_some_and(|until| until <= Instant::now()) {
            self.still_until = None;
            self.still += 1;
            if self.still > STANDSTILL_MAX {
                return Err(PullError::NoSource);
            }
            return Ok(followed.make_room());
        }
        Ok(Vec::new())
    }
}

/// Resolves then, or never.
pub(super) async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
