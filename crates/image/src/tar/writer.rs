//! Writes tars in POSIX pax format: the server's own layer is made with it.

use wire::tar::{END, Entry, Kind, encode, padding};

use crate::Timestamp;

/// A tar in memory.
#[derive(Debug, Default)]
pub struct TarWriter {
    bytes: Vec<u8>,
}

/// What all kinds of entries have.
#[derive(Debug, Clone, Copy)]
pub struct TarAttr<'a> {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes (name, value).
    pub xattrs: &'a [(&'a [u8], &'a [u8])],
}

impl Default for TarAttr<'_> {
    fn default() -> Self {
        Self { mode: 0o644, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: &[] }
    }
}

impl TarAttr<'_> {
    /// root's, with these permission bits.
    pub fn mode(mode: u32) -> Self {
        Self { mode, ..Self::default() }
    }
}

impl TarWriter {
    /// An empty tar.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a regular file.
    pub fn file(&mut self, path: &[u8], attr: TarAttr<'_>, content: &[u8]) -> &mut Self {
        self.entry(path, Kind::File { size: content.len() as u64 }, attr, content)
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: &[u8], attr: TarAttr<'_>) -> &mut Self {
        self.entry(path, Kind::Directory, attr, b"")
    }

    /// Adds a symlink.
    pub fn symlink(&mut self, path: &[u8], attr: TarAttr<'_>, target: &[u8]) -> &mut Self {
        self.entry(path, Kind::Symlink(target), attr, b"")
    }

    /// Adds another name of the file at `target`.
    pub fn hard_link(&mut self, path: &[u8], attr: TarAttr<'_>, target: &[u8]) -> &mut Self {
        self.entry(path, Kind::HardLink(target), attr, b"")
    }

    /// Adds a character device (major, minor).
    pub fn char_device(&mut self, path: &[u8], attr: TarAttr<'_>, device: (u32, u32)) -> &mut Self {
        self.entry(path, Kind::CharDevice(device.0, device.1), attr, b"")
    }

    /// Adds a block device (major, minor).
    pub fn block_device(&mut self, path: &[u8], attr: TarAttr<'_>, device: (u32, u32)) -> &mut Self {
        self.entry(path, Kind::BlockDevice(device.0, device.1), attr, b"")
    }

    /// Adds a named pipe.
    pub fn fifo(&mut self, path: &[u8], attr: TarAttr<'_>) -> &mut Self {
        self.entry(path, Kind::Fifo, attr, b"")
    }

    /// Hides what lower layers have at `path`.
    pub fn whiteout(&mut self, path: &[u8]) -> &mut Self {
        let name_at = path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
        let (parent, name) = path.split_at(name_at);
        self.file(&[parent, b".wh.", name].concat(), TarAttr::default(), b"")
    }

    /// Hides what lower layers have in the directory `path` (empty: the root).
    pub fn opaque(&mut self, path: &[u8]) -> &mut Self {
        let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
        self.file(&[path, slash, b".wh..wh..opq"].concat(), TarAttr::default(), b"")
    }

    /// Adds the end mark and gives the tar.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend(END);
        self.bytes
    }

    fn entry(&mut self, path: &[u8], kind: Kind<'_>, attr: TarAttr<'_>, content: &[u8]) -> &mut Self {
        let TarAttr { mode, uid, gid, mtime, xattrs } = attr;
        let xattrs: Vec<_> = xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        let entry = Entry { path, kind, mode, uid, gid, mtime: (mtime.secs, mtime.nanos), xattrs: &xattrs };
        self.bytes.extend(encode(&entry));
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len() + padding(content.len() as u64), 0);
        self
    }
}
