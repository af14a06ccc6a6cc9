//! Why an image may not be kept.

use super::ImageFormat;

/// The bytes are not an image that may be kept under its label. Nothing of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatRefusal {
    /// The bytes can be read as two formats, so two programs could see two disks.
    #[error("the image is both {} and {}", first.name(), second.name())]
    Ambiguous {
        /// One of them.
        first: ImageFormat,
        /// Another.
        second: ImageFormat,
    },
    /// The bytes are of another format than the label says.
    #[error("the image is labelled {} but its content does not match: it is {}", declared.name(), detected.name())]
    Mismatch {
        /// The label.
        declared: ImageFormat,
        /// What it is.
        detected: ImageFormat,
    },
    /// The header ends early.
    #[error("the {} header is cut short", .0.name())]
    Truncated(ImageFormat),
    /// Neither version 2 nor 3.
    #[error("qcow2 version {0} is not supported")]
    Qcow2Version(u32),
    /// It reads through to another file of whoever opens it.
    #[error("the qcow2 image has a backing file")]
    Qcow2BackingFile,
    /// Its data is in another file of whoever opens it.
    #[error("the qcow2 image has an external data file")]
    Qcow2DataFile,
    /// It needs features nobody here knows.
    #[error("the qcow2 image has unknown incompatible features {0:#x}")]
    Qcow2Features(u64),
    /// Nobody maintains programs that read it.
    #[error("qed images are not supported")]
    Qed,
    /// A VMDK with a flaw.
    #[error("the vmdk image is not acceptable: {0}")]
    Vmdk(VmdkFlaw),
    /// A boot flag that is neither set nor clear.
    #[error("partition {partition} has the invalid boot flag {flag:#04x}")]
    BootFlag {
        /// Counted from 0.
        partition: usize,
        /// What it has.
        flag: u8,
    },
    /// The entry that guards a GPT from old programs does not.
    #[error("the protective partition entry of the GPT is not sound")]
    ProtectiveEntry,
    /// Partitions that are only in one of two tables.
    #[error("there are partitions beside the protective entry of the GPT")]
    ExtraPartition,
    /// A partition table without partitions.
    #[error("the partition table is empty")]
    NoPartition,
    /// Not version 1.
    #[error("LUKS version {0} is not supported")]
    LuksVersion(u16),
}

/// What is wrong with a VMDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VmdkFlaw {
    /// A descriptor alone, which only points at other files.
    #[error("it has no sparse header")]
    NoHeader,
    /// The header ends early, or its version or descriptor's place cannot be right.
    #[error("its header is not valid")]
    BadHeader,
    /// A subformat that refers to other files, or none.
    #[error("its subformat is neither monolithicSparse nor streamOptimized")]
    Subformat,
    /// The descriptor has a line that is none of comment, assignment and extent.
    #[error("its descriptor has an unknown line")]
    BadDescriptor,
    /// No extent.
    #[error("its descriptor has no extent")]
    NoExtent,
    /// An extent in some directory of whoever opens it.
    #[error("its descriptor names an extent by a path")]
    ExtentPath,
    /// The footer, which programs trust more, says other things than the header.
    #[error("its footer is missing or does not agree with its header")]
    Footer,
}
