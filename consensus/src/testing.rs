//! A catalog that agrees with nobody but itself and forgets when dropped, for tests of other packages.

use std::sync::Arc;

use peerglass_catalog::MemoryKeyspace;

use crate::{Consensus, ConsensusDisk, ConsensusSettings};

/// One voter over maps in memory. The log, the state machine and the read barrier are the real ones.
pub async fn in_memory() -> Consensus {
    let disk = ConsensusDisk { log: Arc::new(MemoryKeyspace::new()), state: Arc::new(MemoryKeyspace::new()) };
    Consensus::open(ConsensusSettings::default(), disk, None, 1).await.expect("memory cannot fail")
}
