//! The read-only view of one image: what NFS, TFTP, HTTP, FUSE and the `walt image` commands read.

use std::fs::File;
use std::io;

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

/// One image, open for reading: an mmap'd index and the layers' tars. Cheap to share in an `Arc`.
#[derive(Debug)]
pub struct View {
    _private: (),
}

#[expect(clippy::unimplemented, reason = "the signatures come first")]
#[allow(missing_docs, unused_variables)]
impl View {
    /// Image id: 64 lower-case hex digits.
    pub fn id(&self) -> &str {
        unimplemented!()
    }

    /// A 64-bit number derived from the image id alone: the NFS fsid, and the key into handles.
    pub fn fsid(&self) -> u64 {
        unimplemented!()
    }

    /// Number of inodes: valid ones are `1..=count`.
    pub fn inode_count(&self) -> u64 {
        unimplemented!()
    }

    /// Sum of the sizes of all regular files, in bytes.
    pub fn total_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Inode record; `None` if there is no such inode. No system call.
    pub fn attr(&self, ino: Ino) -> Option<Attr> {
        unimplemented!()
    }

    /// Inode of `name` in the directory `dir` (`.` and `..` included; the root's `..` is itself).
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Option<Ino> {
        unimplemented!()
    }

    /// Entries of `dir` after `cookie` (0: from the start), `.` and `..` first.
    ///
    /// `None` if `dir` is no directory. A cookie that was never given out continues at the next
    /// higher one.
    pub fn readdir(&self, dir: Ino, cookie: u64) -> Option<Box<dyn Iterator<Item = DirEntry<'_>> + Send + '_>> {
        unimplemented!()
    }

    /// Target of a symlink; `None` if `ino` is none.
    pub fn readlink(&self, ino: Ino) -> Option<&[u8]> {
        unimplemented!()
    }

    /// Extended attributes (name, value); empty if there are none.
    pub fn xattrs(&self, ino: Ino) -> Vec<(&[u8], &[u8])> {
        unimplemented!()
    }

    /// Runs that cover `offset..min(offset + len, size)` of a regular file, in order.
    pub fn extents(&self, ino: Ino, offset: u64, len: u64) -> Box<dyn Iterator<Item = Extent<'_>> + Send + '_> {
        unimplemented!()
    }

    /// Reads like `pread(2)`: fewer bytes than asked for only at the end of the file. May block.
    pub fn read_at(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        unimplemented!()
    }

    /// As [`read_at`](Self::read_at), from the page cache alone; `None` if that would block.
    pub fn try_read_at(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> io::Result<Option<usize>> {
        unimplemented!()
    }

    /// Inode at `path` (absolute or relative to the root), symlinks followed inside of the image:
    /// an absolute one starts again at the image's root, `..` never leaves it.
    pub fn resolve(&self, path: &[u8]) -> Result<Ino, ResolveError> {
        unimplemented!()
    }
}
