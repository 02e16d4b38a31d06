//! Writes a FAT32 file system once, with all its files ("Microsoft Extensible Firmware Initiative FAT32 File System
//! Specification", version 1.03, which the comments below quote).
//!
//! Each file lies in one piece. All times are 1980-01-01: the same files make the same bytes.

mod name;

use std::collections::HashMap;

use super::File;
use super::disk::SECTOR;
use name::Names;

/// Sectors in front of the tables: boot sector, FSInfo, and their copies at 6. The specification's usual number.
const RESERVED: usize = 32;
/// Where the copies are (BPB_BkBootSec): "no value other than 6 is recommended".
const BACKUP: usize = 6;
/// Copies of the table.
const TABLES: usize = 2;
/// "The first data cluster is cluster 2": the root directory.
const ROOT: u32 = 2;
/// The last cluster of a chain.
const END: u32 = 0x0fff_ffff;
/// "The volume is FAT32" from this number of clusters on, whatever it says.
const FEWEST_CLUSTERS: usize = 65_525;
/// Bytes of a directory entry.
const ENTRY: usize = 32;

const DIRECTORY: u8 = 0x10;
const VOLUME_LABEL: u8 = 0x08;
const ARCHIVE: u8 = 0x20;

/// Files that no FAT can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FatError {
    /// Not a name, or one with characters beyond ASCII, which no firmware needs.
    #[error("{0:?} can not be a file's name on a FAT")]
    Name(String),
    /// Upper and lower case are the same on a FAT; or it is a file and a directory.
    #[error("{0:?} is there twice")]
    Twice(String),
    /// The files need more than there is.
    #[error("the files are too large for the file system")]
    Full,
    /// FAT32 has a smallest size.
    #[error("{0} bytes are too few for FAT32")]
    TooSmall(usize),
}

/// Makes a FAT32 of `partition`, which begins `start` bytes from the beginning of its disk and is all zeros.
pub(super) fn fill(
    partition: &mut [u8],
    files: &[File],
    label: &[u8; 11],
    serial: u32,
    start: usize,
) -> Result<(), FatError> {
    let sectors = partition.len() / SECTOR;
    // Clusters are one sector. A sector of the table has 128 entries, so 130 sectors serve 128 clusters; "2 more" are
    // the table's first entries, which are no clusters.
    let table = (sectors.saturating_sub(RESERVED) + 2).div_ceil(128 + TABLES);
    let first_cluster = RESERVED + TABLES * table;
    let clusters = sectors.saturating_sub(first_cluster);
    if clusters < FEWEST_CLUSTERS {
        return Err(FatError::TooSmall(partition.len()));
    }
    let mut volume = Volume { data: &mut partition[first_cluster * SECTOR..], table: vec![0x0fff_fff8, END], clusters };
    volume.write_tree(files, label)?;
    let entries = volume.table;
    let free = clusters + 2 - entries.len();

    for copy in 0..TABLES {
        let at = (RESERVED + copy * table) * SECTOR;
        for (place, entry) in partition[at..].chunks_exact_mut(4).zip(&entries) {
            place.copy_from_slice(&entry.to_le_bytes());
        }
    }
    let boot = boot_sector(sectors as u32, table as u32, label, serial, (start / SECTOR) as u32);
    let info = file_system_information(free as u32, entries.len() as u32);
    for at in [0, BACKUP] {
        partition[at * SECTOR..][..SECTOR].copy_from_slice(&boot);
        partition[(at + 1) * SECTOR..][..SECTOR].copy_from_slice(&info);
    }
    Ok(())
}

/// The clusters, and the table as far as it is filled.
struct Volume<'a> {
    data: &'a mut [u8],
    table: Vec<u32>,
    clusters: usize,
}

/// A directory that is being put together: its entries, and whom they belong to.
#[derive(Default)]
struct Directory {
    names: Names,
    files: Vec<usize>,
    directories: Vec<(String, Directory)>,
}

impl Directory {
    /// The directory of this name, which is created if it is not there.
    fn directory(&mut self, name: &str) -> &mut Self {
        let at = self.directories.iter().position(|(known, _)| known.eq_ignore_ascii_case(name));
        let at = at.unwrap_or_else(|| {
            self.directories.push((name.to_owned(), Self::default()));
            self.directories.len() - 1
        });
        &mut self.directories[at].1
    }
}

impl Volume<'_> {
    fn write_tree(&mut self, files: &[File], label: &[u8; 11]) -> Result<(), FatError> {
        let mut root = Directory::default();
        for (number, File { path, .. }) in files.iter().enumerate() {
            let mut directory = &mut root;
            let (parents, _) = path.rsplit_once('/').unwrap_or(("", path));
            for parent in parents.split('/').filter(|_| !parents.is_empty()) {
                directory = directory.directory(parent);
            }
            directory.files.push(number);
        }
        let mut label_entry = [0; ENTRY];
        label_entry[..11].copy_from_slice(label);
        label_entry[11] = VOLUME_LABEL;
        label_entry[24..26].copy_from_slice(&DATE.to_le_bytes());
        let at = self.write_directory(root, files, label_entry.to_vec(), None)?;
        debug_assert_eq!(at, ROOT);
        Ok(())
    }

    /// Writes a directory and all below it; gives back its first cluster. `parent` is None for the root.
    fn write_directory(
        &mut self,
        mut directory: Directory,
        files: &[File],
        mut content: Vec<u8>,
        parent: Option<u32>,
    ) -> Result<u32, FatError> {
        // Its size must be known before its content: the content says where the files are.
        let mut names = HashMap::new();
        let mut length = content.len() + if parent.is_some() { 2 * ENTRY } else { 0 };
        let children = directory.directories.iter().map(|(name, _)| name.as_str());
        let own = directory.files.iter().map(|number| file_name(&files[*number].path));
        for name in children.chain(own) {
            let entries = directory.names.add(name)?;
            length += (entries.long.len() + 1) * ENTRY;
            names.insert(name.to_owned(), entries);
        }
        let place = self.allocate(length.max(1))?;
        if let Some(parent) = parent {
            content.extend(entry(b".          ", DIRECTORY, place, 0));
            // "DIR_FstClus of the dotdot entry is 0 if the parent is the root".
            let parent = if parent == ROOT { 0 } else { parent };
            content.extend(entry(b"..         ", DIRECTORY, parent, 0));
        }
        for (name, child) in std::mem::take(&mut directory.directories) {
            let at = self.write_directory(child, files, Vec::new(), Some(place))?;
            let entries = &names[&name];
            entries.long.iter().for_each(|long| content.extend(long));
            content.extend(entry(&entries.short, DIRECTORY, at, 0));
        }
        for number in directory.files {
            let File { path, content: bytes } = &files[number];
            let size = u32::try_from(bytes.len()).map_err(|_| FatError::Full)?;
            // "A file of no length has no cluster".
            let at = if bytes.is_empty() { 0 } else { self.allocate(bytes.len())? };
            self.write(at, bytes);
            let entries = &names[file_name(path)];
            entries.long.iter().for_each(|long| content.extend(long));
            content.extend(entry(&entries.short, ARCHIVE, at, size));
        }
        debug_assert_eq!(content.len(), length);
        self.write(place, &content);
        Ok(place)
    }

    /// Clusters for so many bytes, one after the other; gives back the first.
    fn allocate(&mut self, bytes: usize) -> Result<u32, FatError> {
        let first = self.table.len();
        let count = bytes.div_ceil(SECTOR);
        if first + count > self.clusters + 2 {
            return Err(FatError::Full);
        }
        self.table.extend((1..count).map(|next| (first + next) as u32));
        self.table.push(END);
        Ok(first as u32)
    }

    fn write(&mut self, cluster: u32, content: &[u8]) {
        if !content.is_empty() {
            self.data[(cluster - ROOT) as usize * SECTOR..][..content.len()].copy_from_slice(content);
        }
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// 1980-01-01: "day in bits 0-4, month in bits 5-8, years since 1980 in bits 9-15".
const DATE: u16 = (1 << 5) | 1;

/// A directory entry (section "FAT Directory Structure").
fn entry(short: &[u8; 11], attributes: u8, cluster: u32, size: u32) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..11].copy_from_slice(short);
    entry[11] = attributes;
    for date in [16, 18, 24] {
        entry[date..date + 2].copy_from_slice(&DATE.to_le_bytes());
    }
    entry[20..22].copy_from_slice(&((cluster >> 16) as u16).to_le_bytes());
    entry[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
    entry[28..32].copy_from_slice(&size.to_le_bytes());
    entry
}

/// The boot sector with the BIOS parameter block.
fn boot_sector(sectors: u32, table: u32, label: &[u8; 11], serial: u32, hidden: u32) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xeb, 0x58, 0x90]); // a jump behind the parameters
    put(3, b"MSWIN4.1"); // "the recommended setting": some drivers look at it
    put(11, &(SECTOR as u16).to_le_bytes());
    put(13, &[1]); // sectors of a cluster
    put(14, &(RESERVED as u16).to_le_bytes());
    put(16, &[TABLES as u8]);
    put(21, &[0xf8]); // a fixed disk
    put(24, &63u16.to_le_bytes()); // sectors of a track
    put(26, &255u16.to_le_bytes()); // heads
    put(28, &hidden.to_le_bytes()); // sectors in front of the partition
    put(32, &sectors.to_le_bytes());
    put(36, &table.to_le_bytes());
    put(44, &ROOT.to_le_bytes());
    put(48, &1u16.to_le_bytes()); // FSInfo
    put(50, &(BACKUP as u16).to_le_bytes());
    put(64, &[0x80]); // the BIOS' number of the drive
    put(66, &[0x29]); // serial number, label and type follow
    put(67, &serial.to_le_bytes());
    put(71, label);
    put(82, b"FAT32   ");
    // int 18h: "nothing to boot here", for the BIOS of a PC that was given a board's card.
    put(90, &[0xcd, 0x18, 0xeb, 0xfe]);
    put(510, &[0x55, 0xaa]);
    sector
}

/// FSInfo: how much is free, and from where on.
fn file_system_information(free: u32, next: u32) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    for (at, word) in [(0, 0x4161_5252), (484, 0x6141_7272), (488, free), (492, next), (508, 0xaa55_0000)] {
        sector[at..at + 4].copy_from_slice(&u32::to_le_bytes(word));
    }
    sector
}

#[cfg(test)]
mod tests;
