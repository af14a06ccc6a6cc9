//! Where a body is cut: content-defined chunks and holes.
//!
//! A gear hash rolls over the last 64 bytes, and a chunk ends where the hash is small, so that an
//! insertion moves the cuts around it and no others. The threshold is strict before the average
//! length and loose after it, which keeps lengths near the average (normalised chunking, as in
//! FastCDC).
//!
//! # What it promises
//!
//! * Cuts depend on the bytes alone, never on how they arrived.
//! * A run of at least [`HOLE_BYTES_MIN`] zeros that begins at a cut is a hole of exactly that run,
//!   and a chunk does not end in so many zeros: it ends before them. A chunk of nothing but zeros is
//!   a hole however short it is.

use std::sync::LazyLock;

use peerglass_catalog::manifest::CutParameters;

/// What this release cuts with.
pub(crate) const CUT: CutParameters =
    CutParameters { min: MIN as u32, average: AVERAGE as u32, max: MAX as u32 };

const MIN: usize = 16 << 10;
const AVERAGE: usize = 64 << 10;
const MAX: usize = 256 << 10;
/// Shorter runs of zeros are cheaper as part of a chunk than as an entry.
const HOLE_BYTES_MIN: usize = 16 << 10;

/// How much must be seen to decide on the next cut, unless the body ends before.
pub(crate) const LOOK_AHEAD: usize = MAX;

/// A hash below it ends a chunk shorter than the average: 18 bits.
const STRICT: u64 = 1 << (64 - 18);
/// A hash below it ends a chunk longer than the average: 14 bits.
const LOOSE: u64 = 1 << (64 - 14);

/// One random number per byte value, the same in every release: cuts are part of the format.
static GEAR: LazyLock<[u64; 256]> = LazyLock::new(|| {
    let mut bytes = [0; 256 * 8];
    blake3::Hasher::new_derive_key("peerglass 2026 gear table 1").finalize_xof().fill(&mut bytes);
    std::array::from_fn(|value| u64::from_le_bytes(std::array::from_fn(|byte| bytes[value * 8 + byte])))
});

/// What the next bytes of a body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// So many zeros.
    Hole(usize),
    /// A chunk of so many bytes.
    Chunk(usize),
}

/// Cuts one body.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    /// The bytes before were a hole that reached the end of what was seen.
    in_hole: bool,
}

impl Cutter {
    /// Decide what `bytes` begin with. They must hold [`LOOK_AHEAD`] bytes, unless they are all that
    /// is left of the body (`end`). `None` if nothing is left, or too little to decide.
    pub(crate) fn next(&mut self, bytes: &[u8], end: bool) -> Option<Cut> {
        if bytes.is_empty() {
            return None;
        }
        if self.in_hole || bytes[0] == 0 {
            let zeros = leading_zeros(bytes);
            if zeros > 0 && (self.in_hole || zeros >= HOLE_BYTES_MIN || (end && zeros == bytes.len())) {
                self.in_hole = zeros == bytes.len();
                return Some(Cut::Hole(zeros));
            }
            self.in_hole = false;
        }
        if bytes.len() < LOOK_AHEAD && !end {
            return None;
        }
        let len = boundary(&bytes[..bytes.len().min(MAX)]);
        let zeros = trailing_zeros(&bytes[..len]);
        let len = if zeros >= HOLE_BYTES_MIN { len - zeros } else { len };
        Some(Cut::Chunk(len))
    }
}

/// Length of the chunk that `bytes`, at most [`MAX`] of them, begin with.
fn boundary(bytes: &[u8]) -> usize {
    if bytes.len() <= MIN {
        return bytes.len();
    }
    let gear: &[u64; 256] = &GEAR;
    let mut hash = 0_u64;
    let (strict, loose) = bytes.split_at(bytes.len().min(AVERAGE));
    for (at, byte) in strict[MIN..].iter().enumerate() {
        hash = (hash << 1).wrapping_add(gear[usize::from(*byte)]);
        if hash < STRICT {
            return MIN + at + 1;
        }
    }
    for (at, byte) in loose.iter().enumerate() {
        hash = (hash << 1).wrapping_add(gear[usize::from(*byte)]);
        if hash < LOOSE {
            return AVERAGE + at + 1;
        }
    }
    bytes.len()
}

/// Bytes compared at once: wide enough for the compiler to use vector registers.
const STRIDE: usize = 128;

fn leading_zeros(bytes: &[u8]) -> usize {
    let whole = bytes.chunks_exact(STRIDE).take_while(|stride| is_zero(stride)).count() * STRIDE;
    whole + bytes[whole..].iter().take_while(|byte| **byte == 0).count()
}

fn trailing_zeros(bytes: &[u8]) -> usize {
    let whole = bytes.rchunks_exact(STRIDE).take_while(|stride| is_zero(stride)).count() * STRIDE;
    whole + bytes[..bytes.len() - whole].iter().rev().take_while(|byte| **byte == 0).count()
}

fn is_zero(stride: &[u8]) -> bool {
    stride.iter().fold(0, |all, byte| all | byte) == 0
}

#[cfg(test)]
mod tests;
