//! How openraft is configured here: the types a log is made of, and the timing.

use std::fmt;
use std::sync::Arc;

use openraft::{Config, SnapshotPolicy};
use peerglass_catalog::{Command, NodeEntry, Outcome, Refusal};
use serde::{Deserialize, Serialize};

use crate::handle::ConsensusSettings;
use crate::machine::Machine;
use crate::session::ProposalKey;

openraft::declare_raft_types!(
    /// The types of a Peerglass log.
    pub(crate) Types:
        D = Proposal,
        R = Reply,
        NodeId = u64,
        Node = NodeEntry,
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
pub(crate) type Meta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Raft = openraft::Raft<Types, Machine>;

/// A command on its way through the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// Which request it is; equal when a request is proposed again.
    pub(crate) key: ProposalKey,
    /// Requests of the same node below this sequence are over.
    pub(crate) settled: u64,
    /// What to do. Shared, because an entry is copied for each follower and to be applied.
    pub(crate) command: Arc<Command>,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &*self.command {
            Command::CreateImage { .. } => "create image",
            Command::EditImage { .. } => "edit image",
            Command::BeginUpload { .. } => "begin upload",
            Command::FinishUpload { .. } => "finish upload",
            Command::AbortUpload { .. } => "abort upload",
            Command::AbandonUploads { .. } => "abandon uploads",
            Command::Deactivate { .. } => "deactivate",
            Command::Reactivate { .. } => "reactivate",
            Command::DeleteImage { .. } => "delete image",
            Command::ClaimManifest { .. } => "claim manifest",
            Command::IssueToken { .. } => "issue token",
            Command::RedeemToken { .. } => "redeem token",
            Command::ForgetNode { .. } => "forget node",
            Command::MarkNode { .. } => "mark node",
            Command::PinImage { .. } => "pin image",
            Command::UnpinImage { .. } => "unpin image",
        };
        f.write_str(name)
    }
}

/// What applying an entry came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The entry was Raft's own, or a request that its node had given up.
    Nothing,
    /// The command was carried out.
    Done(Outcome),
    /// A rule said no.
    Refused(Refusal),
}

impl Reply {
    /// Bytes of the texts in it that clients chose.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Done(Outcome::Image(image)) => image.text_bytes(),
            Self::Nothing | Self::Done(_) | Self::Refused(_) => 0,
        }
    }
}

/// Heartbeats four times a second. A follower that hears none for [`ELECTION_MAX_MS`] waits for
/// another 0.5 to 1 s, drawn, and then asks for votes: writes flow again about 2 s after a leader died,
/// and a machine that is short of CPU for a while does not depose its leader.
const HEARTBEAT_MS: u64 = 250;
const ELECTION_MIN_MS: u64 = 500;
const ELECTION_MAX_MS: u64 = 1_000;

/// A leader that hears of no majority for this long stops holding its followers back (a partition in
/// which it still reaches some of them, but not enough). At least twice [`ELECTION_MAX_MS`].
const QUORUM_LOSS_PROBE_MS: u64 = 2 * ELECTION_MAX_MS;

/// Entries in one message at most; its bytes are bounded where it is sent.
const MESSAGE_ENTRIES_MAX: u64 = 1_024;

pub(crate) fn config(settings: &ConsensusSettings) -> Config {
    Config {
        cluster_name: "peerglass".into(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        quorum_loss_probe_interval: Some(QUORUM_LOSS_PROBE_MS),
        max_payload_entries: MESSAGE_ENTRIES_MAX,
        // A snapshot takes minutes on a slow link; progress is watched where it is sent.
        install_snapshot_timeout: 24 * 3_600 * 1_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(settings.snapshot_entries),
        // Behind this many entries a snapshot is the shorter way.
        replication_lag_threshold: settings.snapshot_entries.saturating_add(settings.log_entries_kept),
        max_in_snapshot_log_to_keep: settings.log_entries_kept,
        enable_pre_vote: Some(true),
        ..Config::default()
    }
}
