//! What this node has to send to others: one queue for all of them, first come, first served.
//!
//! Answers that are all sent at once all arrive late. A few at a time, the first arrive soon, and whoever
//! has them can pass them on.
//!
//! # What it promises
//!
//! * At most [`TURNS`] answers are being sent, besides those that take longer than [`TURN_TIME`], which have had
//!   their turn: a receiver that does not read delays nobody else for longer.
//! * They still count as to be sent, or whoever asks would take a node for idle whose link is full; but not for longer
//!   than [`COUNTED_TIME`]: one that is not read makes a node look busy for so long and no longer.
//! * Whoever would wait for longer than about [`QUEUE_TIME`] is told so instead, unless it said that it waits.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// Answers that are being sent: enough to fill a link between sites while receipts are on their way.
const TURNS: usize = 16;
/// How long one is waited for.
pub(super) const TURN_TIME: Duration = Duration::from_millis(300);
/// How long one counts as to be sent.
pub(super) const COUNTED_TIME: Duration = Duration::from_secs(3);
/// What may wait, in time at the rate of lately.
const QUEUE_TIME: Duration = Duration::from_secs(1);
/// What may wait whatever the rate is, and while it is not known.
const QUEUE_BYTES_MIN: u64 = 4 << 20;
const QUEUE_BYTES_FIRST: u64 = 16 << 20;
/// What a rate is measured over: at least so many bytes, until nothing waits or for so long.
const RATE_BYTES_MIN: u64 = 1 << 20;
const RATE_OVER: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct Outbox {
    turns: Semaphore,
    /// Bytes that wait or are being sent, as the plan of who asked counts them: plain.
    backlog: AtomicU64,
    rate: Mutex<Rate>,
}

#[derive(Default)]
struct Rate {
    /// Since when something waits or is being sent, and what has been sent since.
    busy_since: Option<Instant>,
    bytes: u64,
    /// Bytes a second while busy, once it is known.
    lately: Option<f64>,
}

/// A place in the queue, given up when it is dropped.
pub(super) struct Turn<'a> {
    outbox: &'a Outbox,
    permit: Option<SemaphorePermit<'a>>,
    bytes: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { turns: Semaphore::new(TURNS), backlog: AtomicU64::new(0), rate: Mutex::default() }
    }
}

impl Outbox {
    /// Bytes that wait or are being sent.
    pub(super) fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    fn rate(&self) -> MutexGuard<'_, Rate> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more should be told to come back.
    pub(super) fn is_busy(&self) -> bool {
        let of_rate = |rate: f64| QUEUE_BYTES_MIN.max((rate * QUEUE_TIME.as_secs_f64()) as u64);
        self.backlog() > self.rate().lately.map_or(QUEUE_BYTES_FIRST, of_rate)
    }

    /// Wait until it is time to send so many bytes.
    pub(super) async fn turn(&self, bytes: u64) -> Turn<'_> {
        self.backlog.fetch_add(bytes, Ordering::Relaxed);
        self.rate().busy_since.get_or_insert_with(Instant::now);
        let mut turn = Turn { outbox: self, permit: None, bytes };
        // It is never closed.
        turn.permit = self.turns.acquire().await.ok();
        turn
    }

    fn sent(&self, bytes: u64) {
        let is_idle = self.backlog.fetch_sub(bytes, Ordering::Relaxed) == bytes;
        let now = Instant::now();
        let mut rate = self.rate();
        rate.bytes += bytes;
        let over = rate.busy_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if !is_idle && over < RATE_OVER {
            return;
        }
        if rate.bytes >= RATE_BYTES_MIN && !over.is_zero() {
            let latest = rate.bytes as f64 / over.as_secs_f64();
            rate.lately = Some(rate.lately.map_or(latest, |lately| (lately + latest) / 2.0));
        }
        rate.bytes = 0;
        rate.busy_since = if is_idle { None } else { Some(now) };
    }
}

impl Turn<'_> {
    /// Do `step` of what is sent in this turn, which `began` then. If it takes long the next one may begin, though this
    /// one is not through; if it takes very long, this one does not count any more.
    pub(super) async fn wait<F: Future>(&mut self, began: Instant, step: F) -> F::Output {
        let mut step = pin!(step);
        if let Ok(done) = timeout_at(began + TURN_TIME, &mut step).await {
            return done;
        }
        self.permit = None;
        if let Ok(done) = timeout_at(began + COUNTED_TIME, &mut step).await {
            return done;
        }
        self.outbox.sent(std::mem::take(&mut self.bytes));
        step.await
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.outbox.sent(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_long_in_time_and_whoever_gives_up_leaves_it() {
        let outbox = Outbox::default();
        let turn = outbox.turn(QUEUE_BYTES_FIRST).await;
        assert!(!outbox.is_busy(), "the rate is not known yet");
        tokio::time::advance(Duration::from_secs(8)).await;
        drop(turn);
        assert_eq!(outbox.backlog(), 0);
        let _turn = outbox.turn(QUEUE_BYTES_MIN).await;
        assert!(!outbox.is_busy(), "so much may wait at any rate");
        let second = outbox.turn(1).await;
        assert!(outbox.is_busy(), "at 2 MiB a second that is more than a second");
        drop(second);
        assert!(!outbox.is_busy());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_long_delays_nobody() {
        let outbox = Outbox::default();
        let mut slow = Vec::new();
        for _ in 0..TURNS {
            slow.push(outbox.turn(10).await);
        }
        let next = tokio::time::timeout(TURN_TIME, outbox.turn(5)).await;
        assert!(next.is_err(), "all turns are taken");
        let began = Instant::now();
        {
            let mut stalled = pin!(slow[0].wait(began, std::future::pending::<()>()));
            assert!(tokio::time::timeout(TURN_TIME * 2, &mut stalled).await.is_err());
            let _next = outbox.turn(5).await;
            assert_eq!(outbox.backlog(), 10 * TURNS as u64 + 5, "it is being sent");
            assert!(tokio::time::timeout(COUNTED_TIME, &mut stalled).await.is_err());
        }
        assert_eq!(outbox.backlog(), 10 * (TURNS - 1) as u64);
    }
}
