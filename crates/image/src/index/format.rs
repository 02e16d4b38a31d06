//! Layout of the index file: little-endian, fixed-size records, every access bounds-checked.
//!
//! ```text
//! header   256 bytes: magic, version, checksum, file length, image id, total bytes, section table
//! layers    40 bytes each: diff_id, length of the tar
//! inodes    64 bytes each, number n at (n - 1) * 64
//! dirents   12 bytes each, of one directory together, sorted by name
//! extents   32 bytes each, of one file together, ascending
//! xattrs    16 bytes each, of one inode together
//! strings   names, link targets, attribute names and values
//! ```
//!
//! The checksum (CRC-32 of everything but itself) is verified when an index is opened, so a torn
//! or damaged file is refused then. Accessors check bounds all the same: no content of the file
//! can make them panic or leave it.

/// First bytes of an index; the digits are the format's version.
pub(super) const MAGIC: [u8; 8] = *b"WALTIX01";
/// Size of the header.
pub(super) const HEADER: usize = 256;
/// Where the CRC-32 is kept: it covers all bytes but these four.
pub(super) const CHECKSUM_AT: usize = 8;

/// The tables of an index, in file order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Layers,
    Inodes,
    Dirents,
    Extents,
    Xattrs,
    Strings,
}

pub(super) const SECTIONS: [Section; 6] =
    [Section::Layers, Section::Inodes, Section::Dirents, Section::Extents, Section::Xattrs, Section::Strings];

impl Section {
    /// Bytes of one record.
    pub(super) const fn record(self) -> usize {
        match self {
            Self::Layers => 40,
            Self::Inodes => 64,
            Self::Dirents => 12,
            Self::Extents => 32,
            Self::Xattrs => 16,
            Self::Strings => 1,
        }
    }
}

/// A record as it stands in the file.
pub(super) trait Record: Sized {
    const SECTION: Section;
    fn write(&self, out: &mut Vec<u8>);
    /// `bytes` has the length of the section's records; anything shorter gives `None`.
    fn read(bytes: &[u8]) -> Option<Self>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LayerRecord {
    pub(super) diff_id: [u8; 32],
    pub(super) tar_len: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct InodeRecord {
    /// `st_mode`: type and permission bits as in `stat(2)`.
    pub(crate) mode: u32,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime_secs: i64,
    pub(crate) mtime_nanos: u32,
    pub(crate) rdev_major: u32,
    pub(crate) rdev_minor: u32,
    /// Of a directory.
    pub(crate) parent: u32,
    /// First dirent, first extent, or offset of the link target in the strings.
    pub(crate) first: u32,
    /// Number of dirents or extents, or length of the link target.
    pub(crate) count: u32,
    pub(crate) xattr_first: u32,
    pub(crate) xattr_count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DirentRecord {
    pub(super) name_at: u32,
    pub(super) ino: u32,
    pub(super) name_len: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExtentRecord {
    pub(crate) offset: u64,
    pub(crate) pos: u64,
    pub(crate) len: u64,
    pub(crate) layer: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct XattrRecord {
    pub(super) name_at: u32,
    pub(super) name_len: u32,
    pub(super) value_at: u32,
    pub(super) value_len: u32,
}

/// Reads a `u32` at `at`; `None` outside of `bytes`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads a `u64` at `at`; `None` outside of `bytes`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Record for LayerRecord {
    const SECTION: Section = Section::Layers;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.diff_id);
        out.extend(self.tar_len.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self { diff_id: *bytes.first_chunk()?, tar_len: u64_at(bytes, 32)? })
    }
}

impl Record for InodeRecord {
    const SECTION: Section = Section::Inodes;

    fn write(&self, out: &mut Vec<u8>) {
        for word in [self.mode, self.nlink, self.uid, self.gid] {
            out.extend(word.to_le_bytes());
        }
        out.extend(self.size.to_le_bytes());
        out.extend(self.mtime_secs.to_le_bytes());
        let words = [self.mtime_nanos, self.rdev_major, self.rdev_minor, self.parent, self.first, self.count];
        for word in words.into_iter().chain([self.xattr_first, self.xattr_count]) {
            out.extend(word.to_le_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        // One length check instead of fourteen: this is the hot path of GETATTR and READDIRPLUS.
        let bytes: &[u8; 64] = bytes.first_chunk()?;
        Some(Self {
            mode: u32_at(bytes, 0)?,
            nlink: u32_at(bytes, 4)?,
            uid: u32_at(bytes, 8)?,
            gid: u32_at(bytes, 12)?,
            size: u64_at(bytes, 16)?,
            mtime_secs: i64::from_le_bytes(*bytes.get(24..)?.first_chunk()?),
            mtime_nanos: u32_at(bytes, 32)?,
            rdev_major: u32_at(bytes, 36)?,
            rdev_minor: u32_at(bytes, 40)?,
            parent: u32_at(bytes, 44)?,
            first: u32_at(bytes, 48)?,
            count: u32_at(bytes, 52)?,
            xattr_first: u32_at(bytes, 56)?,
            xattr_count: u32_at(bytes, 60)?,
        })
    }
}

impl Record for DirentRecord {
    const SECTION: Section = Section::Dirents;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.name_at.to_le_bytes());
        out.extend(self.ino.to_le_bytes());
        out.extend(u32::from(self.name_len).to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self { name_at: u32_at(bytes, 0)?, ino: u32_at(bytes, 4)?, name_len: *bytes.get(8)? })
    }
}

impl Record for ExtentRecord {
    const SECTION: Section = Section::Extents;

    fn write(&self, out: &mut Vec<u8>) {
        for word in [self.offset, self.pos, self.len, u64::from(self.layer)] {
            out.extend(word.to_le_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            offset: u64_at(bytes, 0)?,
            pos: u64_at(bytes, 8)?,
            len: u64_at(bytes, 16)?,
            layer: u32_at(bytes, 24)?,
        })
    }
}

impl Record for XattrRecord {
    const SECTION: Section = Section::Xattrs;

    fn write(&self, out: &mut Vec<u8>) {
        for word in [self.name_at, self.name_len, self.value_at, self.value_len] {
            out.extend(word.to_le_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            name_at: u32_at(bytes, 0)?,
            name_len: u32_at(bytes, 4)?,
            value_at: u32_at(bytes, 8)?,
            value_len: u32_at(bytes, 12)?,
        })
    }
}

/// File types of `st_mode`, inode(7).
pub(crate) mod file_type {
    pub(crate) const TYPE: u32 = 0o170_000;
    pub(crate) const DIRECTORY: u32 = 0o040_000;
    pub(crate) const REGULAR: u32 = 0o100_000;
    pub(crate) const SYMLINK: u32 = 0o120_000;
    pub(crate) const BLOCK: u32 = 0o060_000;
    pub(crate) const CHARACTER: u32 = 0o020_000;
    pub(crate) const FIFO: u32 = 0o010_000;
    pub(crate) const SOCKET: u32 = 0o140_000;
}
