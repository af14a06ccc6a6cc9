//! Where each kind of record lives in the ordered map, and how it is encoded.
//!
//! A key is one letter for the table and then the record's own key. A value is one byte of format
//! version and then postcard, so that a release can read what the one before it wrote and refuses
//! what it cannot.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::image::{Image, ImageId, ManifestRoot, NodeId, Timestamp, UploadId};
use crate::keyspace::{Direction, Fault, KeyRange, Read};
use crate::node::{JoinToken, TokenDigest};
use crate::overlay::Overlay;

/// Image records by id.
const IMAGES: u8 = b'I';
/// Ids of deleted images.
const TOMBSTONES: u8 = b'T';
/// Which images name a manifest: root, then id.
const NAMES: u8 = b'M';
/// Uploads in progress: node, then image id.
const UPLOADS: u8 = b'U';
/// Manifests that uploads in progress hold on to, by image id.
const CLAIMS: u8 = b'C';
/// Join tokens by the hash of their secret.
const TOKENS: u8 = b'J';
/// Nodes that are out.
const MARKS: u8 = b'O';
/// The sites an image is pinned to, by its id.
const PINS: u8 = b'P';
/// How often pins were changed: one record.
const PIN_CHANGES: u8 = b'Q';
/// List indexes; `index.rs` has the rest of the key.
pub(crate) const INDEX: u8 = b'X';

/// Format of every value in this release.
const VERSION: u8 = 1;
/// Most records fit, so that they are allocated once.
const USUAL_VALUE_BYTES: usize = 512;

pub(crate) fn image(read: &dyn Read, id: &ImageId) -> Result<Option<Image>, Fault> {
    get(read, "image", image_key(id))
}

pub(crate) fn images(read: &dyn Read) -> impl Iterator<Item = Result<Image, Fault>> {
    read.scan(KeyRange::prefix(&[IMAGES]), Direction::Ascending).map(|entry| {
        let (key, value) = entry?;
        decode("image", key, &value)
    })
}

/// The images whose ids are greater than `after`, in order.
pub(crate) fn images_after(
    read: &dyn Read,
    after: Option<&ImageId>,
) -> impl Iterator<Item = Result<Image, Fault>> {
    let mut range = KeyRange::prefix(&[IMAGES]);
    if let Some(id) = after {
        // The key that follows is the key itself and one zero byte.
        range.from = [&image_key(id)[..], &[0]].concat();
    }
    read.scan(range, Direction::Ascending).map(|entry| {
        let (key, value) = entry?;
        decode("image", key, &value)
    })
}

pub(crate) fn put_image(overlay: &mut Overlay<'_>, image: &Image) {
    overlay.put(image_key(&image.id), encode(image));
}

pub(crate) fn remove_image(overlay: &mut Overlay<'_>, id: &ImageId) {
    overlay.remove(image_key(id));
}

pub(crate) fn is_used(read: &dyn Read, id: &ImageId) -> Result<bool, Fault> {
    Ok(read.get(&image_key(id))?.is_some() || read.get(&tombstone_key(id))?.is_some())
}

pub(crate) fn tombstones(read: &dyn Read) -> impl Iterator<Item = Result<(ImageId, Timestamp), Fault>> {
    read.scan(KeyRange::prefix(&[TOMBSTONES]), Direction::Ascending).map(|entry| {
        let (key, value) = entry?;
        let id = id_at(&key, 1)?;
        Ok((id, decode("tombstone", key, &value)?))
    })
}

pub(crate) fn put_tombstone(overlay: &mut Overlay<'_>, id: &ImageId, at: Timestamp) {
    overlay.put(tombstone_key(id), encode(&at));
}

pub(crate) fn put_name(overlay: &mut Overlay<'_>, root: &ManifestRoot, id: &ImageId) {
    overlay.put(name_key(root, id), Vec::new());
}

pub(crate) fn remove_name(overlay: &mut Overlay<'_>, root: &ManifestRoot, id: &ImageId) {
    overlay.remove(name_key(root, id));
}

pub(crate) fn is_named(read: &dyn Read, root: &ManifestRoot) -> Result<bool, Fault> {
    let prefix = [&[NAMES][..], &root.0.0].concat();
    read.scan(KeyRange::prefix(&prefix), Direction::Ascending).next().transpose().map(|found| found.is_some())
}

/// The images that name a manifest, or whose uploads claim it.
pub(crate) fn named_by(read: &dyn Read, root: &ManifestRoot) -> impl Iterator<Item = Result<ImageId, Fault>> {
    let prefix = [&[NAMES][..], &root.0.0].concat();
    let start = prefix.len();
    read.scan(KeyRange::prefix(&prefix), Direction::Ascending).map(move |entry| id_at(&entry?.0, start))
}

pub(crate) fn put_upload(overlay: &mut Overlay<'_>, node: NodeId, image: &ImageId, upload: UploadId) {
    overlay.put(upload_key(node, image), encode(&upload));
}

pub(crate) fn remove_upload(overlay: &mut Overlay<'_>, node: NodeId, image: &ImageId) {
    overlay.remove(upload_key(node, image));
}

pub(crate) fn uploads_of(read: &dyn Read, node: NodeId) -> Result<Vec<(ImageId, UploadId)>, Fault> {
    let prefix = [&[UPLOADS][..], &node.0.to_be_bytes()].concat();
    let decoded = read.scan(KeyRange::prefix(&prefix), Direction::Ascending).map(|entry| {
        let (key, value) = entry?;
        Ok((id_at(&key, prefix.len())?, decode("upload", key, &value)?))
    });
    decoded.collect()
}

pub(crate) fn claim(read: &dyn Read, image: &ImageId) -> Result<Option<ManifestRoot>, Fault> {
    get(read, "claim", claim_key(image))
}

pub(crate) fn claims(read: &dyn Read) -> impl Iterator<Item = Result<(ImageId, ManifestRoot), Fault>> {
    read.scan(KeyRange::prefix(&[CLAIMS]), Direction::Ascending).map(|entry| {
        let (key, value) = entry?;
        let id = id_at(&key, 1)?;
        Ok((id, decode("claim", key, &value)?))
    })
}

pub(crate) fn put_claim(overlay: &mut Overlay<'_>, image: &ImageId, root: &ManifestRoot) {
    overlay.put(claim_key(image), encode(root));
    put_name(overlay, root, image);
}

/// Drop what the image's upload held on to, if anything.
pub(crate) fn remove_claim(overlay: &mut Overlay<'_>, image: &ImageId) -> Result<(), Fault> {
    if let Some(root) = claim(overlay, image)? {
        overlay.remove(claim_key(image));
        remove_name(overlay, &root, image);
    }
    Ok(())
}

pub(crate) fn token(read: &dyn Read, digest: &TokenDigest) -> Result<Option<JoinToken>, Fault> {
    get(read, "join token", token_key(digest))
}

pub(crate) fn tokens(read: &dyn Read) -> impl Iterator<Item = Result<(TokenDigest, JoinToken), Fault>> {
    read.scan(KeyRange::prefix(&[TOKENS]), Direction::Ascending).map(|entry| {
        let (key, value) = entry?;
        let digest = key.get(1..).and_then(|digest| digest.try_into().ok()).map(Digest);
        let digest = digest.ok_or_else(|| Fault::Damaged { what: "join token", key: key.clone() })?;
        Ok((digest, decode("join token", key, &value)?))
    })
}

pub(crate) fn put_token(overlay: &mut Overlay<'_>, digest: &TokenDigest, token: &JoinToken) {
    overlay.put(token_key(digest), encode(token));
}

pub(crate) fn remove_token(overlay: &mut Overlay<'_>, digest: &TokenDigest) {
    overlay.remove(token_key(digest));
}

pub(crate) fn mark(read: &dyn Read, node: NodeId) -> Result<Option<Timestamp>, Fault> {
    get(read, "mark", mark_key(node))
}

pub(crate) fn marks(read: &dyn Read) -> impl Iterator<Item = Result<(NodeId, Timestamp), Fault>> {
    read.scan(KeyRange::prefix(&[MARKS]), Direction::Ascending).map(|entry| {
        let (key, value) = entry?;
        let node = key.get(1..9).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes);
        let node = node.ok_or_else(|| Fault::Damaged { what: "mark", key: key.clone() })?;
        Ok((NodeId(node), decode("mark", key, &value)?))
    })
}

pub(crate) fn put_mark(overlay: &mut Overlay<'_>, node: NodeId, since: Timestamp) {
    overlay.put(mark_key(node), encode(&since));
}

pub(crate) fn remove_mark(overlay: &mut Overlay<'_>, node: NodeId) {
    overlay.remove(mark_key(node));
}

pub(crate) fn pins(read: &dyn Read, image: &ImageId) -> Result<BTreeSet<String>, Fault> {
    Ok(get(read, "pins", pins_key(image))?.unwrap_or_default())
}

pub(crate) fn all_pins(read: &dyn Read) -> impl Iterator<Item = Result<(ImageId, BTreeSet<String>), Fault>> {
    read.scan(KeyRange::prefix(&[PINS]), Direction::Ascending).map(|entry| {
        let (key, value) = entry?;
        let id = id_at(&key, 1)?;
        Ok((id, decode("pins", key, &value)?))
    })
}

/// No pins are no record.
pub(crate) fn put_pins(overlay: &mut Overlay<'_>, image: &ImageId, pins: &BTreeSet<String>) {
    if pins.is_empty() {
        remove_pins(overlay, image);
    } else {
        overlay.put(pins_key(image), encode(pins));
    }
}

pub(crate) fn remove_pins(overlay: &mut Overlay<'_>, image: &ImageId) {
    overlay.remove(pins_key(image));
}

pub(crate) fn pin_changes(read: &dyn Read) -> Result<u64, Fault> {
    Ok(get(read, "count of pins", vec![PIN_CHANGES])?.unwrap_or(0))
}

pub(crate) fn put_pin_changes(overlay: &mut Overlay<'_>, changes: u64) {
    overlay.put(vec![PIN_CHANGES], encode(&changes));
}

/// One look for each node, however many uploads it has.
pub(crate) fn uploading_nodes(read: &dyn Read) -> Result<Vec<NodeId>, Fault> {
    let mut nodes = Vec::new();
    let mut range = KeyRange::prefix(&[UPLOADS]);
    while let Some((key, _)) = read.scan(range.clone(), Direction::Ascending).next().transpose()? {
        let id = key.get(1..9).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes);
        let id = id.ok_or_else(|| Fault::Damaged { what: "upload", key: key.clone() })?;
        nodes.push(NodeId(id));
        let Some(next) = id.checked_add(1) else { break };
        range.from = [&[UPLOADS][..], &next.to_be_bytes()].concat();
    }
    Ok(nodes)
}

fn mark_key(node: NodeId) -> Vec<u8> {
    [&[MARKS][..], &node.0.to_be_bytes()].concat()
}

fn pins_key(id: &ImageId) -> Vec<u8> {
    [&[PINS][..], id.as_str().as_bytes()].concat()
}

fn claim_key(id: &ImageId) -> Vec<u8> {
    [&[CLAIMS][..], id.as_str().as_bytes()].concat()
}

fn token_key(digest: &TokenDigest) -> Vec<u8> {
    [&[TOKENS][..], &digest.0].concat()
}

fn image_key(id: &ImageId) -> Vec<u8> {
    [&[IMAGES][..], id.as_str().as_bytes()].concat()
}

fn tombstone_key(id: &ImageId) -> Vec<u8> {
    [&[TOMBSTONES][..], id.as_str().as_bytes()].concat()
}

fn name_key(root: &ManifestRoot, id: &ImageId) -> Vec<u8> {
    [&[NAMES][..], &root.0.0, id.as_str().as_bytes()].concat()
}

fn upload_key(node: NodeId, image: &ImageId) -> Vec<u8> {
    [&[UPLOADS][..], &node.0.to_be_bytes(), image.as_str().as_bytes()].concat()
}

/// The image id that `key` holds from `start` to its end.
pub(crate) fn id_at(key: &[u8], start: usize) -> Result<ImageId, Fault> {
    key.get(start..)
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Fault::Damaged { what: "image id", key: key.to_vec() })
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut begun = Vec::with_capacity(USUAL_VALUE_BYTES);
    begun.push(VERSION);
    postcard::to_extend(value, begun).expect("writing to a vector cannot fail, and every map has a length")
}

pub(crate) fn decode<T: DeserializeOwned>(
    what: &'static str,
    key: Vec<u8>,
    bytes: &[u8],
) -> Result<T, Fault> {
    match bytes.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|_| Fault::Damaged { what, key }),
        _ => Err(Fault::Damaged { what, key }),
    }
}

fn get<T: DeserializeOwned>(read: &dyn Read, what: &'static str, key: Vec<u8>) -> Result<Option<T>, Fault> {
    match read.get(&key)? {
        Some(bytes) => decode(what, key, &bytes).map(Some),
        None => Ok(None),
    }
}
