//! One node of the world: its links, and what it has to send.

use std::collections::VecDeque;
use std::time::Duration;

use crate::swarm::Plan;

/// A queue with a rate in bytes a second.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) rate: f64,
    pub(super) free_at: Duration,
    pub(super) sent: u64,
}

impl Link {
    pub(super) fn new(rate: f64) -> Self {
        Self { rate, free_at: Duration::ZERO, sent: 0 }
    }

    /// When the last byte is through.
    pub(super) fn carry(&mut self, at: Duration, bytes: u64) -> Duration {
        self.sent += bytes;
        self.free_at = self.free_at.max(at) + Duration::from_secs_f64(bytes as f64 / self.rate);
        self.free_at
    }
}

/// A piece on its way out.
pub(super) struct Answer {
    pub(super) to: usize,
    pub(super) piece: usize,
    pub(super) left: u64,
}

pub(super) struct Node {
    pub(super) site: usize,
    pub(super) up: Link,
    pub(super) down: Link,
    /// `None` for a seed.
    pub(super) plan: Option<Plan>,
    pub(super) has: Vec<bool>,
    /// What is being sent, a slice of each in turn, and what waits for its turn.
    pub(super) sending: VecDeque<Answer>,
    pub(super) waiting: VecDeque<Answer>,
    /// What it got, in that order, and how much of that it has told others.
    pub(super) got: Vec<usize>,
    pub(super) told: usize,
    /// It will tell others, or ask for more, soon.
    pub(super) tells: bool,
    pub(super) asks: bool,
    pub(super) done_at: Option<Duration>,
    pub(super) dead: bool,
    /// It says to have all and gives nothing.
    pub(super) lies: bool,
}

impl Node {
    pub(super) fn new(site: usize, rate: f64, plan: Option<Plan>, has: Vec<bool>) -> Self {
        Self {
            site,
            up: Link::new(rate),
            down: Link::new(rate),
            plan,
            has,
            sending: VecDeque::new(),
            waiting: VecDeque::new(),
            got: Vec::new(),
            told: 0,
            tells: false,
            asks: false,
            done_at: None,
            dead: false,
            lies: false,
        }
    }

    /// Bytes it has to send.
    pub(super) fn backlog(&self) -> u64 {
        self.sending.iter().chain(&self.waiting).map(|answer| answer.left).sum()
    }
}
