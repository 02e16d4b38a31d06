//! A disk: a master boot record, and one FAT partition with files.

use super::File;
use super::fat::{self, FatError};

/// Bytes of a sector.
pub(super) const SECTOR: usize = 512;

/// Where the partition begins: at 1 MiB, as every partitioner of today has it (flash memory erases in such blocks).
pub const PARTITION_START: usize = 1 << 20;

/// The smallest disk. FAT32 has 65,525 clusters at least (Microsoft's FAT specification, "FAT Type Determination"), and
/// with the smallest clusters that is 32 MiB beside the tables.
const SMALLEST: usize = 64 << 20;

/// Room for tables, directories and half-filled clusters.
const SLACK: usize = 8 << 20;

/// Length of the code of a master boot record.
pub const BOOT_CODE: usize = 440;

/// The bytes of a disk with `files` on its one partition, which is active and called `label` (11 bytes, padded with
/// spaces). `boot_code` is what a PC's BIOS runs.
///
/// The same files make the same bytes: all times are 1980-01-01, and the serial numbers come from the content.
///
/// # Errors
/// When a path is none for a FAT, or is there twice.
///
/// # Panics
/// When `boot_code` is longer than [`BOOT_CODE`].
pub fn image(files: &[File], label: &[u8; 11], boot_code: &[u8]) -> Result<Vec<u8>, FatError> {
    let content: usize = files.iter().map(|file| file.content.len().next_multiple_of(SECTOR)).sum();
    // As real cards have it, and as QEMU demands of an SD card: a power of two.
    let size = (PARTITION_START + content + SLACK).next_power_of_two().max(SMALLEST);
    let serial = serial(files);
    let mut disk = vec![0; size];
    let partition = &mut disk[PARTITION_START..];
    fat::fill(partition, files, label, serial, PARTITION_START)?;
    let sectors = partition.len() / SECTOR;
    disk[..SECTOR].copy_from_slice(&master_boot_record(sectors as u32, serial, boot_code));
    Ok(disk)
}

/// The master boot record: code, serial number, and a table with one active partition.
fn master_boot_record(sectors: u32, serial: u32, boot_code: &[u8]) -> [u8; SECTOR] {
    let mut record = [0; SECTOR];
    record[..boot_code.len()].copy_from_slice(boot_code);
    assert!(boot_code.len() <= BOOT_CODE, "a master boot record has no room for {} bytes of code", boot_code.len());
    record[440..444].copy_from_slice(&serial.to_le_bytes());
    let entry = &mut record[446..462];
    entry[0] = 0x80; // active: SYSLINUX' code starts this one, and so does a BIOS that wants one
    entry[4] = 0x0c; // FAT32, addressed by blocks
    // Cylinder, head and sector of beginning and end: too far away to be said so.
    entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&((PARTITION_START / SECTOR) as u32).to_le_bytes());
    entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    record
}

fn serial(files: &[File]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for File { path, content } in files {
        hasher.update(path.as_bytes());
        hasher.update(content);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_table_says_what_is_there() {
        let image = image(&[], b"WALT       ", &[0xeb; 3]).unwrap();
        assert_eq!(image.len(), SMALLEST);
        assert_eq!(image[..3], [0xeb; 3]);
        assert_eq!(image[446..450], [0x80, 0xfe, 0xff, 0xff]);
        assert_eq!(image[450], 0x0c);
        let [start, sectors] = [454, 458].map(|at| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize);
        assert_eq!(start * SECTOR, PARTITION_START);
        assert_eq!((start + sectors) * SECTOR, image.len());
        assert_eq!(image[510..512], [0x55, 0xaa]);
        assert!(image[462..510].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_same_files_make_the_same_bytes_and_others_another_serial_number() {
        let make = |content: &str| image(&[File::new("a", content)], b"WALT       ", &[]).unwrap();
        assert!(make("x") == make("x"));
        assert_ne!(make("x")[440..444], make("y")[440..444]);
    }

    #[test]
    fn a_large_content_makes_a_larger_disk() {
        let files = [File::new("large", vec![7; 80 << 20])];
        assert!(image(&files, b"WALT       ", &[]).unwrap().len() > 80 << 20);
    }
}
