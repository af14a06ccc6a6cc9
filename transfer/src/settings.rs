//! What an operator may choose.

use std::time::Duration;

use serde::Deserialize;

/// Settings of the byte path.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransferSettings {
    /// Uploads received at once; the next one is told to come back. Each takes three threads, up to 12 MiB of
    /// memory for bytes on their way and for compressing them, and, until it ends, 110 to 220 bytes for each chunk the node did not
    /// hold yet: up to 3.5 MiB for each GiB of new bytes, whose chunks are of 64 KiB on average.
    pub uploads_max: usize,
    /// Bytes of an upload that goes on after which other nodes fetch them.
    pub part_bytes: u64,
    /// Bytes after which what a pull has brought is made durable, so that it need not be fetched again if the pull
    /// breaks off. A long image is divided into no more than 64 such parts.
    pub checkpoint_bytes: u64,
    /// For how long such a part is kept that no image is made of, counted anew after a restart.
    pub resume_within: Duration,
}

impl Default for TransferSettings {
    fn default() -> Self {
        Self {
            uploads_max: 32,
            part_bytes: 16 << 20,
            checkpoint_bytes: 64 << 20,
            resume_within: Duration::from_hours(1),
        }
    }
}
