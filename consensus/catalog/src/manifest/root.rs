//! The root: the list of pages and what was true of the cut.

use crate::digest::Digest;
use crate::image::ManifestRoot;
use crate::manifest::ManifestError;
use crate::manifest::codec::{Reader, put_digest, put_number};

/// Most pages of a root: 64 TiB of image at the usual chunk size, 40 MiB encoded.
pub const PAGES_MAX: usize = 1 << 20;

const VERSION: u8 = 1;
/// A digest and one byte of length.
const PAGE_REF_ENCODED_MIN: usize = 33;

/// The chunk lengths an image was cut with, in bytes. Equal content cut otherwise is another manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutParameters {
    /// Shortest chunk, except before a hole and at the end.
    pub min: u32,
    /// Length the cutter aims at.
    pub average: u32,
    /// Longest chunk.
    pub max: u32,
}

/// One page of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRef {
    /// Of the encoded page.
    pub digest: Digest,
    /// Bytes of image it covers, at least 1.
    pub plain_len: u64,
}

/// The top of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    cut: CutParameters,
    pages: Vec<PageRef>,
    len: u64,
}

impl Root {
    /// The root over `pages`, in the order of the image. No page at all is the empty image.
    pub fn new(cut: CutParameters, pages: Vec<PageRef>) -> Result<Self, ManifestError> {
        if pages.len() > PAGES_MAX {
            return Err(too_many(pages.len() as u64));
        }
        let mut len = 0_u64;
        for page in &pages {
            if page.plain_len == 0 {
                return Err(ManifestError::EmptyItem);
            }
            len = len.checked_add(page.plain_len).ok_or(ManifestError::BadTotal)?;
        }
        Ok(Self { cut, pages, len })
    }

    /// What the image was cut with.
    pub fn cut(&self) -> CutParameters {
        self.cut
    }

    /// The pages, in the order of the image.
    pub fn pages(&self) -> &[PageRef] {
        &self.pages
    }

    /// Bytes of the whole image.
    pub fn plain_len(&self) -> u64 {
        self.len
    }

    /// The root as a blob.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.pages.len() * 37);
        out.push(VERSION);
        for number in [self.cut.min, self.cut.average, self.cut.max] {
            put_number(&mut out, u64::from(number));
        }
        put_number(&mut out, self.len);
        put_number(&mut out, self.pages.len() as u64);
        for page in &self.pages {
            put_number(&mut out, page.plain_len);
            put_digest(&mut out, &page.digest);
        }
        out
    }

    /// The name of the manifest whose root encodes to `encoded`.
    pub fn name(encoded: &[u8]) -> ManifestRoot {
        ManifestRoot(Digest::of(encoded))
    }

    /// The root that `bytes` encode. Takes hostile bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut reader = Reader::versioned(bytes, VERSION)?;
        let mut cut = [0_u32; 3];
        for number in &mut cut {
            *number = u32::try_from(reader.number()?).map_err(|_| ManifestError::BadNumber)?;
        }
        let [min, average, max] = cut;
        let len = reader.number()?;
        let count = reader.number()?;
        if count > PAGES_MAX as u64 {
            return Err(too_many(count));
        }
        let mut pages = Vec::with_capacity((count as usize).min(reader.remaining() / PAGE_REF_ENCODED_MIN));
        for _ in 0..count {
            let plain_len = reader.number()?;
            pages.push(PageRef { plain_len, digest: reader.digest()? });
        }
        reader.end()?;
        let root = Self::new(CutParameters { min, average, max }, pages)?;
        if root.len == len { Ok(root) } else { Err(ManifestError::BadTotal) }
    }
}

fn too_many(count: u64) -> ManifestError {
    ManifestError::TooMany { count, max: PAGES_MAX as u64 }
}
