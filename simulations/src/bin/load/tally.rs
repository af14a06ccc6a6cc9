//! What the clients saw: how many answers, how late, and what went wrong.

use std::time::Duration;

use serde_json::{Value, json};

/// The counts of one run.
#[derive(Default)]
pub(crate) struct Tally {
    /// Microseconds of each request that was answered well, in no order.
    micros: Vec<u32>,
    errors: u64,
    first_error: Option<String>,
    /// How long requests were counted.
    pub(crate) counted: Duration,
}

impl Tally {
    /// A tally that has room for what a client may see before it has to grow.
    pub(crate) fn new() -> Self {
        Self { micros: Vec::with_capacity(4_096), ..Self::default() }
    }

    pub(crate) fn answered(&mut self, took: Duration) {
        self.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    pub(crate) fn failed(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some(format!("{error:#}"));
        }
    }

    /// Take in what another client saw.
    pub(crate) fn add(&mut self, other: Self) {
        self.micros.extend(other.micros);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    /// The report.
    pub(crate) fn json(mut self, clients: usize) -> Value {
        self.micros.sort_unstable();
        let seconds = self.counted.as_secs_f64();
        let answered = u32::try_from(self.micros.len()).unwrap_or(u32::MAX);
        json!({
            "clients": clients,
            "seconds": seconds,
            "requests": answered,
            "per_second": if seconds > 0.0 { f64::from(answered) / seconds } else { 0.0 },
            "p50_ms": self.millis(50),
            "p99_ms": self.millis(99),
            "max_ms": self.millis(100),
            "errors": self.errors,
            "first_error": self.first_error,
        })
    }

    /// The latency that `percent` of the requests did not exceed. Sorted before.
    fn millis(&self, percent: usize) -> Option<f64> {
        let rank = (self.micros.len() * percent).div_ceil(100).max(1);
        self.micros.get(rank - 1).map(|micros| f64::from(*micros) / 1e3)
    }
}
