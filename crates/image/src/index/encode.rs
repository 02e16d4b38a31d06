//! From the merged tree to the bytes of an index.

use super::format::{
    CHECKSUM_AT, DirentRecord, ExtentRecord, HEADER, InodeRecord, LayerRecord, MAGIC, Record, SECTIONS, Section,
    XattrRecord, file_type,
};
use super::tree::{Id, NodeKind, ROOT, Tree};
use crate::DiffId;

/// Nominal size of a directory.
const DIRECTORY_SIZE: u64 = 4096;

/// More of something than 32 bits can number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Lays `tree` out. Inodes are numbered breadth first in the order of names, so that the numbers
/// depend on content alone and the inodes of one directory stand side by side.
pub(super) fn encode(
    tree: &Tree<'_>,
    layers: impl Iterator<Item = (DiffId, u64)>,
    image_id: &[u8; 32],
) -> Result<Vec<u8>, TooLarge> {
    let mut tables = Tables::default();
    for (diff_id, tar_len) in layers {
        tables.push(&LayerRecord { diff_id: *diff_id.as_bytes(), tar_len })?;
    }
    let Numbering { order, numbers, names } = number(tree)?;
    for &id in &order {
        tables.push_inode(tree, id, &numbers, &names)?;
    }
    Ok(tables.finish(image_id))
}

struct Numbering {
    order: Vec<Id>,
    /// By [`Id`]; 0 for what no name leads to.
    numbers: Vec<u32>,
    /// How many names an inode has, by [`Id`].
    names: Vec<u32>,
}

fn number(tree: &Tree<'_>) -> Result<Numbering, TooLarge> {
    let mut numbers = vec![0; tree.len()];
    let mut names = vec![0u32; tree.len()];
    let mut order = vec![ROOT];
    numbers[ROOT] = 1;
    let mut next = 0;
    while let Some(&id) = order.get(next) {
        next += 1;
        let NodeKind::Directory { children, .. } = &tree.node(id).kind else { continue };
        for &child in children.values() {
            names[child] = names[child].checked_add(1).ok_or(TooLarge)?;
            if numbers[child] == 0 {
                order.push(child);
                numbers[child] = to_u32(order.len())?;
            }
        }
    }
    Ok(Numbering { order, numbers, names })
}

#[derive(Default)]
struct Tables {
    bytes: [Vec<u8>; SECTIONS.len()],
    total_bytes: u64,
}

impl Tables {
    fn push_inode(&mut self, tree: &Tree<'_>, id: Id, numbers: &[u32], names: &[u32]) -> Result<(), TooLarge> {
        let node = tree.node(id);
        let mut record = InodeRecord {
            nlink: names[id],
            uid: node.uid,
            gid: node.gid,
            mtime_secs: node.mtime.secs,
            mtime_nanos: node.mtime.nanos,
            ..InodeRecord::default()
        };
        let mut permissions = node.mode & 0o7777;
        let kind = match &node.kind {
            NodeKind::Directory { parent, children } => {
                record.size = DIRECTORY_SIZE;
                record.parent = numbers[*parent];
                record.nlink = 2;
                (record.first, record.count) = (self.count(Section::Dirents)?, to_u32(children.len())?);
                for (&name, &child) in children {
                    let name_len = u8::try_from(name.len()).map_err(|_| TooLarge)?;
                    let name_at = self.push_string(name)?;
                    self.push(&DirentRecord { name_at, ino: numbers[child], name_len })?;
                    record.nlink += u32::from(matches!(tree.node(child).kind, NodeKind::Directory { .. }));
                }
                file_type::DIRECTORY
            }
            NodeKind::Regular { size, runs, layer } => {
                record.size = *size;
                self.total_bytes = self.total_bytes.saturating_add(*size);
                (record.first, record.count) = (self.count(Section::Extents)?, to_u32(runs.len())?);
                for run in *runs {
                    self.push(&ExtentRecord { offset: run.offset, pos: run.pos, len: run.len, layer: *layer })?;
                }
                file_type::REGULAR
            }
            NodeKind::Symlink(target) => {
                permissions = 0o777;
                record.size = target.len() as u64;
                (record.first, record.count) = (self.push_string(target)?, to_u32(target.len())?);
                file_type::SYMLINK
            }
            NodeKind::BlockDevice(major, minor) => {
                (record.rdev_major, record.rdev_minor) = (*major, *minor);
                file_type::BLOCK
            }
            NodeKind::CharDevice(major, minor) => {
                (record.rdev_major, record.rdev_minor) = (*major, *minor);
                file_type::CHARACTER
            }
            NodeKind::Fifo => file_type::FIFO,
        };
        record.mode = kind | permissions;
        (record.xattr_first, record.xattr_count) = (self.count(Section::Xattrs)?, to_u32(node.xattrs.len())?);
        for xattr in node.xattrs {
            let (name_len, value_len) = (to_u32(xattr.name.len())?, to_u32(xattr.value.len())?);
            let (name_at, value_at) = (self.push_string(&xattr.name)?, self.push_string(&xattr.value)?);
            self.push(&XattrRecord { name_at, name_len, value_at, value_len })?;
        }
        self.push(&record)
    }

    fn push<R: Record>(&mut self, record: &R) -> Result<(), TooLarge> {
        self.count(R::SECTION)?;
        record.write(&mut self.bytes[R::SECTION as usize]);
        Ok(())
    }

    fn push_string(&mut self, bytes: &[u8]) -> Result<u32, TooLarge> {
        let at = self.count(Section::Strings)?;
        self.bytes[Section::Strings as usize].extend(bytes);
        Ok(at)
    }

    fn count(&self, section: Section) -> Result<u32, TooLarge> {
        to_u32(self.bytes[section as usize].len() / section.record())
    }

    fn finish(self, image_id: &[u8; 32]) -> Vec<u8> {
        let len = HEADER + self.bytes.iter().map(Vec::len).sum::<usize>();
        let mut out = Vec::with_capacity(len);
        out.extend(MAGIC);
        out.extend([0; 8]);
        out.extend((len as u64).to_le_bytes());
        out.extend(image_id);
        out.extend(self.total_bytes.to_le_bytes());
        let mut offset = HEADER;
        for (section, bytes) in SECTIONS.into_iter().zip(&self.bytes) {
            out.extend((offset as u64).to_le_bytes());
            out.extend(((bytes.len() / section.record()) as u64).to_le_bytes());
            offset += bytes.len();
        }
        out.resize(HEADER, 0);
        self.bytes.iter().for_each(|bytes| out.extend(bytes));
        let checksum = super::checksum(&out);
        out[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        out
    }
}

fn to_u32(number: usize) -> Result<u32, TooLarge> {
    u32::try_from(number).map_err(|_| TooLarge)
}
