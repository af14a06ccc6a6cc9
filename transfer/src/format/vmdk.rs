//! VMDK: only the subformats that are one file, with a descriptor that names no other.

use super::capture::Capture;
use super::refusal::VmdkFlaw;

const MAGIC: &[u8; 4] = b"KDMV";
const TEXT_MAGIC: &[u8] = b"# Disk DescriptorFile";
const SECTOR: u64 = 512;
/// Longest descriptor looked at, in bytes; VMware's own are 20 sectors.
const DESCRIPTOR_BYTES_MAX: u64 = 64 << 10;
/// The grain directory's place when it is only known at the end of the stream.
const AT_END: u64 = u64::MAX;

pub(super) fn matches(image: &Capture) -> bool {
    image.has(0, MAGIC) || image.has(0, TEXT_MAGIC)
}

pub(super) fn virtual_size(image: &Capture) -> Option<u64> {
    image.le_u64(12)?.checked_mul(SECTOR)
}

pub(super) fn check(image: &Capture) -> Result<(), VmdkFlaw> {
    if !image.has(0, MAGIC) {
        return Err(VmdkFlaw::NoHeader);
    }
    let header = image.bytes(0, SECTOR).ok_or(VmdkFlaw::BadHeader)?;
    let version = image.le_u32(4).ok_or(VmdkFlaw::BadHeader)?;
    if !matches!(version, 1..=3) {
        return Err(VmdkFlaw::BadHeader);
    }
    let (at, len) = (image.le_u64(28), image.le_u64(36));
    let at = at.and_then(|sectors| sectors.checked_mul(SECTOR)).ok_or(VmdkFlaw::BadHeader)?;
    let len = len.and_then(|sectors| sectors.checked_mul(SECTOR)).ok_or(VmdkFlaw::BadHeader)?;
    if at == 0 || len == 0 || len > DESCRIPTOR_BYTES_MAX {
        return Err(VmdkFlaw::BadHeader);
    }
    let descriptor = image.bytes(at, len).ok_or(VmdkFlaw::BadHeader)?;
    check_descriptor(descriptor)?;
    if image.le_u64(56) == Some(AT_END) {
        return check_footer(header, image.tail());
    }
    Ok(())
}

/// The footer must be the header again, but for the place of the grain directory.
fn check_footer(header: &[u8], tail: &[u8]) -> Result<(), VmdkFlaw> {
    let footer =
        tail.len().checked_sub(2 * SECTOR as usize).and_then(|at| tail.get(at..at + SECTOR as usize));
    let footer = footer.ok_or(VmdkFlaw::Footer)?;
    let agrees = footer[..56] == header[..56] && footer[64..] == header[64..];
    let placed = footer[56..64] != header[56..64];
    if agrees && placed { Ok(()) } else { Err(VmdkFlaw::Footer) }
}

fn check_descriptor(descriptor: &[u8]) -> Result<(), VmdkFlaw> {
    let end = descriptor.iter().position(|byte| *byte == 0).unwrap_or(descriptor.len());
    let (text, padding) = descriptor.split_at(end);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(VmdkFlaw::BadDescriptor);
    }
    let text = std::str::from_utf8(text).map_err(|_| VmdkFlaw::BadDescriptor)?;
    let mut subformats = 0;
    let mut extents = 0;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if is_extent(line) {
            // The name is between quotes, and quotes are nowhere else in an extent.
            if line.contains('/') {
                return Err(VmdkFlaw::ExtentPath);
            }
            extents += 1;
        } else if let Some((key, value)) = line.split_once('=') {
            if key.trim().eq_ignore_ascii_case("createType") {
                subformats += 1;
                let value = value.trim().trim_matches('"');
                if !matches!(value, "monolithicSparse" | "streamOptimized") {
                    return Err(VmdkFlaw::Subformat);
                }
            }
        } else {
            return Err(VmdkFlaw::BadDescriptor);
        }
    }
    match (subformats, extents) {
        (1, 1..) => Ok(()),
        (1, _) => Err(VmdkFlaw::NoExtent),
        _ => Err(VmdkFlaw::Subformat),
    }
}

fn is_extent(line: &str) -> bool {
    matches!(line.split_whitespace().next(), Some("RW" | "RDONLY" | "NOACCESS"))
}
