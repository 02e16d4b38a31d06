//! What a layer's tar says, without the file contents.

use crate::Timestamp;

/// All entries of one layer, in the tar's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayerEntries {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Length of the tar in bytes, padding included: what the layer's file must measure.
    pub tar_len: u64,
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path relative to the image's root: components of 1 to 255 bytes joined by `/`, none of them
    /// `.` or `..`; empty for the root. Of a whiteout, the path that it hides; of an opaque mark,
    /// the directory that it empties.
    pub path: Box<[u8]>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky: `0..=0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes, in the tar's order, no name twice.
    pub xattrs: Vec<Xattr>,
}

/// What an entry of a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// Regular file of `size` bytes; whatever `runs` leaves out is zeros.
    Regular {
        /// Size of the file in bytes.
        size: u64,
        /// Where its bytes are: ascending, not overlapping, inside of `size` and of the tar.
        runs: Vec<DataRun>,
    },
    /// Directory.
    Directory,
    /// Symbolic link; the target's 1 to 4095 bytes are kept as they are.
    Symlink(Box<[u8]>),
    /// Another name of the file at this path (normalised like [`Entry::path`]).
    HardLink(Box<[u8]>),
    /// Block device (major, minor).
    BlockDevice(u32, u32),
    /// Character device (major, minor).
    CharDevice(u32, u32),
    /// Named pipe.
    Fifo,
    /// `.wh.NAME`: whatever lower layers have at the path is gone.
    Whiteout,
    /// `.wh..wh..opq`: whatever lower layers have in the directory is gone.
    Opaque,
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Full name, as in `security.capability`.
    pub name: Box<[u8]>,
    /// Value.
    pub value: Box<[u8]>,
}

/// A run of a file's bytes in the tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataRun {
    /// Offset in the file.
    pub offset: u64,
    /// Offset in the tar.
    pub pos: u64,
    /// Length in bytes, above 0.
    pub len: u64,
}
