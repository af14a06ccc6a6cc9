//! What tests of other packages need of this one: a catalog that forgets when dropped, and a member that lies.

mod liar;

use std::sync::Arc;

use peerglass_catalog::MemoryKeyspace;

use crate::{Consensus, ConsensusDisk, ConsensusSettings};

pub use liar::{Liar, Lie};

/// One voter over maps in memory, which agrees with nobody but itself. The log, the state machine and the read
/// barrier are the real ones.
pub async fn in_memory() -> Consensus {
    let disk = ConsensusDisk { log: Arc::new(MemoryKeyspace::new()), state: Arc::new(MemoryKeyspace::new()) };
    Consensus::open(ConsensusSettings::default(), disk, None, 1).await.expect("memory cannot fail")
}
