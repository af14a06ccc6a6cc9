//! Judges what clients of a real cluster wrote down, by the rules that simulated clients are judged by.
//!
//! The input is JSON lines, one request and its answer a line, as `deploy/lab/recorder.py` writes them.
//! All times are of one monotonic clock. A request without an answer may have happened, then or at any
//! time later; a read is as new as its beginning at least, whichever node gave it.

mod call;
mod images;

use std::collections::BTreeMap;

use anyhow::{Context, bail};

use self::call::Call;
use self::images::{Images, Open};
use crate::chronicle::Violation;

/// Largest history accepted, in calls. What a run of hours writes is far below.
const CALLS_MAX: usize = 5_000_000;

/// What a history came to.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Requests in it.
    pub calls: usize,
    /// How they ended, by name.
    pub endings: BTreeMap<String, usize>,
    /// Images they were about.
    pub images: usize,
    /// Images with more unknown outcomes than can be followed: nothing is said about those.
    pub vague: usize,
    /// Promises that were broken, at most one an image.
    pub violations: Vec<Violation>,
}

/// Judge the history in `text`.
pub fn judge(text: &str) -> anyhow::Result<Verdict> {
    let mut calls = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let call: Call = serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
        if call.at.0 > call.at.1 {
            bail!("line {}: it ended before it began", number + 1);
        }
        if calls.len() == CALLS_MAX {
            bail!("more than {CALLS_MAX} calls");
        }
        calls.push(call);
    }
    let mut verdict = Verdict { calls: calls.len(), ..Verdict::default() };
    let mut images = Images::default();
    let mut open: BTreeMap<usize, Open> = BTreeMap::new();
    for (number, ends) in in_order(&calls) {
        let call = &calls[number];
        if !ends {
            open.insert(number, images.begin(call).with_context(|| call.to_string())?);
        } else if let Some(began) = open.remove(&number) {
            *verdict.endings.entry(call.ending_name()).or_default() += 1;
            images.end(call, began);
        }
    }
    verdict.images = images.count();
    verdict.vague = images.vague();
    verdict.violations = images.into_violations();
    Ok(verdict)
}

/// Beginnings and ends of all calls by time. At one instant beginnings come first: what could have
/// happened at once is taken to have.
fn in_order(calls: &[Call]) -> Vec<(usize, bool)> {
    let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(calls.len() * 2);
    for (number, call) in calls.iter().enumerate() {
        events.push((call.at.0, false, number));
        events.push((call.at.1, true, number));
    }
    events.sort_unstable();
    events.into_iter().map(|(_, ends, number)| (number, ends)).collect()
}

#[cfg(test)]
mod tests;
