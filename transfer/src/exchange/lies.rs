//! What a node that misbehaves sends to others instead of what it should, to see whether they keep their promises.
//!
//! Only simulations build with it (feature `mutations`); without, every node is honest when it is compiled.
//!
//! # What it promises
//!
//! * Lies are told to nodes that fetch, and to nobody else: what this node is asked to hold it holds when it says so,
//!   what it says it keeps it keeps, and its own clients get what they should. Otherwise bytes could be lost that were
//!   acknowledged, with nobody to blame but the liar.

use bytes::{Bytes, BytesMut};

use super::serve::{ServeError, send_all};
use crate::connection::Sending;

/// What a node can lie about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// One bit of a blob is another.
    WrongBit,
    /// Instead of one blob comes another, whole; where only one is asked for, a bit of it is another.
    WrongBlob,
    /// One blob is announced longer than it is.
    WrongLength,
    /// The answer ends in the middle, as if that were all.
    Short,
    /// There are bytes after the end.
    Trailing,
    /// Bytes stop coming in the middle.
    Stall,
    /// All of a manifest is said to be here.
    Claim,
    /// A piece is said to be here that the manifest does not have.
    NoSuchPiece,
}

impl Lie {
    /// Told instead of blobs.
    const OF_BLOBS: &[Self] =
        &[Self::WrongBit, Self::WrongBlob, Self::WrongLength, Self::Short, Self::Trailing, Self::Stall];
    /// Told to who asks whether all is here.
    pub(super) const OF_HAVING: &[Self] = &[Self::Claim];
    /// Told to followers.
    pub(super) const OF_NEWS: &[Self] = &[Self::Claim, Self::NoSuchPiece];
}

/// Says at each occasion which of these lies to tell, if any.
pub type Temptation = dyn Fn(&[Lie]) -> Option<Lie> + Send + Sync;

/// Whether and when this node lies.
#[derive(Default)]
pub(crate) struct Lies {
    #[cfg(feature = "mutations")]
    tempt: std::sync::OnceLock<Box<Temptation>>,
}

impl Lies {
    /// From now on, lie whenever `tempt` says so. The first call counts.
    #[cfg(feature = "mutations")]
    pub(crate) fn begin(&self, tempt: Box<Temptation>) {
        let _begun_before = self.tempt.set(tempt);
    }

    /// The lie to tell now, of those that fit.
    #[cfg(feature = "mutations")]
    pub(super) fn now(&self, fitting: &[Lie]) -> Option<Lie> {
        self.tempt.get().and_then(|tempt| tempt(fitting))
    }

    /// The lie to tell now: none.
    #[cfg(not(feature = "mutations"))]
    #[allow(clippy::unused_self, reason = "its other form looks at what it was told")]
    pub(super) const fn now(&self, _fitting: &[Lie]) -> Option<Lie> {
        None
    }
}

impl Lies {
    /// The lie to tell now about `blobs`, if any of them is here.
    pub(super) fn about(&self, blobs: &[Bytes]) -> Option<Lie> {
        let any_here = blobs.chunks(2).any(|blob| !blob[1].is_empty());
        if any_here { self.now(Lie::OF_BLOBS) } else { None }
    }
}

/// Send `blobs`, each a head and its bytes, with this lie about them.
pub(super) async fn tell(lie: Lie, send: &mut Sending, blobs: &[Bytes]) -> Result<(), ServeError> {
    send_all(send, vec![spoilt(lie, blobs)]).await?;
    match lie {
        Lie::Short => send.finish().map_err(ServeError::Lost)?,
        // Until nobody waits for it any more.
        Lie::Stall => send.taken().await,
        Lie::WrongBit | Lie::WrongBlob | Lie::WrongLength | Lie::Trailing | Lie::Claim | Lie::NoSuchPiece => {
            return Ok(());
        }
    }
    Err(ServeError::Unheard)
}

fn spoilt(lie: Lie, blobs: &[Bytes]) -> Bytes {
    let mut bytes = blobs.concat();
    let starts = blobs.chunks(2).scan(0, |start, blob| {
        let this = *start;
        *start += blob.concat().len();
        Some((this, blob))
    });
    // Those that are here.
    let here: Vec<(usize, &[Bytes])> = starts.filter(|(_, blob)| !blob[1].is_empty()).collect();
    let (Some((start, first)), Some((end, last))) = (here.first(), here.last()) else { return bytes.into() };
    match lie {
        Lie::WrongBlob if start < end => {
            let mut other = BytesMut::from(&bytes[..*start]);
            last.iter().for_each(|part| other.extend_from_slice(part));
            other.extend_from_slice(&bytes[start + first.concat().len()..]);
            return other.into();
        }
        Lie::WrongBit | Lie::WrongBlob => {
            let middle = first[0].len() + first[1].len() / 2;
            bytes[start + middle] ^= 1;
        }
        Lie::WrongLength => bytes[start + 1] |= 0x7f,
        Lie::Short | Lie::Stall => bytes.truncate(bytes.len() / 2),
        Lie::Trailing => bytes.push(0),
        Lie::Claim | Lie::NoSuchPiece => {}
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lie that is the truth would prove nothing.
    #[test]
    fn each_lie_about_blobs_is_one() {
        let blob = |bytes: &'static [u8]| {
            [Bytes::copy_from_slice(&(bytes.len() as u32).to_be_bytes()), Bytes::from_static(bytes)]
        };
        let several = [blob(b""), blob(b"one"), blob(b"another"), blob(b"")].concat();
        for blobs in [several, blob(b"alone").to_vec()] {
            for lie in Lie::OF_BLOBS {
                assert_ne!(spoilt(*lie, &blobs), blobs.concat(), "{lie:?}");
            }
        }
    }

    #[test]
    fn another_blob_comes_whole_and_those_around_it_stay() {
        let parts = [&b"----"[..], b"", b"---1", b"a", b"---2", b"bb", b"---3", b"ccc"];
        let blobs = parts.map(Bytes::from_static);
        assert_eq!(spoilt(Lie::WrongBlob, &blobs), b"-------3ccc---2bb---3ccc"[..]);
    }
}
