//! Buffers of one fixed size, used again and again.
//!
//! A fresh megabyte costs 256 page faults, about as much as hashing it with BLAKE3. So buffers go
//! back to a pool when the last `Bytes` that shares one is dropped.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of a segment: long enough that handing one to a thread costs nothing beside hashing it,
/// short enough that the handful an upload has in flight stays under 8 MiB.
pub(crate) const SEGMENT_BYTES: usize = 1 << 20;
/// Segments kept for later: what four uploads use at once. More would only be idle memory.
const FREE_MAX: usize = 24;

/// A bounded pool of segments.
#[derive(Default)]
pub(crate) struct Segments {
    free: Mutex<Vec<Vec<u8>>>,
}

/// One buffer of [`SEGMENT_BYTES`] capacity.
pub(crate) struct Segment {
    bytes: Vec<u8>,
    pool: Arc<Segments>,
}

impl Segments {
    /// An empty segment.
    pub(crate) fn take(self: &Arc<Self>) -> Segment {
        let mut segment = self.take_used();
        segment.bytes.clear();
        segment
    }

    /// A segment of `len` bytes of unspecified content, to be overwritten.
    pub(crate) fn take_scratch(self: &Arc<Self>, len: usize) -> Segment {
        assert!(len <= SEGMENT_BYTES, "nothing longer than a segment is read at once");
        let mut segment = self.take_used();
        // Zeroes only what no earlier use has filled.
        segment.bytes.resize(len, 0);
        segment
    }

    fn take_used(self: &Arc<Self>) -> Segment {
        let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = kept.unwrap_or_else(|| Vec::with_capacity(SEGMENT_BYTES));
        Segment { bytes, pool: Arc::clone(self) }
    }
}

impl Segment {
    /// Append as much of `bytes` as there is room for. Answers with how much that was.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(SEGMENT_BYTES - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() == SEGMENT_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Share the bytes; the buffer goes back to the pool with the last share.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Segment {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Segment {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < FREE_MAX {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}
