//! The closed loop: every client has one request under way until the time is over.
//!
//! # What it promises
//!
//! * It ends: at the planned time plus one answer's patience, at the planned count, or when a client
//!   sees nothing but errors.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::tally::Tally;

/// How long a client waits for an answer before it counts an error. More than the 5 s that a node may take.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Pause after an error, so that a server that refuses is not asked in a busy loop.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// Errors in a row that end the run: there is nothing to measure.
const ERRORS_IN_A_ROW_MAX: u32 = 100;

/// How much to ask.
pub(crate) struct Plan {
    pub(crate) clients: usize,
    pub(crate) lasts: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) requests_max: u64,
}

/// One client.
pub(crate) trait Client: 'static {
    /// Send the request of this number and read the whole answer. Connects first when it has to.
    async fn ask(&mut self, number: u64) -> anyhow::Result<()>;
}

/// Let `clients` ask as planned.
pub(crate) async fn run<C: Client>(plan: &Plan, clients: Vec<C>) -> anyhow::Result<Tally> {
    ensure!(clients.len() == plan.clients, "the plan is for {} clients", plan.clients);
    let next = Rc::new(Cell::new(0));
    let counted_from = Instant::now() + plan.warm_up;
    let until = counted_from + plan.lasts;
    let mut running = JoinSet::new();
    for client in clients {
        running.spawn_local(one(client, Rc::clone(&next), plan.requests_max, counted_from, until));
    }
    let mut whole = Tally::new();
    while let Some(ended) = running.join_next().await {
        whole.add(ended.context("a client panicked")??);
    }
    whole.counted = counted_from.elapsed();
    Ok(whole)
}

async fn one<C: Client>(
    mut client: C,
    next: Rc<Cell<u64>>,
    requests_max: u64,
    counted_from: Instant,
    until: Instant,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::new();
    let mut errors_in_a_row = 0;
    let mut now = Instant::now();
    while now < until && next.get() < requests_max {
        let number = next.replace(next.get() + 1);
        let begun = now;
        let asked = timeout(ANSWER_WAIT, client.ask(number)).await.context("no answer").flatten();
        now = Instant::now();
        match asked {
            Ok(()) => {
                errors_in_a_row = 0;
                if begun >= counted_from {
                    tally.answered(now - begun);
                }
            }
            Err(error) => {
                tally.failed(&error);
                errors_in_a_row += 1;
                if errors_in_a_row >= ERRORS_IN_A_ROW_MAX {
                    bail!("{ERRORS_IN_A_ROW_MAX} errors in a row; the last: {error:#}");
                }
                sleep(ERROR_PAUSE).await;
                now = Instant::now();
            }
        }
    }
    Ok(tally)
}
