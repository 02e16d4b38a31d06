//! Reading an index: every accessor is bounds-checked and none makes a system call.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use super::IndexError;
use super::format::{
    CHECKSUM_AT, DirentRecord, ExtentRecord, HEADER, InodeRecord, LayerRecord, MAGIC, Record, SECTIONS, Section,
    XattrRecord, u32_at, u64_at,
};
use crate::{DiffId, Ino};

/// An index whose header and checksum have been verified.
#[derive(Debug)]
pub(crate) struct Index {
    bytes: Bytes,
    sections: [(usize, usize); SECTIONS.len()],
    image_id: String,
    total_bytes: u64,
}

#[derive(Debug)]
enum Bytes {
    Mapped(sys::Mmap),
    Owned(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Index {
    pub(crate) fn open(path: &Path) -> Result<Self, IndexError> {
        let open = |cause| IndexError::Open { path: path.into(), cause };
        // The map stays good when the file is removed; and since it is written before it gets its
        // name and never after, it does not shrink either.
        let map = sys::Mmap::read_only(&File::open(path).map_err(open)?).map_err(open)?;
        Self::verify(Bytes::Mapped(map))
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Result<Self, IndexError> {
        Self::verify(Bytes::Owned(bytes))
    }

    fn verify(bytes: Bytes) -> Result<Self, IndexError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(IndexError::Damaged("it is not an index of this version"));
        }
        let (sections, image_id, total_bytes) = header(&bytes).ok_or(IndexError::Damaged("its header is damaged"))?;
        if u32_at(&bytes, CHECKSUM_AT) != Some(super::checksum(&bytes)) {
            return Err(IndexError::Damaged("its checksum does not match"));
        }
        let index = Self { bytes, sections, image_id, total_bytes };
        match index.inode(crate::ROOT) {
            Some(root) if root.is_directory() => Ok(index),
            _ => Err(IndexError::Damaged("it has no root directory")),
        }
    }

    pub(crate) fn image_id(&self) -> &str {
        &self.image_id
    }

    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    pub(crate) fn inode_count(&self) -> u64 {
        self.sections[Section::Inodes as usize].1 as u64
    }

    /// The layers, the lowest first: digest and length of the tar.
    pub(crate) fn layers(&self) -> impl Iterator<Item = (DiffId, u64)> + '_ {
        (0..self.sections[Section::Layers as usize].1)
            .filter_map(|n| self.record::<LayerRecord>(n))
            .map(|layer| (DiffId::from_bytes(layer.diff_id), layer.tar_len))
    }

    pub(crate) fn inode(&self, ino: Ino) -> Option<InodeRecord> {
        self.record(usize::try_from(ino.checked_sub(1)?).ok()?)
    }

    /// Entry `n` of a directory: name and inode number.
    pub(crate) fn dirent(&self, directory: &InodeRecord, n: u32) -> Option<(&[u8], Ino)> {
        if n >= directory.count {
            return None;
        }
        let entry: DirentRecord = self.record((directory.first as usize).checked_add(n as usize)?)?;
        Some((self.string(entry.name_at, u32::from(entry.name_len))?, Ino::from(entry.ino)))
    }

    /// Entry `n` of a file's extents: offset in the file, offset in the tar, length, layer.
    pub(crate) fn extent(&self, file: &InodeRecord, n: u32) -> Option<ExtentRecord> {
        if n >= file.count {
            return None;
        }
        self.record((file.first as usize).checked_add(n as usize)?)
    }

    pub(crate) fn xattr(&self, inode: &InodeRecord, n: u32) -> Option<(&[u8], &[u8])> {
        if n >= inode.xattr_count {
            return None;
        }
        let xattr: XattrRecord = self.record((inode.xattr_first as usize).checked_add(n as usize)?)?;
        Some((self.string(xattr.name_at, xattr.name_len)?, self.string(xattr.value_at, xattr.value_len)?))
    }

    pub(crate) fn string(&self, at: u32, len: u32) -> Option<&[u8]> {
        let (start, count) = self.sections[Section::Strings as usize];
        let end = (at as usize).checked_add(len as usize).filter(|&end| end <= count)?;
        self.bytes.get(start + at as usize..start + end)
    }

    fn record<R: Record>(&self, n: usize) -> Option<R> {
        let (start, count) = self.sections[R::SECTION as usize];
        if n >= count {
            return None;
        }
        // No overflow: `header` has checked that the whole section lies inside of the file.
        R::read(self.bytes.get(start + n * R::SECTION.record()..)?)
    }
}

type Header = ([(usize, usize); SECTIONS.len()], String, u64);

/// Sections (start, number of records), image id, total bytes; `None` if they cannot be right.
fn header(bytes: &[u8]) -> Option<Header> {
    if bytes.len() < HEADER || u64_at(bytes, 16)? != bytes.len() as u64 {
        return None;
    }
    let image_id = DiffId::from_bytes(*bytes.get(24..)?.first_chunk()?).hex();
    let total_bytes = u64_at(bytes, 56)?;
    let mut sections = [(0, 0); SECTIONS.len()];
    for (n, section) in SECTIONS.into_iter().enumerate() {
        let start = usize::try_from(u64_at(bytes, 64 + 16 * n)?).ok()?;
        let count = usize::try_from(u64_at(bytes, 72 + 16 * n)?).ok()?;
        let end = count.checked_mul(section.record())?.checked_add(start)?;
        if end > bytes.len() || u32::try_from(count).is_err() {
            return None;
        }
        sections[n] = (start, count);
    }
    Some((sections, image_id, total_bytes))
}

impl InodeRecord {
    pub(crate) fn is_directory(&self) -> bool {
        self.file_type() == super::file_type::DIRECTORY
    }

    pub(crate) fn is_regular(&self) -> bool {
        self.file_type() == super::file_type::REGULAR
    }

    pub(crate) fn is_symlink(&self) -> bool {
        self.file_type() == super::file_type::SYMLINK
    }

    pub(crate) fn file_type(&self) -> u32 {
        self.mode & super::file_type::TYPE
    }
}
