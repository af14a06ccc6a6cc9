//! Bodies to upload: the same bytes for the same seed.

use std::convert::Infallible;

use bytes::Bytes;
use futures::stream::{self, Stream};

/// Bytes without pattern.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Bytes of eight kinds, which compress to some 40 %.
pub(crate) fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = noise(seed, len);
    bytes.iter_mut().for_each(|byte| *byte = b'a' + *byte % 8);
    bytes
}

/// `bytes` in frames of `frame` bytes.
pub(crate) fn stream_of(
    bytes: &[u8],
    frame: usize,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + Unpin + use<> {
    let frames: Vec<_> = bytes.chunks(frame).map(|frame| Ok(Bytes::copy_from_slice(frame))).collect();
    stream::iter(frames)
}
