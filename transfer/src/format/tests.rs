//! Real images from qemu-img where it is installed, hand-made ones always (IF-01 to IF-27).

use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::{FormatRefusal, ImageFormat, InspectOrder, Inspector, VmdkFlaw};

const MIB: u64 = 1 << 20;

fn inspect_in(frame: usize, label: &str, image: &[u8]) -> Result<Option<u64>, FormatRefusal> {
    let order = InspectOrder { disk_format: Some(label.to_owned()), require_match: true };
    let mut inspector = Inspector::new(order);
    image.chunks(frame).for_each(|frame| inspector.feed(frame));
    inspector.finish()
}

fn inspect(label: &str, image: &[u8]) -> Result<Option<u64>, FormatRefusal> {
    let result = inspect_in(1 << 20, label, image);
    assert_eq!(inspect_in(1000, label, image), result, "frames do not matter");
    result
}

/// `len` bytes of zeros with each of `parts` at its place.
fn image(len: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut image = vec![0; len];
    for (at, bytes) in parts {
        image[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    image
}

fn qcow2(version: u32, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut all = vec![(0, &b"QFI\xfb"[..])];
    let version = version.to_be_bytes();
    let size = (7 * MIB).to_be_bytes();
    all.extend([(4, &version[..]), (24, &size[..])]);
    all.extend_from_slice(parts);
    image(1024, &all)
}

fn mbr(parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut all: Vec<(usize, &[u8])> = vec![(510, &[0x55, 0xaa])];
    all.extend_from_slice(parts);
    image(4096, &all)
}

fn vmdk(descriptor: &str, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let capacity = 100_u64.to_le_bytes();
    let (at, len) = (1_u64.to_le_bytes(), 20_u64.to_le_bytes());
    let mut all: Vec<(usize, &[u8])> =
        vec![(0, b"KDMV"), (4, &[1]), (12, &capacity), (28, &at), (36, &len), (512, descriptor.as_bytes())];
    all.extend_from_slice(parts);
    image(64 << 10, &all)
}

const DESCRIPTOR: &str =
    "# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicSparse\"\n\nRW 100 SPARSE \"a.vmdk\"\n";

#[test]
fn qcow2_is_taken_unless_it_reads_another_file() {
    assert_eq!(inspect("qcow2", &qcow2(2, &[])), Ok(Some(7 * MIB)));
    assert_eq!(inspect("qcow2", &qcow2(3, &[])), Ok(Some(7 * MIB)));
    let refusals: [(Vec<u8>, FormatRefusal); 6] = [
        (qcow2(1, &[]), FormatRefusal::Qcow2Version(1)),
        (qcow2(4, &[]), FormatRefusal::Qcow2Version(4)),
        (qcow2(3, &[(15, &[8])]), FormatRefusal::Qcow2BackingFile),
        (qcow2(3, &[(79, &[4])]), FormatRefusal::Qcow2DataFile),
        (qcow2(3, &[(79, &[0x20])]), FormatRefusal::Qcow2Features(0x20)),
        (qcow2(3, &[])[..60].to_vec(), FormatRefusal::Truncated(ImageFormat::Qcow2)),
    ];
    for (image, refusal) in refusals {
        // Under the label raw as well: a hypervisor may look for itself.
        assert_eq!(inspect("qcow2", &image), Err(refusal));
        assert_eq!(inspect("raw", &image), Err(refusal));
    }
    // Version 2 has no features: what is there belongs to extensions.
    assert!(inspect("qcow2", &qcow2(2, &[(79, &[4])])).is_ok());
    assert_eq!(inspect("raw", &qcow2(3, &[])), Ok(Some(1024)), "raw takes any safe content as bytes");
}

#[test]
fn labels_must_be_true() {
    let noise = image(1 << 20, &[(7, b"no format at all")]);
    for label in ["qcow2", "vmdk", "vdi", "vhd", "vhdx", "iso"] {
        let refused = inspect(label, &noise);
        assert!(
            matches!(refused, Err(FormatRefusal::Mismatch { detected: ImageFormat::Raw, .. })),
            "{label}"
        );
    }
    assert_eq!(inspect("raw", &noise), Ok(Some(MIB)));
    for label in ["ami", "aki", "ari", "ploop"] {
        assert_eq!(inspect(label, &noise), Ok(None));
    }
    let lenient = InspectOrder { disk_format: Some("vdi".to_owned()), require_match: false };
    let mut inspector = Inspector::new(lenient);
    inspector.feed(&qcow2(3, &[]));
    assert_eq!(inspector.finish(), Ok(None));
    assert_eq!(inspect("qcow2", &[]), Ok(None), "nothing was sent, so nothing is wrong");
    assert_eq!(inspect("qed", &image(600, &[(0, b"QED\0")])), Err(FormatRefusal::Qed));
    assert_eq!(inspect("raw", &image(600, &[(0, b"QED\0")])), Err(FormatRefusal::Qed));
}

#[test]
fn one_image_is_one_format() {
    let hybrid = image(
        128 << 10,
        &[
            (450, &[0x17]),
            (510, &[0x55, 0xaa]),
            (32768, b"\x01CD001"),
            (32768 + 80, &[40]),
            (32768 + 128, &[0, 8]),
        ],
    );
    assert_eq!(inspect("iso", &hybrid), Ok(Some(40 * 2048)), "a CD that boots from a stick is a CD");
    let two = qcow2(3, &[(510, &[0x55, 0xaa])]);
    let both = FormatRefusal::Ambiguous { first: ImageFormat::Qcow2, second: ImageFormat::Gpt };
    assert_eq!(inspect("raw", &two), Err(both));
}

#[test]
fn partition_tables_must_be_sound() {
    let sound = mbr(&[(446, &[0x80]), (450, &[0x83])]);
    assert_eq!(inspect("raw", &sound), Ok(Some(4096)));
    let flag = mbr(&[(446 + 16, &[0x7f]), (450, &[0x83])]);
    assert_eq!(inspect("raw", &flag), Err(FormatRefusal::BootFlag { partition: 1, flag: 0x7f }));
    assert_eq!(inspect("aki", &flag), Ok(None), "a kernel is no disk");
    assert_eq!(inspect("raw", &mbr(&[])), Err(FormatRefusal::NoPartition));
    let guard: &[u8] = &[0, 0, 2, 0, 0xee, 0, 0, 0, 1];
    assert_eq!(inspect("raw", &mbr(&[(446, guard)])), Ok(Some(4096)));
    let moved: &[u8] = &[0, 0, 2, 0, 0xee, 0, 0, 0, 2];
    assert_eq!(inspect("raw", &mbr(&[(446, moved)])), Err(FormatRefusal::ProtectiveEntry));
    let beside = mbr(&[(446, guard), (446 + 20, &[0x83])]);
    assert_eq!(inspect("raw", &beside), Err(FormatRefusal::ExtraPartition));
    let fat = mbr(&[(0x10, &[2]), (0x15, &[0xf8]), (446, &[0x33])]);
    assert_eq!(inspect("raw", &fat), Ok(Some(4096)), "a FAT file system has no partitions");
}

#[test]
fn a_vmdk_names_no_other_file() {
    assert_eq!(inspect("vmdk", &vmdk(DESCRIPTOR, &[])), Ok(Some(100 * 512)));
    let bad = [
        (DESCRIPTOR.replace("monolithicSparse", "monolithicFlat"), VmdkFlaw::Subformat),
        (DESCRIPTOR.replace("createType", "kind"), VmdkFlaw::Subformat),
        (format!("{DESCRIPTOR}createType=\"streamOptimized\"\n"), VmdkFlaw::Subformat),
        (DESCRIPTOR.replace("a.vmdk", "/etc/passwd"), VmdkFlaw::ExtentPath),
        (DESCRIPTOR.replace("RW 100 SPARSE \"a.vmdk\"", ""), VmdkFlaw::NoExtent),
        (format!("{DESCRIPTOR}what is this\n"), VmdkFlaw::BadDescriptor),
        (format!("{DESCRIPTOR}\0createType=\"custom\"\n"), VmdkFlaw::BadDescriptor),
    ];
    for (descriptor, flaw) in bad {
        assert_eq!(inspect("vmdk", &vmdk(&descriptor, &[])), Err(FormatRefusal::Vmdk(flaw)), "{descriptor}");
        assert_eq!(inspect("raw", &vmdk(&descriptor, &[])), Err(FormatRefusal::Vmdk(flaw)));
    }
    let text = image(2000, &[(0, DESCRIPTOR.as_bytes())]);
    assert_eq!(inspect("vmdk", &text), Err(FormatRefusal::Vmdk(VmdkFlaw::NoHeader)));
    let far = vmdk(DESCRIPTOR, &[(28, &[0xff; 8])]);
    assert_eq!(inspect("vmdk", &far), Err(FormatRefusal::Vmdk(VmdkFlaw::BadHeader)));
    let no_footer = vmdk(DESCRIPTOR, &[(56, &[0xff; 8])]);
    assert_eq!(inspect("vmdk", &no_footer), Err(FormatRefusal::Vmdk(VmdkFlaw::Footer)));
}

#[test]
fn luks_counts_its_payload() {
    let header: [(usize, &[u8]); 3] = [(0, b"LUKS\xba\xbe"), (7, &[1]), (107, &[4])];
    assert_eq!(inspect("luks", &image(8192, &header)), Ok(Some(8192 - 4 * 512)));
    let second = image(8192, &[(0, b"LUKS\xba\xbe"), (7, &[2])]);
    assert_eq!(inspect("luks", &second), Err(FormatRefusal::LuksVersion(2)));
    let beyond = image(600, &[(0, b"LUKS\xba\xbe"), (7, &[1]), (104, &[0xff; 4])]);
    assert_eq!(inspect("luks", &beyond), Ok(None));
}

proptest! {
    /// I-S1: headers from an enemy never panic, whatever they claim.
    #[test]
    fn hostile_headers_are_answered(
        magic in 0..9_usize,
        noise in prop::collection::vec(any::<u8>(), 0..2000),
        vhdx in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let magics: [&[u8]; 9] = [
            b"QFI\xfb\0\0\0\x03", b"QED\0", b"KDMV\x01\0\0\0", b"# Disk DescriptorFile", b"conectix",
            b"vhdxfile", b"LUKS\xba\xbe\0\x01", b"", b"\0",
        ];
        let mut bytes = [magics[magic], &noise].concat();
        if magic == 5 {
            bytes.resize(600 << 10, 0);
            bytes[192 << 10..(192 << 10) + 4].copy_from_slice(b"regi");
            bytes[(192 << 10) + 8..(192 << 10) + 8 + vhdx.len()].copy_from_slice(&vhdx);
        }
        for label in ["raw", "qcow2", "vmdk", "vhdx", "gpt", "ami"] {
            let _ = inspect(label, &bytes);
        }
    }
}

/// Make `name` with qemu-img; `None` where it is not installed.
fn qemu_img(folder: &Path, format: &str, options: &[&str], name: &str) -> Option<Vec<u8>> {
    let raw = folder.join("disk.raw");
    let mut disk = mbr(&[(446, &[0x80]), (450, &[0x83])]);
    disk.resize(9 << 20, 0);
    disk[3 << 20..4 << 20].fill(0x5a);
    std::fs::write(&raw, disk).unwrap();
    let made = folder.join(name);
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", "raw", "-O", format]).args(options).arg(&raw).arg(&made);
    let status = command.status().ok()?;
    assert!(status.success(), "qemu-img makes {name}");
    Some(std::fs::read(made).unwrap())
}

#[test]
fn what_qemu_img_makes_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let kinds: [(&str, &str, &[&str]); 9] = [
        ("raw", "raw", &[]),
        ("qcow2", "qcow2", &[]),
        ("qcow2", "qcow2", &["-c", "-o", "compat=0.10"]),
        ("qcow2", "qcow2", &["-o", "extended_l2=on,compression_type=zstd"]),
        ("vmdk", "vmdk", &["-o", "subformat=monolithicSparse"]),
        ("vmdk", "vmdk", &["-o", "subformat=streamOptimized"]),
        ("vhd", "vpc", &["-o", "force_size=on"]),
        ("vhdx", "vhdx", &[]),
        ("vdi", "vdi", &[]),
    ];
    for (number, (label, format, options)) in kinds.into_iter().enumerate() {
        let Some(bytes) = qemu_img(folder.path(), format, options, &format!("{number}.img")) else { return };
        assert_eq!(inspect(label, &bytes), Ok(Some(9 * MIB)), "{format} {options:?}");
        assert_eq!(inspect("raw", &bytes), Ok(Some(bytes.len() as u64)), "{format} {options:?} as raw");
        let other = if label == "iso" { "vdi" } else { "iso" };
        if label != "raw" {
            assert!(matches!(inspect(other, &bytes), Err(FormatRefusal::Mismatch { .. })));
        }
    }
}
