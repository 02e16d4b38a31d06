//! The read-only view of one image: what NFS, TFTP, HTTP, FUSE and the `walt image` commands read.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::path::Path;
use std::sync::Arc;

use rustix::io::{Errno, ReadWriteFlags};

use crate::DiffId;
use crate::index::{Index, IndexError, InodeRecord, file_type};
use crate::layer_files::LayerFiles;

/// Inode number within one image: 1 is the root, the others follow without gaps.
///
/// Fixed by the index, so it means the same after a restart and on every server. Small on purpose:
/// overlayfs keeps flags in the high bits of a lower inode number (`xino`).
pub type Ino = u64;

/// The root directory of every image.
pub const ROOT: Ino = 1;

/// Type of a file system object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Block device.
    BlockDevice,
    /// Character device.
    CharDevice,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
}

/// Seconds and nanoseconds since 1970-01-01 UTC; `nanos` is below 1,000,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds, negative before 1970.
    pub secs: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

/// Inode record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// Type of the object.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky: `0..=0o7777`.
    pub mode: u32,
    /// Number of names (for a directory: 2 + number of subdirectories).
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a regular file, length of a symlink's target, a nominal size for a directory.
    pub size: u64,
    /// Modification time; also reported as access and change time.
    pub mtime: Timestamp,
    /// Major and minor number of a device, else (0, 0).
    pub rdev: (u32, u32),
}

/// One name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// File name, 1 to 255 bytes, neither `/` nor NUL in it.
    pub name: &'a [u8],
    /// Inode that it names.
    pub ino: Ino,
    /// Type of that inode.
    pub kind: FileKind,
    /// Cookie that continues after this entry: always above 0, ascending, fixed by the index.
    pub cookie: u64,
}

/// A run of a regular file's bytes.
#[derive(Debug, Clone, Copy)]
pub enum Extent<'a> {
    /// `len` bytes at `pos` of a layer's tar.
    Data {
        /// The layer's tar, open for reading.
        file: &'a File,
        /// Offset in the tar.
        pos: u64,
        /// Length in bytes, above 0.
        len: u64,
    },
    /// `len` zero bytes that are stored nowhere (sparse file).
    Hole {
        /// Length in bytes, above 0.
        len: u64,
    },
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolveError {
    /// A component does not exist.
    NotFound,
    /// A component before the last is no directory.
    NotADirectory,
    /// More than 40 symlinks on the way (the kernel's own limit).
    TooManySymlinks,
}

/// More symlinks than this on the way to a file are refused: `MAXSYMLINKS` of Linux.
const MAX_SYMLINKS: u32 = 40;
/// Cookies of `.` and `..`; the entries of the index follow.
const COOKIE_SELF: u64 = 1;
const COOKIE_PARENT: u64 = 2;

/// One image, open for reading: an mmap'd index and the layers' tars. Cheap to share in an `Arc`.
#[derive(Debug)]
pub struct View {
    index: Index,
    layers: Vec<Arc<File>>,
    fsid: u64,
}

impl View {
    /// Opens the image whose index is at `index`.
    pub fn open(index: &Path, layers: &LayerFiles) -> Result<Self, IndexError> {
        Self::new(Index::open(index)?, layers)
    }

    /// An image whose index was just [built](crate::index::build) and is kept in memory.
    pub fn from_index(index: Vec<u8>, layers: &LayerFiles) -> Result<Self, IndexError> {
        Self::new(Index::from_bytes(index)?, layers)
    }

    fn new(index: Index, layers: &LayerFiles) -> Result<Self, IndexError> {
        let layers = index.layers().map(|(id, len)| layers.open(id, len)).collect::<Result<_, _>>()?;
        let fsid = u64::from_str_radix(index.image_id().get(..16).unwrap_or_default(), 16).unwrap_or_default();
        Ok(Self { index, layers, fsid })
    }

    /// Image id: 64 lower-case hex digits.
    pub fn id(&self) -> &str {
        self.index.image_id()
    }

    /// The layers that the image is made of, the lowest first.
    pub fn layers(&self) -> impl Iterator<Item = DiffId> + '_ {
        self.index.layers().map(|(layer, _)| layer)
    }

    /// A 64-bit number derived from the image id alone: the NFS fsid, and the key into handles.
    pub fn fsid(&self) -> u64 {
        self.fsid
    }

    /// Number of inodes: valid ones are `1..=count`.
    pub fn inode_count(&self) -> u64 {
        self.index.inode_count()
    }

    /// Sum of the sizes of all regular files, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.index.total_bytes()
    }

    /// Inode record; `None` if there is no such inode. No system call.
    pub fn attr(&self, ino: Ino) -> Option<Attr> {
        let inode = self.index.inode(ino)?;
        Some(Attr {
            ino,
            kind: kind_of(&inode),
            mode: inode.mode & 0o7777,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            size: inode.size,
            mtime: Timestamp { secs: inode.mtime_secs, nanos: inode.mtime_nanos },
            rdev: (inode.rdev_major, inode.rdev_minor),
        })
    }

    /// Inode of `name` in the directory `dir` (`.` and `..` included; the root's `..` is itself).
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Option<Ino> {
        let directory = self.directory(dir)?;
        match name {
            b"." => return Some(dir),
            b".." => return Some(Ino::from(directory.parent)),
            _ => {}
        }
        let (mut low, mut high) = (0, directory.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let (candidate, ino) = self.index.dirent(&directory, middle)?;
            match candidate.cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(ino),
            }
        }
        None
    }

    /// Entries of `dir` after `cookie` (0: from the start), `.` and `..` first.
    ///
    /// `None` if `dir` is no directory. A cookie that was never given out continues at the next
    /// higher one.
    pub fn readdir(&self, dir: Ino, cookie: u64) -> Option<Box<dyn Iterator<Item = DirEntry<'_>> + Send + '_>> {
        let directory = self.directory(dir)?;
        let end = u64::from(directory.count).saturating_add(COOKIE_PARENT);
        Some(Box::new((cookie.saturating_add(1)..=end).map_while(move |cookie| {
            let (name, ino) = match cookie {
                COOKIE_SELF => (&b"."[..], dir),
                COOKIE_PARENT => (&b".."[..], Ino::from(directory.parent)),
                _ => self.index.dirent(&directory, u32::try_from(cookie - COOKIE_PARENT - 1).ok()?)?,
            };
            Some(DirEntry { name, ino, kind: kind_of(&self.index.inode(ino)?), cookie })
        })))
    }

    /// Target of a symlink; `None` if `ino` is none.
    pub fn readlink(&self, ino: Ino) -> Option<&[u8]> {
        let inode = self.index.inode(ino).filter(InodeRecord::is_symlink)?;
        self.index.string(inode.first, inode.count)
    }

    /// Extended attributes (name, value); empty if there are none.
    pub fn xattrs(&self, ino: Ino) -> Vec<(&[u8], &[u8])> {
        let Some(inode) = self.index.inode(ino) else { return Vec::new() };
        (0..inode.xattr_count).map_while(|n| self.index.xattr(&inode, n)).collect()
    }

    /// Runs that cover `offset..min(offset + len, size)` of a regular file, in order.
    pub fn extents(&self, ino: Ino, offset: u64, len: u64) -> Box<dyn Iterator<Item = Extent<'_>> + Send + '_> {
        match self.index.inode(ino).filter(InodeRecord::is_regular) {
            Some(inode) => Box::new(self.runs(inode, offset, len)),
            None => Box::new(std::iter::empty()),
        }
    }

    /// Reads like `pread(2)`: fewer bytes than asked for only at the end of the file. May block.
    ///
    /// A directory is `IsADirectory`, another inode that is no regular file `InvalidInput`, one
    /// that does not exist `NotFound`.
    pub fn read_at(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt as _;
        self.fill(ino, offset, buf, |file, pos, piece| file.read_exact_at(piece, pos).map(Some))
            .map(Option::unwrap_or_default)
    }

    /// As [`read_at`](Self::read_at), from the page cache alone; `None` if that would block.
    pub fn try_read_at(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> io::Result<Option<usize>> {
        self.fill(ino, offset, buf, read_cached)
    }

    /// Inode at `path` (absolute or relative to the root), symlinks followed inside of the image:
    /// an absolute one starts again at the image's root, `..` never leaves it.
    pub fn resolve(&self, path: &[u8]) -> Result<Ino, ResolveError> {
        self.walk(path, &mut |_| {})
    }

    /// As `realpath(3)`: the path that leads to the same inode without symlinks, relative to the
    /// root (empty for the root itself).
    pub fn real_path(&self, path: &[u8]) -> Result<Vec<u8>, ResolveError> {
        let mut real = Vec::new();
        self.walk(path, &mut |step| match step {
            Step::Into(name) => {
                if !real.is_empty() {
                    real.push(b'/');
                }
                real.extend(name);
            }
            Step::Up => real.truncate(real.iter().rposition(|&b| b == b'/').unwrap_or(0)),
            Step::Root => real.clear(),
        })?;
        Ok(real)
    }

    fn walk(&self, path: &[u8], step: &mut dyn FnMut(Step<'_>)) -> Result<Ino, ResolveError> {
        let mut at = ROOT;
        let mut symlinks = 0;
        // Paths still to walk, the innermost last; each symlink adds one, so it stays short.
        let mut rest = vec![path];
        while let Some(path) = rest.pop() {
            let path = &path[path.iter().position(|&b| b != b'/').unwrap_or(path.len())..];
            let end = path.iter().position(|&b| b == b'/');
            let (component, after) = path.split_at(end.unwrap_or(path.len()));
            if component.is_empty() {
                continue;
            }
            if end.is_some() {
                // Even a lone trailing slash: it says that what stands before it is a directory.
                rest.push(after);
            }
            let child = self.lookup(at, component).ok_or(ResolveError::NotFound)?;
            let inode = self.index.inode(child).ok_or(ResolveError::NotFound)?;
            if let Some(target) = self.readlink(child) {
                symlinks += 1;
                if symlinks > MAX_SYMLINKS {
                    return Err(ResolveError::TooManySymlinks);
                }
                if target.starts_with(b"/") {
                    at = ROOT;
                    step(Step::Root);
                }
                rest.push(target);
            } else if inode.is_directory() || rest.is_empty() {
                at = child;
                match component {
                    b"." => {}
                    b".." => step(Step::Up),
                    name => step(Step::Into(name)),
                }
            } else {
                return Err(ResolveError::NotADirectory);
            }
        }
        Ok(at)
    }

    fn directory(&self, ino: Ino) -> Option<InodeRecord> {
        self.index.inode(ino).filter(InodeRecord::is_directory)
    }

    fn runs(&self, inode: InodeRecord, offset: u64, len: u64) -> impl Iterator<Item = Extent<'_>> + Send + '_ {
        let end = offset.saturating_add(len).min(inode.size);
        let mut at = offset;
        let mut next = self.first_extent_after(&inode, offset);
        std::iter::from_fn(move || {
            while at < end {
                let Some(extent) = self.index.extent(&inode, next) else {
                    let len = end - at;
                    at = end;
                    return Some(Extent::Hole { len });
                };
                if extent.offset > at {
                    let len = extent.offset.min(end) - at;
                    at += len;
                    return Some(Extent::Hole { len });
                }
                next += 1;
                let skip = at - extent.offset;
                let len = extent.len.saturating_sub(skip).min(end - at);
                let file = self.layers.get(extent.layer as usize);
                if let (Some(file), Some(pos), 1..) = (file, extent.pos.checked_add(skip), len) {
                    at += len;
                    return Some(Extent::Data { file, pos, len });
                }
            }
            None
        })
    }

    /// The first extent that ends after `offset`: extents are ascending.
    fn first_extent_after(&self, inode: &InodeRecord, offset: u64) -> u32 {
        let (mut low, mut high) = (0, inode.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.index.extent(inode, middle) {
                Some(extent) if extent.offset.saturating_add(extent.len) <= offset => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    /// Fills `buf` run by run; `read` gives `None` to stop with nothing.
    fn fill(
        &self,
        ino: Ino,
        offset: u64,
        buf: &mut [u8],
        read: impl Fn(&File, u64, &mut [u8]) -> io::Result<Option<()>>,
    ) -> io::Result<Option<usize>> {
        let inode = self.index.inode(ino).ok_or(io::ErrorKind::NotFound)?;
        if inode.is_directory() {
            return Err(io::ErrorKind::IsADirectory.into());
        } else if !inode.is_regular() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut filled = 0;
        for extent in self.runs(inode, offset, buf.len() as u64) {
            let (Extent::Data { len, .. } | Extent::Hole { len }) = extent;
            // Runs together are as long as `buf` at most.
            let Some(piece) = usize::try_from(len).ok().and_then(|len| buf.get_mut(filled..)?.get_mut(..len)) else {
                break;
            };
            filled += piece.len();
            match extent {
                Extent::Hole { .. } => piece.fill(0),
                Extent::Data { file, pos, .. } => {
                    if read(file, pos, piece)?.is_none() {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(filled))
    }
}

/// How a path is walked.
enum Step<'a> {
    Into(&'a [u8]),
    Up,
    Root,
}

/// Fills `buf` from the page cache, or gives `None`.
fn read_cached(file: &File, mut pos: u64, mut buf: &mut [u8]) -> io::Result<Option<()>> {
    while !buf.is_empty() {
        match rustix::io::preadv2(file, &mut [IoSliceMut::new(buf)], pos, ReadWriteFlags::NOWAIT) {
            // Shorter than the index says: a damaged layer, as `read_exact_at` reports it.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                pos += read as u64;
                buf = buf.get_mut(read..).unwrap_or_default();
            }
            Err(Errno::INTR) => {}
            // Not cached; or a file system that cannot say so.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(()))
}

fn kind_of(inode: &InodeRecord) -> FileKind {
    match inode.file_type() {
        file_type::DIRECTORY => FileKind::Directory,
        file_type::SYMLINK => FileKind::Symlink,
        file_type::BLOCK => FileKind::BlockDevice,
        file_type::CHARACTER => FileKind::CharDevice,
        file_type::FIFO => FileKind::Fifo,
        file_type::SOCKET => FileKind::Socket,
        _ => FileKind::Regular,
    }
}
