//! LUKS version 1. Version 2 keeps its facts in JSON nobody here reads.

use super::capture::Capture;
use super::{FormatRefusal, ImageFormat};

pub(super) fn check(image: &Capture) -> Result<(), FormatRefusal> {
    match image.be_u16(6).ok_or(FormatRefusal::Truncated(ImageFormat::Luks))? {
        1 => Ok(()),
        version => Err(FormatRefusal::LuksVersion(version)),
    }
}

pub(super) fn virtual_size(image: &Capture) -> Option<u64> {
    let payload_offset = u64::from(image.be_u32(104)?) * 512;
    image.len().checked_sub(payload_offset)
}
