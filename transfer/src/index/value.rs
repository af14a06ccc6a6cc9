//! How a record of the index is written: a version, then postcard.

use peerglass_catalog::ManifestRoot;
use peerglass_catalog::keyspace::Fault;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Blob, Held, PackRecord};
use crate::form::Form;

/// What a key leads to: a version, then postcard.
pub(super) trait Value: Serialize + DeserializeOwned {
    /// As which it is written.
    const VERSION: u8 = 1;

    /// Read what was written as `version`; `None` if that is not known or these bytes are not that.
    fn read(version: u8, body: &[u8]) -> Option<Self> {
        if version == Self::VERSION { postcard::from_bytes(body).ok() } else { None }
    }
}

impl Value for u64 {}
impl Value for ManifestRoot {}
impl Value for PackRecord {}
impl Value for Held {}

impl Value for Blob {
    const VERSION: u8 = 2;

    fn read(version: u8, body: &[u8]) -> Option<Self> {
        match version {
            Self::VERSION => postcard::from_bytes(body).ok(),
            // When every blob was stored as it is, in the place of the form was its length.
            1 => {
                let (place, len, kind, refs, damaged) = postcard::from_bytes(body).ok()?;
                Some(Self { place, form: Form::raw(len), kind, refs, damaged })
            }
            _ => None,
        }
    }
}

pub(super) fn encode<T: Value>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![T::VERSION])
        .expect("writing to a vector cannot fail, and no record has a map of unknown length")
}

pub(super) fn decode<T: Value>(what: &'static str, key: &[u8], bytes: &[u8]) -> Result<T, Fault> {
    let value = bytes.split_first().and_then(|(version, body)| T::read(*version, body));
    value.ok_or_else(|| Fault::Damaged { what, key: key.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::PackId;
    use crate::index::Place;
    use crate::pack::BlobKind;

    #[test]
    fn a_blob_of_the_release_before_is_plain() {
        let place = Some(Place { pack: PackId(7), offset: 300 });
        let was = (place, 70_000_u32, BlobKind::Page, 3_u64, true);
        let bytes = postcard::to_extend(&was, vec![1]).unwrap();
        let read: Blob = decode("blob", &[], &bytes).unwrap();
        let form = Form::raw(70_000);
        assert_eq!(read, Blob { place, form, kind: BlobKind::Page, refs: 3, damaged: true });
        assert_eq!(decode::<Blob>("blob", &[], &encode(&read)).unwrap(), read);
    }

    #[test]
    fn a_version_that_is_not_known_is_damage() {
        let blob = Blob { place: None, form: Form::raw(1), kind: BlobKind::Chunk, refs: 0, damaged: false };
        let mut bytes = encode(&blob);
        for version in [0, 3] {
            bytes[0] = version;
            assert!(matches!(decode::<Blob>("blob", &[], &bytes), Err(Fault::Damaged { what: "blob", .. })));
        }
        let mut held = encode(&Held::Whole);
        held[0] = 2;
        assert!(decode::<Held>("held manifest", &[], &held).is_err());
    }
}
