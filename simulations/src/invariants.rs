//! What must never happen, whatever happens: one property per file, named as in the fault matrix.

pub(crate) mod acknowledged;
pub(crate) mod honest_end;
pub(crate) mod independent;
pub(crate) mod listed_once;
pub(crate) mod never_changed;
pub(crate) mod no_leak;
pub(crate) mod not_stuck;
pub(crate) mod used_once;
pub(crate) mod whole;
