//! Known bugs that can be put back, to see whether the simulations find them.
//!
//! They sit in the disk, below the product: what is tested is what ships.

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
}
