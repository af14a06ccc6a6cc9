//! Bytes that end a claim when the last of their owners lets them go.

use bytes::Bytes;

struct Claimed<C> {
    bytes: Bytes,
    _claim: C,
}

impl<C> AsRef<[u8]> for Claimed<C> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The same bytes, without a copy. They and every part of them hold `claim`.
pub(crate) fn claimed<C: Send + 'static>(bytes: Bytes, claim: C) -> Bytes {
    Bytes::from_owner(Claimed { bytes, _claim: claim })
}
