//! I-D6: when nothing happens any more and reclaim has run, the bytes on disk are the bytes
//! referenced, plus the fixed overhead of the packs that hold them; without images there is none.

use peerglass_transfer::{PackId, Usage};

use crate::chronicle::Violation;

/// Header and trailer of a pack.
const PACK_OVERHEAD_BYTES: u64 = 16 + 64;
/// Row of a pack's table, for each blob.
const ROW_BYTES: u64 = 56;

/// Compare what is on the disk with what the node says it refers to.
pub(crate) fn check(packs: &[(PackId, u64)], usage: &Usage, images: usize) -> Option<Violation> {
    let on_disk: u64 = packs.iter().map(|(_, len)| len).sum();
    let overhead = usage.packs * PACK_OVERHEAD_BYTES + usage.chunks * ROW_BYTES;
    let idle = usage.uploads == 0 && usage.downloads == 0;
    let clean = on_disk == usage.referenced_bytes + overhead && on_disk == usage.stored_bytes && idle;
    let empty = images > 0 || (packs.is_empty() && on_disk == 0);
    if clean && empty {
        return None;
    }
    Some(Violation {
        invariant: "I-D6 (no byte is leaked)",
        subject: format!("packs {packs:?}"),
        expected: format!("what {images} images refer to, and nothing in flight"),
        got: format!("{on_disk} bytes on disk, {usage:?}"),
    })
}
