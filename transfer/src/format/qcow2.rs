//! qcow2: must not read through to any other file.

use super::capture::Capture;
use super::{FormatRefusal, ImageFormat};

/// Dirty, corrupt, external data file, compression type, extended L2.
const KNOWN_FEATURES: u64 = 0b1_1111;
const EXTERNAL_DATA_FILE: u64 = 1 << 2;

pub(super) fn check(image: &Capture) -> Result<(), FormatRefusal> {
    let short = FormatRefusal::Truncated(ImageFormat::Qcow2);
    let version = image.be_u32(4).ok_or(short)?;
    if !matches!(version, 2 | 3) {
        return Err(FormatRefusal::Qcow2Version(version));
    }
    if image.be_u64(8).ok_or(short)? != 0 {
        return Err(FormatRefusal::Qcow2BackingFile);
    }
    // The fixed part of a version 2 header ends at 72; version 3 has the features there.
    let features = match version {
        2 => image.bytes(0, 72).map(|_| 0),
        _ => image.be_u64(72),
    };
    let features = features.ok_or(short)?;
    if features & EXTERNAL_DATA_FILE != 0 {
        return Err(FormatRefusal::Qcow2DataFile);
    }
    match features & !KNOWN_FEATURES {
        0 => Ok(()),
        unknown => Err(FormatRefusal::Qcow2Features(unknown)),
    }
}
