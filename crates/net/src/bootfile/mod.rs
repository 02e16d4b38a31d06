//! Which file a path means to whom: the one rule that TFTP and HTTP boot share.

mod loaders;
mod path;

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use image::{FileKind, Ino, ResolveError, Timestamp, View};

pub use loaders::{LoadError, Loaders};
pub use path::{Place, place_of_http, place_of_tftp};

use crate::{Exports, NodeExport};

/// Files that machines ask for before they have an operating system.
#[derive(Debug, Clone)]
pub struct BootFiles {
    loaders: Arc<Loaders>,
    exports: Arc<Exports>,
}

/// A file to serve: its bytes cannot change while it is held.
#[derive(Debug, Clone)]
pub struct BootFile {
    content: Content,
    size: u64,
}

#[derive(Debug, Clone)]
enum Content {
    /// The server's own: a network bootloader or a script.
    Memory { bytes: Arc<[u8]>, tag: u64 },
    /// A regular file of a node's image.
    Image { view: Arc<View>, ino: Ino, mtime: Timestamp },
}

/// Why there is nothing to serve. Its text is for the person at the machine's console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// The node's image is not there yet: ask again.
    NotReady,
    /// The address is no node's, and the path is not one of the server's own.
    NoNode(Ipv4Addr),
    /// No such file.
    NotFound,
    /// It is there, but is no regular file, or its symlinks lead in a circle.
    Refused(&'static str),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("not ready"),
            Self::NoNode(ip) => write!(f, "{ip} is not a node of this server"),
            Self::NotFound => f.write_str("not found"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl BootFiles {
    /// The rule over these loaders and nodes.
    pub fn new(loaders: Loaders, exports: Arc<Exports>) -> Self {
        Self { loaders: Arc::new(loaders), exports }
    }

    /// The file that `place` is to the client at `client`.
    ///
    /// Nothing that the client sends names a file outside of `/boot/<model>` of its own node's image,
    /// save through the image's own symlinks, which stay in the image.
    pub fn open(&self, client: Ipv4Addr, place: &Place) -> Result<BootFile, Unavailable> {
        match place {
            Place::Server(name) => self.loaders.get(name).ok_or(Unavailable::NotFound),
            Place::Image(path) => {
                let node = self.exports.by_ip(client).ok_or(Unavailable::NoNode(client))?;
                open_in_image(&node, path)
            }
        }
    }
}

fn open_in_image(node: &NodeExport, path: &[u8]) -> Result<BootFile, Unavailable> {
    // The model came in a DHCP option: it must not be more than one directory name.
    if node.model.is_empty() || node.model.contains(['/', '\0']) || node.model.starts_with('.') {
        return Err(Unavailable::Refused("the node has no valid model"));
    }
    let view = node.image.as_ref().ok_or(Unavailable::NotReady)?;
    let full = [b"/boot/", node.model.as_bytes(), b"/", path].concat();
    let ino = view.resolve(&full).map_err(|error| match error {
        ResolveError::NotFound | ResolveError::NotADirectory => Unavailable::NotFound,
        ResolveError::TooManySymlinks => Unavailable::Refused("too many symlinks on the way"),
    })?;
    let attr = view.attr(ino).ok_or(Unavailable::NotFound)?;
    match attr.kind {
        FileKind::Regular => {
            Ok(BootFile { size: attr.size, content: Content::Image { view: Arc::clone(view), ino, mtime: attr.mtime } })
        }
        FileKind::Directory => Err(Unavailable::Refused("is a directory")),
        _ => Err(Unavailable::Refused("is not a regular file")),
    }
}

impl BootFile {
    /// A file of the server's own.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { size: bytes.len() as u64, content: Content::Memory { tag: fnv1a(&bytes), bytes } }
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A name for exactly these bytes, for HTTP's `ETag` (without the quotes).
    pub fn tag(&self) -> String {
        match &self.content {
            Content::Memory { tag, bytes } => format!("{tag:016x}-{:x}", bytes.len()),
            // An image never changes under its id.
            Content::Image { view, ino, .. } => format!("{}-{ino:x}", view.id()),
        }
    }

    /// Modification time in seconds since 1970, if the file has one.
    pub fn modified(&self) -> Option<i64> {
        match &self.content {
            Content::Memory { .. } => None,
            Content::Image { mtime, .. } => Some(mtime.secs),
        }
    }

    /// Reads `offset..offset + buf.len()`, which must lie within the file. May block.
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match &self.content {
            Content::Memory { bytes, .. } => copy_range(bytes, offset, buf),
            Content::Image { view, ino, .. } => whole(view.read_at(*ino, offset, buf)?, buf.len()),
        }
    }

    /// As [`read_exact_at`](Self::read_exact_at), from memory alone; false if that would block.
    pub fn try_read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<bool> {
        match &self.content {
            Content::Memory { bytes, .. } => copy_range(bytes, offset, buf).map(|()| true),
            Content::Image { view, ino, .. } => match view.try_read_at(*ino, offset, buf)? {
                // A short read from the page cache is no end of file.
                Some(read) => Ok(read == buf.len()),
                None => Ok(false),
            },
        }
    }

    /// Fills a new buffer with `len` bytes from `offset` on, without ever blocking the async runtime:
    /// from the page cache on the spot, else in the blocking pool.
    pub async fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; len];
        if self.try_read_exact_at(offset, &mut buf)? {
            return Ok(buf);
        }
        let file = self.clone();
        let read = tokio::task::spawn_blocking(move || file.read_exact_at(offset, &mut buf).map(|()| buf));
        read.await.map_err(io::Error::other)?
    }
}

fn copy_range(bytes: &[u8], offset: u64, buf: &mut [u8]) -> io::Result<()> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    let range = start.checked_add(buf.len()).and_then(|end| bytes.get(start..end));
    buf.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

fn whole(read: usize, wanted: usize) -> io::Result<()> {
    if read == wanted { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// FNV-1a: names a version of a file of our own, defends against nobody.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MacAddr;

    fn files(node: Option<NodeExport>) -> BootFiles {
        let exports = Exports::default();
        node.into_iter().for_each(|node| exports.set(node));
        BootFiles::new(Loaders::from_files([("undionly.kpxe", b"loader".to_vec())]), Arc::new(exports))
    }

    fn node(model: &str) -> NodeExport {
        NodeExport {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            ip: Ipv4Addr::new(10, 0, 0, 5),
            name: "node-000001".into(),
            model: model.into(),
            image: None,
            held: Vec::new(),
        }
    }

    #[test]
    fn anybody_gets_the_servers_own_files_and_nothing_else() {
        let (stranger, files) = (Ipv4Addr::new(10, 0, 0, 9), files(None));
        let loader = files.open(stranger, &Place::Server("undionly.kpxe".into())).unwrap();
        let mut bytes = [0; 6];
        loader.read_exact_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"loader");
        assert!(files.open(stranger, &Place::Server("walt.ipxe".into())).is_ok());
        assert_eq!(files.open(stranger, &Place::Server("passwd".into())).unwrap_err(), Unavailable::NotFound);
        let image = Place::Image(b"kernel".to_vec());
        assert_eq!(files.open(stranger, &image).unwrap_err(), Unavailable::NoNode(stranger));
    }

    #[test]
    fn a_node_without_an_image_is_told_to_come_back() {
        let node = node("pc-x86-64");
        let found = files(Some(node.clone())).open(node.ip, &Place::Image(b"start.ipxe".to_vec()));
        assert_eq!(found.unwrap_err(), Unavailable::NotReady);
    }

    #[test]
    fn a_model_is_one_directory_name() {
        for model in ["", ".", "..", "../../etc", "a/b", "a\0b"] {
            let node = node(model);
            let found = files(Some(node.clone())).open(node.ip, &Place::Image(b"shadow".to_vec()));
            assert!(matches!(found.unwrap_err(), Unavailable::Refused(_)), "{model:?}");
        }
    }

    #[test]
    fn reads_stay_within_the_file() {
        let file = BootFile::from_bytes(b"0123456789".as_slice());
        let mut buf = [0; 4];
        file.read_exact_at(6, &mut buf).unwrap();
        assert_eq!(&buf, b"6789");
        for offset in [7, 10, 11, u64::MAX] {
            assert!(file.read_exact_at(offset, &mut buf).is_err());
        }
        assert!(file.read_exact_at(10, &mut []).is_ok());
    }
}
