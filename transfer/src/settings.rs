//! What an operator may choose.

use serde::Deserialize;

/// Settings of the byte path.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransferSettings {
    /// Uploads received at once; the next one is told to come back. Each takes three threads, up to 12 MiB of
    /// memory for bytes on their way and for compressing them, and, until it ends, 110 to 220 bytes for each chunk the node did not
    /// hold yet: up to 3.5 MiB for each GiB of new bytes, whose chunks are of 64 KiB on average.
    pub uploads_max: usize,
}

impl Default for TransferSettings {
    fn default() -> Self {
        Self { uploads_max: 32 }
    }
}
