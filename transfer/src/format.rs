//! Looking into an image while it streams past: which format, how large a disk, and is it safe.
//!
//! # What it promises
//!
//! * At most half a mebibyte is remembered, plus one small window of a VHDX and the last sectors.
//! * The bytes are an enemy's: every offset and length is checked before it is used, and nothing is
//!   allocated on their word.
//!
//! The rules, which formats are accepted under which label and what `virtual_size` is, are Glance's.

mod capture;
mod iso;
mod luks;
mod partitions;
mod qcow2;
mod refusal;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

pub use refusal::{FormatRefusal, VmdkFlaw};

use capture::Capture;

/// How an upload is looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectOrder {
    /// The format the image says it has.
    pub disk_format: Option<String>,
    /// Whether another format than that is refused. Unsafe images are refused either way.
    pub require_match: bool,
}

/// A disk format that can be told from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageFormat {
    /// Nothing else was recognised.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
    /// QEMU's abandoned enhanced format.
    Qed,
    /// VMware's.
    Vmdk,
    /// Virtual PC's, dynamic or differencing.
    Vhd,
    /// Hyper-V's.
    Vhdx,
    /// VirtualBox's.
    Vdi,
    /// A CD or DVD, ISO 9660 or UDF.
    Iso,
    /// An encrypted volume.
    Luks,
    /// A disk with a partition table, MBR or GPT.
    Gpt,
}

impl ImageFormat {
    /// Every format, in the order they are looked for.
    const ALL: [Self; 10] = [
        Self::Raw,
        Self::Qcow2,
        Self::Qed,
        Self::Vmdk,
        Self::Vhd,
        Self::Vhdx,
        Self::Vdi,
        Self::Iso,
        Self::Luks,
        Self::Gpt,
    ];

    /// The word the API uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Qed => "qed",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Vdi => "vdi",
            Self::Iso => "iso",
            Self::Luks => "luks",
            Self::Gpt => "gpt",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    fn matches(self, image: &Capture) -> bool {
        match self {
            // Raw is what is left when nothing matches.
            Self::Raw => false,
            Self::Qcow2 => image.has(0, b"QFI\xfb"),
            Self::Qed => image.has(0, b"QED\0"),
            Self::Vmdk => vmdk::matches(image),
            Self::Vhd => image.has(0, b"conectix"),
            Self::Vhdx => image.has(0, b"vhdxfile"),
            Self::Vdi => vdi::matches(image),
            Self::Iso => iso::matches(image),
            Self::Luks => image.has(0, b"LUKS\xba\xbe"),
            Self::Gpt => partitions::matches(image),
        }
    }

    /// Whether a node may hand such an image to a hypervisor.
    fn check(self, image: &Capture, declared: Option<&str>) -> Result<(), FormatRefusal> {
        match self {
            Self::Raw | Self::Vhd | Self::Vhdx | Self::Vdi | Self::Iso => Ok(()),
            Self::Qcow2 => qcow2::check(image),
            Self::Qed => Err(FormatRefusal::Qed),
            Self::Vmdk => vmdk::check(image).map_err(FormatRefusal::Vmdk),
            Self::Luks => luks::check(image),
            // Kernels and ramdisks are no disks: whatever they have in place of a partition table
            // is their own affair.
            Self::Gpt if matches!(declared, Some("aki" | "ari")) => Ok(()),
            Self::Gpt => partitions::check(image),
        }
    }

    /// Bytes of the disk inside; `None` if the header does not say.
    fn virtual_size(self, image: &Capture) -> Option<u64> {
        match self {
            Self::Raw | Self::Gpt => Some(image.len()),
            Self::Qcow2 => image.be_u64(24),
            Self::Qed => None,
            Self::Vmdk => vmdk::virtual_size(image),
            Self::Vhd => vhd::virtual_size(image),
            Self::Vhdx => vhdx::virtual_size(image),
            Self::Vdi => vdi::virtual_size(image),
            Self::Iso => iso::virtual_size(image),
            Self::Luks => luks::virtual_size(image),
        }
    }
}

/// Watches one upload go past.
pub(crate) struct Inspector {
    order: InspectOrder,
    image: Capture,
}

impl Inspector {
    pub(crate) fn new(order: InspectOrder) -> Self {
        Self { order, image: Capture::default() }
    }

    /// The next bytes of the image.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.image.feed(bytes, vhdx::metadata_window);
    }

    /// The image is complete: its virtual size, where that is known, or why it is refused.
    pub(crate) fn finish(self) -> Result<Option<u64>, FormatRefusal> {
        let image = self.image;
        if image.len() == 0 {
            return Ok(None);
        }
        let declared = self.order.disk_format.as_deref();
        let detected = detect(&image)?;
        detected.check(&image, declared)?;
        match declared.and_then(ImageFormat::from_name) {
            Some(label) if label == detected => Ok(detected.virtual_size(&image)),
            Some(ImageFormat::Raw) => {
                if detected != ImageFormat::Gpt {
                    tracing::info!(detected = detected.name(), "an image labelled raw is kept as raw bytes");
                }
                Ok(Some(image.len()))
            }
            Some(label) if self.order.require_match => {
                Err(FormatRefusal::Mismatch { declared: label, detected })
            }
            Some(label) => {
                tracing::info!(
                    declared = label.name(),
                    detected = detected.name(),
                    "an image is mislabelled"
                );
                Ok(None)
            }
            None => Ok(None),
        }
    }
}

fn detect(image: &Capture) -> Result<ImageFormat, FormatRefusal> {
    let matching: Vec<_> = ImageFormat::ALL.into_iter().filter(|format| format.matches(image)).collect();
    match matching[..] {
        [] => Ok(ImageFormat::Raw),
        [one] => Ok(one),
        // A CD that also boots from a memory stick.
        [ImageFormat::Iso, ImageFormat::Gpt] => Ok(ImageFormat::Iso),
        [first, second, ..] => Err(FormatRefusal::Ambiguous { first, second }),
    }
}

#[cfg(test)]
mod tests;
