//! ISO 9660, and UDF by its recognition sequence.

use super::capture::Capture;

/// The first 16 sectors belong to whoever boots.
const DESCRIPTOR: u64 = 16 * 2048;
const PRIMARY: u8 = 1;

pub(super) fn matches(image: &Capture) -> bool {
    let at = DESCRIPTOR + 1;
    image.bytes(DESCRIPTOR, 2048).is_some()
        && (image.has(at, b"CD001") || image.has(at, b"NSR02") || image.has(at, b"NSR03"))
}

pub(super) fn virtual_size(image: &Capture) -> Option<u64> {
    if image.byte(DESCRIPTOR)? != PRIMARY {
        return None;
    }
    // Both numbers are stored in either byte order, little-endian first.
    let blocks = u64::from(image.le_u32(DESCRIPTOR + 80)?);
    let block_bytes = u64::from(image.le_u16(DESCRIPTOR + 128)?);
    blocks.checked_mul(block_bytes)
}
