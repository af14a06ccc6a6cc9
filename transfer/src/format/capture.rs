//! What is remembered of an image that streams past.

use std::ops::Range;

/// The head. Every header but a VHDX's metadata lies within: ISO 9660 at 32 KiB, the region tables of
/// a VHDX at 192 KiB.
pub(super) const HEAD_BYTES: usize = 512 << 10;
/// A later stretch, for the metadata of a VHDX.
pub(super) const WINDOW_BYTES: u64 = 256 << 10;
/// The last three sectors: a VMDK's footer and the marks around it.
pub(super) const TAIL_BYTES: usize = 3 * 512;

/// Head, one window, tail and length of an image.
#[derive(Debug, Default)]
pub(super) struct Capture {
    len: u64,
    head: Vec<u8>,
    window: Vec<u8>,
    /// Decided once the head is complete.
    window_at: Option<Range<u64>>,
    tail: Vec<u8>,
}

impl Capture {
    /// Take the next bytes. When the head is complete, `place` says which later stretch is wanted.
    pub(super) fn feed(&mut self, bytes: &[u8], place: fn(&Self) -> Option<u64>) {
        let start = self.len;
        self.len += bytes.len() as u64;
        let room = HEAD_BYTES - self.head.len();
        if room > 0 {
            self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if self.head.len() == HEAD_BYTES {
                self.window_at = place(self).map(|at| at..at.saturating_add(WINDOW_BYTES));
            }
        }
        if let Some(wanted) = &self.window_at {
            let from = wanted.start.clamp(start, self.len) - start;
            let to = wanted.end.clamp(start, self.len) - start;
            self.window.extend_from_slice(&bytes[from as usize..to as usize]);
        }
        if bytes.len() >= TAIL_BYTES {
            self.tail.clear();
        } else {
            let kept = TAIL_BYTES - bytes.len();
            self.tail.drain(..self.tail.len().saturating_sub(kept));
        }
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
    }

    /// Bytes of the whole image so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// `len` bytes from `at` on, if they were remembered.
    pub(super) fn bytes(&self, at: u64, len: u64) -> Option<&[u8]> {
        let within = |base: u64, kept: &[u8]| {
            let from = usize::try_from(at.checked_sub(base)?).ok()?;
            Some(from..from.checked_add(usize::try_from(len).ok()?)?).filter(|range| range.end <= kept.len())
        };
        if let Some(range) = within(0, &self.head) {
            return self.head.get(range);
        }
        let window_base = self.window_at.as_ref()?.start;
        self.window.get(within(window_base, &self.window)?)
    }

    /// The last bytes, [`TAIL_BYTES`] of them unless the image is shorter.
    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Whether `expected` is at `at`.
    pub(super) fn has(&self, at: u64, expected: &[u8]) -> bool {
        self.bytes(at, expected.len() as u64) == Some(expected)
    }

    fn array<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        self.bytes(at, N as u64)?.try_into().ok()
    }

    pub(super) fn byte(&self, at: u64) -> Option<u8> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    pub(super) fn be_u16(&self, at: u64) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub(super) fn be_u32(&self, at: u64) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub(super) fn be_u64(&self, at: u64) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }

    pub(super) fn le_u16(&self, at: u64) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(super) fn le_u32(&self, at: u64) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(super) fn le_u64(&self, at: u64) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}
