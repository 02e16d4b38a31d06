//! What the dispatcher asks of a file system, and of the table that says who may see which.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use image::{Attr, DirEntry, Extent, Ino, View};
use wire::mount::MountStat;

use super::HostDirectory;

/// A file system that can be served. [`View`] documents each of these.
#[expect(missing_docs, reason = "each is documented where it is implemented, in image::View")]
pub trait Filesystem: Send + Sync + 'static {
    fn fsid(&self) -> u64;
    fn inode_count(&self) -> u64;
    fn total_bytes(&self) -> u64;
    fn attr(&self, ino: Ino) -> Option<Attr>;
    fn lookup(&self, dir: Ino, name: &[u8]) -> Option<Ino>;
    fn readdir(&self, dir: Ino, cookie: u64) -> Option<impl Iterator<Item = DirEntry<'_>>>;
    fn readlink(&self, ino: Ino) -> Option<&[u8]>;
    fn extents(&self, ino: Ino, offset: u64, len: u64) -> impl Iterator<Item = Extent<'_>> + Send;
    fn try_read_at(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> io::Result<Option<usize>>;
    fn read_at(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}

/// Which file systems a client may see: decided by its address.
pub trait Exporter: Send + Sync + 'static {
    /// Kind of file system.
    type Fs: Filesystem;

    /// The file system with this fsid, if this client may use handles into it.
    fn filesystem(&self, client: Ipv4Addr, fsid: u64) -> Option<Arc<Self::Fs>>;

    /// The directory of the host with this fsid, if this client may use handles into it.
    fn directory(&self, client: Ipv4Addr, fsid: u64) -> Option<Arc<HostDirectory>>;

    /// The directory that `path` names, if this client may mount it. From then on its handles are good.
    fn mount(&self, client: Ipv4Addr, path: &[u8]) -> Result<MountPoint<Self::Fs>, MountStat>;

    /// What this client could mount.
    fn own_export(&self, client: Ipv4Addr) -> Option<OwnExport>;
}

/// Where a mount starts.
#[derive(Debug)]
pub enum MountPoint<Fs> {
    /// In an image.
    Image {
        /// File system.
        fs: Arc<Fs>,
        /// Directory in it.
        dir: Ino,
    },
    /// A directory of the host.
    Directory(Arc<HostDirectory>),
}

/// A client's own line in MOUNT's EXPORT and DUMP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnExport {
    /// Path to mount.
    pub path: String,
    /// Name of the node.
    pub host: String,
    /// Whether the node has mounted an image since it left its bootloader.
    pub mounted: bool,
}

impl Filesystem for View {
    fn fsid(&self) -> u64 {
        Self::fsid(self)
    }

    fn inode_count(&self) -> u64 {
        Self::inode_count(self)
    }

    fn total_bytes(&self) -> u64 {
        Self::total_bytes(self)
    }

    fn attr(&self, ino: Ino) -> Option<Attr> {
        Self::attr(self, ino)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Option<Ino> {
        Self::lookup(self, dir, name)
    }

    fn readdir(&self, dir: Ino, cookie: u64) -> Option<impl Iterator<Item = DirEntry<'_>>> {
        Self::readdir(self, dir, cookie)
    }

    fn readlink(&self, ino: Ino) -> Option<&[u8]> {
        Self::readlink(self, ino)
    }

    fn extents(&self, ino: Ino, offset: u64, len: u64) -> impl Iterator<Item = Extent<'_>> + Send {
        Self::extents(self, ino, offset, len)
    }

    fn try_read_at(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> io::Result<Option<usize>> {
        Self::try_read_at(self, ino, offset, buf)
    }

    fn read_at(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        Self::read_at(self, ino, offset, buf)
    }
}
