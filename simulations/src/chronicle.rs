//! What happened in one run: every event with its virtual time, how often each fault fired, and the
//! first promise that was broken.
//!
//! Two runs of one seed must write the same chronicle, byte for byte. So nothing that the real
//! machine decides (addresses, wall time, the order of a hash map) may be noted in it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Events a run may note before it is taken for a run that never ends.
const EVENTS_MAX: usize = 2_000_000;

/// A promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant, by the id of the fault matrix and its short name.
    pub invariant: &'static str,
    /// What it happened to: an image, a pack, the node.
    pub subject: String,
    /// What the promise asks for.
    pub expected: String,
    /// What was there.
    pub got: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is broken", self.invariant)?;
        writeln!(f, "  subject   {}", self.subject)?;
        writeln!(f, "  expected  {}", self.expected)?;
        write!(f, "  got       {}", self.got)
    }
}

/// How often each thing worth counting happened, by name.
pub type Coverage = BTreeMap<&'static str, u64>;

/// The book of one run. Clones write into the same book.
#[derive(Clone, Default)]
pub(crate) struct Chronicle(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    now: Duration,
    events: Vec<String>,
    coverage: Coverage,
    violation: Option<Violation>,
    datagrams: blake3::Hasher,
}

impl Chronicle {
    /// Set the time of events that happen outside any host.
    pub(crate) fn set_time(&self, now: Duration) {
        self.locked().now = now;
    }

    /// Write an event down.
    pub(crate) fn note(&self, who: &str, event: fmt::Arguments<'_>) {
        let mut pages = self.locked();
        assert!(pages.events.len() < EVENTS_MAX, "a run does not take {EVENTS_MAX} events");
        // To the tick: inside a tick, the order of the lines is the order of the events.
        let millis = pages.now.as_millis();
        pages.events.push(format!("{millis:>6} {who:<8} {event}"));
    }

    /// A datagram is handed to the network. Not written down one by one, because there are tens of
    /// thousands; but a run in which one left at another time, or differed in one bit, is another run.
    pub(crate) fn datagram(&self, to: IpAddr, datagram: &[u8]) {
        let mut pages = self.locked();
        let millis = pages.now.as_millis().to_le_bytes();
        pages.datagrams.update(&millis).update(to.to_string().as_bytes()).update(datagram);
        *pages.coverage.entry("datagrams between nodes").or_default() += 1;
    }

    /// Count `what` once.
    pub(crate) fn count(&self, what: &'static str) {
        self.count_many(what, 1);
    }

    /// Count `what` `times` times.
    pub(crate) fn count_many(&self, what: &'static str, times: u64) {
        *self.locked().coverage.entry(what).or_default() += times;
    }

    /// Whether `what` was counted at least once.
    pub(crate) fn has_counted(&self, what: &'static str) -> bool {
        self.locked().coverage.contains_key(what)
    }

    /// Write down a broken promise. Only the first is kept: what follows it follows from it.
    pub(crate) fn violate(&self, violation: Violation) {
        self.note("VERDICT", format_args!("{violation}"));
        self.locked().violation.get_or_insert(violation);
    }

    /// Whether a promise was broken.
    pub(crate) fn is_violated(&self) -> bool {
        self.locked().violation.is_some()
    }

    /// The events, the counts and the verdict.
    pub(crate) fn close(&self) -> (Vec<String>, Coverage, Option<Violation>) {
        let mut pages = std::mem::take(&mut *self.locked());
        if pages.coverage.contains_key("datagrams between nodes") {
            let digest = pages.datagrams.finalize().to_hex();
            pages.events.push(format!("the datagrams between nodes were {}", &digest[..16]));
        }
        (pages.events, pages.coverage, pages.violation)
    }

    fn locked(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
