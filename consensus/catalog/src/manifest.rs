//! The manifest: which chunks, in which order, make up an image.
//!
//! A manifest is two levels of blobs. *Pages* hold up to [`PAGE_ENTRIES_MAX`] [`Entry`]s each and are
//! named by their BLAKE3 digest. The *root* lists the pages, the total length and the parameters the
//! image was cut with; the digest of the encoded root is the image's [`ManifestRoot`]. So one digest
//! in the catalog pins every byte, while a reader of one range needs the root and one page.
//!
//! # What it promises
//!
//! * One content cut with one set of parameters has one encoding: holes that touch are one entry,
//!   lengths use their shortest form, every page but the last is full ([`Builder`]).
//! * Decoding takes hostile bytes. It answers with a [`ManifestError`], never panics, and allocates
//!   no more than a small multiple of the input's own length.
//!
//! # What it leaves to others
//!
//! Whether bytes have the digest they were asked for by, and where blobs are kept.
//!
//! [`ManifestRoot`]: crate::ManifestRoot

mod codec;
mod page;
mod root;

pub use page::{Builder, ENTRY_BYTES_MAX, Entry, PAGE_ENTRIES_MAX, Page};
pub use root::{CutParameters, PAGES_MAX, PageRef, Root};

/// Why bytes are not a manifest page or root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Written by a newer release, or not a manifest.
    #[error("manifest version {0} is not known")]
    UnknownVersion(u8),
    /// The bytes end inside a field.
    #[error("the manifest ends early")]
    Truncated,
    /// Bytes follow the last field.
    #[error("{0} bytes follow the manifest")]
    TrailingBytes(usize),
    /// A number is not in its shortest form or exceeds 64 bits.
    #[error("a number of the manifest is not in canonical form")]
    BadNumber,
    /// More entries than a page holds, or more pages than a root holds.
    #[error("{count} items where at most {max} may be")]
    TooMany {
        /// How many were announced.
        count: u64,
        /// How many may be.
        max: u64,
    },
    /// A page without entries.
    #[error("a manifest page is empty")]
    EmptyPage,
    /// An entry or page of no bytes.
    #[error("an item of the manifest covers no bytes")]
    EmptyItem,
    /// A chunk longer than any cutter makes, or stored longer than it is.
    #[error("a chunk of {plain_len} bytes stored as {stored_len} is out of bounds")]
    BadChunk {
        /// Announced plain length.
        plain_len: u64,
        /// Announced stored length.
        stored_len: u64,
    },
    /// A kind of entry this release does not know.
    #[error("entry flags {0:#04x} are not known")]
    UnknownFlags(u8),
    /// Two holes in a row, which the builder would have merged.
    #[error("two holes touch")]
    TouchingHoles,
    /// The lengths do not add up to the total, or exceed 64 bits.
    #[error("the lengths of the manifest do not add up")]
    BadTotal,
}

#[cfg(test)]
mod tests;
