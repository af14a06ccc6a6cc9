//! Identifiers of images, uploads, nodes and stores.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An image's id: 36 characters, `8-4-4-4-12` hexadecimal digits in either case.
///
/// Kept as the client wrote it. Two ids that differ only by case name two images, as in Glance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId([u8; 36]);

/// The text is not an image id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an image id is 8-4-4-4-12 hexadecimal digits")]
pub struct InvalidImageId;

impl ImageId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII digits and hyphens pass from_str")
    }

    /// A version 4 (random) UUID made from 16 random bytes, RFC 9562 section 5.4.
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let mut text = [b'-'; 36];
        let mut at = 0;
        for byte in bytes {
            if matches!(at, 8 | 13 | 18 | 23) {
                at += 1;
            }
            text[at] = b"0123456789abcdef"[usize::from(byte >> 4)];
            text[at + 1] = b"0123456789abcdef"[usize::from(byte & 0xf)];
            at += 2;
        }
        Self(text)
    }
}

impl FromStr for ImageId {
    type Err = InvalidImageId;

    fn from_str(text: &str) -> Result<Self, InvalidImageId> {
        let bytes: [u8; 36] = text.as_bytes().try_into().map_err(|_| InvalidImageId)?;
        let well_formed = bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
        if well_formed { Ok(Self(bytes)) } else { Err(InvalidImageId) }
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ImageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ImageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = ImageId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an image id")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ImageId, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// One attempt to upload bytes, drawn at random by the node that receives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UploadId(pub u128);

/// One Peerglass process and its disk, for as long as the disk lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// The name of a configured place for bytes, such as `peer`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreId(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_version_four_and_parse_back() {
        let id = ImageId::from_random([0xff; 16]);
        assert_eq!(id.as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(id.as_str().parse(), Ok(id));
    }

    #[test]
    fn only_the_canonical_shape_is_an_id() {
        let good = "0C0ffee0-0000-4000-8000-00000000000a";
        assert!(good.parse::<ImageId>().is_ok());
        for bad in [
            "",
            "x",
            &good[1..],
            &format!("{good}0"),
            &good.replace('-', "0"),
            "{0c0ffee0-0000-4000-8000-0000000000}",
        ] {
            assert_eq!(bad.parse::<ImageId>(), Err(InvalidImageId), "{bad}");
        }
    }
}
