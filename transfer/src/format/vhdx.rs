//! VHDX: the region table says where the metadata is, and the metadata's table where the size is.

use super::capture::Capture;

const REGION_TABLE: u64 = 192 << 10;
/// Entries a table may have, by its specification.
const ENTRIES_MAX: u32 = 2047;
/// GUIDs as they are on disk, first three fields little-endian.
const METADATA_REGION: [u8; 16] =
    [0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e];
const VIRTUAL_DISK_SIZE: [u8; 16] =
    [0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8];

/// Where the metadata begins, so that it is remembered as it comes past.
pub(super) fn metadata_window(image: &Capture) -> Option<u64> {
    if !image.has(0, b"vhdxfile") || !image.has(REGION_TABLE, b"regi") {
        return None;
    }
    let count = image.le_u32(REGION_TABLE + 8)?.min(ENTRIES_MAX);
    let entries = (0..u64::from(count)).map(|entry| REGION_TABLE + 16 + entry * 32);
    let entry = entries.into_iter().find(|at| image.has(*at, &METADATA_REGION))?;
    image.le_u64(entry + 16)
}

pub(super) fn virtual_size(image: &Capture) -> Option<u64> {
    let table = metadata_window(image)?;
    if !image.has(table, b"metadata") {
        return None;
    }
    let count = u32::from(image.le_u16(table.checked_add(10)?)?).min(ENTRIES_MAX);
    let entries = (0..u64::from(count)).filter_map(|entry| table.checked_add(32 + entry * 32));
    let entry = entries.into_iter().find(|at| image.has(*at, &VIRTUAL_DISK_SIZE))?;
    let offset = u64::from(image.le_u32(entry.checked_add(16)?)?);
    image.le_u64(table.checked_add(offset)?)
}
