//! Known bugs that can be put back, to see whether the simulations find them.
//!
//! Where a disk that lies has the effect of the bug, the disk lies, and the product is the one that
//! ships. A few bugs can only sit in the product itself; those are compiled in for simulations alone.

use peerglass_consensus::mutation::{Mutation as OfRecords, put_back as put_back_of_records};
use peerglass_transfer::mutation::{Mutation as OfBytes, put_back as put_back_of_bytes};

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
    /// What is read from a pack is not compared with its name.
    VerificationSkipped,
    /// An upload is acknowledged before another node has its bytes.
    AcknowledgedBeforeReplica,
    /// A node says that it holds what it has begun to fetch.
    HeldBeforeDurable,
    /// A chunk from a peer that is not what it was asked for by is kept, and counts as held.
    GarbageCounted,
    /// A copy is let go of for want of room, whether or not this node is to keep it and others have it.
    LastCopyEvicted,
}

/// Where in the product a bug sits.
enum Product {
    Records(OfRecords),
    Bytes(OfBytes),
}

/// Put a bug back on this thread, if it sits in the product, and take out any other.
pub(crate) fn put_back(mutation: Option<Mutation>) {
    let (records, bytes) = match mutation.and_then(Mutation::in_product) {
        Some(Product::Records(mutation)) => (Some(mutation), None),
        Some(Product::Bytes(mutation)) => (None, Some(mutation)),
        None => (None, None),
    };
    put_back_of_records(records);
    put_back_of_bytes(bytes);
}

impl Mutation {
    /// The bug in the product, if that is where it sits.
    fn in_product(self) -> Option<Product> {
        Some(match self {
            Self::AckBeforeFsync
            | Self::PackSyncSkipped
            | Self::DirectorySyncSkipped
            | Self::VoteNotPersisted
            | Self::TermForgotten
            | Self::AppliedTwice => return None,
            Self::IdempotencyKeyLost => Product::Records(OfRecords::IdempotencyKeyLost),
            Self::ReadWithoutBarrier => Product::Records(OfRecords::ReadWithoutBarrier),
            Self::LeaseKeptInIsolation => Product::Records(OfRecords::LeaseKeptInIsolation),
            Self::SnapshotWithoutIndex => Product::Records(OfRecords::SnapshotWithoutIndex),
            Self::AmnesiaUnnoticed => Product::Records(OfRecords::AmnesiaUnnoticed),
            Self::MembershipInOneStep => Product::Records(OfRecords::MembershipInOneStep),
            Self::VerificationSkipped => Product::Bytes(OfBytes::VerificationSkipped),
            Self::AcknowledgedBeforeReplica => Product::Bytes(OfBytes::AcknowledgedBeforeReplica),
            Self::HeldBeforeDurable => Product::Bytes(OfBytes::HeldBeforeDurable),
            Self::GarbageCounted => Product::Bytes(OfBytes::GarbageCounted),
            Self::LastCopyEvicted => Product::Bytes(OfBytes::LastCopyEvicted),
        })
    }
}
