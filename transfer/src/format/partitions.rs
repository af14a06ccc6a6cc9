//! Disks with a partition table: a master boot record, alone or guarding a GPT.

use super::FormatRefusal;
use super::capture::Capture;

const TABLE: u64 = 446;
const PROTECTIVE: u8 = 0xee;

pub(super) fn matches(image: &Capture) -> bool {
    // FAT file systems end their first sector with the same mark. They are told by the number of
    // their tables and the media byte, which lie in a boot record's code.
    let fat = image.byte(0x10) == Some(2) && image.byte(0x15).is_some_and(|media| media >= 0xf0);
    image.has(510, &[0x55, 0xaa]) && !fat
}

struct Partition {
    flag: u8,
    first_chs: [u8; 3],
    kind: u8,
    first_lba: u32,
    all_zero: bool,
}

fn partition(image: &Capture, number: usize) -> Option<Partition> {
    let at = TABLE + number as u64 * 16;
    let entry = image.bytes(at, 16)?;
    Some(Partition {
        flag: entry[0],
        first_chs: [entry[1], entry[2], entry[3]],
        kind: entry[4],
        first_lba: image.le_u32(at + 8)?,
        all_zero: entry.iter().all(|byte| *byte == 0),
    })
}

pub(super) fn check(image: &Capture) -> Result<(), FormatRefusal> {
    let partitions: Vec<Partition> = (0..4).filter_map(|number| partition(image, number)).collect();
    for (number, partition) in partitions.iter().enumerate() {
        if !matches!(partition.flag, 0x00 | 0x80) {
            return Err(FormatRefusal::BootFlag { partition: number, flag: partition.flag });
        }
    }
    if let Some(at) = partitions.iter().position(|partition| partition.kind == PROTECTIVE) {
        let entry = &partitions[at];
        // Head 0, sector 2, cylinder 0: the second sector, where a GPT begins.
        if entry.first_lba != 1 || entry.first_chs != [0, 2, 0] {
            return Err(FormatRefusal::ProtectiveEntry);
        }
        if partitions.iter().enumerate().any(|(other, partition)| other != at && !partition.all_zero) {
            return Err(FormatRefusal::ExtraPartition);
        }
        return Ok(());
    }
    if partitions.iter().all(|partition| partition.kind == 0) {
        return Err(FormatRefusal::NoPartition);
    }
    Ok(())
}
