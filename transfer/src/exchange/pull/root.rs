//! The root of a manifest, with which its pull begins.
//!
//! # What it promises
//!
//! * One or two that stall hold nobody up, as long as another has it: [`ASKED_AT_ONCE`] are asked.
//! * What peers say meanwhile of what they have is kept, up to [`PIECES_MAX`] of each.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use peerglass_catalog::keyspace::BoxFuture;
use peerglass_catalog::{ManifestRoot, NodeId};
use tokio::task::consume_budget;

use super::rounds::{self, Rounds};
use super::{PullError, ROOT_BYTES_MAX, count_breach, heed_met};
use crate::error::DiskFailure;
use crate::exchange::ask::{AskError, Link, Want, WantLen};
use crate::exchange::follow::{Followed, Heard};
use crate::exchange::pulls::Pull;
use crate::exchange::sources::verify;
use crate::exchange::wire::{Breach, News};
use crate::transfer::Inner;

/// Peers asked at once. A root is short.
const ASKED_AT_ONCE: usize = 3;

/// Pieces of a peer that are remembered before it is known how many there are: who tells of more is left for now.
const PIECES_MAX: usize = 64 << 10;

type Asked = Result<Result<Bytes, AskError>, DiskFailure>;

/// See the module.
pub(super) struct RootFetch<'a> {
    transfer: &'a Arc<Inner>,
    pull: &'a Pull,
    root: ManifestRoot,
    asked: Vec<NodeId>,
    answers: FuturesUnordered<BoxFuture<'a, (NodeId, Asked)>>,
}

impl<'a> RootFetch<'a> {
    pub(super) fn new(transfer: &'a Arc<Inner>, pull: &'a Pull, root: ManifestRoot) -> Self {
        Self { transfer, pull, root, asked: Vec::new(), answers: FuturesUnordered::new() }
    }

    /// The encoded root, of the first peer that gives it. What was heard until then goes to `heard`.
    pub(super) async fn run(
        mut self,
        followed: &mut Followed,
        rounds: &mut Rounds,
        heard: &mut Vec<(NodeId, News)>,
    ) -> Result<Bytes, PullError> {
        loop {
            // What peers say without end must not keep this from being stopped.
            consume_budget().await;
            heed_met(followed, self.pull);
            if followed.is_empty() && self.asked.is_empty() {
                rounds.nobody_left(followed).await?;
                continue;
            }
            self.ask(followed, heard);
            let pause = rounds.pause(self.asked.is_empty());
            let gone = tokio::select! {
                biased;
                () = self.pull.nudge.notified() => continue,
                () = rounds::at(pause) => rounds.paused(followed)?,
                Some((node, answer)) = self.answers.next() => {
                    let was_asked = self.asked.iter().position(|asked| *asked == node);
                    was_asked.map(|at| self.asked.swap_remove(at));
                    match answer.map_err(PullError::Worker)? {
                        Ok(encoded) => return Ok(encoded),
                        Err(error) => self.refused(node, &error, followed, rounds),
                    }
                    vec![node]
                }
                (node, said) = followed.next() => {
                    match said {
                        Heard::News(news) => {
                            if remember(heard, node, news) {
                                continue;
                            }
                            // It tells from the beginning when it is followed again.
                            followed.leave(node);
                        }
                        Heard::Gone(error) => {
                            count_breach(self.transfer, &error);
                            rounds.lost(node, &error);
                        }
                    }
                    vec![node]
                }
            };
            heard.retain(|(of, _)| !gone.contains(of));
        }
    }

    /// Ask as many as may be asked of those that have it.
    fn ask(&mut self, followed: &Followed, heard: &[(NodeId, News)]) {
        for (node, news) in heard {
            if self.asked.len() == ASKED_AT_ONCE {
                return;
            }
            // A puller that has no piece may have no root.
            let has_it = match news {
                News::Whole { .. } => true,
                News::Has { pieces, .. } => !pieces.is_empty(),
                News::Nothing | News::Ended => false,
            };
            if let Some(link) = followed.link(*node).filter(|_| has_it && !self.asked.contains(node)) {
                self.asked.push(*node);
                let (transfer, root, node) = (self.transfer, self.root, *node);
                self.answers.push(Box::pin(async move { (node, ask(transfer, &link, root).await) }));
            }
        }
    }

    fn refused(&self, node: NodeId, error: &AskError, followed: &mut Followed, rounds: &mut Rounds) {
        match error {
            // It has let go of it since it said so, or was an upload that was given up.
            AskError::Breach(Breach::EmptyPromise) => return followed.leave(node),
            AskError::Breach(_) => followed.ban(node),
            AskError::Busy | AskError::Unreachable(_) | AskError::Silent | AskError::Lost(_) => {
                followed.leave(node);
            }
        }
        count_breach(self.transfer, error);
        rounds.lost(node, error);
    }
}

/// Remember what a peer said, with what it said before. Answers with whether that was not too much.
fn remember(heard: &mut Vec<(NodeId, News)>, node: NodeId, news: News) -> bool {
    let Some((_, before)) = heard.iter_mut().find(|(of, _)| *of == node) else {
        heard.push((node, news));
        return true;
    };
    match (before, news) {
        (News::Has { pieces: before, backlog }, News::Has { pieces, backlog: now }) => {
            before.extend(pieces);
            *backlog = now;
            before.len() <= PIECES_MAX
        }
        (before, news) => {
            *before = news;
            true
        }
    }
}

async fn ask(transfer: &Arc<Inner>, link: &Link, root: ManifestRoot) -> Asked {
    let want = [Want { digest: root.0, len: WantLen::AtMost(ROOT_BYTES_MAX) }];
    let mut got = vec![None];
    if let Err(error) = link.blobs(root, &want, true, &mut got).await {
        return Ok(Err(error));
    }
    let (mut got, sound) = verify(transfer.workers, want.to_vec(), got, |parcel, _| parcel.bytes).await?;
    let lacks = if sound { Breach::EmptyPromise } else { Breach::WrongBytes };
    Ok(got.pop().flatten().ok_or(lacks.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_has_adds_up_until_it_is_too_much() {
        let (mut heard, node) = (Vec::new(), NodeId(1));
        let has = |pieces: &[u32], backlog| News::Has { pieces: pieces.to_vec(), backlog };
        assert!(remember(&mut heard, node, has(&[1], 5)));
        assert!(remember(&mut heard, NodeId(2), has(&[], 0)));
        assert!(remember(&mut heard, node, has(&[7, 2], 6)));
        assert_eq!(heard, [(node, has(&[1, 7, 2], 6)), (NodeId(2), has(&[], 0))]);
        assert!(remember(&mut heard, NodeId(2), News::Whole { backlog: 3 }));
        assert_eq!(heard[1].1, News::Whole { backlog: 3 });
        assert!(!remember(&mut heard, node, has(&vec![3; PIECES_MAX], 0)));
    }
}
