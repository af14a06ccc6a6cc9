//! Known bugs that can be put back, to see whether the simulations find them.
//!
//! Where a disk that lies has the effect of the bug, the disk lies, and the product is the one that
//! ships. A few bugs can only sit in the product itself; those are compiled in for simulations alone.

use peerglass_consensus::mutation::Mutation as Product;

/// A known bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mutation {
    /// Syncs of the Raft log return at once and make nothing durable: acknowledging before fsync.
    AckBeforeFsync,
    /// Syncs of packs return at once and make nothing durable.
    PackSyncSkipped,
    /// Syncs of the pack directory return at once and make nothing durable.
    DirectorySyncSkipped,
    /// A vote is given before it is durable: a crash takes it back.
    VoteNotPersisted,
    /// A start forgets the term and the vote.
    TermForgotten,
    /// How far the state is becomes durable one batch late, so that a start applies entries twice.
    AppliedTwice,
    /// A request that is proposed twice is carried out twice.
    IdempotencyKeyLost,
    /// A node answers reads from what it has, without asking whether that is the newest.
    ReadWithoutBarrier,
    /// A leader answers reads without asking whether it is still the leader.
    LeaseKeptInIsolation,
    /// An installed snapshot does not say which entry it ends at.
    SnapshotWithoutIndex,
    /// A node that comes back with an old disk is taken for what it was.
    AmnesiaUnnoticed,
    /// Who hears of new voters counts them alone, and does not ask for a majority of the old ones too.
    MembershipInOneStep,
}

impl Mutation {
    /// The bug in the product, if that is where it sits.
    pub(crate) fn in_product(self) -> Option<Product> {
        match self {
            Self::AckBeforeFsync
            | Self::PackSyncSkipped
            | Self::DirectorySyncSkipped
            | Self::VoteNotPersisted
            | Self::TermForgotten
            | Self::AppliedTwice => None,
            Self::IdempotencyKeyLost => Some(Product::IdempotencyKeyLost),
            Self::ReadWithoutBarrier => Some(Product::ReadWithoutBarrier),
            Self::LeaseKeptInIsolation => Some(Product::LeaseKeptInIsolation),
            Self::SnapshotWithoutIndex => Some(Product::SnapshotWithoutIndex),
            Self::AmnesiaUnnoticed => Some(Product::AmnesiaUnnoticed),
            Self::MembershipInOneStep => Some(Product::MembershipInOneStep),
        }
    }
}
