//! Who is to keep bytes: nodes that are out, and images that are pinned to sites.
//!
//! Which nodes keep an image otherwise follows from the members and from the first image of those bytes; the
//! catalog says only what does not follow.

use std::collections::BTreeSet;

use crate::command::Outcome;
use crate::image::lifecycle::Step;
use crate::image::{ImageId, ManifestRoot, NodeId, Timestamp};
use crate::keyspace::{Fault, Read};
use crate::overlay::Overlay;
use crate::refusal::Refusal;
use crate::table;

/// Sites an image may be pinned to: each is one more copy that nothing lets go of.
pub(crate) const PINS_MAX: usize = 16;
/// Images of one manifest whose pins are looked at. Beyond that nobody counts them.
const NAMES_LOOKED_AT_MAX: usize = 256;

/// The image whose bytes a walk comes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptImage {
    /// Names its bytes.
    pub manifest: ManifestRoot,
    /// The first image, by id, that has these bytes.
    pub first: ImageId,
    /// The sites it is pinned to; the empty one stands for every node.
    pub pins: BTreeSet<String>,
}

/// Which images have some bytes, or will have them when their upload ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// The first of them, by id.
    pub first: Option<ImageId>,
    /// The sites they are pinned to; `None` if there are so many of them that nobody counts.
    pub pins: Option<BTreeSet<String>>,
}

pub(crate) fn mark(overlay: &mut Overlay<'_>, node: NodeId, out: bool, at: Timestamp) -> Step {
    match (table::mark(overlay, node)?, out) {
        (None, true) => table::put_mark(overlay, node, at),
        (Some(_), false) => table::remove_mark(overlay, node),
        (Some(_), true) | (None, false) => {}
    }
    Ok(Ok(Outcome::Noted))
}

pub(crate) fn pin(overlay: &mut Overlay<'_>, image: ImageId, site: String) -> Step {
    if table::image(overlay, &image)?.is_none() {
        return Ok(Err(Refusal::NoSuchImage(image)));
    }
    let mut pins = table::pins(overlay, &image)?;
    if pins.len() >= PINS_MAX && !pins.contains(&site) {
        return Ok(Err(Refusal::TooManyPins { image, max: u32::try_from(PINS_MAX).unwrap_or(u32::MAX) }));
    }
    if pins.insert(site) {
        table::put_pins(overlay, &image, &pins);
        count_change(overlay)?;
    }
    Ok(Ok(Outcome::Noted))
}

pub(crate) fn unpin(overlay: &mut Overlay<'_>, image: ImageId, site: String) -> Step {
    if table::image(overlay, &image)?.is_none() {
        return Ok(Err(Refusal::NoSuchImage(image)));
    }
    let mut pins = table::pins(overlay, &image)?;
    if !pins.remove(&site) {
        return Ok(Err(Refusal::NoSuchPin { image, site }));
    }
    table::put_pins(overlay, &image, &pins);
    count_change(overlay)?;
    Ok(Ok(Outcome::Noted))
}

/// So that whoever acts on pins need not look at all of them to see that none has changed.
fn count_change(overlay: &mut Overlay<'_>) -> Result<(), Fault> {
    let changes = table::pin_changes(overlay)?;
    table::put_pin_changes(overlay, changes.wrapping_add(1));
    Ok(())
}

/// The images of these bytes, and where they are pinned to.
pub(crate) fn naming(read: &dyn Read, root: &ManifestRoot) -> Result<Naming, Fault> {
    let mut sites = BTreeSet::new();
    let mut first = None;
    for (at, image) in table::named_by(read, root).enumerate() {
        if at >= NAMES_LOOKED_AT_MAX {
            return Ok(Naming { first, pins: None });
        }
        let image = image?;
        first.get_or_insert(image);
        sites.extend(table::pins(read, &image)?);
    }
    Ok(Naming { first, pins: Some(sites) })
}

/// Those of the next `limit` records after `after` that have bytes, and the last record looked at; `None` for
/// that at the end.
pub(crate) fn kept_after(
    read: &dyn Read,
    after: Option<&ImageId>,
    limit: usize,
) -> Result<(Vec<KeptImage>, Option<ImageId>), Fault> {
    let mut kept = Vec::new();
    let mut last = None;
    for image in table::images_after(read, after).take(limit) {
        let image = image?;
        if let Some(content) = &image.content {
            let pins = table::pins(read, &image.id)?;
            let manifest = content.manifest;
            // It names itself, at least.
            let first = table::named_by(read, &manifest).next().transpose()?.unwrap_or(image.id);
            kept.push(KeptImage { manifest, first, pins });
        }
        last = Some(image.id);
    }
    Ok((kept, last))
}
