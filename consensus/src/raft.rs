//! How openraft is configured here: the types a log is made of, and the timing.

use std::fmt;

use openraft::{Config, SnapshotPolicy};
use peerglass_catalog::{Command, Outcome, Refusal};
use serde::{Deserialize, Serialize};

use crate::handle::ConsensusSettings;

openraft::declare_raft_types!(
    /// The types of a Peerglass log.
    pub(crate) Types:
        D = Proposal,
        R = Reply,
        NodeId = u64,
        Node = openraft::BasicNode,
        // One leader per term: there is nothing to gain from two, and it must be settled before
        // the first byte is stored.
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        // Election time-outs draw from a seed, so that a simulation repeats.
        AsyncRuntime = SeededRuntime,
);

/// Tokio, with election time-outs drawn from the seed of the enclosing scope.
pub(crate) type SeededRuntime = openraft_rt::deterministic_rng::DeterministicRng<openraft::TokioRuntime>;

pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Membership = openraft::alias::StoredMembershipOf<Types>;

/// A command on its way through the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Proposal(pub(crate) Command);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.0 {
            Command::CreateImage { .. } => "create image",
            Command::EditImage { .. } => "edit image",
            Command::BeginUpload { .. } => "begin upload",
            Command::FinishUpload { .. } => "finish upload",
            Command::AbortUpload { .. } => "abort upload",
            Command::AbandonUploads { .. } => "abandon uploads",
            Command::Deactivate { .. } => "deactivate",
            Command::Reactivate { .. } => "reactivate",
            Command::DeleteImage { .. } => "delete image",
        };
        f.write_str(name)
    }
}

/// What applying an entry came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The entry was Raft's own.
    Nothing,
    /// The command was carried out.
    Done(Outcome),
    /// A rule said no.
    Refused(Refusal),
}

/// Heartbeats twice a second and elections after 2 to 4 s. Shorter time-outs made leaders on a
/// machine short of CPU lose their lease without any fault.
const HEARTBEAT_MS: u64 = 500;
const ELECTION_MIN_MS: u64 = 2_000;
const ELECTION_MAX_MS: u64 = 4_000;

pub(crate) fn config(settings: &ConsensusSettings) -> Config {
    Config {
        cluster_name: "peerglass".into(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(settings.snapshot_entries),
        max_in_snapshot_log_to_keep: settings.log_entries_kept,
        enable_pre_vote: Some(true),
        ..Config::default()
    }
}
