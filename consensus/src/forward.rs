//! Proposals on their way to a leader that is another node.
//!
//! Everything that waits when a message is made up goes with it, so that many clients of a follower cost
//! one message and not one each. A few messages are under way at once, because one that waits for a
//! commit must not hold up the next.

use std::sync::Weak;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::handle::{Consensus, Inner};
use crate::network::wire::{Answer, ENTRIES_BYTES_MAX, Request};
use crate::raft::Proposal;
use crate::submit::SUBMIT_WAIT;

/// Proposals that may wait for a message. At the limit their clients wait.
pub(crate) const WAITING_MAX: usize = 4_096;
/// Proposals in one message.
const MESSAGE_PROPOSALS_MAX: usize = 256;
/// Messages under way at once.
const MESSAGES_MAX: usize = 8;

/// A proposal, and where its answer goes.
pub(crate) type Forwarded = (Proposal, oneshot::Sender<Answer>);

/// Send what comes through `queue` to whoever leads, until the node stops.
pub(crate) async fn forward(consensus: Weak<Inner>, mut queue: mpsc::Receiver<Forwarded>) {
    let mut waiting: Vec<Forwarded> = Vec::new();
    let mut messages = JoinSet::new();
    loop {
        while messages.len() >= MESSAGES_MAX {
            messages.join_next().await;
        }
        if waiting.is_empty() && queue.recv_many(&mut waiting, MESSAGE_PROPOSALS_MAX).await == 0 {
            return;
        }
        while messages.try_join_next().is_some() {}
        // Nobody listens for those whose client gave up.
        waiting.retain(|(_, tell)| !tell.is_closed());
        let rest = waiting.split_off(fitting(&waiting));
        let message = std::mem::replace(&mut waiting, rest);
        let Some(inner) = consensus.upgrade() else { return };
        if !message.is_empty() {
            messages.spawn(send(Consensus::of(inner), message));
        }
    }
}

/// How many of `waiting` fit a message: one at least.
fn fitting(waiting: &[Forwarded]) -> usize {
    let mut bytes = 0;
    let fits = waiting.iter().take_while(|(proposal, _)| {
        bytes += postcard::experimental::serialized_size(proposal).unwrap_or(ENTRIES_BYTES_MAX);
        bytes <= ENTRIES_BYTES_MAX
    });
    fits.count().max(1).min(waiting.len())
}

async fn send(consensus: Consensus, message: Vec<Forwarded>) {
    let (proposals, tells): (Vec<_>, Vec<_>) = message.into_iter().unzip();
    let leader = consensus.leader().filter(|leader| *leader != consensus.node());
    let entry = leader.and_then(|leader| Some((leader, consensus.member(leader)?)));
    let answers = match entry {
        None => Vec::new(),
        Some((leader, entry)) => {
            let deadline = Instant::now() + SUBMIT_WAIT;
            let request = Request::Submit(proposals);
            let asked = tokio::select! {
                biased;
                asked = consensus.links().ask((leader, &entry), &request, deadline) => asked.ok(),
                () = consensus.leads_no_more(leader) => None,
            };
            // Without an answer each of them is proposed again under its key, if its client still waits.
            if let Some(Answer::Many(answers)) = asked { answers } else { Vec::new() }
        }
    };
    let mut answers = answers.into_iter();
    for tell in tells {
        let _ = tell.send(answers.next().unwrap_or(Answer::Unavailable)); // or its client gave up
    }
}
