//! What no honest member says, and is therefore not believed of one.
//!
//! Raft trusts its members. Two things it must not take from any of them, because they would hurt long
//! after the liar is removed: a term so high that it cannot be counted on from there, and a vote for a node
//! that is to follow only.

use openraft::raft::AppendEntriesResponse;

use super::wire::{Answer, Request};
use crate::raft::Vote;

/// How far ahead of this node's term another may be. Elections four times a second take 34 years for it,
/// and a liar would have to be believed as often again before terms run out.
const TERM_JUMP_MAX: u64 = 1 << 32;

/// Whether a term that `claimed` carries may be where this cluster has got to, when this node is at `term`.
pub(super) fn is_believable(claimed: Option<&Vote>, term: u64) -> bool {
    claimed.is_none_or(|vote| vote.leader_id.term <= term.saturating_add(TERM_JUMP_MAX))
}

/// The vote of whoever asks.
pub(super) fn vote_of_request(request: &Request) -> Option<&Vote> {
    match request {
        Request::Append(request) => Some(&request.vote),
        Request::Vote(request) | Request::PreVote(request) => Some(&request.vote),
        Request::TransferLeader(request) => Some(request.from_leader()),
        Request::Snapshot { vote, .. } => Some(vote),
        Request::Submit(_) | Request::ReadIndex | Request::Change(_) | Request::Members | Request::Stored => {
            None
        }
    }
}

/// The vote that an answer would have this node take over.
pub(super) fn vote_of_answer(answer: &Answer) -> Option<&Vote> {
    match answer {
        Answer::Append(AppendEntriesResponse::HigherVote(vote)) => Some(vote),
        Answer::Vote(answer) => Some(&answer.vote),
        Answer::Snapshot(answer) => Some(&answer.vote),
        Answer::Append(_)
        | Answer::TransferLeader(_)
        | Answer::Reply(_)
        | Answer::Many(_)
        | Answer::ReadIndex(_)
        | Answer::Changed(_)
        | Answer::Members(_)
        | Answer::Stored(_)
        | Answer::NotLeader(_)
        | Answer::Unavailable
        | Answer::Ended => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_may_be_ahead_by_years_and_not_by_ages() {
        let vote = |term| Vote::new(term, 1);
        assert!(is_believable(None, 7));
        assert!(is_believable(Some(&vote(1)), 7), "an old one is answered as such");
        assert!(is_believable(Some(&vote(7 + TERM_JUMP_MAX)), 7));
        assert!(!is_believable(Some(&vote(8 + TERM_JUMP_MAX)), 7));
        assert!(!is_believable(Some(&vote(u64::MAX)), 7));
        assert!(is_believable(Some(&vote(u64::MAX)), u64::MAX - 1), "no overflow");
    }
}
