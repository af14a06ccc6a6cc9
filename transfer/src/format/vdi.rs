//! VDI, which begins with text for people and then its signature.

use super::capture::Capture;

const SIGNATURE: u32 = 0xbeda_107f;

pub(super) fn matches(image: &Capture) -> bool {
    image.le_u32(0x40) == Some(SIGNATURE)
}

pub(super) fn virtual_size(image: &Capture) -> Option<u64> {
    image.le_u64(0x170)
}
