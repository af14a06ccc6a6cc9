//! Known bugs that a simulation can put back, to see whether it finds them.
//!
//! Without the feature `mutations`, which no program that ships is built with, every question is
//! answered no when it is compiled.

/// A known bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
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

#[cfg(feature = "mutations")]
thread_local! {
    static PUT_BACK: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Put a bug back on this thread, or take it out again.
#[cfg(feature = "mutations")]
pub fn put_back(mutation: Option<Mutation>) {
    PUT_BACK.set(mutation);
}

/// Whether the bug is there.
#[cfg(feature = "mutations")]
pub(crate) fn is(mutation: Mutation) -> bool {
    PUT_BACK.get() == Some(mutation)
}

/// Whether the bug is there: never.
#[cfg(not(feature = "mutations"))]
pub(crate) const fn is(_mutation: Mutation) -> bool {
    false
}
