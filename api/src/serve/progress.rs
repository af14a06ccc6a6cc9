//! Whether a connection's client takes what it is sent, and whether it wants anything at all.
//!
//! # What it promises
//!
//! * A client is stuck when the connection holds bytes of answers and none of them has left for too long.
//!   Time in which an answer waits for this node, or a client sends, does not count.
//! * Under HTTP/2 only bytes of bodies count as progress, or a client could hold answers for ever by having
//!   its pings answered.
//! * An HTTP/2 client is idle from the end of its last request, until it sends another one. HTTP/1.1 knows
//!   that itself, by the time until the next head.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What is known about one connection. Clones are one.
#[derive(Clone)]
pub(super) struct Progress(Arc<Mutex<Facts>>);

struct Facts {
    http2: bool,
    /// Requests whose answer is not over.
    under_way: usize,
    /// Pieces of answers that the connection took and has not sent wholly.
    held: usize,
    /// When the last byte of a body left, or the first piece since there was none was taken.
    moved_at: Instant,
    /// Since when the socket takes nothing.
    blocked_since: Option<Instant>,
    /// When the last request or the last piece was over.
    idle_since: Instant,
}

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The client takes nothing.
    Stuck,
    /// It asks for nothing.
    Idle,
}

/// How long a client may be either.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) stuck: Duration,
    pub(super) idle: Duration,
}

impl Progress {
    /// A connection that has just been opened.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(Facts {
            http2: false,
            under_way: 0,
            held: 0,
            moved_at: now,
            blocked_since: None,
            idle_since: now,
        })))
    }

    /// A request came. It is under way until the guard is dropped.
    pub(super) fn begin(&self, http2: bool) -> UnderWay {
        let mut facts = self.facts();
        facts.http2 = http2;
        facts.under_way += 1;
        UnderWay(self.clone())
    }

    /// The connection takes a piece of a body, and holds it until the guard is dropped.
    pub(super) fn hold(&self) -> Held {
        let mut facts = self.facts();
        if facts.held == 0 {
            facts.moved_at = Instant::now();
        }
        facts.held += 1;
        Held(self.clone())
    }

    /// The socket took bytes, of which `moved` says whether some were of a body.
    pub(super) fn wrote(&self, moved: bool) {
        let mut facts = self.facts();
        facts.blocked_since = None;
        if moved {
            facts.moved_at = Instant::now();
        }
    }

    /// The socket took nothing.
    pub(super) fn blocked(&self) {
        self.facts().blocked_since.get_or_insert_with(Instant::now);
    }

    /// Count idleness from now on.
    pub(super) fn rest(&self) {
        self.facts().idle_since = Instant::now();
    }

    /// Resolves when `patience` is at its end.
    pub(super) async fn over(&self, patience: Patience) -> Over {
        loop {
            let now = Instant::now();
            let (why, due) = self.facts().due(patience);
            match why {
                Some(why) if due <= now => return why,
                Some(_) => sleep_until(due).await,
                // What begins after this look is not due before the next one.
                None => sleep_until(now + patience.stuck.min(patience.idle)).await,
            }
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    /// What comes next if nothing moves, and when.
    fn due(&self, patience: Patience) -> (Option<Over>, Instant) {
        let held_since = (self.held > 0).then_some(self.moved_at);
        let stuck_since = held_since.into_iter().chain(self.blocked_since).min();
        if let Some(since) = stuck_since {
            return (Some(Over::Stuck), since + patience.stuck);
        }
        let idle = self.http2 && self.under_way == 0;
        (idle.then_some(Over::Idle), self.idle_since + patience.idle)
    }
}

/// A request that is being answered.
pub(super) struct UnderWay(Progress);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut facts = self.0.facts();
        facts.under_way -= 1;
        facts.idle_since = Instant::now();
    }
}

/// A piece of a body in the connection's hands.
pub(super) struct Held(Progress);

impl Drop for Held {
    fn drop(&mut self) {
        let mut facts = self.0.facts();
        facts.held -= 1;
        facts.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { stuck: Duration::from_secs(60), idle: Duration::from_secs(75) };

    async fn seconds(progress: &Progress) -> (Over, u64) {
        let begun = Instant::now();
        let over = progress.over(PATIENCE).await;
        (over, begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_must_move() {
        let progress = Progress::new();
        tokio::time::advance(Duration::from_secs(1000)).await;
        let request = progress.begin(true);
        let held = progress.hold();
        // What leaves is no body's: it counts for nothing.
        progress.wrote(false);
        assert_eq!(seconds(&progress).await, (Over::Stuck, 60));
        progress.wrote(true);
        assert_eq!(seconds(&progress).await, (Over::Stuck, 60));
        drop(held);
        let endless = tokio::time::timeout(Duration::from_secs(10_000), progress.over(PATIENCE)).await;
        assert!(endless.is_err(), "an answer that waits for this node is not the client's fault");
        drop(request);
        assert_eq!(seconds(&progress).await, (Over::Idle, 75));
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_takes_nothing_is_stuck_whatever_is_in_it() {
        let progress = Progress::new();
        progress.blocked();
        tokio::time::advance(Duration::from_secs(20)).await;
        progress.blocked();
        assert_eq!(seconds(&progress).await, (Over::Stuck, 40));
        progress.wrote(false);
        let endless = tokio::time::timeout(Duration::from_secs(10_000), progress.over(PATIENCE)).await;
        assert!(endless.is_err(), "HTTP/1.1 finds idleness itself");
    }
}
