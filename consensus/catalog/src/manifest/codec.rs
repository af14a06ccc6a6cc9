//! Numbers and digests as the manifest writes them: LEB128 in its shortest form, digests as they are.

use crate::digest::Digest;
use crate::manifest::ManifestError;

/// Reads fields from the front of a slice, and never past its end.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of the fields after the version byte, which must be `version`.
    pub(super) fn versioned(bytes: &'a [u8], version: u8) -> Result<Self, ManifestError> {
        match bytes.split_first() {
            Some((found, rest)) if *found == version => Ok(Self { rest }),
            Some((found, _)) => Err(ManifestError::UnknownVersion(*found)),
            None => Err(ManifestError::Truncated),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, ManifestError> {
        let (first, rest) = self.rest.split_first().ok_or(ManifestError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn number(&mut self) -> Result<u64, ManifestError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(ManifestError::BadNumber);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // A last byte of zero adds nothing: a shorter form existed.
                let shortest = bits != 0 || shift == 0;
                return if shortest { Ok(value) } else { Err(ManifestError::BadNumber) };
            }
        }
        Err(ManifestError::BadNumber)
    }

    pub(super) fn digest(&mut self) -> Result<Digest, ManifestError> {
        let (digest, rest) = self.rest.split_first_chunk::<32>().ok_or(ManifestError::Truncated)?;
        self.rest = rest;
        Ok(Digest(*digest))
    }

    /// How many bytes are left, the bound of every allocation.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn end(self) -> Result<(), ManifestError> {
        if self.rest.is_empty() { Ok(()) } else { Err(ManifestError::TrailingBytes(self.rest.len())) }
    }
}

pub(super) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_digest(out: &mut Vec<u8>, digest: &Digest) {
    out.extend_from_slice(&digest.0);
}
