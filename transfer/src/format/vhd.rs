//! VHD: a dynamic disk begins with a copy of its footer. A fixed disk has only the footer and cannot
//! be told from a raw disk in time; Glance takes it for one.

use super::capture::Capture;

pub(super) fn virtual_size(image: &Capture) -> Option<u64> {
    // The size the disk was made with; the current size follows it.
    image.be_u64(40)
}
