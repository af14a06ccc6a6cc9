//! Known bugs that a simulation can put back, to see whether it finds them.
//!
//! Without the feature `mutations`, which no program that ships is built with, every question is
//! answered no when it is compiled.

/// A known bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
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
