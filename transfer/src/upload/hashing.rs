//! The lanes that hash the whole body.

use bytes::Bytes;
use md5::Md5;
use peerglass_catalog::HashAlgorithm;
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::error::UploadError;
use crate::workers::LaneWork;

/// MD5, Glance's `checksum`.
#[derive(Default)]
pub(super) struct Md5Lane(Md5);

impl LaneWork for Md5Lane {
    type Output = String;

    fn feed(&mut self, segment: &Bytes) -> Result<(), UploadError> {
        self.0.update(segment);
        Ok(())
    }

    fn finish(self) -> Result<String, UploadError> {
        Ok(hex(&self.0.finalize()))
    }
}

/// The secure hash, Glance's `os_hash_value`.
pub(super) enum OsHashLane {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl OsHashLane {
    pub(super) fn new(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Sha256 => Self::Sha256(Sha256::new()),
            HashAlgorithm::Sha384 => Self::Sha384(Sha384::new()),
            HashAlgorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }
}

impl LaneWork for OsHashLane {
    type Output = String;

    fn feed(&mut self, segment: &Bytes) -> Result<(), UploadError> {
        match self {
            Self::Sha256(hasher) => hasher.update(segment),
            Self::Sha384(hasher) => hasher.update(segment),
            Self::Sha512(hasher) => hasher.update(segment),
        }
        Ok(())
    }

    fn finish(self) -> Result<String, UploadError> {
        Ok(match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Sha384(hasher) => hex(&hasher.finalize()),
            Self::Sha512(hasher) => hex(&hasher.finalize()),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}
