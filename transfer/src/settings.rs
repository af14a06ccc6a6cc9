//! What an operator may choose.

use serde::Deserialize;

/// Settings of the byte path.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransferSettings {
    /// Uploads received at once; the next one is told to come back. Each takes up to 8 MiB of memory
    /// and three threads.
    pub uploads_max: usize,
}

impl Default for TransferSettings {
    fn default() -> Self {
        Self { uploads_max: 32 }
    }
}
