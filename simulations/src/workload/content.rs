//! What clients upload: bytes that anyone can make again from a seed.

use bytes::Bytes;
use md5::{Digest as _, Md5};
use sha2::Sha512;

use crate::dice::Dice;

/// Largest image, in bytes.
const BYTES_MAX: u64 = 3 << 20;
/// Stretches of bytes that images of one run have in common.
const POOL: u64 = 4;
/// Length of such a stretch: several chunks, so that whole chunks are equal.
const POOL_BYTES: usize = 320 << 10;

/// Which content of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ContentId(pub(crate) usize);

/// The bytes of one upload, and what a client may check them by.
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    pub(crate) md5: String,
    pub(crate) sha512: String,
}

impl Content {
    /// Draw bytes for the run `seed`: runs of zeros, stretches that other images have too, what compresses, and noise.
    pub(crate) fn draw(seed: u64, dice: &mut Dice) -> Self {
        let size = match dice.below(20) {
            0 => 0,
            1..12 => dice.magnitude(17),
            12..18 => dice.below(600 << 10),
            _ => dice.below(BYTES_MAX),
        };
        let size = usize::try_from(size).expect("an image fits into memory");
        let mut bytes = Vec::with_capacity(size + POOL_BYTES);
        while bytes.len() < size {
            match dice.below(4) {
                0 => bytes.resize(bytes.len() + usize::try_from(dice.magnitude(18)).unwrap_or(0), 0),
                1 | 2 => noise(&mut bytes, POOL_BYTES, &[seed, dice.below(POOL)]),
                _ => {
                    let (len, number) = (usize::try_from(dice.magnitude(17)).unwrap_or(0), dice.number());
                    let start = bytes.len();
                    noise(&mut bytes, len, &[number]);
                    if number.is_multiple_of(2) {
                        // What compresses.
                        bytes[start..].iter_mut().for_each(|byte| *byte &= 3);
                    }
                }
            }
        }
        bytes.truncate(size);
        Self::of(bytes.into())
    }

    fn of(bytes: Bytes) -> Self {
        let md5 = hex(&Md5::digest(&bytes));
        let sha512 = hex(&Sha512::digest(&bytes));
        Self { bytes, md5, sha512 }
    }

    /// How many bytes.
    pub(crate) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

fn noise(bytes: &mut Vec<u8>, count: usize, seed: &[u64]) {
    let mut hash = blake3::Hasher::new();
    for number in seed {
        hash.update(&number.to_le_bytes());
    }
    let start = bytes.len();
    bytes.resize(start + count, 0);
    hash.finalize_xof().fill(&mut bytes[start..]);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
